//! 7.14, 8.9: a cursor that the log can't resume from is rejected by everything that takes one; SSE
//! carries ids and resumes from `Last-Event-ID`.

use futures_util::StreamExt;
use serde_json::{Value, json};
use sortie::kernel::event;

use crate::harness::socket::Socket;
use crate::harness::{World, cursor};

fn of_list(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

both! {
    async fn a_cursor_from_beyond_the_end_is_refused(kind) {
        let world = World::new(kind).await;
        let record = world.create("record", json!({ "kind": "lead", "name": "L", "email": "l@example.com" })).await;
        let (run, _) = world.own_run(&[("a", "custom", json!({}))], json!({})).await;
        let head = event::head(&world.db, &world.viewer).await.unwrap();
        let org = world.viewer.org_id;
        let other = entity::id::OrgId::new();
        let page = world.ask("{ records(first: 1) { pageInfo { endCursor } } }", json!({})).await["records"]["pageInfo"]["endCursor"].clone();
        let wrong = [
            event::cursor(org, head + 1), event::cursor(org, i64::MAX), event::cursor(other, 1), cursor::at(head + 1),
            of_list("event:-1"), of_list("event:+1"), of_list("event:99999999999999999999"), of_list("event: 1"), of_list("event:x:1"),
            page.as_str().unwrap().to_owned(), String::new(), "0".into(), "a\u{0}b".into(), "é".into(), "x".repeat(10_000),
        ];
        let lists = [
            "query($after: String) { events(after: $after) { nodes { kind } } }".to_owned(),
            format!("query($after: String) {{ run(id: \"{run}\") {{ events(after: $after) {{ nodes {{ kind }} }} }} }}"),
            format!("query($after: String) {{ record(id: \"{record}\") {{ id }} events(first: 1, after: $after) {{ nodes {{ kind }} }} }}"),
        ];
        let subscriptions = [
            "subscription($after: String) { events(after: $after) { kind } }".to_owned(),
            "subscription($after: String) { runStatusChanged(after: $after) { to } }".to_owned(),
            "subscription($after: String) { stepStatusChanged(after: $after) { to } }".to_owned(),
            "subscription($after: String) { workQueued(after: $after) { key } }".to_owned(),
            "subscription($after: String) { replyList(after: $after) { kind } }".to_owned(),
            format!("subscription($after: String) {{ runProgress(runId: \"{run}\", after: $after) {{ fraction }} }}"),
            format!("subscription($after: String) {{ runActivity(runId: \"{run}\", after: $after) {{ kind }} }}"),
        ];
        for after in &wrong {
            for query in &lists {
                let answer = world.post(query, json!({ "after": after })).await;
                let error = &answer["errors"][0];
                assert_eq!((&error["extensions"]["code"], &error["extensions"]["field"]), (&json!("BAD_USER_INPUT"), &json!("after")), "{after:?}: {answer:#}");
            }
            let mut socket = Socket::open(world.address).await;
            for (i, document) in subscriptions.iter().enumerate() {
                // As a literal instead of a variable: shared executions are distinguished by it.
                let written = document.replace("($after: String)", "").replace("$after", &json!(after).to_string());
                for (way, document, variables) in [("v", document.as_str(), json!({ "after": after })), ("w", &written, json!({}))] {
                    socket.subscribe(&format!("{way}{i}"), document, variables).await;
                    let told = socket.message().await;
                    let error = &told["payload"][0]["extensions"];
                    assert_eq!((&told["type"], &error["code"]), (&json!("error"), &json!("BAD_USER_INPUT")), "{after:?} {document}: {told:#}");
                    if !after.contains('\u{0}') {
                        assert_eq!(error["field"], "after", "{told:#}");
                    }
                }
            }
        }
        let told = world.post(&lists[0], json!({ "after": wrong[0] })).await;
        assert!(told["errors"][0]["message"].as_str().unwrap().contains("start without a cursor"), "{told}");
        assert_eq!(told["errors"][0]["extensions"]["reason"], "BEYOND_END");
        // The end, the beginning, and a cursor in the old format without the log's name.
        for after in [event::cursor(org, head), event::cursor(org, 0), cursor::at(0), cursor::at(head)] {
            world.ask(&lists[0], json!({ "after": after })).await;
        }
        world.end().await;
    }
}

/// Reads events of an SSE stream, each `(event, id, data)`, until there are enough.
async fn read(
    world: &World,
    query: &str,
    variables: Value,
    last: Option<&str>,
    count: usize,
) -> Vec<(String, String, Value)> {
    let mut request = crate::harness::client().post(format!("http://{}/graphql", world.address));
    request = request.header("accept", "text/event-stream").json(&json!({ "query": query, "variables": variables }));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let (mut body, mut text, mut all) = (response.bytes_stream(), String::new(), Vec::new());
    while all.len() < count {
        while let Some((block, rest)) = text.split_once("\n\n").map(|(block, rest)| (block.to_owned(), rest.to_owned()))
        {
            text = rest;
            let of = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or("-").to_owned()
            };
            if of("event:") != "-" {
                all.push((of("event:"), of("id:"), serde_json::from_str(&of("data:")).unwrap_or_default()));
            }
        }
        if all.len() < count {
            let Some(bytes) = body.next().await else { break };
            text.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap());
        }
    }
    all
}

both! {
    async fn a_live_list_over_sse_begins_anew(kind) {
        let world = World::new(kind).await;
        let list = "subscription { campaignList { kind nodes { name } } }";
        world.create("campaign", json!({ "name": "One" })).await;
        let first = read(&world, list, json!({}), None, 1).await.remove(0);
        assert_eq!(first.2["data"]["campaignList"], json!({ "kind": "SNAPSHOT", "nodes": [{ "name": "One" }] }));
        world.create("campaign", json!({ "name": "Two" })).await;
        let again = read(&world, list, json!({}), Some(&first.1), 1).await.remove(0);
        let both = json!([{ "name": "Two" }, { "name": "One" }]);
        assert_eq!(again.2["data"]["campaignList"], json!({ "kind": "SNAPSHOT", "nodes": both }));
        assert!(cursor::position(&again.1) > cursor::position(&first.1));
        world.end().await;
    }
}

both! {
    async fn sse_has_ids_and_goes_on_behind_the_last(kind) {
        let world = World::new(kind).await;
        let raise = "mutation($n: String!, $r: ID!) { raiseEvent(input: { name: $n, recordIds: [$r] }) { name } }";
        let record = world.create("record", json!({ "kind": "lead", "name": "L" })).await;
        for i in 0..5 {
            world.ask(raise, json!({ "n": format!("test.n{i}"), "r": record })).await;
        }
        let feed = "subscription($after: String) { events(filter: { kinds: [\"test.n0\", \"test.n1\", \"test.n2\", \"test.n3\", \"test.n4\"] }, after: $after) { kind cursor } }";
        let begin = json!({ "after": cursor::at(0) });
        let whole = read(&world, feed, begin.clone(), None, 5).await;
        for (i, (event, id, data)) in whole.iter().enumerate() {
            let item = &data["data"]["events"];
            assert_eq!((event.as_str(), &item["kind"], &item["cursor"]), ("next", &json!(format!("test.n{i}")), &json!(id)));
        }
        // A reconnecting client resumes after the last event it read, whatever cursor its document
        // has, even a stale one.
        let nowhere = json!({ "after": cursor::at(1_000_000) });
        for variables in [begin.clone(), json!({}), nowhere] {
            let rest = read(&world, feed, variables.clone(), Some(&whole[2].1), 2).await;
            let kinds: Vec<&Value> = rest.iter().map(|(_, _, data)| &data["data"]["events"]["kind"]).collect();
            assert_eq!(kinds, ["test.n3", "test.n4"], "{variables}");
        }
        // An empty id counts as none; an invalid cursor is rejected with an empty id, so that the
        // next connection starts as the document says.
        assert_eq!(read(&world, feed, begin.clone(), Some(""), 1).await[0].2["data"]["events"]["kind"], "test.n0");
        for wrong in [cursor::at(1_000_000), event::cursor(entity::id::OrgId::new(), 1), "nonsense".to_owned()] {
            let told = read(&world, feed, begin.clone(), Some(&wrong), 2).await;
            let error = &told[0].2["errors"][0]["extensions"];
            assert_eq!((&error["code"], &error["field"]), (&json!("BAD_USER_INPUT"), &json!("Last-Event-ID")), "{told:?}");
            assert_eq!((told[0].1.as_str(), told[1].0.as_str()), ("", "complete"));
        }
        // A query ignores it.
        let query = read(&world, "{ viewer { role } }", json!({}), Some("nonsense"), 2).await;
        assert_eq!(query[0].2["data"]["viewer"]["role"], "ADMIN");
        // Progress items are not log events, but have ids as well and resume after them.
        let (run, steps) = world.own_run(&[("a", "custom", json!({})), ("b", "custom", json!({}))], json!({})).await;
        let progress = "subscription($id: ID!) { runProgress(runId: $id) { fraction cursor } }";
        let now = read(&world, progress, json!({ "id": run }), None, 1).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        world.step_act("completeStep", &steps[0], json!({})).await;
        let later = read(&world, progress, json!({ "id": run }), Some(&now[0].1), 1).await;
        assert_eq!(later[0].2["data"]["runProgress"]["fraction"], 0.5, "{now:?} {later:?}");
        world.end().await;
    }
}
