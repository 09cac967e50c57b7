//! The runs of a schedule that wait for their time.
//!
//! One of them, the head, stands for the next occurrence of the pattern. A person may move a waiting run to another time:
//! it keeps its occurrence, and the occurrence after it gets a head of its own. `advance` brings all of that up to date
//! after anything that happened; it starts nothing. Locked in the order campaign, schedule, run.

use chrono::{DateTime, Utc};
use entity::RunStatus;
use entity::id::{RunId, ScheduleId};
use entity::missed_occurrence::UnfiredReason;
use entity::run::{COLUMN, Column, Entity, Model, RunTransition};
use entity::schedule::{self, CatchUpPolicy, EndReason, ScheduleStatus};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};

use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::domain::plan::schedule::catch_up::{self, CatchUp, CatchUpPlan, OccurrenceSpan, SkippedTimes};
use crate::domain::plan::schedule::{self as schedules, missed};
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// The run that stands for the next occurrence.
#[derive(Debug)]
pub(crate) enum NextRun {
    /// The one that does so now, if there is one.
    Found,
    /// This one, whatever it stood for: the pattern was changed.
    Given(Box<Model>),
}

/// The waiting runs of a schedule, the earliest first, locked.
pub(crate) async fn waiting(tx: &Tx, id: ScheduleId) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.schedule_id.eq(id))
        .filter(COLUMN.status.eq(RunStatus::Scheduled))
        .order_by_asc(Column::ScheduledFor)
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(tx.db())
        .await?)
}

/// The waiting run stands for this occurrence and was not moved.
fn stands_for(run: &Model, at: Option<DateTime<Utc>>) -> bool {
    at.is_some() && run.occurrence_at == at && run.scheduled_for == at
}

/// Brings the waiting runs and `next_at` of a locked schedule up to date: what is due and can't start is recorded, the
/// head stands for the first occurrence that can, and a schedule without waiting runs ends. The schedule as it is then.
pub(crate) async fn advance(
    tx: &Tx,
    viewer: &Viewer,
    mut schedule: schedule::Model,
    terms: CatchUp,
    head: NextRun,
) -> Result<schedule::Model> {
    if schedule.status == ScheduleStatus::Ended {
        return Ok(schedule);
    }
    let mut runs = waiting(tx, schedule.id).await?;
    let (head, stands) = match head {
        NextRun::Found => {
            let place = runs.iter().position(|run| stands_for(run, schedule.accounted_until));
            (place.map(|place| runs.remove(place)), true)
        }
        NextRun::Given(run) => {
            runs.retain(|other| other.id != run.id);
            (Some(*run), false)
        }
    };
    let judged = judge(tx, &schedule, terms, head.as_ref(), stands).await?;
    if let Some(span) = judged.unfired {
        missed::record(tx, viewer, &schedule, reason(terms), span).await?;
        schedule.accounted_until = Some(span.last_at);
    }
    if let Some(before) = judged.head().map(|head| head.at).or(judged.unfired.map(|span| span.last_at)) {
        missed::record_left_out(tx, viewer, &schedule, &judged.left_out, before).await?;
    }
    match (head, judged.head()) {
        (Some(run), Some(to)) => {
            schedule.accounted_until = Some(to.at);
            if !stands_for(&run, Some(to.at)) {
                point(tx, viewer, run, to.at, terms).await?;
            }
        }
        (Some(run), None) => drop(call_off(tx, viewer, run, terms).await?),
        (None, Some(to)) => {
            schedule.accounted_until = Some(to.at);
            insert(tx, viewer, &schedule, to.at).await?;
        }
        (None, None) => {}
    }
    leave_moved(tx, viewer, &schedule, terms, runs, !judged.start.is_empty()).await?;
    settle(tx, viewer, schedule).await
}

/// The occurrences from the head on, judged. Those that have a run of their own already are not taken again.
async fn judge(
    tx: &Tx,
    schedule: &schedule::Model,
    terms: CatchUp,
    head: Option<&Model>,
    stands: bool,
) -> Result<CatchUpPlan> {
    let after = schedule.accounted_until.unwrap_or(schedule.created_at);
    let taken: Vec<Option<DateTime<Utc>>> = Entity::find()
        .select_only()
        .column(Column::OccurrenceAt)
        .filter(COLUMN.schedule_id.eq(schedule.id))
        .filter(COLUMN.occurrence_at.gt(after))
        .filter(COLUMN.id.ne(head.map_or_else(uuid::Uuid::nil, |head| head.id.0)))
        .into_tuple()
        .all(tx.db())
        .await?;
    let own = head.filter(|_| stands).and_then(|head| head.occurrence_at).map(schedules::Occurrence::plain);
    let single = schedule.at.filter(|at| *at > after).map(schedules::Occurrence::plain);
    let pattern = schedules::pattern(schedule)?;
    let pattern = pattern.iter().flat_map(|pattern| pattern.after(after));
    let line = own.into_iter().chain(single).chain(pattern).filter(|found| !taken.contains(&Some(found.at)));
    Ok(catch_up::judge(terms, tx.now(), line))
}

/// Runs that a person moved, and whose time has come, start on the same terms; at most one run is late by `LAST`.
async fn leave_moved(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    terms: CatchUp,
    moved: Vec<Model>,
    others_start: bool,
) -> Result<()> {
    let now = tx.now();
    let due: Vec<Model> = moved.into_iter().filter(|run| run.scheduled_for.is_some_and(|at| at <= now)).collect();
    let last = due.iter().rev().find(|run| run.scheduled_for.is_some_and(|at| catch_up::is_late(at, now)));
    let last = last.filter(|_| !others_start).map(|run| run.id);
    let only_last = matches!(terms, CatchUp::CatchUp { policy: CatchUpPolicy::Last, .. });
    for run in due {
        let at = run.scheduled_for.unwrap_or(now);
        let late = catch_up::is_late(at, now);
        if terms.admits(at, now) && !(late && only_last && Some(run.id) != last) {
            continue;
        }
        let occurrence = run.occurrence_at.unwrap_or(at);
        missed::record(tx, viewer, schedule, reason(terms), OccurrenceSpan::of(occurrence)).await?;
        call_off(tx, viewer, run, terms).await?;
    }
    Ok(())
}

fn reason(terms: CatchUp) -> UnfiredReason {
    match terms {
        CatchUp::CatchUp { .. } => UnfiredReason::Late,
        CatchUp::Paused => UnfiredReason::Paused,
    }
}

/// The waiting run stands for another occurrence.
async fn point(tx: &Tx, viewer: &Viewer, run: Model, at: DateTime<Utc>, terms: CatchUp) -> Result<Model> {
    let why = match terms {
        CatchUp::CatchUp { .. } => "it stands for the schedule's next occurrence",
        CatchUp::Paused => "the schedule was resumed: it stands for the next occurrence",
    };
    super::step_to(tx, viewer, run, RunTransition::Reschedule, Some(why), |row| {
        row.occurrence_at = Set(Some(at));
        row.scheduled_for = Set(Some(at));
    })
    .await
}

/// The waiting run can't start, and there is no further occurrence for it.
async fn call_off(tx: &Tx, viewer: &Viewer, run: Model, terms: CatchUp) -> Result<Model> {
    let why = match terms {
        CatchUp::CatchUp { .. } => "its time passed before it could start",
        CatchUp::Paused => "its time passed while the schedule or its campaign was paused",
    };
    call_off_as(tx, viewer, run, why).await
}

/// Cancels a waiting run; nothing follows here.
pub(crate) async fn call_off_as(tx: &Tx, viewer: &Viewer, run: Model, why: &str) -> Result<Model> {
    let at = tx.now();
    super::step_to(tx, viewer, run, RunTransition::Cancel, Some(why), |row| {
        row.ended_at = Set(Some(at));
        row.failure = Set(Some(why.to_owned()));
    })
    .await
}

/// Inserts the run of an occurrence.
async fn insert(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model, at: DateTime<Utc>) -> Result<()> {
    RunSource::of(tx, viewer, schedule).await?.insert(tx, viewer, schedule, at).await
}

/// What the runs of a schedule are made from.
enum RunSource {
    /// A campaign's plan.
    Planned(Box<CampaignParts>),
    /// A template of guided work, with the description of the run before.
    Guided(String),
}

impl RunSource {
    async fn of(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<Self> {
        if let Some(id) = schedule.campaign_id {
            let campaign = crate::domain::plan::campaign::must_find(tx.db(), viewer, id).await?;
            return Ok(Self::Planned(Box::new(CampaignParts::of(tx.db(), viewer, campaign).await?)));
        }
        let before = Entity::find()
            .filter(COLUMN.schedule_id.eq(schedule.id))
            .order_by_desc(Column::OccurrenceAt)
            .limit(1)
            .one(tx.db())
            .await?;
        Ok(Self::Guided(before.map(|before| before.description).unwrap_or_default()))
    }

    async fn insert(&self, tx: &Tx, viewer: &Viewer, schedule: &schedule::Model, at: DateTime<Utc>) -> Result<()> {
        match self {
            Self::Planned(parts) => drop(super::launch::occurrence(tx, viewer, parts, schedule, at, None).await?),
            Self::Guided(description) => {
                super::guided::start::next(tx, viewer, schedule, description.clone(), at).await?;
            }
        }
        Ok(())
    }
}

/// Locks the schedule of a run, before the run itself is locked. None for a run without one, or whose schedule has ended.
pub(crate) async fn lock_schedule(tx: &Tx, viewer: &Viewer, id: RunId) -> Result<Option<schedule::Model>> {
    let found = super::must_find(tx.db(), viewer, id).await?;
    let Some(id) = found.schedule_id else { return Ok(None) };
    let schedule = schedules::must_lock(tx, viewer, id, None).await?;
    Ok((schedule.status != ScheduleStatus::Ended).then_some(schedule))
}

/// A person cancelled a waiting run: its occurrence is skipped, and the next one follows.
pub(crate) async fn skip(tx: &Tx, viewer: &Viewer, schedule: schedule::Model, run: &Model) -> Result<()> {
    if let Some(at) = run.occurrence_at.or(run.scheduled_for) {
        missed::record(tx, viewer, &schedule, UnfiredReason::Cancelled, OccurrenceSpan::of(at)).await?;
    }
    follow(tx, viewer, schedule).await
}

/// Takes what fell due so far, where anything did.
pub(crate) async fn catch_up(tx: &Tx, viewer: &Viewer, schedule: schedule::Model) -> Result<schedule::Model> {
    match schedule.status {
        // A single time that passed is judged when it is resumed.
        ScheduleStatus::Paused if schedule.cron.is_some() => {
            advance(tx, viewer, schedule, CatchUp::Paused, NextRun::Found).await
        }
        ScheduleStatus::Active if schedule.next_at.is_some_and(|at| at <= tx.now()) => {
            let terms = CatchUp::of(&schedule);
            advance(tx, viewer, schedule, terms, NextRun::Found).await
        }
        ScheduleStatus::Active | ScheduleStatus::Paused | ScheduleStatus::Ended => Ok(schedule),
    }
}

/// Inserts the runs of all that is due and may start, behind the head, which stands for the first of them: they start by
/// the pattern as it is now, whatever it becomes. The schedule is caught up with.
pub(crate) async fn insert_due(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<()> {
    if schedule.status != ScheduleStatus::Active {
        return Ok(());
    }
    let judged = judge(tx, schedule, CatchUp::of(schedule), None, false).await?;
    if let Some(span) = judged.unfired {
        missed::record(tx, viewer, schedule, UnfiredReason::Late, span).await?;
    }
    let maker = RunSource::of(tx, viewer, schedule).await?;
    for found in judged.start {
        missed::record_left_out(tx, viewer, schedule, &SkippedTimes::of(&found.left_out), found.at).await?;
        maker.insert(tx, viewer, schedule, found.at).await?;
    }
    Ok(())
}

/// Brings a schedule up to date after one of its waiting runs was cancelled or moved.
pub(crate) async fn follow(tx: &Tx, viewer: &Viewer, schedule: schedule::Model) -> Result<()> {
    let terms = match schedule.status {
        ScheduleStatus::Paused => CatchUp::Paused,
        ScheduleStatus::Active | ScheduleStatus::Ended => CatchUp::of(&schedule),
    };
    advance(tx, viewer, schedule, terms, NextRun::Found).await?;
    Ok(())
}

/// Moves the waiting runs whose time has passed to this moment.
pub(crate) async fn start_now(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<()> {
    let now = tx.now();
    for run in waiting(tx, schedule.id).await? {
        if run.scheduled_for.is_some_and(|at| at <= now) {
            let why = "its time passed while the schedule or its campaign was paused";
            super::step_to(tx, viewer, run, RunTransition::Reschedule, Some(why), |row| {
                row.scheduled_for = Set(Some(now))
            })
            .await?;
        }
    }
    Ok(())
}

/// Gives the waiting runs another name.
pub(crate) async fn rename(tx: &Tx, viewer: &Viewer, id: ScheduleId, name: &str) -> Result<()> {
    for run in waiting(tx, id).await? {
        let (revision, search) =
            (run.revision, crate::kernel::storable::folded(&format!("{name} {}", run.campaign_name)));
        let mut row = run.into_active_model();
        row.name = Set(name.to_owned());
        row.search = Set(search);
        row.updated_at = Set(tx.now());
        row.revision = Set(revision + 1);
        let run = row.update(tx.db()).await?;
        super::emit(tx, viewer, "run.updated", &run, serde_json::json!({}));
    }
    Ok(())
}

/// Writes the schedule as its waiting runs have it: the first of them is its `next_at`; without any it has ended.
async fn settle(tx: &Tx, viewer: &Viewer, mut schedule: schedule::Model) -> Result<schedule::Model> {
    let first: Option<Option<DateTime<Utc>>> = Entity::find()
        .select_only()
        .column(Column::ScheduledFor)
        .filter(COLUMN.schedule_id.eq(schedule.id))
        .filter(COLUMN.status.eq(RunStatus::Scheduled))
        .order_by_asc(Column::ScheduledFor)
        .into_tuple()
        .one(tx.db())
        .await?;
    let Some(first) = first else {
        return schedules::end_one(tx, viewer, schedule, EndReason::Exhausted, None).await;
    };
    let accounted_until = schedule.accounted_until;
    let next_at = first.filter(|_| schedule.status == ScheduleStatus::Active);
    schedule.next_at = next_at;
    let mut row = schedule.into_active_model();
    row.next_at = Set(next_at);
    row.accounted_until = Set(accounted_until);
    row.updated_at = Set(tx.now());
    Ok(row.update(tx.db()).await?)
}
