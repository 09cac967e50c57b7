//! Limits the number of an org's rows of a kind that the engine's loops walk.

use entity::id::OrgId;
use sea_orm::sea_query::Expr;
use sea_orm::{EntityTrait, QuerySelect, Select};

use crate::kernel::db::Tx;
use crate::kernel::db::dialect::lock_name;
use crate::kernel::error::{Refusal, Result};

/// Rejects another row if the org has `most` of these (LIMIT_EXCEEDED with the field); `rows`
/// selects the org's. Those who create rows of one kind in one org do so one after the other, until
/// their transactions end: each sees the rows of those before it.
pub(crate) async fn check_below<E: EntityTrait>(
    tx: &Tx,
    org: OrgId,
    rows: Select<E>,
    most: u64,
    field: &str,
    noun: &str,
) -> Result<()> {
    lock_name(tx, &format!("room of {noun}: {org}")).await?;
    // Reads only the last allowed row, instead of counting all.
    let last = rows.select_only().expr(Expr::cust("1")).offset(most - 1).limit(1);
    if last.into_tuple::<i32>().one(tx.db()).await?.is_some() {
        return Err(Refusal::limit_for_field(field, format!("at most {most} {noun} in one org")).into());
    }
    Ok(())
}
