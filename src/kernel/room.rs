//! Limits the number of an org's rows of a kind that the engine's loops walk.

use sea_orm::sea_query::Expr;
use sea_orm::{ConnectionTrait, EntityTrait, QuerySelect, Select};

use crate::kernel::error::{Refusal, Result};

/// Rejects another row if an org has `most` of these (LIMIT_EXCEEDED with the field); `rows`
/// selects one org's. Concurrent transactions may pass it together, so an org may exceed it by a
/// few rows.
pub(crate) async fn check<E: EntityTrait>(
    db: &impl ConnectionTrait,
    rows: Select<E>,
    most: u64,
    field: &str,
    noun: &str,
) -> Result<()> {
    // Reads only the last allowed row, instead of counting all.
    let last = rows.select_only().expr(Expr::cust("1")).offset(most - 1).limit(1);
    if last.into_tuple::<i32>().one(db).await?.is_some() {
        return Err(Refusal::limit_for_field(field, format!("at most {most} {noun} in one org")).into());
    }
    Ok(())
}
