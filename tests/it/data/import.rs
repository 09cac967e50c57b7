//! Import: the valid rows of a deliberately broken file are imported; a second import changes
//! nothing.

use serde_json::{Value, json};
use sortie::domain::import::{Options, Problem, import, import_with};

use crate::harness::World;

async fn take(world: &World, bytes: &[u8]) -> (entity::import::Model, Vec<Problem>) {
    let mut all = Vec::new();
    let options = Options {
        kind: "lead".into(),
        file: "file.csv".into(),
        types: vec!["employees=number".into()],
        ..Options::default()
    };
    let db = world.db.write();
    let report = import_with(&db, &world.viewer, &options, bytes, |_, problems| all.extend(problems.to_vec()));
    let report = report.await.unwrap();
    (report, all)
}

both! {
    async fn a_broken_file_goes_in_as_far_as_it_is_good(kind) {
        let world = World::without_server(kind, None).await;
        let dirty = std::fs::read("tests/data/leads-dirty.csv").unwrap();
        let (report, problems) = take(&world, &dirty).await;
        let told: Vec<String> = problems
            .iter()
            .map(|problem| format!("{} {} {}", problem.line, problem.column.as_deref().unwrap_or("-"), problem.why))
            .collect();
        assert_eq!(told, [
            "4 email `not-an-email` is not a mail address",
            "5 timezone `Mars/Olympus` is not a time zone like Europe/Berlin",
            "6 last_contacted_at is not a time like 2026-10-30T14:39:18Z",
            "7 external_id appears in line 2 already; the first one counts",
            "9 - has 4 cells where the header has 13",
            "10 - has 15 cells where the header has 13",
            "12 email `inject@example.com  Bcc: victim@example.com` is not a mail address",
            "15 name is not UTF-8; for a file from Windows name the encoding `windows-1252`",
            "15 company is not UTF-8; for a file from Windows name the encoding `windows-1252`",
            "17 - is longer than 65536 bytes",
            "19 phone `call me` is not a telephone number like +4930123456",
            "19 employees is not a number of at most 64 bits",
            "20 - the quote opened in line 20 is not closed: the rest was not read",
        ]);
        assert_eq!((report.created, report.updated, report.unchanged, report.bad, report.fields_left_out), (11, 0, 0, 5, 8));
        assert_eq!(report.rows, report.created + report.bad);
        let names = "{ records(orderBy: { field: NAME, direction: ASC }) { nodes { externalId name email timeZone attributes lastContactedAt revision } } }";
        let first = world.ask(names, json!({})).await;
        let nodes = first["records"]["nodes"].as_array().unwrap();
        let by = |id: &str| nodes.iter().find(|node| node["externalId"] == id).unwrap_or_else(|| panic!("{id} is not in {nodes:#?}"));
        assert_eq!(by("D-001")["name"], "Müller, Jürgen");
        assert_eq!(by("D-001")["attributes"]["company"], "Müller & Söhne \"GmbH\"");
        assert_eq!(by("D-001")["attributes"]["employees"], 12);
        assert_eq!(by("D-002")["email"], Value::Null);
        // A cell that a spreadsheet would execute as a formula stays text.
        assert_eq!(by("D-009")["name"], "=HYPERLINK(\"http://example.com\",\"x\")");
        assert_eq!(by("D-013")["lastContactedAt"], "2026-10-29T15:00:00+00:00");
        let events = world.ask_all_events().await.len();
        let (again, problems) = take(&world, &dirty).await;
        assert_eq!((again.created, again.updated, again.unchanged, problems.len()), (0, 0, 11, 13));
        assert_eq!(world.ask(names, json!({})).await, first);
        assert_eq!(world.ask_all_events().await.len(), events, "the second time changed something");
        // The report can be read afterwards.
        let report = world.ask("{ imports { totalCount nodes { bad problems(after: 12) { number line } } } }", json!({})).await;
        assert_eq!(report["imports"], json!({ "totalCount": 2, "nodes": [
            { "bad": 5, "problems": [{ "number": 13, "line": 20 }] }, { "bad": 5, "problems": [{ "number": 13, "line": 20 }] },
        ] }));
        world.end().await;
    }
}

both! {
    async fn a_contact_of_a_time_to_come_is_told_and_left_out(kind) {
        let world = World::without_server(kind, None).await;
        let soon = (world.clock.now() + chrono::Duration::hours(1)).to_rfc3339();
        let file = format!("external_id,name,employees,last_contacted_at\nA,Ann,1,{soon}\nB,Bob,1,2026-01-02T03:04:05Z\nC,Cat,1,9999-12-31T23:59:59Z\n");
        let (report, problems) = take(&world, file.as_bytes()).await;
        assert_eq!((report.created, report.fields_left_out), (3, 2));
        let told: Vec<_> = problems.iter().map(|problem| (problem.line, problem.column.as_deref(), problem.why.contains("in the future"))).collect();
        assert_eq!(told, [(2, Some("last_contacted_at"), true), (4, Some("last_contacted_at"), true)]);
        let data = world.ask("{ records(orderBy: { field: NAME, direction: ASC }) { nodes { lastContactedAt } } }", json!({})).await;
        assert_eq!(data["records"]["nodes"], json!([{ "lastContactedAt": null }, { "lastContactedAt": "2026-01-02T03:04:05+00:00" }, { "lastContactedAt": null }]));
        world.end().await;
    }
}

both! {
    async fn many_chunks_and_a_change(kind) {
        let world = World::without_server(kind, None).await;
        let csv = sortie::app::demo::leads(1_234, world.db.now());
        assert_eq!(take(&world, csv.as_bytes()).await.0.created, 1_234);
        assert_eq!(take(&world, csv.as_bytes()).await.0.unchanged, 1_234);
        let changed = csv.replace(",Dormant,", ",Awake,");
        let moved = csv.matches(",Dormant,").count() as i64;
        let report = take(&world, changed.as_bytes()).await.0;
        assert_eq!((report.updated, report.unchanged, report.bad), (moved, 1_234 - moved, 0));
        let kinds = world.ask_all_events().await;
        assert_eq!(kinds.iter().filter(|event| event["kind"] == "record.stage_changed").count() as i64, moved);
        // Input that can't be a file of records is rejected before anything is written.
        for (header, why) in [("name,phone\n", "external_id"), ("external_id,name,name\n", "name"), ("", "external_id")] {
            let refused = import(&world.db.write(), &world.viewer, "lead", "x.csv", header.as_bytes(), |_, _| {}).await.unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
        world.drop_unchecked().await;
    }
}
