//! Schedules.

use async_graphql::{Context, Enum, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Offset, Utc};
use entity::CampaignStatus;
use entity::id::ScheduleId;
use entity::schedule::{CatchUpPolicy, EndReason, FoldPolicy, GapPolicy, ScheduleAct, ScheduleStatus};
use entity::unfired::UnfiredReason;

use super::AvailableAction;
use super::campaign::Campaign;
use super::list::{List, Totals, args, list};
use super::loader::{below, load};
use super::member::Member;
use super::run_template::RunTemplate;
use super::{Actor, db, viewer};
use crate::error::Refusal;
use crate::schedule::change::Wanted;
use crate::schedule::{self as noun, Action, EITHER_DAY, Occurrence, Pattern, Turn};
use crate::{gate, input};

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
        let window = noun::unfired::window(viewer(ctx), self.0.id, args(first, after, None, None))?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::Unfired(self.0.id), MissedOccurrences))
    }

    /// The actions that are possible now, and the reasons against the others.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        Action::ALL.into_iter().map(|action| AvailableAction::judged(action, noun::may(&self.0, action))).collect()
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
pub struct MissedOccurrences(entity::unfired::Model);

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

/// What is special about a time at which a pattern fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum FireNote {
    /// Its local time does not exist that day: it fires at the first instant after the gap.
    Shifted,
    /// Local times before it were left out because they do not exist.
    LeftOutBefore,
    /// Its local time comes twice that day; this is the first.
    FirstOfTwo,
    /// Its local time comes twice that day; this is the second.
    SecondOfTwo,
    /// The pattern restricts both day fields, and either is enough.
    EitherDay,
}

/// A time at which a pattern fires.
#[derive(SimpleObject)]
pub struct FireTime {
    /// When, in UTC.
    at: DateTime<Utc>,
    /// The same on the clock on the wall, in the pattern's zone.
    local_time: String,
    /// The zone's offset from UTC then, in minutes, rounded down (offsets before about 1900 have seconds).
    offset_minutes: i32,
    /// What a clock change, or a pattern with two day fields, does to it, in words; null where there is nothing to say.
    note: Option<String>,
    /// The same as codes; empty where there is nothing to say.
    notes: Vec<FireNote>,
}

impl FireTime {
    fn of(pattern: &Pattern, found: &Occurrence, fold: FoldPolicy) -> Self {
        let local = found.at.with_timezone(&pattern.zone());
        let offset = local.offset().fix();
        let mut told: Vec<(FireNote, String)> = Vec::new();
        if found.shifted {
            let told_so = "its local time does not exist that day: the first instant after the gap";
            told.push((FireNote::Shifted, told_so.to_owned()));
        }
        if !found.left_out.is_empty() {
            let mut walls: Vec<String> = found.left_out.iter().map(|wall| noun::wall(*wall)).collect();
            let more = walls.len().saturating_sub(LEFT_OUT_TOLD);
            walls.truncate(LEFT_OUT_TOLD);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let told_so = format!("left out before it, since no such local time exists: {}{more}", walls.join(", "));
            told.push((FireNote::LeftOutBefore, told_so));
        }
        let twice = "its local time comes twice that day";
        match found.turn {
            Turn::Only => {}
            Turn::First if fold == FoldPolicy::Once && !pattern.floats() => told.push((
                FireNote::FirstOfTwo,
                format!("{twice}: this is the first of two, at UTC{offset}, and the only one that fires"),
            )),
            Turn::First => {
                told.push((FireNote::FirstOfTwo, format!("{twice}: this is the first of two, at UTC{offset}")));
            }
            Turn::Second => {
                told.push((FireNote::SecondOfTwo, format!("{twice}: this is the second of two, at UTC{offset}")));
            }
        }
        if pattern.either_day() {
            told.push((FireNote::EitherDay, EITHER_DAY.to_owned()));
        }
        let words: Vec<&str> = told.iter().map(|(_, words)| words.as_str()).collect();
        Self {
            at: found.at,
            local_time: local.format("%Y-%m-%dT%H:%M:%S").to_string(),
            offset_minutes: offset.local_minus_utc().div_euclid(60),
            note: (!words.is_empty()).then(|| words.join("; ")),
            notes: told.iter().map(|(note, _)| *note).collect(),
        }
    }
}

/// Left-out local times that a note lists.
const LEFT_OUT_TOLD: usize = 10;

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
        let after = after.unwrap_or_else(|| db(ctx).now());
        gate::time(after).map_err(|unfit| unfit.of("after"))?;
        let found = pattern.take(after, usize::try_from(count).unwrap_or_default());
        Ok(found.iter().map(|found| FireTime::of(&pattern, found, fold)).collect())
    }
}

/// Times that are shown of a pattern at once.
const FIRE_TIMES: i32 = 100;

/// The schedule that is to be changed, and how; what is not given stays as it is.
#[derive(InputObject)]
pub struct UpdateScheduleInput {
    /// The schedule.
    id: ID,
    /// Once, at this time; a repeating schedule becomes a single one. Not together with `cron`.
    at: MaybeUndefined<DateTime<Utc>>,
    /// By this pattern; a single schedule becomes a repeating one. Not together with `at`.
    cron: MaybeUndefined<String>,
    /// The IANA time zone that the pattern is read in.
    timezone: MaybeUndefined<String>,
    /// Local times that do not exist.
    gap: MaybeUndefined<GapPolicy>,
    /// Local times that come twice.
    fold: MaybeUndefined<FoldPolicy>,
    /// The name of its runs, the waiting ones too; null: the campaign's or the template's, for those to come.
    name: MaybeUndefined<String>,
    /// The occurrences that are made up for when their time passed while the server was down.
    catch_up: MaybeUndefined<CatchUpPolicy>,
    /// The age up to which an occurrence is made up for, 1 to 31536000 seconds; null: any age by LAST, a day by ALL.
    catch_up_window_seconds: MaybeUndefined<i64>,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The idempotency key: repeating the request with it within seven days returns the original result.
    idempotency_key: Option<String>,
}

/// A schedule that is to be paused or resumed.
#[derive(InputObject)]
pub struct ScheduleActInput {
    /// The schedule.
    id: ID,
    /// The reason, for the log; at most 10,000 characters.
    reason: Option<String>,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The idempotency key: repeating the request with it within seven days returns the original result.
    idempotency_key: Option<String>,
}

/// A schedule after a change.
#[derive(SimpleObject)]
pub struct ScheduleChangePayload {
    /// The schedule as it is now.
    schedule: Schedule,
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
    /// Changes a schedule that has not ended. With its time the waiting run moves to the next occurrence; runs that were
    /// moved by `rescheduleRun` stay where they are.
    async fn update_schedule(&self, ctx: &Context<'_>, input: UpdateScheduleInput) -> Result<ScheduleChangePayload> {
        let id = input::id("id", &input.id)?;
        let expected = input.expected_revision;
        let wanted = Wanted {
            at: given("at", input.at)?,
            cron: given("cron", input.cron)?,
            time_zone: given("timezone", input.timezone)?,
            gap: given("gap", input.gap)?,
            fold: given("fold", input.fold)?,
            name: nullable(input.name),
            catch_up: given("catchUp", input.catch_up)?,
            window_seconds: nullable(input.catch_up_window_seconds),
        };
        let key = input.idempotency_key;
        let schedule = once!(ctx, key, |db| Box::pin(noun::update(db, viewer(ctx), id, expected, &wanted)));
        Ok(ScheduleChangePayload { schedule: Schedule(schedule) })
    }

    /// Pauses a schedule: nothing of it starts until `resumeSchedule`, and what falls due meanwhile is skipped.
    async fn pause_schedule(&self, ctx: &Context<'_>, input: ScheduleActInput) -> Result<ScheduleChangePayload> {
        hold(ctx, input, ScheduleAct::Pause).await
    }

    /// Resumes a paused schedule with the next occurrence from now. A single time that passed in the pause starts at once,
    /// unless its catch-up policy is NONE.
    async fn resume_schedule(&self, ctx: &Context<'_>, input: ScheduleActInput) -> Result<ScheduleChangePayload> {
        hold(ctx, input, ScheduleAct::Resume).await
    }

    /// Ends a schedule: its waiting runs are cancelled, and none follows. Twice is once.
    async fn end_schedule(&self, ctx: &Context<'_>, input: EndScheduleInput) -> Result<EndSchedulePayload> {
        let id = input::id("id", &input.id)?;
        let expected = input.expected_revision;
        let schedule = once!(ctx, input.idempotency_key, |db| noun::end(db, viewer(ctx), id, expected));
        Ok(EndSchedulePayload { schedule: Schedule(schedule) })
    }
}

async fn hold(ctx: &Context<'_>, input: ScheduleActInput, act: ScheduleAct) -> Result<ScheduleChangePayload> {
    let id = input::id("id", &input.id)?;
    let (expected, reason) = (input.expected_revision, input.reason.as_deref());
    let key = input.idempotency_key.clone();
    let schedule = once!(ctx, key, |db| Box::pin(noun::hold(db, viewer(ctx), id, expected, act, reason)));
    Ok(ScheduleChangePayload { schedule: Schedule(schedule) })
}

/// A field that can be left out but not emptied.
fn given<T>(field: &str, value: MaybeUndefined<T>) -> std::result::Result<Option<T>, Refusal> {
    match value {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Err(Refusal::input(field, "can't be emptied: leave it out to keep it")),
        MaybeUndefined::Value(value) => Ok(Some(value)),
    }
}

/// A field that can be left out, and emptied.
fn nullable<T>(value: MaybeUndefined<T>) -> Option<Option<T>> {
    match value {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(value) => Some(Some(value)),
    }
}
