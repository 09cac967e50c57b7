//! The phases and tasks of a run, and the gate that a person opens.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::PhaseId;
use entity::{PhaseStatus, TaskStatus, task};

use super::Run;
use crate::domain::run as noun;
use crate::domain::run::step::StepFilter;
use crate::graphql::counted::Counted;
use crate::graphql::list::{List, args};
use crate::graphql::loader::{CampaignPartsOfRun, must_load};
use crate::graphql::step::{self, Step};
use crate::graphql::{Actor, AvailableAction, viewer};
use crate::kernel::validate;

/// A stage of a run with its own rules.
pub struct Phase(pub entity::phase::Model);

/// A stage of a run with its own rules.
#[Object]
impl Phase {
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

    /// Its place, from 0.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Where it stands.
    async fn status(&self) -> PhaseStatus {
        self.0.status
    }

    /// Whether it completes without a person's act.
    async fn autonomous(&self) -> bool {
        self.0.autonomous
    }

    /// Whether events about a record stop what is open for it here.
    async fn interruptible(&self) -> bool {
        !self.0.interrupt_events.0.is_empty()
    }

    /// Those events; empty where it is not interruptible.
    async fn interrupt_events(&self) -> &[String] {
        &self.0.interrupt_events.0
    }

    /// Whose act opened its gate; null before, and where it needs none.
    async fn released_by(&self) -> Option<Actor> {
        self.0.person_act.clone().map(Actor::from)
    }

    /// When it began; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// When it closed; null before.
    async fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.completed_at
    }

    /// Its tasks, in order of display.
    async fn tasks(&self, ctx: &Context<'_>) -> Result<Counted<Vec<Task>>> {
        let parts = must_load(ctx, CampaignPartsOfRun(self.0.run_id)).await?;
        Ok(Counted(parts.tasks.iter().filter(|task| task.phase_id == self.0.id).cloned().map(Task).collect()))
    }

    /// The run that it is of.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// What can be done with it now, and why not the rest.
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let run = must_load(ctx, self.0.run_id).await?;
        let judged = noun::phase::check_release_allowed(&run, &self.0);
        Ok(vec![AvailableAction::judged(noun::phase::Action::Release, judged)?])
    }
}

/// A unit of work within a phase; its status is derived from its steps.
pub struct Task(pub task::Model);

/// A unit of work within a phase; its status is derived from its steps.
#[Object]
impl Task {
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

    /// The order of display, from 1.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Where it stands.
    async fn status(&self) -> TaskStatus {
        self.0.status
    }

    /// Whether it has a step for each record.
    async fn fan_out(&self) -> bool {
        self.0.fan_out
    }

    /// The tasks that must be completed or skipped before; empty where there are none.
    async fn depends_on(&self, ctx: &Context<'_>) -> Result<Vec<Task>> {
        let parts = must_load(ctx, CampaignPartsOfRun(self.0.run_id)).await?;
        Ok(parts.tasks.iter().filter(|task| self.0.depends_on.0.contains(&task.key)).cloned().map(Task).collect())
    }

    /// By when it should be done; null: no time is set, or it has not begun.
    async fn due_at(&self) -> Option<DateTime<Utc>> {
        self.0.due_at
    }

    /// Why it is left out, by a decision or by the run that this one repeats; null where it is not.
    async fn left_out(&self) -> Option<&str> {
        self.0.left_out.as_deref()
    }

    /// When it first left pending; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// When it closed; null while it is open.
    async fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.completed_at
    }

    /// Its steps, in order of making.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn steps(
        &self,
        ctx: &Context<'_>,
        filter: Option<StepFilter>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Step>> {
        let mut filter = filter.unwrap_or_default();
        filter.task_ids = Some(vec![self.0.id.to_string().into()]);
        step::steps(ctx, filter, args(first, after, None, None), false).await
    }

    /// How many of its steps are in each status.
    async fn progress(&self) -> StepCounts {
        self.0.counts().into()
    }

    /// The phase that it is of.
    async fn phase(&self, ctx: &Context<'_>) -> Result<Phase> {
        Ok(Phase(must_load(ctx, self.0.phase_id).await?))
    }
}

/// How many steps there are in each status.
#[derive(SimpleObject)]
pub struct StepCounts {
    /// All of them.
    total: i64,
    /// Waiting for their trigger.
    pending: i64,
    /// Ready to be taken.
    queued: i64,
    /// Being done.
    in_progress: i64,
    /// Waiting to be let out.
    awaiting_approval: i64,
    /// Done.
    completed: i64,
    /// Left out.
    skipped: i64,
    /// Given up.
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

/// Which phase.
#[derive(InputObject)]
pub struct ReleasePhaseInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was changed.
#[derive(SimpleObject)]
pub struct PhasePayload {
    /// As it is now.
    phase: Phase,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct PhaseMutation;

#[Object]
impl PhaseMutation {
    /// Opens the gate of a phase that completes only with a person's act.
    async fn release_phase(&self, ctx: &Context<'_>, input: ReleasePhaseInput) -> Result<PhasePayload> {
        let id = validate::id::<PhaseId>("id", &input.id)?;
        let expected = input.expected_revision;
        let phase =
            idempotent!(ctx, input.idempotency_key, |db| noun::phase::release(db, viewer(ctx), id, expected), |id| {
                noun::phase::must_find(db.read(), viewer(ctx), id)
            });
        Ok(PhasePayload { phase: Phase(phase) })
    }
}
