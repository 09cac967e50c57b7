//! Recipients that were not reached by a run, nor by any run that repeats it: the records that a repeat or a retry of what
//! failed is for.
//!
//! Runs that repeat only what failed stand in one family with the run whose audience they are of. Nobody whom one of the
//! family has reached, or left out for a reason that stands, is reached again by another one of it.

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
use super::{snapshot, sweep};
use crate::domain::message::communication::compared;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;

/// The two ways to reach whoever was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReachAgain {
    /// Their failed steps are done again in the run.
    Retry,
    /// Another run reaches them: also whoever had no address of their own, and has one now.
    Repeat,
}

/// A place that was not closed well: given up, called off, or still open when its run ended.
fn open_ended() -> Expr {
    let outcome = || Expr::col((run_record::Entity, run_record::Column::Outcome));
    let called_off = outcome().eq(Outcome::Skipped.to_value()).and(is_because(RecipientReason::RunCancelled));
    // What is in hand may go out yet.
    let open = outcome().is_null().and(sweep::has_message(CommunicationStatus::Sending).not());
    // Never null, so that its opposite covers the rest.
    open.or(outcome().is_not_null().and(outcome().eq(Outcome::Failed.to_value()).or(called_off)))
}

/// A place that was left out because its record had no address, or another's.
fn left_out_for_its_address() -> Expr {
    let outcome = || Expr::col((run_record::Entity, run_record::Column::Outcome));
    let because = is_because(RecipientReason::NoAddress).or(is_because(RecipientReason::DuplicateAddress));
    outcome().is_not_null().and(outcome().eq(Outcome::Skipped.to_value())).and(because)
}

/// A place that was left out so, and whose record has an address by now that no other record of the family was reached at.
/// Never null.
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
        .and_where(compared().eq(key()))
        .and_where(communication::COLUMN.status.is_in(HANDED_OVER))
        .and_where(communication::COLUMN.test.eq(false))
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

/// The condition that a place has a reason's code, with any sentence behind it. Never null.
fn is_because(code: RecipientReason) -> Expr {
    let reason = || Expr::col((run_record::Entity, run_record::Column::Reason));
    let said = LikeExpr::new(format!("{}:%", code.to_string().replace('_', "\\_"))).escape('\\');
    reason().is_not_null().and(reason().eq(code.to_string()).or(reason().like(said)))
}

/// The records of a run that it did not reach, nor another one of its family.
pub(super) fn records(run: &Model, family: &Family, again: ReachAgain) -> SelectStatement {
    let left = match again {
        ReachAgain::Retry => open_ended(),
        ReachAgain::Repeat => open_ended().or(left_out_yet_reachable(family)),
    };
    let mut records = Query::select();
    records
        .column(run_record::Column::RecordId)
        .from(run_record::Entity)
        .and_where(run_record::COLUMN.run_id.eq(run.id))
        .and_where(run_record::Column::RecordId.is_not_null())
        .and_where(left);
    // A record has one place in a run, but in a test: in a family of one run there is no other to ask.
    if !family.is_single() || run.run_type == RunType::TestRun {
        records.and_where(run_record::Column::RecordId.not_in_subquery(family.closed()));
    }
    records
}

/// The verdict on both ways to reach who was not reached, beside the run's status and its campaign's.
#[derive(Clone, Debug)]
pub struct UnreachedVerdicts {
    /// A retry, of a run that has ended; whether it has only those steps done again whose recipients are left.
    pub retry: std::result::Result<bool, Refusal>,
    /// A repeat over those who were not reached.
    pub repeat: std::result::Result<(), Refusal>,
}

/// Judges both for some runs, in a number of statements that does not grow with the runs. The verbs ask the same.
pub async fn judge(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    runs: &[Model],
) -> Result<HashMap<RunId, UnreachedVerdicts>> {
    let asked = with_anybody(db, viewer, runs).await?;
    let families = families(db, viewer, &asked).await?;
    let failed = |run: &&Model| run.status == RunStatus::Failed && run.started_at.is_some();
    let failed: Vec<RunId> = asked.iter().filter(failed).map(|run| run.id).collect();
    let briefs = if failed.is_empty() { HashMap::new() } else { snapshot::of_begun(db, viewer, &failed).await? };
    let mut questions = HashMap::new();
    for run in &asked {
        let Some(family) = families.get(&run.id) else { continue };
        // None: the audience was never taken in, so somebody is left.
        if let Some(meant) = family.meant(run)? {
            let asks = [
                (ReachAgain::Retry, run.status != RunStatus::Cancelled),
                (ReachAgain::Repeat, run.run_type != RunType::TestRun),
            ];
            let asked = asks.into_iter().filter(|(_, asked)| *asked);
            questions.extend(asked.map(|(again, _)| ((run.id, again), records(meant, family, again))));
        }
    }
    let nobody = nobody(db, questions).await?;
    let each = runs.iter().map(|run| {
        let silent = briefs.get(&run.id).is_some_and(|snapshot| snapshot.graph.silent);
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
                let told = "nobody of it is left to be reached: who failed was reached by a run that repeats it";
                Err(Refusal::conflict(told))
            }
        };
        let retry = match run.status {
            RunStatus::Completed if run.run_type != RunType::Guided => left(ReachAgain::Retry).map(|()| true),
            // Where nobody is written to, or nothing repeats it, what failed is tried again as a whole.
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

/// Returns the runs that may have recipients whom they did not reach themselves, whoever has reached them since.
async fn with_anybody(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[Model]) -> Result<Vec<Model>> {
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
    let asked = |run: &&&Model| run.status == RunStatus::Failed || !run.audience_done || found.contains(&run.id);
    Ok(ended.iter().filter(asked).map(|run| (*run).clone()).collect())
}

/// The questions, each a selection of records, whose selections are empty.
async fn nobody(
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

/// The number of questions that one statement asks: each is a selection of its own, and a family's runs are parameters.
const QUESTIONS: usize = 50;

/// The refusal to try again those whom a run did not reach, where it has taken its whole audience in and reached all.
fn reached_all(run: &Model) -> Refusal {
    if run.run_type == RunType::TestRun {
        return Refusal::conflict("a test run is repeated whole: its recipients are not tried again one by one");
    }
    let told = format!("nobody of it is left to be reached: it is {}, and none of its recipients failed", run.status);
    Refusal::conflict(told)
}

/// The verdict on a retry of one run; whether only those who are left are tried again.
pub(super) async fn retryable(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model) -> Result<bool> {
    Ok(judge_one(db, viewer, run).await?.retry?)
}

/// The verdict on a repeat of one run over those who were not reached.
pub(super) async fn repeatable(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model) -> Result<()> {
    Ok(judge_one(db, viewer, run).await?.repeat?)
}

async fn judge_one(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model) -> Result<UnreachedVerdicts> {
    let mut judged = judge(db, viewer, std::slice::from_ref(run)).await?;
    judged.remove(&run.id).ok_or_else(|| Error::ours("a run without a verdict"))
}
