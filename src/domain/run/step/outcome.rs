//! The outcome of a step's recipient, where a person's action decides it.

use entity::run_record;
use entity::step::Model;
use sea_orm::{ActiveModelTrait, Set};

use crate::kernel::db::Tx;
use crate::kernel::error::Result;

/// Recipient reason for a person's action: their text is not a code.
pub(super) fn person_reason(text: Option<&str>) -> String {
    run_record::RecipientReason::Person.with(text)
}

/// Sets the outcome of the step's recipient.
pub(super) async fn set_outcome(
    tx: &Tx,
    step: &Model,
    outcome: Option<run_record::Outcome>,
    reason: Option<&str>,
) -> Result<()> {
    if let Some(id) = step.run_record_id {
        let row = run_record::ActiveModel {
            id: Set(id),
            outcome: Set(outcome),
            reason: Set(reason.map(str::to_owned)),
            ..Default::default()
        };
        row.update(tx.db()).await?;
    }
    Ok(())
}
