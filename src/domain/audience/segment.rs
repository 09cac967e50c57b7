//! Segments, which are saved audiences: a filter over records, or a fixed list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::campaign::Column as Campaign;
use entity::id::{RecordId, RunId, SegmentId};
use entity::segment::{ActiveModel, Model};
use entity::{RunStatus, record, run, run_snapshot, segment_record};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set,
};
use sha2::{Digest, Sha256};

use crate::domain::audience::record::erasure;
use crate::domain::audience::record::filter::{self, RecordFilter};
use crate::domain::audience::record::kept;
use crate::kernel::db::batch::insert_all;
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::page::{Args, Window};
use crate::kernel::references::is;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

scoped!(segment, SegmentId, "segment");
paged!(segment);
defined!(segment, SegmentId, "segment");
deleted!(segment, SegmentId, "segment";
    used by campaign as "campaign" where |id: SegmentId| is(Campaign::SegmentId, id);
    with segment_record.SegmentId;
    before keep_for_runs);

/// The fields of a segment: a filter or a fixed list, not both. In an update, only the given
/// fields.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Name.
    pub name: Option<String>,
    /// The filter over records.
    pub filter: Option<RecordFilter>,
    /// The fixed list of records.
    pub record_ids: Option<Vec<RecordId>>,
}

/// Creates a segment. Errors: BAD_USER_INPUT; NOT_FOUND for an unknown record.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    transact!(db, |tx| create_in(tx, viewer, fields).await)
}

/// Creates a segment within the caller's transaction.
pub(crate) async fn create_in(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = validate::name("name", fields.name.as_deref().unwrap_or_default())?;
    let filter = checked(tx, fields)?;
    if filter.is_none() && fields.record_ids.is_none() {
        return Err(Refusal::input("filter", "give either filter or recordIds").into());
    }
    let row = ActiveModel {
        id: Set(SegmentId::new()),
        org_id: Set(viewer.org_id),
        name: Set(name.clone()),
        filter: Set(filter.clone()),
        list_digest: Set(fields.record_ids.as_deref().map(digest).transpose()?),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    let segment = row.insert(tx.db()).await?;
    if let Some(ids) = &fields.record_ids {
        list(tx, viewer, segment.id, ids).await?;
    }
    created(tx, viewer, &segment);
    Ok(segment)
}

/// Updates the given fields; a filter replaces a list, and a list a filter. Errors: NOT_FOUND,
/// CONFLICT.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: SegmentId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    transact!(db, |tx| update_in(tx, viewer, id, expected, fields).await)
}

/// Updates a segment within the caller's transaction.
pub(crate) async fn update_in(
    tx: &Tx,
    viewer: &Viewer,
    id: SegmentId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let filter = checked(tx, fields)?;
    let found = must_lock(tx, viewer, id, expected).await?;
    let revision = found.revision;
    let mut row = found.into_active_model();
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(validate::name("name", name)?);
    }
    if filter.is_some() || fields.record_ids.is_some() {
        row.list_digest.set_if_not_equals(fields.record_ids.as_deref().map(digest).transpose()?);
        if filter.is_none() || filter != explicit(&row.filter)? {
            row.filter = Set(filter.clone());
        }
        keep_for_runs(tx, viewer, id).await?;
        let all = segment_record::Entity::delete_many().filter(segment_record::COLUMN.segment_id.eq(id));
        all.exec(tx.db()).await?;
    }
    if let Some(ids) = &fields.record_ids {
        list(tx, viewer, id, ids).await?;
    }
    save(tx, viewer, row, revision).await
}

/// Keeps a fixed list for the runs that were launched with it and have not added all of it yet.
async fn keep_for_runs(tx: &Tx, viewer: &Viewer, id: SegmentId) -> Result<()> {
    let adding: Vec<RunId> = run::Entity::find()
        .select_only()
        .column(run::Column::Id)
        .filter(run::COLUMN.org_id.eq(viewer.org_id))
        .filter(adds_from(id))
        .order_by_asc(run::COLUMN.id)
        // Locked, so that none adds the rest of the list meanwhile.
        .lock_exclusive()
        .into_tuple()
        .all(tx.db())
        .await?;
    for run in adding {
        if !kept::has_any(tx, run.0).await? {
            let listed = record::COLUMN.id.in_subquery(listed(id));
            kept::keep(tx, run.0, viewer.org_id, Condition::all().add(listed)).await?;
        }
    }
    Ok(())
}

/// Condition: the run was launched with the fixed list of a segment and has not added all of it.
fn adds_from(id: SegmentId) -> Expr {
    let mut launched = Query::select();
    launched
        .expr(Expr::val(1))
        .from(run_snapshot::Entity)
        .and_where(
            Expr::col((run_snapshot::Entity, run_snapshot::Column::RunId)).equals((run::Entity, run::Column::Id)),
        )
        .and_where(Expr::cust("(instructions -> 'segment' ->> 'id')").eq(id.to_string()))
        .and_where(Expr::cust("(instructions ->> 'segmentFilter')").is_null());
    // A failed run may be retried, and a cancelled one repeated. One that repeats another goes by that
    // one's recipients.
    let began = run::COLUMN.status.is_in([RunStatus::Failed, RunStatus::Cancelled]);
    let began = began.and(run::COLUMN.started_at.is_not_null());
    run::COLUMN
        .audience_done
        .eq(false)
        .and(run::Column::ParentId.is_null())
        .and(run::COLUMN.status.is_in([RunStatus::Queued, RunStatus::InProgress, RunStatus::Paused]).or(began))
        .and(Expr::exists(launched))
}

/// Subquery of the ids of a segment's fixed list.
fn listed(id: SegmentId) -> SelectStatement {
    let mut listed = Query::select();
    listed
        .column(segment_record::Column::RecordId)
        .from(segment_record::Entity)
        .and_where(segment_record::COLUMN.segment_id.eq(id));
    listed
}

fn checked(tx: &Tx, fields: &Fields) -> Result<Option<serde_json::Value>> {
    let Some(given) = &fields.filter else { return Ok(None) };
    if fields.record_ids.is_some() {
        return Err(Refusal::input("recordIds", "give either filter or recordIds, not both").into());
    }
    filter::condition(given, tx.dialect(), tx.now())?;
    given.require_condition()?;
    Ok(Some(serde_json::to_value(given)?))
}

/// A stored filter in the form that is accepted today. Older rows may hold filters without a
/// condition; submitting the explicit form of such a filter leaves the row as it is.
fn explicit(filter: &sea_orm::ActiveValue<Option<serde_json::Value>>) -> Result<Option<serde_json::Value>> {
    let Some(stored) = filter.try_as_ref().cloned().flatten() else { return Ok(None) };
    let stored: RecordFilter = serde_json::from_value(stored)?;
    Ok(Some(serde_json::to_value(stored.explicit())?))
}

/// A short digest of a fixed list, independent of its order.
fn digest(ids: &[RecordId]) -> Result<String> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let hash = Sha256::digest(serde_json::to_vec(&ids)?);
    Ok(format!("{} records, {}", ids.len(), URL_SAFE_NO_PAD.encode(hash)))
}

async fn list(tx: &Tx, viewer: &Viewer, segment_id: SegmentId, ids: &[RecordId]) -> Result<()> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > limits::LIST_RECORDS {
        return Err(Refusal::input("recordIds", format!("at most {}", limits::LIST_RECORDS)).into());
    }
    if let Some(id) = crate::domain::audience::record::missing(tx.db(), viewer, &ids).await?.first() {
        return Err(Refusal::not_found("record", id).with("field", "recordIds".into()).into());
    }
    let rows = ids.into_iter().map(|record_id| segment_record::ActiveModel {
        segment_id: Set(segment_id),
        record_id: Set(record_id),
        org_id: Set(viewer.org_id),
    });
    insert_all(tx, rows).await
}

/// The segment's records, without erased ones, as a condition on the table `record`.
pub fn condition(db: &Db, segment: &Model) -> Result<Condition> {
    let members = filter::in_segment(segment, db.dialect(), db.now())?;
    let of_org = Condition::all().add(record::COLUMN.org_id.eq(segment.org_id)).add(members);
    Ok(of_org.add(erasure::not_erased(segment.org_id)))
}

/// The segment's records as a window, so that the counts of several segments are batched.
pub fn window(db: &Db, segment: &Model) -> Result<Window<record::Entity>> {
    let select = record::Entity::find().filter(condition(db, segment)?);
    let (order, args) = (crate::domain::audience::record::NEWEST_FIRST, Args::default());
    Ok(Window { select, order, fingerprint: segment.id.to_string(), args, part: None })
}
