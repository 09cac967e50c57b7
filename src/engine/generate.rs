//! The built-in agents: claim what their filters admit, as any agent does, ask the language model, and settle.

use std::sync::Arc;
use std::time::Duration;

use entity::agent::{self, Model as Agent};
use entity::{AgentKind, run};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::aside::{Aside, guarded};
use super::{Gear, Wake};
use crate::agent::settle::{self, End, Held};
use crate::agent::take::{self, Taken, Wanted};
use crate::error::{Code, Result};
use crate::model::Model;
use crate::run::brief;
use crate::run::step::hold;
use crate::run::values::Values;
use crate::stuck::{self, Piece, StuckWork};
use crate::{gate, limits};

/// Works for ever.
pub(super) async fn run(gear: Gear, model: Arc<Model>, mut wake: Wake) {
    loop {
        wake.look();
        let worked = match guarded(tick(&gear, &model)).await {
            Ok(count) => count > 0,
            Err(err) => {
                log_failure!(error, err, "the built-in agents could not work");
                false
            }
        };
        if wake.stopping() || (!worked && !wake.wait().await) {
            return;
        }
    }
}

/// Takes what there is for each built-in agent, a few steps, and does it. Says how many. An agent that can't work is set
/// aside, and the others go on.
pub async fn tick(gear: &Gear, model: &Model) -> Result<usize> {
    let free = stuck::is_free(Expr::col((agent::Entity, agent::Column::Id)), &[StuckWork::Claim], gear.db.now());
    let mine = agent::Entity::find().filter(agent::COLUMN.kind.eq(AgentKind::BuiltIn)).filter(free);
    let agents = mine.all(gear.db.read()).await?;
    if agents.is_empty() {
        return Ok(0);
    }
    let aside = Aside::of(gear, &[StuckWork::Claim]).await?;
    let mut done = 0;
    for agent in agents {
        let piece = Piece { work: StuckWork::Claim, subject: agent.id.0, org_id: agent.org_id, run_id: None };
        let outcome = guarded(of_agent(gear, model, &agent)).await;
        done += aside.keep(gear, piece, outcome).await.unwrap_or_default();
    }
    Ok(done)
}

/// One agent's work.
async fn of_agent(gear: &Gear, model: &Model, agent: &Agent) -> Result<usize> {
    let wanted = Wanted {
        worker: gear.worker.clone(),
        limit: limits::GENERATE_BATCH,
        // Longer than the longest answer: what it holds it settles.
        lease: model.time() + Duration::from_secs(30),
        ..Wanted::default()
    };
    let taken = take::claim(&gear.db, agent, &wanted).await?;
    let mut each = Vec::new();
    for one in &taken {
        each.push(generate(gear, model, agent, one));
    }
    let ends: Vec<(Held, End)> = taken
        .iter()
        .zip(futures_util::future::join_all(each).await)
        .map(|(one, end)| (Held { id: one.step.id, token: one.token.clone() }, end))
        .collect();
    if ends.is_empty() {
        return Ok(0);
    }
    let settled = settle::settle(&gear.db, agent, &ends).await?;
    // What is refused stays held otherwise, and would be asked for again with each lapse, without end.
    let mut again: Vec<(Held, End)> = Vec::new();
    for ((held, end), refusal) in ends.into_iter().zip(settled).filter_map(|(of, came)| Some((of, came.err()?))) {
        tracing::warn!(error = %refusal, "what the model wrote could not be settled");
        if refusal.code == Code::BadUserInput && !matches!(end, End::Failed(..)) {
            let why = format!("what the model wrote does not fit: {refusal}");
            again.push((held, End::Failed(gate::reason(&why), true, None)));
        }
    }
    if !again.is_empty() {
        settle::settle(&gear.db, agent, &again).await?;
    }
    Ok(taken.len())
}

async fn generate(gear: &Gear, model: &Model, agent: &Agent, one: &Taken) -> End {
    match asked(gear, agent, one).await {
        Ok((system, user, schema)) => match model.ask(&system, &user, schema.as_ref()).await {
            // What can't be kept is given up, once; asking again costs, and may say the same.
            Ok(said) => match gate::json(&said.value).and_then(|()| gate::json(&said.usage)) {
                Ok(()) => End::Generated(said.value, said.usage),
                Err(unfit) => End::Failed(hold::unkept(&unfit), false, None),
            },
            Err(failed) => End::Failed(failed.why, failed.again, failed.after),
        },
        Err(err) => {
            log_failure!(error, err, "what a step is about could not be read");
            End::Failed("an error of ours; see the log".into(), true, None)
        }
    }
}

/// What the model is told: the agent's and the writer's instructions; the goal, the record, what the step's structure says.
async fn asked(gear: &Gear, agent: &Agent, one: &Taken) -> Result<(String, String, Option<Value>)> {
    let run: &run::Model = &one.run;
    let brief = brief::of(gear.db.read(), run).await?;
    let places: Vec<_> = one.step.run_record_id.into_iter().collect();
    let records: Vec<_> = one.step.record_id.into_iter().collect();
    let values = Values::read(gear.db.read(), run, &brief, &places, &records).await?;
    let values = values.of(one.step.run_record_id, one.step.record_id);
    let declared = brief.step(&one.step.key).map(|(_, declared)| declared);
    let schema = declared.and_then(|declared| declared.result_schema.clone()).map(|schema| schema.0);
    let schema = schema.or_else(|| agent.output_schema.clone());
    let told = brief.instructions.as_ref();
    let system = crate::instructions::system(told, &agent.instructions);
    let user = json!({
        "step": { "name": one.step.name, "type": one.step.kind },
        "settings": declared.map(|declared| declared.settings()),
        "goal": told.and_then(|told| told.goal.as_ref()).map(|goal| json!({ "name": goal.name, "text": goal.text })),
        "record": values["record"], "variables": values["variables"], "results": values["results"],
    });
    Ok((system, user.to_string(), schema))
}
