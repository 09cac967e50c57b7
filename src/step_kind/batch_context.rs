//! The data that the settings of a batch's steps may refer to, read once per run, not once per
//! step.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::id::*;
use entity::record;
use entity::step::StepReason;
use futures_util::future::join_all;
use sea_orm::{EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Map, Value};

use super::{Claimed, Outcome};
use crate::domain::run::snapshot::{self, RunSnapshot};
use crate::domain::run::values::mentions::Mentions;
use crate::domain::run::values::{Reader, Values};
use crate::kernel::budget::{self, EvaluationPool};
use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::{limits, storable};

/// The run's snapshot of a claimed step, and its template values, which it shares with the other
/// steps of the run.
#[derive(Clone, Debug)]
pub(super) struct StepContext {
    pub(super) snapshot: Arc<RunSnapshot>,
    /// `None` if the results for this step had no room in the batch.
    shared: Option<Arc<Values>>,
    reader: Reader,
}

impl StepContext {
    /// Builds the step's template values; `None` if they were not read. The error says that the
    /// results among them are too large.
    pub(super) fn values(&self) -> Option<std::result::Result<Map<String, Value>, String>> {
        self.shared.as_ref().map(|shared| shared.of(&self.reader))
    }

    /// The step's record.
    pub(super) fn record(&self) -> Value {
        self.shared.as_ref().map_or(Value::Null, |shared| shared.record(&self.reader))
    }
}

/// The context of each claimed step, in order.
pub(super) type Batch = Arc<Vec<StepContext>>;

/// Timeout of one org's steps in a batch of several orgs, whose threads others wait for.
const SLICE: Duration = Duration::from_secs(2);

/// Reads the snapshots and values of a batch. All its results together are bounded: a step that
/// finds no room is postponed.
pub(super) async fn of_batch(db: &Db, claimed: &[Claimed]) -> Result<Batch> {
    let mut by_run: HashMap<RunId, Vec<usize>> = HashMap::new();
    for (i, claim) in claimed.iter().enumerate() {
        by_run.entry(claim.run.id).or_default().push(i);
    }
    let mut contexts: Vec<Option<StepContext>> = claimed.iter().map(|_| None).collect();
    let mut left = limits::RESULTS_READ_BYTES;
    for indices in by_run.into_values() {
        let run = &claimed[indices[0]].run;
        let snapshot = snapshot::of(db.read(), run).await?;
        let reader = |i: &usize| {
            let claim = &claimed[*i];
            Reader::of(&claim.step, Mentions::of_json(settings(&snapshot, claim)))
        };
        let readers: Vec<Reader> = indices.iter().map(reader).collect();
        let shared = match left {
            0 => None,
            _ => Some(Arc::new(Values::read(db.read(), run, &snapshot, &readers, left).await?)),
        };
        let covered = shared.as_ref().map_or(0, |shared| shared.covered());
        left = left.saturating_sub(shared.as_ref().map_or(0, |shared| shared.results_bytes()));
        for (nth, (i, reader)) in indices.into_iter().zip(readers).enumerate() {
            let shared = shared.clone().filter(|_| nth < covered);
            contexts[i] = Some(StepContext { snapshot: snapshot.clone(), shared, reader });
        }
    }
    Ok(Arc::new(contexts.into_iter().flatten().collect()))
}

/// Evaluates each step of a batch from its settings and values, off the async threads. Each org has
/// its own evaluation, within its share of the threads: a slow one keeps no other waiting. `None`
/// for steps that were not reached in time, or whose values had no room; their outcome is [`not_yet`].
pub(super) async fn evaluated<T: Send + 'static>(
    batch: &Batch,
    claimed: &[Claimed],
    evaluate: impl Fn(&Value, &Map<String, Value>, Instant) -> std::result::Result<T, String> + Send + Sync + 'static,
) -> Result<Vec<Option<std::result::Result<T, String>>>> {
    let mut by_org: BTreeMap<OrgId, Vec<usize>> = BTreeMap::new();
    for (i, claim) in claimed.iter().enumerate() {
        by_org.entry(claim.run.org_id).or_default().push(i);
    }
    let several = by_org.len() > 1;
    let evaluate = Arc::new(evaluate);
    let of_orgs = by_org.into_iter().map(|(org, indices)| {
        let keys: Vec<String> = indices.iter().map(|i| claimed[*i].step.key.clone()).collect();
        let (batch, evaluate, own) = (batch.clone(), evaluate.clone(), indices.clone());
        let work = move |end: Instant| {
            let end = if several { Ord::min(end, Instant::now() + SLICE) } else { end };
            budget::in_turn(&vec![(); own.len()], end, |i, until| {
                let context = &batch[own[i]];
                let settings = context.snapshot.step(&keys[i]).map_or(&Value::Null, |(_, step)| step.settings());
                // Parsed here, for one step at a time.
                Some(context.values()?.and_then(|values| evaluate(settings, &values, until)))
            })
        };
        async move {
            match budget::run_for(EvaluationPool::Engine, Some(org.uuid()), work).await {
                Ok(done) => Ok(indices.into_iter().zip(done).collect::<Vec<_>>()),
                // The org's threads are busy, or all of them.
                Err(Error::Refused(_)) => Ok(Vec::new()),
                Err(err) => Err(err),
            }
        }
    });
    let mut all: Vec<Option<std::result::Result<T, String>>> = claimed.iter().map(|_| None).collect();
    for of_org in join_all(of_orgs).await {
        for (i, done) in of_org? {
            all[i] = done.flatten();
        }
    }
    Ok(all)
}

/// The outcome of a step that could not be evaluated in time: postponed for a second, without using
/// up an attempt.
pub(super) fn not_yet<N>(db: &Db) -> Outcome<N> {
    let at = storable::after(db.now(), chrono::Duration::seconds(1));
    Outcome::Later { at, why: "the server was too busy to evaluate it".into(), data: None }
}

/// The records of the batch that were erased.
pub(super) async fn erased_among(db: &Db, claimed: &[Claimed]) -> Result<HashSet<RecordId>> {
    let ids = claimed.iter().filter_map(|claim| claim.step.record_id);
    let erased: Vec<RecordId> = record::Entity::find()
        .select_only()
        .column(record::Column::Id)
        .filter(any_of(db.dialect(), record::COLUMN.id, ids))
        .filter(record::COLUMN.erased_at.is_not_null())
        .into_tuple()
        .all(db.read())
        .await?;
    Ok(erased.into_iter().collect())
}

/// The outcome of a message to an erased record.
pub(super) fn erased<N>() -> Outcome<N> {
    Outcome::Skipped { reason: StepReason::NoAddress, why: "its record was erased".into() }
}

/// A step's settings; null if it has none.
pub(super) fn settings<'a>(snapshot: &'a RunSnapshot, claim: &Claimed) -> &'a Value {
    snapshot.step(&claim.step.key).map_or(&Value::Null, |(_, step)| step.settings())
}
