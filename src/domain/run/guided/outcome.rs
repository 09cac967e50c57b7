//! Implements `updateRunOutcome`: corrects the outcome of guided work that has ended. Its status, its
//! steps and what they did stay; the log keeps the former outcome.

use entity::id::*;
use entity::run::Model;
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};
use serde_json::json;

use super::add_step::check_mendable;
use crate::domain::run::permissions::Action;
use crate::domain::run::{emit, must_lock};
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{storable, validate};
use crate::transact;

/// Replaces the outcome; `None` and a blank text remove it. Errors: NOT_FOUND; CONFLICT for a run that
/// is not guided work, or is open; BAD_USER_INPUT.
pub async fn correct(
    db: &WriteContext,
    viewer: &Viewer,
    id: RunId,
    expected: Option<i32>,
    outcome: Option<&str>,
    reason: &str,
) -> Result<Model> {
    let outcome = outcome.filter(|text| !validate::is_blank(text)).map(|text| text_of("outcome", text)).transpose()?;
    if validate::is_blank(reason) {
        return Err(Refusal::input("reason", "must not be blank: it says why the outcome is corrected").into());
    }
    let reason = text_of("reason", reason)?;
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, id, expected).await?;
        check_mendable(tx, viewer, &run, Action::UpdateOutcome).await?;
        tx.set_result(id);
        let (before, revision) = (run.outcome.clone(), run.revision);
        if before == outcome {
            return Ok(run);
        }
        let mut row = run.into_active_model();
        row.outcome = Set(outcome.clone());
        row.updated_at = Set(tx.now());
        row.revision = Set(revision + 1);
        let run = row.update(tx.db()).await?;
        let payload = json!({ "before": before, "after": run.outcome, "reason": reason });
        emit(tx, viewer, "run.outcome_corrected", &run, payload);
        Ok(run)
    })
}

fn text_of(field: &str, text: &str) -> Result<String> {
    storable::text(text).map_err(|unfit| unfit.of(field))?;
    validate::text(field, text)
}
