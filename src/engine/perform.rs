//! Claims due steps, performs them, and settles their results, in batches. Claim and settle are two
//! short transactions; none is open while a step is performed.

use chrono::{DateTime, Utc};
use entity::id::*;
use futures_util::FutureExt;
use sea_orm::ConnectionTrait;
use tokio::sync::Mutex;
use tracing::Instrument;

use super::failed_work::guarded;
use super::slots::{OrgSlots, QueueWorker, SlotGuard};
use super::{EngineContext, lease, settle, slots};
use crate::kernel::db::fair::queue::Queue;
use crate::kernel::db::{Db, fair};
use crate::kernel::error::Result;
use crate::kernel::{failpoint, limits, storable};
use crate::step_kind::{Answer, Claimed, Outcome, Work};

/// Claims up to a batch of due steps and performs them. Returns their number.
pub async fn tick<W: Work>(context: &EngineContext, work: &W) -> Result<usize> {
    tick_in_turn(context, work, &Mutex::new(())).await
}

/// `tick` for one of several loops with the same work. They share the lock `claiming` and claim one
/// after the other, since they would find the same steps.
pub(super) async fn tick_in_turn<W: Work>(context: &EngineContext, work: &W, claiming: &Mutex<()>) -> Result<usize> {
    let claimed = {
        let _guard = claiming.lock().await;
        take(context, work, u64::MAX, None).await?
    };
    if claimed.is_empty() {
        return Ok(0);
    }
    perform_batch(context, work, &claimed, SlotGuard::default()).await?;
    Ok(claimed.len())
}

/// The queue of steps of one kind that call an external system, which may be slow to answer.
#[derive(Debug)]
pub(super) struct Steps<W> {
    pub(super) context: EngineContext,
    pub(super) work: W,
}

impl<W: Work> QueueWorker for Steps<W> {
    type Taken = Claimed;
    const NAME: &'static str = W::KIND;

    fn slots(&self) -> u64 {
        self.work.batch()
    }

    fn is_shared(&self) -> bool {
        self.work.is_shared()
    }

    fn org(taken: &Claimed) -> OrgId {
        taken.run.org_id
    }

    async fn take(&self, most: u64, shares: Option<&OrgSlots>) -> Result<Vec<Claimed>> {
        take(&self.context, &self.work, most, shares).await
    }

    async fn finish(&self, taken: Vec<Claimed>, held: SlotGuard) -> Result<()> {
        perform_batch(&self.context, &self.work, &taken, held).await
    }
}

/// Claims due steps, up to a batch, and up to `most`.
async fn take<W: Work>(
    context: &EngineContext,
    work: &W,
    most: u64,
    shares: Option<&OrgSlots>,
) -> Result<Vec<Claimed>> {
    // Reads the due steps before the channel's allowance, which need not be read if none is due.
    let mut candidates = due(&context.db, work, work.batch().min(most), false, shares).await?;
    if candidates.is_empty() && work.bring_forward(&context.db).await? {
        candidates = due(&context.db, work, 1, false, shares).await?;
    }
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let room = work.allowance(&context.db).await?;
    let count = room.count.min(most);
    if room.latest_first && count > 0 {
        candidates = due(&context.db, work, count, true, shares).await?;
    }
    candidates.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let claimed = lease::claim(context, &candidates).instrument(tracing::info_span!("claim", kind = W::KIND)).await?;
    if !claimed.is_empty() {
        metrics::counter!("sortie_steps_claimed_total", "kind" => W::KIND).increment(claimed.len() as u64);
        failpoint::reach("claimed");
    }
    Ok(claimed)
}

/// Performs a claimed batch and renews its leases meanwhile. Each step is settled as soon as it is
/// answered.
async fn perform_batch<W: Work>(context: &EngineContext, work: &W, claimed: &[Claimed], held: SlotGuard) -> Result<()> {
    let begun = std::time::Instant::now();
    let renewing = async {
        let mut beat = tokio::time::interval(context.lease / 3);
        beat.tick().await;
        loop {
            beat.tick().await;
            if let Err(err) = lease::renew(context, claimed).await {
                log_failure!(warn, err, "leases could not be renewed");
            }
        }
    };
    let working = async {
        let answers = begin_all(context, work, claimed).instrument(tracing::info_span!("perform")).await;
        let answers =
            answers.into_iter().zip(claimed).map(|(answer, claim)| catch_panic(context, work, claim, answer).boxed());
        slots::settle_as_answered(answers.collect(), held, move |outcomes: Vec<(usize, Outcome<W::Outcome>)>| {
            let settling = async move { settle::settle_batch(context, work, claimed, &outcomes).await };
            settling.instrument(tracing::info_span!("settle"))
        })
        .await
    };
    let span = tracing::info_span!("work", kind = W::KIND, steps = claimed.len());
    // Both are polled concurrently: work that is not polled while its leases are renewed may hold
    // the very connection that the renewal needs.
    let outcome = async {
        tokio::select! {
            outcome = working => outcome,
            () = renewing => Ok(()),
        }
    };
    outcome.instrument(span).await?;
    failpoint::reach("settled");
    metrics::histogram!("sortie_work_seconds", "kind" => W::KIND).record(begun.elapsed());
    Ok(())
}

/// Awaits an answer. After a panic the step is performed once more: that attempt finds what was
/// already handed over and does not repeat it.
async fn catch_panic<'a, W: Work>(
    context: &'a EngineContext,
    work: &'a W,
    claim: &'a Claimed,
    answer: Answer<'a, W::Outcome>,
) -> Outcome<W::Outcome> {
    let err = match guarded(answer.map(Ok)).await {
        Ok(outcome) => return outcome,
        Err(err) => err,
    };
    log_failure!(error, err, kind = W::KIND, step = %claim.step.id, "performing failed");
    match begin_all(context, work, std::slice::from_ref(claim)).await.pop() {
        Some(answer) => {
            guarded(answer.map(Ok)).await.unwrap_or_else(|_| failed("internal error; see the server's log"))
        }
        None => failed("internal error; see the server's log"),
    }
}

/// Steps that look claimable; the claim itself checks again. This only reads, so that an idle loop
/// writes nothing.
///
/// Orgs take turns, so that one with many due steps does not starve the others. A step whose lease
/// lapsed `limits::CRASHES_IN_BATCH` times is claimed alone: if it ends this process, too, no
/// other step's lease lapses with it.
async fn due<W: Work>(
    db: &Db,
    work: &W,
    most: u64,
    latest_first: bool,
    shares: Option<&OrgSlots>,
) -> Result<Vec<(StepId, RunId)>> {
    due_on(db.read(), db.now(), work, most, latest_first, shares).await
}

/// Steps that look claimable at this time, as the engine's look finds them through a connection.
pub async fn find_claimable<W: Work>(
    connection: &impl ConnectionTrait,
    now: DateTime<Utc>,
    work: &W,
) -> Result<Vec<(StepId, RunId)>> {
    due_on(connection, now, work, work.batch(), false, None).await
}

async fn due_on<W: Work>(
    connection: &impl ConnectionTrait,
    now: DateTime<Utc>,
    work: &W,
    most: u64,
    latest_first: bool,
    shares: Option<&OrgSlots>,
) -> Result<Vec<(StepId, RunId)>> {
    let mut shares = shares.cloned();
    let full = shares.as_ref().map(OrgSlots::full).unwrap_or_default();
    let admitted = format!(
        "r.status = 'IN_PROGRESS' AND (c.id IS NULL OR c.status <> 'PAUSED') AND p.status = 'ACTIVE' \
         AND q.run_id NOT IN (SELECT subject FROM stuck WHERE next_try_at > $1 AND work IN ('CLAIM', 'RESCUE', 'SETTLE')) {}",
        work.run_condition()
    );
    let queue = Queue {
        table: "step",
        id: "id",
        queued: "status = 'QUEUED' AND kind = $2",
        // The engine's own kinds are outside only where an agent does them.
        grouped: "AND outside = FALSE",
        group: &["phase_id"],
        fit: "AND available_at <= $1 AND assigned_to = 'WORKFLOW'",
        columns: "id, run_id, phase_id, lapse_count, org_id, available_at",
        joins: "JOIN run r ON r.id = q.run_id LEFT JOIN campaign c ON c.id = r.campaign_id JOIN phase p ON p.id = q.phase_id",
        admitted: &admitted,
        wanted: "q.id, q.run_id, q.lapse_count, q.org_id AS org_id",
        latest_first,
        values: vec![now.into(), W::KIND.into()],
    };
    let rows = queue.take(connection, most, &full).await?;
    let each = rows.iter().map(|row| {
        let candidate: (StepId, RunId) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        Ok((candidate, row.try_get_by_index::<i32>(2)?, row.try_get_by_index::<OrgId>(3)?))
    });
    let rows = fair::by_turns(each.collect::<Result<Vec<_>>>()?, most, |row| row.2);
    let mut found = Vec::with_capacity(rows.len());
    for (candidate, lapses, org) in rows {
        let alone = lapses >= limits::CRASHES_IN_BATCH;
        if alone && found.is_empty() {
            return Ok(vec![candidate]);
        }
        if !alone && shares.as_mut().is_none_or(|shares| shares.take(org)) {
            found.push(candidate);
        }
    }
    Ok(found)
}

/// Begins all steps together. If that fails, begins them in halves, down to the single step that
/// fails. Work that fails as a whole has handed over nothing, so that it may be repeated.
async fn begin_all<'a, W: Work>(
    context: &'a EngineContext,
    work: &'a W,
    claimed: &'a [Claimed],
) -> Vec<Answer<'a, W::Outcome>> {
    let at_once = |outcome| std::future::ready(outcome).boxed();
    let (mut all, mut open) = (Vec::with_capacity(claimed.len()), vec![claimed]);
    while let Some(part) = open.pop() {
        match guarded(work.begin(&context.db, part)).await {
            Ok(answers) if answers.len() == part.len() => {
                all.extend(answers.into_iter().map(|answer| answer.map(storable).boxed()));
            }
            Ok(_) => {
                all.extend(part.iter().map(|_| at_once(failed("internal error: the step's work returned no outcome"))))
            }
            Err(err) if err.is_transient() => {
                log_failure!(warn, err, kind = W::KIND, "performing failed; it is retried later");
                let at = context.db.now() + limits::UNREACHABLE_RETRY_DELAY;
                let later = |_| at_once(Outcome::Later { at, why: "the database was unavailable".into(), data: None });
                all.extend(part.iter().map(later));
            }
            Err(err) if part.len() > 1 => {
                log_failure!(warn, err, kind = W::KIND, steps = part.len(), "performing failed; trying halves");
                let (first, second) = part.split_at(part.len() / 2);
                open.extend([second, first]);
            }
            Err(err) => {
                log_failure!(error, err, kind = W::KIND, step = %part[0].step.id, "performing failed");
                all.push(at_once(failed("internal error; see the server's log")));
            }
        }
    }
    all
}

fn failed<N>(why: &str) -> Outcome<N> {
    Outcome::Failed { why: why.into(), retryable: true, after: None, data: None }
}

/// Checks that a step's result can be stored, before it is settled. A result that can't be fails
/// the step without a retry, so that its external effects are not repeated.
fn storable<N>(outcome: Outcome<N>) -> Outcome<N> {
    match outcome {
        Outcome::Done { result, data } => match storable::json(&result) {
            Ok(()) => Outcome::Done { result, data },
            Err(unfit) => Outcome::Failed {
                why: crate::domain::run::step::lease::unstorable_error(&unfit),
                retryable: false,
                after: None,
                data: Some(data),
            },
        },
        other => other,
    }
}
