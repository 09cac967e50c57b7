//! Schedules.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Offset, Utc};
use entity::id::ScheduleId;
use entity::schedule::{FoldPolicy, GapPolicy, ScheduleStatus};

use super::campaign::Campaign;
use super::list::{List, Totals, args, list};
use super::loader::load;
use super::member::Member;
use super::run_template::RunTemplate;
use super::{Actor, db, viewer};
use crate::input;
use crate::schedule::{self as noun, Pattern};

/// When runs of a campaign start, once or repeating.
pub struct Schedule(pub entity::schedule::Model);

/// When runs of a campaign start, once or repeating.
#[Object]
impl Schedule {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The campaign; null where guided work is scheduled.
    async fn campaign(&self, ctx: &Context<'_>) -> Result<Option<Campaign>> {
        Ok(load(ctx, self.0.campaign_id).await?.map(Campaign::from))
    }

    /// The template of the guided work that is scheduled; null where a campaign is.
    async fn run_template(&self, ctx: &Context<'_>) -> Result<Option<RunTemplate>> {
        Ok(load(ctx, self.0.run_template_id).await?.map(RunTemplate))
    }

    /// Who is to do guided work; null: anybody who may, and where a campaign is scheduled.
    async fn assignee(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        Ok(load(ctx, self.0.assignee_id).await?.map(Member))
    }

    /// Whether it has occurrences to come.
    async fn status(&self) -> ScheduleStatus {
        self.0.status
    }

    /// When, for a single one; null for a repeating one.
    async fn at(&self) -> Option<DateTime<Utc>> {
        self.0.at
    }

    /// The pattern, for a repeating one; null for a single one.
    async fn cron(&self) -> Option<&str> {
        self.0.cron.as_deref()
    }

    /// The IANA zone that the pattern is read in.
    async fn timezone(&self) -> &str {
        &self.0.time_zone
    }

    /// Local times that do not exist.
    async fn gap(&self) -> GapPolicy {
        self.0.gap
    }

    /// Local times that come twice.
    async fn fold(&self) -> FoldPolicy {
        self.0.fold
    }

    /// The next occurrence; null once it has ended.
    async fn next_at(&self) -> Option<DateTime<Utc>> {
        self.0.next_at
    }

    /// Who made it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A time at which a pattern fires.
#[derive(SimpleObject)]
pub struct FireTime {
    /// When, in UTC.
    at: DateTime<Utc>,
    /// The same on the clock on the wall, in the pattern's zone.
    local_time: String,
    /// The zone's offset from UTC then, in minutes.
    offset_minutes: i32,
    /// What a clock change does to it; null where there is none.
    note: Option<String>,
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct ScheduleQuery;

#[Object]
impl ScheduleQuery {
    /// One by its id; null where the org has none with it.
    async fn schedule(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Schedule>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), input::id::<ScheduleId>("id", &id)?).await?.map(Schedule))
    }

    /// All schedules, the newest first, or those of one campaign. `first` after a cursor, or `last` before one.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn schedules(
        &self,
        ctx: &Context<'_>,
        campaign_id: Option<ID>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Schedule>> {
        let of = campaign_id.map(|id| input::id("campaignId", &id)).transpose()?;
        let page = noun::page(db(ctx).read(), viewer(ctx), of, &args(first, after, last, before)).await?;
        Ok(list(page, Totals::Schedules(of), Schedule))
    }

    /// When a pattern would fire next, at most 100 times. Refused with BAD_USER_INPUT for a pattern or zone that is
    /// not one, or never comes due.
    #[allow(clippy::too_many_arguments)]
    async fn next_fire_times(
        &self,
        ctx: &Context<'_>,
        cron: String,
        timezone: String,
        count: Option<i32>,
        after: Option<DateTime<Utc>>,
        gap: Option<GapPolicy>,
        fold: Option<FoldPolicy>,
    ) -> Result<Vec<FireTime>> {
        let pattern =
            Pattern::parse(&cron, &timezone, gap.unwrap_or(GapPolicy::Shift), fold.unwrap_or(FoldPolicy::Once))?;
        let count = usize::try_from(count.unwrap_or(5)).unwrap_or(0).min(100);
        let each = pattern.take(after.unwrap_or_else(|| db(ctx).now()), count).into_iter().map(|found| {
            let local = found.at.with_timezone(&pattern.zone());
            let left_out: Vec<String> =
                found.left_out.iter().map(|wall| wall.format("%Y-%m-%d %H:%M").to_string()).collect();
            let note = if found.shifted {
                Some("its local time does not exist that day: the first instant after the gap".to_owned())
            } else if left_out.is_empty() {
                None
            } else {
                Some(format!("left out before it, since no such local time exists: {}", left_out.join(", ")))
            };
            FireTime {
                at: found.at,
                local_time: local.format("%Y-%m-%dT%H:%M:%S").to_string(),
                offset_minutes: local.offset().fix().local_minus_utc() / 60,
                note,
            }
        });
        Ok(each.collect())
    }
}

/// Which schedule is to end.
#[derive(InputObject)]
pub struct EndScheduleInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was changed.
#[derive(SimpleObject)]
pub struct EndSchedulePayload {
    /// As it is now.
    schedule: Schedule,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct ScheduleMutation;

#[Object]
impl ScheduleMutation {
    /// Ends a schedule: its waiting occurrence is cancelled, and none follows. Twice is once.
    async fn end_schedule(&self, ctx: &Context<'_>, input: EndScheduleInput) -> Result<EndSchedulePayload> {
        let id = input::id("id", &input.id)?;
        let expected = input.expected_revision;
        let schedule = once!(ctx, input.idempotency_key, |db| noun::end(db, viewer(ctx), id, expected));
        Ok(EndSchedulePayload { schedule: Schedule(schedule) })
    }
}
