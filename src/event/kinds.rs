//! The nouns whose events Sortie writes. What it writes nobody else may raise: a reader of the log can believe an event of
//! one of these nouns, and `raiseEvent` takes all others.

/// The reserved nouns, of the tables and of what moves them; also those of which there are no events yet.
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

/// Whether a kind, `noun.what_happened`, is of a noun of ours.
pub fn is_ours(kind: &str) -> bool {
    kind.split_once('.').is_some_and(|(noun, _)| NOUNS.contains(&noun))
}
