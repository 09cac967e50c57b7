//! Items of shared subscriptions count for whoever causes them, as long as anybody holds them.

use entity::id::OrgId;
use entity::member::Role;
use serde_json::{Value, json};
use sortie::graphql::stream::LogScope;
use sortie::kernel::cost::{CostAccount, CostOwner, Costs};

use crate::harness::World;
use crate::harness::socket::Socket;

#[test]
fn a_text_counts_as_what_is_left_of_its_response() {
    let costs = Costs::new(1_000);
    let reader = CostOwner { org: OrgId::new(), key: uuid::Uuid::now_v7() };
    let item = costs.item(&CostAccount::of(reader));
    item.read(3_900).unwrap();
    item.keep_text(900).unwrap();
    // Six responses may be held: 5,100 bytes are left for the key.
    assert!(!item.is_much_held());
    let (copy, held) = costs.copy(reader, 5_000);
    held.unwrap();
    assert!(item.is_much_held());
    let (more, refused) = costs.copy(reader, 200);
    assert_eq!(refused.unwrap_err().code.as_str(), "LIMIT_EXCEEDED");
    drop((copy, more));
    // A text that is larger than what it was made of counts in full.
    item.keep_text(1_200).unwrap();
    assert!(costs.copy(reader, 4_800).1.is_ok());
    assert!(costs.copy(reader, 4_801).1.is_err());
    drop(item);
    assert_eq!(costs.usage_count(), 0, "nothing is counted any longer");
}

#[test]
fn a_current_state_that_failed_has_no_cursor() {
    let scope = LogScope::default();
    scope.set(7);
    assert_eq!(scope.after_failure(None), Some(7), "the start");
    scope.forget_start();
    assert_eq!(scope.after_failure(None), None);
    scope.set(7);
    assert_eq!(scope.after_failure(None), None, "the state was read, and not delivered");
    let delivered = scope.now();
    scope.set(9);
    assert_eq!(scope.after_failure(delivered), Some(7));
}

#[test]
fn a_request_that_is_too_large_alone_is_not_told_to_retry() {
    let costs = Costs::new(1_000);
    let reader = CostOwner { org: OrgId::new(), key: uuid::Uuid::now_v7() };
    let details = |bytes| costs.copy(reader, bytes).1.unwrap_err().details;
    let alone = details(6_001);
    assert_eq!((&alone["reason"], alone.get("retryAfterSeconds")), (&json!("TOO_MUCH"), None));
    let first = costs.copy(reader, 3_000);
    let together = details(3_001);
    assert_eq!(together["reason"], json!("BUSY"));
    assert!(together.contains_key("retryAfterSeconds"));
    drop(first);
}

#[test]
fn an_org_whose_memory_is_full_refuses_those_who_hold_much() {
    let costs = Costs::new(1_000);
    let org = OrgId::new();
    let member = || CostOwner { org, key: uuid::Uuid::now_v7() };
    let hold = |owner, bytes| costs.copy(owner, bytes);
    // Two keys fill the memory of ten responses.
    let (first, second) = (member(), member());
    let (much, more) = (hold(first, 6_000), hold(second, 4_000));
    assert!(much.1.is_ok() && more.1.is_ok());
    let refused = hold(second, 1);
    assert_eq!(refused.1.unwrap_err().details["reason"], json!("BUSY"));
    drop(refused.0);
    // A key that holds little is admitted, up to its small part of the reserve of one response.
    let small = member();
    let little = hold(small, 100);
    assert!(little.1.is_ok());
    assert!(hold(small, 26).1.is_err(), "more than an eighth of a response");
    assert!(hold(small, 25).1.is_ok());
    // What is shared by several keys has half of the reserve, in all.
    let shared: Vec<_> = (0..5).map(|_| hold(CostOwner::of_org(org), 100)).collect();
    assert_eq!(shared.iter().filter(|held| held.1.is_ok()).count(), 4);
    drop(shared);
    // Nor do many keys use more than the reserve.
    let keys: Vec<_> = (0..20).map(|_| hold(member(), 100)).collect();
    assert_eq!(keys.iter().filter(|held| held.1.is_ok()).count(), 9);
    drop(keys);
    let keys: Vec<_> = (0..9).map(|_| hold(member(), 100)).collect();
    assert!(keys.iter().all(|held| held.1.is_ok()), "what is released has left the reserve");
    // An item that shrinks to its text leaves the reserve, too.
    keys.iter().for_each(|held| held.0.keep_text(10).unwrap());
    assert!((0..8).map(|_| hold(member(), 100)).collect::<Vec<_>>().iter().all(|held| held.1.is_ok()));
    drop((much, more, little, keys));
    assert_eq!(costs.usage_count(), 0);
}

/// The message about a step's begin: an item, or the error that ends its subscription.
async fn about(socket: &mut Socket, subscription: usize) -> Value {
    loop {
        let message = socket.message().await;
        if message["id"].as_str() == Some(subscription.to_string().as_str()) {
            return message;
        }
    }
}

both! {
    /// The newest item of a shared subscription is kept for its readers, and counted.
    async fn items_that_are_kept_for_readers_are_counted(kind) {
        const BEGUN: &str = "subscription($id: ID, $after: String) { stepStatusChanged(runId: $id, after: $after, filter: { to: [IN_PROGRESS] }) { step { records(first: 50) { nodes { attributes } } } } }";
        let world = World::with_config(kind, |config| config.answer_mib = 1).await;
        world.fill(kind, &world.viewer, 50, 15_000).await;
        let (reader, operator) = (world.key(Role::Viewer).await, world.key(Role::Operator).await);
        let about_all = json!({ "records": { "filter": { "kind": { "eq": "lead" } }, "limit": 50 } });
        let mut runs = Vec::new();
        for _ in 0..9 {
            runs.push(world.own_run(&[("a", "review", about_all.clone())], json!({})).await);
        }
        let mut socket = Socket::open_as(world.address, &reader).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        let (mut items, mut refused) = (0, None);
        // Each subscription is another; its item is 750 KB, of 6 MiB that a key may hold.
        for (i, (run, steps)) in runs.iter().enumerate() {
            socket.subscribe(&i.to_string(), BEGUN, json!({ "id": run })).await;
            world.followed_by(i + 1).await;
            let (_, started) = world.act_as(&operator, "startStep", json!({ "id": steps[0] })).await;
            assert!(started.get("errors").is_none(), "{started}");
            let message = about(&mut socket, i).await;
            if message["type"] == "error" {
                assert_eq!(message["payload"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{message}");
                assert!(message["payload"][0]["extensions"]["retryAfterSeconds"].is_number(), "{message}");
                refused = Some((run.clone(), message["payload"][0]["extensions"]["cursor"].clone()));
                break;
            }
            assert_eq!(message["type"], "next");
            items += 1;
        }
        assert!((2..9).contains(&items), "{items} of 9 items of 750 KB were kept");
        // The error has the cursor to resume from: over a stream, too, for which there is no room
        // either.
        let (run, cursor) = refused.expect("an item was refused");
        assert!(cursor.is_string(), "no cursor to resume from");
        let again = json!({ "query": BEGUN, "variables": { "id": run, "after": cursor } });
        let stream = crate::harness::client().post(format!("http://{}/graphql", world.address)).bearer_auth(&reader);
        let stream = stream.header("accept", "text/event-stream").json(&again).send().await.unwrap();
        let told = stream.text().await.unwrap();
        let event = told.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
        let event: Value = serde_json::from_str(event).unwrap_or_default();
        assert!(event["errors"][0]["extensions"]["retryAfterSeconds"].is_number(), "{told:.500}");
        assert_eq!(event["errors"][0]["extensions"]["cursor"], cursor, "{told:.500}");
        // Nothing is counted once nobody follows.
        drop(socket);
        world.followed_by(0).await;
        let mut socket = Socket::open_as(world.address, &reader).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        // The refused item comes once there is room.
        socket.subscribe("9", BEGUN, json!({ "id": run, "after": cursor })).await;
        assert_eq!(about(&mut socket, 9).await["type"], "next");
        socket.say(json!({ "id": "9", "type": "complete" })).await;
        world.followed_by(0).await;
        let (run, steps) = runs.last().unwrap();
        socket.subscribe("8", BEGUN, json!({ "id": run })).await;
        world.followed_by(1).await;
        world.act_as(&operator, "startStep", json!({ "id": steps[0] })).await;
        assert_eq!(about(&mut socket, 8).await["type"], "next");
        drop(socket);
        world.end().await;
    }
}

both! {
    /// A reader of a stream gets every item, also those that are too large to be kept.
    async fn large_items_come_in_order_over_both_transports(kind) {
        let world = World::new(kind).await;
        let record = world.leads(1).await.remove(0);
        let many: Vec<String> = (0..60).map(|i| format!("a{i}: payload")).collect();
        let query = format!("subscription($after: String) {{ events(after: $after) {{ cursor {} }} }}", many.join(" "));
        let after = json!({ "after": world.ask("{ viewer { cursor } }", json!({})).await["viewer"]["cursor"] });
        let mut socket = Socket::open(world.address).await;
        socket.subscribe("1", &query, after.clone()).await;
        let stream = crate::harness::client().post(format!("http://{}/graphql", world.address)).header("accept", "text/event-stream");
        let mut stream = stream.json(&json!({ "query": query, "variables": after })).send().await.unwrap();
        // 900 KB each.
        for i in 0..5 {
            let input = json!({ "name": "payment.received", "recordIds": [record], "payload": { "nth": i, "text": "p".repeat(15_000) } });
            world.ask("mutation($input: RaiseEventInput!) { raiseEvent(input: $input) { name } }", json!({ "input": input })).await;
        }
        let mut told = Vec::new();
        let mut cursors = Vec::new();
        for i in 0..5 {
            let item = socket.next().await["events"].clone();
            assert_eq!((&item["a0"]["nth"], &item["a59"]["nth"]), (&json!(i), &json!(i)));
            cursors.push(item["cursor"].as_str().unwrap().to_owned());
        }
        while !told.ends_with(b"\n\n") || String::from_utf8_lossy(&told).matches("event: next").count() < 5 {
            told.extend_from_slice(&stream.chunk().await.unwrap().expect("the stream has ended"));
        }
        let told = String::from_utf8(told).unwrap();
        let events: Vec<&str> = told.split("\n\n").filter(|event| event.starts_with("event: next")).collect();
        assert_eq!(events.len(), 5);
        for (i, event) in events.into_iter().enumerate() {
            let lines: Vec<&str> = event.lines().collect();
            assert_eq!((lines.len(), lines[1]), (3, format!("id: {}", cursors[i]).as_str()));
            let item: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(item["data"]["events"]["a59"]["nth"], json!(i));
        }
        drop((socket, stream));
        world.end().await;
    }
}
