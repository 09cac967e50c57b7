//! Renews the leases of external workers.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use entity::agent::Model as Agent;
use entity::id::*;
use entity::step::{self, StepStatus};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::claim::owner;
use crate::kernel::db::WriteContext;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::limits;
use crate::transact;

/// A worker's reference to a step that it holds.
#[derive(Clone, Debug)]
pub struct HeldStep {
    /// The step.
    pub id: StepId,
    /// The token of the claim.
    pub token: String,
}

/// Renews leases. Returns each step with the lease's new expiry, or `None` if it is not held any
/// more: all of them without an agent.
pub async fn renew(
    db: &WriteContext,
    agent: Option<&Agent>,
    held: &[HeldStep],
    lease: std::time::Duration,
) -> Result<Vec<(StepId, Option<DateTime<Utc>>)>> {
    check(held.iter())?;
    let Some(agent) = agent else { return Ok(held.iter().map(|one| (one.id, None)).collect()) };
    let renewed: Vec<(StepId, Option<DateTime<Utc>>)> = transact!(db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(lease).map_err(Error::internal)?;
        let rows = step::Entity::update_many()
            .col_expr(step::Column::LeaseExpiresAt, Expr::value(until))
            .filter(step::COLUMN.org_id.eq(agent.org_id))
            .filter(any_of(tx.dialect(), step::COLUMN.id, held.iter().map(|one| one.id)))
            .filter(any_of(tx.dialect(), step::COLUMN.lease_token, held.iter().map(|one| one.token.clone())))
            .filter(step::COLUMN.lease_owner.starts_with(owner(agent, "")))
            .filter(step::COLUMN.lease_expires_at.gte(tx.now()))
            .filter(step::COLUMN.status.eq(StepStatus::InProgress))
            .exec_with_returning(tx.db())
            .await?;
        let fits =
            |one: &HeldStep| rows.iter().any(|row| row.id == one.id && row.lease_token.as_ref() == Some(&one.token));
        Ok(held.iter().map(|one| (one.id, fits(one).then_some(until))).collect())
    })?;
    Ok(renewed)
}

/// Checks the number of steps, and that none occurs twice: two outcomes of one step would be
/// ambiguous.
pub(super) fn check<'a>(steps: impl ExactSizeIterator<Item = &'a HeldStep>) -> Result<()> {
    if steps.len() == 0 || steps.len() as u64 > limits::CLAIM_MAX {
        return Err(Refusal::limit_for_field("steps", format!("must have 1 to {} entries", limits::CLAIM_MAX)).into());
    }
    let mut seen = HashSet::new();
    for (i, held) in steps.enumerate() {
        if !seen.insert(held.id) {
            return Err(Refusal::input(&format!("steps[{i}].id"), format!("{} occurs twice", held.id)).into());
        }
    }
    Ok(())
}
