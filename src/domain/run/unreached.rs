//! Unreached recipients: records that neither a run nor any run repeating it has reached; the
//! target of a retry or a repeat of failed work.
//!
//! A run and the runs that repeat its failed work form a family. A recipient that one run of the
//! family has reached, or skipped for a lasting reason, is not contacted again by another.

mod family;

use std::collections::{HashMap, HashSet};

use entity::id::*;
use entity::run::{COLUMN, Column, Entity, Model};
use entity::run_record::{self, Outcome, RecipientReason};
use entity::{CommunicationStatus, RunStatus, RunType, communication, record};
use sea_orm::sea_query::{Expr, ExprTrait, Func, LikeExpr, Query, SelectStatement};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

pub(crate) use self::family::Family;
use self::family::{HANDED_OVER, REACHED, families};
use super::{recipients, snapshot};
use crate::domain::message::communication::{is_own, normalized_address};
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Ways to reach unreached recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReachAgain {
    /// Retries their failed steps in the same run.
    Retry,
    /// Reaches them in another run, including those that had no address of their own and have one
    /// now.
    Repeat,
}

/// SQL condition: the recipient's outcome is failed or cancelled, or was still open when its run
/// ended.
fn open_ended() -> Expr {
    let outcome = || Expr::col((run_record::Entity, run_record::Column::Outcome));
    let called_off = outcome().eq(Outcome::Skipped.to_value()).and(is_because(RecipientReason::RunCancelled));
    // A message being sent may still succeed.
    let open = outcome().is_null().and(recipients::has_message(CommunicationStatus::Sending).not());
    // Never null, so that its negation covers the rest.
    open.or(outcome().is_not_null().and(outcome().eq(Outcome::Failed.to_value()).or(called_off)))
}

/// SQL condition: the recipient was skipped because its record had no address, or another record's.
fn left_out_for_its_address() -> Expr {
    let outcome = || Expr::col((run_record::Entity, run_record::Column::Outcome));
    let because = is_because(RecipientReason::NoAddress).or(is_because(RecipientReason::DuplicateAddress));
    outcome().is_not_null().and(outcome().eq(Outcome::Skipped.to_value())).and(because)
}

/// SQL condition: the recipient was skipped so, and its record now has an address at which no other
/// record of the family was reached. Never null.
fn left_out_yet_reachable(family: &Family) -> Expr {
    let column = crate::domain::audience::record::address_column(family.base().channel);
    let address = || Expr::col((record::Entity, column));
    let key = || Expr::expr(Func::lower(address()));
    let own = || Expr::col((run_record::Entity, run_record::Column::RecordId));
    let mut reached = Query::select();
    reached
        .expr(Expr::val(1))
        .from_as(run_record::Entity, "other")
        .and_where(any_of(family.dialect, Expr::col(("other", run_record::Column::RunId)), family.ids()))
        .and_where(Expr::col(("other", run_record::Column::AddressKey)).eq(key()))
        .and_where(Expr::col(("other", run_record::Column::Outcome)).is_in(REACHED.map(|one| one.to_value())));
    let mut written = Query::select();
    written
        .expr(Expr::val(1))
        .from(communication::Entity)
        .and_where(any_of(family.dialect, communication::COLUMN.run_id, family.ids()))
        .and_where(normalized_address().eq(key()))
        .and_where(communication::COLUMN.status.is_in(HANDED_OVER))
        .and_where(communication::COLUMN.test.eq(false))
        .and_where(is_own())
        .and_where(communication::Column::MeetingId.is_null())
        .and_where(
            Expr::col((communication::Entity, communication::Column::RecordId))
                .ne(Expr::col((record::Entity, record::Column::Id))),
        );
    let mut has_one = Query::select();
    has_one
        .expr(Expr::val(1))
        .from(record::Entity)
        .and_where(Expr::col((record::Entity, record::Column::Id)).eq(own()))
        .and_where(address().is_not_null())
        .and_where(Expr::exists(reached).not())
        .and_where(Expr::exists(written).not());
    left_out_for_its_address().and(Expr::exists(has_one))
}

/// SQL condition: the recipient's reason has this code, with or without a text. Never null.
fn is_because(code: RecipientReason) -> Expr {
    let reason = || Expr::col((run_record::Entity, run_record::Column::Reason));
    let with_text = LikeExpr::new(format!("{}:%", code.to_string().replace('_', "\\_"))).escape('\\');
    reason().is_not_null().and(reason().eq(code.to_string()).or(reason().like(with_text)))
}

/// Subquery of a run's records that neither it nor another run of its family has reached.
pub(super) fn records(run: &Model, family: &Family, again: ReachAgain) -> SelectStatement {
    let unreached = match again {
        ReachAgain::Retry => open_ended(),
        ReachAgain::Repeat => open_ended().or(left_out_yet_reachable(family)),
    };
    let mut records = Query::select();
    records
        .column(run_record::Column::RecordId)
        .from(run_record::Entity)
        .and_where(run_record::COLUMN.run_id.eq(run.id))
        .and_where(run_record::Column::RecordId.is_not_null())
        .and_where(unreached);
    // Except in a test run, a record is one recipient of a run: a family of one run needs no check
    // of others.
    if !family.is_single() || run.run_type == RunType::TestRun {
        records.and_where(run_record::Column::RecordId.not_in_subquery(family.closed()));
    }
    records
}

/// Verdicts on retrying and repeating for unreached recipients, in addition to the checks of the
/// run's status and its campaign's.
#[derive(Clone, Debug)]
pub struct UnreachedVerdicts {
    /// Retry of an ended run: true if it retries only the steps of unreached recipients.
    pub retry: std::result::Result<bool, Refusal>,
    /// Repeat for unreached recipients.
    pub repeat: std::result::Result<(), Refusal>,
}

/// Computes both verdicts for some runs, with a number of statements that does not grow with the
/// runs. The mutations use the same check.
pub async fn judge(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    runs: &[Model],
) -> Result<HashMap<RunId, UnreachedVerdicts>> {
    let candidates = with_unreached(db, viewer, runs).await?;
    let families = families(db, viewer, &candidates).await?;
    let failed = |run: &&Model| run.status == RunStatus::Failed && run.started_at.is_some();
    let failed: Vec<RunId> = candidates.iter().filter(failed).map(|run| run.id).collect();
    let snapshots = if failed.is_empty() { HashMap::new() } else { snapshot::of_begun(db, viewer, &failed).await? };
    let mut questions = HashMap::new();
    for run in &candidates {
        let Some(family) = families.get(&run.id) else { continue };
        // None: the audience was never complete, so somebody is unreached.
        if let Some(meant) = family.audience_run(run)? {
            let ways = [
                (ReachAgain::Retry, run.status != RunStatus::Cancelled),
                (ReachAgain::Repeat, run.run_type != RunType::TestRun),
            ];
            let applicable = ways.into_iter().filter(|(_, applies)| *applies);
            questions.extend(applicable.map(|(again, _)| ((run.id, again), records(meant, family, again))));
        }
    }
    let nobody = without_records(db, questions).await?;
    let each = runs.iter().map(|run| {
        let silent = snapshots.get(&run.id).is_some_and(|snapshot| snapshot.graph.silent);
        (run.id, UnreachedVerdicts::of(run, families.get(&run.id), silent, &nobody))
    });
    Ok(each.collect())
}

impl UnreachedVerdicts {
    fn of(run: &Model, family: Option<&Family>, silent: bool, nobody: &HashSet<(RunId, ReachAgain)>) -> Self {
        let left = |again| {
            let Some(family) = family else { return Err(reached_all(run)) };
            family.alone(run.id)?;
            if !nobody.contains(&(run.id, again)) {
                Ok(())
            } else if family.is_single() {
                Err(reached_all(run))
            } else {
                let message = "no recipients are left: those that failed were reached by a run that repeats it";
                Err(Refusal::conflict(message))
            }
        };
        let retry = match run.status {
            RunStatus::Completed if run.run_type != RunType::Guided => left(ReachAgain::Retry).map(|()| true),
            // If the run sends nothing, or no run repeats it, everything that failed is retried.
            RunStatus::Failed if !silent && family.is_some_and(|family| !family.is_single()) => {
                left(ReachAgain::Retry).map(|()| true)
            }
            RunStatus::Completed
            | RunStatus::Failed
            | RunStatus::Scheduled
            | RunStatus::Queued
            | RunStatus::InProgress
            | RunStatus::Paused
            | RunStatus::Cancelled => Ok(false),
        };
        let repeat = match run.run_type {
            RunType::TestRun => Err(Refusal::conflict("a test run is repeated whole")),
            RunType::Run | RunType::Schedule | RunType::Guided => left(ReachAgain::Repeat),
        };
        Self { retry, repeat }
    }
}

/// Returns the runs that may have recipients they did not reach themselves, whether or not another
/// run has reached them since.
async fn with_unreached(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[Model]) -> Result<Vec<Model>> {
    let ended: Vec<&Model> = runs.iter().filter(|run| !run.status.is_open()).collect();
    if ended.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<RunId> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::RunId)
        .filter(run_record::COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), run_record::COLUMN.run_id, ended.iter().map(|run| run.id)))
        .filter(run_record::Column::RecordId.is_not_null())
        .filter(open_ended().or(left_out_for_its_address()))
        .distinct()
        .into_tuple()
        .all(db)
        .await?;
    let may_have_unreached =
        |run: &&&Model| run.status == RunStatus::Failed || !run.audience_done || found.contains(&run.id);
    Ok(ended.iter().filter(may_have_unreached).map(|run| (*run).clone()).collect())
}

/// Returns the keys whose selection of records is empty.
async fn without_records(
    db: &impl ConnectionTrait,
    questions: HashMap<(RunId, ReachAgain), SelectStatement>,
) -> Result<HashSet<(RunId, ReachAgain)>> {
    let mut nobody: HashSet<(RunId, ReachAgain)> = questions.keys().copied().collect();
    for again in [ReachAgain::Retry, ReachAgain::Repeat] {
        let mine: Vec<_> = questions.iter().filter(|((_, of), _)| *of == again).collect();
        for some in mine.chunks(QUESTIONS) {
            let any = some.iter().fold(Condition::any(), |any, ((run, _), records)| {
                any.add(COLUMN.id.eq(*run).and(Expr::exists((*records).clone())))
            });
            let found: Vec<RunId> =
                Entity::find().select_only().column(Column::Id).filter(any).into_tuple().all(db).await?;
            for run in found {
                nobody.remove(&(run, again));
            }
        }
    }
    Ok(nobody)
}

/// Maximum number of selections per statement: each is a subquery of its own, with the family's run
/// ids as parameters.
const QUESTIONS: usize = 50;

/// Error of a retry or repeat when the run's audience is complete and all recipients were reached.
fn reached_all(run: &Model) -> Refusal {
    if run.run_type == RunType::TestRun {
        return Refusal::conflict("a test run is repeated whole: its recipients can't be retried individually");
    }
    let message = format!("no recipients are left: the run is {}, and none of its recipients failed", run.status);
    Refusal::conflict(message)
}

/// Computes both verdicts for one run.
pub(super) async fn judge_one(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model) -> Result<UnreachedVerdicts> {
    let mut verdicts = judge(db, viewer, std::slice::from_ref(run)).await?;
    verdicts.remove(&run.id).ok_or_else(|| Error::internal("a run without a verdict"))
}
