//! Checks that each due time of a schedule has its run, or is recorded as one that did not start.

use chrono::{DateTime, Duration, Utc};
use entity::missed_occurrence::{self, UnfiredReason};
use entity::schedule::{Entity, ScheduleStatus};
use entity::{RunStatus, run, schedule};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::{CheckedSnapshot, Violations};
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
    for row in Entity::find().all(&snapshot.tx).await? {
        judge(snapshot, &row, &mut found).await?;
    }
    Ok(vec![found])
}

async fn judge(snapshot: &CheckedSnapshot, row: &schedule::Model, found: &mut Violations) -> Result<()> {
    let (Some(since), Some(until)) = (row.pattern_since, row.accounted_until) else { return Ok(()) };
    let Some((since, due)) = newest(row, since, until)? else { return Ok(()) };
    let runs: Vec<(Option<DateTime<Utc>>, RunStatus)> = run::Entity::find()
        .select_only()
        .column(run::Column::OccurrenceAt)
        .column(run::Column::Status)
        .filter(run::COLUMN.schedule_id.eq(row.id))
        .filter(run::COLUMN.occurrence_at.gt(since))
        .into_tuple()
        .all(&snapshot.tx)
        .await?;
    let runs: std::collections::HashMap<_, _> =
        runs.into_iter().filter_map(|(at, status)| Some((at?, status))).collect();
    let spans = missed_occurrence::Entity::find()
        .filter(missed_occurrence::COLUMN.schedule_id.eq(row.id))
        .filter(missed_occurrence::COLUMN.last_at.gt(since))
        .filter(missed_occurrence::COLUMN.reason.ne(UnfiredReason::NoSuchLocalTime))
        .all(&snapshot.tx)
        .await?;
    for at in due {
        let recorded = spans.iter().any(|span| span.first_at <= at && at <= span.last_at);
        let holds = match runs.get(&at) {
            Some(RunStatus::Cancelled) => recorded || row.status == ScheduleStatus::Ended,
            Some(_) => true,
            None => recorded,
        };
        found.record(holds, || format!("{} at {}", row.id, at.to_rfc3339()));
    }
    Ok(())
}

/// Returns the newest due times of a schedule in an interval, and the start of the checked period;
/// none if there are no due times.
fn newest(row: &schedule::Model, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<Option<Due>> {
    let Some(pattern) = crate::domain::plan::schedule::pattern(row)? else {
        let at = row.at.filter(|at| since < *at && *at <= until);
        return Ok(at.map(|at| (since, vec![at])));
    };
    let mut span = FIRST;
    loop {
        let from = since.max(until - span);
        let mut due: Vec<DateTime<Utc>> = pattern.after(from).map(|due| due.at).take_while(|at| *at <= until).collect();
        if due.len() >= MOST || from == since || span >= BACK {
            due.drain(..due.len().saturating_sub(MOST));
            return Ok(Some((from, due)));
        }
        span = BACK.min(span * 2);
    }
}

/// Start of the checked period, and the due times in it.
type Due = (DateTime<Utc>, Vec<DateTime<Utc>>);
