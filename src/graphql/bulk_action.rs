//! Bulk actions: the object with its results, and queries. The mutations are in `start`.

pub mod start;

use async_graphql::{Context, ID, Json, Object, Result};
use chrono::{DateTime, Utc};
use entity::communication::Resolution;
use entity::id::{BulkActionId, CampaignId, CommunicationId, RunId, StepId};
use entity::{BulkNoun, BulkResultStatus, BulkStatus, BulkVerb};

use super::campaign::Campaign;
use super::communication::Communication;
use super::list::{List, Totals, args, list};
use super::loader::{load, nested_page};
use super::member::Member;
use super::run::Run;
use super::step::Step;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::bulk_action::{self as noun, Action};
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// One action on many runs, steps, messages or campaigns, which the server applies to one after the
/// other, also across restarts.
pub struct BulkAction(pub entity::bulk_action::Model);

impl RowFields for BulkAction {}

/// One action on many runs, steps, messages or campaigns, which the server applies to one after the
/// other, also across restarts.
#[Object]
impl BulkAction {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The action on each target.
    async fn verb(&self) -> BulkVerb {
        self.0.verb
    }

    /// Current status.
    async fn status(&self) -> BulkStatus {
        self.0.status
    }

    /// Number of targets, fixed when it was started.
    async fn matched(&self) -> i32 {
        self.0.matched
    }

    /// Number of targets that the action was applied to so far, with those for which it had been in
    /// effect already.
    async fn done(&self) -> i32 {
        self.0.done
    }

    /// Number of targets for which the action was refused so far.
    async fn refused(&self) -> i32 {
        self.0.refused
    }

    /// Number of targets for which the action failed so far by a fault of the server.
    async fn failed(&self) -> i32 {
        self.0.failed
    }

    /// Number of targets without a result; once it was stopped, they never get one.
    async fn not_done(&self) -> i32 {
        self.0.matched - self.0.settled()
    }

    /// The filter that selected the targets, as it was given, without nulls; null if their ids were
    /// given.
    async fn filter(&self) -> Option<Counted<Json<serde_json::Value>>> {
        self.0.filter.clone().map(Json).map(Counted)
    }

    /// Reason that each target's action is given; null if there is none.
    async fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// The member to assign steps to. Null for other verbs, if anybody may do the steps, and if the
    /// member no longer exists.
    async fn assignee(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        Ok(load(ctx, self.0.assignee_id).await?.map(Member))
    }

    /// The outcome of the messages to resolve; null for other verbs.
    async fn resolution(&self) -> Option<Resolution> {
        self.0.resolution
    }

    /// The results of its targets in the order of their ids.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn results(
        &self,
        ctx: &Context<'_>,
        statuses: Option<Vec<BulkResultStatus>>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<BulkResult>> {
        let args = args(first, after, None, None);
        let window = noun::results(db(ctx).dialect(), viewer(ctx), self.0.id, statuses.as_deref(), args)?;
        let page = nested_page(ctx, window, false).await?;
        let verb = self.0.verb;
        Ok(list(page, Totals::BulkResults(self.0.id, statuses), |row| BulkResult { row, verb }))
    }

    /// The actor that started it, which the action on each target is made as.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// Time at which it was requested and its targets were fixed.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Time at which the server began with the first targets; null before, and if it was stopped
    /// before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// Time at which it was completed or stopped; null while it is open.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }

    /// All actions on the bulk action: allowed now, or blocked with the reason.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::of_verdict(action, noun::check_allowed(&self.0, action)))
            .collect()
    }

    /// Incremented by every change of status; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A target of a bulk action, with its result.
pub struct BulkResult {
    row: entity::bulk_result::Model,
    verb: BulkVerb,
}

impl RowFields for BulkResult {}

/// Id of a target, as clients know it.
fn target_id(verb: BulkVerb, id: uuid::Uuid) -> ID {
    let text = match verb.noun() {
        BulkNoun::Runs => RunId(id).to_string(),
        BulkNoun::Steps => StepId(id).to_string(),
        BulkNoun::Communications => CommunicationId(id).to_string(),
        BulkNoun::Campaigns => CampaignId(id).to_string(),
    };
    text.into()
}

impl BulkResult {
    /// The target's id, if the targets are of this noun.
    fn id_of(&self, noun: BulkNoun) -> Option<uuid::Uuid> {
        (self.verb.noun() == noun).then_some(self.row.target_id)
    }
}

/// A target of a bulk action, with its result.
#[Object]
impl BulkResult {
    /// 1, 2, 3 … within the bulk action.
    async fn sequence(&self) -> i32 {
        self.row.sequence
    }

    /// Id of the run, step, message or campaign.
    async fn target_id(&self) -> ID {
        target_id(self.verb, self.row.target_id)
    }

    /// The run; null if the targets are no runs, and if it does not exist.
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(load(ctx, self.id_of(BulkNoun::Runs).map(RunId)).await?.map(Run::from))
    }

    /// The step; null if the targets are no steps, and if it does not exist.
    async fn step(&self, ctx: &Context<'_>) -> Result<Option<Step>> {
        Ok(load(ctx, self.id_of(BulkNoun::Steps).map(StepId)).await?.map(Step))
    }

    /// The message; null if the targets are no messages, and if it does not exist.
    async fn communication(&self, ctx: &Context<'_>) -> Result<Option<Communication>> {
        Ok(load(ctx, self.id_of(BulkNoun::Communications).map(CommunicationId)).await?.map(Communication))
    }

    /// The campaign; null if the targets are no campaigns, and if it does not exist.
    async fn campaign(&self, ctx: &Context<'_>) -> Result<Option<Campaign>> {
        Ok(load(ctx, self.id_of(BulkNoun::Campaigns).map(CampaignId)).await?.map(Campaign::from))
    }

    /// The result.
    async fn status(&self) -> BulkResultStatus {
        self.row.status
    }

    /// Error code, as `extensions.code` of the single mutation; null unless REFUSED or FAILED.
    async fn code(&self) -> Option<&str> {
        self.row.code.as_deref()
    }

    /// Error message; null unless REFUSED or FAILED.
    async fn message(&self) -> Option<&str> {
        self.row.message.as_deref()
    }
}

/// Query fields for bulk actions.
#[derive(Default)]
pub struct BulkActionQuery;

#[Object]
impl BulkActionQuery {
    /// Returns the bulk action with this id; null if the org has none.
    async fn bulk_action(&self, ctx: &Context<'_>, id: ID) -> Result<Option<BulkAction>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<BulkActionId>("id", &id)?).await?.map(BulkAction))
    }

    /// Bulk actions of the org, newest first. Page with `first` and `after`, or `last` and `before`;
    /// page size 50 by default, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn bulk_actions(
        &self,
        ctx: &Context<'_>,
        statuses: Option<Vec<BulkStatus>>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<BulkAction>> {
        let args = args(first, after, last, before);
        let window = noun::window(db(ctx).dialect(), viewer(ctx), statuses.as_deref(), args)?;
        let page = nested_page(ctx, window, true).await?;
        Ok(list(page, Totals::BulkActions(statuses), BulkAction))
    }
}
