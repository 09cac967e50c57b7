//! The outcome of a step's recipient, where a person's action decides it.

use entity::run_record;
use entity::step::Model;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};

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
    let Some(id) = step.run_record_id else { return Ok(()) };
    let mut update = run_record::Entity::update_many()
        .set(run_record::ActiveModel {
            outcome: Set(outcome),
            reason: Set(reason.map(str::to_owned)),
            ..Default::default()
        })
        .filter(run_record::COLUMN.id.eq(id));
    if outcome.is_none() {
        // A step that is reset seldom has one: then nothing is written.
        update = update.filter(run_record::COLUMN.outcome.is_not_null());
    }
    update.exec(tx.db()).await?;
    Ok(())
}
