//! Filters of events by kind: one that can never match is rejected instead of waiting for ever.

use serde_json::json;
use sortie::kernel::event::kinds::{KINDS, NOUNS, may_come};

use crate::harness::World;

#[test]
fn the_documentation_names_every_kind() {
    let docs = std::fs::read_to_string("docs/subscriptions.md").unwrap();
    for kind in KINDS {
        let (noun, what) = kind.split_once('.').unwrap();
        assert!(NOUNS.contains(&noun) && may_come(kind), "{kind}");
        let line =
            docs.lines().find(|line| line.starts_with(&format!("| `{noun}` |"))).unwrap_or_else(|| panic!("{noun}"));
        assert!(line.contains(&format!("`{what}`")), "{kind} is missing in {line}");
    }
}

both! {
    async fn a_kind_of_which_no_event_can_come_is_refused(kind) {
        let world = World::without_server(kind, None).await;
        let query = "query($kinds: [String!]) { events(filter: { kinds: $kinds }) { nodes { kind } } }";
        for (wrong, words) in [("step.complete", "step.completed"), ("step", "step.completed"), ("", "noun"), (".", "noun"), ("run.begun", "run.started"), ("sweep.ended", "sweep.begun")] {
            let (code, told) = world.refused(query, json!({ "kinds": ["run.created", wrong] })).await;
            assert!(code == "BAD_USER_INPUT" && told.contains("filter.kinds") && told.contains(words), "{wrong}: {told}");
        }
        for right in ["step.completed", "payment.received", "goal.deleted"] {
            world.ask(query, json!({ "kinds": [right] })).await;
        }
        world.end().await;
    }
}

both! {
    async fn a_guided_step_without_a_limit_shows_all(kind) {
        let world = World::without_server(kind, None).await;
        let text = (0..120).fold(String::from("external_id,name\n"), |text, i| text + &format!("L-{i},Lead {i}\n"));
        sortie::domain::import::import(&world.db.write(), &world.viewer, "lead", "leads.csv", text.as_bytes(), |_, _| {}).await.unwrap();
        let of = |more: serde_json::Value| {
            let mut records = json!({ "filter": { "kind": { "eq": "lead" } } });
            records.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "records": records })
        };
        let (run, _) = world.own_run(&[("all", "review", of(json!({}))), ("few", "review", of(json!({ "limit": 7 })))], json!({})).await;
        let query = "query($id: ID!) { run(id: $id) { steps { nodes { key records(first: 1) { totalCount } } } } }";
        let found = world.ask(query, json!({ "id": run })).await["run"]["steps"]["nodes"].clone();
        let count = |key: &str| found.as_array().unwrap().iter().find(|step| step["key"] == key).unwrap()["records"]["totalCount"].clone();
        assert_eq!((count("all"), count("few")), (json!(120), json!(7)));
        world.end().await;
    }
}
