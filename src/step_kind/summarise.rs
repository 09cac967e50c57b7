//! `summarise`: writes the run's outcome, counted from its recipients' outcomes.

use entity::id::RunId;
use entity::run_record::{self, Outcome as RecipientOutcome};
use entity::{run, step};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, QuerySelect, Set};
use serde_json::json;

use super::{Claimed, Outcome, Work};
use crate::domain::plan::run_template;
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::limits;

/// The kind `summarise`.
#[derive(Debug)]
pub struct Summarise;

impl Work for Summarise {
    type Outcome = String;
    const KIND: &'static str = run_template::SUMMARISE;

    fn batch(&self) -> u64 {
        limits::WORK_BATCH
    }

    async fn perform(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<String>>> {
        let mut outcomes = Vec::new();
        for claim in claimed {
            let counts = counts(db, claim.run.id).await?;
            let of = |wanted: RecipientOutcome| {
                counts.iter().filter(|(outcome, _)| *outcome == Some(wanted)).map(|(_, count)| count).sum::<i64>()
            };
            let result = json!({
                "audience": claim.run.audience_count,
                "sent": of(RecipientOutcome::Sent),
                "failed": of(RecipientOutcome::Failed),
                "suppressed": of(RecipientOutcome::Suppressed),
                "skipped": of(RecipientOutcome::Skipped),
                "unknown": of(RecipientOutcome::Unknown),
            });
            let verb = if claim.run.channel == entity::Channel::Phone { "called" } else { "sent" };
            let suppressed = match of(RecipientOutcome::Suppressed) {
                0 => String::new(),
                count => format!(", {count} suppressed"),
            };
            let data = format!(
                "{} of {} {verb}, {} failed, {} skipped{suppressed}",
                of(RecipientOutcome::Sent),
                claim.run.audience_count,
                of(RecipientOutcome::Failed),
                of(RecipientOutcome::Skipped)
            );
            outcomes.push(Outcome::Done { result, data });
        }
        Ok(outcomes)
    }

    async fn record(&self, tx: &Tx, run: &run::Model, settled: &[(step::Model, &Outcome<String>)]) -> Result<()> {
        if let Some(summary) = settled.iter().find_map(|(_, outcome)| outcome.data()) {
            let row = run::ActiveModel { id: Set(run.id), outcome: Set(Some(summary.clone())), ..Default::default() };
            row.update(tx.db()).await?;
        }
        Ok(())
    }
}

async fn counts(db: &Db, id: RunId) -> Result<Vec<(Option<RecipientOutcome>, i64)>> {
    Ok(run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(id))
        .select_only()
        .column(run_record::Column::Outcome)
        .column_as(run_record::Column::Id.count(), "count")
        .group_by(run_record::Column::Outcome)
        .into_tuple()
        .all(db.read())
        .await?)
}
