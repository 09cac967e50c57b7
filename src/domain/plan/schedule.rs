//! When runs start: once, or by a cron pattern read in a time zone, clock changes included.

pub mod catch_up;
pub mod change;
pub mod cron;
pub mod missed;

pub use change::{Action, check_allowed, end, hold, update};
pub(crate) use change::{end_all_of, end_one, resume_all_of};
use chrono::{DateTime, Utc};
pub use cron::{EITHER_DAY, Occurrence, Pattern, Turn, wall};
use entity::id::{CampaignId, ScheduleId};
use entity::schedule::{ActiveModel, COLUMN, CatchUpPolicy, Entity, FoldPolicy, GapPolicy, Model, ScheduleStatus};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Set};
use serde_json::{Value, json};

use crate::kernel::db::Tx;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{Args, Page, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{page, storable, validate};

scoped!(schedule, ScheduleId, "schedule");
saved!(schedule, ScheduleId, "schedule");

/// A window of the schedules of the viewer's org, or of one campaign, the newest first.
pub fn window(viewer: &Viewer, campaign: Option<CampaignId>, args: Args) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("schedule", campaign))?;
    Ok(Window { select: select(viewer, campaign), order: NEWEST_FIRST, fingerprint, args })
}

/// One page of them.
pub async fn page(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    campaign: Option<CampaignId>,
    args: &Args,
) -> Result<Page<Model>> {
    window(viewer, campaign, args.clone())?.read(db).await
}

fn select(viewer: &Viewer, campaign: Option<CampaignId>) -> sea_orm::Select<Entity> {
    let all = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    match campaign {
        Some(id) => all.filter(COLUMN.campaign_id.eq(id)),
        None => all,
    }
}

/// How a schedule goes about what it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulePolicies {
    /// The name of its runs; none: the campaign's, or the template's.
    pub name: Option<String>,
    /// Occurrences whose time passed while nothing could start; none: `LAST`.
    pub catch_up: Option<CatchUpPolicy>,
    /// The age in seconds up to which they are made up for; none: any age by `LAST`, a day by `ALL`.
    pub window_seconds: Option<i64>,
}

/// A schedule that is live from now on, of nothing yet, and its first occurrence. Errors: BAD_USER_INPUT for a time that
/// lies in the past, an invalid pattern, or a window out of bounds.
pub(crate) fn fresh(
    tx: &Tx,
    viewer: &Viewer,
    when: &ScheduleTime,
    terms: &SchedulePolicies,
) -> Result<(ActiveModel, DateTime<Utc>)> {
    let next = when.check(tx.now())?;
    let (at, cron, time_zone, gap, fold) = match when {
        ScheduleTime::At(at) => (Some(*at), None, "UTC".to_owned(), GapPolicy::Shift, FoldPolicy::Once),
        ScheduleTime::Cron { cron, time_zone, gap, fold } => (None, Some(cron.clone()), time_zone.clone(), *gap, *fold),
    };
    let catch_up = terms.catch_up.unwrap_or(CatchUpPolicy::Last);
    let row = ActiveModel {
        id: Set(ScheduleId::new()),
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
        name: Set(terms.name.as_deref().map(|name| validate::name("name", name)).transpose()?),
        catch_up: Set(catch_up),
        catch_up_window_seconds: Set(change::window_of(catch_up, terms.window_seconds)?),
        next_at: Set(Some(next.at)),
        accounted_until: Set(Some(next.at)),
        pattern_since: Set(Some(tx.now())),
        paused_at: Set(None),
        ended_at: Set(None),
        end_reason: Set(None),
        created_by: Set(viewer.actor()),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    Ok((row, next.at))
}

/// Tells of a schedule that was made.
pub(crate) fn emit_created(tx: &Tx, viewer: &Viewer, schedule: &Model) {
    let told = json!({
        "from": null, "to": schedule.status, "cron": schedule.cron, "at": schedule.at, "timezone": schedule.time_zone,
        "catchUp": schedule.catch_up, "nextAt": schedule.next_at, "runTemplateId": schedule.run_template_id,
        "assigneeId": schedule.assignee_id,
    });
    emit(tx, viewer, "schedule.created", schedule, told);
}

/// An event about a schedule.
pub(crate) fn emit(tx: &Tx, viewer: &Viewer, kind: &str, schedule: &Model, mut told: Value) {
    told["id"] = json!(schedule.id);
    told["scheduleId"] = json!(schedule.id);
    let event = Event::new(schedule.org_id, kind, &viewer.actor());
    event::append(tx, event.campaign(schedule.campaign_id).payload(told));
}

/// When: at one time, or by a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleTime {
    /// Once.
    At(DateTime<Utc>),
    /// Again and again.
    Cron {
        /// Five fields: minute, hour, day of month, month, day of week.
        cron: String,
        /// An IANA zone.
        time_zone: String,
        /// Local times that do not exist.
        gap: GapPolicy,
        /// Local times that come twice.
        fold: FoldPolicy,
    },
}

impl ScheduleTime {
    /// The first occurrence after `now`. Errors: BAD_USER_INPUT naming `at`, `cron` or `timezone`.
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
                    Refusal::input("cron", "the pattern does not come due any more before the year 10000")
                })
            }
        }
    }

    /// The pattern of repeating ones; none for a single time. Errors: BAD_USER_INPUT.
    pub fn pattern(&self) -> std::result::Result<Option<Pattern>, Refusal> {
        match self {
            Self::At(_) => Ok(None),
            Self::Cron { cron, time_zone, gap, fold } => Pattern::parse(cron, time_zone, *gap, *fold).map(Some),
        }
    }
}

/// The pattern of a repeating schedule; none for a single one.
pub fn pattern(schedule: &Model) -> Result<Option<Pattern>> {
    match &schedule.cron {
        Some(cron) => Ok(Some(Pattern::read(cron, &schedule.time_zone, schedule.gap, schedule.fold)?)),
        None => Ok(None),
    }
}
