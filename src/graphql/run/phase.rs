//! The phases and tasks of a run, and the release of a phase by a person.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::PhaseId;
use entity::{Executor, PhaseStatus, TaskStatus, task};

use super::Run;
use super::assignee::AssigneeOfTask;
use crate::domain::run as noun;
use crate::domain::run::step::StepFilter;
use crate::graphql::counted::{self, Counted};
use crate::graphql::list::{List, args};
use crate::graphql::loader::{PartsOfRun, StartedSnapshotOfRun, load, must_load};
use crate::graphql::member::Member;
use crate::graphql::step::{Step, steps_of_task};
use crate::graphql::{Actor, AvailableAction, viewer};
use crate::kernel::validate;

/// A stage of a run with its own rules.
pub struct Phase(pub entity::phase::Model);

/// A stage of a run with its own rules.
#[Object]
impl Phase {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Key in the run's structure.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Description from the run's structure; null if it has none.
    async fn description(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        let declared = snapshot.definition.phases.iter().find(|declared| declared.key == self.0.key);
        Ok(declared.and_then(|declared| declared.description.clone()))
    }

    /// Order in the run, starting at 0.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Current status.
    async fn status(&self) -> PhaseStatus {
        self.0.status
    }

    /// True if it completes without a person's act.
    async fn autonomous(&self) -> bool {
        self.0.autonomous
    }

    /// True if events about a record stop its open work in this phase.
    async fn interruptible(&self) -> bool {
        !self.0.interrupt_events.0.is_empty()
    }

    /// The interrupting events; empty if the phase is not interruptible.
    async fn interrupt_events(&self) -> &[String] {
        &self.0.interrupt_events.0
    }

    /// The actor whose act released the phase; null before, and if no release is required.
    async fn released_by(&self) -> Option<Actor> {
        self.0.advanced_by.clone().map(Actor::from)
    }

    /// Start time; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// Completion time; null before.
    async fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.completed_at
    }

    /// Tasks in display order.
    async fn tasks(&self, ctx: &Context<'_>) -> Result<Counted<Vec<Task>>> {
        let parts = must_load(ctx, PartsOfRun(self.0.run_id)).await?;
        counted::list(ctx, parts.tasks.iter().filter(|task| task.phase_id == self.0.id).cloned().map(Task).collect())
    }

    /// The run that it belongs to.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// All actions on the phase: allowed now, or blocked with the reason.
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let run = must_load(ctx, self.0.run_id).await?;
        let verdict = noun::phase::check_release_allowed(&run, &self.0);
        Ok(vec![AvailableAction::of_verdict(noun::phase::Action::Release, verdict)?])
    }

    /// Incremented by every change of its status, and by its release; pass it back as
    /// `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A unit of work within a phase; its status is derived from its steps.
pub struct Task(pub task::Model);

/// A unit of work within a phase; its status is derived from its steps.
#[Object]
impl Task {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Key in the run's structure.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Description from the run's structure; null if it has none.
    async fn description(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        Ok(snapshot.task(&self.0.key).and_then(|declared| declared.description.clone()))
    }

    /// The kind of actor that does all of its steps, by the run's structure; null if its steps are
    /// for actors of several kinds.
    async fn assigned_to(&self, ctx: &Context<'_>) -> Result<Option<Executor>> {
        let snapshot = must_load(ctx, StartedSnapshotOfRun(self.0.run_id)).await?;
        let mut executors = snapshot.task(&self.0.key).into_iter().flat_map(|task| &task.steps).map(|s| s.assigned_to);
        Ok(executors.next().filter(|first| executors.all(|other| other == *first)))
    }

    /// The member to whom all of its steps are assigned. Null if there is none, and for a task with a
    /// step per record (`fanOut`): each of those has its own `Step.assignee`.
    async fn assignee(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        let of = (!self.0.fan_out).then_some(AssigneeOfTask(self.0.id));
        Ok(load(ctx, load(ctx, of).await?).await?.map(Member))
    }

    /// Display order, starting at 1.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Current status.
    async fn status(&self) -> TaskStatus {
        self.0.status
    }

    /// True if it has a step per record.
    async fn fan_out(&self) -> bool {
        self.0.fan_out
    }

    /// The tasks that must be completed or skipped first; empty if there are none.
    async fn depends_on(&self, ctx: &Context<'_>) -> Result<Vec<Task>> {
        let parts = must_load(ctx, PartsOfRun(self.0.run_id)).await?;
        Ok(parts.tasks.iter().filter(|task| self.0.depends_on.0.contains(&task.key)).cloned().map(Task).collect())
    }

    /// Due time; null if none is configured, or if the task has not started.
    async fn due_at(&self) -> Option<DateTime<Utc>> {
        self.0.due_at
    }

    /// Reason why it is skipped: a decision, or the run that this one repeats; null if it is not
    /// skipped.
    async fn left_out(&self) -> Option<&str> {
        self.0.left_out_reason.as_deref()
    }

    /// Time at which it first became IN_PROGRESS, COMPLETED or FAILED; null before, and if it was
    /// skipped without starting.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// Completion time; null while it is open.
    async fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.completed_at
    }

    /// Steps by `sequence`; those of a fan-out in order of creation. `filter.taskIds` is ignored. Page
    /// with `first` and `after`.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn steps(
        &self,
        ctx: &Context<'_>,
        filter: Option<StepFilter>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Step>> {
        Box::pin(steps_of_task(ctx, &self.0, filter.unwrap_or_default(), args(first, after, None, None))).await
    }

    /// Number of its steps per status.
    async fn progress(&self) -> StepCounts {
        self.0.counts().into()
    }

    /// The phase that it belongs to.
    async fn phase(&self, ctx: &Context<'_>) -> Result<Phase> {
        Ok(Phase(must_load(ctx, self.0.phase_id).await?))
    }
}

/// Number of steps per status.
#[derive(SimpleObject)]
pub struct StepCounts {
    /// All steps.
    total: i64,
    /// Steps waiting for their trigger.
    pending: i64,
    /// Steps ready to be claimed.
    queued: i64,
    /// Steps being done.
    in_progress: i64,
    /// Steps waiting for approval.
    awaiting_approval: i64,
    /// Completed steps.
    completed: i64,
    /// Skipped steps.
    skipped: i64,
    /// Failed steps.
    failed: i64,
}

impl From<task::StepCounts> for StepCounts {
    fn from(counts: task::StepCounts) -> Self {
        Self {
            total: counts.total(),
            pending: counts.pending,
            queued: counts.queued,
            in_progress: counts.in_progress,
            awaiting_approval: counts.awaiting_approval,
            completed: counts.completed,
            skipped: counts.skipped,
            failed: counts.failed,
        }
    }
}

/// Identifies the phase to release.
#[derive(InputObject)]
pub struct ReleasePhaseInput {
    /// Id of the phase.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the phase has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The released phase.
#[derive(SimpleObject)]
pub struct PhasePayload {
    /// The phase after the change.
    phase: Phase,
}

/// Mutations for phases.
#[derive(Default)]
pub struct PhaseMutation;

#[Object]
impl PhaseMutation {
    /// Releases a phase that only completes after a person's act.
    async fn release_phase(&self, ctx: &Context<'_>, input: ReleasePhaseInput) -> Result<PhasePayload> {
        let id = validate::id::<PhaseId>("id", &input.id)?;
        let expected = input.expected_revision;
        let phase = idempotent!(
            ctx,
            input.idempotency_key,
            |db| noun::control::release_phase(db, viewer(ctx), id, expected),
            |id| { noun::phase::must_find(db.read(), viewer(ctx), id) }
        );
        Ok(PhasePayload { phase: Phase(phase) })
    }
}
