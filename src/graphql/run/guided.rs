//! Guided work: begin it, have it begun by a schedule, say that it is done.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::definition::StepDef;
use entity::id::RunId;
use entity::schedule::{CatchUpPolicy, FoldPolicy, GapPolicy};

use super::Run;
use super::change::RunPayload;
use crate::domain::plan::schedule::{SchedulePolicies, ScheduleTime};
use crate::domain::run as noun;
use crate::domain::run::guided::{self, GuidedStepDraft, Start};
use crate::graphql::schedule::Schedule;
use crate::graphql::{db, viewer};
use crate::kernel::error::{Error, Refusal};
use crate::kernel::validate;

/// A step of guided work that is put together: one of a template's, or one of its own.
#[derive(InputObject)]
pub struct GuidedStepInput {
    /// The template that it is taken from …
    template_id: Option<ID>,
    /// … and its key there.
    step_key: Option<String>,
    /// Or how it is declared.
    definition: Option<StepDef>,
}

/// What is begun, and with what.
#[derive(InputObject)]
pub struct StartGuidedRunInput {
    /// From this template …
    template_id: Option<ID>,
    /// … or from the one with this key, the org's own before the platform's …
    template_key: Option<String>,
    /// … or from these steps: some of templates, some of your own.
    steps: Option<Vec<GuidedStepInput>>,
    /// A name of its own; the template's unless said. Required where there is no template.
    name: Option<String>,
    /// For its readers.
    description: Option<String>,
    /// The records that it is about, at most 500; steps with `linked` show them.
    linked_record_ids: Option<Vec<ID>>,
    /// The member who is to do its steps, where they do not say so themselves; anybody unless said.
    assignee_id: Option<ID>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is begun by a schedule, and when.
#[derive(InputObject)]
pub struct ScheduleGuidedRunInput {
    /// From this template …
    template_id: Option<ID>,
    /// … or from the one with this key, the org's own before the platform's.
    template_key: Option<String>,
    /// The name of its runs; the template's unless said.
    name: Option<String>,
    /// For their readers.
    description: Option<String>,
    /// The records that they are about, at most 500.
    linked_record_ids: Option<Vec<ID>>,
    /// The member who is to do their steps; anybody unless said.
    assignee_id: Option<ID>,
    /// Once, at this time …
    at: Option<DateTime<Utc>>,
    /// … or again and again: five fields, minute, hour, day of month, month, day of week: `0 9 * * MON`.
    cron: Option<String>,
    /// The IANA zone that the pattern is read in; required with it.
    timezone: Option<String>,
    /// Local times that do not exist; SHIFT unless said.
    gap: Option<GapPolicy>,
    /// Local times that come twice; ONCE unless said.
    fold: Option<FoldPolicy>,
    /// The occurrences that are made up for when their time passed while the server was down; LAST unless given.
    catch_up: Option<CatchUpPolicy>,
    /// The age up to which an occurrence is made up for, 1 to 31536000 seconds; unless given, any age by LAST, a day by ALL.
    catch_up_window_seconds: Option<i64>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was scheduled.
#[derive(SimpleObject)]
pub struct ScheduleGuidedRunPayload {
    /// The schedule; end it with `endSchedule`.
    schedule: Schedule,
    /// Its first occurrence, which waits for its time.
    run: Run,
}

/// Which guided work is done.
#[derive(InputObject)]
pub struct CompleteRunInput {
    /// Which one.
    id: ID,
    /// What came of it, in a few sentences.
    outcome: Option<String>,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct GuidedMutation;

#[Object]
impl GuidedMutation {
    /// Begins guided work: it is in progress with the answer. Refused with NOT_FOUND; BAD_USER_INPUT, where `problems` tells
    /// all that is wrong with its steps.
    async fn start_guided_run(&self, ctx: &Context<'_>, input: StartGuidedRunInput) -> Result<RunPayload> {
        let start = Start {
            template_id: input.template_id.map(|id| validate::id("templateId", &id)).transpose()?,
            template_key: input.template_key,
            steps: input.steps.map(|steps| steps.into_iter().enumerate().map(wanted).collect()).transpose()?,
            name: input.name,
            description: input.description,
            linked: validate::ids(&input.linked_record_ids.unwrap_or_default(), "input", "linkedRecordIds")?,
            assignee: input.assignee_id.map(|id| validate::id("assigneeId", &id)).transpose()?,
        };
        let run = idempotent!(ctx, input.idempotency_key, |db| Box::pin(guided::start(db, viewer(ctx), &start)));
        Ok(RunPayload { run: run.into() })
    }

    /// Has guided work begun by a schedule, once or again and again: at its time it waits for whom it is assigned to, as its
    /// template is then. Refused as `startGuidedRun`, and with BAD_USER_INPUT for a time in the past or a wrong pattern.
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
        let (catch_up, window_seconds) = (input.catch_up, input.catch_up_window_seconds);
        let terms = SchedulePolicies { name: input.name, catch_up, window_seconds };
        let when = match (input.at, input.cron) {
            (Some(at), None) => ScheduleTime::At(chrono::SubsecRound::trunc_subsecs(at, 6)),
            (None, Some(cron)) => ScheduleTime::Cron {
                cron,
                time_zone: input.timezone.ok_or_else(|| Refusal::input("timezone", "is required with a pattern"))?,
                gap: input.gap.unwrap_or(GapPolicy::Shift),
                fold: input.fold.unwrap_or(FoldPolicy::Once),
            },
            _ => return Err(Refusal::input("at", "give `at` or `cron`, one of them").into()),
        };
        let run = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(async {
                let (_, run) = guided::start::schedule(db, viewer(ctx), &start, &when, &terms).await?;
                Ok::<_, Error>(run)
            }),
            |id| noun::must_find(db.read(), viewer(ctx), id)
        );
        let id = run.schedule_id.ok_or_else(|| Error::ours("an occurrence without its schedule"))?;
        let schedule = crate::domain::plan::schedule::must_find(db(ctx).read(), viewer(ctx), id).await?;
        Ok(ScheduleGuidedRunPayload { schedule: Schedule(schedule), run: run.into() })
    }

    /// Says that guided work is done. Refused with CONFLICT while steps are open (`openSteps` names them) or messages on
    /// their way.
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

fn wanted((i, given): (usize, GuidedStepInput)) -> Result<GuidedStepDraft> {
    match (given.template_id, given.step_key, given.definition) {
        (Some(id), Some(key), None) => {
            Ok(GuidedStepDraft::Of(validate::id(&format!("steps[{i}].templateId"), &id)?, key))
        }
        (None, None, Some(definition)) => Ok(GuidedStepDraft::Own(Box::new(definition))),
        _ => {
            Err(Refusal::input(&format!("steps[{i}]"), "give templateId and stepKey, or a definition, one of them")
                .into())
        }
    }
}
