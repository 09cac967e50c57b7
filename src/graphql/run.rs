//! Runs: the list, the detail, launches, and what people do with them; their phases and tasks.

use async_graphql::{Context, ID, InputObject, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::{PhaseId, RunId};
use entity::run::RunAct;
use entity::schedule::{FoldPolicy, GapPolicy};
use entity::{Channel, PhaseStatus, RunStatus, RunType, TaskStatus, task};

use super::campaign::Campaign;
use super::communication::Communication;
use super::event::{Events, events};
use super::list::{List, RunTotals, Totals, args, list};
use super::loader::{PartsOf, load, must_load};
use super::preflight::when;
use super::record::Direction;
use super::reply::Reply;
use super::schedule::Schedule;
use super::step::Step;
use super::{Actor, AvailableAction, db, viewer};
use crate::campaign::preflight::{LaunchAction, LaunchInput, Preflight};
use crate::input;
use crate::instructions::{Instructions, Parts};
use crate::page::Args;
use crate::run::launch::{self, Launch};
use crate::run::list::{By, RunFilter};
use crate::run::step::StepFilter;
use crate::run::{self as noun, Action};

/// One execution of a campaign.
pub struct Run(pub entity::run::Model);

/// One execution of a campaign.
#[Object]
impl Run {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Its own name; the campaign's, unless one was given at launch.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// How it came to be.
    #[graphql(name = "type")]
    async fn run_type(&self) -> RunType {
        self.0.run_type
    }

    /// Where it stands.
    async fn status(&self) -> RunStatus {
        self.0.status
    }

    /// The way to its records.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// The plan that it executes.
    async fn campaign(&self, ctx: &Context<'_>) -> Result<Campaign> {
        Ok(Campaign(must_load(ctx, self.0.campaign_id).await?))
    }

    /// The plan's version that it executes.
    async fn campaign_version(&self) -> i32 {
        self.0.campaign_version
    }

    /// The schedule that it is an occurrence of; null where it was launched by a person.
    async fn schedule(&self, ctx: &Context<'_>) -> Result<Option<Schedule>> {
        Ok(load(ctx, self.0.schedule_id).await?.map(Schedule))
    }

    /// When it is to be queued; null where it was launched at once.
    async fn scheduled_for(&self) -> Option<DateTime<Utc>> {
        self.0.scheduled_for
    }

    /// When it was let in; null before.
    async fn queued_at(&self) -> Option<DateTime<Utc>> {
        self.0.queued_at
    }

    /// When the engine began it; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// When it ended; null before.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }

    /// What it was told, as it was then; null while it is only scheduled.
    async fn instructions(&self) -> Option<RunInstructions> {
        launch::instructions(&self.0).map(RunInstructions)
    }

    /// What has changed in the campaign and its parts since; empty while it is only scheduled.
    async fn drift(&self, ctx: &Context<'_>) -> Result<Vec<FieldChange>> {
        let Some(told) = launch::instructions(&self.0) else { return Ok(Vec::new()) };
        let campaign = must_load(ctx, self.0.campaign_id).await?;
        let now = Instructions::of(&Parts::of(db(ctx).read(), viewer(ctx), campaign).await?);
        let each = told.drift(&now)?.into_iter();
        Ok(each.map(|(field, then, now)| FieldChange { field, then: Json(then), now: Json(now) }).collect())
    }

    /// The report that it was launched with, or that failed it when it fell due; null where none was kept.
    async fn preflight(&self) -> Option<Preflight> {
        self.0.preflight.clone().and_then(|report| serde_json::from_value(report).ok())
    }

    /// Its phases, in order; empty before it begins.
    async fn phases(&self, ctx: &Context<'_>) -> Result<Vec<Phase>> {
        Ok(must_load(ctx, PartsOf(self.0.id)).await?.phases.into_iter().map(Phase).collect())
    }

    /// The phase at work; null before it begins and after its end.
    async fn current_phase(&self, ctx: &Context<'_>) -> Result<Option<Phase>> {
        let phases = must_load(ctx, PartsOf(self.0.id)).await?.phases;
        Ok(phases.into_iter().find(|phase| phase.status == PhaseStatus::Active).map(Phase))
    }

    /// Its steps, in order of making.
    async fn steps(&self, ctx: &Context<'_>, filter: Option<StepFilter>, first: Option<i32>, after: Option<String>) -> Result<List<Step>> {
        let mut filter = filter.unwrap_or_default();
        filter.run_ids = Some(vec![self.0.id.to_string().into()]);
        super::step::steps(ctx, filter, args(first, after, None, None)).await
    }

    /// How far it has come.
    async fn progress(&self, ctx: &Context<'_>) -> Result<RunProgress> {
        RunProgress::of(ctx, &self.0, None).await
    }

    /// How many places its audience has, with those left out; grows until the audience has been taken in.
    async fn audience_count(&self) -> i64 {
        self.0.audience_count
    }

    /// Its messages, in order of making.
    async fn communications(
        &self,
        ctx: &Context<'_>,
        statuses: Option<Vec<entity::CommunicationStatus>>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Communication>> {
        let filter = crate::communication::Filter {
            run_ids: Some(vec![self.0.id.to_string().into()]),
            statuses,
            ..crate::communication::Filter::default()
        };
        let page = crate::communication::page(db(ctx), viewer(ctx), &filter, &args(first, after, None, None)).await?;
        Ok(list(page, Totals::Communications(filter), Communication))
    }

    /// What came back, the newest first.
    async fn replies(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Reply>> {
        let filter = crate::reply::Filter { run_id: Some(self.0.id), ..crate::reply::Filter::default() };
        let page = crate::reply::page(db(ctx), viewer(ctx), filter, &args(first, after, None, None)).await?;
        Ok(list(page, Totals::Replies(filter), Reply))
    }

    /// Its history from the log, oldest first.
    async fn events(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<Events> {
        let which = crate::event::Which { runs: Some(vec![self.0.id]), ..crate::event::Which::default() };
        events(ctx, &which, args(first, after, None, None)).await
    }

    /// What came of it, in a sentence; null before its summary.
    async fn outcome(&self) -> Option<&str> {
        self.0.outcome.as_deref()
    }

    /// Why it failed or was cancelled; null where it was not.
    async fn failure(&self) -> Option<&str> {
        self.0.failure.as_deref()
    }

    /// Why it does not move by itself just now; empty where it moves, or has ended.
    async fn waiting_for(&self, ctx: &Context<'_>) -> Result<Vec<Constraint>> {
        let campaign = must_load(ctx, self.0.campaign_id).await?;
        let parts = must_load(ctx, PartsOf(self.0.id)).await?;
        Ok(waiting_for(&self.0, &campaign, &parts))
    }

    /// What can be done with it now, and why not the rest.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        Action::ALL.into_iter().map(|action| AvailableAction::judged(action, noun::may(&self.0, action))).collect()
    }

    /// Who launched it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Counts the changes that a person would name; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A reason why a run does not move by itself.
#[derive(SimpleObject)]
pub struct Constraint {
    /// A word for programs: SCHEDULED, CAMPAIGN_PAUSED, RUN_PAUSED, APPROVAL, RELEASE, PEOPLE, RESOLUTION.
    code: &'static str,
    /// A sentence for people.
    message: String,
}

fn waiting_for(run: &entity::run::Model, campaign: &entity::campaign::Model, parts: &super::loader::Parts) -> Vec<Constraint> {
    let mut all = Vec::new();
    let mut say = |code, message: String| all.push(Constraint { code, message });
    if !run.status.is_open() {
        return all;
    }
    if campaign.status == entity::CampaignStatus::Paused {
        say("CAMPAIGN_PAUSED", "its campaign is paused".into());
    }
    match (run.status, run.scheduled_for) {
        (RunStatus::Scheduled, Some(at)) => say("SCHEDULED", format!("its time, {}", at.to_rfc3339())),
        (RunStatus::Paused, _) => say("RUN_PAUSED", "it is paused".into()),
        _ => {}
    }
    let Some(phase) = parts.phases.iter().find(|phase| phase.status == PhaseStatus::Active) else { return all };
    let mine: Vec<&task::Model> = parts.tasks.iter().filter(|task| task.phase_id == phase.id).collect();
    for task in &mine {
        let review = task.key == "review";
        if task.awaiting_approval > 0 && review {
            say("APPROVAL", format!("{}: approval is pending", task.name));
        } else if task.awaiting_approval > 0 {
            say("RESOLUTION", format!("{}: {} messages whose fate is unknown", task.name, task.awaiting_approval));
        }
        let by_people = matches!(task.key.as_str(), "call" | "handle_replies");
        let with_people = task.pending + task.in_progress;
        if by_people && with_people > 0 {
            say("PEOPLE", format!("{}: {with_people} steps are waiting for people", task.name));
        }
    }
    let through = mine.iter().all(|task| task.fan_out_done && task.counts().open() == 0);
    if through && !phase.autonomous && phase.person_act.is_none() {
        say("RELEASE", format!("{} waits to be released by a person", phase.name));
    }
    all
}

/// What a run was told: the campaign's parts as they were.
pub struct RunInstructions(Instructions);

/// A part of the campaign, as it was.
#[derive(SimpleObject)]
pub struct ToldPart {
    /// Its id.
    id: ID,
    /// Its name then.
    name: String,
    /// What it said: the goal's description, the writer's instructions; empty for others.
    text: String,
}

impl ToldPart {
    fn of<I: std::fmt::Display>(told: Option<&crate::instructions::Told<I>>) -> Option<Self> {
        told.map(|told| Self { id: told.id.to_string().into(), name: told.name.clone(), text: told.text.clone() })
    }
}

/// What a run was told: the campaign's parts as they were.
#[Object]
impl RunInstructions {
    /// The campaign's version.
    async fn campaign_version(&self) -> i32 {
        self.0.campaign_version
    }

    /// The goal; null where there was none.
    async fn goal(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.goal.as_ref())
    }

    /// The writer; null where there was none.
    async fn writer(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.writer.as_ref())
    }

    /// The reviewer; null where there was none.
    async fn reviewer(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.reviewer.as_ref())
    }

    /// The message template; null where there was none.
    async fn message_template(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.message_template.as_ref())
    }

    /// The template's version; null where there was none.
    async fn message_template_version(&self) -> Option<i32> {
        self.0.message_template_version
    }

    /// The subject that was rendered; null where there was none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The body that was rendered, the template's or the writer's own; null where there was none.
    async fn body(&self) -> Option<&str> {
        self.0.body.as_deref().or(self.0.writer_body.as_deref())
    }

    /// The segment; null where the audience was one record, or none.
    async fn segment(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.segment.as_ref())
    }

    /// What the campaign added to the writer's instructions; empty where nothing was said.
    async fn instructions(&self) -> &str {
        &self.0.instructions
    }

    /// The values for blanks.
    async fn variables(&self) -> Json<serde_json::Value> {
        Json(serde_json::Value::Object(self.0.variables.clone()))
    }
}

/// One field that has changed since.
#[derive(SimpleObject)]
pub struct FieldChange {
    /// Which one.
    field: String,
    /// As it was; null where there was nothing.
    then: Json<serde_json::Value>,
    /// As it is; null where there is nothing.
    now: Json<serde_json::Value>,
}

/// How many steps there are in each status.
#[derive(SimpleObject)]
pub struct StepCounts {
    /// All of them.
    total: i64,
    /// Waiting for their trigger.
    pending: i64,
    /// Ready to be taken.
    queued: i64,
    /// Being done.
    in_progress: i64,
    /// Waiting to be let out.
    awaiting_approval: i64,
    /// Done.
    completed: i64,
    /// Left out.
    skipped: i64,
    /// Given up.
    failed: i64,
}

impl From<task::StepCounts> for StepCounts {
    fn from(counts: task::StepCounts) -> Self {
        Self {
            total: counts.total(),
            pending: counts.pending,
            queued: counts.queued,
            in_progress: counts.in_progress,
            awaiting_approval: counts.awaiting_approval,
            completed: counts.completed,
            skipped: counts.skipped,
            failed: counts.failed,
        }
    }
}

/// How far a run has come.
#[derive(SimpleObject)]
pub struct RunProgress {
    /// Which run.
    run_id: ID,
    /// Where it stands.
    status: RunStatus,
    /// Its steps so far.
    counts: StepCounts,
    /// Closed steps of all that are known of, 0 to 1.
    fraction: f64,
    /// Closed steps per minute since it began.
    per_minute: f64,
    /// When what is known of will be closed at this rate; null where that can't be told.
    estimated_end: Option<DateTime<Utc>>,
    /// In a subscription, where to resume from; null elsewhere.
    cursor: Option<String>,
}

impl RunProgress {
    /// As it stands now.
    pub async fn of(ctx: &Context<'_>, run: &entity::run::Model, cursor: Option<String>) -> Result<Self> {
        Ok(Self::read(db(ctx), viewer(ctx), run, cursor).await?)
    }

    /// As it stands now, outside a resolver.
    pub async fn read(
        db: &crate::db::Db,
        viewer: &crate::viewer::Viewer,
        run: &entity::run::Model,
        cursor: Option<String>,
    ) -> crate::error::Result<Self> {
        let progress = noun::progress::progress(db, viewer, run).await?;
        Ok(Self {
            run_id: run.id.to_string().into(),
            status: run.status,
            counts: progress.counts.into(),
            fraction: progress.fraction,
            per_minute: progress.per_minute,
            estimated_end: progress.estimated_end,
            cursor,
        })
    }
}

/// A stage of a run with its own rules.
pub struct Phase(pub entity::phase::Model);

/// A stage of a run with its own rules.
#[Object]
impl Phase {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Its key in the run's structure.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Its place, from 0.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Where it stands.
    async fn status(&self) -> PhaseStatus {
        self.0.status
    }

    /// Whether it completes without a person's act.
    async fn autonomous(&self) -> bool {
        self.0.autonomous
    }

    /// Whether events about a record stop what is open for it here.
    async fn interruptible(&self) -> bool {
        !self.0.interrupt_events.0.is_empty()
    }

    /// Those events; empty where it is not interruptible.
    async fn interrupt_events(&self) -> &[String] {
        &self.0.interrupt_events.0
    }

    /// Whose act opened its gate; null before, and where it needs none.
    async fn released_by(&self) -> Option<Actor> {
        self.0.person_act.clone().map(Actor::from)
    }

    /// When it began; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// When it closed; null before.
    async fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.completed_at
    }

    /// Its tasks, in order of display.
    async fn tasks(&self, ctx: &Context<'_>) -> Result<Vec<Task>> {
        let tasks = must_load(ctx, PartsOf(self.0.run_id)).await?.tasks;
        Ok(tasks.into_iter().filter(|task| task.phase_id == self.0.id).map(Task).collect())
    }

    /// The run that it is of.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(Run(must_load(ctx, self.0.run_id).await?))
    }

    /// What can be done with it now, and why not the rest.
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let run = must_load(ctx, self.0.run_id).await?;
        let judged = noun::phase::may_release(&run, &self.0);
        Ok(vec![AvailableAction::judged(noun::phase::Action::Release, judged)?])
    }
}

/// A unit of work within a phase; its status is derived from its steps.
pub struct Task(pub task::Model);

/// A unit of work within a phase; its status is derived from its steps.
#[Object]
impl Task {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Its key in the run's structure.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The order of display, from 1.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Where it stands.
    async fn status(&self) -> TaskStatus {
        self.0.status
    }

    /// Whether it has a step for each record.
    async fn fan_out(&self) -> bool {
        self.0.fan_out
    }

    /// The tasks that must be completed or skipped before; empty where there are none.
    async fn depends_on(&self, ctx: &Context<'_>) -> Result<Vec<Task>> {
        let tasks = must_load(ctx, PartsOf(self.0.run_id)).await?.tasks;
        Ok(tasks.into_iter().filter(|task| self.0.depends_on.0.contains(&task.key)).map(Task).collect())
    }

    /// When it first left pending; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// When it closed; null while it is open.
    async fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.completed_at
    }

    /// Its steps, in order of making.
    async fn steps(&self, ctx: &Context<'_>, filter: Option<StepFilter>, first: Option<i32>, after: Option<String>) -> Result<List<Step>> {
        let mut filter = filter.unwrap_or_default();
        filter.task_ids = Some(vec![self.0.id.to_string().into()]);
        super::step::steps(ctx, filter, args(first, after, None, None)).await
    }

    /// How many of its steps are in each status.
    async fn progress(&self) -> StepCounts {
        self.0.counts().into()
    }

    /// The phase that it is of.
    async fn phase(&self, ctx: &Context<'_>) -> Result<Phase> {
        Ok(Phase(must_load(ctx, self.0.phase_id).await?))
    }
}

/// How runs are sorted.
#[derive(InputObject, Clone, Copy)]
pub struct RunOrder {
    /// By what.
    field: By,
    /// In which direction.
    direction: Direction,
}

/// One page of runs.
pub(super) async fn runs(ctx: &Context<'_>, filter: RunFilter, order: Option<RunOrder>, args: Args) -> Result<List<Run, RunTotals>> {
    let order = order.unwrap_or(RunOrder { field: By::CreatedAt, direction: Direction::Desc });
    let descending = order.direction == Direction::Desc;
    let page = noun::list::page(db(ctx), viewer(ctx), &filter, order.field, descending, &args).await?;
    Ok(list(page, RunTotals(filter), Run))
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct RunQuery;

#[Object]
impl RunQuery {
    /// One by its id; null where the org has none with it.
    async fn run(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Run>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), input::id::<RunId>("id", &id)?).await?.map(Run))
    }

    /// Runs by filter, the newest first unless said. `first` after a cursor, or `last` before one; 50 unless said, at
    /// most 500.
    #[allow(clippy::too_many_arguments)]
    async fn runs(
        &self,
        ctx: &Context<'_>,
        filter: Option<RunFilter>,
        order_by: Option<RunOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Run, RunTotals>> {
        runs(ctx, filter.unwrap_or_default(), order_by, args(first, after, last, before)).await
    }
}

/// A run to the test addresses.
#[derive(InputObject)]
pub struct TestRunInput {
    /// The campaign.
    campaign_id: ID,
    /// The campaign's revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A name for the run; the campaign's unless said.
    name: Option<String>,
    /// The test addresses; with a `sample` and none of these, your own address.
    recipients: Option<Vec<String>>,
    /// How many records of the audience to render for; every recipient gets a message for each. One unless said.
    sample: Option<i32>,
    /// Whether the messages are reviewed as in a run; no, unless said.
    review: Option<bool>,
    /// Only shows the preflight.
    dry_run: Option<bool>,
}

/// A run over the audience, now.
#[derive(InputObject)]
pub struct RunCampaignInput {
    /// The campaign.
    campaign_id: ID,
    /// The campaign's revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A name for the run; the campaign's unless said.
    name: Option<String>,
    /// Only shows the preflight.
    dry_run: Option<bool>,
}

/// Runs over the audience, at their time: `at`, or `cron` in a `timezone`.
#[derive(InputObject)]
pub struct ScheduleCampaignInput {
    /// The campaign.
    campaign_id: ID,
    /// The campaign's revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A name for the runs; the campaign's unless said.
    name: Option<String>,
    /// Once, at this time.
    at: Option<DateTime<Utc>>,
    /// Again and again: minute, hour, day of month, month, day of week.
    cron: Option<String>,
    /// The IANA zone that `cron` is read in; UTC unless said.
    timezone: Option<String>,
    /// Local times that do not exist; SHIFT unless said.
    gap: Option<GapPolicy>,
    /// Local times that come twice; ONCE unless said.
    fold: Option<FoldPolicy>,
    /// Only shows the preflight.
    dry_run: Option<bool>,
}

/// The run that was launched, and the preflight that let it fly or held it back.
#[derive(SimpleObject)]
pub struct LaunchPayload {
    /// The run; null where the preflight is not ready, or it was a dry run.
    run: Option<Run>,
    /// The preflight, with every reason.
    preflight: Preflight,
}

/// The schedule that was made, and the preflight that let it be or held it back.
#[derive(SimpleObject)]
pub struct SchedulePayload {
    /// The schedule; null where the preflight is not ready, or it was a dry run.
    schedule: Option<Schedule>,
    /// Its first occurrence, waiting for its time; null where the schedule is.
    run: Option<Run>,
    /// The preflight, with every reason.
    preflight: Preflight,
}

/// Which run is to take a step.
#[derive(InputObject)]
pub struct RunActInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Why; kept where it is given.
    reason: Option<String>,
}

/// A scheduled run's new time.
#[derive(InputObject)]
pub struct RescheduleRunInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The new time, in the future.
    at: DateTime<Utc>,
}

/// What was changed.
#[derive(SimpleObject)]
pub struct RunPayload {
    /// As it is now.
    run: Run,
}

/// Which phase.
#[derive(InputObject)]
pub struct ReleasePhaseInput {
    /// Which one.
    id: ID,
}

/// What was changed.
#[derive(SimpleObject)]
pub struct PhasePayload {
    /// As it is now.
    phase: Phase,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct RunMutation;

#[Object]
impl RunMutation {
    /// Launches a run to the test addresses. It never reaches the audience and changes no record.
    async fn test_run_campaign(&self, ctx: &Context<'_>, input: TestRunInput) -> Result<LaunchPayload> {
        let launch = Launch {
            campaign_id: input::id("campaignId", &input.campaign_id)?,
            expected_revision: input.expected_revision,
            name: input.name,
            action: LaunchAction::TestRun,
            input: LaunchInput { recipients: input.recipients.unwrap_or_default(), sample: input.sample, when: None },
            review: input.review.unwrap_or(false),
            dry_run: input.dry_run.unwrap_or(false),
        };
        let launched = launch::launch(db(ctx), viewer(ctx), &launch).await?;
        Ok(LaunchPayload { run: launched.run.map(Run), preflight: launched.preflight })
    }

    /// Launches a run over the audience, now.
    async fn run_campaign(&self, ctx: &Context<'_>, input: RunCampaignInput) -> Result<LaunchPayload> {
        let launch = Launch {
            campaign_id: input::id("campaignId", &input.campaign_id)?,
            expected_revision: input.expected_revision,
            name: input.name,
            action: LaunchAction::Run,
            input: LaunchInput::default(),
            review: true,
            dry_run: input.dry_run.unwrap_or(false),
        };
        let launched = launch::launch(db(ctx), viewer(ctx), &launch).await?;
        Ok(LaunchPayload { run: launched.run.map(Run), preflight: launched.preflight })
    }

    /// Schedules runs over the audience, once or repeating. Preflight is asked now, and again when each falls due.
    async fn schedule_campaign(&self, ctx: &Context<'_>, input: ScheduleCampaignInput) -> Result<SchedulePayload> {
        let when = when(input.at, input.cron.as_deref(), input.timezone.as_deref(), input.gap, input.fold)?;
        let launch = Launch {
            campaign_id: input::id("campaignId", &input.campaign_id)?,
            expected_revision: input.expected_revision,
            name: input.name,
            action: LaunchAction::Schedule,
            input: LaunchInput { recipients: Vec::new(), sample: None, when },
            review: true,
            dry_run: input.dry_run.unwrap_or(false),
        };
        let launched = launch::launch(db(ctx), viewer(ctx), &launch).await?;
        Ok(SchedulePayload {
            schedule: launched.schedule.map(Schedule),
            run: launched.run.map(Run),
            preflight: launched.preflight,
        })
    }

    /// Moves a scheduled run to another time in the future.
    async fn reschedule_run(&self, ctx: &Context<'_>, input: RescheduleRunInput) -> Result<RunPayload> {
        let (id, at) = (input::id("id", &input.id)?, chrono::SubsecRound::trunc_subsecs(input.at, 6));
        let run = noun::reschedule(db(ctx), viewer(ctx), id, input.expected_revision, at).await?;
        Ok(RunPayload { run: Run(run) })
    }

    /// In progress → paused: nothing of it is claimed, started or sent; what is in hand settles.
    async fn pause_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = input::id("id", &input.id)?;
        Ok(RunPayload { run: Run(noun::hold(db(ctx), viewer(ctx), id, input.expected_revision, RunAct::Pause).await?) })
    }

    /// Paused → in progress.
    async fn resume_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = input::id("id", &input.id)?;
        Ok(RunPayload { run: Run(noun::hold(db(ctx), viewer(ctx), id, input.expected_revision, RunAct::Resume).await?) })
    }

    /// Calls a run off: nothing of it starts from now on, and its open steps are skipped. Twice is once.
    async fn cancel_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = input::id("id", &input.id)?;
        let run = noun::cancel(db(ctx), viewer(ctx), id, input.expected_revision, input.reason.as_deref()).await?;
        Ok(RunPayload { run: Run(run) })
    }

    /// Opens the gate of a phase that completes only with a person's act.
    async fn release_phase(&self, ctx: &Context<'_>, input: ReleasePhaseInput) -> Result<PhasePayload> {
        let id = input::id::<PhaseId>("id", &input.id)?;
        Ok(PhasePayload { phase: Phase(noun::phase::release(db(ctx), viewer(ctx), id).await?) })
    }
}
