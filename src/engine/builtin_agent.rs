//! Runs the built-in agents: claims steps through their filters, as any agent does, asks the
//! language model, and settles the answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use entity::agent::{self, Model as Agent};
use entity::id::*;
use entity::step::StepReason;
use entity::{AgentKind, run};
use futures_util::FutureExt;
use rand::seq::SliceRandom;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::failed_work::{FailedWork, guarded};
use super::slots::{OrgSlots, QueueWorker};
use super::{EngineContext, slots};
use crate::channel::language_model::LanguageModel;
use crate::domain::run::snapshot;
use crate::domain::run::step::lease;
use crate::domain::run::values::mentions::Mentions;
use crate::domain::run::values::{Reader, Values};
use crate::domain::worker::claim::{self, ClaimRequest, StepClaim};
use crate::domain::worker::renew::HeldStep;
use crate::domain::worker::settle::{self, Settled, WorkerOutcome};
use crate::kernel::error::{Code, Result};
use crate::kernel::stuck::{self, StuckWork, WorkItem};
use crate::kernel::{limits, storable};

/// The queue of all built-in agents' steps. Each step is one request to the model, and is settled
/// as soon as it is answered.
#[derive(Debug)]
pub(super) struct Agents {
    pub(super) context: EngineContext,
    pub(super) model: Arc<LanguageModel>,
}

impl QueueWorker for Agents {
    type Taken = (Arc<Agent>, StepClaim);
    const NAME: &'static str = "agent";

    fn slots(&self) -> u64 {
        limits::MODEL_BATCH
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn org(taken: &Self::Taken) -> OrgId {
        taken.0.org_id
    }

    /// Claims for each agent in turn, beginning with the orgs that have the fewest steps in flight.
    /// An agent whose claim fails is set aside, and the others go on.
    async fn take(&self, most: u64, shares: Option<&OrgSlots>) -> Result<Vec<Self::Taken>> {
        let (context, mut shares) = (&self.context, shares.cloned());
        let free = stuck::is_free(Expr::col((agent::Entity, agent::Column::Id)), &[StuckWork::Claim], context.db.now());
        let mine = agent::Entity::find().filter(agent::COLUMN.kind.eq(AgentKind::BuiltIn)).filter(free);
        let mut agents = mine.all(context.db.read()).await?;
        if agents.is_empty() {
            return Ok(Vec::new());
        }
        // Shuffled, so that none of an org's own agents is always the first.
        agents.shuffle(&mut rand::rng());
        agents.sort_by_key(|agent| shares.as_ref().map(|shares| shares.held(agent.org_id)));
        let failed_work = FailedWork::read(context, &[StuckWork::Claim]).await?;
        let mut all: Vec<Self::Taken> = Vec::new();
        for agent in agents.into_iter().map(Arc::new) {
            let left = most.saturating_sub(all.len() as u64);
            let limit = shares.as_ref().map_or(left, |shares| shares.left(agent.org_id).min(left));
            if limit == 0 {
                continue;
            }
            let request = ClaimRequest {
                worker: context.worker.clone(),
                limit,
                // Longer than the longest answer, so that a step is settled under its lease.
                lease: self.model.time() + Duration::from_secs(30),
                ..ClaimRequest::default()
            };
            let item = WorkItem { work: StuckWork::Claim, subject: agent.id.0, org_id: agent.org_id, run_id: None };
            let claimed = guarded(claim::claim(&context.db, &agent, &request)).await;
            for claim in failed_work.record(context, item, claimed).await.unwrap_or_default() {
                if let Some(shares) = &mut shares {
                    shares.take(agent.org_id);
                }
                all.push((agent.clone(), claim));
            }
        }
        Ok(all)
    }

    async fn finish(&self, taken: Vec<Self::Taken>, held: super::slots::SlotGuard) -> Result<()> {
        let (context, taken) = (&self.context, &taken);
        let answers = taken.iter().map(|(agent, claim)| catch_panic(context, &self.model, agent, claim).boxed());
        let settle = move |answered: Vec<(usize, WorkerOutcome)>| async move {
            let mut by_agent: BTreeMap<AgentId, AgentOutcomes<'_>> = BTreeMap::new();
            for (number, outcome) in answered {
                let Some((agent, claim)) = taken.get(number) else { continue };
                let held = HeldStep { id: claim.step.id, token: claim.token.clone() };
                by_agent.entry(agent.id).or_insert_with(|| (agent, Vec::new())).1.push((held, outcome));
            }
            let mut result = Ok(());
            for (agent, outcomes) in by_agent.into_values() {
                result = result.and(guarded(settle_outcomes(context, agent, outcomes)).await);
            }
            result
        };
        slots::settle_as_answered(answers.collect(), held, settle).await
    }
}

/// An agent and the outcomes of its steps.
type AgentOutcomes<'a> = (&'a Agent, Vec<(HeldStep, WorkerOutcome)>);

/// Settles the outcomes of an agent's steps.
async fn settle_outcomes(
    context: &EngineContext,
    agent: &Agent,
    outcomes: Vec<(HeldStep, WorkerOutcome)>,
) -> Result<()> {
    let settled = with_retries(context, agent, &outcomes).await?;
    // A step whose outcome is rejected is settled as failed. Otherwise it would stay claimed, and
    // the model would be asked again after each lapse, without end.
    let mut failed: Vec<(HeldStep, WorkerOutcome)> = Vec::new();
    let rejected = outcomes.into_iter().zip(settled).filter_map(|(step, result)| Some((step, result.err()?)));
    for ((held, outcome), refusal) in rejected {
        tracing::warn!(error = %refusal, "the model's answer could not be settled");
        if refusal.code == Code::BadUserInput && !matches!(outcome, WorkerOutcome::Failed(..)) {
            let why = format!("the model's answer does not fit: {refusal}");
            failed.push((held, WorkerOutcome::Failed(storable::reason(&why), true, None)));
        }
    }
    if !failed.is_empty() {
        with_retries(context, agent, &failed).await?;
    }
    Ok(())
}

/// Settles, with retries while the database is unavailable: the model's answers are paid for.
async fn with_retries(
    context: &EngineContext,
    agent: &Agent,
    outcomes: &[(HeldStep, WorkerOutcome)],
) -> Result<Vec<Settled>> {
    let (begun, mut pause) = (Instant::now(), Duration::from_millis(50));
    loop {
        match settle::settle(&context.db, agent, None, outcomes).await {
            Err(err) if err.is_transient() && begun.elapsed() < limits::SETTLE_RETRY_TIME => {
                log_failure!(warn, err, "the model's answers could not be settled; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::POLL);
            }
            outcome => return outcome,
        }
    }
}

/// Generates a step's outcome; a panic on the way is a failure.
async fn catch_panic(
    context: &EngineContext,
    model: &LanguageModel,
    agent: &Agent,
    claim: &StepClaim,
) -> WorkerOutcome {
    guarded(generate(context, model, agent, claim).map(Ok)).await.unwrap_or_else(|err| {
        log_failure!(error, err, step = %claim.step.id, "a built-in agent's work failed");
        WorkerOutcome::Failed("internal error; see the server's log".into(), true, None)
    })
}

async fn generate(context: &EngineContext, model: &LanguageModel, agent: &Agent, claim: &StepClaim) -> WorkerOutcome {
    match prompt(context, agent, claim).await {
        Ok(Err(why)) => WorkerOutcome::Failed(why, false, None),
        Ok(Ok((system, user, schema))) => match model.ask(&system, &user, schema.as_ref()).await {
            // An answer that can't be stored fails the step without a retry: another request
            // costs, and may return the same.
            Ok(answer) => match storable::json(&answer.value).and_then(|()| storable::json(&answer.usage)) {
                Ok(()) => WorkerOutcome::Generated(answer.value, answer.usage),
                Err(unfit) => WorkerOutcome::Failed(lease::unstorable_error(&unfit), false, None),
            },
            Err(failed) => WorkerOutcome::Failed(failed.why, failed.retryable, failed.after),
        },
        Err(err) => {
            log_failure!(error, err, "a step's context could not be read");
            WorkerOutcome::Failed("internal error; see the server's log".into(), true, None)
        }
    }
}

/// System text, user text, and the schema of the answer.
type Prompt = (String, String, Option<Value>);

/// The prompt for a step: system text, user text, and the schema of the answer. The system text
/// holds the agent's and the writer's instructions; the user text the goal, the record, and the
/// step's settings, variables and earlier results. The inner error says that those are too large.
async fn prompt(
    context: &EngineContext,
    agent: &Agent,
    claim: &StepClaim,
) -> Result<std::result::Result<Prompt, String>> {
    let run: &run::Model = &claim.run;
    let snapshot = snapshot::of(context.db.read(), run).await?;
    let reader = Reader::of(&claim.step, Mentions::All);
    let readers = std::slice::from_ref(&reader);
    let values = Values::read(context.db.read(), run, &snapshot, readers, limits::RESULTS_READ_BYTES).await?;
    let values = match values.of(&reader) {
        Ok(values) => values,
        Err(why) => return Ok(Err(why)),
    };
    let declared = snapshot.step(&claim.step.key).map(|(_, declared)| declared);
    let schema = declared.and_then(|declared| declared.result_schema.clone()).map(|schema| schema.0);
    let schema = schema.or_else(|| agent.output_schema.clone());
    let instructions = snapshot.instructions.as_ref();
    let system = crate::domain::plan::campaign_snapshot::system_prompt(instructions, &agent.instructions);
    // A reviewer's reason tells this attempt what to do differently.
    let is_rejected = claim.step.reason == Some(StepReason::Rejected);
    let rejected = is_rejected.then(|| json!({ "reason": claim.step.error, "result": claim.step.result }));
    let mut user = json!({
        "step": { "name": claim.step.name, "type": claim.step.kind },
        "settings": declared.map(|declared| declared.settings()),
        "goal": instructions.and_then(|of| of.goal.as_ref()).map(|goal| json!({ "name": goal.name, "text": goal.text })),
        "record": values["record"], "variables": values["variables"], "results": values["results"],
    });
    if let Some(rejected) = rejected {
        user["rejected"] = rejected;
    }
    Ok(Ok((system, user.to_string(), schema)))
}
