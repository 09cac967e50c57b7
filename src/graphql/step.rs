//! Steps: the work list.

pub mod act;
pub mod change;
pub mod guided;
pub mod preview;

use async_graphql::{Context, ID, Json, Object, Result};
use chrono::{DateTime, Utc};
use entity::id::{AgentId, MemberId, StepId};
use entity::member::Role;
use entity::step::StepReason;
use entity::{ContentSource, Executor, StepStatus};

use super::activity::{Activity, activities};
use super::event::{Events, events};
use super::list::{List, Totals, args, list};
use super::loader::{CampaignPartsOfRun, StartedSnapshotOfRun, below, count_below, load, must_load};
use super::record::Record;
use super::role::beyond;
use super::run::Run;
use super::run::phase::Task;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::run::step::{self as noun, Action, StepFilter};
use crate::graphql::counted::Counted;
use crate::kernel::page::Args;
use crate::kernel::validate;

/// The atomic unit of work, done by a human, an agent or a workflow.
pub struct Step(pub entity::step::Model);

/// The atomic unit of work, done by a human, an agent or a workflow.
#[Object]
impl Step {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Its key in the run's structure.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Which work it is, as its structure says: `draft_message`, `api_call`, `review` …
    #[graphql(name = "type")]
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The order of display, from 0.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Where it stands.
    async fn status(&self) -> StepStatus {
        self.0.status
    }

    /// Where its content comes from; null where it makes none.
    async fn content_source(&self) -> Option<ContentSource> {
        self.0.content_source
    }

    /// When it starts: `immediate`, `manual`, `after:KEY`, `delay:DURATION`, `event:NAME`.
    async fn trigger(&self) -> &str {
        &self.0.trigger
    }

    /// What came of it; null before it is completed.
    async fn result(&self) -> Option<Counted<Json<serde_json::Value>>> {
        self.0.result.clone().map(Json).map(Counted)
    }

    /// What went wrong last, or why it was skipped; null where nothing was.
    async fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    /// The same as a code, for programs: why it was skipped, failed, was put back into the queue, or awaits somebody; null
    /// where nothing was, and of steps that failed or were put back before codes were kept.
    async fn reason_code(&self) -> Option<StepReason> {
        self.0.reason
    }

    /// Who does it.
    async fn assigned_to(&self) -> Executor {
        self.0.assigned_to
    }

    /// Not to be taken before.
    async fn available_at(&self) -> DateTime<Utc> {
        self.0.available_at
    }

    /// How often it was begun.
    async fn attempt_count(&self) -> i32 {
        self.0.attempt_count
    }

    /// How many reported failures are one too many.
    async fn max_attempts(&self) -> i32 {
        self.0.max_attempts
    }

    /// Until when a worker holds it; null where none does.
    async fn lease_expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.lease_expires_at
    }

    /// When it was last begun; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// The person who last started it; null before, and where no person did.
    async fn started_by(&self) -> Option<Actor> {
        self.0.started_by.clone().map(Actor::from)
    }

    /// What its structure says about it, for who does it; null where nothing is said.
    async fn description(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        let declared = crate::domain::run::snapshot::step(&snapshot.definition, &self.0.key);
        Ok(declared.and_then(|declared| declared.description.clone()))
    }

    /// When it closed; null while it is open.
    async fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.completed_at
    }

    /// Who closed it; null while it is open.
    async fn completed_by(&self) -> Option<Actor> {
        self.0.completed_by.clone().map(Actor::from)
    }

    /// What its work needs, as its structure says; an empty object where that says nothing.
    async fn config(&self, ctx: &Context<'_>) -> Result<Counted<Json<serde_json::Value>>> {
        beyond(viewer(ctx))?;
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        let declared = crate::domain::run::snapshot::step(&snapshot.definition, &self.0.key);
        let config = declared.map(|declared| declared.settings().clone()).filter(|config| !config.is_null());
        Ok(Counted(Json(config.unwrap_or_else(|| serde_json::json!({})))))
    }

    /// The JSON Schema that its result must meet; null: any flat object.
    async fn result_schema(&self, ctx: &Context<'_>) -> Result<Option<Counted<Json<serde_json::Value>>>> {
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        let declared = crate::domain::run::snapshot::step(&snapshot.definition, &self.0.key);
        Ok(declared.and_then(|declared| declared.result_schema.clone()).map(Counted))
    }

    /// Who is to do it, a member or an agent; null: anybody who may.
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

    /// The role that doing or approving it needs; null: operators do, reviewers approve.
    async fn assignee_role(&self) -> Option<Role> {
        self.0.assignee_role
    }

    /// By when it should be done; null: no time is set.
    async fn due_at(&self) -> Option<DateTime<Utc>> {
        self.0.due_at
    }

    /// When it was told that it is overdue; null where it was not.
    async fn overdue_at(&self) -> Option<DateTime<Utc>> {
        self.0.overdue_at
    }

    /// Who submitted it for approval; null where nobody did.
    async fn submitted_by(&self) -> Option<Actor> {
        self.0.approval.as_ref().and_then(|approval| approval.submitted_by.clone()).map(Actor::from)
    }

    /// Who has approved it so far, in order.
    async fn approved_by(&self) -> Vec<Actor> {
        self.0.approval.iter().flat_map(|approval| approval.approved_by.iter().cloned()).map(Actor::from).collect()
    }

    /// The run that it is of.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        beyond(viewer(ctx))?;
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The task that it is of.
    async fn task(&self, ctx: &Context<'_>) -> Result<Task> {
        beyond(viewer(ctx))?;
        Ok(Task(must_load(ctx, self.0.task_id).await?))
    }

    /// The record that it is about; null where it is about none, or about a test recipient without a sample. In a test run
    /// it is shown with the test address in place of its own, of the channel's kind, and without the other kind's: nobody
    /// calls or writes to a real one by mistake.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        beyond(viewer(ctx))?;
        let Some(mut record) = load(ctx, self.0.record_id).await? else { return Ok(None) };
        let run = must_load(ctx, self.0.run_id).await?;
        if run.run_type == entity::RunType::TestRun {
            let place = load(ctx, self.0.run_record_id).await?;
            crate::domain::run::recipients::rehearse(&mut record, run.channel, place.and_then(|place| place.address));
        }
        Ok(Some(Record(record)))
    }

    /// Where its message or call goes: in a test run the test address, else its record's as it was at launch. Null for a step
    /// of no recipient.
    async fn to_address(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        beyond(viewer(ctx))?;
        Ok(load(ctx, self.0.run_record_id).await?.and_then(|place| place.address))
    }

    /// Of guided work: the records that it is about, as its `config` says, in the order that it says; as many as its
    /// `limit` says at most, which is 500 unless said. Evaluated now before it is started; from then on the list stays as it was taken (`recordsTakenAt`), and shows
    /// its records as they are now: `refreshStepRecords` looks again. Null for a step that is about none, and for steps of
    /// campaigns.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn records(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Option<List<Record>>> {
        beyond(viewer(ctx))?;
        Box::pin(guided::records(ctx, &self.0, first, after)).await
    }

    /// Of guided work: what it would do with each of its records: the draft of a mail, the next stage, a free slot, a
    /// follow-up. Empty for a step that is about none, and for steps of campaigns.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn suggestions(&self, ctx: &Context<'_>, first: Option<i32>) -> Result<Counted<Vec<guided::StepSuggestion>>> {
        beyond(viewer(ctx))?;
        Box::pin(guided::suggestions(ctx, &self.0, first)).await.map(Counted)
    }

    /// When its list of records was taken, by its start or by `refreshStepRecords`; null where it is shown live.
    #[graphql(complexity = "5")]
    async fn records_taken_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime<Utc>>> {
        beyond(viewer(ctx))?;
        guided::taken_at(ctx, &self.0).await
    }

    /// What was done with single records from within it; a record with which nothing was done is not in it.
    #[graphql(complexity = "10 + child_complexity")]
    async fn records_done(&self, ctx: &Context<'_>) -> Result<Vec<guided::StepRecordDone>> {
        beyond(viewer(ctx))?;
        guided::done(ctx, &self.0).await
    }

    /// What was done from within it, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn activities(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Activity>> {
        beyond(viewer(ctx))?;
        let filter = crate::domain::message::activity::Filter {
            step_ids: Some(vec![self.0.id.to_string().into()]),
            ..crate::domain::message::activity::Filter::default()
        };
        Box::pin(activities(ctx, filter, args(first, after, None, None), false)).await
    }

    /// Its history from the log, oldest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn history(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<Events> {
        beyond(viewer(ctx))?;
        let which = crate::kernel::event::EventSelector {
            steps: Some(vec![self.0.id]),
            ..crate::kernel::event::EventSelector::default()
        };
        Box::pin(events(ctx, which, args(first, after, None, None), false)).await
    }

    /// What a person can do with it now, and why not the rest.
    #[graphql(complexity = "10 + child_complexity")]
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        beyond(viewer(ctx))?;
        let around = self.around(ctx).await?;
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::judged(action, noun::check_allowed(viewer(ctx), &self.0, &around, action)))
            .collect()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

impl Step {
    /// What surrounds it, of all steps of a list at once.
    async fn around(&self, ctx: &Context<'_>) -> Result<noun::StepContext> {
        let (run, parts) =
            (must_load(ctx, self.0.run_id).await?, must_load(ctx, CampaignPartsOfRun(self.0.run_id)).await?);
        let mut undecided = 0;
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        let declared = crate::domain::run::snapshot::step(&snapshot.definition, &self.0.key).cloned();
        if self.0.kind == crate::domain::plan::run_template::REVIEW {
            let policy = snapshot.instructions.as_ref().and_then(|told| told.review_policy);
            if policy == Some(entity::reviewer::ReviewPolicy::All) {
                let filter = crate::domain::message::communication::Filter {
                    run_ids: Some(vec![self.0.run_id.to_string().into()]),
                    statuses: Some(vec![entity::CommunicationStatus::Draft]),
                    ..Default::default()
                };
                let window = crate::domain::message::communication::window(
                    db(ctx),
                    viewer(ctx),
                    &filter,
                    args(None, None, None, None),
                )?;
                undecided = count_below(ctx, window).await?;
            }
        }
        // Of those that are done only: whether what waited for it has begun.
        let followed = match self.0.status {
            StepStatus::Completed => noun::permissions::followers(db(ctx).read(), &self.0, &snapshot.graph).await?,
            _ => false,
        };
        let on_way = Box::pin(noun::permissions::in_flight(db(ctx).read(), &self.0, &run)).await?;
        let (phases, tasks) = (parts.phases.clone(), parts.tasks.clone());
        let campaign = load(ctx, run.campaign_id).await?.map(|campaign| campaign.status);
        let now = db(ctx).now();
        let around = noun::StepContext::of(&self.0, run, phases, tasks, undecided, declared, followed, on_way, now)?;
        Ok(around.under(campaign))
    }
}

/// One page of steps.
pub(super) async fn steps(ctx: &Context<'_>, filter: StepFilter, args: Args, alone: bool) -> Result<List<Step>> {
    let page = below(ctx, noun::window(db(ctx), viewer(ctx), &filter, args, db(ctx).now())?, alone).await?;
    Ok(list(page, Totals::Steps(filter), Step))
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct StepQuery;

#[Object]
impl StepQuery {
    /// One by its id; null where the org has none with it.
    async fn step(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Step>> {
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), validate::id::<StepId>("id", &id)?)).await?.map(Step))
    }

    /// The work list: steps by filter, in order of making. `first` after a cursor, or `last` before one; 50 unless
    /// said, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn steps(
        &self,
        ctx: &Context<'_>,
        filter: Option<StepFilter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Step>> {
        Box::pin(steps(ctx, filter.unwrap_or_default(), args(first, after, last, before), true)).await
    }
}
