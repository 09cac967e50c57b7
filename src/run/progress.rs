//! How far a run has come: counts by step status, from the tasks' counters.

use chrono::{DateTime, Utc};
use entity::run::Model;
use entity::task::StepCounts;

use super::task;
use crate::db::Db;
use crate::error::Result;
use crate::viewer::Viewer;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Its steps so far.
    pub counts: StepCounts,
    /// Closed steps of all that are known of, 0 to 1; 1 once the run has ended well.
    pub fraction: f64,
    /// Closed steps per minute since it began; 0 before.
    pub per_minute: f64,
    /// When the steps that are known of will be closed at this rate; none where that can't be told.
    pub estimated_end: Option<DateTime<Utc>>,
}

/// Reads it. Costs a few rows, however large the run.
pub async fn progress(db: &Db, viewer: &Viewer, run: &Model) -> Result<Progress> {
    let tasks = task::of_runs(db.read(), viewer, &[run.id]).await?;
    Ok(of(run, &tasks, db.now()))
}

/// The same, from tasks that are at hand.
pub fn of(run: &Model, tasks: &[entity::task::Model], now: DateTime<Utc>) -> Progress {
    let counts = tasks.iter().fold(StepCounts::default(), |sum, task| sum.plus(&task.counts()));
    // Fan-outs that are still to come count with one step per place of the audience.
    let unmade = tasks.iter().filter(|task| task.fan_out && !task.fan_out_done && task.key != "handle_replies");
    let expected = unmade.map(|task| (run.audience_count - task.counts().total()).max(0)).sum::<i64>() + counts.total();
    let closed = counts.total() - counts.open();
    let ended = run.ended_at.is_some();
    let fraction = if ended && run.status == entity::RunStatus::Completed {
        1.0
    } else if expected == 0 {
        0.0
    } else {
        closed as f64 / expected as f64
    };
    let now = run.ended_at.unwrap_or(now);
    let minutes = run.started_at.map_or(0.0, |at| (now - at).num_milliseconds() as f64 / 60_000.0);
    let per_minute = if minutes > 0.0 { closed as f64 / minutes } else { 0.0 };
    let left = (expected - closed) as f64;
    let estimated_end = (!ended && per_minute > 0.0 && left > 0.0)
        .then(|| chrono::Duration::try_milliseconds((left / per_minute * 60_000.0) as i64))
        .flatten()
        .and_then(|left| now.checked_add_signed(left));
    Progress { counts, fraction, per_minute, estimated_end }
}
