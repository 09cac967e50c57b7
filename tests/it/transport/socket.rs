//! WebSockets: the protocol's close codes, resuming, progress, and many streams on one socket.

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::World;
use crate::harness::socket::{Came, Socket};

both! {
    async fn the_protocol_by_the_book(kind) {
        let world = World::new(kind).await;
        // Closed with the protocol's own codes.
        for (said, code) in [
            (vec![json!({ "id": "1", "type": "subscribe", "payload": { "query": "{ viewer { role } }" } })], 4401),
            (vec![json!({ "type": "connection_init" }), json!({ "type": "connection_init" })], 4429),
            (vec![json!({ "type": "hello" })], 4400),
            (vec![json!("no object")], 4400),
        ] {
            let mut socket = Socket::connect(world.address).await;
            for message in said {
                socket.say(message).await;
            }
            let closed = loop {
                match socket.came().await {
                    Came::Closed(code) => break code,
                    Came::Message(message) => assert_eq!(message["type"], "connection_ack"),
                }
            };
            assert_eq!(closed, code);
        }
        let mut socket = Socket::open(world.address).await;
        socket.say(json!({ "type": "ping" })).await;
        assert_eq!(socket.message().await["type"], "pong");
        // A page of another origin, another protocol, a binary frame, and a too large message.
        let from = |origin: &'static str, protocol: &'static str| async move {
            use tokio_tungstenite::tungstenite::client::IntoClientRequest;
            let mut request = format!("ws://{}/graphql", world.address).into_client_request().unwrap();
            request.headers_mut().insert("origin", origin.parse().unwrap());
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
            tokio_tungstenite::connect_async(request).await.map(|(socket, _)| Socket(socket))
        };
        let refused = from("https://evil.example", "graphql-transport-ws").await.err().unwrap();
        assert!(refused.to_string().contains("403"), "{refused}");
        assert!(from("http://localhost:3000", "graphql-transport-ws").await.is_ok());
        // The legacy protocol is not supported, and not chosen if both are offered.
        assert!(from("http://localhost:3000", "graphql-ws").await.is_err_and(|err| err.to_string().contains("protocol")));
        let mut both = from("http://localhost:3000", "graphql-ws, graphql-transport-ws").await.unwrap();
        both.say(json!({ "type": "connection_init" })).await;
        assert_eq!(both.message().await["type"], "connection_ack");
        for message in [Message::binary(vec![1, 2, 3]), Message::text("x".repeat(2 * 1024 * 1024))] {
            let mut socket = Socket::open(world.address).await;
            let _ = socket.0.send(message).await;
            let came = socket.came().await;
            assert!(matches!(came, Came::Closed(_)), "{came:?}");
        }
        // A query returns one result and completes; a document that can't be executed is an error.
        socket.subscribe("q", "{ viewer { role } }", json!({})).await;
        assert_eq!(socket.next().await["viewer"]["role"], "ADMIN");
        assert_eq!(socket.message().await, json!({ "id": "q", "type": "complete" }));
        for (query, word) in [
            ("{ nothing }", "nothing"),
            ("subscription { runStatusChanged(after: \"x\") { cursor } }", "cursor"),
            ("subscription { events { cursor } runStatusChanged { cursor } }", "one root"),
            ("{", "expected"),
        ] {
            socket.subscribe("bad", query, json!({})).await;
            let message = socket.message().await;
            assert_eq!(message["type"], "error", "{message}");
            assert!(message["payload"][0]["message"].as_str().unwrap().contains(word), "{message}");
        }
        // An id is free again once its operation is over; while it runs, a second one closes the socket.
        socket.subscribe("live", "subscription { events { cursor } }", json!({})).await;
        socket.say(json!({ "id": "live", "type": "complete" })).await;
        socket.subscribe("live", "subscription { events { cursor } }", json!({})).await;
        socket.subscribe("live", "subscription { events { cursor } }", json!({})).await;
        assert!(matches!(socket.came().await, Came::Closed(4409)));
        world.end().await;
    }
}

both! {
    async fn a_feed_that_is_cut_anywhere_misses_nothing(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 12).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let review = world.until_review(&run).await;
        let feed = "subscription($run: ID, $after: String) { stepStatusChanged(runId: $run, after: $after) { cursor stepId from to } }";
        let from = json!(crate::harness::cursor::at(0));
        let mut seen: Vec<Value> = Vec::new();
        let mut cut = 1;
        let wanted = 12 * 6 + 3 + 3;
        while seen.len() < wanted {
            let after = seen.last().map_or(from.clone(), |item| item["cursor"].clone());
            let mut socket = Socket::open(world.address).await;
            socket.subscribe("steps", feed, json!({ "run": run, "after": after })).await;
            for _ in 0..cut.min(wanted - seen.len()) {
                seen.push(socket.next().await["stepStatusChanged"].clone());
            }
            if cut == 8 {
                world.act("approveStep", "step", json!({ "id": review })).await;
            }
            cut += 1;
        }
        world.until_run(&run, "COMPLETED").await;
        let log: Vec<Value> = world.ask_all_events().await.into_iter().filter(|event| event["kind"].as_str().unwrap().starts_with("step.")).collect();
        assert_eq!(log.len(), wanted);
        for (seen, log) in seen.iter().zip(&log) {
            assert_eq!((&seen["cursor"], &seen["stepId"], &seen["to"]), (&log["cursor"], &log["stepId"], &log["payload"]["to"]));
        }
        // Progress: at once, then on changes, and always the last one; then it completes. With
        // `after`, too.
        let progress = "subscription($run: ID!, $after: String) { runProgress(runId: $run, after: $after) { status fraction cursor counts { completed } } }";
        let mut socket = Socket::open(world.address).await;
        socket.subscribe("p", progress, json!({ "run": run, "after": null })).await;
        let last = socket.next().await["runProgress"].clone();
        assert_eq!((&last["status"], &last["fraction"], &last["counts"]["completed"]), (&json!("COMPLETED"), &json!(1.0), &json!(26)));
        assert_eq!(socket.message().await["type"], "complete");
        socket.subscribe("p", progress, json!({ "run": run, "after": from })).await;
        let mut items = 0;
        let resumed = loop {
            let message = socket.message().await;
            if message["type"] == "complete" {
                break items;
            }
            items += 1;
        };
        assert!((1..=4).contains(&resumed), "{resumed} items: that is not coalesced");
        world.end().await;
    }
}

both! {
    async fn filters_are_judged_on_the_event_alone(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mut socket = Socket::open(world.address).await;
        let some = "subscription($filter: RunEventFilter) { runStatusChanged(filter: $filter) { to name campaignName run { name status } } }";
        socket.subscribe("some", some, json!({ "filter": { "campaignIds": [plan.campaign], "types": ["RUN"], "channels": ["EMAIL"], "to": ["IN_PROGRESS"] } })).await;
        let kinds = "subscription { events(filter: { kinds: [\"communication.sent\"] }) { kind payload } }";
        socket.subscribe("sent", kinds, json!({})).await;
        world.followed_by(2).await;
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"t@example.com\"] }) { run { id } } }";
        let test = world.ask(test, json!({ "id": plan.campaign })).await["testRunCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        world.until_run(&test, "COMPLETED").await;
        let run = world.launch(&plan).await;
        let (first, second) = (socket.message().await, socket.message().await);
        let of = |id: &str| [&first, &second].into_iter().find(|message| message["id"] == id).unwrap()["payload"]["data"].clone();
        assert_eq!(of("sent")["events"]["payload"]["test"], true);
        assert_eq!((&of("some")["runStatusChanged"]["to"], &of("some")["runStatusChanged"]["campaignName"]), (&json!("IN_PROGRESS"), &json!("Outreach")));
        world.until_review(&run).await;
        world.end().await;
    }
}

both! {
    async fn only_this_machine_may_ask(kind) {
        let world = World::new(kind).await;
        let client = crate::harness::client();
        let post = |headers: &[(&'static str, &'static str)], body: &'static str| {
            let mut request = client.post(format!("http://{}/graphql", world.address)).body(body);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            async move {
                let response = request.send().await.unwrap();
                (response.status().as_u16(), response.json::<Value>().await.unwrap())
            }
        };
        let json_type = ("content-type", "application/json");
        let query = "{\"query\":\"{ viewer { role } }\"}";
        assert_eq!(post(&[json_type], query).await.0, 200);
        assert_eq!(post(&[json_type, ("host", "evil.example")], query).await.0, 403);
        assert_eq!(post(&[json_type, ("origin", "https://evil.example")], query).await.0, 403);
        assert_eq!(post(&[json_type, ("origin", "http://localhost:3000")], query).await.0, 200);
        assert_eq!(post(&[("content-type", "text/plain")], query).await.0, 415);
        let (status, told) = post(&[json_type], "{").await;
        assert_eq!((status, told["errors"][0]["message"].as_str().unwrap().starts_with("the body is not JSON (line 1")), (400, true));
        assert_eq!(post(&[json_type, ("accept", "application/graphql-response+json")], "{\"query\":\"{ nothing }\"}").await.0, 400);
        assert_eq!(post(&[json_type], "{\"query\":\"{ nothing }\"}").await.0, 200);
        // Development mode does not start on a non-loopback address, because everybody would be
        // admin.
        let mut open = crate::harness::config(&world.folder, "sqlite::memory:", None);
        open.listen = "0.0.0.0:0".parse().unwrap();
        let refused = sortie::app::server::Server::start(&open, world.db.clone(), world.clock.clone(), world.viewer.clone()).await;
        assert!(refused.unwrap_err().to_string().contains("not a loopback address"));
        let page = client.get(format!("http://{}/graphiql", world.address)).send().await.unwrap();
        assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
        assert!(page.text().await.unwrap().contains("/graphiql/start.js"));
        world.end().await;
    }
}
