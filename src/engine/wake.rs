//! Wakes the engine's loops: each second, and after the commits that may have given them work.
//!
//! A commit that wakes too many loops costs each a look at its queue; one that wakes too few costs a
//! second, until the next tick. So only events that certainly queue nothing are left out.

use std::time::Duration;

use tokio::sync::watch;

use super::EngineContext;
use crate::kernel::clock::Clock;
use crate::kernel::event::Event;
use crate::kernel::limits;

/// The signals that wake or stop a loop.
#[derive(Debug)]
pub(crate) struct Wake {
    commit: watch::Receiver<()>,
    tick: watch::Receiver<()>,
    clock: Clock,
    stop: watch::Receiver<bool>,
}

impl Wake {
    /// The signals of a loop that these commits concern.
    pub(super) fn new(
        context: &EngineContext,
        tick: &watch::Sender<()>,
        stop: &watch::Sender<bool>,
        concerns: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            commit: context.db.commits().concerning(concerns),
            tick: tick.subscribe(),
            clock: context.clock.clone(),
            stop: stop.subscribe(),
        }
    }

    /// Marks all signals as seen. Called before reading work, so that whatever happens from then
    /// on wakes the next wait.
    pub(crate) fn mark_seen(&mut self) {
        self.commit.mark_unchanged();
        self.tick.mark_unchanged();
    }

    /// Waits for a signal; `false` if the loop is to stop.
    pub(crate) async fn wait(&mut self) -> bool {
        if *self.stop.borrow() {
            return false;
        }
        tokio::select! {
            _ = self.commit.changed() => {}
            _ = self.tick.changed() => {}
            () = self.clock.moved() => {}
            () = tokio::time::sleep(limits::POLL) => {}
            _ = self.stop.changed() => {}
        }
        // Commits come close together: one read serves all of them.
        self.pause(limits::COLLECT_DELAY).await
    }

    /// Sleeps for a while; `false` if the loop is to stop.
    pub(crate) async fn pause(&mut self, time: Duration) -> bool {
        let _ = tokio::time::timeout(time, self.stop.wait_for(|stop| *stop)).await;
        !*self.stop.borrow()
    }

    /// True if the engine is stopping.
    pub(crate) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// True if an event may queue steps of this kind.
pub fn queues_step(event: &Event, kind: &str) -> bool {
    may_queue(event) && event.step_kind().is_none_or(|queued| queued == kind)
}

/// True if an event may queue steps for built-in agents, which do steps of several kinds.
pub fn queues_any_step(event: &Event) -> bool {
    may_queue(event)
}

/// True if an event may queue messages that people have released.
pub fn queues_message(event: &Event) -> bool {
    may_queue(event) && event.step_kind().is_none()
}

/// True if an event may give the loop of runs work: a run, a schedule, a phase or a
/// record has changed. Sweeps of runs wake all loops themselves.
pub fn concerns_runs(event: &Event) -> bool {
    may_queue(event) && !matches!(noun(event), "step" | "task" | "communication")
}

/// True if an event may give the loop of bulk actions work.
pub fn concerns_bulk_actions(event: &Event) -> bool {
    noun(event) == "bulk_action"
}

/// True for no event: the loop's work comes with time alone, as the end of a lease does.
pub fn by_time_alone(_: &Event) -> bool {
    false
}

/// True unless the event certainly queues nothing: what follows it has an event of its own.
fn may_queue(event: &Event) -> bool {
    match event.kind() {
        "step.approval_given"
        | "step.approved"
        | "step.assigned"
        | "step.awaiting_approval"
        | "step.completed"
        | "step.failed"
        | "step.overdue"
        | "step.records_refreshed"
        | "step.skipped"
        | "step.started" => false,
        "task.blocked" | "task.completed" | "task.failed" | "task.skipped" | "task.started" => false,
        "communication.cancelled"
        | "communication.drafted"
        | "communication.edited"
        | "communication.failed"
        | "communication.rejected"
        | "communication.sending"
        | "communication.sent"
        | "communication.suppressed"
        | "communication.unknown" => false,
        _ => !matches!(noun(event), "activity" | "audit" | "follow_up" | "meeting" | "run_note" | "saved_view"),
    }
}

/// The noun of an event's kind.
fn noun(event: &Event) -> &str {
    event.kind().split('.').next().unwrap_or_default()
}
