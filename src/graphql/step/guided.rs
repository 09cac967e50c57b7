//! The records of a person's step, activities per record, and suggestions.

use std::sync::Arc;

use async_graphql::{Context, ID, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::{record, step};
use futures_util::future::try_join_all;

use crate::domain::plan::run_template::guided::GuidedConfig;
use crate::domain::run::guided::suggestions::{self, Draft, Suggestion};
use crate::domain::run::guided::{self as noun, active_step};
use crate::graphql::connection::Connection;
use crate::graphql::counted::Node;
use crate::graphql::list::{List, Totals};
use crate::graphql::loader::{RecordActionsOfStep, StartedSnapshotOfRun, StepRecordsOfStep, load, must_load};
use crate::graphql::record::Record;
use crate::graphql::{db, viewer};
use crate::kernel::page::{self, Args, Cursor, Key};

/// A draft of an email.
#[derive(SimpleObject)]
pub struct MailDraft {
    /// The recipient's address; null if the record has none.
    to: Option<String>,
    /// The subject; empty if it cannot be rendered.
    subject: String,
    /// The text; empty if it cannot be rendered.
    body: String,
    /// Reason why it cannot be sent as it is; null if it can.
    problem: Option<String>,
}

impl From<Draft> for MailDraft {
    fn from(draft: Draft) -> Self {
        Self { to: draft.to, subject: draft.subject, body: draft.body, problem: draft.problem }
    }
}

/// A time without meetings of either the viewer or the record.
#[derive(SimpleObject)]
pub struct FreeSlot {
    /// Start time.
    starts_at: DateTime<Utc>,
    /// End time.
    ends_at: DateTime<Utc>,
    /// IANA time zone of the working hours.
    timezone: String,
}

/// The suggested action for one of a step's records; nothing is done.
#[derive(SimpleObject)]
pub struct StepSuggestion {
    /// The record.
    record: Record,
    /// Draft of a step of type `email`; null for others.
    mail: Option<MailDraft>,
    /// Next stage for `update_stage`; null for others, and if there is none.
    stage: Option<String>,
    /// Free slot for `schedule`; null for others, and if there is none within four weeks.
    slot: Option<FreeSlot>,
    /// Suggested title for `schedule` and `create_task`; null for others.
    title: Option<String>,
    /// Suggested due time for `create_task`; null for others, and if none is configured.
    due_at: Option<DateTime<Utc>>,
}

impl StepSuggestion {
    fn of(record: record::Model, found: Suggestion) -> Self {
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

/// The activities with a record within a step.
#[derive(SimpleObject)]
pub struct StepRecordDone {
    /// Id of the record.
    record_id: ID,
    /// Kinds of activities, each once, in order of first occurrence.
    kinds: Vec<entity::ActivityKind>,
    /// Time of the last activity.
    at: DateTime<Utc>,
}

/// Returns the activities per record of a step.
pub(super) async fn done(ctx: &Context<'_>, step: &step::Model) -> Result<Vec<StepRecordDone>> {
    let all = load(ctx, Some(RecordActionsOfStep(step.id))).await?.unwrap_or_default();
    let each = all.into_iter().map(|one| StepRecordDone {
        record_id: one.record_id.to_string().into(),
        kinds: one.kinds,
        at: one.at,
    });
    Ok(each.collect())
}

/// Returns the time at which the step's record list was fixed; none while it is evaluated live.
pub(super) async fn taken_at(ctx: &Context<'_>, step: &step::Model) -> Result<Option<DateTime<Utc>>> {
    Ok(load(ctx, Some(StepRecordsOfStep(step.id))).await?.map(|list| list.created_at))
}

/// Returns the run and the guided config of a step; none for a step that no person does.
async fn guide(ctx: &Context<'_>, step: &step::Model) -> Result<Option<(entity::run::Model, GuidedConfig)>> {
    if step.assigned_to != entity::step::Executor::Human {
        return Ok(None);
    }
    let run = must_load(ctx, step.run_id).await?;
    let snapshot = must_load(ctx, StartedSnapshotOfRun(step.run_id)).await?;
    let declared = crate::domain::run::snapshot::step(&snapshot.definition, &step.key);
    let guide = declared.map(|declared| active_step::of_declared(&run, declared)).transpose()?;
    Ok(Some((run, guide.unwrap_or_default())))
}

/// Returns the guided config of a step and its records as they are now: the list fixed when it was
/// started, in its order, or before that the list as it is evaluated, or its own record. None if it
/// is about no records. Steps of a list share all statements but those of evaluated lists.
async fn about(ctx: &Context<'_>, step: &step::Model) -> Result<Option<(GuidedConfig, Vec<record::Model>)>> {
    let Some((run, guide)) = guide(ctx, step).await? else { return Ok(None) };
    let found = match load(ctx, Some(StepRecordsOfStep(step.id))).await? {
        Some(list) => {
            let ids = noun::step_records::ids(&list)?;
            let rows = try_join_all(ids.into_iter().map(|id| load(ctx, Some(id)))).await?;
            Some(rows.into_iter().flatten().filter(|record| record.erased_at.is_none()).collect())
        }
        // A step that exists once per record is about that one unless its settings say otherwise.
        None if guide.records.is_none() => load(ctx, step.record_id).await?.map(|record| vec![record]),
        None => Box::pin(noun::records::of(db(ctx), viewer(ctx), &run, &guide)).await?,
    };
    Ok(found.map(|records| (guide, records)))
}

/// Returns the step's current records; none if it is not about records.
pub(super) async fn records(
    ctx: &Context<'_>,
    step: &step::Model,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Option<List<Record>>> {
    let Some((_, found)) = about(ctx, step).await? else { return Ok(None) };
    let (count, _) = page::count(&Args { first, ..Args::default() })?;
    let fingerprint: Arc<str> = page::fingerprint(&("step.records", step.id))?.into();
    // The list is small, and evaluated anew until the step starts: a cursor's record that is no
    // longer in it gives no position to continue from.
    let from = match &after {
        None => 0,
        Some(text) => {
            let (_, id) = Cursor::place("after", text, &fingerprint)?;
            let at = found.iter().position(|record| record.id.0 == id);
            let message = "the cursor's record is no longer among the step's records: start again without a cursor";
            at.ok_or_else(|| crate::kernel::error::Refusal::input("after", message))? + 1
        }
    };
    let total = found.len();
    let rows = found.into_iter().skip(from).take(count).map(|record| {
        let cursor = Cursor::new(fingerprint.clone(), Key::None, record.id.0);
        (cursor, Node(Record(record)))
    });
    let totals = Totals::Counted(total as u64);
    Ok(Some(Connection { rows: rows.collect(), has_previous: from > 0, has_next: from + count < total, totals }))
}

/// Returns a suggestion for each of a step's records, in their order.
pub(super) async fn suggestions(
    ctx: &Context<'_>,
    step: &step::Model,
    first: Option<i32>,
) -> Result<Vec<StepSuggestion>> {
    let Some((guide, mut records)) = about(ctx, step).await? else { return Ok(Vec::new()) };
    let (count, _) = page::count(&Args { first, ..Args::default() })?;
    records.truncate(count);
    let all = Box::pin(suggestions::of(db(ctx), viewer(ctx), &step.kind, &guide, &records)).await?;
    Ok(records.into_iter().zip(all).map(|(record, found)| StepSuggestion::of(record, found)).collect())
}
