//! Runs that people mend: name and description, steps and their order, the outcome.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result};
use chrono::{DateTime, SubsecRound, Utc};
use entity::id::{RunId, StepId, TaskId};

use super::change::RunPayload;
use super::guided::{GuidedStepInput, step_draft};
use crate::domain::run as noun;
use crate::domain::run::guided::add_step::{self, NewStep};
use crate::domain::run::guided::{outcome, reorder_steps};
use crate::domain::run::step as steps;
use crate::domain::run::update::{self, Changes};
use crate::graphql::step::Step;
use crate::graphql::step::change::StepPayload;
use crate::graphql::viewer;
use crate::kernel::error::Refusal;
use crate::kernel::{limits, validate};

/// Changes to a run. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateRunInput {
    /// Id of the run, in any status.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the run has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// The new name; null leaves it unchanged. Rejected with CONFLICT while the run is SCHEDULED: it
    /// then has the name of its schedule.
    name: Option<String>,
    /// The new description, at most 10,000 characters; null clears it.
    description: MaybeUndefined<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// A new step of guided work.
#[derive(InputObject)]
pub struct AddRunStepInput {
    /// Id of the run.
    run_id: ID,
    /// The step: taken from a template, or declared here, like those of `startGuidedRun`. If another
    /// step of the run has its key, the key gets a number.
    step: GuidedStepInput,
    /// Id of the task that it is added to; null: the task of `afterStepId`, or the only one of the
    /// run.
    task_id: Option<ID>,
    /// Id of the step of the task that it stands behind; null: at the end.
    after_step_id: Option<ID>,
    /// Due time, in the future; null: by the step's `dueIn`, from now on. Not together with `dueIn`.
    due_at: Option<DateTime<Utc>>,
    /// Expected revision of the run: rejected with CONFLICT if the run has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// A new order of steps of guided work.
#[derive(InputObject)]
pub struct ReorderRunStepsInput {
    /// Id of the run.
    run_id: ID,
    /// Id of the task.
    task_id: ID,
    /// Ids of all steps of the task that are PENDING, in the new order. They share their present
    /// places; all other steps keep theirs.
    step_ids: Vec<ID>,
    /// Expected revision of the run: rejected with CONFLICT if the run has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// A corrected outcome of guided work.
#[derive(InputObject)]
pub struct UpdateRunOutcomeInput {
    /// Id of the run, which has ended.
    run_id: ID,
    /// The outcome in a few sentences, at most 10,000 characters; null or a blank text removes it. Required.
    outcome: MaybeUndefined<String>,
    /// Reason for the correction, stored in the event `run.outcome_corrected`.
    reason: String,
    /// Expected revision: rejected with CONFLICT if the run has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Mutations that mend runs.
#[derive(Default)]
pub struct MendMutation;

#[Object]
impl MendMutation {
    /// Changes the name or the description of a run, also of a campaign's run and of one that has
    /// ended. Rejected with NOT_FOUND, CONFLICT, or BAD_USER_INPUT, naming the field.
    async fn update_run(&self, ctx: &Context<'_>, input: UpdateRunInput) -> Result<RunPayload> {
        let (id, expected) = (validate::id::<RunId>("id", &input.id)?, input.expected_revision);
        let description = match input.description {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(text) => Some(Some(text)),
        };
        let changes = Changes { name: input.name, description };
        let run = idempotent!(ctx, input.idempotency_key, |db| update::update(db, viewer(ctx), id, expected, &changes));
        Ok(RunPayload { run: run.into() })
    }

    /// Adds a step to guided work that is IN_PROGRESS or PAUSED, where it can be started like the
    /// others. A task whose steps have all ended is open again with it. Rejected with NOT_FOUND;
    /// CONFLICT for other runs, and for a task that has failed; BAD_USER_INPUT, whose `problems` lists
    /// everything that is wrong with the step; LIMIT_EXCEEDED for more than 1,000 phases, tasks and
    /// steps of the run.
    async fn add_run_step(&self, ctx: &Context<'_>, input: AddRunStepInput) -> Result<StepPayload> {
        let (run_id, expected) = (validate::id::<RunId>("runId", &input.run_id)?, input.expected_revision);
        let new = NewStep {
            draft: step_draft(input.step, "step")?,
            task_id: input.task_id.map(|id| validate::id("taskId", &id)).transpose()?,
            after: input.after_step_id.map(|id| validate::id("afterStepId", &id)).transpose()?,
            due_at: input.due_at.map(|at| at.trunc_subsecs(6)),
        };
        let step = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(add_step::add(db, viewer(ctx), run_id, expected, &new)),
            |id| steps::must_find(db.read(), viewer(ctx), id)
        );
        Ok(StepPayload { step: Step(step) })
    }

    /// Puts the steps of a task of guided work that have not begun in another order; `Step.sequence`
    /// is a step's place. Rejected with NOT_FOUND; BAD_USER_INPUT for a step of another task, or given
    /// twice; CONFLICT for a run that is neither IN_PROGRESS nor PAUSED, and if a step has begun or is
    /// missing: `pendingStepIds` then lists those that have not begun.
    async fn reorder_run_steps(&self, ctx: &Context<'_>, input: ReorderRunStepsInput) -> Result<RunPayload> {
        let (run_id, expected) = (validate::id::<RunId>("runId", &input.run_id)?, input.expected_revision);
        let task_id = validate::id::<TaskId>("taskId", &input.task_id)?;
        if input.step_ids.len() > limits::DEFINITION_PARTS {
            return Err(Refusal::limit_for_field("stepIds", format!("at most {}", limits::DEFINITION_PARTS)).into());
        }
        let each = input.step_ids.iter().enumerate();
        let order: Vec<StepId> =
            each.map(|(i, id)| validate::id(&format!("stepIds[{i}]"), id)).collect::<Result<_, _>>()?;
        let run = idempotent!(ctx, input.idempotency_key, |db| Box::pin(reorder_steps::reorder(
            db,
            viewer(ctx),
            run_id,
            expected,
            task_id,
            &order
        )));
        Ok(RunPayload { run: run.into() })
    }

    /// Corrects the outcome of guided work that has ended; its status stays. Rejected with NOT_FOUND,
    /// CONFLICT, or BAD_USER_INPUT, naming the field.
    async fn update_run_outcome(&self, ctx: &Context<'_>, input: UpdateRunOutcomeInput) -> Result<RunPayload> {
        let (id, expected) = (validate::id::<RunId>("runId", &input.run_id)?, input.expected_revision);
        let text = match &input.outcome {
            MaybeUndefined::Undefined => {
                return Err(Refusal::input("outcome", "is required; pass null to remove the outcome").into());
            }
            MaybeUndefined::Null => None,
            MaybeUndefined::Value(text) => Some(text.as_str()),
        };
        let run = idempotent!(ctx, input.idempotency_key, |db| outcome::correct(
            db,
            viewer(ctx),
            id,
            expected,
            text,
            &input.reason
        ));
        Ok(RunPayload { run: run.into() })
    }
}
