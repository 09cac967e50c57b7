//! Looking back: the campaigns that use a goal, a segment, a template, a writer or a reviewer; runs
//! and outcomes of a goal; records of a segment; the filters and counts that belong to them.

use chrono::Duration;
use entity::id::OrgId;
use serde_json::{Value, json};
use sortie::graphql::with_viewer;
use sortie::kernel::db::dialect::Dialect;
use sortie::kernel::viewer::Viewer;

use crate::harness::{World, noon};

/// The nouns that campaigns use: field of the campaign's input, of the filter, and root field.
const PARTS: [(&str, &str, &str); 5] = [
    ("goalId", "goalIds", "goal"),
    ("segmentId", "segmentIds", "segment"),
    ("writerId", "writerIds", "writer"),
    ("reviewerId", "reviewerIds", "reviewer"),
    ("messageTemplateId", "messageTemplateIds", "messageTemplate"),
];

/// Names of a list's nodes, in order, joined by spaces.
fn names(list: &Value) -> String {
    let nodes = list["nodes"].as_array().unwrap_or_else(|| panic!("no list: {list:#}"));
    nodes.iter().map(|node| node["name"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// Creates one part of each noun, with a name.
async fn parts(world: &World, name: &str) -> [String; 5] {
    [
        world.create("goal", json!({ "name": name })).await,
        world.create("segment", json!({ "name": name, "filter": { "kind": { "eq": "lead" } } })).await,
        world.create("writer", json!({ "name": name })).await,
        world.create("reviewer", json!({ "name": name })).await,
        world.create("messageTemplate", json!({ "name": name, "subject": "s", "body": "b" })).await,
    ]
}

/// Creates six campaigns, an hour apart: A, C and E use the first parts, B and D the second ones, F
/// none. Returns both sets of parts, and the campaigns.
async fn campaigns(world: &World) -> ([String; 5], [String; 5], Vec<String>) {
    let (one, two) = (parts(world, "One").await, parts(world, "Two").await);
    let mut ids = Vec::new();
    for (i, name) in ["A", "B", "C", "D", "E", "F"].into_iter().enumerate() {
        world.clock.set(noon() + Duration::hours(i as i64));
        let mut input = json!({ "name": name, "channel": if i == 4 { "SMS" } else { "EMAIL" } });
        for (nth, (field, ..)) in PARTS.into_iter().enumerate().filter(|_| i < 5) {
            input[field] = json!(if i % 2 == 0 { &one[nth] } else { &two[nth] });
        }
        ids.push(world.create("campaign", input).await);
    }
    (one, two, ids)
}

/// Runs a query as a viewer of another org.
async fn ask_as(world: &World, viewer: &Viewer, query: &str, variables: Value) -> Value {
    let schema = sortie::graphql::schema(Some(world.db.clone()));
    let request = async_graphql::Request::new(query).variables(async_graphql::Variables::from_json(variables));
    let request = with_viewer(request, &world.db, viewer);
    let answer = serde_json::to_value(sortie::graphql::batching::execute(&schema, request).await).unwrap();
    assert!(answer.get("errors").is_none(), "{query}: {answer:#}");
    answer["data"].clone()
}

const LIST: &str = "query($f: CampaignFilter) { campaigns(filter: $f, orderBy: { field: NAME, direction: ASC }) { totalCount nodes { name } } }";

both! {
    async fn campaigns_are_filtered_by_what_they_use(kind) {
        let world = World::without_server(kind, None).await;
        let (one, two, ids) = campaigns(&world).await;
        let mut cases = Vec::new();
        for (nth, (_, filter, _)) in PARTS.into_iter().enumerate() {
            cases.push((json!({ filter: [one[nth]] }), "A C E"));
            cases.push((json!({ filter: [one[nth], two[nth], one[nth]] }), "A B C D E"));
            cases.push((json!({ filter: [] }), ""));
            cases.push((json!({ filter: null }), "A B C D E F"));
        }
        cases.extend([
            (json!({ "ids": [ids[1], ids[5]] }), "B F"),
            (json!({ "ids": [] }), ""),
            (json!({ "ids": [ids[0], ids[1]], "goalIds": [one[0]] }), "A"),
            (json!({ "goalIds": [one[0]], "writerIds": [two[2]] }), ""),
            (json!({ "goalIds": [one[0]], "channels": ["SMS"], "statuses": ["DRAFT"], "search": "e" }), "E"),
            (json!({ "goalIds": [one[0]], "statuses": [] }), ""),
            (json!({ "createdAt": { "from": "2026-11-02T13:00:00Z", "to": "2026-11-02T15:00:00Z" } }), "B C"),
            (json!({ "createdAt": { "to": "2026-11-02T13:00:00Z" } }), "A"),
            (json!({ "createdAt": { "from": "2026-11-02T16:00:00Z" }, "segmentIds": [one[1]] }), "E"),
        ]);
        for (filter, wanted) in cases {
            let found = world.ask(LIST, json!({ "f": filter })).await["campaigns"].clone();
            assert_eq!(names(&found), wanted, "{filter}");
            assert_eq!(found["totalCount"], wanted.split_whitespace().count(), "{filter}");
        }
        // The period of the last change, and the order by it.
        world.clock.set(noon() + Duration::hours(10));
        let update = "mutation($id: ID!) { updateCampaign(input: { id: $id, description: \"changed\" }) { campaign { id } } }";
        world.ask(update, json!({ "id": ids[2] })).await;
        let changed = world.ask(LIST, json!({ "f": { "updatedAt": { "from": "2026-11-02T18:00:00Z" } } })).await;
        assert_eq!(names(&changed["campaigns"]), "C");
        let latest = "{ campaigns(first: 2, orderBy: { field: UPDATED_AT, direction: DESC }) { nodes { name } } }";
        assert_eq!(names(&world.ask(latest, json!({})).await["campaigns"]), "C F");
        for (filter, code, at) in [
            (json!({ "goalIds": [one[1]] }), "BAD_USER_INPUT", "filter.goalIds"),
            (json!({ "messageTemplateIds": ["x"] }), "BAD_USER_INPUT", "filter.messageTemplateIds"),
            (json!({ "ids": vec![&ids[0]; 501] }), "LIMIT_EXCEEDED", "filter.ids"),
            (json!({ "createdAt": {} }), "BAD_USER_INPUT", "filter.createdAt"),
            (json!({ "updatedAt": { "from": null } }), "BAD_USER_INPUT", "filter.updatedAt"),
        ] {
            let (found, message) = world.refused(LIST, json!({ "f": filter })).await;
            assert_eq!((found.as_str(), message.starts_with(at)), (code, true), "{filter}: {message}");
        }
        world.end().await;
    }
}

both! {
    async fn each_part_lists_its_campaigns(kind) {
        let world = World::without_server(kind, None).await;
        let (one, two, _) = campaigns(&world).await;
        for (nth, (_, filter, noun)) in PARTS.into_iter().enumerate() {
            let query = format!(
                "query($id: ID!, $f: CampaignFilter, $by: CampaignOrder, $first: Int, $after: String, $last: Int, $before: String) {{ \
                 {noun}(id: $id) {{ campaigns(filter: $f, orderBy: $by, first: $first, after: $after, last: $last, before: $before) {{ \
                 totalCount nodes {{ name }} pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }} }}"
            );
            let list = async |mut variables: Value| {
                variables["id"] = variables.get("id").cloned().unwrap_or_else(|| json!(one[nth]));
                world.ask(&query, variables).await[noun]["campaigns"].clone()
            };
            assert_eq!(names(&list(json!({})).await), "E C A", "{noun}: newest first");
            assert_eq!(names(&list(json!({ "id": two[nth] })).await), "D B");
            // Its own condition stands, whatever the filter says.
            assert_eq!(names(&list(json!({ "f": { filter: [two[nth]] } })).await), "E C A", "{noun}");
            assert_eq!(names(&list(json!({ "f": { "channels": ["SMS"] } })).await), "E");
            assert_eq!(names(&list(json!({ "f": { "ids": [] } })).await), "");
            for (field, wanted) in [("NAME", ["A", "C", "E"]), ("CREATED_AT", ["A", "C", "E"]), ("UPDATED_AT", ["A", "C", "E"])] {
                for descending in [false, true] {
                    let by = json!({ "field": field, "direction": if descending { "DESC" } else { "ASC" } });
                    let mut wanted = wanted.to_vec();
                    if descending {
                        wanted.reverse();
                    }
                    let first = list(json!({ "by": by, "first": 2 })).await;
                    assert_eq!((names(&first), &first["totalCount"]), (wanted[..2].join(" "), &json!(3)));
                    assert_eq!(first["pageInfo"]["hasNextPage"], true);
                    let rest = list(json!({ "by": by, "first": 2, "after": first["pageInfo"]["endCursor"] })).await;
                    assert_eq!((names(&rest), &rest["pageInfo"]["hasNextPage"]), (wanted[2].to_owned(), &json!(false)));
                    let back = list(json!({ "by": by, "last": 2, "before": rest["pageInfo"]["startCursor"] })).await;
                    assert_eq!((names(&back), &back["pageInfo"]["hasPreviousPage"]), (wanted[..2].join(" "), &json!(false)));
                    let end = list(json!({ "by": by, "last": 1 })).await;
                    assert_eq!((names(&end), &end["pageInfo"]["hasPreviousPage"]), (wanted[2].to_owned(), &json!(true)));
                }
            }
        }
        world.end().await;
    }
}

both! {
    async fn another_orgs_ids_find_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let parts = world.ask("query($id: ID!) { campaign(id: $id) { goal { id } segment { id } writer { id } reviewer { id } messageTemplate { id } } }", json!({ "id": plan.campaign })).await["campaign"].clone();
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let count = async |query: &str, filter: Value| ask_as(&world, &other, query, json!({ "f": filter })).await["list"]["totalCount"].clone();
        let list = "query($f: CampaignFilter) { list: campaigns(filter: $f) { totalCount } }";
        for (_, filter, noun) in PARTS {
            assert_eq!(count(list, json!({ filter: [parts[noun]["id"]] })).await, 0, "{noun}");
            let found = ask_as(&world, &other, &format!("query($id: ID!) {{ {noun}(id: $id) {{ campaigns {{ totalCount }} }} }}"), json!({ "id": parts[noun]["id"] })).await;
            assert_eq!(found[noun], Value::Null);
        }
        assert_eq!(count(list, json!({ "ids": [plan.campaign] })).await, 0);
        let runs = "query($f: RunFilter) { list: runs(filter: $f) { totalCount } }";
        for filter in [json!({ "goalIds": [parts["goal"]["id"]] }), json!({ "ids": [run] })] {
            assert_eq!(count(runs, filter.clone()).await, 0, "{filter}");
        }
        // A segment of another org has no records, and neither its own nor the viewer's are shown.
        ask_as(&world, &other, "mutation { createRecord(input: { kind: \"lead\", name: \"Theirs\" }) { record { id } } }", json!({})).await;
        let records = "query($f: RecordFilterInput) { list: records(filter: $f) { totalCount } }";
        let segment = json!({ "segmentIds": [parts["segment"]["id"]] });
        assert_eq!(count(records, segment.clone()).await, 0);
        assert_eq!(count(records, json!({ "not": segment })).await, 1);
        world.end().await;
    }
}

both! {
    async fn a_goal_knows_its_runs_and_outcomes(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let goal = world.ask("query($id: ID!) { campaign(id: $id) { goal { id } } }", json!({ "id": plan.campaign })).await["campaign"]["goal"]["id"].clone();
        let sent = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&sent).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        world.until_run(&sent, "COMPLETED").await;
        let open = world.launch(&plan).await;
        world.tick(true).await;
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, sample: 1 }) { run { id } } }";
        let test = world.ask(test, json!({ "id": plan.campaign })).await["testRunCampaign"]["run"]["id"].clone();
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2027-01-01T00:00:00Z\" }) { run { id } } }";
        let scheduled = world.ask(schedule, json!({ "id": plan.campaign })).await["scheduleCampaign"]["run"]["id"].clone();
        let query = "query($id: ID!, $f: RunFilter) { goal(id: $id) {
            runs(filter: $f, orderBy: { field: CREATED_AT, direction: ASC }) { totalCount nodes { id } countsByStatus { status count } }
            outcomes { runsByStatus { status count } recipientsByOutcome { outcome count } } } }";
        let counts = |list: &Value, name: &str| -> Vec<(String, i64)> {
            let each = list.as_array().unwrap().iter().filter(|one| one["count"] != 0);
            each.map(|one| (one[name].as_str().unwrap_or("open").to_owned(), one["count"].as_i64().unwrap())).collect()
        };
        let found = world.ask(query, json!({ "id": goal })).await["goal"].clone();
        let ids: Vec<&Value> = found["runs"]["nodes"].as_array().unwrap().iter().map(|run| &run["id"]).collect();
        assert_eq!(ids, [&json!(sent), &json!(open), &test, &scheduled]);
        assert_eq!(found["runs"]["totalCount"], 4);
        let pairs = |pairs: &[(&str, i64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>();
        // Test runs are in the list, but do not count.
        let runs = counts(&found["outcomes"]["runsByStatus"], "status");
        assert_eq!(runs, pairs(&[("SCHEDULED", 1), ("IN_PROGRESS", 1), ("COMPLETED", 1)]), "{found:#}");
        let recipients = counts(&found["outcomes"]["recipientsByOutcome"], "outcome");
        assert_eq!(recipients, pairs(&[("SENT", 3), ("open", 3)]), "{found:#}");
        let only = json!({ "id": goal, "f": { "types": ["RUN"], "statuses": ["COMPLETED"], "goalIds": [] } });
        let only = world.ask(query, only).await["goal"]["runs"].clone();
        assert_eq!((&only["totalCount"], &only["nodes"]), (&json!(1), &json!([{ "id": sent }])));
        assert_eq!(counts(&only["countsByStatus"], "status"), pairs(&[("IN_PROGRESS", 1), ("COMPLETED", 1)]), "without the chosen status");

        // The campaign gets another goal: its runs keep theirs, and so do their repetitions.
        let next = world.create("goal", json!({ "name": "Next" })).await;
        world.ask("mutation($id: ID!, $goal: ID!) { updateCampaign(input: { id: $id, goalId: $goal }) { campaign { id } } }", json!({ "id": plan.campaign, "goal": next })).await;
        world.act("approveCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let repeat = "mutation($id: ID!) { repeatRun(input: { id: $id, evenIfOpen: true }) { run { id } } }";
        let again = world.ask(repeat, json!({ "id": sent })).await["repeatRun"]["run"]["id"].clone();
        let later = world.launch(&plan).await;
        let total = async |goal: &Value| {
            let list = world.ask("query($f: RunFilter) { runs(filter: $f) { totalCount } }", json!({ "f": { "goalIds": [goal] } })).await;
            let below = world.ask(query, json!({ "id": goal })).await["goal"]["runs"]["totalCount"].clone();
            assert_eq!(list["runs"]["totalCount"], below);
            below
        };
        assert_eq!((total(&goal).await, total(&json!(next)).await), (json!(5), json!(1)));
        // A run that falls due is launched with what its campaign has then, unless another is open.
        for run in [json!(open), again, json!(later)] {
            world.act("cancelRun", "run", json!({ "id": run })).await;
        }
        world.tick(true).await;
        world.clock.set("2027-01-01T00:00:01Z".parse().unwrap());
        world.tick(false).await;
        assert_eq!((total(&goal).await, total(&json!(next)).await), (json!(4), json!(2)));
        let unused = world.create("goal", json!({ "name": "Unused" })).await;
        let unused = world.ask(query, json!({ "id": unused })).await["goal"].clone();
        assert_eq!(unused["runs"]["totalCount"], 0);
        assert!(counts(&unused["outcomes"]["runsByStatus"], "status").is_empty());
        assert_eq!(unused["outcomes"]["recipientsByOutcome"].as_array().unwrap().len(), 7);
        world.end().await;
    }
}

both! {
    async fn a_segment_lists_its_records(kind) {
        let world = World::without_server(kind, None).await;
        let mut ids = Vec::new();
        for (name, of, stage) in [("A", "lead", "New"), ("B", "lead", "Won"), ("C", "contact", "New"), ("D", "lead", "New")] {
            ids.push(world.create("record", json!({ "kind": of, "name": name, "stage": stage })).await);
        }
        let leads = world.create("segment", json!({ "name": "Leads", "filter": { "kind": { "eq": "lead" } } })).await;
        let listed = world.create("segment", json!({ "name": "Listed", "recordIds": [ids[1], ids[2]] })).await;
        let empty = world.create("segment", json!({ "name": "Empty", "recordIds": [] })).await;
        let query = "query($id: ID!, $f: RecordFilterInput, $by: RecordOrder, $first: Int, $after: String, $last: Int, $before: String) { segment(id: $id) {
            recordCount records(filter: $f, orderBy: $by, first: $first, after: $after, last: $last, before: $before) { totalCount nodes { name } pageInfo { startCursor endCursor } } } }";
        let list = async |variables: Value| world.ask(query, variables).await["segment"]["records"].clone();
        for (variables, wanted) in [
            (json!({ "id": leads }), "D B A"),
            (json!({ "id": listed }), "C B"),
            (json!({ "id": empty }), ""),
            (json!({ "id": leads, "f": { "stage": { "eq": "New" } } }), "D A"),
            (json!({ "id": leads, "f": { "segmentIds": [listed] } }), "D B A"),
            (json!({ "id": leads, "f": { "and": [{ "segmentIds": [listed] }] } }), "B"),
            (json!({ "id": leads, "f": { "ids": [] } }), ""),
            (json!({ "id": listed, "by": { "field": "NAME", "direction": "ASC" } }), "B C"),
        ] {
            let found = list(variables.clone()).await;
            assert_eq!(names(&found), wanted, "{variables}");
            assert_eq!(found["totalCount"], wanted.split_whitespace().count(), "{variables}");
        }
        let first = list(json!({ "id": leads, "first": 2 })).await;
        let rest = list(json!({ "id": leads, "first": 2, "after": first["pageInfo"]["endCursor"] })).await;
        let back = list(json!({ "id": leads, "last": 2, "before": rest["pageInfo"]["startCursor"] })).await;
        assert_eq!([names(&first), names(&rest), names(&back)], ["D B", "A", "D B"]);
        // The same as a condition of the list of all records, and of a preview.
        let records = "query($f: RecordFilterInput!) { records(filter: $f, orderBy: { field: NAME, direction: ASC }) { totalCount nodes { name } } previewSegment(filter: $f) { count sample { name } } }";
        let gone = "segment_01h455vb4pex5vsknk084sn02q";
        for (filter, wanted) in [
            (json!({ "segmentIds": [leads] }), "A B D"),
            (json!({ "segmentIds": [listed, leads] }), "A B C D"),
            (json!({ "segmentIds": [] }), ""),
            (json!({ "segmentIds": [gone] }), ""),
            (json!({ "segmentIds": [gone, listed] }), "B C"),
            (json!({ "segmentIds": [leads], "stage": { "eq": "Won" } }), "B"),
            (json!({ "not": { "segmentIds": [leads] } }), "C"),
            (json!({ "or": [{ "segmentIds": [listed] }, { "name": { "eq": "A" } }] }), "A B C"),
            (json!({ "segmentIds": [leads], "ids": [ids[0], ids[2]] }), "A"),
        ] {
            let found = world.ask(records, json!({ "f": filter })).await;
            assert_eq!(names(&found["records"]), wanted, "{filter}");
            let count = wanted.split_whitespace().count();
            assert_eq!((&found["records"]["totalCount"], &found["previewSegment"]["count"]), (&json!(count), &json!(count)), "{filter}");
        }
        for (filter, code, at) in [
            (json!({ "segmentIds": [ids[0]] }), "BAD_USER_INPUT", "filter.segmentIds"),
            (json!({ "not": { "segmentIds": vec![&leads; 21] } }), "LIMIT_EXCEEDED", "filter.not.segmentIds"),
        ] {
            let (found, message) = world.refused(records, json!({ "f": filter })).await;
            assert_eq!((found.as_str(), message.starts_with(at)), (code, true), "{filter}: {message}");
        }
        // A filter that is saved, or selects records for a change, names no segments.
        let named = json!({ "f": { "or": [{ "segmentIds": [leads] }] } });
        for mutation in [
            "mutation($f: RecordFilterInput!) { createSegment(input: { name: \"Of\", filter: $f }) { segment { id } } }",
            "mutation($f: RecordFilterInput!) { unsubscribeRecords(input: { filter: $f }) { count } }",
        ] {
            let (code, message) = world.refused(mutation, named.clone()).await;
            assert_eq!((code.as_str(), message.starts_with("filter.or[0].segmentIds")), ("BAD_USER_INPUT", true), "{message}");
        }
        world.end().await;
    }
}

both! {
    async fn messages_are_counted_by_status_while_one_is_chosen(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        let first = world.ask("query($id: ID!) { run(id: $id) { communications(first: 1) { nodes { id } } } }", json!({ "id": run })).await["run"]["communications"]["nodes"][0]["id"].clone();
        world.ask("mutation($id: ID!) { rejectCommunication(input: { id: $id, reason: \"no\" }) { communication { id } } }", json!({ "id": first })).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        let counts = |list: &Value| -> Vec<(String, i64)> {
            let each = list["countsByStatus"].as_array().unwrap().iter().filter(|one| one["count"] != 0);
            each.map(|one| (one["status"].as_str().unwrap().to_owned(), one["count"].as_i64().unwrap())).collect()
        };
        let all = world.ask("{ communications(first: 1) { totalCount countsByStatus { status count } } }", json!({})).await["communications"].clone();
        let wanted = counts(&all);
        assert_eq!((&all["totalCount"], wanted.iter().map(|(_, count)| count).sum::<i64>()), (&json!(3), 3));
        assert!(wanted.contains(&("SENT".to_owned(), 2)), "{all:#}");
        assert_eq!(all["countsByStatus"].as_array().unwrap().len(), entity::CommunicationStatus::all().len());
        let query = "query($id: ID!, $campaign: ID!, $record: ID!) {
            chosen: communications(filter: { runIds: [$id], statuses: [SENT] }) { totalCount countsByStatus { status count } }
            none: communications(filter: { runIds: [], statuses: [SENT] }) { totalCount countsByStatus { status count } }
            run(id: $id) { communications(statuses: [SENT]) { totalCount countsByStatus { status count } } }
            campaign(id: $campaign) { communications { totalCount countsByStatus { status count } } }
            record(id: $record) { communications { totalCount countsByStatus { status count } } } }";
        let found = world.ask(query, json!({ "id": run, "campaign": plan.campaign, "record": plan.records[0] })).await;
        for (list, total) in [(&found["chosen"], 2), (&found["run"]["communications"], 2), (&found["campaign"]["communications"], 3)] {
            assert_eq!((&list["totalCount"], counts(list)), (&json!(total), wanted.clone()), "{found:#}");
        }
        assert!(counts(&found["none"]).is_empty());
        assert_eq!(counts(&found["record"]["communications"]).len(), 1);
        world.end().await;
    }
}

/// Number of statements of a query; the minimum of a few tries on Postgres, where the sequencer's
/// statements are counted as well.
async fn cost(world: &World, query: &str, variables: &Value) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..if world.db.dialect() == Dialect::Postgres { 5 } else { 1 } {
        let before = world.db.statements();
        world.ask(query, variables.clone()).await;
        least = least.min(world.db.statements() - before);
    }
    least
}

both! {
    async fn lists_below_many_parts_cost_as_much_as_below_two(kind) {
        let world = World::without_server(kind, None).await;
        let leads = world.leads(3).await;
        let mut any = String::new();
        for i in 0..6 {
            let parts = parts(&world, &format!("Part {i}")).await;
            // Some segments have lists, others filters of different shapes.
            let segment = match i % 3 {
                0 => json!({ "name": "List", "recordIds": [leads[0]] }),
                1 => json!({ "name": "New", "filter": { "stage": { "eq": "New" } } }),
                _ => json!({ "name": "Old", "filter": { "or": [{ "lastContactedAt": { "olderThan": "14d" } }, { "kind": { "eq": "lead" } }] } }),
            };
            any = world.create("segment", segment).await;
            for name in ["one", "two"] {
                let mut input = json!({ "name": name });
                for (nth, (field, ..)) in PARTS.into_iter().enumerate() {
                    input[field] = json!(parts[nth]);
                }
                world.create("campaign", input).await;
            }
        }
        let list = "campaigns(filter: $f, orderBy: { field: NAME, direction: ASC }, first: 1) { totalCount nodes { name } }";
        let runs = "runs(filter: { types: [RUN] }, first: 1) { totalCount countsByStatus { count } nodes { name } } outcomes { runsByStatus { count } recipientsByOutcome { count } }";
        let records = "records(filter: { and: [{ segmentIds: [$any] }] }, last: 1) { totalCount nodes { name } }";
        for (nouns, more) in [("goals", runs), ("segments", records), ("writers", ""), ("reviewers", ""), ("messageTemplates", "")] {
            let declared = if nouns == "segments" { ", $any: ID!" } else { "" };
            let query = format!("query($first: Int!, $f: CampaignFilter{declared}) {{ {nouns}(first: $first) {{ nodes {{ {list} {more} }} }} }}");
            let variables = |first: i32| {
                let mut variables = json!({ "first": first, "f": { "statuses": ["DRAFT"] } });
                if nouns == "segments" {
                    variables["any"] = json!(any);
                }
                variables
            };
            let (few, many) = (cost(&world, &query, &variables(2)).await, cost(&world, &query, &variables(12)).await);
            assert!(many <= few + 1, "{query}: {few} statements for 2, {many} for all");
            let found = world.ask(&query, variables(12)).await[nouns]["nodes"].clone();
            let used: Vec<&Value> = found.as_array().unwrap().iter().filter(|one| one["campaigns"]["totalCount"] != 0).collect();
            assert_eq!(used.len(), 6, "{found:#}");
            assert!(used.iter().all(|one| one["campaigns"] == json!({ "totalCount": 2, "nodes": [{ "name": "one" }] })), "{found:#}");
        }
        world.end().await;
    }
}

both! {
    async fn the_queries_of_the_page_work(kind) {
        let world = World::without_server(kind, None).await;
        let (one, ..) = campaigns(&world).await;
        let page = std::fs::read_to_string("docs/api.md").unwrap();
        let section = page.split("\n## What uses an object\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let queries: Vec<&str> = section.split("```graphql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert_eq!(queries.len(), 2);
        let mut found = Vec::new();
        for query in queries {
            let query = query.replace("GOAL_ID", &one[0]).replace("SEGMENT_ID", &one[1]).replace("TEMPLATE_ID", &one[4]);
            found.push(world.ask(&query, json!({})).await);
        }
        assert_eq!((names(&found[0]["goals"]), names(&found[0]["segments"])), ("Two One".to_owned(), "Two One".to_owned()));
        assert_eq!(names(&found[0]["messageTemplates"]["nodes"][1]["campaigns"]), "E C A");
        assert_eq!(names(&found[1]["campaigns"]), "E C A");
        world.end().await;
    }
}
