//! The data that the settings of a batch's steps may refer to, read once per run, not once per
//! step.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use entity::id::*;
use serde_json::{Map, Value};

use super::{Claimed, Outcome};
use crate::domain::run::snapshot::{self, RunSnapshot};
use crate::domain::run::values::mentions::Mentions;
use crate::domain::run::values::{Reader, Values};
use crate::kernel::budget::{self, EvaluationPool};
use crate::kernel::db::Db;
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

/// Evaluates each step of a batch from its settings and values, off the async threads. The orgs
/// take turns. `None` for steps whose turn did not come in time, or whose values had no room; their
/// outcome is [`not_yet`].
pub(super) async fn evaluated<T: Send + 'static>(
    batch: &Batch,
    claimed: &[Claimed],
    evaluate: impl Fn(&Value, &Map<String, Value>, Instant) -> std::result::Result<T, String> + Send + 'static,
) -> Result<Vec<Option<std::result::Result<T, String>>>> {
    let keys: Vec<String> = claimed.iter().map(|claim| claim.step.key.clone()).collect();
    let orgs: Vec<OrgId> = claimed.iter().map(|claim| claim.run.org_id).collect();
    let batch = batch.clone();
    let done = budget::run(EvaluationPool::Engine, move |end| {
        budget::in_turn(&orgs, end, |i, until| {
            let context = &batch[i];
            let settings = context.snapshot.step(&keys[i]).map_or(&Value::Null, |(_, step)| step.settings());
            // Parsed here, for one step at a time.
            Some(context.values()?.and_then(|values| evaluate(settings, &values, until)))
        })
    });
    match done.await {
        // All evaluation threads are busy.
        Err(Error::Refused(_)) => Ok(claimed.iter().map(|_| None).collect()),
        done => Ok(done?.into_iter().map(Option::flatten).collect()),
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
