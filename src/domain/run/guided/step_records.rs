//! List of records that a person's step is about: live before the step is started, fixed from
//! then on, so that it does not shift during the work.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use entity::activity::{self, Entity as Activities};
use entity::id::*;
use entity::step::{Executor, Model, StepStatus};
use entity::step_record_list::{self, COLUMN, Entity};
use entity::{ActivityKind, run};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Set};
use serde_json::json;

use super::{active_step, records};
use crate::domain::plan::run_template::guided::GuidedConfig;
use crate::domain::run::step::Action;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Activities with a record within a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordAct {
    /// Record.
    pub record_id: RecordId,
    /// Kinds of activity, each once, in order.
    pub kinds: Vec<ActivityKind>,
    /// Time of the last activity.
    pub at: DateTime<Utc>,
}

/// List fixed when a step was started; none before.
pub async fn taken(db: &impl ConnectionTrait, viewer: &Viewer, id: StepId) -> Result<Option<step_record_list::Model>> {
    Ok(Entity::find_by_id(id).filter(COLUMN.org_id.eq(viewer.org_id)).one(db).await?)
}

/// Fixed lists of some steps, unordered; a step with a live list has none.
pub async fn taken_of(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    ids: &[StepId],
) -> Result<Vec<step_record_list::Model>> {
    let of = any_of(db.get_database_backend(), COLUMN.step_id, ids.iter().copied());
    Ok(Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(of).all(db).await?)
}

/// The ids of the records of a fixed list, in its order.
pub fn ids(list: &step_record_list::Model) -> Result<Vec<RecordId>> {
    let texts: Vec<String> = serde_json::from_value(list.records.clone())?;
    texts.iter().map(|text| text.parse::<RecordId>().map_err(Error::internal)).collect()
}

/// Activities within some steps, by step; records without activities are omitted.
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

/// Updates the list after a person's action: starting a step fixes it, resetting makes it live
/// again.
pub(in crate::domain::run) async fn follows(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    action: Action,
) -> Result<()> {
    if step.assigned_to != Executor::Human {
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

/// Fixes the current list, replacing an earlier one.
async fn take(tx: &Tx, viewer: &Viewer, run: &run::Model, step: &Model) -> Result<Option<usize>> {
    let guide = active_step::guide(tx.db(), run, step).await?;
    let current = records::live(tx.db(), tx.dialect(), tx.now(), viewer, run, &guide).await;
    // A missing segment is reported when the list is read.
    let current = match current {
        Err(Error::Refused(_)) => None,
        current => current?,
    };
    let Some(current) = current else {
        return Ok(None);
    };
    Entity::delete_by_id(step.id).exec(tx.db()).await?;
    let row = step_record_list::ActiveModel {
        step_id: Set(step.id),
        org_id: Set(run.org_id),
        records: Set(json!(current.iter().map(|record| record.id.to_string()).collect::<Vec<_>>())),
        created_at: Set(tx.now()),
    };
    row.insert(tx.db()).await?;
    Ok(Some(current.len()))
}

/// Checks that the step is about a list of records. Errors: CONFLICT.
pub(super) fn check_listed(step: &Model, guide: &GuidedConfig) -> Result<()> {
    let why = match step.record_id {
        _ if guide.records.is_some() => return Ok(()),
        Some(_) => "this step is about its own record: there is no list to refresh",
        None => "this step is about no records",
    };
    Err(Refusal::conflict(why).into())
}

/// Replaces the fixed list of a step in progress by the current one. Errors: NOT_FOUND; CONFLICT if
/// the step is not in progress, is assigned to somebody else, or is about no records.
pub async fn refresh(db: &WriteContext, viewer: &Viewer, id: StepId) -> Result<Model> {
    transact!(db, |tx| {
        let active = active_step::enter(tx, viewer, id).await?;
        debug_assert_eq!(active.step.status, StepStatus::InProgress);
        check_listed(&active.step, &active.guide)?;
        let Some(count) = take(tx, viewer, &active.run, &active.step).await? else {
            return Err(Refusal::conflict("the segment that this step is about is missing").into());
        };
        let payload = json!({ "key": active.step.key, "name": active.step.name, "records": count });
        let event =
            Event::new(viewer.org_id, "step.records_refreshed", &viewer.actor()).run(&active.run).step(&active.step);
        event::append(tx, event.payload(payload));
        tx.set_result(id);
        Ok(active.step)
    })
}
