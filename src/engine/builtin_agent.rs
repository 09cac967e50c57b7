//! The built-in agents: claim what their filters admit, as any agent does, ask the language model, and settle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use entity::agent::{self, Model as Agent};
use entity::id::*;
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
use crate::domain::run::values::Values;
use crate::domain::worker::claim::{self, ClaimRequest, StepClaim};
use crate::domain::worker::settle::{self, HeldStep, Settled, WorkerOutcome};
use crate::kernel::error::{Code, Result};
use crate::kernel::stuck::{self, StuckWork, WorkItem};
use crate::kernel::{limits, storable};

/// The steps of all built-in agents. Each is asked for by itself, and settled as soon as it is answered.
#[derive(Debug)]
pub(super) struct Agents {
    /// What every loop needs.
    pub(super) context: EngineContext,
    /// Who is asked.
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

    /// Claims for each agent in turn, the orgs first that have the fewest in hand. An agent that can't claim is set aside,
    /// and the others go on.
    async fn take(&self, most: u64, shares: Option<&OrgSlots>) -> Result<Vec<Self::Taken>> {
        let (context, mut shares) = (&self.context, shares.cloned());
        let free = stuck::is_free(Expr::col((agent::Entity, agent::Column::Id)), &[StuckWork::Claim], context.db.now());
        let mine = agent::Entity::find().filter(agent::COLUMN.kind.eq(AgentKind::BuiltIn)).filter(free);
        let mut agents = mine.all(context.db.read()).await?;
        if agents.is_empty() {
            return Ok(Vec::new());
        }
        // Of an org's own agents, none is always the first.
        agents.shuffle(&mut rand::rng());
        agents.sort_by_key(|agent| shares.as_ref().map(|shares| shares.held(agent.org_id)));
        let aside = FailedWork::of(context, &[StuckWork::Claim]).await?;
        let mut all: Vec<Self::Taken> = Vec::new();
        for agent in agents.into_iter().map(Arc::new) {
            let left = most.saturating_sub(all.len() as u64);
            let limit = shares.as_ref().map_or(left, |shares| shares.left(agent.org_id).min(left));
            if limit == 0 {
                continue;
            }
            let wanted = ClaimRequest {
                worker: context.worker.clone(),
                limit,
                // Longer than the longest answer: what it holds it settles.
                lease: self.model.time() + Duration::from_secs(30),
                ..ClaimRequest::default()
            };
            let piece = WorkItem { work: StuckWork::Claim, subject: agent.id.0, org_id: agent.org_id, run_id: None };
            let claimed = guarded(claim::claim(&context.db, &agent, &wanted)).await;
            for one in aside.keep(context, piece, claimed).await.unwrap_or_default() {
                if let Some(shares) = &mut shares {
                    shares.take(agent.org_id);
                }
                all.push((agent.clone(), one));
            }
        }
        Ok(all)
    }

    async fn finish(&self, taken: Vec<Self::Taken>, held: super::slots::SlotGuard) -> Result<()> {
        let (context, taken) = (&self.context, &taken);
        let answers = taken.iter().map(|(agent, one)| catch_panic(context, &self.model, agent, one).boxed());
        let keep = move |came: Vec<(usize, WorkerOutcome)>| async move {
            let mut by_agent: BTreeMap<AgentId, OfAgent<'_>> = BTreeMap::new();
            for (number, end) in came {
                let Some((agent, one)) = taken.get(number) else { continue };
                let held = HeldStep { id: one.step.id, token: one.token.clone() };
                by_agent.entry(agent.id).or_insert_with(|| (agent, Vec::new())).1.push((held, end));
            }
            let mut outcome = Ok(());
            for (agent, ends) in by_agent.into_values() {
                outcome = outcome.and(guarded(keep(context, agent, ends)).await);
            }
            outcome
        };
        slots::answered(answers.collect(), held, keep).await
    }
}

/// An agent, and what its steps came to.
type OfAgent<'a> = (&'a Agent, Vec<(HeldStep, WorkerOutcome)>);

/// Settles what an agent's steps came to.
async fn keep(context: &EngineContext, agent: &Agent, ends: Vec<(HeldStep, WorkerOutcome)>) -> Result<()> {
    let settled = with_retries(context, agent, &ends).await?;
    // What is refused stays held otherwise, and would be asked for again with each lapse, without end.
    let mut again: Vec<(HeldStep, WorkerOutcome)> = Vec::new();
    for ((held, end), refusal) in ends.into_iter().zip(settled).filter_map(|(of, came)| Some((of, came.err()?))) {
        tracing::warn!(error = %refusal, "what the model wrote could not be settled");
        if refusal.code == Code::BadUserInput && !matches!(end, WorkerOutcome::Failed(..)) {
            let why = format!("what the model wrote does not fit: {refusal}");
            again.push((held, WorkerOutcome::Failed(storable::reason(&why), true, None)));
        }
    }
    if !again.is_empty() {
        with_retries(context, agent, &again).await?;
    }
    Ok(())
}

/// Settles, again and again while the database is away: what was asked for is paid for.
async fn with_retries(
    context: &EngineContext,
    agent: &Agent,
    ends: &[(HeldStep, WorkerOutcome)],
) -> Result<Vec<Settled>> {
    let (begun, mut pause) = (Instant::now(), Duration::from_millis(50));
    loop {
        match settle::settle(&context.db, agent, ends).await {
            Err(err) if err.passes() && begun.elapsed() < limits::KEEP => {
                log_failure!(warn, err, "what the model wrote could not be settled; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::POLL);
            }
            outcome => return outcome,
        }
    }
}

/// The outcome of a step, also where its work ends in a panic.
async fn catch_panic(context: &EngineContext, model: &LanguageModel, agent: &Agent, one: &StepClaim) -> WorkerOutcome {
    guarded(generate(context, model, agent, one).map(Ok)).await.unwrap_or_else(|err| {
        log_failure!(error, err, step = %one.step.id, "a built-in agent's work failed");
        WorkerOutcome::Failed("an error of ours; see the log".into(), true, None)
    })
}

async fn generate(context: &EngineContext, model: &LanguageModel, agent: &Agent, one: &StepClaim) -> WorkerOutcome {
    match asked(context, agent, one).await {
        Ok((system, user, schema)) => match model.ask(&system, &user, schema.as_ref()).await {
            // What can't be kept is given up, once; asking again costs, and may say the same.
            Ok(said) => match storable::json(&said.value).and_then(|()| storable::json(&said.usage)) {
                Ok(()) => WorkerOutcome::Generated(said.value, said.usage),
                Err(unfit) => WorkerOutcome::Failed(lease::unkept(&unfit), false, None),
            },
            Err(failed) => WorkerOutcome::Failed(failed.why, failed.again, failed.after),
        },
        Err(err) => {
            log_failure!(error, err, "what a step is about could not be read");
            WorkerOutcome::Failed("an error of ours; see the log".into(), true, None)
        }
    }
}

/// What the model is told: the agent's and the writer's instructions; the goal, the record, what the step's structure says.
async fn asked(context: &EngineContext, agent: &Agent, one: &StepClaim) -> Result<(String, String, Option<Value>)> {
    let run: &run::Model = &one.run;
    let snapshot = snapshot::of(context.db.read(), run).await?;
    let places: Vec<_> = one.step.run_record_id.into_iter().collect();
    let records: Vec<_> = one.step.record_id.into_iter().collect();
    let values = Values::read(context.db.read(), run, &snapshot, &places, &records).await?;
    let values = values.of(one.step.run_record_id, one.step.record_id);
    let declared = snapshot.step(&one.step.key).map(|(_, declared)| declared);
    let schema = declared.and_then(|declared| declared.result_schema.clone()).map(|schema| schema.0);
    let schema = schema.or_else(|| agent.output_schema.clone());
    let told = snapshot.instructions.as_ref();
    let system = crate::domain::plan::campaign_snapshot::system(told, &agent.instructions);
    let user = json!({
        "step": { "name": one.step.name, "type": one.step.kind },
        "settings": declared.map(|declared| declared.settings()),
        "goal": told.and_then(|told| told.goal.as_ref()).map(|goal| json!({ "name": goal.name, "text": goal.text })),
        "record": values["record"], "variables": values["variables"], "results": values["results"],
    });
    Ok((system, user.to_string(), schema))
}
