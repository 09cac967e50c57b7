//! The list that a step of guided work is about: live before it is started, taken when it is, so that it does not shift
//! while somebody works in it.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use entity::activity::{self, Entity as Activities};
use entity::id::*;
use entity::step::{Model, StepStatus};
use entity::step_record_list::{self, COLUMN, Entity};
use entity::{ActivityKind, RunType, record, run};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Set};
use serde_json::json;

use super::{active_step, records};
use crate::domain::plan::run_template::guided::GuidedConfig;
use crate::domain::run::step::Action;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// What was done with a record from within a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordAct {
    /// The record.
    pub record_id: RecordId,
    /// What was done, each kind once, in the order of doing.
    pub kinds: Vec<ActivityKind>,
    /// The time of the last.
    pub at: DateTime<Utc>,
}

/// The list that was taken when a step was started; none before.
pub async fn taken(db: &impl ConnectionTrait, viewer: &Viewer, id: StepId) -> Result<Option<step_record_list::Model>> {
    Ok(Entity::find_by_id(id).filter(COLUMN.org_id.eq(viewer.org_id)).one(db).await?)
}

/// The lists that were taken for some steps, in no order; a step whose list is live has none.
pub async fn taken_of(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    ids: &[StepId],
) -> Result<Vec<step_record_list::Model>> {
    let of = any_of(db.get_database_backend(), COLUMN.step_id, ids.iter().copied());
    Ok(Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(of).all(db).await?)
}

/// The records that a step is about, as they are now: those of its list, in its order; live before it was started. None: it
/// is about none.
pub async fn of(
    db: &Db,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    guide: &GuidedConfig,
) -> Result<Option<Vec<record::Model>>> {
    let Some(list) = taken(db.read(), viewer, step.id).await? else { return records::of(db, viewer, run, guide).await };
    let ids: Vec<RecordId> = ids(&list)?;
    let mut found = crate::domain::audience::record::find_all(db.read(), viewer, &ids).await?;
    let place = |id: RecordId| ids.iter().position(|other| *other == id);
    found.sort_by_key(|record| place(record.id));
    Ok(Some(found))
}

fn ids(list: &step_record_list::Model) -> Result<Vec<RecordId>> {
    let texts: Vec<String> = serde_json::from_value(list.records.clone())?;
    texts.iter().map(|text| text.parse::<RecordId>().map_err(Error::ours)).collect()
}

/// Acts on the records of some steps from within them, by step; a record with which nothing was done is not in it.
pub async fn done_of(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    ids: &[StepId],
) -> Result<HashMap<StepId, Vec<RecordAct>>> {
    let all = Activities::find()
        .filter(activity::COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), activity::COLUMN.step_id, ids.iter().copied()))
        .order_by_asc(activity::COLUMN.id)
        .all(db)
        .await?;
    let mut by_step: HashMap<StepId, BTreeMap<RecordId, RecordAct>> = HashMap::new();
    for row in all {
        let Some(record_id) = row.record_id else { continue };
        let of_step = by_step.entry(row.step_id).or_default();
        let one = of_step.entry(record_id).or_insert(RecordAct { record_id, kinds: Vec::new(), at: row.at });
        if !one.kinds.contains(&row.kind) {
            one.kinds.push(row.kind);
        }
        one.at = row.at;
    }
    Ok(by_step.into_iter().map(|(id, done)| (id, done.into_values().collect())).collect())
}

/// What follows for the list from a person's act on a step: started, it takes one; taken back, it is live again.
pub(in crate::domain::run) async fn follows(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    action: Action,
) -> Result<()> {
    if run.run_type != RunType::Guided {
        return Ok(());
    }
    match action {
        Action::Start => take(tx, viewer, run, step).await.map(|_| ()),
        Action::Reset | Action::Restart => {
            Entity::delete_by_id(step.id).exec(tx.db()).await?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Takes the list of now, in place of the one before.
async fn take(tx: &Tx, viewer: &Viewer, run: &run::Model, step: &Model) -> Result<Option<usize>> {
    let guide = active_step::guide(tx.db(), run, step).await?;
    let found = records::live(tx.db(), tx.dialect(), tx.now(), viewer, run.id, &guide).await;
    // A segment that is gone is told when the list is looked at.
    let found = match found {
        Err(Error::Refused(_)) => None,
        found => found?,
    };
    let Some(found) = found else {
        return Ok(None);
    };
    Entity::delete_by_id(step.id).exec(tx.db()).await?;
    let row = step_record_list::ActiveModel {
        step_id: Set(step.id),
        org_id: Set(run.org_id),
        records: Set(json!(found.iter().map(|record| record.id.to_string()).collect::<Vec<_>>())),
        created_at: Set(tx.now()),
    };
    row.insert(tx.db()).await?;
    Ok(Some(found.len()))
}

/// Looks again: the list of a step in progress becomes the one of now. Errors: NOT_FOUND; CONFLICT where the step is not in
/// progress, is somebody else's, or is about no records.
pub async fn refresh(db: &Db, viewer: &Viewer, id: StepId) -> Result<Model> {
    transact!(db, |tx| {
        let within = active_step::enter(tx, viewer, id).await?;
        debug_assert_eq!(within.step.status, StepStatus::InProgress);
        let Some(count) = take(tx, viewer, &within.run, &within.step).await? else {
            return Err(Refusal::conflict("this step is about no records").into());
        };
        let told = json!({ "key": within.step.key, "name": within.step.name, "records": count });
        let event =
            Event::new(viewer.org_id, "step.records_refreshed", &viewer.actor()).run(&within.run).step(&within.step);
        event::append(tx, event.payload(told));
        tx.set_result(id);
        Ok(within.step)
    })
}
