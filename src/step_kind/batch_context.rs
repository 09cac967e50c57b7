//! The data that the settings of a batch's steps may refer to, read once per run, not once per
//! step.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::id::*;
use futures_util::future::join_all;
use serde_json::{Map, Value};

use super::{Claimed, Outcome};
use crate::domain::run::snapshot::{self, RunSnapshot};
use crate::domain::run::values::Values;
use crate::kernel::budget::{self, EvaluationPool};
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result};
use crate::kernel::storable;

/// The run's snapshot and the template values of each claimed step, in order.
pub(super) type Batch = Arc<Vec<(Arc<RunSnapshot>, Map<String, Value>)>>;

/// Timeout of one org's steps in a batch of several orgs, whose threads others wait for.
const SLICE: Duration = Duration::from_secs(2);

/// Reads the snapshots and values of a batch.
pub(super) async fn of_batch(db: &Db, claimed: &[Claimed]) -> Result<Batch> {
    let mut by_run: HashMap<RunId, Vec<&Claimed>> = HashMap::new();
    for claim in claimed {
        by_run.entry(claim.run.id).or_default().push(claim);
    }
    let mut all: HashMap<RunId, (Arc<RunSnapshot>, Values)> = HashMap::new();
    for (id, claims) in by_run {
        let run = &claims[0].run;
        let snapshot = snapshot::of(db.read(), run).await?;
        let recipients: Vec<RunRecordId> = claims.iter().filter_map(|claim| claim.step.run_record_id).collect();
        let records: Vec<RecordId> = claims.iter().filter_map(|claim| claim.step.record_id).collect();
        let values = Values::read(db.read(), run, &snapshot, &recipients, &records).await?;
        all.insert(id, (snapshot, values));
    }
    let contexts = claimed.iter().filter_map(|claim| {
        let (snapshot, values) = all.get(&claim.run.id)?;
        Some((snapshot.clone(), values.of(claim.step.run_record_id, claim.step.record_id)))
    });
    Ok(Arc::new(contexts.collect()))
}

/// Evaluates each step of a batch from its settings and values, off the async threads. Each org has
/// its own evaluation, within its share of the threads: a slow one keeps no other waiting. `None`
/// for steps that were not reached in time; their outcome is [`not_yet`].
pub(super) async fn evaluated<T: Send + 'static>(
    batch: &Batch,
    claimed: &[Claimed],
    evaluate: impl Fn(&Value, &Map<String, Value>, Instant) -> T + Send + Sync + 'static,
) -> Result<Vec<Option<T>>> {
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
                let (snapshot, values) = &batch[own[i]];
                let settings = snapshot.step(&keys[i]).map_or(&Value::Null, |(_, step)| step.settings());
                evaluate(settings, values, until)
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
    let mut all: Vec<Option<T>> = claimed.iter().map(|_| None).collect();
    for of_org in join_all(of_orgs).await {
        for (i, done) in of_org? {
            all[i] = done;
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

/// A step's settings; null if it has none.
pub(super) fn settings<'a>(snapshot: &'a RunSnapshot, claim: &Claimed) -> &'a Value {
    snapshot.step(&claim.step.key).map_or(&Value::Null, |(_, step)| step.settings())
}
