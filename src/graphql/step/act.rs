//! What people do from within a step of guided work that is in progress.

use async_graphql::{Context, ID, InputObject, Json, Object, Result, SimpleObject};
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

/// What is written, and to whom.
#[derive(InputObject)]
pub struct StepEmailInput {
    /// From within which step; it is in progress.
    step_id: ID,
    /// To these records, at most 500.
    record_ids: Vec<ID>,
    /// The subject, with placeholders like `{{ name }}` …
    subject: Option<String>,
    /// … and the text; both, or neither.
    body: Option<String>,
    /// In place of both: a message template, by id or name. Without either: as the step says.
    message_template: Option<String>,
    /// Whether an address that this step has written to is written to once more; false unless said.
    again: Option<bool>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same objects.
    idempotency_key: Option<String>,
}

/// What was let out.
#[derive(SimpleObject)]
pub struct StepEmailPayload {
    /// The step as it is now; what goes out is counted in its result as it does.
    step: Step,
    /// The mails; they go by themselves from now on.
    communications: Vec<Communication>,
}

/// Which step looks again.
#[derive(InputObject)]
pub struct RefreshStepRecordsInput {
    /// Which one; it is in progress.
    step_id: ID,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// A step as it is now.
#[derive(SimpleObject)]
pub struct StepRecordsTaken {
    /// The step, with its list of now.
    step: Step,
}

/// A record's new stage.
#[derive(InputObject)]
pub struct StageChangeInput {
    /// Which record.
    record_id: ID,
    /// The stage; one of the pipeline of its kind, where there is one.
    stage: String,
}

/// Which records move.
#[derive(InputObject)]
pub struct UpdateStepStageInput {
    /// From within which step; it is in progress.
    step_id: ID,
    /// The records and their new stages, at most 500.
    changes: Vec<StageChangeInput>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same objects.
    idempotency_key: Option<String>,
}

/// What was done to records.
#[derive(SimpleObject)]
pub struct StepRecordsPayload {
    /// The step as it is now.
    step: Step,
    /// The records as they are now.
    records: Vec<Record>,
}

/// Who is invited: a record, or somebody by address.
#[derive(InputObject)]
pub struct AttendeeInput {
    /// The record …
    record_id: Option<ID>,
    /// … or an address; with a record, another than its own.
    email: Option<String>,
    /// The name; the record's unless said.
    name: Option<String>,
}

/// What is booked.
#[derive(InputObject)]
pub struct ScheduleStepMeetingInput {
    /// From within which step; it is in progress.
    step_id: ID,
    /// What it is about.
    title: String,
    /// More about it.
    description: Option<String>,
    /// Where.
    location: Option<String>,
    /// From, in the future.
    starts_at: DateTime<Utc>,
    /// For how many minutes; 30 unless said.
    minutes: Option<i32>,
    /// The IANA zone that it is shown in; UTC unless said.
    timezone: Option<String>,
    /// Who is invited, 1 to 100.
    attendees: Vec<AttendeeInput>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be done later.
#[derive(InputObject)]
pub struct CreateStepFollowUpInput {
    /// From within which step; it is in progress.
    step_id: ID,
    /// What is to be done.
    title: String,
    /// More about it.
    note: Option<String>,
    /// The record that it is about.
    record_id: Option<ID>,
    /// By when.
    due_at: Option<DateTime<Utc>>,
    /// The member who is to do it; anybody unless said.
    assignee_id: Option<ID>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is written down.
#[derive(InputObject)]
pub struct AddStepNoteInput {
    /// From within which step; it is in progress.
    step_id: ID,
    /// The text.
    text: String,
    /// The records that it is about, at most 500; about none unless said.
    record_ids: Option<Vec<ID>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same objects.
    idempotency_key: Option<String>,
}

/// What was written down.
#[derive(SimpleObject)]
pub struct StepNotePayload {
    /// The step as it is now.
    step: Step,
    /// The notes: one for each record that they are about, or one about none.
    activities: Vec<Activity>,
}

/// A record that is made.
#[derive(InputObject)]
pub struct StepRecordInput {
    /// `lead`, `partnership` …; the kind that the step makes unless said.
    kind: Option<String>,
    /// Its id where it comes from; unique per kind.
    external_id: Option<String>,
    /// The name.
    name: String,
    /// The mail address.
    email: Option<String>,
    /// The telephone number, E.164.
    phone: Option<String>,
    /// The IANA time zone.
    time_zone: Option<String>,
    /// The stage in its pipeline.
    stage: Option<String>,
    /// Everything else, a flat object.
    attributes: Option<Json<serde_json::Value>>,
}

/// Which records are made.
#[derive(InputObject)]
pub struct CreateStepRecordsInput {
    /// From within which step; it is of the type `custom`, and in progress.
    step_id: ID,
    /// The records, at most 100.
    records: Vec<StepRecordInput>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same objects.
    idempotency_key: Option<String>,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct StepWorkMutation;

#[Object]
impl StepWorkMutation {
    /// Sends mail to one record or many, through the same ledger, suppression and limits as a campaign's. All or none are let
    /// out; each is counted in the step's result when it has gone. Refused with NOT_FOUND; CONFLICT where the step is not in
    /// progress, or has written to one of the addresses (`recordId`, `sentBy`, `sentAt`) and `again` is not true;
    /// BAD_USER_INPUT naming the record without an address, or for which a placeholder has no value.
    async fn send_step_email(&self, ctx: &Context<'_>, input: StepEmailInput) -> Result<StepEmailPayload> {
        let letter = GuidedMail {
            step_id: validate::id("stepId", &input.step_id)?,
            record_ids: validate::ids(&input.record_ids, "input", "recordIds")?,
            subject: input.subject,
            body: input.body,
            message_template: input.message_template,
            again: input.again.unwrap_or(false),
        };
        let sent = idempotent!(ctx, input.idempotency_key, |db| Box::pin(mail::send(db, viewer(ctx), &letter)), |id| {
            Box::pin(mail::again(db, viewer(ctx), id))
        });
        let communications = sent.into_iter().map(Communication).collect();
        Ok(StepEmailPayload { step: step(ctx, letter.step_id).await?, communications })
    }

    /// Takes the list of records that a step is about anew, as its `config` says now. Refused with NOT_FOUND; CONFLICT where
    /// the step is not in progress, or is about no records.
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

    /// Moves records to other stages; those that are there already stay as they are. All or none. Refused with NOT_FOUND;
    /// CONFLICT where the step is not in progress; BAD_USER_INPUT for a stage that the pipeline does not have.
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
                // It names the step; what was moved is what is asked for again.
                let _: StepId = step_id;
                Box::pin(record::find_all(db.read(), viewer(ctx), &ids))
            }
        );
        Ok(StepRecordsPayload { step: step(ctx, id).await?, records: records.into_iter().map(Record).collect() })
    }

    /// Books a meeting, and sends an invitation (RFC 5545) to who is invited; `moveMeeting` and `cancelMeeting` send updates.
    /// Meetings at the same time are shown in `conflicts`, and no hindrance; a second one from the same step, with the same
    /// guest and the same beginning, is refused with CONFLICT. Refused with NOT_FOUND; CONFLICT where the step
    /// is not in progress; BAD_USER_INPUT.
    async fn schedule_step_meeting(
        &self,
        ctx: &Context<'_>,
        input: ScheduleStepMeetingInput,
    ) -> Result<MeetingPayload> {
        let guest = |(i, given): (usize, AttendeeInput)| -> Result<meeting::Invitee> {
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
            guests: input.attendees.into_iter().enumerate().map(guest).collect::<Result<_>>()?,
        };
        let row =
            idempotent!(ctx, input.idempotency_key, |db| Box::pin(meeting::book(db, viewer(ctx), &booking)), |id| {
                meeting::must_find(db.read(), viewer(ctx), id)
            });
        Ok(MeetingPayload { meeting: Meeting(row) })
    }

    /// Sets a follow-up; when its time has passed while it is open, `follow_up.overdue` is announced. Refused with NOT_FOUND;
    /// CONFLICT where the step is not in progress; BAD_USER_INPUT.
    async fn create_step_follow_up(
        &self,
        ctx: &Context<'_>,
        input: CreateStepFollowUpInput,
    ) -> Result<FollowUpPayload> {
        let wanted = follow_up::FollowUpDraft {
            step_id: validate::id("stepId", &input.step_id)?,
            record_id: input.record_id.map(|id| validate::id("recordId", &id)).transpose()?,
            title: input.title,
            note: input.note.unwrap_or_default(),
            due_at: input.due_at.map(|at| chrono::SubsecRound::trunc_subsecs(at, 6)),
            assignee: input.assignee_id.map(|id| validate::id("assigneeId", &id)).transpose()?,
        };
        let row =
            idempotent!(ctx, input.idempotency_key, |db| Box::pin(follow_up::create(db, viewer(ctx), &wanted)), |id| {
                follow_up::must_find(db.read(), viewer(ctx), id)
            });
        Ok(FollowUpPayload { follow_up: FollowUp(row) })
    }

    /// Writes something down, about records or about none. Refused with NOT_FOUND; CONFLICT where the step is not in
    /// progress; BAD_USER_INPUT for an empty text.
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

    /// Makes records, from within a step of the type `custom`. All or none. Refused with NOT_FOUND; CONFLICT where the step is
    /// not in progress or not `custom`, or there is such a record; BAD_USER_INPUT naming the record and the field.
    async fn create_step_records(
        &self,
        ctx: &Context<'_>,
        input: CreateStepRecordsInput,
    ) -> Result<StepRecordsPayload> {
        let id = validate::id::<StepId>("stepId", &input.step_id)?;
        let fields = input.records.into_iter().map(|given| record::Fields {
            kind: given.kind,
            external_id: given.external_id,
            name: Some(given.name),
            email: given.email.map(Some),
            phone: given.phone.map(Some),
            time_zone: given.time_zone.map(Some),
            stage: given.stage.map(Some),
            attributes: given.attributes.map(|attributes| attributes.0),
            ..record::Fields::default()
        });
        let fields: Vec<record::Fields> = fields.collect();
        let records =
            idempotent!(ctx, input.idempotency_key, |db| Box::pin(notes::create(db, viewer(ctx), id, &fields)), |id| {
                Box::pin(notes::created(db, viewer(ctx), id))
            });
        Ok(StepRecordsPayload { step: step(ctx, id).await?, records: records.into_iter().map(Record).collect() })
    }
}

async fn step(ctx: &Context<'_>, id: StepId) -> Result<Step> {
    Ok(Step(Box::pin(steps::must_find(db(ctx).read(), viewer(ctx), id)).await?))
}
