//! Steps of a fan-out that waited for others of the same record: fired, or left out with the reason. In sets: however many
//! places a batch closes, the statements are as many as there are keys that wait.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use entity::definition::{StepDef, TaskDef, Trigger};
use entity::id::*;
use entity::step::{self, Executor, StepReason, StepStatus};
use entity::{Actor, run};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter};

use super::snapshot::RunSnapshot;
use super::step::{Change, ReasonText};
use super::values::Values;
use crate::domain::content::cel::Condition;
use crate::kernel::budget::{self, Steps};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::storable;

/// How the step that was waited for has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DependencyEnd {
    /// Done.
    Completed,
    /// Left out.
    Skipped,
    /// Given up.
    Failed,
}

impl DependencyEnd {
    /// Of a step; none while it is open. One that a run took over from the one it repeats is done.
    pub(crate) fn of(status: StepStatus, has_result: bool) -> Option<Self> {
        match status {
            StepStatus::Completed => Some(Self::Completed),
            StepStatus::Skipped if has_result => Some(Self::Completed),
            StepStatus::Skipped => Some(Self::Skipped),
            StepStatus::Failed => Some(Self::Failed),
            StepStatus::Pending | StepStatus::Queued | StepStatus::InProgress | StepStatus::AwaitingApproval => None,
        }
    }
}

/// Why a step is left out that waited for one that did not complete.
pub(crate) fn because(key: &str, end: DependencyEnd) -> ReasonText {
    let (code, how) = match end {
        DependencyEnd::Failed => (StepReason::WaitedForFailed, "failed"),
        DependencyEnd::Completed | DependencyEnd::Skipped => (StepReason::WaitedForSkipped, "was skipped"),
    };
    ReasonText::new(code, format!("it waited for {key}, which {how}"))
}

/// The reasons of steps that waited for another in vain: they wait again when that is done again.
pub(crate) const WAITED: [StepReason; 2] = [StepReason::WaitedForSkipped, StepReason::WaitedForFailed];

/// What follows for the steps that waited for these; and for those that waited for those that are left out.
pub(crate) async fn advance(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, changes: &[Change]) -> Result<()> {
    if snapshot.graph.dependents.is_empty() || run.status == entity::RunStatus::Cancelled {
        return Ok(());
    }
    let mut ended: Vec<step::Model> = changes.iter().map(|change| change.step.clone()).collect();
    while !ended.is_empty() {
        let mut groups: HashMap<(String, DependencyEnd), Vec<RunRecordId>> = HashMap::new();
        for step in &ended {
            if let (Some(end), Some(place)) =
                (DependencyEnd::of(step.status, step.result.is_some()), step.run_record_id)
                && snapshot.graph.fans.contains(&step.key)
                && snapshot.graph.dependents.contains_key(&step.key)
            {
                groups.entry((step.key.clone(), end)).or_default().push(place);
            }
        }
        let mut left_out = Vec::new();
        for ((key, end), places) in groups {
            for follower in snapshot.graph.dependents.get(&key).into_iter().flatten() {
                let waiting = step::Entity::find()
                    .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, places.iter().copied()))
                    .filter(step::COLUMN.run_id.eq(run.id))
                    .filter(step::COLUMN.key.eq(&follower.key))
                    .filter(step::COLUMN.status.eq(StepStatus::Pending))
                    .all(tx.db())
                    .await?;
                let available = follower.delay.map_or(tx.now(), |span| storable::after(tx.now(), span.chrono()));
                if follower.delay.is_some() || end == DependencyEnd::Completed {
                    left_out.extend(enqueue(tx, run, snapshot, waiting, available).await?);
                } else {
                    left_out.extend(skip(tx, run, waiting, |_| because(&key, end)).await?);
                }
            }
        }
        ended = left_out;
    }
    Ok(())
}

/// Fires pending steps whose condition holds: into the queue. Those whose condition does not hold are left out; they come
/// back.
pub(crate) async fn enqueue(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    steps: Vec<step::Model>,
    available: DateTime<Utc>,
) -> Result<Vec<step::Model>> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let (go, not): (Vec<_>, Vec<_>) =
        judged(tx, run, snapshot, steps).await?.into_iter().partition(|(_, why)| why.is_none());
    let reasons: HashMap<StepId, ReasonText> =
        not.iter().filter_map(|(step, why)| Some((step.id, why.clone()?))).collect();
    let not = not.into_iter().map(|(step, _)| step).collect();
    let unread = || ReasonText::new(StepReason::ConditionFalse, "its condition does not hold");
    let left_out = skip(tx, run, not, |step| reasons.get(&step.id).cloned().unwrap_or_else(unread)).await?;
    let mut by_wait: HashMap<Times, Vec<StepId>> = HashMap::new();
    for (step, _) in go {
        let (_, declared) =
            snapshot.step(&step.key).ok_or_else(|| crate::kernel::error::Error::ours("a step that is not declared"))?;
        let times = times(declared, available);
        by_wait.entry(times).or_default().push(step.id);
    }
    for ((at, due), ids) in by_wait {
        let fired = step::Entity::update_many()
            .col_expr(step::Column::Status, Expr::value(StepStatus::Queued.to_value()))
            .col_expr(step::Column::AvailableAt, Expr::value(at))
            .col_expr(step::Column::DueAt, Expr::value(due))
            .col_expr(step::Column::Revision, Expr::col(step::Column::Revision).add(1))
            .filter(any_of(tx.dialect(), step::COLUMN.id, ids))
            .filter(step::COLUMN.status.eq(StepStatus::Pending))
            .exec_with_returning(tx.db())
            .await?;
        let changes: Vec<Change> = fired
            .into_iter()
            .map(|step| Change { step, from: Some(StepStatus::Pending), kind: "step.queued", reason: None })
            .collect();
        super::step::note(tx, run, &Actor::engine(), &changes).await?;
    }
    Ok(left_out)
}

/// When it can be taken, and by when it should be done.
pub(crate) type Times = (DateTime<Utc>, Option<DateTime<Utc>>);

/// When a step that is fired can be taken, and by when it should be done. What waits, waits in the queue.
pub(crate) fn times(declared: &StepDef, available: DateTime<Utc>) -> Times {
    let waits =
        declared.kind == crate::domain::plan::run_template::kind::WAIT && declared.assigned_to == Executor::Workflow;
    let span = declared.settings()["duration"].as_str().filter(|_| waits).and_then(|text| text.parse().ok());
    let at = span.map_or(available, |span: entity::rule::Span| storable::after(available, span.chrono()));
    (at, declared.due_in.map(|span| storable::after(at, span.chrono())))
}

/// Each step with why it is left out, by its own condition or its task's; none: it is done. Beyond [`budget::ALL_TIME`] what
/// loops can't be judged.
pub(crate) async fn judged(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    steps: Vec<step::Model>,
) -> Result<Vec<(step::Model, Option<ReasonText>)>> {
    judged_within(tx, run, snapshot, steps, None).await
}

/// The same; where a piece is given, of so many steps, those that come first and fit into [`budget::BATCH_TIME`], in whole
/// pieces: one at least.
pub(crate) async fn judged_within(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    steps: Vec<step::Model>,
    piece: Option<usize>,
) -> Result<Vec<(step::Model, Option<ReasonText>)>> {
    let conditional =
        |key: &str| snapshot.step(key).is_some_and(|(task, step)| task.when.is_some() || step.when.is_some());
    if !snapshot.graph.conditions || !steps.iter().any(|step| conditional(&step.key)) {
        return Ok(steps.into_iter().map(|step| (step, None)).collect());
    }
    let places: Vec<RunRecordId> = steps.iter().filter_map(|step| step.run_record_id).collect();
    let records: Vec<RecordId> = steps.iter().filter_map(|step| step.record_id).collect();
    let values = Values::read(tx.db(), run, snapshot, &places, &records).await?;
    let mut parsed: HashMap<String, std::result::Result<Arc<Condition>, String>> = HashMap::new();
    // Each has the steps of one condition, whatever its neighbours took; together they hold up the transaction so long at most.
    let begun = Instant::now();
    let mut all = Vec::with_capacity(steps.len());
    for (i, step) in steps.into_iter().enumerate() {
        if piece.is_some_and(|piece| i > 0 && i % piece == 0) && begun.elapsed() > budget::BATCH_TIME {
            break;
        }
        let Some((task, declared)) = snapshot.step(&step.key) else {
            all.push((step, None));
            continue;
        };
        let steps = if begun.elapsed() > budget::ALL_TIME { Steps::of_event() } else { Steps::of_one() };
        let sources = task.when.iter().chain(&declared.when);
        let own = values.of(step.run_record_id, step.record_id);
        let why = sources
            .filter_map(|source| {
                let condition = parsed.entry(source.clone()).or_insert_with(|| Condition::parse(source));
                match condition
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|condition| condition.holds_within(&own, &steps))
                {
                    Ok(true) => None,
                    Ok(false) => Some(ReasonText::new(
                        StepReason::ConditionFalse,
                        format!("its condition does not hold: {source}"),
                    )),
                    Err(why) => {
                        let told = format!("its condition can't be judged: {source}: {why}");
                        Some(ReasonText::new(StepReason::ConditionUnreadable, told))
                    }
                }
            })
            .next();
        all.push((step, why));
    }
    Ok(all)
}

/// Leaves out pending steps. They come back.
pub(crate) async fn skip(
    tx: &Tx,
    run: &run::Model,
    steps: Vec<step::Model>,
    why: impl Fn(&step::Model) -> ReasonText,
) -> Result<Vec<step::Model>> {
    let mut by_reason: HashMap<ReasonText, Vec<StepId>> = HashMap::new();
    for step in &steps {
        by_reason.entry(why(step)).or_default().push(step.id);
    }
    let mut all = Vec::new();
    for (reason, ids) in by_reason {
        let skipped = step::Entity::update_many()
            .col_expr(step::Column::Status, Expr::value(StepStatus::Skipped.to_value()))
            .col_expr(step::Column::Error, Expr::value(reason.text.clone()))
            .col_expr(step::Column::Reason, Expr::value(reason.code.to_value()))
            .col_expr(step::Column::CompletedAt, Expr::value(tx.now()))
            .col_expr(step::Column::CompletedBy, Expr::value(serde_json::to_value(Actor::engine())?))
            .col_expr(step::Column::Revision, Expr::col(step::Column::Revision).add(1))
            .filter(any_of(tx.dialect(), step::COLUMN.id, ids))
            .filter(step::COLUMN.status.eq(StepStatus::Pending))
            .exec_with_returning(tx.db())
            .await?;
        let changes: Vec<Change> = skipped
            .iter()
            .map(|step| Change {
                step: step.clone(),
                from: Some(StepStatus::Pending),
                kind: "step.skipped",
                reason: Some(reason.text.clone()),
            })
            .collect();
        super::step::note(tx, run, &Actor::engine(), &changes).await?;
        all.extend(skipped);
    }
    Ok(all)
}

/// What was left out because these steps failed waits for them again, now that they are done again.
pub(crate) async fn restore(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, again: &[step::Model]) -> Result<()> {
    let mut behind: HashMap<String, HashSet<RunRecordId>> = HashMap::new();
    for step in again {
        for key in snapshot.graph.behind(&step.key) {
            behind.entry(key).or_default().extend(step.run_record_id);
        }
    }
    let tasks = super::task::of_runs(tx.db(), &crate::kernel::viewer::Viewer::engine(run.org_id), &[run.id]).await?;
    for (key, places) in behind {
        let Some((declared, _)) = snapshot.step(&key) else { continue };
        let theirs = if declared.fan_out {
            any_of(tx.dialect(), step::COLUMN.run_record_id, places)
        } else {
            any_of(
                tx.dialect(),
                step::COLUMN.task_id,
                tasks.iter().filter(|task| task.key == declared.key).map(|task| task.id),
            )
        };
        let waiting = step::Entity::update_many()
            .col_expr(step::Column::Status, Expr::value(StepStatus::Pending.to_value()))
            .col_expr(step::Column::Error, Expr::value(Option::<String>::None))
            .col_expr(step::Column::Reason, Expr::value(Option::<String>::None))
            .col_expr(step::Column::CompletedAt, Expr::value(Option::<DateTime<Utc>>::None))
            .col_expr(step::Column::CompletedBy, Expr::value(Option::<serde_json::Value>::None))
            .col_expr(step::Column::Revision, Expr::col(step::Column::Revision).add(1))
            .filter(theirs)
            .filter(step::COLUMN.key.eq(key))
            .filter(step::COLUMN.status.eq(StepStatus::Skipped))
            .filter(step::COLUMN.reason.is_in(WAITED))
            .exec_with_returning(tx.db())
            .await?;
        super::retry::wait_with(tx, run, &waiting).await?;
        let changes: Vec<Change> = waiting
            .into_iter()
            .map(|step| Change { step, from: Some(StepStatus::Skipped), kind: "step.reset", reason: None })
            .collect();
        super::step::note(tx, run, &Actor::engine(), &changes).await?;
    }
    Ok(())
}

/// Whether a step that is made with its task waits for nothing: it goes into the queue at once.
pub(crate) fn starts_at_once(task: &TaskDef, sequence: usize, declared: &StepDef) -> bool {
    match &declared.trigger {
        Trigger::Immediate => declared.assigned_to != Executor::Human,
        Trigger::Delay(_) => sequence == 0 || !task.fan_out,
        Trigger::Manual | Trigger::Event(_) | Trigger::After(_) => false,
    }
}
