//! `wait`: waits for a duration or until a time. The queue delays a step with a duration; a step
//! with a time is postponed when it is claimed.

use chrono::{DateTime, NaiveDate, Utc};
use entity::{run, step};
use serde_json::json;

use super::{Claimed, Outcome, Work, batch_context};
use crate::domain::content::templating;
use crate::domain::plan::run_template::kind;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::{limits, storable};

/// The kind `wait`.
#[derive(Debug)]
pub struct Wait;

impl Work for Wait {
    type Outcome = ();
    const KIND: &'static str = kind::WAIT;

    fn batch(&self) -> u64 {
        limits::WORK_BATCH
    }

    async fn perform(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<()>>> {
        let batch = batch_context::of_batch(db, claimed).await?;
        let points = batch_context::evaluated(&batch, claimed, |settings, values, until| {
            let source = settings["until"].as_str();
            source.map(|source| point(&templating::text("until", source, values, until)?)).transpose()
        });
        let points = points.await?;
        let outcomes = claimed.iter().zip(batch.iter()).zip(points).map(|((claim, context), point)| {
            let done = |until: DateTime<Utc>| Outcome::Done { result: json!({ "until": until }), data: () };
            let Some(point) = point else { return batch_context::not_yet(db) };
            match point {
                Ok(None) => done(claim.step.available_at),
                // A test does not wait.
                Ok(Some(until)) if until <= db.now() || context.snapshot.test.is_some() => done(until),
                Ok(Some(until)) => {
                    Outcome::Later { at: until, why: format!("it waits until {}", until.to_rfc3339()), data: None }
                }
                Err(why) => Outcome::Failed { why, retryable: false, after: None, data: None },
            }
        });
        Ok(outcomes.collect())
    }

    async fn record(&self, _: &Tx, _: &run::Model, _: &[(step::Model, &Outcome<()>)]) -> Result<()> {
        Ok(())
    }
}

/// Parses a time, or a date as the beginning of that day in UTC.
fn point(text: &str) -> std::result::Result<DateTime<Utc>, String> {
    let text = text.trim();
    let day = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0).map(|at| at.and_utc());
    let shown = crate::kernel::validate::printable(text);
    let found = text.parse().ok().or_else(day);
    let found =
        found.ok_or_else(|| format!("until: `{shown}` is not a valid time; write it like 2026-11-02T12:00:00Z"))?;
    storable::time(found).map_err(|unfit| format!("until: `{shown}`: {unfit}"))
}
