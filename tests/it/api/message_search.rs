//! Messages that are found by a text: subject, recipient's name and address, in lists, live lists and
//! bulk actions; and after each change of these.

use entity::id::OrgId;
use entity::member::Role;
use serde_json::{Value, json};
use sortie::kernel::viewer::Viewer;

use crate::harness::World;
use crate::harness::socket::Socket;

const LIST: &str = "query($filter: CommunicationFilter) { communications(filter: $filter, first: 100) { totalCount nodes { id subject toName toAddress status } } }";
const EDIT: &str = "mutation($id: ID!, $subject: String) { editCommunication(input: { id: $id, subject: $subject }) { communication { subject } } }";

/// The first parts of the addresses of the messages that match, sorted.
async fn found(world: &World, filter: Value) -> String {
    let list = world.ask(LIST, json!({ "filter": filter })).await["communications"].clone();
    let nodes = list["nodes"].as_array().unwrap();
    assert_eq!(list["totalCount"], nodes.len(), "{filter}");
    let short = |node: &Value| node["toAddress"].as_str().unwrap().split('@').next().unwrap().to_owned();
    let mut all: Vec<String> = nodes.iter().map(short).collect();
    all.sort();
    all.join(" ")
}

/// A run whose drafts await their review, to records with these names and addresses.
async fn drafts(world: &World, people: &[(&str, &str)]) -> String {
    for (name, address) in people {
        let attributes = json!({ "first_name": name, "company": "Acme" });
        world
            .create("record", json!({ "kind": "lead", "name": name, "email": address, "attributes": attributes }))
            .await;
    }
    let plan = world.plan("EMAIL", 0).await;
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    world.tick(true).await;
    run
}

/// The id of the message to an address.
async fn to(world: &World, address: &str) -> String {
    let list = world.ask(LIST, json!({})).await["communications"]["nodes"].clone();
    let one = list.as_array().unwrap().iter().find(|node| node["toAddress"] == address).cloned();
    one.unwrap_or_else(|| panic!("{list:#}"))["id"].as_str().unwrap().to_owned()
}

const PEOPLE: [(&str, &str); 5] = [
    ("Anna Bell", "Anna.Bell@acme.example"),
    ("Jörg Straße", "joerg@strasse.example"),
    ("100% Off", "off_x@example.com"),
    ("Ａｃｍｅ", "wide@example.com"),
    ("Zoë", "zoe@example.com"),
];

both! {
    async fn a_text_is_found_in_subject_name_and_address(kind) {
        let world = World::without_server(kind, None).await;
        let run = drafts(&world, &PEOPLE).await;
        let all = "Anna.Bell joerg off_x wide zoe";
        for (text, wanted) in [
            ("anna bell", "Anna.Bell"),
            ("ANNA", "Anna.Bell"),
            ("anna.bell@acme", "Anna.Bell"),
            ("acme", "Anna.Bell wide"),
            ("STRASSE", "joerg"),
            ("straße", "joerg"),
            ("jo\u{308}rg", "joerg"),
            ("JÖRG", "joerg"),
            ("zoe\u{308}", "zoe"),
            ("zoe", "zoe"),
            ("100%", "off_x"),
            ("%", "off_x"),
            ("_", "off_x"),
            ("hi ", all),
            ("hi zoë", "zoe"),
            ("example.com", "off_x wide zoe"),
            ("nobody", ""),
            ("'", ""),
            ("\\", ""),
            ("\u{1f600}", ""),
            ("", all),
        ] {
            assert_eq!(found(&world, json!({ "search": text })).await, wanted, "{text}");
        }
        // With other conditions, and in the run.
        assert_eq!(found(&world, json!({ "search": "acme", "runIds": [run] })).await, "Anna.Bell wide");
        assert_eq!(found(&world, json!({ "search": "acme", "statuses": ["SENT"] })).await, "");
        assert_eq!(found(&world, json!({ "search": null })).await, all);
        let (code, told) = world.refused(LIST, json!({ "filter": { "search": "a".repeat(1_001) } })).await;
        assert_eq!((code.as_str(), told.starts_with("filter.search")), ("BAD_USER_INPUT", true), "{told}");
        // Facets keep the search.
        let counts = "query($filter: CommunicationFilter) { communications(filter: $filter) { countsByStatus { status count } } }";
        let counts = world.ask(counts, json!({ "filter": { "search": "acme", "statuses": ["SENT"] } })).await;
        let counts = counts["communications"]["countsByStatus"].as_array().unwrap();
        assert!(counts.contains(&json!({ "status": "DRAFT", "count": 2 })), "{counts:?}");
        assert_eq!(counts.iter().map(|one| one["count"].as_i64().unwrap()).sum::<i64>(), 2);
        world.end().await;
    }
}

both! {
    async fn a_search_follows_edits_and_erasure(kind) {
        let world = World::without_server(kind, None).await;
        drafts(&world, &PEOPLE).await;
        let (anna, joerg) = (to(&world, "Anna.Bell@acme.example").await, to(&world, "joerg@strasse.example").await);
        for (id, subject) in [(&anna, "Über Öl"), (&joerg, "Plain words")] {
            world.ask(EDIT, json!({ "id": id, "subject": subject })).await;
        }
        for (text, wanted) in [("über", "Anna.Bell"), ("ÖL", "Anna.Bell"), ("plain words jörg", "joerg"), ("hi anna", ""), ("hi j", "")] {
            assert_eq!(found(&world, json!({ "search": text })).await, wanted, "{text}");
        }
        world.ask(EDIT, json!({ "id": anna, "subject": "ASCII again" })).await;
        assert_eq!(found(&world, json!({ "search": "öl" })).await, "");
        assert_eq!(found(&world, json!({ "search": "ascii AGAIN anna" })).await, "Anna.Bell");
        // Nothing is left of an erased person.
        let records = world.ask("{ records(filter: { search: \"Zoë\" }) { nodes { id } } }", json!({})).await;
        let erase = "mutation($id: ID!) { eraseRecord(input: { id: $id, reason: \"r\" }) { record { id } } }";
        world.ask(erase, json!({ "id": records["records"]["nodes"][0]["id"] })).await;
        world.tick(false).await;
        assert_eq!(found(&world, json!({ "search": "zoe" })).await, "");
        assert_eq!(world.number("SELECT COUNT(*) FROM communication WHERE search LIKE '%zo%'").await, 0);
        world.end().await;
    }
}

both! {
    async fn bulk_actions_and_other_orgs(kind) {
        let world = World::with_auth(kind).await;
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let theirs = crate::harness::key(&world.db, &other, Role::Admin, None).await;
        let (status, answer) = world.post_as(&theirs, LIST, json!({ "filter": { "search": "a" } })).await;
        assert_eq!((status, &answer["data"]["communications"]["totalCount"]), (200, &json!(0)), "{answer}");
        // A blank text is no condition, one that was not sent neither.
        let start = "mutation($search: String) { startBulkAction(input: { verb: RESOLVE_COMMUNICATIONS, resolution: SENT, communicationFilter: { search: $search }, dryRun: true }) { dryRun { matched } } }";
        for variables in [json!({}), json!({ "search": null }), json!({ "search": " " })] {
            let (code, told) = world.refused(start, variables.clone()).await;
            assert_eq!((code.as_str(), told.starts_with("communicationFilter")), ("BAD_USER_INPUT", true), "{variables}: {told}");
        }
        assert_eq!(world.ask(start, json!({ "search": "x" })).await["startBulkAction"]["dryRun"]["matched"], 0);
        world.end().await;
    }
}

both! {
    async fn a_live_list_by_a_text(kind) {
        let world = World::new(kind).await;
        let mut socket = Socket::open(world.address).await;
        let live = "subscription { communicationList(filter: { search: \"jörg\" }) { kind nodes { toName } left } }";
        socket.subscribe("live", live, json!({})).await;
        let first = socket.next().await["communicationList"].clone();
        assert_eq!((&first["kind"], &first["nodes"]), (&json!("SNAPSHOT"), &json!([])));
        for (name, address) in [("JÖRG", "j@example.com"), ("Ann", "a@example.com")] {
            world.create("record", json!({ "kind": "lead", "name": name, "email": address, "attributes": { "first_name": "F", "company": "C" } })).await;
        }
        let plan = world.plan("EMAIL", 0).await;
        world.activate(&plan).await;
        world.launch(&plan).await;
        let next = socket.next().await["communicationList"].clone();
        assert_eq!(next["nodes"], json!([{ "toName": "JÖRG" }]), "{next}");
        world.end().await;
    }
}
