//! Families of runs over one audience: a run, and the runs that repeat its failed work, directly or
//! indirectly.

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
use crate::domain::message::communication::{is_own, normalized_address};
use crate::domain::run::snapshot;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Family of runs over one audience.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// The base run, first, and every run that repeats one of the family.
    pub(super) all: Vec<Model>,
    pub(super) dialect: Dialect,
}

impl Family {
    /// Loads the family of a run.
    pub(crate) async fn of(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model) -> Result<Self> {
        let mut found = families(db, viewer, std::slice::from_ref(run)).await?;
        found.remove(&run.id).ok_or_else(|| Error::internal("a run without a family"))
    }

    /// Locks the family's runs, in the order of their ids. A repeat of failed work is queued, and a reply
    /// is recorded, under these locks: the repeat finds every reply that came before it, and a reply every
    /// repeat that was queued before.
    pub(in crate::domain::run) async fn lock(&self, tx: &Tx) -> Result<()> {
        let runs = Entity::find().select_only().column(Column::Id).filter(any_of(self.dialect, COLUMN.id, self.ids()));
        let runs = runs.order_by_asc(COLUMN.id).lock_exclusive().into_tuple::<RunId>();
        runs.all(tx.db()).await?;
        Ok(())
    }

    /// Checks that no other run of the family is open: it might reach the same recipients.
    pub(super) fn alone(&self, run: RunId) -> std::result::Result<(), Refusal> {
        match self.all.iter().find(|other| other.id != run && other.status.is_open()) {
            Some(other) => {
                let message =
                    format!("the run {} of the same audience is {}: wait for it, or cancel it", other.id, other.status);
                Err(Refusal::conflict(message).with("runId", json!(other.id)))
            }
            None => Ok(()),
        }
    }

    /// Subquery of the records that the family has finished with: reached, or skipped for a lasting
    /// reason.
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

    /// The given records that the family has finished with.
    pub(in crate::domain::run) async fn closed_among(
        &self,
        db: &impl ConnectionTrait,
        records: impl IntoIterator<Item = RecordId>,
    ) -> Result<HashSet<RecordId>> {
        let mut closed = self.closed();
        closed.and_where(any_of(self.dialect, run_record::COLUMN.record_id, records));
        let found = db.query_all(&closed).await?;
        found.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
    }

    /// Messages that were, or may have been, sent to some normalized addresses: message, record,
    /// step and address. Excludes tests and meetings, and people's mail within campaigns' runs.
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
            .filter(is_own())
            .filter(communication::Column::MeetingId.is_null())
            .filter(any_of(self.dialect, normalized_address(), keys.iter().cloned()));
        Ok(found.into_tuple().all(db).await?)
    }

    /// Messages that the family's other runs have sent, or may have sent, to some normalized addresses or
    /// records: run, record, step and address. Excludes tests and meetings, and people's mail within
    /// campaigns' runs.
    pub(crate) async fn written_by_others(
        &self,
        db: &impl ConnectionTrait,
        run: RunId,
        keys: &[String],
        records: &[RecordId],
    ) -> Result<Vec<(RunId, Option<RecordId>, StepId, String)>> {
        let to_address = any_of(self.dialect, normalized_address(), keys.iter().cloned());
        let to_record = any_of(self.dialect, communication::COLUMN.record_id, records.iter().copied());
        let found = communication::Entity::find()
            .select_only()
            .columns([
                communication::Column::RunId,
                communication::Column::RecordId,
                communication::Column::StepId,
                communication::Column::ToAddress,
            ])
            .filter(any_of(self.dialect, communication::COLUMN.run_id, self.others(run).map(|other| other.id)))
            .filter(communication::COLUMN.status.is_in(HANDED_OVER))
            .filter(communication::COLUMN.test.eq(false))
            .filter(is_own())
            .filter(communication::Column::MeetingId.is_null())
            .filter(to_address.or(to_record));
        Ok(found.into_tuple().all(db).await?)
    }

    /// Records through which the family has, or may have, reached some addresses, by normalized
    /// address.
    pub(in crate::domain::run) async fn reached(
        &self,
        db: &impl ConnectionTrait,
        keys: &[String],
    ) -> Result<HashMap<String, HashSet<Option<RecordId>>>> {
        let mut reached: HashMap<String, HashSet<Option<RecordId>>> = HashMap::new();
        let recipients: Vec<(Option<String>, Option<RecordId>)> = run_record::Entity::find()
            .select_only()
            .columns([run_record::Column::AddressKey, run_record::Column::RecordId])
            .filter(any_of(self.dialect, run_record::COLUMN.run_id, self.ids()))
            .filter(any_of(self.dialect, run_record::Column::AddressKey, keys.iter().cloned()))
            .filter(run_record::COLUMN.outcome.is_in(REACHED))
            .into_tuple()
            .all(db)
            .await?;
        for (address, record) in recipients {
            reached.entry(address.unwrap_or_default()).or_default().insert(record);
        }
        // One of several messages of a recipient that did not get all of them.
        for (_, record, _, address) in self.written(db, keys).await? {
            reached.entry(key(&address)).or_default().insert(record);
        }
        Ok(reached)
    }

    /// Runs of the family except one.
    pub(in crate::domain::run) fn others(&self, run: RunId) -> impl Iterator<Item = &Model> {
        self.all.iter().filter(move |other| other.id != run)
    }

    /// Ids of the family's runs.
    pub(super) fn ids(&self) -> impl Iterator<Item = RunId> {
        self.all.iter().map(|run| run.id)
    }

    /// Base run, which defines the family's audience.
    pub(in crate::domain::run) fn base(&self) -> &Model {
        &self.all[0]
    }

    /// True if the family has only one run.
    pub(in crate::domain::run) fn is_single(&self) -> bool {
        self.all.len() == 1
    }

    /// Run whose recipients are the audience of a run of the family. A run that ended before its
    /// audience was complete stands for the run it repeats. None if not even the base run's
    /// audience is complete.
    pub(in crate::domain::run) fn audience_run<'a>(&'a self, run: &'a Model) -> Result<Option<&'a Model>> {
        let mut run = run;
        while !run.audience_done {
            if run.id == self.base().id {
                return Ok(None);
            }
            let parent = run.parent_id.and_then(|id| self.all.iter().find(|other| other.id == id));
            run = parent.ok_or_else(|| Error::internal("a repeat without its parent run"))?;
        }
        Ok(Some(run))
    }
}

/// Outcomes of recipients that were reached, or may have been.
pub(super) const REACHED: [Outcome; 2] = [Outcome::Sent, Outcome::Unknown];

/// Statuses of messages that reached somebody, or may have.
pub(super) const HANDED_OVER: [CommunicationStatus; 3] =
    [CommunicationStatus::Sending, CommunicationStatus::Sent, CommunicationStatus::Unknown];

/// Loads the families of some runs, by run. The number of statements grows with the length of the
/// chains of repeats, not with the runs.
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
    let descendants = |base: Model| {
        let mut all = vec![base];
        let mut next = 0;
        while let Some(run) = all.get(next) {
            let mine = children.get(&run.id).cloned().unwrap_or_default();
            all.extend(mine);
            next += 1;
        }
        Family { all, dialect }
    };
    Ok(bases.into_iter().map(|(run, base)| (run, descendants(base))).collect())
}

/// Base runs of some runs: follows the parents as long as each run repeats only failed work.
async fn bases(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[Model]) -> Result<HashMap<RunId, Model>> {
    let mut bases: HashMap<RunId, Model> = runs.iter().map(|run| (run.id, run.clone())).collect();
    loop {
        // A scheduled run repeats no other.
        let repeats = |base: &&Model| base.parent_id.is_some() && base.status != RunStatus::Scheduled;
        let ids: HashSet<RunId> = bases.values().filter(repeats).map(|base| base.id).collect();
        if ids.is_empty() {
            return Ok(bases);
        }
        let ids: Vec<RunId> = ids.into_iter().collect();
        let snapshots = snapshot::of_begun(db, viewer, &ids).await?;
        let only_failed = |base: &Model| {
            let instructions = snapshots.get(&base.id).and_then(|snapshot| snapshot.instructions.as_ref());
            base.parent_id.filter(|_| instructions.is_some_and(|instructions| instructions.only_failed))
        };
        let parents: HashSet<RunId> = bases.values().filter_map(only_failed).collect();
        if parents.is_empty() {
            return Ok(bases);
        }
        let found = Entity::find()
            .filter(COLUMN.org_id.eq(viewer.org_id))
            .filter(any_of(db.get_database_backend(), COLUMN.id, parents))
            .all(db)
            .await?;
        let found: HashMap<RunId, Model> = found.into_iter().map(|run| (run.id, run)).collect();
        for base in bases.values_mut() {
            if let Some(parent) = only_failed(base) {
                let parent = found
                    .get(&parent)
                    .ok_or_else(|| Error::internal(format!("the repeated run {parent} is missing")))?;
                *base = parent.clone();
            }
        }
    }
}
