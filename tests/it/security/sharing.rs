//! Subscriptions that share an execution tell nobody what is another member's.

use entity::member::Role;
use serde_json::json;
use sortie::transport::shared::PERSONAL;

use crate::harness::World;
use crate::harness::socket::Socket;

both! {
    async fn like_subscriptions_tell_each_member_their_own_actions(kind) {
        let world = World::guarded(kind).await;
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

/// What may differ from member to member carries one of the names that part them.
#[test]
fn what_is_about_the_one_who_asks_is_known_by_name() {
    let schema = std::fs::read_to_string("schema.graphql").unwrap();
    let of_viewer = ["[AvailableAction!]!", "Preflight!", "Preflight", "Viewer!"];
    let fields =
        schema.lines().map(str::trim).filter(|line| of_viewer.iter().any(|of| line.ends_with(&format!(": {of}"))));
    let mut found = 0;
    for field in fields {
        let name: String = field.chars().take_while(|of| of.is_alphanumeric()).collect();
        found += 1;
        assert!(PERSONAL.contains(&name.as_str()), "{field}");
    }
    assert!(found > 10, "{found}");
    // Filters read the viewer by this name only.
    let reads = |path: &str, what: &str| std::fs::read_to_string(path).unwrap().matches(what).count();
    assert_eq!(reads("src/run/step.rs", "filter.mine == Some(true)"), 1);
    assert_eq!(reads("src/follow_up.rs", "filter.mine == Some(true)"), 1);
}
