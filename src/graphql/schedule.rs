//! Schedules: single or repeating starts of runs, with their queries.

mod act;
mod change;
mod fire_time;
mod list;
pub mod occurrences;
mod upcoming;

use std::time::Instant;

pub use act::{
    BackfillScheduleInput, BackfillSchedulePayload, ScheduleActMutation, SkipOccurrenceInput, SkipOccurrencePayload,
    TriggerScheduleInput, TriggerSchedulePayload,
};
use async_graphql::{Context, ID, Object, Result};
pub use change::{
    EndScheduleInput, EndSchedulePayload, ScheduleActInput, ScheduleChangePayload, ScheduleMutation,
    UpdateScheduleInput,
};
use chrono::{DateTime, Utc};
use entity::CampaignStatus;
use entity::id::ScheduleId;
use entity::missed_occurrence::UnfiredReason;
use entity::schedule::{CatchUpPolicy, EndReason, FoldPolicy, GapPolicy, OverlapPolicy, ScheduleStatus};

pub use fire_time::{FireNote, FireTime};
pub use list::ScheduleOrder;
pub use upcoming::UpcomingOccurrence;

use super::AvailableAction;
use super::campaign::Campaign;
use super::list::{List, Totals, args, list, repeated_cost};
use super::loader::{load, nested_page};
use super::member::Member;
use super::run_template::RunTemplate;
use super::{Actor, db, viewer};
use crate::domain::plan::schedule::list::Filter;
use crate::domain::plan::schedule::{self as noun, EITHER_DAY, Occurrence, Pattern};
use crate::domain::run::schedule_change::{Action, check_allowed};
use crate::graphql::selection::RowFields;
use crate::kernel::error::Refusal;
use crate::kernel::{budget, storable, validate};

/// The start times of a campaign's runs or of guided work: once or repeating.
pub struct Schedule(pub entity::schedule::Model);

impl RowFields for Schedule {}

/// The start times of a campaign's runs or of guided work: once or repeating.
#[Object]
impl Schedule {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The campaign; null if guided work is scheduled.
    async fn campaign(&self, ctx: &Context<'_>) -> Result<Option<Campaign>> {
        Ok(load(ctx, self.0.campaign_id).await?.map(Campaign::from))
    }

    /// The template of the scheduled guided work; null if a campaign is scheduled.
    async fn run_template(&self, ctx: &Context<'_>) -> Result<Option<RunTemplate>> {
        Ok(load(ctx, self.0.run_template_id).await?.map(RunTemplate))
    }

    /// The member who is to do the guided work; null if anybody with permission may, and if a
    /// campaign is scheduled.
    async fn assignee(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        Ok(load(ctx, self.0.assignee_id).await?.map(Member))
    }

    /// Name of its runs; null if they take the campaign's or the template's name.
    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Current status: active, paused or ended.
    async fn status(&self) -> ScheduleStatus {
        self.0.status
    }

    /// Start time of a single run; null for a repeating schedule.
    async fn at(&self) -> Option<DateTime<Utc>> {
        self.0.at
    }

    /// Cron pattern of a repeating schedule as it was entered; null for a single run.
    async fn cron(&self) -> Option<&str> {
        self.0.cron.as_deref()
    }

    /// IANA time zone in which the pattern is evaluated.
    async fn timezone(&self) -> &str {
        &self.0.time_zone
    }

    /// Policy for local times that do not exist.
    async fn gap(&self) -> GapPolicy {
        self.0.gap
    }

    /// Policy for local times that occur twice.
    async fn fold(&self) -> FoldPolicy {
        self.0.fold
    }

    /// Policy for occurrences that passed while the server was down: the ones that still start.
    async fn catch_up(&self) -> CatchUpPolicy {
        self.0.catch_up
    }

    /// Maximum age in seconds up to which a missed occurrence still starts; null for no limit.
    async fn catch_up_window_seconds(&self) -> Option<i64> {
        self.0.catch_up_window_seconds
    }

    /// Time before which nothing occurs; null without such a bound.
    async fn start_at(&self) -> Option<DateTime<Utc>> {
        self.0.start_at
    }

    /// Time after which nothing occurs; null without such a bound.
    async fn end_at(&self) -> Option<DateTime<Utc>> {
        self.0.end_at
    }

    /// Number of starts left: each occurrence that starts uses one up, and at 0 the schedule ends;
    /// null without a limit.
    async fn remaining(&self) -> Option<i32> {
        self.0.remaining
    }

    /// Maximum delay in seconds of a start behind its occurrence; 0 if each starts at its time. The
    /// delay of an occurrence never changes, and ends before the next occurrence.
    async fn jitter_seconds(&self) -> i32 {
        self.0.jitter_seconds
    }

    /// Policy for an occurrence that falls due while an earlier run of the schedule is open.
    async fn overlap(&self) -> OverlapPolicy {
        self.0.overlap
    }

    /// Note that both day fields of the pattern are restricted and either one is sufficient; null
    /// if that is not the case.
    async fn note(&self) -> Option<&'static str> {
        let pattern = noun::pattern(&self.0).ok().flatten();
        pattern.filter(Pattern::either_day).map(|_| EITHER_DAY)
    }

    /// Next start, including a run that was moved; null while the schedule or its campaign is
    /// paused, after its end, and if only runs that wait for an earlier one are left.
    async fn next_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime<Utc>>> {
        let campaign: Option<entity::campaign::Model> = match self.0.next_at {
            Some(_) => load(ctx, self.0.campaign_id).await?,
            None => None,
        };
        let held = campaign.is_some_and(|campaign| campaign.status == CampaignStatus::Paused);
        Ok(self.0.next_at.filter(|_| !held))
    }

    /// Time at which it was paused; null if it is not paused.
    async fn paused_at(&self) -> Option<DateTime<Utc>> {
        self.0.paused_at
    }

    /// Time at which it resumes by itself; null if it is not paused, or a person has to resume it.
    async fn paused_until(&self) -> Option<DateTime<Utc>> {
        self.0.paused_until
    }

    /// Time at which it ended; null before.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }

    /// Reason for its end; null before its end, and for schedules that ended before reasons were
    /// stored.
    async fn end_reason(&self) -> Option<EndReason> {
        self.0.end_reason
    }

    /// Occurrences that did not start, in stretches, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn missed(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<MissedOccurrences>> {
        let window = noun::missed::window(viewer(ctx), self.0.id, args(first, after, None, None))?;
        let page = nested_page(ctx, window, false).await?;
        Ok(list(page, Totals::Unfired(self.0.id), MissedOccurrences))
    }

    /// The occurrences that are over, latest first: those that started, with their runs, and those
    /// that did not, in stretches with a reason. Runs of `triggerSchedule` stand for no occurrence.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity).saturating_add(40)")]
    async fn occurrences(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<occurrences::PastOccurrence>> {
        occurrences::past(ctx, self.0.id, first, after).await
    }

    /// The next occurrences in the order of their starts, skipped ones among them; empty after its
    /// end. While it is paused, those that would start if it were resumed now, or those after
    /// `pausedUntil`.
    #[graphql(complexity = "upcoming::cost(first, child_complexity)")]
    async fn upcoming(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Number of occurrences, 0 to 100; 10 by default.")] first: Option<i32>,
    ) -> Result<Vec<UpcomingOccurrence>> {
        upcoming::list(ctx, &self.0, first).await
    }

    /// All actions on the schedule: allowed now, or blocked with the reason.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::of_verdict(action, check_allowed(&self.0, action)))
            .collect()
    }

    /// The actor that created it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A stretch of occurrences of a schedule that did not start.
pub struct MissedOccurrences(entity::missed_occurrence::Model);

impl RowFields for MissedOccurrences {}

/// A stretch of occurrences of a schedule that did not start.
#[Object]
impl MissedOccurrences {
    /// Id of the stretch.
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Reason, the same for all of them.
    async fn reason(&self) -> UnfiredReason {
        self.0.reason
    }

    /// Number of occurrences.
    async fn count(&self) -> i64 {
        self.0.count
    }

    /// Time of the first one; for local times that do not exist, the occurrence that they preceded.
    async fn first_at(&self) -> DateTime<Utc> {
        self.0.first_at
    }

    /// Time of the last one.
    async fn last_at(&self) -> DateTime<Utc> {
        self.0.last_at
    }

    /// Local times that do not exist, at most 100; null for other reasons.
    async fn local_times(&self) -> Option<Vec<String>> {
        self.0.local_times.clone().and_then(|times| serde_json::from_value(times).ok())
    }

    /// Time at which they were recorded.
    async fn recorded_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

/// Query fields for schedules.
#[derive(Default)]
pub struct ScheduleQuery;

#[Object]
impl ScheduleQuery {
    /// Returns the schedule with this id; null if the org has none.
    async fn schedule(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Schedule>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<ScheduleId>("id", &id)?).await?.map(Schedule))
    }

    /// Schedules that match the filter, newest first by default. Page with `first` and `after`, or
    /// `last` and `before`; page size 50 by default, at most 500.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn schedules(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the campaign that the schedules belong to; null: any. `filter` takes several.")]
        campaign_id: Option<ID>,
        filter: Option<Filter>,
        order_by: Option<ScheduleOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Schedule>> {
        let args = args(first, after, last, before);
        Box::pin(self::list::schedules(ctx, campaign_id, filter.unwrap_or_default(), order_by, args)).await
    }

    /// Returns the next times at which a pattern fires, in order; fewer than `count` if the year
    /// 9999 ends first. Rejected with BAD_USER_INPUT for an invalid pattern or time zone, or for a
    /// pattern that never fires.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "fire_times_cost(count, child_complexity)")]
    async fn next_fire_times(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Cron pattern: five fields (minute, hour, day of month, month, day of week), or a nickname like `@daily`."
        )]
        cron: String,
        #[graphql(desc = "IANA time zone in which the pattern is evaluated.")] timezone: String,
        #[graphql(desc = "Number of times, 0 to 100; 5 by default.")] count: Option<i32>,
        #[graphql(desc = "The times come after this one; now by default.")] after: Option<DateTime<Utc>>,
        #[graphql(desc = "Policy for local times that do not exist; SHIFT by default.")] gap: Option<GapPolicy>,
        #[graphql(desc = "Policy for local times that occur twice; ONCE by default.")] fold: Option<FoldPolicy>,
    ) -> Result<Vec<FireTime>> {
        let (gap, fold) = (gap.unwrap_or(GapPolicy::Shift), fold.unwrap_or(FoldPolicy::Once));
        let count = count.unwrap_or(5);
        if !(0..=FIRE_TIMES).contains(&count) {
            return Err(Refusal::input("count", format!("must be 0 to {FIRE_TIMES}")).into());
        }
        let after = storable::time(after.unwrap_or_else(|| db(ctx).now())).map_err(|unfit| unfit.of("after"))?;
        let found = budget::run_here(move |until| {
            let pattern = Pattern::parse(&cron, &timezone, gap, fold)?;
            // Times after the last year can't be stored, so nothing fires then.
            let stored = pattern.after(after).take_while(|found| storable::time(found.at).is_ok());
            let in_time = |found: &Occurrence| match Instant::now() > until {
                true => Err(budget::late("cron")),
                false => Ok(FireTime::of(&pattern, found, fold)),
            };
            stored.take(usize::try_from(count).unwrap_or_default()).map(|found| in_time(&found)).collect()
        });
        let found: Result<Vec<FireTime>, Refusal> = found.await?;
        Ok(found?)
    }
}

/// Maximum number of fire times per request.
const FIRE_TIMES: i32 = 100;

/// Complexity of the fire times of one pattern: of reading it, and of each time.
fn fire_times_cost(count: Option<i32>, below: usize) -> usize {
    let count = usize::try_from(count.unwrap_or(5).min(FIRE_TIMES)).unwrap_or_default();
    repeated_cost(count, below.saturating_add(40)).saturating_add(200)
}
