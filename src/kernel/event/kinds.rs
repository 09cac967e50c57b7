//! The reserved nouns and kinds of events that Sortie writes.
//!
//! Clients cannot raise events of these nouns, so a reader of the log can trust them; `raiseEvent`
//! takes all other nouns.

use crate::kernel::error::{Refusal, Result};
use crate::kernel::validate;

/// The reserved nouns: tables and the processes that change them, including those without events so
/// far.
pub const NOUNS: &[&str] = &[
    "activity",
    "agent",
    "api_key",
    "approval",
    "audit",
    "bulk_action",
    "campaign",
    "cell",
    "channel",
    "communication",
    "delivery",
    "engine",
    "event",
    "follow_up",
    "goal",
    "import",
    "manifest",
    "meeting",
    "member",
    "message_template",
    "occurrence",
    "org",
    "phase",
    "posting",
    "recipient",
    "record",
    "record_link",
    "reply",
    "reviewer",
    "run",
    "run_note",
    "run_template",
    "saved_view",
    "schedule",
    "segment",
    "sender",
    "sortie",
    "stage",
    "step",
    "suppression",
    "sweep",
    "task",
    "webhook",
    "webhook_endpoint",
    "worker",
    "writer",
];

/// The kinds of events that Sortie writes. Every noun that can be deleted has `noun.deleted`, too.
pub const KINDS: &[&str] = &[
    "activity.recorded",
    "agent.created",
    "agent.updated",
    "api_key.created",
    "api_key.revoked",
    "bulk_action.completed",
    "bulk_action.created",
    "bulk_action.progressed",
    "bulk_action.started",
    "bulk_action.stopped",
    "campaign.approved",
    "campaign.archived",
    "campaign.cancelled",
    "campaign.completed",
    "campaign.created",
    "campaign.failed",
    "campaign.paused",
    "campaign.rejected",
    "campaign.reopened",
    "campaign.resumed",
    "campaign.submitted",
    "campaign.tagged",
    "campaign.unarchived",
    "campaign.updated",
    "communication.approved",
    "communication.cancelled",
    "communication.drafted",
    "communication.edited",
    "communication.failed",
    "communication.readdressed",
    "communication.rejected",
    "communication.sending",
    "communication.sent",
    "communication.suppressed",
    "communication.unknown",
    "follow_up.cancelled",
    "follow_up.completed",
    "follow_up.created",
    "follow_up.overdue",
    "follow_up.reopened",
    "goal.created",
    "goal.updated",
    "meeting.booked",
    "meeting.cancelled",
    "meeting.moved",
    "member.created",
    "member.updated",
    "message_template.created",
    "message_template.updated",
    "phase.completed",
    "phase.failed",
    "phase.reset",
    "phase.skipped",
    "phase.started",
    "record.created",
    "record.erased",
    "record.erasure_completed",
    "record.linked",
    "record.stage_changed",
    "record.unlinked",
    "record.unsubscribed",
    "record.updated",
    "reply.assigned",
    "reply.handled",
    "reply.ignored",
    "reply.received",
    "reply.reopened",
    "reviewer.created",
    "reviewer.updated",
    "run.cancelled",
    "run.completed",
    "run.created",
    "run.failed",
    "run.outcome_corrected",
    "run.paused",
    "run.queued",
    "run.rescheduled",
    "run.resumed",
    "run.scheduled",
    "run.started",
    "run.updated",
    "run_note.created",
    "run_note.updated",
    "run_template.created",
    "run_template.updated",
    "saved_view.created",
    "saved_view.updated",
    "schedule.buffered",
    "schedule.created",
    "schedule.ended",
    "schedule.fired",
    "schedule.missed",
    "schedule.paused",
    "schedule.resumed",
    "schedule.skipped",
    "schedule.updated",
    "segment.created",
    "segment.updated",
    "sortie.demo_made",
    "stage.set",
    "step.added",
    "step.approval_given",
    "step.approved",
    "step.assigned",
    "step.awaiting_approval",
    "step.completed",
    "step.failed",
    "step.overdue",
    "step.queued",
    "step.records_refreshed",
    "step.rejected",
    "step.reset",
    "step.retried",
    "step.skipped",
    "step.started",
    "suppression.created",
    "suppression.deleted",
    "sweep.begun",
    "task.blocked",
    "task.completed",
    "task.failed",
    "task.reset",
    "task.skipped",
    "task.started",
    "task.steps_created",
    "task.steps_reordered",
    "writer.created",
    "writer.updated",
];

/// The event kind's second part when an object is deleted.
const DELETED: &str = "deleted";

/// True if events of this kind can occur: one of ours, or one that clients may raise.
pub fn may_come(kind: &str) -> bool {
    match kind.split_once('.') {
        _ if kind.contains('*') => false,
        Some((noun, what)) if NOUNS.contains(&noun) => what == DELETED || KINDS.contains(&kind),
        Some((noun, what)) => !noun.is_empty() && !what.is_empty(),
        None => false,
    }
}

/// The given kinds, with all of a noun's in place of `noun.*`. Errors: BAD_USER_INPUT for one that
/// cannot occur, and for `*` of a noun whose events clients raise: their kinds are not known.
pub fn expanded(field: &str, kinds: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for kind in kinds {
        match kind.strip_suffix(".*") {
            Some(noun) => {
                let of_noun = of_noun(noun);
                if of_noun.is_empty() {
                    return Err(refusal(field, kind).into());
                }
                all.extend(of_noun.into_iter().map(str::to_owned));
                all.push(format!("{noun}.{DELETED}"));
            }
            None => all.push(kind.clone()),
        }
    }
    check(field, all.iter())?;
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The kinds of one of the reserved nouns.
fn of_noun(noun: &str) -> Vec<&'static str> {
    KINDS.iter().copied().filter(|known| known.split('.').next() == Some(noun)).collect()
}

/// Rejects kinds that cannot occur. Errors: BAD_USER_INPUT.
pub fn check<'a>(field: &str, mut kinds: impl Iterator<Item = &'a String>) -> Result<()> {
    match kinds.find(|kind| !may_come(kind)) {
        Some(kind) => Err(refusal(field, kind).into()),
        None => Ok(()),
    }
}

/// The error for a kind that cannot occur: it lists the kinds of its noun, or explains the form of
/// a kind.
fn refusal(field: &str, kind: &str) -> Refusal {
    let noun = kind.split('.').next().unwrap_or_default();
    let of_noun = of_noun(noun);
    let hint = match of_noun.is_empty() {
        true => "a kind is a noun and what happened, like step.completed or payment.received".to_owned(),
        false => format!("the kinds of `{noun}` are {}", of_noun.join(", ")),
    };
    Refusal::input(field, format!("there are no events of the kind `{}`; {hint}", validate::printable(kind)))
}

/// True if a kind, `noun.what_happened`, has a reserved noun.
pub fn is_ours(kind: &str) -> bool {
    kind.split_once('.').is_some_and(|(noun, _)| NOUNS.contains(&noun))
}
