//! Bulk actions: the object with its results, queries, and the mutations that start and stop one.

use async_graphql::{Context, ID, InputObject, InputType, Json, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::{BulkActionId, RunId, StepId};
use entity::{BulkResultStatus, BulkStatus, BulkVerb};

use super::list::{List, Totals, args, list};
use super::loader::{load, nested_page};
use super::member::Member;
use super::run::Run;
use super::step::Step;
use super::{Actor, AvailableAction, db, idempotent, viewer};
use crate::domain::bulk_action::dry_run::{DryRun, dry_run};
use crate::domain::bulk_action::start::{BulkRequest, Selection, start};
use crate::domain::bulk_action::{self as noun, Action};
use crate::domain::run::list::RunFilter;
use crate::domain::run::step::StepFilter;
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::error::{Error, Refusal};
use crate::kernel::validate;

/// One action on many runs or steps, which the server applies to one after the other, also across
/// restarts.
pub struct BulkAction(pub entity::bulk_action::Model);

impl RowFields for BulkAction {}

/// One action on many runs or steps, which the server applies to one after the other, also across
/// restarts.
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

/// Id of a target: of a run or of a step.
fn target_id(verb: BulkVerb, id: uuid::Uuid) -> ID {
    if verb.is_for_runs() { RunId(id).to_string().into() } else { StepId(id).to_string().into() }
}

/// A target of a bulk action, with its result.
#[Object]
impl BulkResult {
    /// 1, 2, 3 … within the bulk action.
    async fn sequence(&self) -> i32 {
        self.row.sequence
    }

    /// Id of the run or step.
    async fn target_id(&self) -> ID {
        target_id(self.verb, self.row.target_id)
    }

    /// The run; null if the targets are steps, and if it does not exist.
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        let id = self.verb.is_for_runs().then_some(RunId(self.row.target_id));
        Ok(load(ctx, id).await?.map(Run::from))
    }

    /// The step; null if the targets are runs, and if it does not exist.
    async fn step(&self, ctx: &Context<'_>) -> Result<Option<Step>> {
        let id = (!self.verb.is_for_runs()).then_some(StepId(self.row.target_id));
        Ok(load(ctx, id).await?.map(Step))
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

/// A bulk action to start. The targets are given by exactly one of `ids`, `runFilter` and
/// `stepFilter`.
#[derive(InputObject)]
pub struct StartBulkActionInput {
    /// The action on each target.
    verb: BulkVerb,
    /// Ids of the runs or steps, at most 10,000. An id that does not exist gets the result REFUSED.
    /// Null: a filter is given.
    ids: Option<Vec<ID>>,
    /// Filter of the runs, for the verbs on runs; it needs a condition, and at most 100,000 runs may
    /// match. Null: `ids` or the other filter is given.
    run_filter: Option<RunFilter>,
    /// Filter of the steps, for the verbs on steps; it needs a condition, and at most 100,000 steps
    /// may match. Null: `ids` or the other filter is given.
    step_filter: Option<StepFilter>,
    /// Reason, used for each target as by the single mutation; required for REJECT_STEPS. Null: none.
    reason: Option<String>,
    /// Id of the member to assign steps to; null: anybody who may. Required for ASSIGN_STEPS, and
    /// refused for the other verbs unless null.
    assignee_id: MaybeUndefined<ID>,
    /// True to check the first 1,000 targets without changing or storing anything: only `dryRun` of
    /// the result is set. Null is the same as false.
    dry_run: Option<bool>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result. A dry run leaves it unused.
    idempotency_key: Option<String>,
}

impl StartBulkActionInput {
    fn request(&self) -> std::result::Result<BulkRequest, Error> {
        let (selection, filter) = match (&self.ids, &self.run_filter, &self.step_filter) {
            (Some(ids), None, None) => (Selection::Ids(ids.clone()), None),
            (None, Some(filter), None) => (Selection::Runs(filter.clone()), Some(filter.to_value())),
            (None, None, Some(filter)) => (Selection::Steps(filter.clone()), Some(filter.to_value())),
            _ => {
                return Err(Refusal::input("ids", "give exactly one of `ids`, `runFilter` and `stepFilter`").into());
            }
        };
        let filter = filter.map(|filter| filter.into_json().map(without_nulls)).transpose()?;
        let assignee = match &self.assignee_id {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(id) => Some(Some(validate::id("assigneeId", id)?)),
        };
        Ok(BulkRequest { verb: self.verb, selection, filter, reason: self.reason.clone(), assignee })
    }
}

/// A filter as it was given: without the fields that were left out.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(parts) => {
            let given = parts.into_iter().filter(|(_, part)| !part.is_null());
            given.map(|(name, part)| (name, without_nulls(part))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        plain => plain,
    }
}

/// A target for which the action would be refused.
#[derive(SimpleObject)]
pub struct BulkRefusal {
    /// Id of the run or step.
    target_id: ID,
    /// Error code, as `extensions.code` of the single mutation.
    code: String,
    /// Error message.
    message: String,
}

/// The expected result of a bulk action.
#[derive(SimpleObject)]
pub struct BulkDryRun {
    /// Number of targets.
    matched: u64,
    /// Number of targets that were checked: all of them, or the first 1,000 in the order of their ids.
    checked: u64,
    /// Number of checked targets that the action would be applied to.
    would_do: u64,
    /// Number of checked targets for which the action would be refused.
    refused: u64,
    /// The first of the refused targets, at most 20, with the reasons.
    sample: Vec<BulkRefusal>,
}

impl BulkDryRun {
    fn of(found: DryRun, verb: BulkVerb) -> Self {
        let sample = found.sample.into_iter().map(|(id, refusal)| BulkRefusal {
            target_id: target_id(verb, id),
            code: refusal.code.as_str().into(),
            message: refusal.message,
        });
        let sample = sample.collect();
        let DryRun { matched, checked, would_do, refused, .. } = found;
        Self { matched, checked, would_do, refused, sample }
    }
}

/// The bulk action that was started, or the result of a dry run.
#[derive(SimpleObject)]
pub struct StartBulkActionPayload {
    /// The bulk action; null for a dry run.
    bulk_action: Option<BulkAction>,
    /// The result of a dry run; null if the bulk action was started.
    dry_run: Option<BulkDryRun>,
}

/// Identifies the bulk action to stop.
#[derive(InputObject)]
pub struct StopBulkActionInput {
    /// Id of the bulk action.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the bulk action has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The changed bulk action.
#[derive(SimpleObject)]
pub struct BulkActionPayload {
    /// The bulk action after the change.
    bulk_action: BulkAction,
}

/// Mutations for bulk actions.
#[derive(Default)]
pub struct BulkActionMutation;

#[Object]
impl BulkActionMutation {
    /// Starts an action on many runs or steps: the targets are fixed now, and the server applies the
    /// action to one after the other, as the viewer and with the permissions that the viewer has then.
    /// Rejected with FORBIDDEN if the viewer may not use the single mutation, with LIMIT_EXCEEDED for
    /// more than 100,000 targets, or while 100 bulk actions are open.
    async fn start_bulk_action(
        &self,
        ctx: &Context<'_>,
        input: StartBulkActionInput,
    ) -> Result<StartBulkActionPayload> {
        let request = input.request()?;
        if input.dry_run == Some(true) {
            let keyed = idempotent::keyed(ctx, input.idempotency_key.as_deref())?;
            idempotent::lookup(&keyed).await?;
            let found = Box::pin(dry_run(db(ctx), viewer(ctx), &request)).await?;
            return Ok(StartBulkActionPayload {
                bulk_action: None,
                dry_run: Some(BulkDryRun::of(found, request.verb)),
            });
        }
        let row = idempotent!(ctx, input.idempotency_key, |db| Box::pin(start(db, viewer(ctx), &request)));
        Ok(StartBulkActionPayload { bulk_action: Some(BulkAction(row)), dry_run: None })
    }

    /// Stops a bulk action: targets that have no result by now stay as they are. What was done is not
    /// undone.
    async fn stop_bulk_action(&self, ctx: &Context<'_>, input: StopBulkActionInput) -> Result<BulkActionPayload> {
        let (id, expected) = (validate::id("id", &input.id)?, input.expected_revision);
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::stop(db, viewer(ctx), id, expected));
        Ok(BulkActionPayload { bulk_action: BulkAction(row) })
    }
}
