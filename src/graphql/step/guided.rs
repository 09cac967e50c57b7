//! A step of guided work: what it shows, and what it would do.

use std::sync::Arc;

use async_graphql::connection::{Connection, Edge};
use async_graphql::{Context, ID, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::step;

use crate::domain::plan::run_template::guided::GuidedConfig;
use crate::domain::run::guided::suggestions::{self, Draft, Suggestion};
use crate::domain::run::guided::{self as noun};
use crate::graphql::counted::Node;
use crate::graphql::list::{List, Totals};
use crate::graphql::loader::{RecordActsOfStep, StartedSnapshotOfRun, StepRecordsOfStep, load, must_load};
use crate::graphql::record::Record;
use crate::graphql::{db, viewer};
use crate::kernel::page::{self, Args, Cursor, Key};

/// A mail that could be sent.
#[derive(SimpleObject)]
pub struct MailDraft {
    /// Where it would go; null: the record has no address.
    to: Option<String>,
    /// Its subject; empty where it can't be rendered.
    subject: String,
    /// Its text; empty where it can't be rendered.
    body: String,
    /// Why it can't go as it is; null where it can.
    problem: Option<String>,
}

impl From<Draft> for MailDraft {
    fn from(draft: Draft) -> Self {
        Self { to: draft.to, subject: draft.subject, body: draft.body, problem: draft.problem }
    }
}

/// A time in which neither who asks nor the record has a meeting.
#[derive(SimpleObject)]
pub struct FreeSlot {
    /// From.
    starts_at: DateTime<Utc>,
    /// Until.
    ends_at: DateTime<Utc>,
    /// The IANA zone of the working hours that it lies in.
    timezone: String,
}

/// What a step would do with one of its records; nothing is done.
#[derive(SimpleObject)]
pub struct StepSuggestion {
    /// The record.
    record: Record,
    /// Of a step of the type `email`: the draft; null for others.
    mail: Option<MailDraft>,
    /// Of `update_stage`: the stage that comes next; null for others, and where none does.
    stage: Option<String>,
    /// Of `schedule`: a free slot; null for others, and where there is none within four weeks.
    slot: Option<FreeSlot>,
    /// Of `schedule` and `create_task`: what it would be called; null for others.
    title: Option<String>,
    /// Of `create_task`: by when; null for others, and where no time is set.
    due_at: Option<DateTime<Utc>>,
}

impl StepSuggestion {
    fn of(record: entity::record::Model, found: Suggestion) -> Self {
        let slot =
            found.slot.map(|(starts_at, ends_at, zone)| FreeSlot { starts_at, ends_at, timezone: zone.to_string() });
        Self {
            record: Record(record),
            mail: found.mail.map(MailDraft::from),
            stage: found.stage,
            slot,
            title: found.title,
            due_at: found.due_at,
        }
    }
}

/// What was done with a record from within a step.
#[derive(SimpleObject)]
pub struct StepRecordDone {
    /// The record's id.
    record_id: ID,
    /// What was done with it, each kind once, in the order of doing.
    kinds: Vec<entity::ActivityKind>,
    /// The time of the last.
    at: DateTime<Utc>,
}

/// What was done with a step's records.
pub(super) async fn done(ctx: &Context<'_>, step: &step::Model) -> Result<Vec<StepRecordDone>> {
    let all = load(ctx, Some(RecordActsOfStep(step.id))).await?.unwrap_or_default();
    let each = all.into_iter().map(|one| StepRecordDone {
        record_id: one.record_id.to_string().into(),
        kinds: one.kinds,
        at: one.at,
    });
    Ok(each.collect())
}

/// When the step's list was taken; none while it is live.
pub(super) async fn taken_at(ctx: &Context<'_>, step: &step::Model) -> Result<Option<DateTime<Utc>>> {
    Ok(load(ctx, Some(StepRecordsOfStep(step.id))).await?.map(|list| list.created_at))
}

/// What a step shows and offers; none for a step of a campaign's run.
async fn guide(ctx: &Context<'_>, step: &step::Model) -> Result<Option<(entity::run::Model, GuidedConfig)>> {
    let run = must_load(ctx, step.run_id).await?;
    if run.run_type != entity::RunType::Guided {
        return Ok(None);
    }
    let snapshot = must_load(ctx, StartedSnapshotOfRun(step.run_id)).await?;
    let guide = crate::domain::run::snapshot::step(&snapshot.definition, &step.key).map(GuidedConfig::of);
    let guide = guide.transpose().map_err(crate::kernel::error::Error::ours)?.unwrap_or_default();
    Ok(Some((run, guide)))
}

/// The records that a step is about, now; none where it is about none.
pub(super) async fn records(
    ctx: &Context<'_>,
    step: &step::Model,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Option<List<Record>>> {
    let Some((run, guide)) = guide(ctx, step).await? else { return Ok(None) };
    let Some(found) = Box::pin(noun::step_records::of(db(ctx), viewer(ctx), &run, step, &guide)).await? else {
        return Ok(None);
    };
    let (count, _) = page::count(&Args { first, ..Args::default() })?;
    let fingerprint: Arc<str> = page::fingerprint(&("step.records", step.id))?.into();
    // They are few, and before the step's start evaluated anew: behind a record that is among them no more, there is nothing to go on from.
    let from = match &after {
        None => 0,
        Some(text) => {
            let (_, id) = Cursor::place("after", text, &fingerprint)?;
            let at = found.iter().position(|record| record.id.0 == id);
            let gone = "this record is no longer among the step's: read them anew";
            at.ok_or_else(|| crate::kernel::error::Refusal::input("after", gone))? + 1
        }
    };
    let total = found.len();
    let mut list = Connection::with_additional_fields(from > 0, from + count < total, Totals::Counted(total as u64));
    list.edges.extend(
        found
            .into_iter()
            .skip(from)
            .take(count)
            .map(|record| Edge::new(Cursor::new(fingerprint.clone(), Key::None, record.id.0), Node(Record(record)))),
    );
    Ok(Some(list))
}

/// What a step would do with each of its records, in their order.
pub(super) async fn suggestions(
    ctx: &Context<'_>,
    step: &step::Model,
    first: Option<i32>,
) -> Result<Vec<StepSuggestion>> {
    let Some((run, guide)) = guide(ctx, step).await? else { return Ok(Vec::new()) };
    let found = Box::pin(noun::step_records::of(db(ctx), viewer(ctx), &run, step, &guide)).await?;
    let Some(mut records) = found else { return Ok(Vec::new()) };
    let (count, _) = page::count(&Args { first, ..Args::default() })?;
    records.truncate(count);
    let all = Box::pin(suggestions::of(db(ctx), viewer(ctx), &step.kind, &guide, &records)).await?;
    Ok(records.into_iter().zip(all).map(|(record, found)| StepSuggestion::of(record, found)).collect())
}
