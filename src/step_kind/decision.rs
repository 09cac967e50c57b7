//! `decision`: evaluates cases in order; the first whose condition holds says which tasks are
//! skipped.

use entity::id::TaskId;
use entity::step::StepStatus;
use entity::{run, step, task};
use sea_orm::sea_query::Expr;
use sea_orm::{EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};

use super::{Claimed, Outcome, Work, batch_context};
use crate::domain::content::cel::Condition;
use crate::domain::plan::run_template::kind;
use crate::domain::run::snapshot;
use crate::kernel::budget::Steps;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::limits;

/// The kind `decision`.
#[derive(Debug)]
pub struct Decision;

impl Work for Decision {
    type Outcome = Vec<String>;
    const KIND: &'static str = kind::DECISION;

    fn batch(&self) -> u64 {
        limits::WORK_BATCH
    }

    async fn perform(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<Vec<String>>>> {
        let batch = batch_context::of_batch(db, claimed).await?;
        let decided =
            batch_context::evaluated(&batch, claimed, |settings, values, _| decide(settings, values, &Steps::of_one()));
        let outcomes = decided.await?.into_iter().map(|decided| match decided {
            None => batch_context::not_yet(db),
            Some(Ok((case, skip))) => Outcome::Done { result: json!({ "case": case, "skip": skip }), data: skip },
            Some(Err(why)) => Outcome::Failed { why, retryable: false, after: None, data: None },
        });
        Ok(outcomes.collect())
    }

    /// Marks the tasks that a decision outside of a fan-out skips. Those of a decision for one
    /// record are skipped when that record's steps are created.
    async fn record(&self, tx: &Tx, run: &run::Model, settled: &[(step::Model, &Outcome<Vec<String>>)]) -> Result<()> {
        let snapshot = snapshot::of(tx.db(), run).await?;
        let single = |step: &step::Model| {
            step.status == StepStatus::Completed && !snapshot.graph.fan_out_keys.contains(&step.key)
        };
        for (step, outcome) in settled.iter().filter(|(step, _)| single(step)) {
            let Some(keys) = outcome.data().filter(|keys| !keys.is_empty()) else { continue };
            let tasks = crate::domain::run::task::of_runs(
                tx.db(),
                &crate::kernel::viewer::Viewer::engine(run.org_id),
                &[run.id],
            )
            .await?;
            let ids: Vec<TaskId> = tasks.iter().filter(|task| keys.contains(&task.key)).map(|task| task.id).collect();
            task::Entity::update_many()
                .col_expr(task::Column::LeftOutReason, Expr::value(format!("left out by {}", step.key)))
                .filter(any_of(tx.dialect(), task::COLUMN.id, ids))
                .exec(tx.db())
                .await?;
        }
        Ok(())
    }
}

/// The number of the first case that holds, from 1 (`None` for `otherwise`), and the keys of the
/// tasks that it skips.
fn decide(
    settings: &Value,
    values: &Map<String, Value>,
    steps: &Steps,
) -> std::result::Result<(Option<usize>, Vec<String>), String> {
    for (i, case) in settings["cases"].as_array().into_iter().flatten().enumerate() {
        let source = case["when"].as_str().unwrap_or_default();
        if Condition::parse(source)?.holds_within(values, steps).map_err(|why| format!("case {}: {why}", i + 1))? {
            return Ok((Some(i + 1), kind::names(&case["skip"])));
        }
    }
    Ok((None, kind::names(&settings["otherwise"])))
}
