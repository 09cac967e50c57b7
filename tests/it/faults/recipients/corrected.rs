//! Addresses that are corrected after the audience was taken in: mail goes to where its record is reached when it is handed
//! over, and no address gets two because of that.

use serde_json::json;

use super::again::{RETRY, repeat, taken, through, world_of};
use super::{fates, person, reviewed, update, written_to};
use crate::harness::World;

const SUPPRESS: &str = "mutation { suppressAddress(input: { channel: EMAIL, address: \"closed@example.com\", reason: \"BOUNCE\" }) { suppression { id } } }";

both! {
    async fn between_draft_and_hand_over(kind) {
        let world = World::still(kind, None).await;
        let plan = world.plan("EMAIL", 0).await;
        let mut ids = Vec::new();
        for name in ["same", "moved", "case", "empty", "swap1", "swap2", "shut", "twin", "pair1", "pair2"] {
            ids.push(person(&world, name, &format!("{name}@example.com")).await);
        }
        world.ask(SUPPRESS, json!({})).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        let changes = [
            (1, json!("new@example.com")), (2, json!("CASE@example.com")), (3, json!(null)), (4, json!("swap2@example.com")),
            (5, json!("swap1@example.com")), (6, json!("closed@example.com")), (7, json!("same@example.com")),
            (8, json!("pair@example.com")), (9, json!("pair@example.com")),
        ];
        for (i, email) in changes {
            update(&world, &ids[i], json!({ "email": email })).await;
        }
        world.act("approveStep", "step", json!({ "id": review })).await;
        through(&world, &run, "COMPLETED").await;
        let all = fates(&world, &run).await;
        let of = |name: &str| all.iter().find(|one| one[0] == name).map(|one| (one[1].clone(), one[2].clone())).unwrap();
        for name in ["same", "moved", "case", "swap1", "swap2"] {
            assert_eq!(of(name), ("SENT".into(), String::new()), "{name}");
        }
        let (outcome, why) = of("empty");
        assert!(outcome == "SKIPPED" && why.starts_with("NO_ADDRESS"), "{outcome} {why}");
        let (outcome, why) = of("twin");
        assert!(outcome == "SKIPPED" && why.starts_with("DUPLICATE_ADDRESS"), "{outcome} {why}");
        assert_eq!(of("shut").0, "SUPPRESSED");
        let mut pair = [of("pair1").0, of("pair2").0];
        pair.sort();
        assert_eq!(pair, ["SENT", "SKIPPED"]);
        let expected = ["case@", "new@", "pair@", "same@", "swap1@", "swap2@"].map(|name| format!("{name}example.com"));
        let written = written_to(&world);
        assert_eq!(written, expected);
        let query = "query($id: ID!) { run(id: $id) { communications(first: 50) { nodes { toAddress status error record { name } } } records(first: 50) { nodes { address record { name } } } } }";
        let data = world.ask(query, json!({ "id": run })).await;
        let moved = |list: &str, field: &str| {
            let nodes = data["run"][list]["nodes"].as_array().unwrap();
            nodes.iter().find(|one| one["record"]["name"] == "moved").unwrap()[field].clone()
        };
        assert_eq!((moved("communications", "toAddress"), moved("records", "address")), (json!("new@example.com"), json!("new@example.com")));
        let told = world.sql("SELECT kind FROM event WHERE kind = 'communication.readdressed'").await;
        assert_eq!(told.len(), 6, "moved, case, both that swapped, shut, one of the pair");
        world.end().await;
    }
}

both! {
    async fn after_a_refusal(kind) {
        let (world, sink, plan) = world_of(kind, 3, 3).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        assert_eq!(through(&world, &run, "COMPLETED").await["outcome"], "3 of 6 sent, 3 failed, 0 skipped");
        let data = world.ask("{ records(first: 50) { nodes { id name } } }", json!({})).await;
        let id = |name: &str| {
            let nodes = data["records"]["nodes"].as_array().unwrap();
            nodes.iter().find(|one| one["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
        };
        // One is corrected, one gets the address of somebody who was reached, one stays as it is.
        update(&world, &id("bad0"), json!({ "email": "mended@example.com" })).await;
        update(&world, &id("bad1"), json!({ "email": "fine1@example.com" })).await;
        world.ask(RETRY, json!({ "id": run })).await;
        through(&world, &run, "COMPLETED").await;
        let all = fates(&world, &run).await;
        let of = |name: &str| all.iter().find(|one| one[0] == name).map(|one| (one[1].clone(), one[2].clone())).unwrap();
        assert_eq!(of("bad0").0, "SENT");
        assert!(of("bad1").1.starts_with("DUPLICATE_ADDRESS"), "{all:?}");
        assert_eq!(of("bad2").0, "FAILED");
        assert_eq!((taken(&sink, "@example.com"), taken(&sink, "mended")), (4, 1));
        // And so in a repeat.
        update(&world, &id("bad2"), json!({ "email": "mended@example.com" })).await;
        let second = repeat(&world, &run).await;
        through(&world, &second, "COMPLETED").await;
        let fates = fates(&world, &second).await;
        assert!(fates.len() == 1 && fates[0][2].starts_with("DUPLICATE_ADDRESS"), "{fates:?}");
        assert_eq!(taken(&sink, "@example.com"), 4);
        world.end().await;
    }
}

both! {
    async fn of_letters_that_wait(kind) {
        let world = World::still(kind, None).await;
        let config = json!({ "subject": "Hello {{ name }}", "body": "Dear {{ name }}" });
        let (run, steps) = world.own_run(&[("write", "email", config)], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        let mut ids = Vec::new();
        for name in ["moved", "empty", "one", "two"] {
            ids.push(person(&world, name, &format!("{name}@example.com")).await);
        }
        let send = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
        world.ask(send, json!({ "input": { "stepId": steps[0], "recordIds": ids } })).await;
        update(&world, &ids[0], json!({ "email": "new@example.com" })).await;
        update(&world, &ids[1], json!({ "email": null })).await;
        update(&world, &ids[2], json!({ "email": "two@example.com" })).await;
        world.tick(true).await;
        let mut written = written_to(&world);
        written.sort();
        assert_eq!(written, ["new@example.com", "two@example.com"]);
        let result = world.ask("query($id: ID!) { step(id: $id) { result } }", json!({ "id": steps[0] })).await;
        assert_eq!(result["step"]["result"], json!({ "emailsSent": 2, "emailsCancelled": 2 }));
        let _ = run;
        world.end().await;
    }
}
