//! A change of a record reaches the runs that work on it, whoever writes the record: a person, a
//! file, or a step of another run.

use serde_json::{Value, json};
use sortie::domain::import::import;
use sortie::step_kind::update_record::UpdateRecord;

use super::{person, update};
use crate::harness::{Kind, World};

fn human(key: &str, trigger: &str) -> Value {
    json!({ "key": key, "name": key, "fanOut": true, "steps": [{ "key": key, "type": "custom", "assignedTo": "HUMAN", "trigger": trigger }] })
}

fn updating(key: &str, trigger: &str, attributes: &Value) -> Value {
    let step = json!({ "key": key, "type": "update_record", "assignedTo": "WORKFLOW", "trigger": trigger, "config": { "attributes": attributes } });
    json!({ "key": key, "name": key, "fanOut": true, "steps": [step] })
}

/// A template of one phase that stays open for events and that some of them interrupt.
fn template(key: &str, interrupts: &[&str], tasks: &[Value]) -> Value {
    let phase = json!({ "key": "p", "name": "P", "autonomous": false, "openFor": "2 days", "interruptEvents": interrupts, "tasks": tasks });
    json!({ "key": key, "name": key, "phases": [phase] })
}

/// A world with these templates and people, in which a run of each template works on all people.
async fn flying(kind: Kind, templates: &[Value], people: &[&str]) -> (World, Vec<String>) {
    let world = World::without_server(kind, None).await;
    world.apply(&json!({ "agents": [{ "name": "bot" }], "runTemplates": templates }).to_string()).await;
    let mut ids = Vec::new();
    for name in people {
        ids.push(person(&world, name, &format!("{name}@example.com")).await);
    }
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    for template in templates {
        world.fly(template["key"].as_str().unwrap(), json!({ "segmentId": segment, "channel": "EMAIL" })).await;
    }
    for _ in 0..4 {
        world.tick(false).await;
    }
    (world, ids)
}

/// The steps of all runs: campaign, key, record, status and reason, sorted.
async fn steps(world: &World) -> Vec<String> {
    let rows = world
        .sql(
            "SELECT u.campaign_name, s.key, r.name, s.status, COALESCE(s.reason, '-') FROM step s JOIN run u ON u.id = s.run_id \
             JOIN record r ON r.id = s.record_id",
        )
        .await;
    let mut all: Vec<String> = rows.into_iter().map(|row| row.join(" ")).collect();
    all.sort();
    all
}

async fn file(world: &World, text: &str) {
    import(&world.db.write(), &world.viewer, "lead", "file.csv", text.as_bytes(), |_, _| ()).await.unwrap();
    world.tick(false).await;
}

both! {
    async fn a_file_wakes_and_stops_what_its_changes_concern(kind) {
        let tasks = [human("moved", "event:record.stage_changed"), human("changed", "event:record.updated"), human("work", "immediate")];
        let (world, _) = flying(kind, &[template("hears", &["record.stage_changed"], &tasks)], &["ann", "bob", "cat"]).await;
        // One record moves, one has a new attribute, one is as it was.
        file(&world, "external_id,stage,city\nann,Won,\nbob,,Bonn\ncat,,\n").await;
        let heard = [
            "hears changed bob PENDING -",
            "hears moved ann PENDING -",
            "hears work ann SKIPPED INTERRUPTED",
            "hears work bob PENDING -",
            "hears work cat PENDING -",
        ];
        assert_eq!(steps(&world).await, heard);
        // The same file changes nothing, so that nothing hears of it.
        file(&world, "external_id,stage,city\nann,Won,\nbob,,Bonn\ncat,,\n").await;
        assert_eq!(steps(&world).await, heard);
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind IN ('record.stage_changed', 'record.updated')").await, 2);
        // A file that opts a record out and changes others applies both.
        file(&world, "external_id,unsubscribed,city\nbob,yes,Bonn\ncat,,Kiel\n").await;
        let all = steps(&world).await;
        assert!(all.contains(&"hears changed cat PENDING -".to_owned()), "{all:?}");
        assert_eq!(world.number("SELECT COUNT(*) FROM record WHERE unsubscribed_at IS NOT NULL").await, 1);
        world.end().await;
    }
}

both! {
    async fn a_step_that_changes_its_record_is_heard_by_other_runs_only(kind) {
        let own = [updating("mark", "immediate", &json!({ "seen": "yes" })), human("echo", "event:record.updated"), human("work", "immediate")];
        let others = [human("echo", "event:record.updated"), human("work", "immediate")];
        let templates = [template("acts", &["record.updated"], &own), template("hears", &["record.updated"], &others)];
        let (world, _) = flying(kind, &templates, &["ann", "bob"]).await;
        world.perform(&UpdateRecord).await;
        world.tick(false).await;
        let heard = [
            "acts mark ann COMPLETED -",
            "acts mark bob COMPLETED -",
            "acts work ann PENDING -",
            "acts work bob PENDING -",
            "hears echo ann PENDING -",
            "hears echo bob PENDING -",
            "hears work ann SKIPPED INTERRUPTED",
            "hears work bob SKIPPED INTERRUPTED",
        ];
        assert_eq!(steps(&world).await, heard);
        world.end().await;
    }
}

both! {
    async fn runs_that_answer_each_others_changes_come_to_rest(kind) {
        let answers = |key: &str| template(key, &[], &[updating("answer", "event:record.updated", &json!({ key: "yes" }))]);
        let (world, ids) = flying(kind, &[answers("one"), answers("two")], &["ann"]).await;
        assert_eq!(steps(&world).await, Vec::<String>::new());
        update(&world, &ids[0], json!({ "name": "Anna" })).await;
        let mut performed = 0;
        for _ in 0..5 {
            performed += world.perform(&UpdateRecord).await;
            world.tick(false).await;
        }
        assert_eq!(performed, 2);
        assert_eq!(steps(&world).await, ["one answer Anna COMPLETED -", "two answer Anna COMPLETED -"]);
        world.end().await;
    }
}

both! {
    async fn steps_of_runs_that_hear_each_other_settle_at_the_same_moment(kind) {
        // Each settle locks both runs: none waits for the other in a circle.
        let acts = |key: &str| {
            let tasks = [updating("mark", "immediate", &json!({ key: "yes" })), human("echo", "event:record.updated")];
            template(key, &[], &tasks)
        };
        let people: Vec<String> = (0..40).map(|i| format!("p{i}")).collect();
        let people: Vec<&str> = people.iter().map(String::as_str).collect();
        let (world, _) = flying(kind, &[acts("one"), acts("two")], &people).await;
        let changed = async {
            let text = people.iter().fold("external_id,city\n".to_owned(), |all, name| all + &format!("{name},Bonn\n"));
            import(&world.db.write(), &world.viewer, "lead", "file.csv", text.as_bytes(), |_, _| ()).await.unwrap()
        };
        let (_, _, report) = tokio::join!(world.perform(&UpdateRecord), world.perform(&UpdateRecord), changed);
        assert_eq!((report.updated, report.bad), (40, 0));
        world.perform(&UpdateRecord).await;
        world.tick(false).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE key = 'mark' AND status = 'COMPLETED'").await, 80);
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE key = 'echo'").await, 80);
        world.end().await;
    }
}

/// A worker's retryable failure of a step that an event stopped meanwhile.
const CLAIM: &str = "mutation { claimSteps(input: { agent: \"bot\", worker: \"w\", limit: 10, leaseSeconds: 60 }) { steps { id token } } }";
const SETTLE: &str =
    "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status code } } }";

both! {
    async fn a_step_that_was_stopped_in_hand_ends_by_the_worker_and_without_a_failure(kind) {
        let look = json!({ "key": "look", "name": "look", "fanOut": true, "steps": [{ "key": "look", "type": "look", "assignedTo": "AGENT", "agent": "bot", "trigger": "immediate" }] });
        let (world, ids) = flying(kind, &[template("looks", &["record.stage_changed"], &[look])], &["ann"]).await;
        let held = world.ask(CLAIM, json!({})).await["claimSteps"]["steps"][0].clone();
        update(&world, &ids[0], json!({ "stage": "Won" })).await;
        let end = json!([{ "id": held["id"], "token": held["token"], "error": "busy", "retryable": true }]);
        let settled = world.ask(SETTLE, json!({ "steps": end })).await["settleSteps"]["steps"][0].clone();
        assert_eq!(settled["status"], "SKIPPED", "{settled}");
        let ended = "SELECT COUNT(*) FROM step WHERE status = 'SKIPPED' AND reason = 'INTERRUPTED' AND failure_count = 0 \
                     AND completed_at IS NOT NULL AND completed_by IS NOT NULL";
        assert_eq!(world.number(ended).await, 1);
        world.end().await;
    }
}
