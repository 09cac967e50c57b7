//! Documents and variables are counted as what they become in memory, and large ones are prepared in
//! turns.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use async_graphql::Variables;
use entity::id::OrgId;
use entity::member::Role;
use serde_json::{Value, json};
use sortie::graphql::document::{Plan, parse};
use sortie::kernel::{large, limits};
use sortie::transport::parsed::Parsing;

use crate::harness::World;
use crate::harness::socket::Socket;

/// A subscription whose fields can't be merged: 16 KB of text, and a megabyte parsed.
fn wide(number: usize) -> String {
    format!("subscription {{ events {{ a{number}: at {} }} }}", "...{at}".repeat(2_000))
}

/// A wide subscription after a cursor; all of them are the same but for a comment.
fn commented(number: usize) -> String {
    format!("subscription($after: String) {{ events(after: $after) {{ {} }} }} #{number}", "...{at}".repeat(1_000))
}

fn weight(text: &str) -> usize {
    Plan::of(&mut parse(text).unwrap()).weight()
}

#[test]
fn a_document_weighs_what_it_becomes() {
    assert!(weight("subscription { events { at } }") < 2_000);
    assert!(weight(&wide(0)) > 1_000_000);
    // Equal fields become one, and those before are not kept.
    assert!(weight(&format!("subscription {{ events {{ {} }} }}", "at ".repeat(4_900))) < 2_000);
    // The order of keys depends on the variables: they are kept.
    let by_variables =
        format!("query($a: Boolean!) {{ viewer {{ role @skip(if: $a) {} role }} }}", "id: role ".repeat(500));
    assert!(weight(&by_variables) > 100_000);
    let literals = format!("{{ runs(filter: {{ campaignIds: [{}] }}) {{ totalCount }} }}", "\"x\" ".repeat(1_000));
    assert!(weight(&literals) > 250_000);
}

#[test]
fn variables_weigh_what_they_become() {
    let mut document = parse("query($t: [ID!]) { runs(filter: { campaignIds: $t }) { totalCount } }").unwrap();
    let plan = Plan::of(&mut document);
    let variables = |count: usize| Variables::from_json(json!({ "t": vec!["x"; count] }));
    let checked = plan.check(None, variables(10_000)).unwrap();
    assert!((2_500_000..4_000_000).contains(&checked.bytes()), "{}", checked.bytes());
    assert!(plan.check(None, variables(1)).unwrap().bytes() < 1_000);
}

#[test]
fn a_dense_body_passes_the_bound_on_expanded_variables() {
    let plan = |text: &str| Plan::of(&mut parse(text).unwrap());
    let once = plan("mutation($i: RaiseEventInput!) { raiseEvent(input: $i) { name } }");
    let payload = |entries: usize| json!({ "rows": vec![json!({ "a": 1 }); entries] });
    let input = |entries| {
        let input = json!({ "name": "payment.received", "recordIds": ["x"], "payload": payload(entries) });
        Variables::from_json(json!({ "i": input }))
    };
    // A body of one megabyte; other bounds refuse it later.
    let refused = |plan: &Plan, entries| {
        let errors = plan.check(None, input(entries)).err().unwrap_or_default();
        errors.iter().any(|error| error.message.contains("expand to more"))
    };
    assert!(!refused(&once, 130_000));
    let fields: String = (0..40).map(|i| format!("a{i}: raiseEvent(input: $i) {{ name }} ")).collect();
    assert!(refused(&plan(&format!("mutation($i: RaiseEventInput!) {{ {fields} }}")), 130_000));
}

#[test]
fn a_dashboard_counts_as_one_subscription() {
    let fields: String = (0..60).map(|i| format!("f{i}: type ")).collect();
    let parsed = Parsing::default().of(&format!("subscription {{ events {{ {fields} }} }}")).unwrap();
    assert!(parsed.weight_in_use() <= limits::SUBSCRIPTION_BYTES, "{} bytes", parsed.weight_in_use());
}

#[test]
fn the_cache_of_documents_is_bounded_in_memory() {
    let parsing = Parsing::default();
    for i in 0..40 {
        parsing.of(&wide(i)).unwrap();
    }
    assert!(parsing.cached_bytes() <= limits::PARSED_BYTES, "{} bytes", parsing.cached_bytes());
    parsing.of("{ viewer { role } }").unwrap();
    assert!(parsing.cached_bytes() > 0);
}

/// However many large requests of one org are prepared, those of another have a turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn large_requests_take_turns_by_org() {
    let (release, wait) = channel::<()>();
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let wait = Arc::new(Mutex::new(wait));
    let org = OrgId::new();
    let held: Vec<_> = (0..16)
        .map(|_| {
            let (wait, begin) = (wait.clone(), begin.clone());
            // The work ends when the sender is gone.
            let work = move || {
                begin.send(()).ok();
                wait.lock().unwrap().recv().ok();
            };
            tokio::spawn(large::in_turn(limits::TURN_BYTES, org, work))
        })
        .collect();
    begun.recv().await.unwrap();
    let here = std::thread::current().id();
    let other = large::in_turn(limits::TURN_BYTES, OrgId::new(), || std::thread::current().id()).await.unwrap();
    assert_ne!(other, here, "a large request leaves the async threads");
    assert!(!held.iter().all(|work| work.is_finished()), "the other org's work waited for all of this one's");
    // Small work stays where it is.
    assert_eq!(large::in_turn(1, org, || std::thread::current().id()).await.unwrap(), here);
    drop(release);
    for work in held {
        drop(work.await.unwrap());
    }
}

both! {
    /// A document counts for its key as long as its subscription is open.
    async fn open_documents_are_charged(kind) {
        let world = World::with_config(kind, |config| config.answer_mib = 1).await;
        let key = world.key(Role::Viewer).await;
        let mut socket = Socket::open_as(world.address, &key).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        // Each takes more than two megabytes, of six that a key may hold.
        for id in 0..4 {
            socket.subscribe(&id.to_string(), &wide(id), json!({})).await;
        }
        let message = socket.message().await;
        assert_eq!(message["type"], "error", "{message}");
        let refused = message["payload"][0]["extensions"].clone();
        assert_eq!((&refused["code"], &refused["reason"]), (&json!("LIMIT_EXCEEDED"), &json!("BUSY")), "{refused}");
        assert!(refused["retryAfterSeconds"].is_number(), "{refused}");
        // Another key of the org is not affected, and neither are small documents.
        let other = world.key(Role::Viewer).await;
        for key in [&other, &key] {
            let (status, answer) = world.post_as(key, "{ viewer { role } }", json!({})).await;
            assert_eq!((status, answer.get("errors")), (200, None));
        }
        // Subscriptions that end make room for many that share one document.
        drop(socket);
        world.followed_by(0).await;
        let mut socket = Socket::open_as(world.address, &key).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        let after = json!({ "after": world.ask("{ viewer { cursor } }", json!({})).await["viewer"]["cursor"] });
        let record = world.leads(1).await;
        let input = json!({ "name": "payment.received", "recordIds": record, "payload": {} });
        world.ask("mutation($input: RaiseEventInput!) { raiseEvent(input: $input) { name } }", json!({ "input": input })).await;
        for number in 0..12 {
            let id = number.to_string();
            socket.subscribe(&id, &commented(number), after.clone()).await;
            // The document is charged to the subscription until it shares the execution. Other events of
            // the record may come to all of them.
            let mut message = socket.message().await;
            while message["id"] != json!(id) {
                assert_eq!(message["type"], "next", "{message}");
                message = socket.message().await;
            }
            assert_eq!(message["type"], "next", "{message}");
        }
        drop(socket);
        world.end().await;
    }
}

both! {
    /// Variables count for their key as long as their subscription is open, not only while it begins.
    async fn open_variables_are_charged(kind) {
        let world = World::with_config(kind, |config| config.answer_mib = 1).await;
        let key = world.key(Role::Viewer).await;
        let query = "subscription($s: String!) { events(filter: { kinds: [$s] }) { cursor } }";
        // Opens subscriptions whose variables have 900 KB each, until one is refused.
        let fill = async |socket: &mut Socket| {
            for number in 0..7 {
                let text = format!("own{number}.{}", "x".repeat(900_000));
                socket.subscribe(&number.to_string(), query, json!({ "s": text })).await;
                // A follower of the log has begun, and its message is gone.
                tokio::select! {
                    message = socket.message() => return (number, message),
                    () = world.followed_by(number + 1) => {}
                }
            }
            panic!("six megabytes of variables, and none was refused");
        };
        let mut opened = Vec::new();
        // What is closed counts no longer: there is room the second time.
        for _ in 0..2 {
            let mut socket = Socket::open_as(world.address, &key).await;
            assert_eq!(socket.message().await["type"], "connection_ack");
            let (count, message) = fill(&mut socket).await;
            assert_eq!((&message["id"], &message["type"]), (&json!(count.to_string()), &json!("error")), "{message:.500}");
            let refused = &message["payload"][0]["extensions"];
            assert_eq!((&refused["code"], &refused["reason"]), (&json!("LIMIT_EXCEEDED"), &json!("BUSY")), "{refused}");
            opened.push(count);
            // Another key of the org has room.
            let other = world.key(Role::Viewer).await;
            let large = json!({ "s": "x".repeat(900_000) });
            let echo = "query($s: String!) { records(filter: { name: { eq: $s } }) { totalCount } }";
            let (_, answer) = world.post_as(&other, echo, large).await;
            assert!(!answer.to_string().contains("BUSY"), "{answer:.500}");
            drop(socket);
            world.followed_by(0).await;
        }
        assert!(opened.iter().all(|count| *count >= 1), "{opened:?} subscriptions found room");
        world.end().await;
    }
}

both! {
    /// The futures of a response's fields count before they are resolved.
    async fn fields_in_progress_are_charged(kind) {
        let world = World::with_config(kind, |config| config.answer_mib = 1).await;
        world.fill(kind, &world.viewer, 500, 10).await;
        let key = world.key(Role::Viewer).await;
        let fields: String = (0..40).map(|i| format!("a{i}: id ")).collect();
        for fields in [fields.clone(), format!("... on Record {{ {fields} }}")] {
            let query = "query($first: Int) { records(first: $first) { nodes { FIELDS } } }".replace("FIELDS", &fields);
            // The first request has 20,000 fields at once, the second 2,000.
            let (status, answer) = world.post_as(&key, &query, json!({ "first": 500 })).await;
            let error = &answer["errors"][0]["extensions"];
            assert_eq!((status == 429, &error["code"], &error["reason"]), (false, &json!("LIMIT_EXCEEDED"), &json!("TOO_MUCH")), "{error}");
            assert!(error["retryAfterSeconds"].is_null(), "{error}");
            let (status, answer) = world.post_as(&key, &query, json!({ "first": 50 })).await;
            assert_eq!((status, answer["data"]["records"]["nodes"].as_array().map(Vec::len)), (200, Some(50)));
        }
        world.end().await;
    }
}

both! {
    async fn an_operation_has_so_many_variables(kind) {
        let world = World::new(kind).await;
        let answers = async |count: usize| {
            let (names, mut values) = ((0..count).map(|i| format!("$v{i}")), serde_json::Map::new());
            (0..count).for_each(|i| drop(values.insert(format!("v{i}"), json!("x"))));
            let uses: Vec<String> = names.collect();
            let definitions: Vec<String> = uses.iter().map(|name| format!("{name}: ID!")).collect();
            let query = format!(
                "query({}) {{ runs(filter: {{ campaignIds: [{}] }}) {{ totalCount }} }}",
                definitions.join(" "),
                uses.join(" ")
            );
            world.post(&query, Value::Object(values)).await
        };
        let refused = answers(limits::VARIABLES + 1).await;
        let error = &refused["errors"][0];
        assert_eq!(error["extensions"]["code"], "LIMIT_EXCEEDED", "{error}");
        assert!(error["message"].as_str().unwrap().contains("more than 500 variables"), "{error}");
        let answer = answers(limits::VARIABLES).await;
        assert!(!answer.to_string().contains("LIMIT_EXCEEDED"), "{answer}");
        world.end().await;
    }
}

both! {
    /// Lists without pages are charged by their length.
    async fn fields_of_tasks_in_progress_are_charged(kind) {
        let world = World::with_config(kind, |config| config.answer_mib = 1).await;
        let task = |i: usize| format!("      - {{ name: T{i}, steps: [{{ name: Look {i}, type: review, assignedTo: human, trigger: manual }}] }}\n");
        let yaml = format!("phases:\n  - name: Day\n    tasks:\n{}", (0..100).map(task).collect::<String>());
        let create = "mutation($input: CreateRunTemplateInput!) { createRunTemplate(input: $input) { runTemplate { id } } }";
        world.ask(create, json!({ "input": { "name": "Many tasks", "kind": "GUIDED", "yaml": yaml } })).await;
        let start = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id } } }";
        let started = world.ask(start, json!({ "input": { "templateKey": "many-tasks" } })).await;
        let id = json!({ "id": started["startGuidedRun"]["run"]["id"] });
        let key = world.key(Role::Viewer).await;
        let asked = async |aliases: usize| {
            let fields: String = (0..aliases).map(|i| format!("a{i}: id ")).collect();
            let query = format!("query($id: ID!) {{ run(id: $id) {{ phases {{ tasks {{ {fields} }} }} }} }}");
            world.post_as(&key, &query, id.clone()).await
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let (status, answer) = asked(10).await;
            assert_eq!((status, answer.get("errors")), (200, None));
            if answer["data"]["run"]["phases"][0]["tasks"].as_array().is_some_and(|tasks| tasks.len() == 100) {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{answer}");
            tokio::task::yield_now().await;
        }
        // These are 19,000 fields at once.
        let (status, answer) = asked(190).await;
        let error = &answer["errors"][0]["extensions"];
        assert_eq!((status == 429, &error["code"], &error["reason"]), (false, &json!("LIMIT_EXCEEDED"), &json!("TOO_MUCH")), "{error}");
        assert!(error["retryAfterSeconds"].is_null(), "{error}");
        world.end().await;
    }
}
