//! Checks derived rows: task status from steps, phase status from tasks, run status from phases,
//! and the outcomes of audiences.

use std::collections::{HashMap, HashSet};

use entity::id::*;
use entity::task::TaskFacts;
use entity::{PhaseStatus, RunStatus, TaskStatus, phase, run, step, sweep, task};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{CheckedSnapshot, Violations};
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

pub(super) async fn check(snapshot: &CheckedSnapshot) -> Result<Vec<Violations>> {
    let mut counters = Violations::new("the counters of every task equal the counts of its steps");
    let mut statuses = Violations::new("the status of every task, phase and run is what the state machines derive");
    let mut ended = Violations::new("nothing is open in a run that has ended");
    // Rows under an open sweep are checked after it has closed.
    let swept: HashSet<RunId> =
        sweep::Entity::find().all(&snapshot.tx).await?.into_iter().filter_map(|sweep| sweep.run_id).collect();
    let mut last: Option<RunId> = None;
    loop {
        let mut select = run::Entity::find().order_by_asc(run::COLUMN.id).limit(500);
        if let Some(last) = last {
            select = select.filter(run::COLUMN.id.gt(last));
        }
        let runs = select.all(&snapshot.tx).await?;
        let Some(newest) = runs.last() else { break };
        last = Some(newest.id);
        let runs: Vec<run::Model> = runs.into_iter().filter(|run| !snapshot.seeded.contains(&run.id.0)).collect();
        let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
        let phases = phase::Entity::find()
            .filter(any_of(snapshot.dialect, phase::COLUMN.run_id, ids.iter().copied()))
            .all(&snapshot.tx)
            .await?;
        let tasks = task::Entity::find()
            .filter(any_of(snapshot.dialect, task::COLUMN.run_id, ids.iter().copied()))
            .all(&snapshot.tx)
            .await?;
        let counts = counts(snapshot, &ids).await?;
        let held = held(snapshot, &ids).await?;
        for task in &tasks {
            let mut mine = counts.get(&task.id).copied().unwrap_or_default();
            let same = task.counts() == mine;
            counters.record(same, || format!("task {} says {:?}, there are {mine:?}", task.id, task.counts()));
            mine = task.counts();
            let phase = phases.iter().find(|phase| phase.id == task.phase_id);
            if swept.contains(&task.run_id) || phase.is_none_or(|phase| phase.status == PhaseStatus::Pending) {
                continue;
            }
            let met = |key: &String| {
                tasks
                    .iter()
                    .any(|other| other.run_id == task.run_id && other.key == *key && other.status.meets_dependency())
            };
            let derived = |depends_met: bool, phase_active: bool| {
                let facts = TaskFacts {
                    counts: mine,
                    fan_out_done: task.fan_out_done,
                    fail_when: task.fail_when.0,
                    depends_met,
                    phase_active,
                    retrying: task.retrying,
                };
                facts.status()
            };
            let met = task.depends_on.0.iter().all(met);
            // After its run was cancelled, dependencies no longer block a task.
            let allowed = [derived(met, true), derived(true, false)];
            statuses.record(allowed.contains(&task.status), || {
                format!("task {} is {}, derived {allowed:?}", task.id, task.status)
            });
        }
        let cancelled = |id: &RunId| runs.iter().any(|run| run.id == *id && run.status == RunStatus::Cancelled);
        for phase in &phases {
            let mine: Vec<TaskStatus> =
                tasks.iter().filter(|task| task.phase_id == phase.id).map(|task| task.status).collect();
            let holds = match phase.status {
                PhaseStatus::Pending | PhaseStatus::Active => true,
                PhaseStatus::Completed => {
                    mine.iter().all(|status| status.meets_dependency())
                        && (phase.autonomous || phase.advanced_by.is_some())
                }
                // In a cancelled run, completed work stays completed.
                PhaseStatus::Skipped => mine.iter().all(|status| match status {
                    TaskStatus::Skipped => true,
                    TaskStatus::Completed | TaskStatus::Failed => cancelled(&phase.run_id),
                    TaskStatus::Pending | TaskStatus::InProgress | TaskStatus::Blocked => false,
                }),
                PhaseStatus::Failed => mine.contains(&TaskStatus::Failed),
            };
            statuses.record(holds, || format!("phase {} is {}, its tasks {mine:?}", phase.id, phase.status));
        }
        for run in &runs {
            let mine: Vec<PhaseStatus> =
                phases.iter().filter(|phase| phase.run_id == run.id).map(|phase| phase.status).collect();
            let holds = match run.status {
                RunStatus::Completed => {
                    run.audience_done
                        && mine.iter().all(|status| matches!(status, PhaseStatus::Completed | PhaseStatus::Skipped))
                }
                RunStatus::Failed => mine.is_empty() || mine.contains(&PhaseStatus::Failed),
                RunStatus::Scheduled | RunStatus::Queued => mine.is_empty(),
                RunStatus::InProgress | RunStatus::Paused | RunStatus::Cancelled => true,
            };
            statuses.record(holds, || format!("run {} is {}, its phases {mine:?}", run.id, run.status));
            // The sweeps of a failed run are held until it is retried.
            let is_changing = swept.contains(&run.id) && run.status != RunStatus::Failed;
            if !run.status.is_open() && !is_changing {
                let held = held.get(&run.id).copied().unwrap_or(0);
                is_ended(&mut ended, run, &mine, held, tasks.iter().filter(|task| task.run_id == run.id));
            }
        }
    }
    Ok(vec![counters, statuses, ended, audiences(snapshot, &swept).await?])
}

/// Checks that nothing is open in a run that has ended. Pending phases after a failed one wait for
/// a retry; steps that a worker holds in a cancelled run may still settle.
fn is_ended<'a>(
    found: &mut Violations,
    run: &run::Model,
    phases: &[PhaseStatus],
    held: i64,
    tasks: impl Iterator<Item = &'a task::Model>,
) {
    let (mut steps, mut open) = (0, 0);
    for task in tasks {
        steps += task.counts().open();
        open += i64::from(matches!(task.status, TaskStatus::Pending | TaskStatus::InProgress | TaskStatus::Blocked));
    }
    let active = phases.contains(&PhaseStatus::Active);
    let holds = match run.status {
        RunStatus::Failed => !active,
        RunStatus::Cancelled if steps > 0 => steps == held,
        _ => steps == 0 && open == 0 && !active && !phases.contains(&PhaseStatus::Pending),
    };
    let status = run.status;
    found.record(holds, || {
        format!("run {} is {status}: phases {phases:?}, {open} tasks and {steps} steps are open, {held} held", run.id)
    });
}

/// Returns the numbers of steps held by workers, per run.
async fn held(snapshot: &CheckedSnapshot, runs: &[RunId]) -> Result<HashMap<RunId, i64>> {
    let rows: Vec<(RunId, i64)> = step::Entity::find()
        .select_only()
        .column(step::Column::RunId)
        .column_as(step::Column::Id.count(), "count")
        .filter(any_of(snapshot.dialect, step::COLUMN.run_id, runs.iter().copied()))
        .filter(step::COLUMN.lease_owner.is_not_null())
        .group_by(step::Column::RunId)
        .into_tuple()
        .all(&snapshot.tx)
        .await?;
    Ok(rows.into_iter().collect())
}

async fn counts(snapshot: &CheckedSnapshot, runs: &[RunId]) -> Result<HashMap<TaskId, task::StepCounts>> {
    let rows: Vec<(TaskId, entity::StepStatus, i64)> = step::Entity::find()
        .select_only()
        .column(step::Column::TaskId)
        .column(step::Column::Status)
        .column_as(step::Column::Id.count(), "count")
        .filter(any_of(snapshot.dialect, step::COLUMN.run_id, runs.iter().copied()))
        .group_by(step::Column::TaskId)
        .group_by(step::Column::Status)
        .into_tuple()
        .all(&snapshot.tx)
        .await?;
    let mut counts: HashMap<TaskId, task::StepCounts> = HashMap::new();
    for (task, status, count) in rows {
        *counts.entry(task).or_default().of(status) = count;
    }
    Ok(counts)
}

/// Checks that every recipient of a completed or cancelled run has one outcome, and that they add up.
/// A failed run can be retried: its recipients may have none yet.
async fn audiences(snapshot: &CheckedSnapshot, swept: &HashSet<RunId>) -> Result<Violations> {
    let mut found = Violations::new(
        "every record of a completed or cancelled run is sent, failed, suppressed, skipped (why), or unknown",
    );
    let sql = "SELECT r.id, r.status, r.audience_count, COUNT(p.id), \
               COALESCE(SUM(CASE WHEN p.id IS NOT NULL AND p.outcome IS NULL THEN 1 ELSE 0 END), 0), \
               COALESCE(SUM(CASE WHEN p.outcome = 'UNKNOWN' THEN 1 ELSE 0 END), 0), \
               COALESCE(SUM(CASE WHEN p.outcome IN ('SKIPPED', 'SUPPRESSED') AND p.reason IS NULL THEN 1 ELSE 0 END), 0), \
               (SELECT COUNT(*) FROM step s WHERE s.run_id = r.id AND s.lease_owner IS NOT NULL) \
               FROM run r LEFT JOIN run_record p ON p.run_id = r.id WHERE r.status IN ('COMPLETED', 'CANCELLED') \
               GROUP BY r.id, r.status, r.audience_count";
    for row in snapshot.all(sql).await? {
        let (id, status) = (row.try_get_by_index::<Uuid>(0)?, row.try_get_by_index::<String>(1)?);
        let mut numbers = [0_i64; 6];
        for (i, number) in numbers.iter_mut().enumerate() {
            *number = row.try_get_by_index(i + 2)?;
        }
        let [audience, recipients, open, unknown, silent, held] = numbers;
        // Steps that a worker still holds may settle.
        if swept.contains(&RunId(id)) || held > 0 || snapshot.seeded.contains(&id) {
            continue;
        }
        let holds = audience == recipients && open == 0 && silent == 0 && (unknown == 0 || status == "CANCELLED");
        found.record(holds, || {
            format!("run {id}, {status}: audience {audience}, recipients {recipients}, open {open}, unknown {unknown}, without a reason {silent}")
        });
        found.looked_at += u64::try_from(recipients).unwrap_or(0);
    }
    Ok(found)
}
