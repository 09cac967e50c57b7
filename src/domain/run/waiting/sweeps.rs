//! Large changes of a run that are being applied in the background, and how far they are.

use entity::sweep::SweepKind;
use entity::{RunStatus, task};

use super::step_waits::OpenSweep;
use super::{Reason, WaitContext, plain};

/// Adds a reason for each sweep of a run in progress. In a paused run they stand still, which
/// `RUN_PAUSED` says; those that fail are reported as `STUCK`.
pub(super) fn add_reasons(context: &WaitContext<'_>, all: &mut Vec<Reason>) {
    if context.run.status != RunStatus::InProgress || !context.found.stuck.is_empty() {
        return;
    }
    for sweep in &context.found.sweeps {
        let task = context.tasks.iter().find(|task| Some(task.id) == sweep.task_id);
        if let Some(change) = describe(context, sweep, task) {
            let message = format!("{change}; begun at {}", sweep.since.to_rfc3339());
            all.push(plain("SWEEP", message, None));
        }
    }
}

/// The change and how far it is; none for those of runs that have ended.
fn describe(context: &WaitContext<'_>, sweep: &OpenSweep, task: Option<&task::Model>) -> Option<String> {
    let name = task.map_or("a task", |task| task.name.as_str());
    let recipients = context.run.audience_count;
    Some(match sweep.kind {
        SweepKind::Audience => format!("its audience is being stored: {recipients} recipients so far"),
        SweepKind::FanOut => {
            let created = task.map_or(0, |task| task.counts().total());
            format!("{name}: steps are being created: {created} so far, for {recipients} recipients")
        }
        SweepKind::Approve => format!("drafts are being approved: {} left", sweep.drafts),
        SweepKind::Redraft => format!("rejected drafts are being queued again: {} left", sweep.drafts),
        SweepKind::Retry => {
            let left = task.map_or(0, |task| task.failed);
            format!("{name}: failed steps are being queued again: {left} left")
        }
        SweepKind::Follow => format!("{name}: steps that were skipped are being queued again"),
        SweepKind::Cancel | SweepKind::Close | SweepKind::Unsubscribe | SweepKind::Erase => return None,
    })
}
