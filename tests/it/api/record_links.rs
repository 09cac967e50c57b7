//! Links between records: both directions, pages and limits, filters by links, other orgs, erased and
//! deleted records, roles, and events.

use std::collections::BTreeSet;
use std::sync::Arc;

use entity::id::RecordId;
use entity::member::Role;
use serde_json::{Value, json};
use sortie::domain::audience::record::link::{self, LinkDirection, LinksOf};
use sortie::kernel::db::dialect::Dialect;
use sortie::kernel::page::Args;
use sortie::kernel::viewer::Viewer;

use crate::harness::{Kind, World};

const LINK: &str = "mutation($input: LinkRecordsInput!) { linkRecords(input: $input) { recordLink {
    id from { id name } to { id name } role createdBy { kind name } createdAt } } }";
const UNLINK: &str = "mutation($input: UnlinkRecordsInput!) { unlinkRecords(input: $input) { deletedId } }";
const ONE: &str =
    "query($id: ID!) { recordLink(id: $id) { role } node(id: $id) { id __typename ... on RecordLink { role } } }";
const LINKS: &str = "query($id: ID!, $of: RecordLinkDirection, $roles: [String!], $first: Int, $after: String) {
    record(id: $id) { links(direction: $of, roles: $roles, first: $first, after: $after) {
        totalCount nodes { id role from { name } to { name } } pageInfo { hasNextPage endCursor } } } }";
const RECORDS: &str = "query($f: RecordFilterInput) { records(filter: $f, orderBy: { field: NAME, direction: ASC }) { totalCount nodes { name } } }";

async fn record(world: &World, kind: &str, name: &str) -> String {
    world.create("record", json!({ "kind": kind, "name": name })).await
}

async fn linked(world: &World, from: &str, to: &str, role: &str) -> Value {
    let input = json!({ "fromId": from, "toId": to, "role": role });
    world.ask(LINK, json!({ "input": input })).await["linkRecords"]["recordLink"].clone()
}

/// Extensions of the first error.
async fn refused(world: &World, query: &str, input: Value) -> Value {
    let answer = world.post(query, json!({ "input": input })).await;
    assert!(answer["errors"][0].is_object(), "{input} was not refused: {answer:#}");
    answer["errors"][0]["extensions"].clone()
}

/// A record's links at one end: the names of both records and the role of each.
async fn links(world: &World, id: &str, direction: Value) -> Vec<String> {
    let found = world.ask(LINKS, json!({ "id": id, "of": direction })).await["record"]["links"].clone();
    let nodes = found["nodes"].as_array().unwrap();
    assert_eq!(found["totalCount"], nodes.len());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let shown =
        |link: &Value| format!("{} {} {}", text(&link["from"]["name"]), text(&link["role"]), text(&link["to"]["name"]));
    nodes.iter().map(shown).collect()
}

async fn events(world: &World, kind: &str) -> Vec<Value> {
    world.ask_all_events().await.into_iter().filter(|event| event["kind"] == kind).collect()
}

both! {
    async fn records_are_linked_and_unlinked(kind) {
        let world = World::without_server(kind, None).await;
        let (lead, oak, pine) = (record(&world, "lead", "Lead").await, record(&world, "partnership", "Oak").await, record(&world, "partnership", "Pine").await);
        let first = linked(&world, &lead, &oak, "partnership").await;
        assert_eq!((&first["from"]["id"], &first["to"]["id"], &first["role"], &first["createdBy"]["kind"]), (&json!(lead), &json!(oak), &json!("partnership"), &json!("MEMBER")));
        let id = first["id"].clone();
        assert!(id.as_str().unwrap().starts_with("record_link_"));
        let one = json!({ "recordLink": { "role": "partnership" }, "node": { "id": id, "__typename": "RecordLink", "role": "partnership" } });
        assert_eq!(world.ask(ONE, json!({ "id": id })).await, one);
        // Twice is the same link, without a second event.
        assert_eq!(linked(&world, &lead, &oak, "partnership").await, first);
        assert_eq!(events(&world, "record.linked").await.len(), 1);
        // Another role, another record, the other direction are other links.
        linked(&world, &lead, &oak, "introduced_by").await;
        linked(&world, &lead, &pine, "partnership").await;
        linked(&world, &oak, &lead, "partnership").await;
        // Newest first; without a direction, those that go from the record.
        let from = ["Lead partnership Pine", "Lead introduced_by Oak", "Lead partnership Oak"];
        for direction in [Value::Null, json!("FROM")] {
            assert_eq!(links(&world, &lead, direction).await, from);
        }
        assert_eq!(links(&world, &lead, json!("TO")).await, ["Oak partnership Lead"]);
        assert_eq!(links(&world, &oak, json!("TO")).await, ["Lead introduced_by Oak", "Lead partnership Oak"]);
        assert_eq!(links(&world, &pine, json!("FROM")).await, Vec::<String>::new());
        for (roles, count) in [(json!(null), 3), (json!(["partnership"]), 2), (json!(["introduced_by", "partnership"]), 3), (json!(["nothing"]), 0), (json!([]), 0)] {
            let found = world.ask(LINKS, json!({ "id": lead, "roles": roles })).await["record"]["links"].clone();
            assert_eq!((&found["totalCount"], found["nodes"].as_array().unwrap().len()), (&json!(count), count), "{roles}");
        }
        // The events name both records; the first is the event's own.
        let told = events(&world, "record.linked").await;
        assert_eq!(told.len(), 4);
        assert_eq!((&told[0]["recordId"], &told[0]["payload"]), (&json!(lead), &json!({ "recordLinkId": id, "fromId": lead, "toId": oak, "role": "partnership" })));
        // Unlinked once.
        let input = json!({ "fromId": lead, "toId": oak, "role": "partnership" });
        assert_eq!(world.ask(UNLINK, json!({ "input": input })).await["unlinkRecords"]["deletedId"], id);
        assert_eq!(refused(&world, UNLINK, input.clone()).await["code"], "NOT_FOUND");
        assert_eq!(links(&world, &lead, json!("FROM")).await, from[..2]);
        assert_eq!(world.ask(ONE, json!({ "id": id })).await, json!({ "recordLink": null, "node": null }));
        let told = events(&world, "record.unlinked").await;
        assert_eq!((told.len(), &told[0]["payload"]["recordLinkId"], &told[0]["payload"]["role"]), (1, &id, &json!("partnership")));
        // Linked again, it is a new link.
        assert_ne!(linked(&world, &lead, &oak, "partnership").await["id"], id);
        // The revisions of the records did not move.
        let records = world.ask("{ records { nodes { revision } } }", json!({})).await;
        assert!(records["records"]["nodes"].as_array().unwrap().iter().all(|record| record["revision"] == 1));
        world.end().await;
    }
}

both! {
    async fn a_wrong_field_is_named(kind) {
        let world = World::without_server(kind, None).await;
        let (a, b) = (record(&world, "lead", "A").await, record(&world, "lead", "B").await);
        let nobody = "record_01h455vb4pex5vsknk084sn02q";
        let long = "x".repeat(41);
        for role in ["", " ", "__", "_a", "Partner", "lead → partnership", "två", "a b", "a\u{0}b", "a1", "\u{200b}", &long] {
            for query in [LINK, UNLINK] {
                let told = refused(&world, query, json!({ "fromId": a, "toId": b, "role": role })).await;
                assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!("role")), "{role:?}");
            }
        }
        for (input, code, field) in [
            (json!({ "fromId": a, "toId": a, "role": "r" }), "BAD_USER_INPUT", json!("toId")),
            (json!({ "fromId": "goal_01h455vb4pex5vsknk084sn02q", "toId": b, "role": "r" }), "BAD_USER_INPUT", json!("fromId")),
            (json!({ "fromId": a, "toId": "", "role": "r" }), "BAD_USER_INPUT", json!("toId")),
            (json!({ "fromId": a, "toId": nobody, "role": "r" }), "NOT_FOUND", Value::Null),
            (json!({ "fromId": nobody, "toId": b, "role": "r" }), "NOT_FOUND", Value::Null),
        ] {
            let told = refused(&world, LINK, input.clone()).await;
            assert_eq!((&told["code"], &told["field"]), (&json!(code), &field), "{input}");
        }
        assert_eq!(linked(&world, &a, &b, &"x".repeat(40)).await["role"], "x".repeat(40));
        assert_eq!(refused(&world, UNLINK, json!({ "fromId": b, "toId": a, "role": "x" })).await["code"], "NOT_FOUND");
        let answer = world.post(LINKS, json!({ "id": a, "roles": ["x", "Not a role"] })).await;
        assert_eq!(answer["errors"][0]["extensions"], json!({ "code": "BAD_USER_INPUT", "field": "roles[1]" }));
        assert_eq!(world.number("SELECT COUNT(*) FROM record_link").await, 1);
        world.end().await;
    }
}

/// Links the hub to orders that it is not linked to, or them to it, with SQL.
async fn fill(world: &World, hub: &str, is_from: bool, count: usize) {
    let (from, to) = if is_from { ("h.id", "r.id") } else { ("r.id", "h.id") };
    // A link has the id of the order, or one that follows it in no other table.
    let id = if is_from { "r.id" } else { "s.id" };
    world
        .force(&format!(
            "INSERT INTO record_link (id, org_id, from_id, to_id, role, created_by, created_at) \
             SELECT {id}, r.org_id, {from}, {to}, 'member', l.created_by, l.created_at FROM record r \
             JOIN record s ON s.kind = 'ticket' AND s.external_id = r.external_id \
             JOIN record h ON h.name = '{hub}' CROSS JOIN (SELECT * FROM record_link WHERE role = 'first') l \
             WHERE r.kind = 'order' AND NOT EXISTS (SELECT 1 FROM record_link o WHERE o.from_id = {from} AND o.to_id = {to}) \
             ORDER BY r.id LIMIT {count}"
        ))
        .await;
}

both! {
    async fn pages_of_any_length_up_to_the_limit(kind) {
        let world = World::without_server(kind, None).await;
        for kind in ["order", "ticket"] {
            let mut csv = String::from("external_id,name\n");
            (0..2_000).for_each(|i| csv += &format!("{i},{kind} {i}\n"));
            let file = std::io::Cursor::new(csv);
            sortie::domain::import::import(&world.db.write(), &world.viewer, kind, "x.csv", file, |_, _| {}).await.unwrap();
        }
        let (hub, target, last) = (record(&world, "lead", "Hub").await, record(&world, "lead", "Target").await, record(&world, "lead", "Last").await);
        assert_eq!(links(&world, &hub, json!("FROM")).await.len(), 0);
        let first = linked(&world, &hub, &target, "first").await;
        let mut made = 1;
        for count in [1, 499, 501, 2_000] {
            fill(&world, "Hub", true, count - made).await;
            made = count;
            let page = world.ask(LINKS, json!({ "id": hub, "first": 500 })).await["record"]["links"].clone();
            assert_eq!((page["nodes"].as_array().unwrap().len(), &page["totalCount"]), (count.min(500), &json!(count)));
            assert_eq!(page["pageInfo"]["hasNextPage"], count > 500);
            let (mut seen, mut page) = (Vec::new(), page);
            loop {
                seen.extend(page["nodes"].as_array().unwrap().iter().map(|link| link["id"].as_str().unwrap().to_owned()));
                if page["pageInfo"]["hasNextPage"] != true {
                    break;
                }
                let next = json!({ "id": hub, "first": 500, "after": page["pageInfo"]["endCursor"] });
                page = world.ask(LINKS, next).await["record"]["links"].clone();
            }
            assert!(seen.iter().rev().is_sorted(), "newest first");
            assert_eq!(BTreeSet::from_iter(&seen).len(), count);
        }
        // At the limit: from one record, and to one.
        fill(&world, "Target", false, 1_999).await;
        for (input, field) in [
            (json!({ "fromId": hub, "toId": last, "role": "r" }), "fromId"),
            (json!({ "fromId": last, "toId": target, "role": "r" }), "toId"),
        ] {
            let told = refused(&world, LINK, input.clone()).await;
            assert_eq!((&told["code"], &told["field"]), (&json!("LIMIT_EXCEEDED"), &json!(field)), "{input}");
        }
        // What is there is still found, and the other directions are free.
        assert_eq!(linked(&world, &hub, &target, "first").await["id"], first["id"]);
        linked(&world, &last, &hub, "r").await;
        linked(&world, &target, &last, "r").await;
        world.ask(UNLINK, json!({ "input": { "fromId": hub, "toId": target, "role": "first" } })).await;
        linked(&world, &hub, &last, "r").await;
        // A page of another list, and a cursor of the other direction.
        let page = world.ask(LINKS, json!({ "id": hub, "first": 1 })).await["record"]["links"].clone();
        let answer = world.post(LINKS, json!({ "id": hub, "of": "TO", "after": page["pageInfo"]["endCursor"] })).await;
        assert_eq!(answer["errors"][0]["extensions"]["field"], "after", "{answer:#}");
        // Both directions are read from an index, in its order.
        if kind == Kind::Postgres {
            world.force("ANALYZE").await;
        }
        for (direction, index) in [(LinkDirection::From, "record_link_of_from"), (LinkDirection::To, "record_link_of_to")] {
            let of = LinksOf { record_id: last.parse().unwrap(), direction, roles: Some(vec!["r".into()]) };
            let window = link::window(world.db.dialect(), &world.viewer, &of, Args::default()).unwrap();
            let plan = window.plan(world.db.read()).await.unwrap();
            let served = match kind {
                Kind::Sqlite => plan.contains(index) && !plan.contains("TEMP B-TREE"),
                Kind::Postgres => plan.contains("record_link_") && !plan.contains("Seq Scan"),
            };
            assert!(served, "{plan}");
        }
        world.end().await;
    }
}

both! {
    async fn records_are_found_by_their_links(kind) {
        let world = World::without_server(kind, None).await;
        let mut ids = Vec::new();
        for (kind, name) in [("lead", "Ann"), ("lead", "Ben"), ("lead", "Cem"), ("partnership", "Oak"), ("partnership", "Pine")] {
            ids.push(record(&world, kind, name).await);
        }
        for (from, to, role) in [(0, 3, "partnership"), (1, 3, "partnership"), (1, 4, "idea"), (3, 4, "successor")] {
            linked(&world, &ids[from], &ids[to], role).await;
        }
        let (ann, ben, oak, pine) = (&ids[0], &ids[1], &ids[3], &ids[4]);
        for (filter, expected) in [
            (json!({ "linkedFrom": { "recordIds": [ann] } }), "Oak"),
            (json!({ "linkedFrom": { "recordIds": [ann, ben] } }), "Oak Pine"),
            (json!({ "linkedFrom": { "recordIds": [ben], "roles": ["idea"] } }), "Pine"),
            (json!({ "linkedTo": { "recordIds": [oak] } }), "Ann Ben"),
            (json!({ "linkedTo": { "recordIds": [pine], "roles": ["successor", "nothing"] } }), "Oak"),
            (json!({ "linkedTo": { "recordIds": [] } }), ""),
            (json!({ "linkedTo": { "roles": [] } }), ""),
            (json!({ "linkedTo": { "roles": ["partnership"] } }), "Ann Ben"),
            (json!({ "linkedTo": { "exists": true } }), "Ann Ben Oak"),
            (json!({ "linkedTo": { "exists": false } }), "Cem Pine"),
            (json!({ "kind": { "eq": "lead" }, "linkedTo": { "roles": ["partnership"], "exists": false } }), "Cem"),
            (json!({ "kind": { "eq": "lead" }, "linkedTo": { "recordIds": [pine], "exists": false } }), "Ann Cem"),
            (json!({ "linkedTo": { "recordIds": [], "exists": false } }), "Ann Ben Cem Oak Pine"),
            (json!({ "not": { "linkedTo": { "recordIds": [oak] } } }), "Cem Oak Pine"),
            (json!({ "not": { "linkedFrom": { "exists": false } } }), "Oak Pine"),
            (json!({ "linkedFrom": { "roles": ["successor"] }, "linkedTo": { "exists": false } }), "Pine"),
            (json!({ "or": [{ "linkedFrom": { "recordIds": [oak] } }, { "name": { "eq": "Cem" } }] }), "Cem Pine"),
            (json!({ "linkedFrom": null, "linkedTo": null }), "Ann Ben Cem Oak Pine"),
        ] {
            let found = world.ask(RECORDS, json!({ "f": filter })).await["records"].clone();
            let names: Vec<&str> = found["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
            assert_eq!((names.join(" ").as_str(), &found["totalCount"]), (expected, &json!(names.len())), "{filter}");
        }
        // A segment, which follows the links.
        let partners = json!({ "name": "Partners", "filter": { "linkedFrom": { "recordIds": [ann, ben], "roles": ["partnership"] } } });
        let segment = world.create("segment", partners).await;
        let of_segment = "query($id: ID!) { segment(id: $id) { recordCount records { nodes { name } } } }";
        let found = world.ask(of_segment, json!({ "id": segment })).await["segment"].clone();
        assert_eq!(found, json!({ "recordCount": 1, "records": { "nodes": [{ "name": "Oak" }] } }));
        linked(&world, ann, pine, "partnership").await;
        assert_eq!(world.ask(of_segment, json!({ "id": segment })).await["segment"]["recordCount"], 2);
        // Wrong and empty ones are refused with their path.
        let unsubscribe = "mutation($f: RecordFilterInput!) { unsubscribeRecords(input: { filter: $f, dryRun: true }) { count } }";
        for (filter, field) in [
            (json!({ "linkedTo": {} }), "filter.linkedTo"),
            (json!({ "linkedFrom": { "recordIds": null, "roles": null } }), "filter.linkedFrom"),
            (json!({ "or": [{ "linkedFrom": { "recordIds": ["x"] } }] }), "filter.or[0].linkedFrom.recordIds"),
            (json!({ "linkedTo": { "roles": ["a", "B"] } }), "filter.linkedTo.roles[1]"),
            (json!({ "all": true, "linkedTo": { "exists": false } }), "filter.all"),
        ] {
            for query in [RECORDS, unsubscribe] {
                assert_eq!(world.field_refused(query, json!({ "f": filter })).await, field, "{filter}");
            }
        }
        let told = world.ask(unsubscribe, json!({ "f": { "linkedTo": { "recordIds": [oak] } } })).await;
        assert_eq!(told["unsubscribeRecords"]["count"], 2);
        world.end().await;
    }
}

both! {
    async fn links_go_with_their_records(kind) {
        let world = World::without_server(kind, None).await;
        let (a, b, c) = (record(&world, "contact", "A").await, record(&world, "contact", "Bertram Quill").await, record(&world, "contact", "C").await);
        for (from, to) in [(&a, &b), (&b, &c), (&c, &a), (&b, &a)] {
            linked(&world, from, to, "spouse").await;
        }
        let erase = "mutation($id: ID!) { eraseRecord(input: { id: $id, reason: \"asked\" }) { record { id } } }";
        world.ask(erase, json!({ "id": b })).await;
        // At once: his links are gone, and there are no new ones.
        assert_eq!(links(&world, &a, json!("FROM")).await, Vec::<String>::new());
        assert_eq!(links(&world, &a, json!("TO")).await, ["C spouse A"]);
        assert_eq!(links(&world, &b, json!("FROM")).await, Vec::<String>::new());
        for input in [json!({ "fromId": a, "toId": b, "role": "spouse" }), json!({ "fromId": b, "toId": c, "role": "spouse" })] {
            let told = refused(&world, LINK, input).await;
            assert_eq!((&told["code"], &told["reason"], &told["recordId"]), (&json!("CONFLICT"), &json!("RECORD_ERASED"), &json!(b)));
        }
        assert_eq!(refused(&world, UNLINK, json!({ "fromId": a, "toId": b, "role": "spouse" })).await["code"], "NOT_FOUND");
        for _ in 0..100 {
            world.tick(false).await;
            if world.number("SELECT COUNT(*) FROM record WHERE erasure_completed_at IS NOT NULL").await == 1 {
                break;
            }
            world.forget().await;
        }
        // The log says that there was a link, and no more what he was to them; that of others stays.
        let told = events(&world, "record.linked").await;
        let roles: Vec<&Value> = told.iter().map(|event| &event["payload"]["role"]).collect();
        assert_eq!(roles, ["[erased]", "[erased]", "spouse", "[erased]"]);
        assert_eq!((&told[0]["payload"]["fromId"], &told[0]["payload"]["toId"]), (&json!(a), &json!(b)));
        assert!(events(&world, "record.unlinked").await.is_empty(), "the event of the erasure stands for them");
        // A record that is deleted takes its links along.
        let delete = "mutation($id: ID!) { deleteRecord(input: { id: $id }) { deletedId } }";
        world.ask(delete, json!({ "id": a })).await;
        assert_eq!(links(&world, &c, json!("FROM")).await, Vec::<String>::new());
        assert_eq!(world.number("SELECT COUNT(*) FROM record_link").await, 0);
        world.end().await;
    }
}

both! {
    async fn roles_and_keys(kind) {
        let world = World::with_auth(kind).await;
        let (a, b) = (record(&world, "lead", "A").await, record(&world, "lead", "B").await);
        let (viewer, operator) = (world.key(Role::Viewer).await, world.key(Role::Operator).await);
        let input = json!({ "input": { "fromId": a, "toId": b, "role": "r", "idempotencyKey": "k" } });
        for query in [LINK, UNLINK] {
            let told = world.post_as(&viewer, query, input.clone()).await.1["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["needed"]), (&json!("FORBIDDEN"), &json!("OPERATOR")));
        }
        let made = world.post_as(&operator, LINK, input.clone()).await.1["data"]["linkRecords"]["recordLink"].clone();
        assert_eq!(world.post_as(&operator, LINK, input.clone()).await.1["data"]["linkRecords"]["recordLink"], made);
        let seen = world.post_as(&viewer, ONE, json!({ "id": made["id"] })).await.1;
        assert_eq!(seen["data"]["recordLink"]["role"], "r");
        // The same key with other input.
        let other = json!({ "input": { "fromId": b, "toId": a, "role": "r", "idempotencyKey": "k" } });
        assert_eq!(world.post_as(&operator, LINK, other).await.1["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
        for _ in 0..2 {
            let gone = world.post_as(&operator, UNLINK, input.clone()).await.1;
            assert_eq!(gone["data"]["unlinkRecords"]["deletedId"], made["id"], "{gone:#}");
        }
        // The audit names the link, for both.
        let audit = "query($m: [String!]) { audit(first: 9, filter: { mutations: $m, outcomes: [DONE] }) { nodes { targetId input } } }";
        for mutation in ["linkRecords", "unlinkRecords"] {
            let found = world.ask(audit, json!({ "m": [mutation] })).await["audit"]["nodes"].clone();
            assert_eq!((found.as_array().unwrap().len(), &found[0]["targetId"], &found[0]["input"]["toId"]), (1, &made["id"], &json!(b)), "{mutation}");
        }
        world.end().await;
    }
}

both! {
    async fn another_org_sees_and_links_none(kind) {
        let world = World::without_server(kind, None).await;
        let (a, b) = (record(&world, "lead", "A").await, record(&world, "lead", "B").await);
        let made = linked(&world, &a, &b, "r").await["id"].as_str().unwrap().parse().unwrap();
        let (org, _) = sortie::domain::people::org::create(&world.db.write(), "Other", "Olga", "olga@example.com").await.unwrap();
        let other = Viewer::admin_of(&world.db, org.id, "Other").await.unwrap();
        assert!(link::find(world.db.read(), &other, made).await.unwrap().is_none());
        let (a, b): (RecordId, RecordId) = (a.parse().unwrap(), b.parse().unwrap());
        for direction in [LinkDirection::From, LinkDirection::To] {
            let of = LinksOf { record_id: if direction == LinkDirection::From { a } else { b }, direction, roles: None };
            let page = link::window(world.db.dialect(), &other, &of, Args::default()).unwrap().read(world.db.read()).await.unwrap();
            assert!(page.rows.is_empty());
            let page = link::window(world.db.dialect(), &world.viewer, &of, Args::default()).unwrap().read(world.db.read()).await.unwrap();
            assert_eq!(page.rows.len(), 1);
        }
        let db = world.db.write();
        let fields = |name: &str| sortie::domain::audience::record::Fields { kind: Some("lead".into()), name: Some(name.into()), ..Default::default() };
        let theirs = sortie::domain::audience::record::create(&db, &other, &fields("Theirs")).await.unwrap().id;
        for (from, to) in [(a, b), (a, theirs), (theirs, b)] {
            for viewer in [&world.viewer, &other] {
                if viewer.org_id == world.viewer.org_id && from == a && to == b {
                    continue;
                }
                let err = link::link(&db, viewer, from, to, "r").await.unwrap_err();
                assert!(err.to_string().starts_with("there is no record"), "{err}");
                assert!(link::unlink(&db, viewer, from, to, "r").await.is_err());
            }
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM record_link").await, 1);
        world.end().await;
    }
}

both! {
    async fn callers_at_once_make_one_link_and_remove_it_once(kind) {
        let world = Arc::new(World::new(kind).await);
        let (a, b) = (record(&world, "lead", "A").await, record(&world, "lead", "B").await);
        // Both directions, so that the records are locked in both orders.
        let mut all = tokio::task::JoinSet::new();
        for i in 0..12 {
            let (world, from, to) = if i % 2 == 0 { (world.clone(), a.clone(), b.clone()) } else { (world.clone(), b.clone(), a.clone()) };
            all.spawn(async move { linked(&world, &from, &to, "r").await["id"].to_string() });
        }
        let mut made = BTreeSet::new();
        while let Some(id) = all.join_next().await {
            made.insert(id.unwrap());
        }
        assert_eq!(made.len(), 2, "{made:?}");
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'record.linked'").await, 2);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (world, input) = (world.clone(), json!({ "fromId": a, "toId": b, "role": "r" }));
            all.spawn(async move { world.post(UNLINK, json!({ "input": input })).await });
        }
        let mut done = 0;
        while let Some(answer) = all.join_next().await {
            let answer = answer.unwrap();
            match answer["errors"][0]["extensions"]["code"].as_str() {
                None => done += 1,
                code => assert_eq!(code, Some("NOT_FOUND"), "{answer:#}"),
            }
        }
        assert_eq!((done, world.number("SELECT COUNT(*) FROM event WHERE kind = 'record.unlinked'").await), (1, 1));
        let Ok(world) = Arc::try_unwrap(world) else { panic!("still shared") };
        world.end().await;
    }
}

/// Number of statements for a list of records with their links, and of links in it. On Postgres it is
/// the minimum of a few tries, because the sequencer's statements are counted as well.
async fn cost(world: &World) -> (usize, u64) {
    let query = "{ records(first: 100) { nodes { name
        links(first: 5) { totalCount nodes { role createdBy { name } from { name } to { name stage } } }
        back: links(direction: TO, roles: [\"r\"]) { totalCount nodes { from { name } } } } } }";
    let (mut found, mut least) = (0, u64::MAX);
    for _ in 0..if world.db.dialect() == Dialect::Postgres { 5 } else { 1 } {
        let before = world.db.statements();
        let data = world.ask(query, json!({})).await;
        let nodes = data["records"]["nodes"].as_array().unwrap();
        let all = nodes.iter().flat_map(|record| [&record["links"], &record["back"]]);
        found = all.map(|links| links["nodes"].as_array().unwrap().len()).sum();
        least = least.min(world.db.statements() - before);
    }
    (found, least)
}

both! {
    async fn links_of_a_list_cost_the_same_however_long(kind) {
        let world = World::without_server(kind, None).await;
        let mut ids = Vec::new();
        for i in 0..30 {
            ids.push(record(&world, "lead", &format!("Lead {i}")).await);
        }
        linked(&world, &ids[0], &ids[1], "r").await;
        linked(&world, &ids[2], &ids[1], "r").await;
        let (few, least) = cost(&world).await;
        for i in 3..29 {
            linked(&world, &ids[i], &ids[i + 1], "r").await;
            linked(&world, &ids[i], &ids[0], "s").await;
        }
        let (many, most) = cost(&world).await;
        assert!(few < many && most <= least + 1, "{least} statements for {few} links, {most} for {many}");
        world.end().await;
    }
}

both! {
    /// No link to one of no records is no condition: it would address everybody.
    async fn a_link_to_none_selects_no_objects_of_a_change(kind) {
        let world = World::without_server(kind, None).await;
        world.leads(3).await;
        for side in ["linkedFrom", "linkedTo"] {
            for links in [json!({ "recordIds": [], "exists": false }), json!({ "roles": [], "exists": false })] {
                let filter = json!({ side: links });
                let segment = "mutation($input: CreateSegmentInput!) { createSegment(input: $input) { segment { id } } }";
                let (code, told) = world.refused(segment, json!({ "input": { "name": "S", "filter": filter } })).await;
                assert!(code == "BAD_USER_INPUT" && told.contains("has no condition"), "{filter}: {told}");
                let stop = "mutation($filter: RecordFilterInput!) { unsubscribeRecords(input: { dryRun: true, filter: $filter }) { matched } }";
                let answer = world.post(stop, json!({ "filter": filter })).await;
                assert!(answer["errors"][0].is_object(), "{filter}: {answer:#}");
                let found = world.ask("query($filter: RecordFilterInput) { records(filter: $filter) { totalCount } }", json!({ "filter": filter })).await;
                assert_eq!(found["records"]["totalCount"], 3, "a list may name it");
            }
        }
        world.end().await;
    }
}
