//! Letters from within a step of guided work: a second one only on explicit request, and never to a
//! suppressed address.

use serde_json::{Value, json};

use super::{person, update, written_to};
use crate::harness::World;

const SEND: &str =
    "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id toAddress status } } }";

/// Starts an `email` step.
async fn writing(world: &World) -> String {
    let config = json!({ "subject": "Hello {{ name }}", "body": "Dear {{ name }}" });
    let (_, steps) = world.own_run(&[("write", "email", config)], json!({})).await;
    world.step_act("startStep", &steps[0], json!({})).await;
    steps[0].clone()
}

both! {
    async fn a_second_letter_wants_a_word(kind) {
        let world = World::without_server(kind, None).await;
        let (a, b) = (person(&world, "A", "a@example.com").await, person(&world, "B", "b@example.com").await);
        let twin = person(&world, "Twin of A", "A@example.com").await;
        let step = writing(&world).await;
        let input = |ids: Value, again: Value| json!({ "input": { "stepId": step, "recordIds": ids, "again": again } });
        world.ask(SEND, input(json!([a]), Value::Null)).await;
        // Also while the first is in flight; all or none; per address, not per record.
        for ids in [json!([a]), json!([b, a]), json!([twin])] {
            let answer = world.post(SEND, input(ids, json!(false))).await;
            let error = answer["errors"][0].clone();
            assert_eq!(error["extensions"]["code"], "CONFLICT", "{answer}");
            assert_eq!(error["extensions"]["sentBy"]["name"], "Developer");
            assert_eq!(error["extensions"]["sentAt"], "2026-11-02T12:00:00Z");
            assert!(error["message"].as_str().unwrap().contains("Developer wrote to"), "{error}");
        }
        world.tick(true).await;
        assert_eq!(written_to(&world), ["a@example.com"]);
        assert_eq!(world.refused(SEND, input(json!([a]), Value::Null)).await.0, "CONFLICT");
        let preview = "query($input: PreviewStepEmailInput!) { previewStepEmail(input: $input) { writtenAt } }";
        let seen = world.ask(preview, json!({ "input": { "stepId": step, "recordIds": [a, b, twin] } })).await["previewStepEmail"].clone();
        assert_eq!(seen, json!([{ "writtenAt": "2026-11-02T12:00:00+00:00" }, { "writtenAt": null }, { "writtenAt": "2026-11-02T12:00:00+00:00" }]));
        // Two records of one address in one letter.
        let other = writing(&world).await;
        let both = json!({ "input": { "stepId": other, "recordIds": [a, twin] } });
        let (code, told) = world.refused(SEND, both).await;
        assert!(code == "CONFLICT" && told.contains("the same address as A"), "{told}");
        world.ask(SEND, input(json!([a, b]), json!(true))).await;
        world.tick(true).await;
        assert_eq!(written_to(&world), ["a@example.com", "a@example.com", "b@example.com"]);
        // Another step may send to the same address.
        world.ask(SEND, json!({ "input": { "stepId": other, "recordIds": [b] } })).await;
        world.tick(true).await;
        assert_eq!(written_to(&world).len(), 4);
        // A second letter inserted by SQL is found by the checker.
        world.force("UPDATE communication SET again = FALSE").await;
        let found = sortie::app::check::check(&world.db).await.unwrap();
        let wrong: Vec<_> = found.iter().filter(|one| one.wrong > 0).map(|one| one.what).collect();
        assert_eq!(wrong, ["an address gets one email from a person's step, unless `again` was requested"]);
        world.drop_unchecked().await;
    }
}

both! {
    async fn two_who_send_at_once_send_one_letter(kind) {
        let world = World::new(kind).await;
        let a = person(&world, "A", "a@example.com").await;
        for _ in 0..3 {
            let step = writing(&world).await;
            let input = json!({ "input": { "stepId": step, "recordIds": [a] } });
            let all = futures_util::future::join_all((0..4).map(|_| world.post(SEND, input.clone()))).await;
            let refused = all.iter().filter(|answer| answer["errors"][0]["extensions"]["code"] == "CONFLICT").count();
            assert_eq!((refused, all.iter().filter(|answer| answer.get("errors").is_none()).count()), (3, 1), "{all:#?}");
        }
        let sent = "{ communications { nodes { status } } }";
        world.until("the letters to go", sent, json!({}), |data| {
            data["communications"]["nodes"].as_array().unwrap().iter().all(|node| node["status"] == "SENT")
        }).await;
        assert_eq!(written_to(&world), ["a@example.com"; 3]);
        world.end().await;
    }
}

both! {
    async fn a_letter_to_an_address_that_another_record_opted_out_is_held_back(kind) {
        let world = World::without_server(kind, None).await;
        let (a, twin) = (person(&world, "A", "a@example.com").await, person(&world, "Twin", "A@Example.com").await);
        let (b, late) = (person(&world, "B", "b@example.com").await, person(&world, "Late", "B@example.com").await);
        update(&world, &twin, json!({ "unsubscribed": true })).await;
        let step = writing(&world).await;
        let preview = "query($input: PreviewStepEmailInput!) { previewStepEmail(input: $input) { suppressed } }";
        let seen = world.ask(preview, json!({ "input": { "stepId": step, "recordIds": [a, b] } })).await["previewStepEmail"].clone();
        assert_eq!(seen, json!([{ "suppressed": "UNSUBSCRIBED" }, { "suppressed": null }]));
        world.ask(SEND, json!({ "input": { "stepId": step, "recordIds": [a, b] } })).await;
        // Enqueued, and not sent yet.
        update(&world, &late, json!({ "unsubscribed": true })).await;
        world.tick(true).await;
        assert!(written_to(&world).is_empty());
        let result = world.ask("query($id: ID!) { step(id: $id) { result } }", json!({ "id": step })).await["step"]["result"].clone();
        assert_eq!(result, json!({ "emailsSuppressed": 2 }));
        world.end().await;
    }
}
