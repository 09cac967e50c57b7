//! Large effects on their way through many rows: in chunks, each a transaction of its own, going on after a crash where
//! they stopped. The row that rules them was changed before, so the effect holds already.

use std::collections::HashSet;

use entity::communication::{self, CommunicationStatus};
use entity::definition::Trigger;
use entity::id::*;
use entity::run_record::{self, Outcome};
use entity::step::{self, StepStatus};
use entity::sweep::{ActiveModel, COLUMN, Entity, Model, SweepKind};
use entity::{RunStatus, record, run};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ActiveEnum, ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter, QueryOrder,
    QuerySelect, Set,
};

use super::step::Change;
use super::{advance, begin as beginning};
use crate::db::{Db, Tx};
use crate::error::{Error, Result};
use crate::instructions::Instructions;
use crate::record::filter::{self, RecordFilter};
use crate::viewer::Viewer;
use crate::{limits, transact};

/// Writes a sweep beside the change that rules it.
pub(crate) async fn begin(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    task_id: Option<TaskId>,
    kind: SweepKind,
    reason: Option<String>,
) -> Result<()> {
    let row = ActiveModel {
        id: Set(SweepId::new()),
        org_id: Set(run.org_id),
        run_id: Set(run.id),
        task_id: Set(task_id),
        kind: Set(kind),
        last_key: Set(None),
        actor: Set(viewer.actor()),
        reason: Set(reason),
        created_at: Set(tx.now()),
    };
    row.insert(tx.db()).await?;
    Ok(())
}

/// Those that can go on, one per run, the oldest first: of a run that is held only what calls it off.
pub async fn open(db: &Db) -> Result<Vec<Model>> {
    let mut held = Query::select();
    held.column(run::Column::Id).from(run::Entity).and_where(run::COLUMN.status.eq(RunStatus::Paused));
    let mut sweeps = Entity::find()
        .filter(COLUMN.kind.eq(SweepKind::Cancel).or(COLUMN.run_id.not_in_subquery(held)))
        .order_by_asc(COLUMN.id)
        .limit(1_000)
        .all(db.read())
        .await?;
    let mut runs = HashSet::new();
    sweeps.retain(|sweep| runs.insert((sweep.run_id, sweep.kind == SweepKind::Cancel)));
    Ok(sweeps)
}

/// One chunk. Who comes second finds the sweep gone or moved on, and does nothing.
pub async fn chunk(db: &Db, sweep: &Model) -> Result<()> {
    let viewer = &Viewer { actor: sweep.actor.clone(), ..Viewer::engine(sweep.org_id) };
    transact!(db, |tx| {
        let run = super::must_lock(tx, viewer, sweep.run_id, None).await?;
        let Some(fresh) = Entity::find_by_id(sweep.id).one(tx.db()).await? else { return Ok(()) };
        if fresh.last_key != sweep.last_key {
            return Ok(());
        }
        let stale = run.status != RunStatus::InProgress && sweep.kind != SweepKind::Cancel;
        let last = match sweep.kind {
            _ if stale && run.status == RunStatus::Paused => return Ok(()),
            _ if stale => None,
            SweepKind::Audience => audience(db, tx, viewer, &run, sweep).await?,
            SweepKind::FanOut => fan_out(tx, &run, sweep).await?,
            SweepKind::Approve => approve(tx, viewer, &run, sweep).await?,
            SweepKind::Redraft => redraft(tx, viewer, &run, sweep).await?,
            SweepKind::Cancel => cancel(tx, viewer, &run, sweep).await?,
        };
        match last {
            Some(key) => {
                let mut row = fresh.into_active_model();
                row.last_key = Set(Some(key));
                row.update(tx.db()).await?;
            }
            None => {
                fresh.delete(tx.db()).await?;
                if let Some(task_id) = sweep.task_id {
                    super::task::fan_out_done(tx, task_id, true).await?;
                }
                let run = super::must_find(tx.db(), viewer, run.id).await?;
                advance::advance(tx, &Viewer::engine(run.org_id), run).await?;
            }
        }
        Ok(())
    })
}

/// Takes the audience in: one place per record, with its address now; who can't be reached is left out, with the reason.
async fn audience(db: &Db, tx: &Tx, viewer: &Viewer, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let told = super::launch::instructions(run).ok_or_else(|| Error::ours("a run without instructions"))?;
    let (places, last) = match super::launch::test_of(run) {
        Some(test) => (test_places(tx, viewer, run, &test).await?, None),
        None => {
            let mut select = record::Entity::find().filter(condition(db, run, &told)?);
            if let Some(key) = sweep.last_key {
                select = select.filter(record::COLUMN.id.gt(RecordId(key)));
            }
            let records = select.order_by_asc(record::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?;
            let full = records.len() as u64 == limits::CHUNK;
            let last = records.last().filter(|_| full).map(|record| record.id.0);
            (places(tx, run, &records).await?, last)
        }
    };
    let count = i64::try_from(places.len()).map_err(Error::ours)?;
    if !places.is_empty() {
        run_record::Entity::insert_many(places).exec_without_returning(tx.db()).await?;
    }
    let mut row = run.clone().into_active_model();
    row.audience_count = Set(run.audience_count + count);
    row.audience_done = Set(last.is_none());
    row.update(tx.db()).await?;
    Ok(last)
}

fn condition(db: &Db, run: &run::Model, told: &Instructions) -> Result<sea_orm::Condition> {
    use sea_orm::Condition;
    let own = Condition::all().add(record::COLUMN.org_id.eq(run.org_id));
    Ok(match (&told.segment, &told.segment_filter, told.record_id) {
        (Some(_), Some(stored), _) => {
            let stored: RecordFilter = serde_json::from_value(stored.clone())?;
            own.add(filter::condition(&stored, db.dialect(), run.queued_at.unwrap_or_else(|| db.now()))?)
        }
        (Some(segment), None, _) => {
            let mut listed = Query::select();
            listed
                .column(entity::segment_record::Column::RecordId)
                .from(entity::segment_record::Entity)
                .and_where(entity::segment_record::COLUMN.segment_id.eq(segment.id));
            own.add(record::COLUMN.id.in_subquery(listed))
        }
        (None, _, Some(id)) => own.add(record::COLUMN.id.eq(id)),
        (None, _, None) => own.add(Expr::val(1).eq(0)),
    })
}

async fn places(tx: &Tx, run: &run::Model, records: &[record::Model]) -> Result<Vec<run_record::ActiveModel>> {
    let keys: Vec<String> =
        records.iter().filter_map(|record| crate::record::address(record, run.channel)).map(|found| found.1).collect();
    let taken: Vec<Option<String>> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::AddressKey)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::Column::AddressKey.is_in(keys))
        .into_tuple()
        .all(tx.db())
        .await?;
    let mut taken: HashSet<String> = taken.into_iter().flatten().collect();
    let each = records.iter().map(|record| {
        let address = crate::record::address(record, run.channel);
        let left_out = match &address {
            None => Some("NO_ADDRESS"),
            Some(_) if record.unsubscribed_at.is_some() => Some("UNSUBSCRIBED"),
            Some((_, key)) if !taken.insert(key.clone()) => Some("DUPLICATE_ADDRESS"),
            Some(_) => None,
        };
        let (address, key) = address.unzip();
        run_record::ActiveModel {
            id: Set(RunRecordId::new()),
            org_id: Set(run.org_id),
            run_id: Set(run.id),
            record_id: Set(Some(record.id)),
            address: Set(address),
            address_key: Set(key.filter(|_| left_out.is_none())),
            outcome: Set(left_out.map(|_| Outcome::Skipped)),
            reason: Set(left_out.map(str::to_owned)),
        }
    });
    Ok(each.collect())
}

async fn test_places(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    test: &super::launch::Test,
) -> Result<Vec<run_record::ActiveModel>> {
    let records = crate::record::find_all(tx.db(), viewer, &test.sample).await?;
    let mut samples: Vec<Option<RecordId>> = records.iter().map(|record| Some(record.id)).collect();
    if samples.is_empty() {
        samples.push(None);
    }
    let each = test.recipients.iter().flat_map(|address| {
        samples.iter().map(move |record_id| run_record::ActiveModel {
            id: Set(RunRecordId::new()),
            org_id: Set(run.org_id),
            run_id: Set(run.id),
            record_id: Set(*record_id),
            address: Set(Some(address.clone())),
            address_key: Set(None),
            outcome: Set(None),
            reason: Set(None),
        })
    });
    Ok(each.collect())
}

/// Makes a task's steps: one per place that is still open.
async fn fan_out(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let task_id = sweep.task_id.ok_or_else(|| Error::ours("a fan-out without a task"))?;
    let task = entity::task::Entity::find_by_id(task_id).one(tx.db()).await?.ok_or_else(|| Error::ours("no task"))?;
    let declared =
        run.definition.phases.iter().flat_map(|phase| &phase.tasks).find(|declared| declared.key == task.key);
    let declared = declared.ok_or_else(|| Error::ours("a task that is not declared"))?;
    let mut select = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null());
    if let Some(key) = sweep.last_key {
        select = select.filter(run_record::COLUMN.id.gt(RunRecordId(key)));
    }
    let places = select.order_by_asc(run_record::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?;
    let mut steps = Vec::new();
    for place in &places {
        for (i, declared) in declared.steps.iter().enumerate() {
            let mut step = beginning::blank(tx, run, &task, declared, i, Some((place.id, place.record_id)));
            let taken = declared.assigned_to != step::Executor::Human && declared.trigger == Trigger::Immediate;
            if taken {
                step.status = StepStatus::Queued;
            }
            steps.push(step);
        }
    }
    let full = places.len() as u64 == limits::CHUNK;
    let last = places.last().filter(|_| full).map(|place| place.id.0);
    beginning::insert(tx, run, &entity::Actor::engine(), steps).await?;
    Ok(last)
}

/// Lets out the drafts of an approved review.
async fn approve(tx: &Tx, viewer: &Viewer, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let drafts = drafts(tx, run, sweep).await?;
    let last = drafts.last().map(|row| row.id.0);
    let ids: Vec<CommunicationId> = drafts.iter().map(|row| row.id).collect();
    crate::communication::let_out(tx, viewer, run, &ids).await?;
    Ok(last)
}

/// Has the drafts of a rejected review written again: their steps go back into the queue.
async fn redraft(tx: &Tx, viewer: &Viewer, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let drafts = drafts(tx, run, sweep).await?;
    let last = drafts.last().map(|row| row.id.0);
    let updated = step::Entity::update_many()
        .col_expr(step::Column::Status, Expr::value(StepStatus::Queued.to_value()))
        .col_expr(step::Column::AvailableAt, Expr::value(tx.now()))
        .col_expr(step::Column::CompletedAt, Expr::value(Option::<chrono::DateTime<chrono::Utc>>::None))
        .col_expr(step::Column::Revision, Expr::col(step::Column::Revision).add(1))
        .filter(step::COLUMN.id.is_in(drafts.iter().map(|row| row.step_id)))
        .filter(step::COLUMN.status.eq(StepStatus::Completed))
        .exec_with_returning(tx.db())
        .await?;
    // Two edges of the law in one write: taken back, and fired again.
    let mut changes = Vec::new();
    for step in updated {
        let back = step::Model { status: StepStatus::Pending, ..step.clone() };
        changes.push(Change {
            step: back,
            from: Some(StepStatus::Completed),
            kind: "step.reset",
            reason: sweep.reason.clone(),
        });
        changes.push(Change {
            step,
            from: Some(StepStatus::Pending),
            kind: "step.queued",
            reason: sweep.reason.clone(),
        });
    }
    super::step::note(tx, run, &viewer.actor(), &changes).await?;
    Ok(last)
}

async fn drafts(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Vec<communication::Model>> {
    let mut select = communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(communication::COLUMN.status.eq(CommunicationStatus::Draft));
    if let Some(key) = sweep.last_key {
        select = select.filter(communication::COLUMN.id.gt(CommunicationId(key)));
    }
    Ok(select.order_by_asc(communication::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?)
}

/// Skips what was open in a cancelled run. Work that a worker holds may still settle, and starts nothing.
async fn cancel(tx: &Tx, viewer: &Viewer, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let open = step::Entity::find()
        .filter(step::COLUMN.run_id.eq(run.id))
        .filter(step::COLUMN.status.is_in(StepStatus::OPEN))
        .filter(step::COLUMN.lease_owner.is_null())
        .order_by_asc(step::COLUMN.id)
        .limit(limits::CHUNK)
        .all(tx.db())
        .await?;
    if let Some(last) = open.last() {
        let key = last.id.0;
        skip(tx, viewer, run, open, sweep.reason.clone()).await?;
        return Ok(Some(key));
    }
    let unsent = communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(communication::COLUMN.status.is_in([CommunicationStatus::Draft, CommunicationStatus::Approved]))
        .order_by_asc(communication::COLUMN.id)
        .limit(limits::CHUNK)
        .all(tx.db())
        .await?;
    if let Some(last) = unsent.last() {
        let key = last.id.0;
        let places: Vec<RunRecordId> = unsent.iter().map(|row| row.run_record_id).collect();
        crate::communication::drop_of_places(tx, viewer, run, &places, "the run was cancelled").await?;
        return Ok(Some(key));
    }
    let mut held = Query::select();
    held.column(step::Column::RunRecordId)
        .from(step::Entity)
        .and_where(step::COLUMN.run_id.eq(run.id))
        .and_where(step::COLUMN.lease_owner.is_not_null())
        .and_where(step::COLUMN.run_record_id.is_not_null());
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Outcome::Skipped.to_value()))
        .col_expr(run_record::Column::Reason, Expr::value("RUN_CANCELLED"))
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(run_record::COLUMN.id.not_in_subquery(held))
        .exec(tx.db())
        .await?;
    Ok(None)
}

/// Skips steps, with their events.
pub(crate) async fn skip(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    steps: Vec<step::Model>,
    reason: Option<String>,
) -> Result<()> {
    let was: std::collections::HashMap<StepId, StepStatus> = steps.iter().map(|step| (step.id, step.status)).collect();
    let skipped = step::Entity::update_many()
        .col_expr(step::Column::Status, Expr::value(StepStatus::Skipped.to_value()))
        .col_expr(step::Column::Error, Expr::value(reason.clone()))
        .col_expr(step::Column::CompletedAt, Expr::value(tx.now()))
        .col_expr(step::Column::Revision, Expr::col(step::Column::Revision).add(1))
        .filter(step::COLUMN.id.is_in(steps.iter().map(|step| step.id)))
        .filter(step::COLUMN.status.is_in(StepStatus::OPEN))
        .filter(step::COLUMN.lease_owner.is_null())
        .exec_with_returning(tx.db())
        .await?;
    let changes: Vec<Change> = skipped
        .into_iter()
        .map(|step| Change { from: was.get(&step.id).copied(), step, kind: "step.skipped", reason: reason.clone() })
        .collect();
    super::step::note(tx, run, &viewer.actor(), &changes).await
}
