//! The data that the settings of a batch's steps may refer to, read once per run, not once per
//! step.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use entity::id::*;
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

/// Evaluates each step of a batch from its settings and values, off the async threads. The orgs
/// take turns. `None` for steps whose turn did not come in time; their outcome is [`not_yet`].
pub(super) async fn evaluated<T: Send + 'static>(
    batch: &Batch,
    claimed: &[Claimed],
    evaluate: impl Fn(&Value, &Map<String, Value>, Instant) -> T + Send + 'static,
) -> Result<Vec<Option<T>>> {
    let keys: Vec<String> = claimed.iter().map(|claim| claim.step.key.clone()).collect();
    let orgs: Vec<OrgId> = claimed.iter().map(|claim| claim.run.org_id).collect();
    let batch = batch.clone();
    let done = budget::run(EvaluationPool::Engine, move |end| {
        budget::in_turn(&orgs, end, |i, until| {
            let (snapshot, values) = &batch[i];
            let settings = snapshot.step(&keys[i]).map_or(&Value::Null, |(_, step)| step.settings());
            evaluate(settings, values, until)
        })
    });
    match done.await {
        // All evaluation threads are busy.
        Err(Error::Refused(_)) => Ok(claimed.iter().map(|_| None).collect()),
        done => done,
    }
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
