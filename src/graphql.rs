//! The GraphQL schema: root types merged from one module per object, and the conversion of errors.

#[macro_use]
pub mod definition;
#[macro_use]
pub mod idempotent;
#[macro_use]
pub mod selection;

pub mod activity;
pub mod agent;
pub mod agent_context;
pub mod api_key;
pub mod arguments;
pub mod audit;
pub mod batch_loader;
pub mod batching;
pub mod bulk_action;
pub mod campaign;
pub mod communication;
pub mod connection;
pub mod counted;
pub mod document;
pub mod event;
pub mod follow_up;
pub mod goal;
pub mod import;
pub mod list;
pub mod loader;
pub mod manifest;
pub mod meeting;
pub mod member;
pub mod message_template;
pub mod node;
pub mod preflight;
pub mod record;
pub mod reply;
pub mod reviewer;
pub mod role;
pub mod run;
pub mod run_template;
pub mod saved_view;
pub mod schedule;
pub mod segment;
pub mod shared_rows;
pub mod stage;
pub mod step;
pub mod stream;
pub mod suppression;
pub mod version;
pub mod worker;
pub mod writer;

use std::sync::{Arc, LazyLock};

use async_graphql::{
    Context, ErrorExtensionValues, MergedObject, Request, SDLExportOptions, SchemaBuilder, SimpleObject, ValidationMode,
};

use crate::kernel::db::{Db, error_codes};
use crate::kernel::error::{Code, Error, Refusal};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;
use arguments::Described;
use batch_loader::Loaders;
use loader::Rows;

/// Sortie's schema.
pub type Schema = async_graphql::Schema<Query, Mutation, Described<stream::Subscription>>;

/// Root of all queries.
// Nested, since one flat merge of all modules exceeds rustc's recursion limit.
#[derive(MergedObject, Default)]
pub struct Query(Definitions, Execution);

#[derive(MergedObject, Default)]
#[doc(hidden)]
pub struct Definitions(
    node::NodeQuery,
    goal::GoalQuery,
    writer::WriterQuery,
    reviewer::ReviewerQuery,
    member::MemberQuery,
    message_template::MessageTemplateQuery,
    segment::SegmentQuery,
    segment::SegmentPreviewQuery,
    run_template::RunTemplateQuery,
    agent::AgentQuery,
    manifest::ManifestQuery,
    record::list::RecordQuery,
    record::link::RecordLinkQuery,
    suppression::SuppressionQuery,
    api_key::ApiKeyQuery,
    saved_view::SavedViewQuery,
    audit::AuditQuery,
);

#[derive(MergedObject, Default)]
#[doc(hidden)]
pub struct Execution(
    campaign::list::CampaignQuery,
    campaign::preview::PreviewQuery,
    run::list::RunQuery,
    run::note::RunNoteQuery,
    bulk_action::BulkActionQuery,
    step::list::StepQuery,
    communication::CommunicationQuery,
    reply::ReplyQuery,
    schedule::ScheduleQuery,
    event::EventQuery,
    import::ImportQuery,
    Guided,
);

#[derive(MergedObject, Default)]
#[doc(hidden)]
pub struct Guided(
    activity::ActivityQuery,
    follow_up::FollowUpQuery,
    meeting::MeetingQuery,
    stage::StageQuery,
    step::preview::StepEmailQuery,
);

/// Mutations. A rejected mutation is an error with `extensions.code`; a failed preflight is part of
/// the payload.
#[derive(MergedObject, Default)]
pub struct Mutation(ChangeDefinitions, Deletions, ChangeExecution, ChangeGuided);

#[derive(MergedObject, Default)]
#[doc(hidden)]
pub struct ChangeDefinitions(
    goal::GoalMutation,
    writer::WriterMutation,
    reviewer::ReviewerMutation,
    member::MemberMutation,
    message_template::MessageTemplateMutation,
    segment::SegmentMutation,
    record::RecordMutation,
    record::link::RecordLinkMutation,
    suppression::SuppressionMutation,
    api_key::ApiKeyMutation,
    saved_view::SavedViewMutation,
    run_template::RunTemplateMutation,
    agent::AgentMutation,
    manifest::ManifestMutation,
);

#[derive(MergedObject, Default)]
#[doc(hidden)]
pub struct Deletions(
    goal::GoalDeletion,
    writer::WriterDeletion,
    reviewer::ReviewerDeletion,
    member::MemberDeletion,
    message_template::MessageTemplateDeletion,
    segment::SegmentDeletion,
    record::RecordDeletion,
    record::erase::RecordErasure,
    run_template::RunTemplateDeletion,
    agent::AgentDeletion,
    campaign::change::CampaignDeletion,
);

#[derive(MergedObject, Default)]
#[doc(hidden)]
pub struct ChangeExecution(
    campaign::change::CampaignMutation,
    run::launch::LaunchMutation,
    run::change::RunMutation,
    run::note::RunNoteMutation,
    bulk_action::start::BulkActionMutation,
    run::phase::PhaseMutation,
    step::change::StepMutation,
    worker::WorkerMutation,
    communication::CommunicationMutation,
    reply::change::ReplyMutation,
    event::EventMutation,
    schedule::ScheduleMutation,
    schedule::ScheduleActMutation,
);

#[derive(MergedObject, Default)]
#[doc(hidden)]
pub struct ChangeGuided(
    run::guided::GuidedMutation,
    run::mend::MendMutation,
    step::act::StepWorkMutation,
    step::new_records::StepRecordsMutation,
    follow_up::FollowUpMutation,
    meeting::MeetingMutation,
    stage::StageMutation,
);

/// Builds the schema over a database; without one (for printing) no field can be resolved.
pub fn schema(db: Option<Arc<Db>>) -> Schema {
    with_db(builder(ValidationMode::Strict), db)
}

/// Returns the schema's SDL.
pub fn sdl() -> String {
    schema(None).sdl_with_options(SDLExportOptions::new().include_specified_by())
}

/// Builds the schema for documents that `validator` has accepted and whose variables were checked;
/// it repeats neither check.
pub fn prevalidated_schema(db: Arc<Db>) -> Schema {
    with_db(builder(ValidationMode::Fast), Some(db))
}

/// The same, for a server that sends mail from this sender.
pub fn server_schema(db: Arc<Db>, sender: communication::Sender) -> Schema {
    with_db(builder(ValidationMode::Fast).data(sender), Some(db))
}

/// Builds the schema that validates documents without executing them; its response to a valid one
/// is empty, without errors.
pub fn validator() -> Schema {
    builder(ValidationMode::Strict).extension(document::validation::ValidateOnly).finish()
}

/// Returns the schema that validates operations that are not executed: their complexity is not
/// counted, which depends on variables that the request does not give.
pub fn rules_validator() -> &'static Schema {
    static RULES: LazyLock<Schema> = LazyLock::new(|| {
        let builder = builder(ValidationMode::Strict).limit_complexity(usize::MAX);
        builder.extension(document::validation::ValidateOnly).finish()
    });
    &RULES
}

fn builder(validation: ValidationMode) -> SchemaBuilder<Query, Mutation, Described<stream::Subscription>> {
    Schema::build(Query::default(), Mutation::default(), Described::default())
        // Each of hundreds of unknown fields would be compared with all known ones.
        .disable_suggestions()
        .validation_mode(validation)
        .limit_depth(limits::QUERY_DEPTH)
        .limit_complexity(limits::QUERY_COMPLEXITY)
        .limit_recursive_depth(limits::QUERY_RECURSION)
        .limit_directives(limits::QUERY_DIRECTIVES)
}

fn with_db(builder: SchemaBuilder<Query, Mutation, Described<stream::Subscription>>, db: Option<Arc<Db>>) -> Schema {
    match db {
        Some(db) => builder.data(db).data(agent_context::Reader::default()).finish(),
        None => builder.finish(),
    }
}

/// Attaches the viewer and new data loaders to a request.
pub fn with_viewer(request: Request, db: &Arc<Db>, viewer: &Viewer) -> Request {
    let rows = Rows { db: db.clone(), viewer: viewer.clone() };
    let turn = batching::LoadBatch::default();
    let loaders = turn.loaders(rows);
    request.data(viewer.clone()).data(loaders).data(turn)
}

pub(crate) fn db<'a>(ctx: &'a Context<'_>) -> &'a Arc<Db> {
    ctx.data_unchecked()
}

pub(crate) fn viewer<'a>(ctx: &'a Context<'_>) -> &'a Viewer {
    ctx.data_unchecked()
}

pub(crate) fn rows<'a>(ctx: &'a Context<'_>) -> &'a Loaders {
    ctx.data_unchecked()
}

/// A member, an agent or the engine, with its name at the time of the action.
#[derive(SimpleObject)]
pub struct Actor {
    /// The kind of actor: a member, an agent or the engine.
    pub kind: entity::ActorKind,
    /// Id of the member; null for agents and the engine.
    pub member_id: Option<async_graphql::ID>,
    /// Id of the agent; null for members and the engine.
    pub agent_id: Option<async_graphql::ID>,
    /// The actor's name at the time of the action.
    pub name: String,
}

impl From<entity::Actor> for Actor {
    fn from(actor: entity::Actor) -> Self {
        let id = |id: Option<String>| id.map(async_graphql::ID::from);
        Self {
            kind: actor.kind,
            member_id: id(actor.member_id.map(|id| id.to_string())),
            agent_id: id(actor.agent_id.map(|id| id.to_string())),
            name: actor.name,
        }
    }
}

/// An action, and whether it is allowed now.
#[derive(SimpleObject)]
pub struct AvailableAction {
    /// The action, named like its mutation: SUBMIT, APPROVE, CANCEL …
    pub action: String,
    /// True if the action is allowed now.
    pub allowed: bool,
    /// Reason for which the action is not allowed; null if it is allowed.
    pub blocked_because: Option<String>,
}

impl AvailableAction {
    /// Converts a verdict: a rejection becomes the reason, an internal error stays an error.
    pub fn of_verdict(
        action: impl async_graphql::InputType,
        verdict: crate::kernel::error::Result<()>,
    ) -> async_graphql::Result<Self> {
        let action = match action.to_value() {
            async_graphql::Value::Enum(name) => name.to_string(),
            other => other.to_string(),
        };
        match verdict {
            Ok(()) => Ok(Self { action, allowed: true, blocked_because: None }),
            Err(Error::Refused(refusal)) => Ok(Self { action, allowed: false, blocked_because: Some(refusal.message) }),
            Err(err) => Err(err.into()),
        }
    }
}

impl From<Refusal> for async_graphql::Error {
    fn from(refusal: Refusal) -> Self {
        Error::from(refusal).into()
    }
}

/// Truncates a message, which may quote long input.
fn cut(mut message: String) -> String {
    if let Some((at, _)) = message.char_indices().nth(limits::ERROR_MESSAGE_CHARS) {
        message.truncate(at);
        message.push('…');
    }
    message
}

impl From<Error> for async_graphql::Error {
    fn from(err: Error) -> Self {
        let mut extensions = ErrorExtensionValues::default();
        let err = match err {
            // The statement was aborted together with its request, whose error has the reason.
            Error::Internal(fault) => crate::kernel::cost::refusal().map_or(Error::Internal(fault), Error::from),
            refused => refused,
        };
        let message = match err {
            Error::Refused(refusal) => {
                extensions.set("code", refusal.code.as_str());
                for (key, value) in refusal.details {
                    if let Ok(value) = async_graphql::Value::from_json(value) {
                        extensions.set(key, value);
                    }
                }
                refusal.message
            }
            Error::Internal(fault) if fault.conflict().is_some() => {
                tracing::info!(error = %fault.0, "request rejected: a database constraint was violated");
                extensions.set("code", Code::Conflict.as_str());
                fault.conflict().unwrap_or_default().to_owned()
            }
            err if err.db().is_some_and(error_codes::is_statement_timeout) => {
                let most = limits::WRITE_STATEMENT.as_secs();
                tracing::warn!(error = %err, "write statement aborted: it exceeded the time limit");
                extensions.set("code", Code::LimitExceeded.as_str());
                format!(
                    "a statement of this mutation took longer than {most} s; nothing was changed: change less at once"
                )
            }
            err if err.is_unreachable() => {
                log_failure!(error, err, "a request failed");
                return Refusal::unavailable().into();
            }
            Error::Internal(fault) => {
                let id = uuid::Uuid::now_v7().simple().to_string();
                tracing::error!(error_id = id, error = %fault.0, "a request failed");
                extensions.set("code", "INTERNAL");
                extensions.set("id", id.as_str());
                format!("internal error; it is logged as {id}")
            }
        };
        let mut error = Self::new(cut(message));
        error.extensions = Some(extensions);
        error
    }
}
