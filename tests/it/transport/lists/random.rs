//! Random changes beside lists of every noun, some of which are cut and resumed. At the end each
//! client has what the query answers.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const CHANGES: usize = 80;
const RUNS_AT_MOST: usize = 8;

/// One of some ids that a query finds.
async fn one_of(world: &World, random: &mut StdRng, query: &str, list: &str) -> Option<String> {
    let found = world.ask(query, json!({})).await[list]["nodes"].clone();
    let found = found.as_array().unwrap();
    let at = random.random_range(0..found.len().max(1));
    found.get(at).map(|node| node["id"].as_str().unwrap().to_owned())
}

/// Makes a random change. A verb that is not allowed at the moment changes nothing.
async fn change(world: &World, random: &mut StdRng, plan: &crate::harness::plan::Plan, number: usize) {
    let act = async |verb: &str, id: Option<String>, more: &str, result: &str| {
        let Some(id) = id else { return };
        let document = format!("mutation {{ {verb}(input: {{ id: \"{id}\" {more} }}) {{ {result} {{ id }} }} }}");
        world.post(&document, json!({})).await;
    };
    match random.random_range(0..13) {
        0 | 1 => {
            let count = world.ask("{ runs { totalCount } }", json!({})).await["runs"]["totalCount"].as_u64().unwrap();
            if count < RUNS_AT_MOST as u64 {
                let launch =
                    "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
                world.post(launch, json!({ "id": plan.campaign })).await;
            }
        }
        2..=4 => {
            let run = one_of(world, random, "{ runs { nodes { id } } }", "runs").await;
            let verb = ["pauseRun", "resumeRun", "cancelRun"][random.random_range(0..3)];
            act(verb, run, "", "run").await;
        }
        5 | 6 => {
            let campaign = one_of(world, random, "{ campaigns { nodes { id } } }", "campaigns").await;
            let name = format!("name: \"{} {number}\"", ["Alpha", "Mike", "Zulu"][random.random_range(0..3)]);
            // The plan's own name and approval stay: it is launched.
            act("updateCampaign", campaign.filter(|id| *id != plan.campaign), &name, "campaign").await;
        }
        7 => {
            world.create("campaign", json!({ "name": format!("New {number}") })).await;
        }
        8 => {
            let verb = ["pauseCampaign", "resumeCampaign", "resumeCampaign"][random.random_range(0..3)];
            act(verb, Some(plan.campaign.clone()), "", "campaign").await;
        }
        9 | 10 => {
            let waiting = "{ steps(filter: { statuses: [AWAITING_APPROVAL] }) { nodes { id } } }";
            let step = one_of(world, random, waiting, "steps").await;
            act("approveStep", step, "", "step").await;
        }
        _ => {
            let sent = "{ communications(filter: { statuses: [SENT] }) { nodes { id } } }";
            if let Some(id) = one_of(world, random, sent, "communications").await {
                world.post(REPLY, json!({ "id": id })).await;
            }
        }
    }
}

both! {
    async fn random_changes_beside_lists_of_every_noun(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let by = |field: &str, direction: &str| json!({ "field": field, "direction": direction });
        let windows: [(&'static Noun, Value); 15] = [
            (&RUNS, json!({})),
            (&RUNS, json!({ "first": 3, "orderBy": by("STATUS", "ASC") })),
            (&RUNS, json!({ "first": 4, "orderBy": by("STARTED_AT", "DESC"), "filter": { "statuses": ["PAUSED", "IN_PROGRESS"] } })),
            (&RUNS, json!({ "first": 4, "filter": { "campaignIds": [plan.campaign], "not": { "statuses": ["CANCELLED"] } } })),
            (&CAMPAIGNS, json!({ "first": 4, "orderBy": by("NAME", "ASC") })),
            (&CAMPAIGNS, json!({ "filter": { "statuses": ["DRAFT"], "search": "a" } })),
            (&STEPS, json!({ "first": 7 })),
            (&STEPS, json!({ "first": 5, "filter": { "statuses": ["AWAITING_APPROVAL", "QUEUED", "PENDING"] } })),
            (&STEPS, json!({ "first": 5, "orderBy": by("DUE_AT", "ASC"), "filter": { "ready": true } })),
            (&STEPS, json!({ "first": 6, "orderBy": by("DUE_AT", "DESC"), "filter": { "campaignIds": [plan.campaign] } })),
            (&STEPS, json!({ "first": 4, "orderBy": by("CREATED_AT", "DESC"), "filter": { "ready": false, "search": "e" } })),
            (&COMMUNICATIONS, json!({ "first": 5, "filter": { "statuses": ["DRAFT", "APPROVED"] } })),
            (&COMMUNICATIONS, json!({ "filter": { "recordIds": [plan.records[0]] } })),
            (&REPLIES, json!({ "first": 3 })),
            (&REPLIES, json!({ "campaignId": plan.campaign })),
        ];
        let mut clients = Vec::new();
        for (noun, variables) in windows {
            clients.push(Client::open(&world, noun, variables).await);
        }
        let mut random = StdRng::seed_from_u64(7);
        for number in 0..CHANGES {
            change(&world, &mut random, &plan, number).await;
            let client = random.random_range(0..clients.len() * 3);
            if let Some(client) = clients.get_mut(client) {
                match random.random_bool(0.3) {
                    true => client.reconnect(&world).await,
                    false => drop(client.until_current(&world).await),
                }
            }
        }
        // The engine may still be at work: again, until all are current at one time.
        let mut current = 0;
        while current < clients.len() {
            for client in &mut clients {
                client.until_current(&world).await;
            }
            current = 0;
            for client in &clients {
                current += usize::from(client.is_current(&world).await);
            }
        }
        world.end().await;
    }
}
