//! The columns that may hold something personal, in the order in which they are emptied. A column
//! that is not here is an id, a status, a time, a number, or a definition that members wrote
//! (docs/erasure.md).

use entity::id::{self, Id};
use uuid::Uuid;

use crate::kernel::db::dialect::Type;

/// Replacement of a column's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Null.
    Null,
    /// The empty text.
    Blank,
    /// `[erased]`, unless it is blank.
    Mark,
    /// The digest of the text, which stays unique.
    Digest,
    /// The text without the person's name and addresses.
    Words,
    /// Null if the text names the person.
    NullIfNamed,
    /// The empty text if the text names the person.
    BlankIfNamed,
    /// The digest if the text names the person.
    DigestIfNamed,
    /// `[erased]` if the person attends the meeting; else as `Words`.
    MarkOfAttendee,
    /// Null if the person attends the meeting.
    NullOfAttendee,
    /// JSON without its texts and numbers, except ids, times and codes.
    Empty,
    /// JSON without the person's name and addresses.
    JsonWords,
    /// A step's result; the context is its kind.
    Result,
    /// A recipient's reason: the code stays.
    Reason,
    /// A step's error; the context says whether the engine wrote it.
    Error,
    /// The payload of an event about the person; the context is its kind.
    Event,
    /// The payload of any other event; the context is its kind.
    OtherEvent,
    /// The input of a mutation; the context is its name.
    Input,
    /// The attendees of a meeting.
    Attendees,
}

/// Selection of rows: an SQL condition on `$1`, the record, and `$2`, the org.
pub(super) type Scope = &'static str;

/// One table, or some of its rows.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) table: &'static str,
    /// The columns by which the rows are walked: a key, or an index whose columns are.
    pub(super) keys: &'static [(&'static str, Type)],
    pub(super) scope: Scope,
    /// An expression that the rules need.
    pub(super) context: &'static str,
    pub(super) columns: &'static [(&'static str, Rule)],
    /// Shows the id of a row as the audit does, whose entries about the row are emptied with it.
    pub(super) shown: Option<fn(Uuid) -> String>,
    /// True for rows that other transactions change: they are locked.
    pub(super) locked: bool,
}

const ID: &[(&str, Type)] = &[("id", Type::Uuid)];
const POSITION: &[(&str, Type)] = &[("position", Type::Int)];
const RECORD: Scope = "record_id = $1 AND org_id = $2";
const ORG: Scope = "org_id = $2";
/// The runs that have worked on the record.
macro_rules! runs {
    ($($more:literal),*) => {
        concat!(
            "org_id = $2 ", $($more,)*
            " IN (SELECT run_id FROM run_record WHERE record_id = $1 UNION SELECT run_id FROM activity WHERE record_id = $1 \
             UNION SELECT run_id FROM follow_up WHERE record_id = $1)"
        )
    };
}
/// Campaigns for this record alone.
const CAMPAIGN: Scope = "org_id = $2 AND campaign_id IN (SELECT id FROM campaign WHERE record_id = $1)";

const fn part(table: &'static str, scope: Scope, columns: &'static [(&'static str, Rule)]) -> Part {
    Part { table, keys: ID, scope, context: "''", columns, shown: None, locked: false }
}

const fn locked(table: &'static str, scope: Scope, columns: &'static [(&'static str, Rule)]) -> Part {
    Part { locked: true, ..part(table, scope, columns) }
}

fn show<I: Id>(id: Uuid) -> String {
    I::from_uuid(id).to_string()
}

/// All parts, in order.
pub(super) const PARTS: &[Part] = &[
    Part { shown: Some(show::<id::RecordId>), ..part("record", "id = $1 AND org_id = $2", &[]) },
    locked("run_record", RECORD, &[("address", Rule::Null), ("address_key", Rule::Null), ("reason", Rule::Reason)]),
    Part {
        shown: Some(show::<id::CommunicationId>),
        ..locked(
            "communication",
            // One that is being handed over is emptied by the next pass.
            "record_id = $1 AND org_id = $2 AND status <> 'SENDING'",
            &[
                ("to_address", Rule::Blank),
                ("to_name", Rule::Blank),
                ("subject", Rule::Mark),
                ("body", Rule::Mark),
                ("search", Rule::Null),
                ("calendar", Rule::Null),
                ("rejected_because", Rule::Mark),
                ("error", Rule::Words),
            ],
        )
    },
    Part {
        shown: Some(show::<id::ReplyId>),
        ..locked(
            "reply",
            RECORD,
            &[
                ("external_id", Rule::Digest),
                ("subject", Rule::Mark),
                ("body", Rule::Mark),
                ("note", Rule::Mark),
                ("search", Rule::Blank),
            ],
        )
    },
    Part {
        shown: Some(show::<id::ActivityId>),
        ..locked("activity", RECORD, &[("summary", Rule::Mark), ("details", Rule::Empty)])
    },
    Part {
        shown: Some(show::<id::FollowUpId>),
        ..locked("follow_up", RECORD, &[("title", Rule::Mark), ("note", Rule::Mark)])
    },
    Part { shown: Some(show::<id::StepId>), context: "kind", ..locked("step", RECORD, &[("result", Rule::Result)]) },
    Part {
        context: "CASE WHEN reason = 'INTERRUPTED' OR (status = 'SKIPPED' AND CAST(completed_by AS text) LIKE '%ENGINE%') \
                  THEN 'ENGINE' ELSE '' END",
        ..locked("step", RECORD, &[("error", Rule::Error)])
    },
    Part {
        keys: POSITION,
        context: "kind",
        ..part("event", "record_id = $1 AND org_id = $2 AND position IS NOT NULL", &[("payload", Rule::Event)])
    },
    // Also of other records: what was written about several names them all.
    locked(
        "step",
        runs!("AND run_id"),
        &[("name", Rule::Words), ("search", Rule::Words), ("result", Rule::JsonWords), ("error", Rule::Words)],
    ),
    locked("activity", runs!("AND run_id"), &[("summary", Rule::Words), ("details", Rule::JsonWords)]),
    locked("follow_up", runs!("AND run_id"), &[("title", Rule::Words), ("note", Rule::Words)]),
    Part {
        keys: &[("run_id", Type::Uuid)],
        ..part(
            "brief",
            runs!("AND run_id"),
            &[("instructions", Rule::JsonWords), ("test", Rule::JsonWords), ("preflight", Rule::JsonWords)],
        )
    },
    // The structure of guided work is written for one session; that of a campaign for many people.
    Part {
        keys: &[("run_id", Type::Uuid)],
        ..part(
            "brief",
            runs!("AND run_id IN (SELECT id FROM run WHERE type = 'GUIDED') AND run_id"),
            &[("definition", Rule::JsonWords)],
        )
    },
    locked(
        "run",
        runs!("AND id"),
        &[
            ("name", Rule::Words),
            ("campaign_name", Rule::Words),
            ("description", Rule::Words),
            ("outcome", Rule::Words),
            ("failure", Rule::Words),
            ("search", Rule::Words),
        ],
    ),
    locked("run_note", runs!("AND run_id"), &[("text", Rule::Words)]),
    // Links of others: the person's own were removed at once.
    part("record_link", ORG, &[("role", Rule::DigestIfNamed)]),
    locked(
        "campaign",
        RECORD,
        &[
            ("name", Rule::Words),
            ("description", Rule::Words),
            ("instructions", Rule::Words),
            ("variables", Rule::JsonWords),
            ("rejected_because", Rule::Words),
            ("search", Rule::Words),
        ],
    ),
    Part {
        keys: &[("campaign_id", Type::Uuid), ("tag", Type::Text)],
        ..part("campaign_tag", CAMPAIGN, &[("tag", Rule::DigestIfNamed)])
    },
    part("campaign_version", CAMPAIGN, &[("changes", Rule::JsonWords)]),
    part("campaign_approval", CAMPAIGN, &[("approved", Rule::JsonWords)]),
    Part {
        shown: Some(show::<id::MeetingId>),
        context: "CAST(attendees AS text)",
        ..locked(
            "meeting",
            ORG,
            &[
                ("title", Rule::MarkOfAttendee),
                ("description", Rule::MarkOfAttendee),
                ("location", Rule::MarkOfAttendee),
                ("attendees", Rule::Attendees),
            ],
        )
    },
    // An attendee without a record, and the invitations to all.
    locked(
        "communication",
        "org_id = $2 AND meeting_id IS NOT NULL AND record_id IS NULL AND status <> 'SENDING'",
        &[("to_address", Rule::BlankIfNamed), ("to_name", Rule::Words), ("search", Rule::Words)],
    ),
    locked(
        "run_record",
        "record_id IS NULL AND id IN (SELECT run_record_id FROM communication WHERE org_id = $2 AND meeting_id IS NOT NULL \
         AND record_id IS NULL)",
        &[("address", Rule::NullIfNamed), ("address_key", Rule::NullIfNamed)],
    ),
    Part {
        keys: &[("meeting_id", Type::Uuid), ("id", Type::Uuid)],
        context: "(SELECT CAST(m.attendees AS text) FROM meeting m WHERE m.id = communication.meeting_id)",
        ..locked(
            "communication",
            // The others still get what waits for them.
            "org_id = $2 AND meeting_id IS NOT NULL AND status NOT IN ('SENDING', 'APPROVED')",
            &[
                ("subject", Rule::MarkOfAttendee),
                ("body", Rule::MarkOfAttendee),
                ("search", Rule::NullOfAttendee),
                ("calendar", Rule::NullOfAttendee),
            ],
        )
    },
    Part {
        keys: POSITION,
        context: "kind",
        ..part("event", "org_id = $2 AND position IS NOT NULL", &[("payload", Rule::OtherEvent)])
    },
    Part { context: "mutation", ..part("audit", ORG, &[("input", Rule::Input)]) },
    part(
        "import",
        ORG,
        &[("file", Rule::Words), ("failure", Rule::Words), ("warnings", Rule::JsonWords), ("columns", Rule::JsonWords)],
    ),
    Part {
        keys: &[("import_id", Type::Uuid), ("number", Type::Int)],
        ..part("import_problem", ORG, &[("value", Rule::Words), ("why", Rule::Words)])
    },
    Part {
        keys: &[("import_id", Type::Uuid), ("external_id", Type::Text)],
        ..part(
            "import_seen",
            "import_id IN (SELECT id FROM import WHERE org_id = $2)",
            &[("external_id", Rule::DigestIfNamed)],
        )
    },
    part("suppression", ORG, &[("reason", Rule::Words)]),
    part("schedule", ORG, &[("name", Rule::Words)]),
    locked(
        "saved_view",
        ORG,
        &[
            ("name", Rule::DigestIfNamed),
            ("filter", Rule::JsonWords),
            ("order_by", Rule::JsonWords),
            ("settings", Rule::JsonWords),
        ],
    ),
    part("bulk_action", ORG, &[("filter", Rule::JsonWords), ("reason", Rule::Words)]),
    Part {
        keys: &[("bulk_action_id", Type::Uuid), ("sequence", Type::Int)],
        ..part("bulk_result", ORG, &[("message", Rule::Words)])
    },
    Part { keys: &[("subject", Type::Uuid), ("work", Type::Text)], ..part("stuck", ORG, &[("error", Rule::Words)]) },
    Part {
        keys: &[("channel", Type::Text)],
        ..locked("channel_pause", ORG, &[("refused", Rule::JsonWords), ("error", Rule::Words)])
    },
    Part {
        keys: &[("asker", Type::Text), ("mutation", Type::Text), ("key", Type::Text)],
        ..part("idempotency_key", ORG, &[("detail", Rule::JsonWords), ("key", Rule::DigestIfNamed)])
    },
];
