//! Objects by global id (`node`, `nodes`), and the viewer.

use async_graphql::{Context, ID, Interface, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::{self, Id};
use entity::member::Role;

use super::activity::Activity;
use super::agent::Agent;
use super::api_key::ApiKey;
use super::audit::AuditEntry;
use super::bulk_action::BulkAction;
use super::campaign::Campaign;
use super::communication::Communication;
use super::follow_up::FollowUp;
use super::goal::Goal;
use super::import::Import;
use super::loader::load;
use super::meeting::Meeting;
use super::member::Member;
use super::message_template::MessageTemplate;
use super::record::Record;
use super::record::link::RecordLink;
use super::reply::Reply;
use super::reviewer::Reviewer;
use super::role;
use super::run::Run;
use super::run::note::RunNote;
use super::run::phase::{Phase, Task};
use super::run_template::RunTemplate;
use super::saved_view::SavedView;
use super::schedule::Schedule;
use super::segment::Segment;
use super::step::Step;
use super::suppression::Suppression;
use super::version::{CampaignVersion, MessageTemplateVersion, WriterVersion};
use super::viewer;
use super::writer::Writer;
use crate::graphql::counted::Counted;
use crate::kernel::error::Refusal;
use crate::kernel::{event, limits, validate};

/// An object with a global id.
#[derive(Interface)]
#[graphql(field(
    name = "id",
    ty = "ID",
    desc = "Global id: a type prefix and a UUIDv7, e.g. `run_01h455vb4pex5vsknk084sn02q`."
))]
#[allow(clippy::large_enum_variant, missing_docs, reason = "made once for each node, and named like its type")]
pub enum Node {
    Goal(Goal),
    Writer(Writer),
    Reviewer(Reviewer),
    Member(Member),
    MessageTemplate(MessageTemplate),
    Segment(Segment),
    Record(Record),
    Campaign(Campaign),
    Run(Run),
    Phase(Phase),
    Task(Task),
    Step(Step),
    Communication(Communication),
    Schedule(Schedule),
    Suppression(Suppression),
    RunTemplate(RunTemplate),
    Agent(Agent),
    Activity(Activity),
    FollowUp(FollowUp),
    Meeting(Meeting),
    Reply(Reply),
    Import(Import),
    ApiKey(ApiKey),
    AuditEntry(AuditEntry),
    CampaignVersion(CampaignVersion),
    MessageTemplateVersion(MessageTemplateVersion),
    WriterVersion(WriterVersion),
    BulkAction(BulkAction),
    SavedView(SavedView),
    RunNote(RunNote),
    RecordLink(RecordLink),
}

// A macro because a conversion can't be implemented for a list of types.
macro_rules! from_row {
    ($($table:ident as $node:ident),* $(,)?) => {$(
        impl From<entity::$table::Model> for $node {
            fn from(row: entity::$table::Model) -> Self {
                Self(row)
            }
        }
    )*};
}

from_row! {
    goal as Goal, writer as Writer, reviewer as Reviewer, member as Member, message_template as MessageTemplate,
    segment as Segment, record as Record, phase as Phase, task as Task, step as Step, communication as Communication,
    schedule as Schedule, suppression as Suppression, run_template as RunTemplate, agent as Agent, activity as Activity,
    follow_up as FollowUp, meeting as Meeting, reply as Reply, import as Import, api_key as ApiKey, audit as AuditEntry,
    campaign_version as CampaignVersion, message_template_version as MessageTemplateVersion,
    writer_version as WriterVersion, bulk_action as BulkAction, saved_view as SavedView, run_note as RunNote,
    record_link as RecordLink,
}

/// The principal that sends the request.
pub struct Viewer(crate::kernel::viewer::Viewer);

/// The principal that sends the request.
#[Object]
impl Viewer {
    /// Id of the org whose data the viewer sees.
    async fn org_id(&self) -> ID {
        self.0.org_id.to_string().into()
    }

    /// The viewer's member; null if the viewer is not a member.
    async fn member(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        Ok(load(ctx, self.0.member_id()).await?.map(Member))
    }

    /// The viewer's role, which sets the permissions.
    async fn role(&self) -> Role {
        self.0.role
    }

    /// Names of the mutations that the viewer's role permits, in alphabetical order. An object's
    /// `availableActions` say whether one is possible on it now.
    async fn permissions(&self) -> Vec<&'static str> {
        role::mutations(&self.0).into_iter().filter(|(_, may)| *may).map(|(name, _)| name).collect()
    }

    /// True if the viewer's role permits the mutation with this name, as `permissions` lists it.
    /// Rejected with BAD_USER_INPUT if there is no such mutation.
    async fn can(&self, action: String) -> Result<bool> {
        let found = role::mutations(&self.0).into_iter().find(|(name, _)| *name == action);
        let message = || format!("there is no mutation `{}`", validate::printable(&action));
        Ok(found.ok_or_else(|| Refusal::input("action", message()))?.1)
    }

    /// The org whose data the viewer sees.
    async fn org(&self, ctx: &Context<'_>) -> Result<Org> {
        let found = crate::domain::people::org::of(super::db(ctx), &self.0).await?;
        Ok(Org { name: found.name, created_at: found.created_at })
    }

    /// Current end of the event log. Query it before a snapshot, in a request of its own, then
    /// subscribe with it as `after`: no event between the two is missed.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(event::cursor(self.0.org_id, event::head(super::db(ctx), &self.0).await?))
    }
}

/// An org: a tenant, to which every object belongs. Its id is `viewer { orgId }`.
#[derive(SimpleObject)]
pub struct Org {
    /// The org's name.
    name: String,
    /// Time of its creation.
    created_at: DateTime<Utc>,
}

/// Query fields for global ids.
#[derive(Default)]
pub struct NodeQuery;

#[Object]
impl NodeQuery {
    /// The principal that sends this request.
    async fn viewer(&self, ctx: &Context<'_>) -> Viewer {
        crate::kernel::failpoint::panic_at("resolving");
        Viewer(viewer(ctx).clone())
    }

    /// Returns the object with this global id; null if the org has none, for API keys and audit
    /// entries if the viewer is no admin, and for private saved views of other members. Rejected with BAD_USER_INPUT for a malformed id.
    async fn node(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Node>> {
        find(ctx, &id).await
    }

    /// Returns the objects with these global ids, at most 100, in the same order; null as for
    /// `node`.
    #[graphql(complexity = "super::list::repeated_cost(ids.len(), child_complexity)")]
    async fn nodes(&self, ctx: &Context<'_>, ids: Vec<ID>) -> Result<Counted<Vec<Option<Node>>>> {
        if ids.len() > limits::NODES {
            return Err(Refusal::limit_for_field("ids", format!("at most {} ids", limits::NODES)).into());
        }
        futures_util::future::try_join_all(ids.iter().map(|id| find(ctx, id))).await.map(Counted)
    }
}

async fn find(ctx: &Context<'_>, given: &ID) -> Result<Option<Node>> {
    let unknown = || Refusal::input("id", format!("`{}` is not a valid id", validate::printable(given)));
    let (prefix, uuid) = id::prefix_of(given).ok_or_else(unknown)?;
    // Visible to admins only, as the root fields of these objects are.
    let hidden = [id::ApiKeyId::PREFIX, id::AuditId::PREFIX].contains(&prefix.as_str());
    if hidden && !viewer(ctx).role.covers(Role::Admin) {
        return Ok(None);
    }
    macro_rules! nouns {
        ($($of:ident => $node:ident),* $(,)?) => {
            match prefix.as_str() {
                $(id::$of::PREFIX => load(ctx, Some(id::$of::from_uuid(uuid))).await?.map(|row| Node::$node(row.into())),)*
                _ => return Err(unknown().into()),
            }
        };
    }
    Ok(nouns! {
        GoalId => Goal, WriterId => Writer, ReviewerId => Reviewer, MemberId => Member,
        MessageTemplateId => MessageTemplate, SegmentId => Segment, RecordId => Record, CampaignId => Campaign,
        RunId => Run, PhaseId => Phase, TaskId => Task, StepId => Step, CommunicationId => Communication,
        ScheduleId => Schedule, SuppressionId => Suppression, RunTemplateId => RunTemplate, AgentId => Agent,
        ActivityId => Activity, FollowUpId => FollowUp, MeetingId => Meeting, ReplyId => Reply, ImportId => Import,
        ApiKeyId => ApiKey, AuditId => AuditEntry, CampaignVersionId => CampaignVersion,
        MessageTemplateVersionId => MessageTemplateVersion, WriterVersionId => WriterVersion, BulkActionId => BulkAction,
        SavedViewId => SavedView, RunNoteId => RunNote, RecordLinkId => RecordLink,
    })
}
