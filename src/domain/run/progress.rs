//! Progress of a run: counts by step status, from the tasks' counters.

use chrono::{DateTime, Utc};
use entity::definition::{Definition, StepDef, TaskDef, Trigger};
use entity::run::Model;
use entity::step::Executor;
use entity::task::StepCounts;
use entity::{PhaseStatus, RunStatus, TaskStatus, phase, task};

use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Progress of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps created so far, by status.
    pub counts: StepCounts,
    /// Number of known steps: those created, and those that fan-outs have yet to create.
    pub expected: i64,
    /// Closed share of the known steps, 0 to 1; 1 for a run that ended without steps.
    pub fraction: f64,
    /// Closed steps per minute since the run began; 0 before that.
    pub per_minute: f64,
    /// Estimated time at which all known steps are closed; none if it can't be estimated: before
    /// the first step is closed, when none is left, while the run is paused, and while it waits for
    /// people or events.
    pub estimated_end: Option<DateTime<Utc>>,
}

/// Loads the progress of a run. Costs a few rows, however large the run.
pub async fn progress(db: &Db, viewer: &Viewer, run: &Model) -> Result<Progress> {
    let phases = super::phase::of_runs(db.read(), viewer, &[run.id]).await?;
    let tasks = super::task::of_runs(db.read(), viewer, &[run.id]).await?;
    let snapshot = super::snapshot::of(db.read(), run).await?;
    Ok(of(run, &phases, &tasks, &snapshot.definition, db.now()))
}

/// Computes the progress from loaded rows.
pub fn of(
    run: &Model,
    phases: &[phase::Model],
    tasks: &[task::Model],
    definition: &Definition,
    now: DateTime<Utc>,
) -> Progress {
    let counts = tasks.iter().fold(StepCounts::default(), |sum, task| sum.plus(&task.counts()));
    let ended = run.ended_at.is_some();
    let to_come: i64 = tasks.iter().map(|task| steps_to_come(run, task, definition)).sum();
    let expected = counts.total() + if ended { 0 } else { to_come };
    let closed = counts.total() - counts.open();
    let fraction = match expected {
        0 => f64::from(u8::from(ended)),
        _ => closed as f64 / expected as f64,
    };
    let until = run.ended_at.unwrap_or(now);
    let minutes = run.started_at.map_or(0.0, |at| (until - at).num_milliseconds() as f64 / 60_000.0);
    let per_minute = if minutes > 0.0 { closed as f64 / minutes } else { 0.0 };
    let left = (expected - closed) as f64;
    let moves = run.status == RunStatus::InProgress && !awaits(phases, tasks, definition);
    let estimated_end = (moves && per_minute > 0.0 && left > 0.0)
        .then(|| chrono::Duration::try_milliseconds((left / per_minute * 60_000.0) as i64))
        .flatten()
        .and_then(|left| now.checked_add_signed(left));
    Progress { counts, expected, fraction, per_minute, estimated_end }
}

fn declared<'a>(definition: &'a Definition, task: &task::Model) -> Option<&'a TaskDef> {
    definition.phases.iter().flat_map(|phase| &phase.tasks).find(|declared| declared.key == task.key)
}

fn on_event(step: &StepDef) -> bool {
    matches!(step.trigger, Trigger::Event(_))
}

/// Number of steps that a fan-out has yet to create: one per declared step and recipient. Steps on
/// an event are created only if the event arrives.
fn steps_to_come(run: &Model, task: &task::Model, definition: &Definition) -> i64 {
    let fans = task.fan_out && !task.fan_out_done && task.left_out_reason.is_none();
    let Some(declared) = declared(definition, task).filter(|declared| fans && !declared.on_event()) else { return 0 };
    let each = i64::try_from(declared.steps.len()).unwrap_or(0);
    (run.audience_count.saturating_mul(each) - task.counts().total()).max(0)
}

/// True if the run waits for people or events, for which no rate can be estimated.
fn awaits(phases: &[phase::Model], tasks: &[task::Model], definition: &Definition) -> bool {
    let Some(phase) = phases.iter().find(|phase| phase.status == PhaseStatus::Active) else { return false };
    let mut quiet = true;
    for task in tasks.iter().filter(|task| task.phase_id == phase.id) {
        let counts = task.counts();
        let steps = declared(definition, task).map(|declared| declared.steps.as_slice()).unwrap_or_default();
        let by_people = steps.iter().any(|step| step.assigned_to == Executor::Human);
        let by_event = steps.iter().any(on_event);
        quiet &= counts.open() == 0 && (task.fan_out_done || by_event);
        let begun = task.status != TaskStatus::Blocked && counts.open() > 0;
        if counts.awaiting_approval > 0 || (begun && by_people) || (begun && by_event && counts.pending > 0) {
            return true;
        }
    }
    // No step is open: the phase waits for what its rules require, a person's action or an event.
    quiet
}
