//! The tags of campaigns: short words by which people group them. They are no part of what is
//! approved.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entity::campaign::{self, Model};
use entity::campaign_tag::{COLUMN, Column, Entity};
use entity::id::CampaignId;
use sea_orm::sea_query::{Expr, ExprTrait, Func, Order, Query};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    Set,
};
use serde_json::json;

use super::{emit, must_lock, save};
use crate::kernel::db::batch::{any_of, insert_all};
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// Validates tags: trimmed, each once, in the order of their code points. Errors: BAD_USER_INPUT
/// naming the tag; LIMIT_EXCEEDED.
pub fn check(tags: &[String]) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for (i, tag) in tags.iter().enumerate() {
        let field = format!("tags[{i}]");
        let tag = validate::name(&field, tag)?;
        if tag.chars().count() > limits::TAG_CHARS {
            return Err(Refusal::input(&field, format!("must have at most {} characters", limits::TAG_CHARS)).into());
        }
        all.insert(tag);
    }
    if all.len() > limits::TAGS {
        return Err(Refusal::limit_for_field("tags", format!("at most {}", limits::TAGS)).into());
    }
    Ok(all)
}

/// Replaces the tags of a campaign, in any status. Without effect if it has just these. Errors:
/// NOT_FOUND, CONFLICT, BAD_USER_INPUT, LIMIT_EXCEEDED.
pub async fn set(
    db: &WriteContext,
    viewer: &Viewer,
    id: CampaignId,
    expected: Option<i32>,
    tags: &[String],
) -> Result<Model> {
    let tags = check(tags)?;
    transact!(db, |tx| {
        let before = must_lock(tx, viewer, id, expected).await?;
        tx.set_result(id);
        let was = of_all(tx.db(), viewer, &[id]).await?.remove(&id).unwrap_or_default();
        if was.iter().eq(&tags) {
            return Ok(before);
        }
        let revision = before.revision;
        let mut row = before.into_active_model();
        // Increments the revision, though no column of the row changes.
        row.updated_at = Set(tx.now());
        let campaign = save(tx, row, revision).await?;
        replace(tx, &campaign, &tags).await?;
        emit(tx, viewer, "campaign.tagged", &campaign, json!({ "from": was, "to": tags }));
        Ok(campaign)
    })
}

/// Writes the tags of a campaign in place of those that it has.
pub(super) async fn replace(tx: &Tx, campaign: &Model, tags: &BTreeSet<String>) -> Result<()> {
    Entity::delete_many().filter(COLUMN.campaign_id.eq(campaign.id)).exec(tx.db()).await?;
    let rows = tags.iter().map(|tag| entity::campaign_tag::Model {
        campaign_id: campaign.id,
        tag: tag.clone(),
        org_id: campaign.org_id,
    });
    insert_all(tx, rows.map(|row| row.into_active_model().reset_all())).await
}

/// The tags of some campaigns, in the order of their code points; a campaign without tags is omitted.
pub async fn of_all(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    ids: &[CampaignId],
) -> Result<HashMap<CampaignId, Vec<String>>> {
    let of = any_of(db.get_database_backend(), COLUMN.campaign_id, ids.iter().copied());
    let rows = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(of).all(db).await?;
    let mut all: HashMap<CampaignId, BTreeSet<String>> = HashMap::new();
    for row in rows {
        all.entry(row.campaign_id).or_default().insert(row.tag);
    }
    Ok(all.into_iter().map(|(id, tags)| (id, tags.into_iter().collect())).collect())
}

/// The org's tags with the number of campaigns that have each: the most used first, then by name.
pub async fn in_use(db: &impl ConnectionTrait, viewer: &Viewer) -> Result<Vec<(String, i64)>> {
    let count = Func::count(Expr::col(Column::CampaignId));
    let rows: Vec<(String, i64)> = Entity::find()
        .select_only()
        .column(Column::Tag)
        .expr_as(count.clone(), "campaigns")
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .group_by(Column::Tag)
        .order_by(Expr::expr(count), Order::Desc)
        .order_by_asc(Column::Tag)
        .limit(limits::PAGE_MAX as u64)
        .into_tuple()
        .all(db)
        .await?;
    // Databases sort texts differently.
    let mut by_count: BTreeMap<std::cmp::Reverse<i64>, BTreeSet<String>> = BTreeMap::new();
    for (tag, count) in rows {
        by_count.entry(std::cmp::Reverse(count)).or_default().insert(tag);
    }
    Ok(by_count.into_iter().flat_map(|(count, tags)| tags.into_iter().map(move |tag| (tag, count.0))).collect())
}

/// Condition on the table `campaign`: it has at least one of some tags. A look per campaign of the list's
/// own org, by the tags' primary key.
pub(super) fn has_any(dialect: Dialect, tags: &[String]) -> Expr {
    let mut tagged = Query::select();
    tagged
        .expr(Expr::val(1))
        .from(Entity)
        .and_where(Expr::col((Entity, Column::CampaignId)).equals((campaign::Entity, campaign::Column::Id)))
        .cond_where(any_of(dialect, COLUMN.tag, tags.iter().cloned()));
    Expr::exists(tagged)
}
