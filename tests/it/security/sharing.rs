//! Subscriptions that share an execution reveal nothing of another member's.

use entity::member::Role;
use serde_json::json;
use sortie::transport::shared::PERSONAL;

use sea_orm::{EntityTrait, QueryOrder};

use crate::harness::World;
use crate::harness::life::Home;
use crate::harness::socket::Socket;

both! {
    async fn like_subscriptions_tell_each_member_their_own_actions(kind) {
        let world = World::with_auth(kind).await;
        let (ann, ben) = (world.key(Role::Operator).await, world.key(Role::Operator).await);
        let (run, steps) = world.own_run(&[("a", "custom", json!({})), ("b", "custom", json!({}))], json!({})).await;
        let me = world.post_as(&ann, "{ viewer { member { id } } }", json!({})).await.1["data"]["viewer"]["member"]["id"].clone();
        let assign = "mutation($id: ID!, $member: ID) { assignStep(input: { id: $id, memberId: $member }) { step { id } } }";
        world.ask(assign, json!({ "id": steps[0], "member": me })).await;
        let watch = "subscription($id: ID) { stepStatusChanged(runId: $id) { to step { availableActions { action allowed } } } }";
        let mut sockets = Vec::new();
        for key in [&ann, &ben] {
            let mut socket = Socket::open_as(world.address, key).await;
            assert_eq!(socket.message().await["type"], "connection_ack");
            socket.subscribe("1", watch, json!({ "id": run })).await;
            sockets.push(socket);
        }
        world.followed_by(2).await;
        let (_, started) = world.act_as(&ann, "startStep", json!({ "id": steps[0] })).await;
        assert!(started.get("errors").is_none(), "{started}");
        let mut may = Vec::new();
        for socket in &mut sockets {
            let change = loop {
                let change = socket.message().await["payload"]["data"]["stepStatusChanged"].clone();
                if change["to"] == "IN_PROGRESS" {
                    break change;
                }
            };
            let actions = change["step"]["availableActions"].as_array().unwrap().clone();
            may.push(actions.iter().find(|one| one["action"] == "COMPLETE").unwrap()["allowed"].clone());
        }
        assert_eq!(may, [json!(true), json!(false)]);
        drop(sockets);
        world.end().await;
    }
}

/// Fields that may differ between members bear one of the names that prevent sharing.
#[test]
fn what_is_about_the_one_who_asks_is_known_by_name() {
    let schema = std::fs::read_to_string("schema.graphql").unwrap();
    let of_viewer = ["[AvailableAction!]!", "[StepSuggestion!]!", "Preflight!", "Preflight", "Viewer!"];
    let (mut found, mut name) = (0, "");
    // A field's own lines are indented once, those of its arguments twice.
    for line in schema.lines().filter_map(|line| line.strip_prefix('\t')).filter(|line| !line.starts_with('\t')) {
        if line.starts_with(char::is_alphanumeric) {
            name = line.split(|of: char| !of.is_alphanumeric()).next().unwrap();
        }
        if of_viewer.iter().any(|of| line.ends_with(&format!(": {of}"))) {
            found += 1;
            assert!(PERSONAL.contains(&name), "{name}{line}");
        }
    }
    assert!(found > 10, "{found}");
    // Filters refer to the viewer by this name only.
    let reads = |path: &str, what: &str| std::fs::read_to_string(path).unwrap().matches(what).count();
    assert_eq!(reads("src/domain/run/step/list.rs", "filter.mine == Some(true)"), 1);
    assert_eq!(reads("src/domain/follow_up.rs", "filter.mine == Some(true)"), 1);
}

both! {
    async fn events_of_keys_are_for_admins(kind) {
        let world = World::with_auth(kind).await;
        let (viewer, admin) = (world.key(Role::Viewer).await, world.key(Role::Admin).await);
        let query = "query($k: [String!]) { events(filter: { kinds: $k }, first: 100) { nodes { kind } pageInfo { hasNextPage } } }";
        let kinds = json!({ "k": ["api_key.created", "api_key.revoked", "record.created"] });
        let seen = async |key: &str, variables: &serde_json::Value| {
            let answer = world.post_as(key, query, variables.clone()).await.1;
            let all = answer["data"]["events"]["nodes"].as_array().unwrap().clone();
            all.iter().filter(|event| event["kind"].as_str().unwrap().starts_with("api_key.")).count()
        };
        for variables in [&kinds, &json!({}), &json!({ "k": ["api_key.created"] })] {
            assert_eq!(seen(&viewer, variables).await, 0, "{variables}");
            assert!(seen(&admin, variables).await >= 2, "{variables}");
        }
        // Live, and from the beginning of the log: hidden events are left out between visible ones.
        let mut socket = Socket::open_as(world.address, &viewer).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        let begin = sortie::kernel::event::cursor(world.viewer.org_id, 0);
        socket.subscribe("1", "subscription($a: String) { events(after: $a) { kind } }", json!({ "a": begin })).await;
        world.key(Role::Operator).await;
        world.post_as(&admin, "mutation { createRecord(input: { kind: \"lead\", name: \"G\" }) { record { id } } }", json!({})).await;
        let mut kinds = Vec::new();
        while kinds.last().is_none_or(|kind| kind != "record.created") {
            kinds.push(socket.next().await["events"]["kind"].clone());
        }
        assert!(kinds.iter().all(|kind| !kind.as_str().unwrap().starts_with("api_key.")), "{kinds:?}");
        drop(socket);
        world.end().await;
    }
}

both! {
    async fn the_audit_names_what_the_command_line_did(kind) {
        let home = Home::new(kind).await;
        let run = |words: &[&str]| home.run(words);
        let (made, said) = run(&["key", "create", "--name", "ops", "--role", "ADMIN"]);
        assert!(made, "{said}");
        let id = said.split_whitespace().find(|word| word.starts_with("api_key_")).unwrap().to_owned();
        assert!(run(&["key", "revoke", &id]).0);
        let (refused, said) = run(&["key", "create", "--name", " ", "--role", "VIEWER"]);
        assert!(!refused, "{said}");
        let manifest = home.folder.join("m.yaml");
        std::fs::write(&manifest, "goals:\n  - name: G\n").unwrap();
        assert!(run(&["apply", "-f", manifest.to_str().unwrap()]).0);
        let csv = home.folder.join("r.csv");
        std::fs::write(&csv, "external_id,name\n1,Ann\n").unwrap();
        let (imported, said) = run(&["import", csv.to_str().unwrap(), "--kind", "lead"]);
        assert!(imported, "{said}");
        let db = sortie::kernel::db::Db::connect_read_only(&home.url, sortie::kernel::clock::Clock::real()).await.unwrap();
        let rows = entity::audit::Entity::find().order_by_asc(entity::audit::COLUMN.id).all(db.read()).await.unwrap();
        let told: Vec<String> =
            rows.iter().map(|row| format!("{} {} {}", row.mutation, row.outcome, row.address)).collect();
        let by = |what: &str, outcome: &str| format!("{what} {outcome} command line");
        for wanted in [
            by("createApiKey", "DONE"),
            by("revokeApiKey", "DONE"),
            by("createApiKey", "REFUSED"),
            by("applyManifest", "DONE"),
            by("importRecords", "DONE"),
        ] {
            assert!(told.contains(&wanted), "{wanted}: {told:?}");
        }
        db.close().await;
        home.remove();
    }
}

both! {
    async fn what_is_for_admins_is_no_node_for_others(kind) {
        let world = World::with_auth(kind).await;
        let (viewer, admin) = (world.key(Role::Viewer).await, world.key(Role::Admin).await);
        world.post_as(&admin, "mutation { createGoal(input: { name: \"G\" }) { goal { id } } }", json!({})).await;
        let lists = "{ apiKeys(first: 1) { nodes { id } } audit(first: 1) { nodes { id } } }";
        let found = world.post_as(&admin, lists, json!({})).await.1["data"].clone();
        let ids = [&found["apiKeys"]["nodes"][0]["id"], &found["audit"]["nodes"][0]["id"]];
        let nodes = "query($ids: [ID!]!, $id: ID!) { nodes(ids: $ids) { id } node(id: $id) { __typename id } }";
        let ask = async |key: &str| world.post_as(key, nodes, json!({ "ids": ids, "id": ids[0] })).await.1["data"].clone();
        assert_eq!(ask(&viewer).await, json!({ "nodes": [null, null], "node": null }));
        let seen = ask(&admin).await;
        assert_eq!(seen, json!({ "nodes": [{ "id": ids[0] }, { "id": ids[1] }], "node": { "__typename": "ApiKey", "id": ids[0] } }));
        world.end().await;
    }
}
