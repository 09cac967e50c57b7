//! Schedules.

mod change;
mod fire_time;

use async_graphql::{Context, ID, Object, Result};
pub use change::{
    EndScheduleInput, EndSchedulePayload, ScheduleActInput, ScheduleChangePayload, ScheduleMutation,
    UpdateScheduleInput,
};
use chrono::{DateTime, Utc};
use entity::CampaignStatus;
use entity::id::ScheduleId;
use entity::missed_occurrence::UnfiredReason;
use entity::schedule::{CatchUpPolicy, EndReason, FoldPolicy, GapPolicy, ScheduleStatus};

pub use fire_time::{FireNote, FireTime};

use super::AvailableAction;
use super::campaign::Campaign;
use super::list::{List, Totals, args, list};
use super::loader::{below, load};
use super::member::Member;
use super::run_template::RunTemplate;
use super::{Actor, db, viewer};
use crate::domain::plan::schedule::{self as noun, Action, EITHER_DAY, Pattern};
use crate::kernel::error::Refusal;
use crate::kernel::{storable, validate};

/// When runs of a campaign, or of guided work, start: once or repeating.
pub struct Schedule(pub entity::schedule::Model);

/// When runs of a campaign, or of guided work, start: once or repeating.
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

    /// The name of its runs; null where they have the campaign's or the template's.
    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Active, paused or ended.
    async fn status(&self) -> ScheduleStatus {
        self.0.status
    }

    /// The time of a single one; null for a repeating one.
    async fn at(&self) -> Option<DateTime<Utc>> {
        self.0.at
    }

    /// The pattern of a repeating one, as it was given; null for a single one.
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

    /// The occurrences that are made up for when their time passed while the server was down.
    async fn catch_up(&self) -> CatchUpPolicy {
        self.0.catch_up
    }

    /// The age up to which an occurrence is made up for, in seconds; null: any age.
    async fn catch_up_window_seconds(&self) -> Option<i64> {
        self.0.catch_up_window_seconds
    }

    /// A remark on the pattern: both day fields are restricted, and either is enough. Null where there is none.
    async fn note(&self) -> Option<&'static str> {
        let pattern = noun::pattern(&self.0).ok().flatten();
        pattern.filter(Pattern::either_day).map(|_| EITHER_DAY)
    }

    /// The next time at which anything of it starts, a run that was moved included; null while it or its campaign is
    /// paused, and once it has ended.
    async fn next_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime<Utc>>> {
        let campaign: Option<entity::campaign::Model> = match self.0.next_at {
            Some(_) => load(ctx, self.0.campaign_id).await?,
            None => None,
        };
        let held = campaign.is_some_and(|campaign| campaign.status == CampaignStatus::Paused);
        Ok(self.0.next_at.filter(|_| !held))
    }

    /// The time at which it was paused; null while it is not.
    async fn paused_at(&self) -> Option<DateTime<Utc>> {
        self.0.paused_at
    }

    /// The time at which it ended; null while it has not.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }

    /// The reason for its end; null while it has not ended, and for schedules that ended before reasons were kept.
    async fn end_reason(&self) -> Option<EndReason> {
        self.0.end_reason
    }

    /// The occurrences that did not start, by stretches, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn missed(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<MissedOccurrences>> {
        let window = noun::missed::window(viewer(ctx), self.0.id, args(first, after, None, None))?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::Unfired(self.0.id), MissedOccurrences))
    }

    /// The actions that are possible now, and the reasons against the others.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::judged(action, noun::check_allowed(&self.0, action)))
            .collect()
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

/// A stretch of occurrences of a schedule that did not start.
pub struct MissedOccurrences(entity::missed_occurrence::Model);

/// A stretch of occurrences of a schedule that did not start.
#[Object]
impl MissedOccurrences {
    /// The id.
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The reason, the same for all of them.
    async fn reason(&self) -> UnfiredReason {
        self.0.reason
    }

    /// The number of occurrences.
    async fn count(&self) -> i64 {
        self.0.count
    }

    /// The first of them; of local times that do not exist, the occurrence that they came before.
    async fn first_at(&self) -> DateTime<Utc> {
        self.0.first_at
    }

    /// The last of them.
    async fn last_at(&self) -> DateTime<Utc> {
        self.0.last_at
    }

    /// The local times that do not exist, at most 100 of them; null for other reasons.
    async fn local_times(&self) -> Option<Vec<String>> {
        self.0.local_times.clone().and_then(|times| serde_json::from_value(times).ok())
    }

    /// The time at which they were recorded.
    async fn recorded_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct ScheduleQuery;

#[Object]
impl ScheduleQuery {
    /// One by its id; null where the org has none with it.
    async fn schedule(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Schedule>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<ScheduleId>("id", &id)?).await?.map(Schedule))
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
        let of = campaign_id.map(|id| validate::id("campaignId", &id)).transpose()?;
        let page = noun::page(db(ctx).read(), viewer(ctx), of, &args(first, after, last, before)).await?;
        Ok(list(page, Totals::Schedules(of), Schedule))
    }

    /// Returns the times at which a pattern would fire next, in order; fewer than `count` where the year 9999 ends first.
    /// Refused with BAD_USER_INPUT for an invalid pattern or zone, or a pattern that never comes due.
    #[allow(clippy::too_many_arguments)]
    async fn next_fire_times(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Five fields (minute, hour, day of month, month, day of week), or a nickname like `@daily`.")]
        cron: String,
        #[graphql(desc = "The IANA time zone that the pattern is read in.")] timezone: String,
        #[graphql(desc = "How many times, 0 to 100; 5 unless given.")] count: Option<i32>,
        #[graphql(desc = "The times come after this one; now unless given.")] after: Option<DateTime<Utc>>,
        #[graphql(desc = "Local times that do not exist; SHIFT unless given.")] gap: Option<GapPolicy>,
        #[graphql(desc = "Local times that come twice; ONCE unless given.")] fold: Option<FoldPolicy>,
    ) -> Result<Vec<FireTime>> {
        let (gap, fold) = (gap.unwrap_or(GapPolicy::Shift), fold.unwrap_or(FoldPolicy::Once));
        let pattern = Pattern::parse(&cron, &timezone, gap, fold)?;
        let count = count.unwrap_or(5);
        if !(0..=FIRE_TIMES).contains(&count) {
            return Err(Refusal::input("count", format!("0 to {FIRE_TIMES}")).into());
        }
        let after = storable::time(after.unwrap_or_else(|| db(ctx).now())).map_err(|unfit| unfit.of("after"))?;
        let found = pattern.take(after, usize::try_from(count).unwrap_or_default());
        // What lies behind the last year can't be stored, so nothing fires then.
        let found = found.iter().take_while(|found| storable::time(found.at).is_ok());
        Ok(found.map(|found| FireTime::of(&pattern, found, fold)).collect())
    }
}

/// Times that are shown of a pattern at once.
const FIRE_TIMES: i32 = 100;
