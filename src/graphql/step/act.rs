//! Mutations within a person's step that is in progress: email, stages, meetings, follow-ups, notes.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::{RecordId, StepId};

use super::Step;
use crate::domain::audience::record;
use crate::domain::run::guided::mail::{self, GuidedMail};
use crate::domain::run::guided::{notes, stages, step_records};
use crate::domain::run::step as steps;
use crate::domain::{follow_up, meeting};
use crate::graphql::activity::Activity;
use crate::graphql::communication::Communication;
use crate::graphql::follow_up::{FollowUp, FollowUpPayload};
use crate::graphql::meeting::{Meeting, MeetingPayload};
use crate::graphql::record::Record;
use crate::graphql::{db, viewer};
use crate::kernel::validate;

/// The email to send, and its recipients.
#[derive(InputObject)]
pub struct StepEmailInput {
    /// Id of the step, which is in progress.
    step_id: ID,
    /// Ids of the recipients, at most 500; in a campaign's run, records of its audience.
    record_ids: Vec<ID>,
    /// The subject, with placeholders like `{{ name }}`; requires `body`.
    subject: Option<String>,
    /// The text; requires `subject`.
    body: Option<String>,
    /// Message template, by id or name, instead of subject and body. Without any: as the step's
    /// config says.
    message_template: Option<String>,
    /// True to write again to addresses that this step has written to; false by default.
    again: Option<bool>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The queued emails.
#[derive(SimpleObject)]
pub struct StepEmailPayload {
    /// The step after the change; in guided work its result counts each email once it is sent.
    step: Step,
    /// The emails; they are sent in the background.
    communications: Vec<Communication>,
}

/// Identifies the step whose record list is refreshed.
#[derive(InputObject)]
pub struct RefreshStepRecordsInput {
    /// Id of the step, which is in progress.
    step_id: ID,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The refreshed step.
#[derive(SimpleObject)]
pub struct StepRecordsTaken {
    /// The step with its current record list.
    step: Step,
}

/// A new stage for a record.
#[derive(InputObject)]
pub struct StageChangeInput {
    /// Id of the record.
    record_id: ID,
    /// The stage; must be one of the pipeline of the record's kind, if there is one.
    stage: String,
}

/// New stages for records.
#[derive(InputObject)]
pub struct UpdateStepStageInput {
    /// Id of the step, which is in progress.
    step_id: ID,
    /// The records and their new stages, at most 500.
    changes: Vec<StageChangeInput>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The changed or created records.
#[derive(SimpleObject)]
pub struct StepRecordsPayload {
    /// The step after the change.
    pub(super) step: Step,
    /// The records after the change.
    pub(super) records: Vec<Record>,
}

/// An attendee: a record, or a person by address.
#[derive(InputObject)]
pub struct AttendeeInput {
    /// Id of the record; required without `email`.
    record_id: Option<ID>,
    /// Email address; with a record, overrides the record's address.
    email: Option<String>,
    /// Name; the record's name by default.
    name: Option<String>,
}

/// The meeting to book.
#[derive(InputObject)]
pub struct ScheduleStepMeetingInput {
    /// Id of the step, which is in progress.
    step_id: ID,
    /// Subject of the meeting.
    title: String,
    /// Further information.
    description: Option<String>,
    /// The place.
    location: Option<String>,
    /// Start time, in the future.
    starts_at: DateTime<Utc>,
    /// Duration in minutes; 30 by default.
    minutes: Option<i32>,
    /// IANA time zone in which its times are displayed; UTC by default.
    timezone: Option<String>,
    /// The attendees, 1 to 100; in a campaign's run, records of its audience.
    attendees: Vec<AttendeeInput>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The follow-up to create.
#[derive(InputObject)]
pub struct CreateStepFollowUpInput {
    /// Id of the step, which is in progress.
    step_id: ID,
    /// The to-do in a few words.
    title: String,
    /// Further notes.
    note: Option<String>,
    /// Id of the record that it is about.
    record_id: Option<ID>,
    /// Due time.
    due_at: Option<DateTime<Utc>>,
    /// Id of the member who is to do it; anybody by default.
    assignee_id: Option<ID>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The note to add.
#[derive(InputObject)]
pub struct AddStepNoteInput {
    /// Id of the step, which is in progress.
    step_id: ID,
    /// The text.
    text: String,
    /// Ids of the records that it is about, at most 500; none by default.
    record_ids: Option<Vec<ID>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The added notes.
#[derive(SimpleObject)]
pub struct StepNotePayload {
    /// The step after the change.
    step: Step,
    /// The notes: one per record, or a single one without a record.
    activities: Vec<Activity>,
}

/// Mutations within people's steps.
#[derive(Default)]
pub struct StepWorkMutation;

#[Object]
impl StepWorkMutation {
    /// Sends email to one or more records, subject to the same ledger, suppression and limits as a
    /// campaign's messages. All or none are queued; each has an activity when it is sent, and in guided
    /// work the step's result counts it. In a campaign's run, outcomes and progress go by the messages of
    /// its own steps alone. Rejected with NOT_FOUND; CONFLICT if the step is not in progress, its campaign
    /// is paused, or it has already written to an address (`recordId`, `sentBy`, `sentAt`) and `again` is
    /// not true; BAD_USER_INPUT naming the record that has no address, lacks a value for a placeholder, or
    /// is not in the audience of the campaign's run.
    async fn send_step_email(&self, ctx: &Context<'_>, input: StepEmailInput) -> Result<StepEmailPayload> {
        let letter = GuidedMail {
            step_id: validate::id("stepId", &input.step_id)?,
            record_ids: validate::ids(&input.record_ids, "input", "recordIds")?,
            subject: input.subject,
            body: input.body,
            message_template: input.message_template,
            is_repeat: input.again.unwrap_or(false),
        };
        let sent = idempotent!(ctx, input.idempotency_key, |db| Box::pin(mail::send(db, viewer(ctx), &letter)), |id| {
            Box::pin(mail::replay(db, viewer(ctx), id))
        });
        let communications = sent.into_iter().map(Communication).collect();
        Ok(StepEmailPayload { step: step(ctx, letter.step_id).await?, communications })
    }

    /// Refreshes a step's record list, as its `config` selects it now. Rejected with NOT_FOUND;
    /// CONFLICT if the step is not in progress, or is not about records.
    async fn refresh_step_records(
        &self,
        ctx: &Context<'_>,
        input: RefreshStepRecordsInput,
    ) -> Result<StepRecordsTaken> {
        let id = validate::id::<StepId>("stepId", &input.step_id)?;
        let taken = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(step_records::refresh(db, viewer(ctx), id)),
            |step_id| {
                let step_id: StepId = step_id;
                Box::pin(steps::must_find(db.read(), viewer(ctx), step_id))
            }
        );
        Ok(StepRecordsTaken { step: Step(taken) })
    }

    /// Moves records to other stages; records already there are unchanged. All or none. Rejected
    /// with NOT_FOUND; CONFLICT if the step is not in progress; BAD_USER_INPUT for a stage that the
    /// pipeline lacks.
    async fn update_step_stage(&self, ctx: &Context<'_>, input: UpdateStepStageInput) -> Result<StepRecordsPayload> {
        let id = validate::id::<StepId>("stepId", &input.step_id)?;
        let mut moves: Vec<(RecordId, String)> = Vec::new();
        for (i, change) in input.changes.iter().enumerate() {
            moves.push((validate::id(&format!("changes[{i}].recordId"), &change.record_id)?, change.stage.clone()));
        }
        let ids: Vec<RecordId> = moves.iter().map(|(id, _)| *id).collect();
        let records = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(stages::update(db, viewer(ctx), id, &moves)),
            |step_id| {
                // The stored result is the step's id; the records to return come from the repeated
                // request.
                let _: StepId = step_id;
                Box::pin(record::find_all(db.read(), viewer(ctx), &ids))
            }
        );
        Ok(StepRecordsPayload { step: step(ctx, id).await?, records: records.into_iter().map(Record).collect() })
    }

    /// Books a meeting and sends invitations (RFC 5545) to its attendees; `moveMeeting` and
    /// `cancelMeeting` send updates. Meetings at the same time appear in `conflicts` and are
    /// allowed; a second meeting from the same step with the same attendee and start time is
    /// rejected with CONFLICT. Rejected with NOT_FOUND; CONFLICT if the step is not in progress, or its
    /// campaign is paused; BAD_USER_INPUT, also for an attendee that is not in the audience of a
    /// campaign's run.
    async fn schedule_step_meeting(
        &self,
        ctx: &Context<'_>,
        input: ScheduleStepMeetingInput,
    ) -> Result<MeetingPayload> {
        let attendee = |(i, given): (usize, AttendeeInput)| -> Result<meeting::Invitee> {
            let record_id =
                given.record_id.map(|id| validate::id(&format!("attendees[{i}].recordId"), &id)).transpose()?;
            Ok(meeting::Invitee { record_id, email: given.email, name: given.name })
        };
        let booking = meeting::Booking {
            step_id: validate::id("stepId", &input.step_id)?,
            title: input.title,
            description: input.description.unwrap_or_default(),
            location: input.location.unwrap_or_default(),
            time: meeting::Time {
                starts_at: chrono::SubsecRound::trunc_subsecs(input.starts_at, 6),
                minutes: i64::from(input.minutes.unwrap_or(30)),
                time_zone: input.timezone.unwrap_or_else(|| "UTC".into()),
            },
            guests: input.attendees.into_iter().enumerate().map(attendee).collect::<Result<_>>()?,
        };
        let row =
            idempotent!(ctx, input.idempotency_key, |db| Box::pin(meeting::book(db, viewer(ctx), &booking)), |id| {
                meeting::must_find(db.read(), viewer(ctx), id)
            });
        Ok(MeetingPayload { meeting: Meeting(row) })
    }

    /// Creates a follow-up; if it is still open at its due time, `follow_up.overdue` is emitted.
    /// Rejected with NOT_FOUND; CONFLICT if the step is not in progress; BAD_USER_INPUT.
    async fn create_step_follow_up(
        &self,
        ctx: &Context<'_>,
        input: CreateStepFollowUpInput,
    ) -> Result<FollowUpPayload> {
        let draft = follow_up::FollowUpDraft {
            step_id: validate::id("stepId", &input.step_id)?,
            record_id: input.record_id.map(|id| validate::id("recordId", &id)).transpose()?,
            title: input.title,
            note: input.note.unwrap_or_default(),
            due_at: input.due_at.map(|at| chrono::SubsecRound::trunc_subsecs(at, 6)),
            assignee: input.assignee_id.map(|id| validate::id("assigneeId", &id)).transpose()?,
        };
        let row =
            idempotent!(ctx, input.idempotency_key, |db| Box::pin(follow_up::create(db, viewer(ctx), &draft)), |id| {
                follow_up::must_find(db.read(), viewer(ctx), id)
            });
        Ok(FollowUpPayload { follow_up: FollowUp(row) })
    }

    /// Adds a note, about records or about none. Rejected with NOT_FOUND; CONFLICT if the step is
    /// not in progress; BAD_USER_INPUT for an empty text.
    async fn add_step_note(&self, ctx: &Context<'_>, input: AddStepNoteInput) -> Result<StepNotePayload> {
        let id = validate::id::<StepId>("stepId", &input.step_id)?;
        let records: Vec<RecordId> = validate::ids(&input.record_ids.unwrap_or_default(), "input", "recordIds")?;
        let rows = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(notes::add(db, viewer(ctx), id, &records, &input.text)),
            |id| Box::pin(notes::noted(db, viewer(ctx), id))
        );
        Ok(StepNotePayload { step: step(ctx, id).await?, activities: rows.into_iter().map(Activity).collect() })
    }
}

pub(super) async fn step(ctx: &Context<'_>, id: StepId) -> Result<Step> {
    Ok(Step(Box::pin(steps::must_find(db(ctx).read(), viewer(ctx), id)).await?))
}
