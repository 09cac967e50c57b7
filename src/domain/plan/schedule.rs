//! Schedules start runs once, or by a cron pattern in a time zone, including clock changes.

pub mod catch_up;
pub mod cron;
pub mod list;
pub mod missed;
pub mod timing;

use chrono::{DateTime, Utc};
pub use cron::{EITHER_DAY, Occurrence, Pattern, Turn, Walk, wall};
use entity::StateMachine;
use entity::id::{CampaignId, ScheduleId};
use entity::schedule::{
    ActiveModel, COLUMN, CatchUpPolicy, EndReason, Entity, FoldPolicy, GapPolicy, Model, OverlapPolicy, ScheduleStatus,
    ScheduleTransition,
};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::{Value, json};
use timing::{Bounds, Timing, check_timing};

use crate::kernel::db::Tx;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{Args, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, page, row_limit, storable, validate};

scoped!(schedule, ScheduleId, "schedule");
saved!(schedule, ScheduleId, "schedule");

/// Returns a window of the schedules of the viewer's org, or of one campaign, newest first.
pub fn window(viewer: &Viewer, campaign: Option<CampaignId>, args: Args) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("schedule", campaign))?;
    Ok(Window { select: select(viewer, campaign), order: NEWEST_FIRST, fingerprint, args, part: None })
}

fn select(viewer: &Viewer, campaign: Option<CampaignId>) -> sea_orm::Select<Entity> {
    let all = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    match campaign {
        Some(id) => all.filter(COLUMN.campaign_id.eq(id)),
        None => all,
    }
}

/// Policies of a schedule for its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulePolicies {
    /// The name of its runs; default: the campaign's or the template's.
    pub name: Option<String>,
    /// The policy for occurrences that could not start in time; default: `LAST`.
    pub catch_up: Option<CatchUpPolicy>,
    /// Maximum age in seconds of occurrences to catch up on; default: unlimited for `LAST`, a day
    /// for `ALL`.
    pub window_seconds: Option<i64>,
    /// The policy for occurrences that fall due while an earlier run is open; default: `ALLOW_ALL`.
    pub overlap: Option<OverlapPolicy>,
    /// The bounds of its occurrences; default: none.
    pub bounds: Bounds,
}

impl SchedulePolicies {
    /// Checks the time and bounds of a new schedule. Returns its timing and its first occurrence.
    /// Errors: BAD_USER_INPUT naming the field.
    pub fn check(
        &self,
        id: ScheduleId,
        when: &ScheduleTime,
        now: DateTime<Utc>,
    ) -> std::result::Result<(Timing, Occurrence), Refusal> {
        when.check(now)?;
        self.bounds.check()?;
        let Bounds { start_at, end_at, jitter_seconds, .. } = self.bounds;
        let at = match when {
            ScheduleTime::At(at) => Some(*at),
            ScheduleTime::Cron { .. } => None,
        };
        if at.is_some()
            && let Some(field) = self.bounds.set_field()
        {
            return Err(ScheduleTime::at_with_bounds(field));
        }
        let jitter_seconds = jitter_seconds.unwrap_or(0);
        let timing = Timing { id, at, pattern: when.pattern()?, start_at, end_at, jitter_seconds };
        let first = check_timing(&timing, now)?;
        Ok((timing, first))
    }
}

/// Builds an active schedule, not yet attached to a campaign or template, and its first occurrence.
/// Errors: BAD_USER_INPUT for a time in the past, an invalid pattern, or a window out of bounds;
/// LIMIT_EXCEEDED if the org has too many schedules.
pub(crate) async fn new_schedule(
    tx: &Tx,
    viewer: &Viewer,
    when: &ScheduleTime,
    policies: &SchedulePolicies,
) -> Result<(ActiveModel, Occurrence)> {
    let field = if matches!(when, ScheduleTime::At(_)) { "at" } else { "cron" };
    let live = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.status.is_in([ScheduleStatus::Active, ScheduleStatus::Paused]));
    row_limit::check_below(
        tx,
        viewer.org_id,
        live,
        limits::SCHEDULES_OF_ORG,
        field,
        "schedules that are active or paused",
    )
    .await?;
    let id = ScheduleId::new();
    let (timing, next) = policies.check(id, when, tx.now())?;
    let (at, cron, time_zone, gap, fold) = match when {
        ScheduleTime::At(at) => (Some(*at), None, "UTC".to_owned(), GapPolicy::Shift, FoldPolicy::Once),
        ScheduleTime::Cron { cron, time_zone, gap, fold } => (None, Some(cron.clone()), time_zone.clone(), *gap, *fold),
    };
    let catch_up = policies.catch_up.unwrap_or(CatchUpPolicy::Last);
    let row = ActiveModel {
        id: Set(id),
        org_id: Set(viewer.org_id),
        campaign_id: Set(None),
        run_template_id: Set(None),
        assignee_id: Set(None),
        linked: Set(None),
        status: Set(ScheduleStatus::Active),
        at: Set(at),
        cron: Set(cron),
        time_zone: Set(time_zone),
        gap: Set(gap),
        fold: Set(fold),
        name: Set(policies.name.as_deref().map(|name| validate::name("name", name)).transpose()?),
        catch_up: Set(catch_up),
        catch_up_window_seconds: Set(catch_up::window_of(catch_up, policies.window_seconds)?),
        start_at: Set(timing.start_at),
        end_at: Set(timing.end_at),
        remaining: Set(policies.bounds.remaining),
        jitter_seconds: Set(timing.jitter_seconds),
        overlap: Set(policies.overlap.unwrap_or(OverlapPolicy::AllowAll)),
        next_at: Set(Some(next.starts_at)),
        accounted_until: Set(Some(next.at)),
        pattern_since: Set(Some(tx.now())),
        paused_at: Set(None),
        paused_until: Set(None),
        ended_at: Set(None),
        end_reason: Set(None),
        created_by: Set(viewer.actor()),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    Ok((row, next))
}

/// Ends a locked schedule, unless it has ended before. Its waiting runs are the caller's.
pub(crate) async fn mark_ended(tx: &Tx, viewer: &Viewer, schedule: Model, reason: EndReason) -> Result<Model> {
    let Some(to) = schedule.status.next(ScheduleTransition::End) else { return Ok(schedule) };
    let (from, revision, accounted_until) = (schedule.status, schedule.revision, schedule.accounted_until);
    let mut row = schedule.into_active_model();
    row.status = Set(to);
    row.next_at = Set(None);
    row.paused_at = Set(None);
    row.paused_until = Set(None);
    row.accounted_until = Set(accounted_until);
    row.ended_at = Set(Some(tx.now()));
    row.end_reason = Set(Some(reason));
    row.updated_at = Set(tx.now());
    row.revision = Set(revision + 1);
    let ended = row.update(tx.db()).await?;
    emit(tx, viewer, "schedule.ended", &ended, json!({ "from": from, "to": to, "reason": reason }));
    Ok(ended)
}

/// Emits the event of a schedule's creation.
pub(crate) fn emit_created(tx: &Tx, viewer: &Viewer, schedule: &Model) {
    let payload = json!({
        "from": null, "to": schedule.status, "cron": schedule.cron, "at": schedule.at, "timezone": schedule.time_zone,
        "catchUp": schedule.catch_up, "overlap": schedule.overlap, "startAt": schedule.start_at,
        "endAt": schedule.end_at, "remaining": schedule.remaining, "jitterSeconds": schedule.jitter_seconds, "nextAt": schedule.next_at, "runTemplateId": schedule.run_template_id,
        "assigneeId": schedule.assignee_id,
    });
    emit(tx, viewer, "schedule.created", schedule, payload);
}

/// Emits an event about a schedule.
pub(crate) fn emit(tx: &Tx, viewer: &Viewer, kind: &str, schedule: &Model, mut payload: Value) {
    payload["id"] = json!(schedule.id);
    payload["scheduleId"] = json!(schedule.id);
    let event = Event::new(schedule.org_id, kind, &viewer.actor());
    event::append(tx, event.campaign(schedule.campaign_id).payload(payload));
}

/// The time of a schedule: a single time or a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleTime {
    /// Once.
    At(DateTime<Utc>),
    /// Repeatedly, by a pattern.
    Cron {
        /// Five fields: minute, hour, day of month, month, day of week.
        cron: String,
        /// An IANA time zone.
        time_zone: String,
        /// The policy for local times that do not exist.
        gap: GapPolicy,
        /// The policy for local times that occur twice.
        fold: FoldPolicy,
    },
}

impl ScheduleTime {
    /// Returns the first occurrence after `now`. Errors: BAD_USER_INPUT naming `at`, `cron` or
    /// `timezone`.
    pub fn check(&self, now: DateTime<Utc>) -> std::result::Result<Occurrence, Refusal> {
        match self {
            Self::At(at) => {
                let at = storable::time(*at).map_err(|unfit| unfit.of("at"))?;
                let past = || Refusal::input("at", "the time lies in the past");
                (at > now).then(|| Occurrence::plain(at)).ok_or_else(past)
            }
            Self::Cron { .. } => {
                let pattern = self.pattern()?;
                let next = pattern.as_ref().and_then(|pattern| pattern.next(now));
                next.ok_or_else(|| {
                    Refusal::input("cron", "the pattern has no further occurrence before the year 10000")
                })
            }
        }
    }

    /// Rejects a single time that is given with settings of a pattern, by name: they would have no
    /// effect.
    pub fn check_alone(given: &[(&str, bool)]) -> std::result::Result<(), Refusal> {
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((field, _)) => Err(Refusal::input(field, "a single time takes no time zone and no policies")),
            None => Ok(()),
        }
    }

    /// The refusal of a single time that is given with a bound of a pattern.
    pub fn at_with_bounds(field: &str) -> Refusal {
        Refusal::input(field, "a single time takes no bounds and no jitter: omit it, or give `cron`")
    }

    /// Returns the pattern; `None` for a single time. Errors: BAD_USER_INPUT.
    pub fn pattern(&self) -> std::result::Result<Option<Pattern>, Refusal> {
        match self {
            Self::At(_) => Ok(None),
            Self::Cron { cron, time_zone, gap, fold } => Pattern::parse(cron, time_zone, *gap, *fold).map(Some),
        }
    }
}

/// Returns the pattern of a repeating schedule; `None` for a single time.
pub fn pattern(schedule: &Model) -> Result<Option<Pattern>> {
    match &schedule.cron {
        Some(cron) => Ok(Some(Pattern::read(cron, &schedule.time_zone, schedule.gap, schedule.fold)?)),
        None => Ok(None),
    }
}
