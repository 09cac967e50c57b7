//! The built-in agents: claim what their filters admit, as any agent does, ask the language model, and settle.

use std::sync::Arc;
use std::time::Duration;

use entity::agent::{self, Model as Agent};
use entity::{AgentKind, run};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::{Gear, Wake};
use crate::agent::settle::{self, End, Held};
use crate::agent::take::{self, Taken, Wanted};
use crate::error::Result;
use crate::limits;
use crate::model::Model;
use crate::run::brief;
use crate::run::values::Values;

/// Works for ever.
pub(super) async fn run(gear: Gear, model: Arc<Model>, mut wake: Wake) {
    loop {
        wake.look();
        let worked = match tick(&gear, &model).await {
            Ok(count) => count > 0,
            Err(err) => {
                tracing::error!(error = %err, "the built-in agents could not work");
                false
            }
        };
        if wake.stopping() || (!worked && !wake.wait().await) {
            return;
        }
    }
}

/// Takes what there is for each built-in agent, a few steps, and does it. Says how many.
pub async fn tick(gear: &Gear, model: &Model) -> Result<usize> {
    let agents = agent::Entity::find().filter(agent::COLUMN.kind.eq(AgentKind::BuiltIn)).all(gear.db.read()).await?;
    let mut done = 0;
    for agent in agents {
        let wanted = Wanted {
            worker: gear.worker.clone(),
            limit: limits::GENERATE_BATCH,
            // Longer than the longest answer: what it holds it settles.
            lease: model.time() + Duration::from_secs(30),
            ..Wanted::default()
        };
        let taken = take::claim(&gear.db, &agent, &wanted).await?;
        done += taken.len();
        let mut each = Vec::new();
        for one in &taken {
            each.push(generate(gear, model, &agent, one));
        }
        let ends: Vec<(Held, End)> = taken
            .iter()
            .zip(futures_util::future::join_all(each).await)
            .map(|(one, end)| (Held { id: one.step.id, token: one.token.clone() }, end))
            .collect();
        if ends.is_empty() {
            continue;
        }
        for refusal in settle::settle(&gear.db, &agent, &ends).await?.into_iter().filter_map(std::result::Result::err) {
            tracing::warn!(error = %refusal, "what the model wrote could not be settled");
        }
    }
    Ok(done)
}

async fn generate(gear: &Gear, model: &Model, agent: &Agent, one: &Taken) -> End {
    match asked(gear, agent, one).await {
        Ok((system, user, schema)) => match model.ask(&system, &user, schema.as_ref()).await {
            Ok(said) => End::Generated(said.value, said.usage),
            Err(failed) => End::Failed(failed.why, failed.again, failed.after),
        },
        Err(err) => {
            tracing::error!(error = %err, "what a step is about could not be read");
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
