//! Saved views: private and shared ones, their names, who may change them, and what happens to those
//! of a deleted member.

use std::collections::BTreeSet;

use entity::id::OrgId;
use entity::member::Role;
use serde_json::{Value, json};
use sortie::domain::people::saved_view::{self, Fields};
use sortie::kernel::viewer::Viewer;

use crate::harness::World;

const SAVE: &str = "mutation($input: SaveViewInput!) { saveView(input: $input) { savedView {
    id page name filter orderBy settings shared owner { id } createdAt updatedAt revision } } }";
const DELETE: &str = "mutation($input: DeleteInput!) { deleteView(input: $input) { deletedId } }";
const ONE: &str = "query($id: ID!) { savedView(id: $id) { name } node(id: $id) { __typename id } }";
const LIST: &str = "query($page: String, $first: Int, $after: String, $last: Int, $before: String) {
    savedViews(page: $page, first: $first, after: $after, last: $last, before: $before) {
        totalCount nodes { id name } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

async fn save(world: &World, input: Value) -> Value {
    world.ask(SAVE, json!({ "input": input })).await["saveView"]["savedView"].clone()
}

/// Saves with a credential; returns the view, or the error's extensions with the code.
async fn save_as(world: &World, key: &str, input: Value) -> Result<Value, Value> {
    let answer = world.post_as(key, SAVE, json!({ "input": input })).await.1;
    match answer["errors"].get(0) {
        Some(error) => Err(error["extensions"].clone()),
        None => Ok(answer["data"]["saveView"]["savedView"].clone()),
    }
}

/// Code of the refusal of a deletion; null if it was deleted.
async fn delete_as(world: &World, key: &str, id: &Value) -> Value {
    let answer = world.post_as(key, DELETE, json!({ "input": { "id": id } })).await.1;
    answer["errors"][0]["extensions"]["code"].clone()
}

/// Names of the views that a credential sees, in order.
async fn seen_by(world: &World, key: &str, page: Value) -> Vec<String> {
    names(&world.post_as(key, LIST, json!({ "page": page })).await.1["data"])
}

fn names(data: &Value) -> Vec<String> {
    let nodes = data["savedViews"]["nodes"].as_array().unwrap_or_else(|| panic!("{data:#}"));
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

/// The events of saved views: kind and name.
async fn events(world: &World) -> Vec<(String, String)> {
    let query = "{ events(filter: { kinds: [\"saved_view.*\"] }, first: 500) { nodes { kind payload } } }";
    let all = world.ask(query, json!({})).await["events"]["nodes"].clone();
    let text = |of: &Value| of.as_str().unwrap().to_owned();
    all.as_array().unwrap().iter().map(|event| (text(&event["kind"]), text(&event["payload"]["name"]))).collect()
}

both! {
    async fn a_view_is_saved_changed_and_deleted(kind) {
        let world = World::without_server(kind, None).await;
        let me = world.ask("{ viewer { member { id } } }", json!({})).await["viewer"]["member"]["id"].clone();
        let filter = json!({ "statuses": ["IN_PROGRESS"], "n": [1, 2.5, null, { "ä": "ß\u{1f642}" }] });
        let view = save(&world, json!({ "page": " runs ", "name": " Meine Läufe ", "filter": filter, "orderBy": "name" })).await;
        assert_eq!((&view["page"], &view["name"], &view["filter"], &view["orderBy"]), (&json!("runs"), &json!("Meine Läufe"), &filter, &json!("name")));
        assert_eq!((&view["settings"], &view["shared"], &view["owner"]["id"], &view["revision"]), (&json!(null), &json!(false), &me, &json!(1)));
        let id = view["id"].clone();
        assert!(id.as_str().unwrap().starts_with("saved_view_"));
        let one = world.ask(ONE, json!({ "id": id })).await;
        assert_eq!(one, json!({ "savedView": { "name": "Meine Läufe" }, "node": { "__typename": "SavedView", "id": id } }));
        // Omitted fields stay, null removes; the same again is no change.
        let settings = json!({ "columns": ["name", "status"], "width": 3.0 });
        let view = save(&world, json!({ "id": id, "settings": settings, "orderBy": null, "expectedRevision": 1 })).await;
        assert_eq!((&view["filter"], &view["orderBy"], &view["name"], &view["revision"]), (&filter, &json!(null), &json!("Meine Läufe"), &json!(2)));
        assert_eq!(view["settings"], json!({ "columns": ["name", "status"], "width": 3 }));
        for input in [
            json!({ "id": id }),
            json!({ "id": id, "page": "runs", "name": null, "shared": null }),
            json!({ "id": id, "name": "Meine La\u{308}ufe", "settings": settings, "shared": false }),
        ] {
            assert_eq!(save(&world, input.clone()).await["revision"], 2, "{input}");
        }
        let view = save(&world, json!({ "id": id, "filter": null, "settings": null })).await;
        assert_eq!((&view["filter"], &view["settings"], &view["revision"]), (&json!(null), &json!(null), &json!(3)));
        assert_eq!(world.refused(SAVE, json!({ "input": { "id": id, "name": "X", "expectedRevision": 2 } })).await.0, "CONFLICT");
        assert_eq!(world.refused(DELETE, json!({ "input": { "id": id, "expectedRevision": 2 } })).await.0, "CONFLICT");
        let deleted = world.ask(DELETE, json!({ "input": { "id": id, "expectedRevision": 3 } })).await;
        assert_eq!(deleted["deleteView"]["deletedId"], id);
        assert_eq!(world.ask(ONE, json!({ "id": id })).await, json!({ "savedView": null, "node": null }));
        assert_eq!(world.refused(DELETE, json!({ "input": { "id": id } })).await.0, "NOT_FOUND");
        assert_eq!(world.refused(SAVE, json!({ "input": { "id": id } })).await.0, "NOT_FOUND");
        assert_eq!(events(&world).await, [], "a private view has no events");
        world.end().await;
    }
}

both! {
    async fn a_wrong_field_is_named(kind) {
        let world = World::without_server(kind, None).await;
        let view = save(&world, json!({ "page": "runs", "name": "A" })).await;
        let long = json!({ "text": "x".repeat(16 * 1024) });
        let cases = [
            (json!({ "name": "A" }), "page"),
            (json!({ "page": "runs" }), "name"),
            (json!({ "page": " ", "name": "B" }), "page"),
            (json!({ "page": "runs", "name": "\u{200b}" }), "name"),
            (json!({ "page": "runs", "name": "B\nC" }), "name"),
            (json!({ "page": "runs", "name": "x".repeat(201) }), "name"),
            (json!({ "page": "runs", "name": "B", "filter": [] }), "filter"),
            (json!({ "page": "runs", "name": "B", "filter": "all" }), "filter"),
            (json!({ "page": "runs", "name": "B", "filter": long }), "filter"),
            (json!({ "page": "runs", "name": "B", "orderBy": long }), "orderBy"),
            (json!({ "page": "runs", "name": "B", "settings": 1 }), "settings"),
            (json!({ "page": "runs", "name": "B", "settings": long }), "settings"),
            (json!({ "page": "runs", "name": "B", "expectedRevision": 1 }), "expectedRevision"),
            (json!({ "id": view["id"], "page": "campaigns" }), "page"),
            (json!({ "id": view["id"], "name": "" }), "name"),
            (json!({ "id": "run_01h455vb4pex5vsknk084sn02q" }), "id"),
        ];
        for (input, field) in cases {
            let answer = world.post(SAVE, json!({ "input": input })).await["errors"][0]["extensions"].clone();
            assert_eq!((&answer["code"], &answer["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{input}");
        }
        let (code, message) = world.refused(LIST, json!({ "page": "" })).await;
        assert!(code == "BAD_USER_INPUT" && message.starts_with("page"), "{message}");
        assert_eq!(save(&world, json!({ "id": view["id"] })).await["revision"], 1);
        world.end().await;
    }
}

both! {
    async fn a_private_view_is_its_owners_alone(kind) {
        let world = World::with_auth(kind).await;
        let (viewer, operator) = (world.key(Role::Viewer).await, world.key(Role::Operator).await);
        let (manager, admin) = (world.key(Role::Manager).await, world.key(Role::Admin).await);
        let own = save_as(&world, &viewer, json!({ "page": "runs", "name": "Mine", "filter": {} })).await.unwrap();
        assert_eq!(seen_by(&world, &viewer, json!("runs")).await, ["Mine"]);
        for other in [&operator, &manager, &admin] {
            assert_eq!(seen_by(&world, other, json!(null)).await, [] as [&str; 0]);
            let one = world.post_as(other, ONE, json!({ "id": own["id"] })).await.1["data"].clone();
            assert_eq!(one, json!({ "savedView": null, "node": null }));
            assert_eq!(save_as(&world, other, json!({ "id": own["id"], "name": "Taken" })).await.unwrap_err()["code"], "NOT_FOUND");
            assert_eq!(delete_as(&world, other, &own["id"]).await, "NOT_FOUND");
        }
        // Sharing requires a manager.
        for low in [&viewer, &operator] {
            let refused = save_as(&world, low, json!({ "page": "runs", "name": "Ours", "shared": true })).await.unwrap_err();
            assert_eq!((&refused["code"], &refused["needed"]), (&json!("FORBIDDEN"), &json!("MANAGER")));
        }
        assert_eq!(save_as(&world, &viewer, json!({ "id": own["id"], "shared": true })).await.unwrap_err()["code"], "FORBIDDEN");
        let shared = save_as(&world, &manager, json!({ "page": "runs", "name": "Late", "filter": { "late": true }, "shared": true })).await.unwrap();
        let id = shared["id"].clone();
        assert_eq!(seen_by(&world, &viewer, json!("runs")).await, ["Late", "Mine"]);
        assert_eq!(seen_by(&world, &admin, json!("runs")).await, ["Late"]);
        // Another manager changes it as little as a viewer does; an admin does, but can't take it away.
        let second = world.key(Role::Manager).await;
        for other in [&viewer, &second] {
            let refused = save_as(&world, other, json!({ "id": id, "name": "Taken" })).await.unwrap_err();
            assert_eq!((&refused["code"], &refused["needed"]), (&json!("FORBIDDEN"), &json!("ADMIN")));
            assert_eq!(delete_as(&world, other, &id).await, "FORBIDDEN");
        }
        let changed = save_as(&world, &admin, json!({ "id": id, "name": "Later" })).await.unwrap();
        assert_eq!((&changed["owner"], &changed["shared"]), (&shared["owner"], &json!(true)));
        let refused = save_as(&world, &admin, json!({ "id": id, "shared": false })).await.unwrap_err();
        assert_eq!((&refused["code"], &refused["field"]), (&json!("BAD_USER_INPUT"), &json!("shared")));
        // Its owner makes it private under another name, which the log does not tell.
        save_as(&world, &manager, json!({ "id": id, "name": "Secret", "shared": false })).await.unwrap();
        assert_eq!(seen_by(&world, &admin, json!(null)).await, [] as [&str; 0]);
        save_as(&world, &manager, json!({ "id": id, "name": "More secret" })).await.unwrap();
        save_as(&world, &manager, json!({ "id": id, "name": "Open", "shared": true })).await.unwrap();
        assert_eq!(delete_as(&world, &admin, &id).await, json!(null));
        let wanted = [("created", "Late"), ("updated", "Later"), ("updated", "Later"), ("updated", "Open"), ("deleted", "Open")];
        assert_eq!(events(&world).await, wanted.map(|(what, name)| (format!("saved_view.{what}"), name.to_owned())));
        assert_eq!(delete_as(&world, &viewer, &own["id"]).await, json!(null));
        // A worker has no views.
        let worker = world.key(Role::Worker).await;
        assert_eq!(save_as(&world, &worker, json!({ "page": "runs", "name": "W" })).await.unwrap_err()["code"], "FORBIDDEN");
        world.end().await;
    }
}

both! {
    async fn a_name_is_unique_among_its_owners_views_of_a_page(kind) {
        let world = World::with_auth(kind).await;
        let (one, two) = (world.key(Role::Manager).await, world.key(Role::Manager).await);
        let first = save_as(&world, &one, json!({ "page": "runs", "name": "Café" })).await.unwrap();
        for name in ["Café", " Cafe\u{301} "] {
            let refused = save_as(&world, &one, json!({ "page": "runs", "name": name, "shared": true })).await.unwrap_err();
            assert_eq!((&refused["code"], &refused["field"]), (&json!("CONFLICT"), &json!("name")), "{name}");
        }
        // The case counts, and so do the page and the owner.
        save_as(&world, &one, json!({ "page": "runs", "name": "café" })).await.unwrap();
        save_as(&world, &one, json!({ "page": "campaigns", "name": "Café" })).await.unwrap();
        save_as(&world, &two, json!({ "page": "runs", "name": "Café", "shared": true })).await.unwrap();
        assert_eq!(save_as(&world, &one, json!({ "id": first["id"], "name": "café" })).await.unwrap_err()["code"], "CONFLICT");
        assert_eq!(save_as(&world, &one, json!({ "id": first["id"], "name": "Café" })).await.unwrap()["revision"], 1);
        assert_eq!(seen_by(&world, &one, json!("runs")).await, ["Café", "Café", "café"]);
        assert_eq!(seen_by(&world, &one, json!(null)).await.len(), 4);
        assert_eq!(seen_by(&world, &one, json!("none")).await.len(), 0);
        // The name is free again after its view was deleted.
        assert_eq!(delete_as(&world, &one, &first["id"]).await, json!(null));
        save_as(&world, &one, json!({ "page": "runs", "name": "Café" })).await.unwrap();
        world.end().await;
    }
}

both! {
    async fn views_outlive_a_key_and_the_shared_ones_their_member(kind) {
        let world = World::with_auth(kind).await;
        let manager = world.key(Role::Manager).await;
        let me = "{ viewer { member { id } } }";
        let member = world.post_as(&manager, me, json!({})).await.1["data"]["viewer"]["member"]["id"].clone();
        save_as(&world, &manager, json!({ "page": "runs", "name": "Private" })).await.unwrap();
        let shared = save_as(&world, &manager, json!({ "page": "runs", "name": "Shared", "shared": true })).await.unwrap();
        // A second key of the member sees the same, also after the first one was revoked.
        let create = "mutation($m: ID!) { createApiKey(input: { name: \"second\", role: VIEWER, memberId: $m }) { key apiKey { id } } }";
        let second = world.ask(create, json!({ "m": member })).await["createApiKey"].clone();
        let revoke = "mutation($id: ID!) { revokeApiKey(input: { id: $id }) { apiKey { id } } }";
        let id = |key: &str| format!("api_key_{}", key.split('_').nth(1).unwrap());
        world.ask(revoke, json!({ "id": id(&manager) })).await;
        let key = second["key"].as_str().unwrap();
        assert_eq!(seen_by(&world, key, json!("runs")).await, ["Private", "Shared"]);
        // This key's role may not change what it shares, but take it back.
        assert_eq!(save_as(&world, key, json!({ "id": shared["id"], "name": "S" })).await.unwrap_err()["needed"], "MANAGER");
        world.ask(revoke, json!({ "id": second["apiKey"]["id"] })).await;
        world.ask("mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }", json!({ "id": member })).await;
        let left = world.ask("{ savedViews { nodes { name owner { id } shared revision } } }", json!({})).await;
        assert_eq!(left["savedViews"]["nodes"], json!([{ "name": "Shared", "owner": null, "shared": true, "revision": 2 }]));
        assert_eq!(world.number("SELECT COUNT(*) FROM saved_view").await, 1);
        // It belongs to nobody: admins look after it, and its name is free for all.
        let other = world.key(Role::Manager).await;
        assert_eq!(save_as(&world, &other, json!({ "id": shared["id"], "name": "S" })).await.unwrap_err()["needed"], "ADMIN");
        save_as(&world, &other, json!({ "page": "runs", "name": "Shared", "shared": true })).await.unwrap();
        assert_eq!(save(&world, json!({ "id": shared["id"], "name": "S" })).await["revision"], 3);
        let refused = world.post(SAVE, json!({ "input": { "id": shared["id"], "shared": false } })).await;
        assert_eq!(refused["errors"][0]["extensions"]["field"], "shared", "{refused:#}");
        world.ask(DELETE, json!({ "input": { "id": shared["id"] } })).await;
        world.end().await;
    }
}

both! {
    async fn another_org_sees_none(kind) {
        let world = World::without_server(kind, None).await;
        let view = save(&world, json!({ "page": "runs", "name": "Ours", "shared": true })).await;
        let id = view["id"].as_str().unwrap().parse().unwrap();
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        assert!(saved_view::find(world.db.read(), &other, id).await.unwrap().is_none());
        assert!(saved_view::find_all(world.db.read(), &other, &[id]).await.unwrap().is_empty());
        assert_eq!(saved_view::count(world.db.read(), &other, None).await.unwrap(), 0);
        let fields = Fields { name: Some("Taken".into()), ..Fields::default() };
        assert!(saved_view::save(&world.db.write(), &other, Some(id), None, &fields).await.is_err());
        assert!(saved_view::delete(&world.db.write(), &other, id, None).await.is_err());
        // Those who are not members see the shared ones alone.
        save(&world, json!({ "page": "runs", "name": "Mine" })).await;
        assert_eq!(saved_view::count(world.db.read(), &world.viewer.anybody(), Some("runs")).await.unwrap(), 1);
        assert_eq!(saved_view::count(world.db.read(), &world.viewer, Some("runs")).await.unwrap(), 2);
        assert_eq!(save(&world, json!({ "id": view["id"] })).await["name"], "Ours");
        world.end().await;
    }
}

both! {
    async fn pages_of_any_length(kind) {
        let world = World::without_server(kind, None).await;
        let mut made = 0;
        for count in [0, 1, 499, 501, 1_000] {
            for i in made..count {
                let name = Some(format!("View {:03}", (i * 7) % 1_000));
                let fields = Fields { page: Some("runs".into()), name, shared: Some(i % 2 == 0), ..Fields::default() };
                saved_view::save(&world.db.write(), &world.viewer, None, None, &fields).await.unwrap();
            }
            made = count;
            for page in [json!("runs"), json!(null)] {
                let first = world.ask(LIST, json!({ "page": page, "first": 500 })).await;
                let all = names(&first);
                assert_eq!((all.len(), &first["savedViews"]["totalCount"]), (count.min(500), &json!(count)));
                assert!(all.is_sorted(), "{all:?}");
                let info = &first["savedViews"]["pageInfo"];
                assert_eq!(info["hasNextPage"], count > 500);
                let rest = json!({ "page": page, "first": 500, "after": info["endCursor"] });
                let rest = if count == 0 { Vec::new() } else { names(&world.ask(LIST, rest).await) };
                let whole: BTreeSet<&String> = all.iter().chain(&rest).collect();
                assert_eq!((whole.len(), all.len() + rest.len()), (count, count));
                let end = names(&world.ask(LIST, json!({ "page": page, "last": 2 })).await);
                assert_eq!(end.last(), rest.last().or(all.last()));
            }
        }
        // Pages of odd sizes, backwards; a cursor belongs to its page of the front end.
        let (mut walked, mut before) = (Vec::new(), json!(null));
        loop {
            let page = world.ask(LIST, json!({ "page": "runs", "last": 333, "before": before })).await;
            walked.splice(0..0, names(&page));
            before = page["savedViews"]["pageInfo"]["startCursor"].clone();
            if page["savedViews"]["pageInfo"]["hasPreviousPage"] == false {
                break;
            }
        }
        assert!(walked.len() == 1_000 && walked.is_sorted());
        assert_eq!(world.refused(LIST, json!({ "page": "campaigns", "before": before })).await.0, "BAD_USER_INPUT");
        // A member has 1,000 views at most.
        let refused = world.post(SAVE, json!({ "input": { "page": "runs", "name": "One more" } })).await;
        let told = &refused["errors"][0]["extensions"];
        assert_eq!((&told["code"], &told["field"]), (&json!("LIMIT_EXCEEDED"), &json!("name")), "{refused:#}");
        world.end().await;
    }
}

both! {
    async fn twins_at_once_have_one_effect(kind) {
        let world = std::sync::Arc::new(World::new(kind).await);
        for (key, wanted) in [(Some("twin"), 12), (None, 1)] {
            let mut twins = tokio::task::JoinSet::new();
            for _ in 0..12 {
                let world = world.clone();
                let input = json!({ "page": "runs", "name": key.unwrap_or("plain"), "idempotencyKey": key });
                twins.spawn(async move { world.post(SAVE, json!({ "input": input })).await });
            }
            let (mut made, mut saved) = (BTreeSet::new(), 0);
            while let Some(answer) = twins.join_next().await {
                let answer = answer.unwrap();
                match answer["data"]["saveView"]["savedView"]["id"].as_str() {
                    Some(id) => {
                        saved += 1;
                        made.insert(id.to_owned());
                    }
                    // Without a key all but one find the name taken.
                    None => assert_eq!(answer["errors"][0]["extensions"]["code"], "CONFLICT", "{answer:#}"),
                }
            }
            assert_eq!((made.len(), saved), (1, wanted), "{key:?}");
        }
        let different = json!({ "page": "runs", "name": "another", "idempotencyKey": "twin" });
        assert_eq!(world.refused(SAVE, json!({ "input": different })).await.0, "BAD_USER_INPUT");
        assert_eq!(world.ask(LIST, json!({})).await["savedViews"]["totalCount"], 2);
        let Ok(world) = std::sync::Arc::try_unwrap(world) else { panic!("still shared") };
        world.end().await;
    }
}
