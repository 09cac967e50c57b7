//! Steps of a run: lookups, paging, and the transitions of their state machine, each with its event
//! and its task's counters.

pub mod act;
pub mod assign;
mod call;
pub(crate) mod judge;
pub(crate) mod lease;
pub mod list;
mod neighbours;
mod outcome;
pub mod permissions;
mod ready;
pub mod transition;

use entity::id::*;
use entity::step::{Model, StepReason, StepStatus};
use entity::{Actor, run};
use serde_json::json;

use super::task::Counting;
use crate::domain::message::reply::{self, ON_REPLY};
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::event::{self, Event};
use crate::kernel::limits;

scoped!(step, StepId, "step");

pub use list::{StepFilter, window, window_in_order};
pub use permissions::{Action, StepContext, StepRows, check_allowed};
pub use transition::ActionInput;
pub(crate) use transition::apply;
pub(crate) use transition::set::{SetTransition, skip_open};

/// Reason for a step's status: a code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReasonText {
    /// The code.
    pub code: StepReason,
    /// The sentence.
    pub text: String,
}

impl ReasonText {
    /// Builds a reason from both.
    pub fn new(code: StepReason, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// A step whose status has changed.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The step after the change.
    pub(crate) step: Model,
    /// The previous status; none for a step that has just been created.
    pub(crate) from: Option<StepStatus>,
    /// Event kind.
    pub(crate) kind: &'static str,
    /// Sentence for people.
    pub(crate) reason: Option<String>,
}

/// Appends the events and updates the counters for changes made in this transaction, all in one
/// run, and marks the replies that completed steps handle as handled. Returns the tasks whose counters
/// changed.
pub(crate) async fn record_changes(
    tx: &Tx,
    run: &run::Model,
    actor: &Actor,
    changes: &[Change],
) -> Result<Vec<entity::task::Model>> {
    let mut counting = Counting::default();
    for change in changes {
        let step = &change.step;
        counting.moved(step.task_id, change.from, step.status);
        let from = change.from.unwrap_or(StepStatus::Pending);
        if change.from.is_none() && step.status == StepStatus::Pending {
            continue;
        }
        let closed_badly = matches!(step.status, StepStatus::Skipped | StepStatus::Failed);
        let has_reason = change.reason.is_some() || closed_badly;
        let mut payload = json!({
            "from": from,
            "to": step.status,
            "reason": change.reason,
            "reasonCode": step.reason.filter(|_| has_reason),
            "key": step.key,
            "name": step.name,
            "type": step.kind,
            "assignedTo": step.assigned_to,
            "attempt": step.attempt_count,
            "campaignName": run.campaign_name,
        });
        match step.status {
            // Only a small result goes into the event; the step holds the full one.
            StepStatus::Completed => {
                let small = |result: &&serde_json::Value| result.to_string().len() <= limits::EVENT_RESULT_BYTES;
                if let Some(result) = step.result.as_ref().filter(small) {
                    payload["result"] = result.clone();
                }
            }
            StepStatus::Failed => payload["error"] = json!(step.error),
            StepStatus::Pending if change.kind == "step.reset" => payload["formerResult"] = json!(step.result),
            _ => {}
        }
        event::append(tx, Event::new(run.org_id, change.kind, actor).run(run).step(step).payload(payload));
    }
    let done = |change: &&Change| change.step.status == StepStatus::Completed && change.step.trigger == ON_REPLY;
    let done: Vec<StepId> = changes.iter().filter(done).map(|change| change.step.id).collect();
    if !done.is_empty() {
        reply::status::handled_by_steps(tx, actor, run, done.into_iter()).await?;
    }
    counting.write(tx).await
}
