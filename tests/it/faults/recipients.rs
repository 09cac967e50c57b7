//! Nobody gets a message against their will or twice; a repeat reaches those who were not reached,
//! and nobody else.

mod again;
mod approvals;
mod calls;
mod changes;
mod corrected;
mod delays;
mod doubles;
mod early;
mod families;
mod follow;
mod gates;
mod in_hand;
mod interrupts;
mod kept;
mod lapsed;
mod launches;
mod letters;
mod lists;
mod midway;
mod opt_outs;
mod order;
mod replies;
mod returned;
mod several;
mod skipped;
mod taken_over;
mod thanked;
mod unknown;

use serde_json::{Value, json};

use crate::harness::World;

/// Creates a record with a mail address; returns its id.
async fn person(world: &World, name: &str, email: &str) -> String {
    let input = json!({
        "kind": "lead", "externalId": name, "name": name, "email": email,
        "attributes": { "first_name": name, "company": "Acme" },
    });
    world.create("record", input).await
}

/// Updates a record; returns its new state.
async fn update(world: &World, id: &str, change: Value) -> Value {
    let mut input = json!({ "id": id });
    input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let query =
        "mutation($input: UpdateRecordInput!) { updateRecord(input: $input) { record { unsubscribedAt email } } }";
    world.ask(query, json!({ "input": input })).await["updateRecord"]["record"].clone()
}

/// Advances a still world's run past its review, and no further.
async fn reviewed(world: &World, run: &str) {
    world.tick(true).await;
    let review = world.until_review(run).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
    world.tick(false).await;
}

/// Outcomes of a run's recipients: record's name, outcome, reason.
async fn recipient_outcomes(world: &World, run: &str) -> Vec<[String; 3]> {
    let query = "query($id: ID!) { run(id: $id) { records(first: 500) { nodes { record { name } outcome reason } } } }";
    let data = world.ask(query, json!({ "id": run })).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = data["run"]["records"]["nodes"].as_array().unwrap();
    let each = nodes.iter().map(|node| [text(&node["record"]["name"]), text(&node["outcome"]), text(&node["reason"])]);
    let mut all: Vec<_> = each.collect();
    all.sort();
    all
}

/// Addresses of the mails in the outbox, with their counts.
fn written_to(world: &World) -> Vec<String> {
    let mut all: Vec<String> = world
        .outbox()
        .iter()
        .map(|path| {
            let mail = std::fs::read_to_string(path).unwrap();
            let line = mail.lines().find(|line| line.starts_with("To: ")).unwrap().to_owned();
            let bare = line.rsplit('<').next().unwrap().trim_start_matches("To: ").trim_end_matches('>');
            bare.to_lowercase()
        })
        .collect();
    all.sort();
    all
}
