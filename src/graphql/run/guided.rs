//! Guided work: mutations that start, schedule and complete it.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, SubsecRound, Utc};
use entity::definition::StepDef;
use entity::id::RunId;
use entity::schedule::{CatchUpPolicy, FoldPolicy, GapPolicy, OverlapPolicy};

use super::Run;
use super::change::RunPayload;
use crate::domain::plan::schedule::timing::Bounds;
use crate::domain::plan::schedule::{SchedulePolicies, ScheduleTime};
use crate::domain::run as noun;
use crate::domain::run::guided;
use crate::domain::run::guided::start::{self, Start};
use crate::domain::run::guided::structure::GuidedStepDraft;
use crate::graphql::schedule::Schedule;
use crate::graphql::{db, viewer};
use crate::kernel::error::{Error, Refusal};
use crate::kernel::validate;

/// A step of guided work: taken from a template, or declared in the request.
#[derive(InputObject)]
pub struct GuidedStepInput {
    /// Id of the template to take it from; requires `stepKey`.
    template_id: Option<ID>,
    /// Key of the step in the template.
    step_key: Option<String>,
    /// Declaration of the step, instead of a template's.
    definition: Option<StepDef>,
}

/// Parameters of new guided work: a template by id or key, or a list of steps.
#[derive(InputObject)]
pub struct StartGuidedRunInput {
    /// Id of the template.
    template_id: Option<ID>,
    /// Key of the template; the org's own takes precedence over the platform's.
    template_key: Option<String>,
    /// Steps instead of a template: taken from templates, or declared here.
    steps: Option<Vec<GuidedStepInput>>,
    /// Name; the template's name by default. Required without a template.
    name: Option<String>,
    /// Free text for readers.
    description: Option<String>,
    /// Ids of the records that it is about, at most 500; steps with `linked` show them.
    linked_record_ids: Option<Vec<ID>>,
    /// Id of the member who is to do the steps without an assignee of their own; anybody by
    /// default.
    assignee_id: Option<ID>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Parameters of scheduled guided work: a template by id or key, and a time or pattern.
#[derive(InputObject)]
pub struct ScheduleGuidedRunInput {
    /// Id of the template.
    template_id: Option<ID>,
    /// Key of the template; the org's own takes precedence over the platform's.
    template_key: Option<String>,
    /// Name of the runs; the template's name by default.
    name: Option<String>,
    /// Free text for readers.
    description: Option<String>,
    /// Ids of the records that they are about, at most 500.
    linked_record_ids: Option<Vec<ID>>,
    /// Id of the member who is to do the steps; anybody by default.
    assignee_id: Option<ID>,
    /// Start time of a single run. Not together with `cron`.
    at: Option<DateTime<Utc>>,
    /// Cron pattern of repeating runs, five fields: minute, hour, day of month, month, day of week;
    /// `0 9 * * MON`. Not together with `at`.
    cron: Option<String>,
    /// IANA time zone in which the pattern is evaluated; required with `cron`.
    timezone: Option<String>,
    /// Policy for local times that do not exist; SHIFT by default.
    gap: Option<GapPolicy>,
    /// Policy for local times that occur twice; ONCE by default.
    fold: Option<FoldPolicy>,
    /// Policy for occurrences missed while the server was down; LAST by default.
    catch_up: Option<CatchUpPolicy>,
    /// Maximum age of a missed occurrence to catch up, 1 to 31536000 seconds; by default unlimited
    /// for LAST, one day for ALL.
    catch_up_window_seconds: Option<i64>,
    /// Time before which nothing occurs, in UTC; no bound by default. With `cron` only.
    start_at: Option<DateTime<Utc>>,
    /// Time after which nothing occurs, in UTC; no bound by default. With `cron` only.
    end_at: Option<DateTime<Utc>>,
    /// Number of starts, 1 to 1000000, after which the schedule ends; no limit by default. With
    /// `cron` only.
    remaining: Option<i32>,
    /// Maximum delay of a start behind its occurrence, 0 to 86400 seconds; 0 by default. Each
    /// occurrence has a delay of its own, before the next occurrence. With `cron` only.
    jitter_seconds: Option<i32>,
    /// Policy for an occurrence that falls due while an earlier run of the schedule is open;
    /// ALLOW_ALL by default.
    overlap: Option<OverlapPolicy>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created schedule and its first run.
#[derive(SimpleObject)]
pub struct ScheduleGuidedRunPayload {
    /// The schedule; end it with `endSchedule`.
    schedule: Schedule,
    /// Run of the first occurrence, not yet due.
    run: Run,
}

/// Identifies the guided work to complete.
#[derive(InputObject)]
pub struct CompleteRunInput {
    /// Id of the run.
    id: ID,
    /// Outcome in a few sentences.
    outcome: Option<String>,
    /// Expected revision: rejected with CONFLICT if the run has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Mutations for guided work.
#[derive(Default)]
pub struct GuidedMutation;

#[Object]
impl GuidedMutation {
    /// Starts guided work; the returned run is in progress. Rejected with NOT_FOUND;
    /// BAD_USER_INPUT, whose `problems` lists everything that is wrong with its steps.
    async fn start_guided_run(&self, ctx: &Context<'_>, input: StartGuidedRunInput) -> Result<RunPayload> {
        let start = Start {
            template_id: input.template_id.map(|id| validate::id("templateId", &id)).transpose()?,
            template_key: input.template_key,
            steps: input.steps.map(step_drafts).transpose()?,
            name: input.name,
            description: input.description,
            linked: validate::ids(&input.linked_record_ids.unwrap_or_default(), "input", "linkedRecordIds")?,
            assignee: input.assignee_id.map(|id| validate::id("assigneeId", &id)).transpose()?,
        };
        let run = idempotent!(ctx, input.idempotency_key, |db| Box::pin(start::start(db, viewer(ctx), &start)));
        Ok(RunPayload { run: run.into() })
    }

    /// Schedules guided work, once or repeating: each run starts at its time, with the template as
    /// it is then, and waits for its assignee. Rejected like `startGuidedRun`, and with
    /// BAD_USER_INPUT for a time in the past or an invalid pattern.
    async fn schedule_guided_run(
        &self,
        ctx: &Context<'_>,
        input: ScheduleGuidedRunInput,
    ) -> Result<ScheduleGuidedRunPayload> {
        let start = Start {
            template_id: input.template_id.map(|id| validate::id("templateId", &id)).transpose()?,
            template_key: input.template_key,
            name: input.name.clone(),
            description: input.description,
            linked: validate::ids(&input.linked_record_ids.unwrap_or_default(), "input", "linkedRecordIds")?,
            assignee: input.assignee_id.map(|id| validate::id("assigneeId", &id)).transpose()?,
            steps: None,
        };
        let terms = SchedulePolicies {
            name: input.name,
            catch_up: input.catch_up,
            window_seconds: input.catch_up_window_seconds,
            overlap: input.overlap,
            bounds: Bounds {
                start_at: input.start_at.map(|at| at.trunc_subsecs(6)),
                end_at: input.end_at.map(|at| at.trunc_subsecs(6)),
                remaining: input.remaining,
                jitter_seconds: input.jitter_seconds,
            },
        };
        let when = match (input.at, input.cron) {
            (Some(at), None) => {
                let zoned = ("timezone", input.timezone.is_some());
                ScheduleTime::check_alone(&[zoned, ("gap", input.gap.is_some()), ("fold", input.fold.is_some())])?;
                ScheduleTime::At(chrono::SubsecRound::trunc_subsecs(at, 6))
            }
            (None, Some(cron)) => ScheduleTime::Cron {
                cron,
                time_zone: input.timezone.ok_or_else(|| Refusal::input("timezone", "is required with `cron`"))?,
                gap: input.gap.unwrap_or(GapPolicy::Shift),
                fold: input.fold.unwrap_or(FoldPolicy::Once),
            },
            _ => return Err(Refusal::input("at", "give either `at` or `cron`").into()),
        };
        let run = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(async {
                let (_, run) = start::schedule(db, viewer(ctx), &start, &when, &terms).await?;
                Ok::<_, Error>(run)
            }),
            |id| noun::must_find(db.read(), viewer(ctx), id)
        );
        let id = run.schedule_id.ok_or_else(|| Error::internal("a scheduled run has no schedule"))?;
        let schedule = crate::domain::plan::schedule::must_find(db(ctx).read(), viewer(ctx), id).await?;
        Ok(ScheduleGuidedRunPayload { schedule: Schedule(schedule), run: run.into() })
    }

    /// Completes guided work. Rejected with CONFLICT while steps are open (`openSteps` lists them)
    /// or messages are in flight.
    async fn complete_run(&self, ctx: &Context<'_>, input: CompleteRunInput) -> Result<RunPayload> {
        let (id, expected) = (validate::id::<RunId>("id", &input.id)?, input.expected_revision);
        let outcome = input.outcome.as_deref();
        let run = idempotent!(ctx, input.idempotency_key, |db| Box::pin(guided::complete(
            db,
            viewer(ctx),
            id,
            expected,
            outcome
        )));
        Ok(RunPayload { run: run.into() })
    }
}

fn step_drafts(given: Vec<GuidedStepInput>) -> Result<Vec<GuidedStepDraft>> {
    given.into_iter().enumerate().map(|(i, one)| step_draft(one, &format!("steps[{i}]"))).collect()
}

/// Reads a step of a request; errors name it by its path in the input.
pub(super) fn step_draft(given: GuidedStepInput, path: &str) -> Result<GuidedStepDraft> {
    match (given.template_id, given.step_key, given.definition) {
        (Some(id), Some(key), None) => Ok(GuidedStepDraft::Of(validate::id(&format!("{path}.templateId"), &id)?, key)),
        (None, None, Some(definition)) => Ok(GuidedStepDraft::Own(Box::new(definition))),
        _ => Err(Refusal::input(path, "give either templateId and stepKey, or definition").into()),
    }
}
