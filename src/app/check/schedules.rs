//! Checks that each due time of a schedule has its run, or is recorded as one that did not start, and
//! that those recorded are as many as they say.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Duration, Utc};
use entity::missed_occurrence::{self, UnfiredReason};
use entity::schedule::{Entity, ScheduleStatus};
use entity::{RunStatus, run, schedule};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::{CheckedSnapshot, Violations};
use crate::domain::plan::schedule::timing::Timing;
use crate::kernel::error::Result;

/// Maximum period checked, up to the present; older occurrences were checked before.
const BACK: Duration = Duration::days(60);
/// Maximum number of occurrences checked per schedule, newest first; the period is as short as they
/// need.
const MOST: usize = 20_000;
/// Initial period; doubled until it contains enough occurrences.
const FIRST: Duration = Duration::days(2);

pub(super) async fn check(snapshot: &CheckedSnapshot) -> Result<Vec<Violations>> {
    let mut found = Violations::new("each due time of a schedule has its run, or is recorded as not started");
    let mut counts = Violations::new("as many due times did not start as is recorded");
    for row in Entity::find().all(&snapshot.tx).await? {
        judge(snapshot, &row, &mut found, &mut counts).await?;
    }
    Ok(vec![found, counts])
}

async fn judge(
    snapshot: &CheckedSnapshot,
    row: &schedule::Model,
    found: &mut Violations,
    counts: &mut Violations,
) -> Result<()> {
    let (Some(pattern_since), Some(until)) = (row.pattern_since, row.accounted_until) else { return Ok(()) };
    let Some((since, due)) = newest(row, pattern_since, until)? else { return Ok(()) };
    type Occurrence = (Option<DateTime<Utc>>, RunStatus, Option<DateTime<Utc>>);
    let runs: Vec<Occurrence> = run::Entity::find()
        .select_only()
        .column(run::Column::OccurrenceAt)
        .column(run::Column::Status)
        .column(run::Column::QueuedAt)
        .filter(run::COLUMN.schedule_id.eq(row.id))
        .filter(run::COLUMN.occurrence_at.gt(since))
        .into_tuple()
        .all(&snapshot.tx)
        .await?;
    // One that was cancelled after it had been queued did start.
    let unstarted = |status: RunStatus, queued_at: Option<_>| status == RunStatus::Cancelled && queued_at.is_none();
    let runs: HashMap<_, _> =
        runs.into_iter().filter_map(|(at, status, queued_at)| Some((at?, unstarted(status, queued_at)))).collect();
    let spans = missed_occurrence::Entity::find()
        .filter(missed_occurrence::COLUMN.schedule_id.eq(row.id))
        .filter(missed_occurrence::COLUMN.last_at.gt(since))
        .filter(missed_occurrence::COLUMN.reason.ne(UnfiredReason::NoSuchLocalTime))
        .all(&snapshot.tx)
        .await?;
    let skipped: HashSet<DateTime<Utc>> =
        spans.iter().filter(|span| span.reason == UnfiredReason::Skipped).map(|span| span.first_at).collect();
    for span in &spans {
        // Others were recorded under an earlier pattern, or are not within the times looked at.
        let whole = due.first().is_some_and(|first| *first <= span.first_at) && span.last_at <= until;
        if !whole || span.created_at <= pattern_since {
            continue;
        }
        let within = due.iter().filter(|at| span.first_at <= **at && **at <= span.last_at);
        let (mut all, mut without_run) = (0, 0);
        for at in within {
            all += 1;
            // One that was skipped in advance is counted by itself.
            let is_counted = span.reason == UnfiredReason::Skipped || !skipped.contains(at);
            without_run += i64::from(!runs.contains_key(at) && is_counted);
        }
        counts.record((without_run..=all).contains(&span.count), || {
            let (first, last) = (span.first_at.to_rfc3339(), span.last_at.to_rfc3339());
            format!(
                "{} from {first} to {last}: {} recorded, {all} due, {without_run} without a run",
                row.id, span.count
            )
        });
    }
    for at in due {
        let recorded = spans.iter().any(|span| span.first_at <= at && at <= span.last_at);
        let holds = match runs.get(&at) {
            Some(true) => recorded || row.status == ScheduleStatus::Ended,
            Some(false) => true,
            None => recorded,
        };
        found.record(holds, || format!("{} at {}", row.id, at.to_rfc3339()));
    }
    Ok(())
}

/// Returns the newest due times of a schedule in an interval, and the start of the checked period;
/// none if there are no due times.
fn newest(row: &schedule::Model, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<Option<Due>> {
    let timing = Timing::of(row)?;
    if timing.pattern.is_none() {
        let at = row.at.filter(|at| since < *at && *at <= until);
        return Ok(at.map(|at| (since, vec![at])));
    }
    let mut span = FIRST;
    loop {
        let from = since.max(until - span);
        let mut due: Vec<DateTime<Utc>> = timing.after(from).map(|due| due.at).take_while(|at| *at <= until).collect();
        if due.len() >= MOST || from == since || span >= BACK {
            due.drain(..due.len().saturating_sub(MOST));
            return Ok(Some((from, due)));
        }
        span = BACK.min(span * 2);
    }
}

/// Start of the checked period, and the due times in it.
type Due = (DateTime<Utc>, Vec<DateTime<Utc>>);
