//! Runs over one audience: a run, and those that repeat it or one of its repeats.

use std::collections::{HashMap, HashSet};

use entity::id::*;
use entity::run::{COLUMN, Column, Entity, Model};
use entity::run_record::{self, Outcome};
use entity::{CommunicationStatus, RunStatus, RunType, communication};
use sea_orm::sea_query::{ExprTrait, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::{left_out_yet_reachable, open_ended};
use crate::domain::audience::suppression::key;
use crate::domain::message::communication::compared;
use crate::domain::run::snapshot;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;

/// A run with those that repeat it.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// The run whose audience it is, and every run that repeats one of the family.
    pub(super) all: Vec<Model>,
    pub(super) dialect: Dialect,
}

impl Family {
    /// Reads the family of a run.
    pub(crate) async fn of(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model) -> Result<Self> {
        let mut found = families(db, viewer, std::slice::from_ref(run)).await?;
        found.remove(&run.id).ok_or_else(|| Error::ours("a run without a family"))
    }

    /// The open one of its runs other than this one, as a refusal: it may reach those whom this one would.
    pub(super) fn alone(&self, run: RunId) -> std::result::Result<(), Refusal> {
        match self.all.iter().find(|other| other.id != run && other.status.is_open()) {
            Some(other) => {
                let told =
                    format!("the run {} of the same audience is {}: wait for it, or cancel it", other.id, other.status);
                Err(Refusal::conflict(told).with("runId", json!(other.id)))
            }
            None => Ok(()),
        }
    }

    /// The records that the family is through with: reached, or left out for a reason that stands.
    pub(in crate::domain::run) fn closed(&self) -> SelectStatement {
        let mut records = Query::select();
        records
            .column(run_record::Column::RecordId)
            .from(run_record::Entity)
            .and_where(any_of(self.dialect, run_record::COLUMN.run_id, self.ids()))
            .and_where(run_record::Column::RecordId.is_not_null())
            .and_where(open_ended().or(left_out_yet_reachable(self)).not());
        records
    }

    /// The messages that went to some addresses, as they are compared, or may have gone: the message, its record, its step, the
    /// address. Neither tests nor meetings are among it.
    pub(crate) async fn written(
        &self,
        db: &impl ConnectionTrait,
        keys: &[String],
    ) -> Result<Vec<(CommunicationId, Option<RecordId>, StepId, String)>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found = communication::Entity::find()
            .select_only()
            .columns([
                communication::Column::Id,
                communication::Column::RecordId,
                communication::Column::StepId,
                communication::Column::ToAddress,
            ])
            .filter(any_of(self.dialect, communication::COLUMN.run_id, self.ids()))
            .filter(communication::COLUMN.status.is_in(HANDED_OVER))
            .filter(communication::COLUMN.test.eq(false))
            .filter(communication::Column::MeetingId.is_null())
            .filter(any_of(self.dialect, compared(), keys.iter().cloned()));
        Ok(found.into_tuple().all(db).await?)
    }

    /// The records by which the family has reached some addresses, or may have: by the address, as it is compared.
    pub(in crate::domain::run) async fn reached(
        &self,
        db: &impl ConnectionTrait,
        keys: &[String],
    ) -> Result<HashMap<String, HashSet<Option<RecordId>>>> {
        let mut reached: HashMap<String, HashSet<Option<RecordId>>> = HashMap::new();
        let places: Vec<(Option<String>, Option<RecordId>)> = run_record::Entity::find()
            .select_only()
            .columns([run_record::Column::AddressKey, run_record::Column::RecordId])
            .filter(any_of(self.dialect, run_record::COLUMN.run_id, self.ids()))
            .filter(any_of(self.dialect, run_record::Column::AddressKey, keys.iter().cloned()))
            .filter(run_record::COLUMN.outcome.is_in(REACHED))
            .into_tuple()
            .all(db)
            .await?;
        for (address, record) in places {
            reached.entry(address.unwrap_or_default()).or_default().insert(record);
        }
        // One of several messages of a recipient that is not reached by all of them.
        for (_, record, _, address) in self.written(db, keys).await? {
            reached.entry(key(&address)).or_default().insert(record);
        }
        Ok(reached)
    }

    /// Its runs but one.
    pub(in crate::domain::run) fn others(&self, run: RunId) -> impl Iterator<Item = &Model> {
        self.all.iter().filter(move |other| other.id != run)
    }

    /// The ids of its runs.
    pub(super) fn ids(&self) -> impl Iterator<Item = RunId> {
        self.all.iter().map(|run| run.id)
    }

    /// The run whose audience the family is of.
    pub(in crate::domain::run) fn base(&self) -> &Model {
        &self.all[0]
    }

    /// True if it has but one run.
    pub(super) fn is_single(&self) -> bool {
        self.all.len() == 1
    }

    /// The run whose places tell who was meant by one of the family: a run that ended before it had taken its audience in stands
    /// for the one that it repeats. None where not even the first one had, so that its audience says so.
    pub(in crate::domain::run) fn meant<'a>(&'a self, run: &'a Model) -> Result<Option<&'a Model>> {
        let mut run = run;
        while !run.audience_done {
            if run.id == self.base().id {
                return Ok(None);
            }
            let parent = run.parent_id.and_then(|id| self.all.iter().find(|other| other.id == id));
            run = parent.ok_or_else(|| Error::ours("a run that repeats none"))?;
        }
        Ok(Some(run))
    }
}

/// Places of these outcomes were reached, or may have been.
pub(super) const REACHED: [Outcome; 2] = [Outcome::Sent, Outcome::Unknown];

/// Messages of these statuses have reached somebody, or may have.
pub(super) const HANDED_OVER: [CommunicationStatus; 3] =
    [CommunicationStatus::Sending, CommunicationStatus::Sent, CommunicationStatus::Unknown];

/// The families of some runs, by the run. The number of statements grows with the length of their chains, not with the runs.
pub(super) async fn families(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    runs: &[Model],
) -> Result<HashMap<RunId, Family>> {
    let bases = bases(db, viewer, runs).await?;
    let mut seen: HashSet<RunId> = bases.values().map(|base| base.id).collect();
    let mut newest: Vec<RunId> = seen.iter().copied().collect();
    let mut children: HashMap<RunId, Vec<Model>> = HashMap::new();
    while !newest.is_empty() {
        let found = Entity::find()
            .filter(COLUMN.org_id.eq(viewer.org_id))
            .filter(any_of(db.get_database_backend(), Column::ParentId, newest.iter().copied()))
            .filter(COLUMN.run_type.ne(RunType::TestRun))
            .order_by_asc(COLUMN.id)
            .all(db)
            .await?;
        newest = found.iter().map(|child| child.id).filter(|id| seen.insert(*id)).collect();
        for child in found {
            if let Some(parent) = child.parent_id {
                children.entry(parent).or_default().push(child);
            }
        }
    }
    let dialect = db.get_database_backend().into();
    let below = |base: Model| {
        let mut all = vec![base];
        let mut next = 0;
        while let Some(run) = all.get(next) {
            let mine = children.get(&run.id).cloned().unwrap_or_default();
            all.extend(mine);
            next += 1;
        }
        Family { all, dialect }
    };
    Ok(bases.into_iter().map(|(run, base)| (run, below(base))).collect())
}

/// The runs whose audiences some runs are over: as long as only what failed is repeated, that of the run that is repeated.
async fn bases(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[Model]) -> Result<HashMap<RunId, Model>> {
    let mut bases: HashMap<RunId, Model> = runs.iter().map(|run| (run.id, run.clone())).collect();
    loop {
        // A run that waits for its time repeats none.
        let repeats = |base: &&Model| base.parent_id.is_some() && base.status != RunStatus::Scheduled;
        let ids: HashSet<RunId> = bases.values().filter(repeats).map(|base| base.id).collect();
        if ids.is_empty() {
            return Ok(bases);
        }
        let ids: Vec<RunId> = ids.into_iter().collect();
        let briefs = snapshot::of_begun(db, viewer, &ids).await?;
        let only_failed = |base: &Model| {
            let told = briefs.get(&base.id).and_then(|snapshot| snapshot.instructions.as_ref());
            base.parent_id.filter(|_| told.is_some_and(|told| told.only_failed))
        };
        let wanted: HashSet<RunId> = bases.values().filter_map(only_failed).collect();
        if wanted.is_empty() {
            return Ok(bases);
        }
        let found = Entity::find()
            .filter(COLUMN.org_id.eq(viewer.org_id))
            .filter(any_of(db.get_database_backend(), COLUMN.id, wanted))
            .all(db)
            .await?;
        let found: HashMap<RunId, Model> = found.into_iter().map(|run| (run.id, run)).collect();
        for base in bases.values_mut() {
            if let Some(parent) = only_failed(base) {
                let parent =
                    found.get(&parent).ok_or_else(|| Error::ours(format!("{parent} is repeated, and gone")))?;
                *base = parent.clone();
            }
        }
    }
}
