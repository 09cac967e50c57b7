//! Steps: the object, its lists and its mutations.

pub mod act;
pub mod change;
pub mod guided;
pub mod list;
pub mod new_records;
pub mod preview;
mod row_fields;

use async_graphql::{Context, ID, Json, Object, Result};
use chrono::{DateTime, Utc};
use entity::id::{AgentId, MemberId};
use entity::member::Role;
use entity::step::StepReason;
use entity::{ContentSource, Executor, StepStatus};

use super::activity::{Activity, activities};
use super::event::{Events, events};
use super::list::{List, args};
use super::loader::{PartsOfRun, StartedSnapshotOfRun, load, must_load, nested_count};
use super::record::Record;
use super::reply::{Reply, of_step};
use super::role::reject_workers;
use super::run::Run;
use super::run::phase::Task;
use super::{Actor, AvailableAction, db, shared_rows, viewer};
use crate::domain::run::guided::work_action::{self, WorkAction};
use crate::domain::run::step::{self as noun, Action};
use crate::graphql::counted::Counted;
use crate::graphql::selection::Row;
pub(super) use list::steps_of_task;

/// The atomic unit of work, done by a person, an agent or a workflow.
pub struct Step(pub entity::step::Model);

/// The atomic unit of work, done by a person, an agent or a workflow.
#[Object]
impl Step {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The step's key in the run's structure.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Type of work: `draft_message`, `api_call`, `review` …
    #[graphql(name = "type")]
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Place among the steps of its task, starting at 0; of a step of guided work that has not begun,
    /// `reorderRunSteps` changes it.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Current status.
    async fn status(&self) -> StepStatus {
        self.0.status
    }

    /// Source of its content; null if it creates none.
    async fn content_source(&self) -> Option<ContentSource> {
        self.0.content_source
    }

    /// Condition for its start: `immediate`, `manual`, `after:KEY`, `delay:DURATION` or
    /// `event:NAME`.
    async fn trigger(&self) -> &str {
        &self.0.trigger
    }

    /// The result; null if there is none. Before completion also set: while it awaits approval,
    /// after a rejection until it is done again, and in guided work with the counts so far. A
    /// skipped step has the result carried over from the repeated run, if any.
    async fn result(&self) -> Option<Counted<Json<serde_json::Value>>> {
        self.0.result.clone().map(Json).map(Counted)
    }

    /// The last error, or the reason for skipping it; null if there is neither.
    async fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    /// Code of the reason, for programs: for a skip, a failure, a return to the queue, or waiting
    /// for a person; null if there is none, and for steps that failed or were requeued before codes
    /// were stored.
    async fn reason_code(&self) -> Option<StepReason> {
        self.0.reason
    }

    /// Type of executor: a person, an agent or a workflow.
    async fn assigned_to(&self) -> Executor {
        self.0.assigned_to
    }

    /// Earliest time at which it can be claimed.
    async fn available_at(&self) -> DateTime<Utc> {
        self.0.available_at
    }

    /// Number of times it was started.
    async fn attempt_count(&self) -> i32 {
        self.0.attempt_count
    }

    /// Maximum number of attempts; the reported failure that reaches it is final.
    async fn max_attempts(&self) -> i32 {
        self.0.max_attempts
    }

    /// Expiry of the worker's lease; null if no worker holds one.
    async fn lease_expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.lease_expires_at
    }

    /// Time of the last start; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// The person who last started it; null before, and if no person did.
    async fn started_by(&self) -> Option<Actor> {
        self.0.started_by.clone().map(Actor::from)
    }

    /// Description from the run's structure, for the person who does it; null if there is none.
    async fn description(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        let declared = crate::domain::run::snapshot::step(&snapshot.definition, &self.0.key);
        Ok(declared.and_then(|declared| declared.description.clone()))
    }

    /// Time at which it was closed; null while it is open.
    async fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.completed_at
    }

    /// The actor that closed it. Null while it is open, unless it is being drafted again after a
    /// rejected review; also null if it was skipped by a cancellation or interruption, or failed
    /// with LEASE_LOST or POISONED.
    async fn completed_by(&self) -> Option<Actor> {
        self.0.completed_by.clone().map(Actor::from)
    }

    /// Settings from the run's structure; an empty object if there are none.
    async fn config(&self, ctx: &Context<'_>) -> Result<Counted<Json<serde_json::Value>>> {
        reject_workers(viewer(ctx))?;
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        let declared = crate::domain::run::snapshot::step(&snapshot.definition, &self.0.key);
        let config = declared.map(|declared| declared.settings().clone()).filter(|config| !config.is_null());
        Ok(Counted(Json(config.unwrap_or_else(|| serde_json::json!({})))))
    }

    /// JSON Schema that its result must satisfy; if null, any flat object is valid.
    async fn result_schema(&self, ctx: &Context<'_>) -> Result<Option<Counted<Json<serde_json::Value>>>> {
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        let declared = crate::domain::run::snapshot::step(&snapshot.definition, &self.0.key);
        Ok(declared.and_then(|declared| declared.result_schema.clone()).map(Counted))
    }

    /// The assigned member or agent; null if anyone with permission may do it.
    async fn assignee(&self, ctx: &Context<'_>) -> Result<Option<Actor>> {
        let Some(id) = self.0.assignee_id else { return Ok(None) };
        Ok(match self.0.assigned_to {
            Executor::Human => {
                let member = load(ctx, Some(MemberId(id))).await?;
                member.map(|member| Actor::from(crate::kernel::viewer::Viewer::of_member(member).actor))
            }
            Executor::Agent | Executor::Workflow => {
                load(ctx, Some(AgentId(id))).await?.map(|agent| Actor::from(crate::domain::plan::agent::actor(&agent)))
            }
        })
    }

    /// Role required to do or approve it; null for the default: operators do it, reviewers approve
    /// it.
    async fn assignee_role(&self) -> Option<Role> {
        self.0.assignee_role
    }

    /// Due time; null if none is set.
    async fn due_at(&self) -> Option<DateTime<Utc>> {
        self.0.due_at
    }

    /// Time at which it was reported overdue; null if it was not.
    async fn overdue_at(&self) -> Option<DateTime<Utc>> {
        self.0.overdue_at
    }

    /// The actor that submitted it for approval; null if none did.
    async fn submitted_by(&self) -> Option<Actor> {
        self.0.approval.as_ref().and_then(|approval| approval.submitted_by.clone()).map(Actor::from)
    }

    /// The actors that have approved it so far, in order.
    async fn approved_by(&self) -> Vec<Actor> {
        self.0.approval.iter().flat_map(|approval| approval.approved_by.iter().cloned()).map(Actor::from).collect()
    }

    /// The run that it belongs to.
    async fn run(&self, ctx: &Context<'_>) -> Result<Row<Run>> {
        reject_workers(viewer(ctx))?;
        Ok(Row(shared_rows::must_load(ctx, self.0.run_id).await?.into()))
    }

    /// The task that it belongs to.
    async fn task(&self, ctx: &Context<'_>) -> Result<Task> {
        reject_workers(viewer(ctx))?;
        Ok(Task(shared_rows::must_load(ctx, self.0.task_id).await?))
    }

    /// The record that it is about; null if it is about none, or about a test recipient without a
    /// sample record. In a test run the record shows the test address of the channel's kind instead
    /// of its own, and no other address, so that nobody contacts a real one by mistake.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        reject_workers(viewer(ctx))?;
        let Some(mut record) = shared_rows::load(ctx, self.0.record_id).await? else { return Ok(None) };
        let run = shared_rows::must_load(ctx, self.0.run_id).await?;
        if run.run_type == entity::RunType::TestRun {
            let address = load(ctx, self.0.run_record_id).await?.and_then(|row| row.address);
            crate::domain::run::recipients::use_test_address(&mut record, run.channel, address);
        }
        Ok(Some(Record(record)))
    }

    /// Address of its message or call, as `RunRecord.address`: in a test run the test address. Null
    /// for a step without a recipient, or whose recipient has no address.
    async fn to_address(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        reject_workers(viewer(ctx))?;
        Ok(load(ctx, self.0.run_record_id).await?.and_then(|row| row.address))
    }

    /// Records of a person's step, selected and sorted by its `config`, at most `limit` of them (500
    /// by default); in a campaign's run a step without such a selection has the one record that it
    /// exists for. Evaluated live until the step starts; from then on a selection is fixed
    /// (`recordsTakenAt`) and shows the records' current values, until `refreshStepRecords`
    /// evaluates it again. Null for a step without records, and for a step that no person does.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn records(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Option<List<Record>>> {
        reject_workers(viewer(ctx))?;
        Box::pin(guided::records(ctx, &self.0, first, after)).await
    }

    /// Suggested action for each record of a person's step, by the type of the step: a draft email (in
    /// guided work), the next stage, a free slot or a follow-up. Empty for a step without records, and
    /// for a step that no person does.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn suggestions(&self, ctx: &Context<'_>, first: Option<i32>) -> Result<Counted<Vec<guided::StepSuggestion>>> {
        reject_workers(viewer(ctx))?;
        Box::pin(guided::suggestions(ctx, &self.0, first)).await.map(Counted)
    }

    /// The newest reply that it handles; null if it handles none. `replies(filter: { stepIds })` has
    /// all of them.
    async fn reply(&self, ctx: &Context<'_>) -> Result<Option<Reply>> {
        Box::pin(of_step(ctx, self.0.id)).await
    }

    /// Time at which its list of records was fixed, by its start or by `refreshStepRecords`; null
    /// while the list is live.
    #[graphql(complexity = "5")]
    async fn records_taken_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime<Utc>>> {
        reject_workers(viewer(ctx))?;
        guided::taken_at(ctx, &self.0).await
    }

    /// Actions on single records within the step; records without an action are not listed.
    #[graphql(complexity = "10 + child_complexity")]
    async fn records_done(&self, ctx: &Context<'_>) -> Result<Vec<guided::StepRecordDone>> {
        reject_workers(viewer(ctx))?;
        guided::done(ctx, &self.0).await
    }

    /// Activities within the step, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn activities(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Activity>> {
        reject_workers(viewer(ctx))?;
        let filter = crate::domain::message::activity::Filter {
            step_ids: Some(vec![self.0.id.to_string().into()]),
            ..crate::domain::message::activity::Filter::default()
        };
        Box::pin(activities(ctx, filter, args(first, after, None, None), false)).await
    }

    /// The step's events from the durable log, oldest first; from the newest backwards with `last`
    /// and `before`.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn history(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Events> {
        reject_workers(viewer(ctx))?;
        let which = crate::kernel::event::EventSelector {
            // The run leads to its part of the log by an index.
            runs: Some(vec![self.0.run_id]),
            steps: Some(vec![self.0.id]),
            ..crate::kernel::event::EventSelector::default()
        };
        Box::pin(events(ctx, which, args(first, after, last, before), false)).await
    }

    /// All actions of a person on the step: allowed now, or blocked with the reason. A person's step
    /// also lists the actions within it: SEND_STEP_EMAIL, SCHEDULE_STEP_MEETING, ADD_STEP_NOTE …
    #[graphql(complexity = "10 + child_complexity")]
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        reject_workers(viewer(ctx))?;
        let (viewer, context) = (viewer(ctx), self.context(ctx).await?);
        let on_step = Action::ALL
            .into_iter()
            .map(|action| AvailableAction::of_verdict(action, noun::check_allowed(viewer, &self.0, &context, action)));
        let is_persons = self.0.assigned_to == Executor::Human;
        let within = WorkAction::ALL.into_iter().filter(|_| is_persons).map(|action| {
            AvailableAction::of_verdict(action, work_action::check_allowed(viewer, &self.0, &context, action))
        });
        on_step.chain(within).collect()
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Incremented by every change except the counts in `result`, `overdueAt`, `sequence`, and
    /// interruptions of a step in progress; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

impl Step {
    /// Loads the context for its actions, batched for all steps of a list.
    async fn context(&self, ctx: &Context<'_>) -> Result<noun::StepContext> {
        let (run, parts) = (must_load(ctx, self.0.run_id).await?, must_load(ctx, PartsOfRun(self.0.run_id)).await?);
        let rows = noun::StepRows {
            campaign: load(ctx, run.campaign_id).await?.map(|campaign| campaign.status),
            run,
            phases: parts.phases.clone(),
            tasks: parts.tasks.clone(),
            snapshot: must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?,
        };
        Box::pin(noun::StepContext::of(db(ctx).read(), &self.0, rows, self.drafts(ctx), db(ctx).now())).await
    }

    /// Counts the messages of its run that have no verdict.
    async fn drafts(&self, ctx: &Context<'_>) -> Result<u64> {
        let filter = crate::domain::message::communication::Filter {
            run_ids: Some(vec![self.0.run_id.to_string().into()]),
            statuses: Some(vec![entity::CommunicationStatus::Draft]),
            ..Default::default()
        };
        let all = args(None, None, None, None);
        let window = crate::domain::message::communication::window(db(ctx), viewer(ctx), &filter, all)?;
        Ok(nested_count(ctx, window).await?)
    }
}
