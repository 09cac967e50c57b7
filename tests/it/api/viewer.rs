//! The viewer: its permissions and its org.

use entity::member::Role;
use serde_json::{Value, json};

use crate::harness::World;

const VIEWER: &str =
    "query($action: String!) { viewer { role permissions can(action: $action) org { name createdAt } } }";

both! {
    async fn permissions_are_those_of_the_role(kind) {
        let world = World::with_auth(kind).await;
        let mut before = 0;
        for (role, may, may_not) in [
            (Role::Viewer, None, "runCampaign"),
            (Role::Operator, Some("runCampaign"), "approveStep"),
            (Role::Reviewer, Some("approveStep"), "createCampaign"),
            (Role::Manager, Some("createCampaign"), "createMember"),
            (Role::Admin, Some("createMember"), ""),
        ] {
            let key = world.key(role).await;
            let ask = async |action: &str| world.post_as(&key, VIEWER, json!({ "action": action })).await.1;
            let found = ask("runCampaign").await["data"]["viewer"].clone();
            let all: Vec<&str> = found["permissions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert!(all.is_sorted() && (all.len() > before || role == Role::Viewer), "{role}: {all:?}");
            before = all.len();
            assert_eq!(found["can"], json!(all.contains(&"runCampaign")));
            if let Some(may) = may {
                assert!(all.contains(&may) && ask(may).await["data"]["viewer"]["can"] == true, "{role}: {may}");
            }
            if !may_not.is_empty() {
                assert!(!all.contains(&may_not) && ask(may_not).await["data"]["viewer"]["can"] == false, "{role}: {may_not}");
            }
            for unknown in ["", "runs", "RUN_CAMPAIGN", "a\u{0}b"] {
                let told = ask(unknown).await["errors"][0]["extensions"].clone();
                assert_eq!(told["code"], "BAD_USER_INPUT", "{unknown:?}");
            }
        }
        world.end().await;
    }
}

both! {
    async fn every_mutation_can_be_asked_for(kind) {
        let world = World::with_auth(kind).await;
        let key = world.key(Role::Admin).await;
        let fields = "{ __schema { mutationType { fields { name } } } }";
        let found = world.post_as(&key, fields, json!({})).await.1["data"]["__schema"]["mutationType"]["fields"].clone();
        let mut names: Vec<&str> = found.as_array().unwrap().iter().filter_map(|field| field["name"].as_str()).collect();
        names.sort_unstable();
        let found = world.post_as(&key, VIEWER, json!({ "action": "createGoal" })).await.1["data"]["viewer"].clone();
        // An admin may do everything.
        assert_eq!(found["permissions"], json!(names));
        assert!(found["org"]["name"].as_str().is_some_and(|name| !name.is_empty()) && found["org"]["createdAt"].is_string());
        world.end().await;
    }
}
