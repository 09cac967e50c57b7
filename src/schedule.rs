//! When runs start: once, or by a cron pattern read in a time zone, clock changes included.

use chrono::{DateTime, Datelike, Duration, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use entity::Law;
use entity::id::{CampaignId, ScheduleId};
use entity::schedule::{ActiveModel, COLUMN, Entity, FoldPolicy, GapPolicy, Model, ScheduleAct, ScheduleStatus};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};

use crate::db::{Db, Tx};
use crate::error::{Refusal, Result};
use crate::event::{self, Event};
use crate::page::{Args, Page, Window};
use crate::viewer::Viewer;
use crate::{input, page, transact};

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

/// A schedule that is live from now on, of nothing yet. Errors: BAD_USER_INPUT for a time that lies in the past, or a pattern
/// that is none.
pub(crate) fn fresh(tx: &Tx, viewer: &Viewer, when: &When) -> Result<(ActiveModel, DateTime<Utc>)> {
    let next = when.check(tx.now()).map_err(|why| Refusal::input("at", why))?;
    let (at, cron, time_zone, gap, fold) = match when {
        When::At(at) => (Some(*at), None, "UTC".to_owned(), GapPolicy::Shift, FoldPolicy::Once),
        When::Cron { cron, time_zone, gap, fold } => (None, Some(cron.clone()), time_zone.clone(), *gap, *fold),
    };
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
        next_at: Set(Some(next)),
        created_by: Set(viewer.actor()),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    Ok((row, next))
}

/// Ends a schedule: its waiting occurrence is cancelled, and none follows. Ending twice is ending once.
/// Errors: NOT_FOUND, CONFLICT.
pub async fn end(db: &Db, viewer: &Viewer, id: ScheduleId, expected: Option<i32>) -> Result<Model> {
    transact!(db, |tx| {
        let found = must_lock(tx, viewer, id, expected).await?;
        if found.status.next(ScheduleAct::End).is_none() {
            return Ok(found);
        }
        let revision = found.revision;
        let mut row = found.into_active_model();
        row.status = Set(ScheduleStatus::Ended);
        row.next_at = Set(None);
        let ended = save(tx, row, revision).await?;
        let told = serde_json::json!({ "scheduleId": ended.id, "ended": true });
        let event = Event::new(viewer.org_id, "schedule.updated", &viewer.actor());
        event::append(tx, event.campaign(ended.campaign_id).payload(told));
        crate::run::cancel_occurrences(tx, viewer, id).await?;
        Ok(ended)
    })
}

/// When: at one time, or by a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
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

impl When {
    /// The first occurrence after `now`, or what is wrong.
    pub fn check(&self, now: DateTime<Utc>) -> std::result::Result<DateTime<Utc>, String> {
        match self {
            Self::At(at) if *at > now => Ok(*at),
            Self::At(_) => Err("the time lies in the past".into()),
            Self::Cron { cron, time_zone, gap, fold } => {
                let pattern = Pattern::parse(cron, time_zone, *gap, *fold).map_err(|refusal| refusal.message)?;
                pattern.next(now).map(|next| next.at).ok_or_else(|| "the pattern never comes due".into())
            }
        }
    }
}

/// A pattern in its zone.
#[derive(Clone, Debug)]
pub struct Pattern {
    cron: Cron,
    zone: Tz,
    gap: GapPolicy,
    fold: FoldPolicy,
    /// Whether it means "every so often" and not "at this time": such a one follows the clock on the wall as it runs.
    floats: bool,
}

/// One occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// When.
    pub at: DateTime<Utc>,
    /// Whether its own local time does not exist that day, so that it comes at the first instant after the gap.
    pub shifted: bool,
    /// Local times before it that were left out because they do not exist.
    pub left_out: Vec<NaiveDateTime>,
}

impl Pattern {
    /// Reads a pattern of five fields and a zone. Errors: BAD_USER_INPUT, also for a pattern that never comes due.
    pub fn parse(cron: &str, time_zone: &str, gap: GapPolicy, fold: FoldPolicy) -> std::result::Result<Self, Refusal> {
        let zone = input::time_zone("timezone", time_zone).map_err(|_| {
            Refusal::input("timezone", format!("`{}` is not a time zone like Europe/Berlin", input::shown(time_zone)))
        })?;
        let wrong = |err: &dyn std::fmt::Display| Refusal::input("cron", format!("`{}`: {err}", input::shown(cron)));
        if cron.len() > 200 {
            return Err(wrong(&"is too long"));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        let parsed = parser.parse(cron).map_err(|err| wrong(&err))?;
        let every = |field: &str| field.starts_with('*');
        let fields: Vec<&str> = cron.split_whitespace().collect();
        let floats = fields.len() < 5 || every(fields[0]) || every(fields[1]);
        let pattern = Self { cron: parsed, zone, gap, fold, floats };
        let begin = DateTime::<Utc>::UNIX_EPOCH + Duration::days(20_000);
        if pattern.next(begin).is_none() {
            return Err(wrong(&"never comes due"));
        }
        Ok(pattern)
    }

    /// The first occurrence after a time; none if there is none for years.
    pub fn next(&self, after: DateTime<Utc>) -> Option<Occurrence> {
        // The pattern is matched on wall time as if there were no zone; each match is then placed on the time line.
        // Where the clock goes back, a later wall time can come earlier, by no more than the change.
        let slack = Duration::hours(3);
        let mut wall = after.with_timezone(&self.zone).naive_local() - slack;
        let mut best: Option<(DateTime<Utc>, bool)> = None;
        let mut left_out = Vec::new();
        for _ in 0..100_000 {
            if let Some((at, _)) = best
                && wall > at.with_timezone(&self.zone).naive_local() + slack
            {
                break;
            }
            let Some(found) = self.cron.find_next_occurrence(&wall.and_utc(), false).ok().map(|at| at.naive_utc())
            else {
                break;
            };
            wall = found;
            match self.place(wall) {
                Placed::LeftOut => left_out.push(wall),
                Placed::At(instants, shifted) => {
                    for at in instants {
                        if at > after && best.is_none_or(|(before, _)| at < before) {
                            best = Some((at, shifted));
                        }
                    }
                }
            }
        }
        let (at, shifted) = best?;
        let (from, to) = (after.with_timezone(&self.zone).naive_local(), at.with_timezone(&self.zone).naive_local());
        left_out.retain(|wall| *wall > from && *wall < to);
        Some(Occurrence { at, shifted, left_out })
    }

    /// Occurrences after a time, so many.
    pub fn take(&self, after: DateTime<Utc>, count: usize) -> Vec<Occurrence> {
        let mut all: Vec<Occurrence> = Vec::new();
        while all.len() < count {
            let Some(next) = self.next(all.last().map_or(after, |last| last.at)) else { break };
            all.push(next);
        }
        all
    }

    /// The zone it is read in.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    fn place(&self, wall: NaiveDateTime) -> Placed {
        match self.zone.from_local_datetime(&wall) {
            chrono::LocalResult::Single(at) => Placed::At(vec![at.to_utc()], false),
            chrono::LocalResult::Ambiguous(first, second) if self.floats || self.fold == FoldPolicy::Both => {
                Placed::At(vec![first.to_utc(), second.to_utc()], false)
            }
            chrono::LocalResult::Ambiguous(first, _) => Placed::At(vec![first.to_utc()], false),
            chrono::LocalResult::None if self.floats || self.gap == GapPolicy::Skip => Placed::LeftOut,
            // A whole day that does not exist (Apia, 2011-12-30) is left out: its work is not the next day's.
            chrono::LocalResult::None => match self.after_gap(wall) {
                Some(at) if at.with_timezone(&self.zone).day() == wall.day() => Placed::At(vec![at], true),
                _ => Placed::LeftOut,
            },
        }
    }

    /// The first instant after the gap that a wall time lies in.
    fn after_gap(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        let begin = wall.with_second(0)?;
        (1..=26 * 60).find_map(|minutes| {
            self.zone.from_local_datetime(&(begin + Duration::minutes(minutes))).earliest().map(|at| at.to_utc())
        })
    }
}

enum Placed {
    At(Vec<DateTime<Utc>>, bool),
    LeftOut,
}

/// The pattern of a repeating schedule; none for a single one.
pub fn pattern(schedule: &Model) -> Result<Option<Pattern>> {
    match &schedule.cron {
        Some(cron) => Ok(Some(Pattern::parse(cron, &schedule.time_zone, schedule.gap, schedule.fold)?)),
        None => Ok(None),
    }
}
