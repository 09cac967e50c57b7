//! One id type per noun: a UUIDv7 that is shown as a TypeID (`run_01h455vb4pex5vsknk084sn02q`).
//!
//! The prefix distinguishes an id of the wrong type from a missing row, and the types prevent ids
//! from being swapped.

use sea_orm::DeriveValueType;
use type_safe_id::{DynamicType, TypeSafeId};
use uuid::Uuid;

/// Operations of every id type.
pub trait Id: Copy + Eq + std::fmt::Display + std::str::FromStr<Err = InvalidId> + Send + Sync + 'static {
    /// Prefix before the underscore.
    const PREFIX: &'static str;
    /// Returns the underlying UUID.
    fn uuid(self) -> Uuid;
    /// Wraps a UUID that is known to be of this noun.
    fn from_uuid(uuid: Uuid) -> Self;
}

/// A text that is not an id with the expected prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    /// The text as received.
    pub given: String,
    /// The expected prefix.
    pub wanted: &'static str,
}

impl std::fmt::Display for InvalidId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: String = self.given.chars().take(64).collect();
        write!(
            f,
            "`{shown}` is not the id of {} {}: it should look like {}_01h455vb4pex5vsknk084sn02q",
            article(self.wanted),
            self.wanted.replace('_', " "),
            self.wanted
        )
    }
}

impl std::error::Error for InvalidId {}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Splits an id of any type into prefix and UUID; `None` if the text is not an id.
pub fn prefix_of(text: &str) -> Option<(String, Uuid)> {
    // The crate truncates longer texts at a byte, which may be in the middle of a character.
    if !text.is_ascii() {
        return None;
    }
    let id: TypeSafeId<DynamicType> = text.parse().ok()?;
    Some((id.type_prefix().to_string(), id.uuid()))
}

fn format_id(prefix: &'static str, uuid: Uuid) -> String {
    // The prefixes are the literals below, all of which are valid.
    match DynamicType::new(prefix) {
        Ok(kind) => TypeSafeId::from_type_and_uuid(kind, uuid).to_string(),
        Err(_) => format!("{prefix}_{uuid}"),
    }
}

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, DeriveValueType)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Creates an id; ids created by one process increase with time.
            #[expect(clippy::new_without_default, reason = "a default id would be random")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl sea_orm::TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
                Err(sea_orm::DbErr::ConvertFromU64(stringify!($name)))
            }
        }

        impl crate::columns::Blank for $name {
            fn blank() -> Self {
                Self(Uuid::nil())
            }
        }

        impl Id for $name {
            const PREFIX: &'static str = $prefix;
            fn uuid(self) -> Uuid {
                self.0
            }
            fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&format_id($prefix, self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match prefix_of(text) {
                    Some((prefix, uuid)) if prefix == $prefix => Ok(Self(uuid)),
                    _ => Err(InvalidId { given: text.to_owned(), wanted: $prefix }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A tenant.
    OrgId = "org";
    /// A person of an org.
    MemberId = "member";
    /// An API key.
    ApiKeyId = "api_key";
    /// A requested mutation.
    AuditId = "audit";
    /// The goal of campaigns.
    GoalId = "goal";
    /// The source of content.
    WriterId = "writer";
    /// A reviewer, who approves content.
    ReviewerId = "reviewer";
    /// A subject and body with placeholders.
    MessageTemplateId = "message_template";
    /// One version of a message template.
    MessageTemplateVersionId = "message_template_version";
    /// One version of a writer.
    WriterVersionId = "writer_version";
    /// A saved audience.
    SegmentId = "segment";
    /// A record, the object of the work.
    RecordId = "record";
    /// A link from one record to another.
    RecordLinkId = "record_link";
    /// A campaign.
    CampaignId = "campaign";
    /// One version of a campaign.
    CampaignVersionId = "campaign_version";
    /// An approval of a campaign.
    CampaignApprovalId = "campaign_approval";
    /// One execution of a campaign, or a work session.
    RunId = "run";
    /// A note about a run.
    RunNoteId = "run_note";
    /// A recipient: one record's entry in a run's audience.
    RunRecordId = "run_record";
    /// A stage of a run.
    PhaseId = "phase";
    /// A unit of work within a phase.
    TaskId = "task";
    /// The atomic unit of work.
    StepId = "step";
    /// One message to one record.
    CommunicationId = "communication";
    /// A reply to a message.
    ReplyId = "reply";
    /// A schedule that starts runs.
    ScheduleId = "schedule";
    /// A stretch of a schedule's occurrences that did not start.
    UnfiredId = "unfired";
    /// A suppressed address.
    SuppressionId = "suppression";
    /// A large change applied in chunks.
    SweepId = "sweep";
    /// An action on many runs or steps.
    BulkActionId = "bulk_action";
    /// The structure of runs.
    RunTemplateId = "run_template";
    /// A worker that claims steps.
    AgentId = "agent";
    /// An import of a file of records.
    ImportId = "import";
    /// An action taken within a step of guided work, or a call in a campaign's run.
    ActivityId = "activity";
    /// A to-do with a due time.
    FollowUpId = "follow_up";
    /// A meeting.
    MeetingId = "meeting";
    /// A stage of a pipeline.
    StageId = "stage";
    /// A saved view of a page of a front end.
    SavedViewId = "saved_view";
}
