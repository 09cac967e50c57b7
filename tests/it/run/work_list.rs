//! The work list: which steps can be begun now, what is due first, and what is found by a text.

use std::collections::BTreeSet;

use chrono::Duration;
use entity::id::OrgId;
use entity::member::Role;
use serde_json::{Value, json};
use sortie::domain::run::step::StepFilter;
use sortie::domain::run::step::list::{self as steps, Sort, SortBy};
use sortie::kernel::page::Args;
use sortie::kernel::viewer::Viewer;

use crate::harness::{Kind, World, noon};

const LIST: &str =
    "query($filter: StepFilter, $by: StepOrder, $first: Int, $after: String, $last: Int, $before: String) {
    steps(filter: $filter, orderBy: $by, first: $first, after: $after, last: $last, before: $before) {
        totalCount nodes { id key name status dueAt assignedTo availableActions { action allowed } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

fn by(field: &str, direction: &str) -> Value {
    json!({ "field": field, "direction": direction })
}

async fn list(world: &World, filter: Value) -> Vec<Value> {
    let found = world.ask(LIST, json!({ "filter": filter, "first": 100 })).await["steps"].clone();
    let nodes = found["nodes"].as_array().unwrap().clone();
    assert_eq!(found["totalCount"], nodes.len(), "{filter}");
    nodes
}

/// The keys of the steps that match, sorted.
async fn keys(world: &World, filter: Value) -> String {
    let mut keys: Vec<String> =
        list(world, filter).await.iter().map(|step| step["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys.join(" ")
}

/// The keys of the steps that can be begun, after checking them against the actions that are offered.
async fn ready(world: &World) -> String {
    let ids =
        |steps: &[Value]| steps.iter().map(|step| step["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    let all = list(world, json!({})).await;
    let (yes, no) = (list(world, json!({ "ready": true })).await, list(world, json!({ "ready": false })).await);
    assert!(ids(&yes).is_disjoint(&ids(&no)));
    assert_eq!(&ids(&yes) | &ids(&no), ids(&all));
    for step in all.iter().filter(|step| step["assignedTo"] == "HUMAN") {
        let actions = step["availableActions"].as_array().unwrap();
        let start = actions.iter().find(|action| action["action"] == "START").unwrap();
        assert_eq!(ids(&yes).contains(step["id"].as_str().unwrap()), start["allowed"] == true, "{step:#}");
    }
    keys(world, json!({ "ready": true })).await
}

/// A run with people's and agents' steps that wait for each other, an event, a time, a task and a phase.
async fn work(world: &World) -> (String, Vec<String>) {
    let human =
        |key: &str, trigger: &str| json!({ "key": key, "type": "look", "assignedTo": "HUMAN", "trigger": trigger });
    let mut first = human("a", "manual");
    first["dueIn"] = json!("2d");
    let agent = json!({ "key": "g", "type": "look_up", "assignedTo": "AGENT", "agent": "bot", "trigger": "immediate" });
    let phases = json!([
        { "key": "one", "autonomous": false, "tasks": [
            { "key": "t1", "steps": [first, human("b", "after:a"), human("c", "immediate"), human("d", "event:payment.received")] },
            { "key": "t2", "dependsOn": ["t1"], "steps": [human("e", "manual")] },
            { "key": "t3", "steps": [human("f", "delay:1h"), agent] },
        ] },
        { "key": "two", "autonomous": false, "tasks": [{ "key": "t4", "steps": [human("h", "manual")] }] },
    ]);
    let manifest =
        json!({ "agents": [{ "name": "bot" }], "runTemplates": [{ "key": "work", "name": "Work", "phases": phases }] });
    world.apply(&manifest.to_string()).await;
    let leads = world.leads(2).await;
    let run = world.fly("work", json!({ "recordId": leads[0] })).await;
    world.tick(false).await;
    (run, leads)
}

async fn campaign_of(world: &World, run: &str) -> String {
    let found = world.ask("query($id: ID!) { run(id: $id) { campaign { id } } }", json!({ "id": run })).await;
    found["run"]["campaign"]["id"].as_str().unwrap().to_owned()
}

both! {
    async fn steps_that_can_be_begun_now_are_those_that_start_allows(kind) {
        let world = World::without_server(kind, None).await;
        let (run, _) = work(&world).await;
        let campaign = campaign_of(&world, &run).await;
        let steps = world.steps(&run).await;
        let id = |key: &str| steps[key]["id"].as_str().unwrap().to_owned();
        assert_eq!(ready(&world).await, "a c g");
        world.act("pauseRun", "run", json!({ "id": run })).await;
        assert_eq!(ready(&world).await, "");
        world.act("resumeRun", "run", json!({ "id": run })).await;
        world.act("pauseCampaign", "campaign", json!({ "id": campaign })).await;
        assert_eq!(ready(&world).await, "");
        world.act("resumeCampaign", "campaign", json!({ "id": campaign })).await;
        world.step_act("startStep", &id("a"), json!({})).await;
        assert_eq!(ready(&world).await, "c g");
        world.step_act("completeStep", &id("a"), json!({})).await;
        assert_eq!(ready(&world).await, "b c g");
        // The passing of time alone.
        world.clock.set(noon() + Duration::minutes(59));
        assert_eq!(ready(&world).await, "b c g");
        world.clock.set(noon() + Duration::hours(1));
        assert_eq!(ready(&world).await, "b c f g");
        for key in ["b", "c"] {
            world.step_act("startStep", &id(key), json!({})).await;
            world.step_act("completeStep", &id(key), json!({})).await;
        }
        world.step_act("skipStep", &id("d"), json!({ "reason": "not needed" })).await;
        // The task before it is done.
        assert_eq!(ready(&world).await, "e f g");
        for (key, verb) in [("e", "skipStep"), ("f", "skipStep"), ("g", "skipStep")] {
            world.step_act(verb, &id(key), json!({ "reason": "not needed" })).await;
        }
        assert_eq!(ready(&world).await, "h");
        world.step_act("startStep", &id("h"), json!({})).await;
        assert_eq!(ready(&world).await, "");
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        assert_eq!(ready(&world).await, "");
        world.end().await;
    }
}

both! {
    async fn each_filter_alone_and_with_others(kind) {
        let world = World::without_server(kind, None).await;
        let (run, _) = work(&world).await;
        let campaign = campaign_of(&world, &run).await;
        let other = world.create("campaign", json!({ "name": "Without runs" })).await;
        let (session, own) = world.own_run(&[("x", "custom", json!({})), ("y", "custom", json!({}))], json!({})).await;
        let due = |from: Value, to: Value| json!({ "from": from, "to": to });
        let day = |days: i64| json!(noon() + Duration::days(days));
        for (filter, wanted) in [
            (json!({ "ids": [own[0]] }), "x"),
            (json!({ "ids": [] }), ""),
            (json!({ "ids": ["step_01h455vb4pex5vsknk084sn02q"] }), ""),
            (json!({ "ids": own, "ready": true }), "x y"),
            (json!({ "ids": own, "campaignIds": [campaign] }), ""),
            (json!({ "campaignIds": [campaign] }), "a b c d e f g h"),
            (json!({ "campaignIds": [other] }), ""),
            (json!({ "campaignIds": [] }), ""),
            (json!({ "campaignIds": [other, campaign], "ready": true, "assignedTo": ["HUMAN"] }), "a c"),
            (json!({ "campaignIds": [campaign], "runIds": [session] }), ""),
            (json!({ "ready": true, "types": ["custom"] }), "x y"),
            (json!({ "ready": true, "statuses": ["QUEUED"] }), "g"),
            (json!({ "ready": false, "statuses": ["QUEUED"] }), "f"),
            (json!({ "ready": null, "runIds": [session] }), "x y"),
            (json!({ "dueAt": due(day(0), day(3)) }), "a"),
            (json!({ "dueAt": due(day(2), json!(null)) }), "a"),
            (json!({ "dueAt": due(json!(null), day(2)) }), ""),
            (json!({ "dueAt": due(json!(null), day(3)), "ready": false }), ""),
            (json!({ "createdAt": due(day(0), json!(null)), "runIds": [session] }), "x y"),
            (json!({ "createdAt": due(json!(null), day(0)) }), ""),
            (json!({ "search": "X" }), "x"),
            (json!({ "search": "x", "campaignIds": [campaign] }), ""),
        ] {
            assert_eq!(keys(&world, filter.clone()).await, wanted, "{filter}");
        }
        for (filter, code, field) in [
            (json!({ "ids": ["x"] }), "BAD_USER_INPUT", "filter.ids"),
            (json!({ "ids": [run] }), "BAD_USER_INPUT", "filter.ids"),
            (json!({ "campaignIds": [run] }), "BAD_USER_INPUT", "filter.campaignIds"),
            (json!({ "campaignIds": vec![campaign; 501] }), "LIMIT_EXCEEDED", "filter.campaignIds"),
            (json!({ "dueAt": {} }), "BAD_USER_INPUT", "filter.dueAt"),
            (json!({ "createdAt": due(json!(null), json!(null)) }), "BAD_USER_INPUT", "filter.createdAt"),
            (json!({ "search": "s".repeat(1_001) }), "BAD_USER_INPUT", "filter.search"),
        ] {
            let told = world.post(LIST, json!({ "filter": filter })).await["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["field"]), (&json!(code), &json!(field)), "{told}");
        }
        // Variables that were not sent.
        let unsent = "query($ids: [ID!], $ready: Boolean, $search: String) { steps(filter: { ids: $ids, ready: $ready, search: $search }) { totalCount } }";
        assert_eq!(world.ask(unsent, json!({})).await["steps"]["totalCount"], 10);
        let change = "mutation($ids: [ID!], $ready: Boolean) { startBulkAction(input: { verb: SKIP_STEPS, reason: \"r\", stepFilter: { ids: $ids, ready: $ready } }) { bulkAction { id } } }";
        assert_eq!(world.refused(change, json!({})).await.0, "BAD_USER_INPUT");
        world.end().await;
    }
}

both! {
    async fn a_text_is_found_in_the_names_of_steps(kind) {
        let world = World::without_server(kind, None).await;
        let names = ["Call 100%", "Call_back", "Straße prüfen", "CALL again", "Ａｃｍｅ", "back\\slash"];
        let declared = names.iter().enumerate().map(|(i, name)| {
            json!({ "definition": { "key": format!("s{i}"), "name": name, "type": "custom", "assignedTo": "HUMAN", "config": {} } })
        });
        let start = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id } } }";
        world.ask(start, json!({ "input": { "name": "Names", "steps": declared.collect::<Vec<_>>() } })).await;
        for (text, wanted) in [
            ("%", "s0"),
            ("100%", "s0"),
            ("_", "s1"),
            ("l_b", "s1"),
            ("l%k", ""),
            ("call", "s0 s1 s3"),
            ("STRASSE", "s2"),
            ("pru\u{308}fen", "s2"),
            ("acme", "s4"),
            ("\\", "s5"),
            ("'", ""),
            ("\u{1f600}", ""),
            ("", "s0 s1 s2 s3 s4 s5"),
        ] {
            assert_eq!(keys(&world, json!({ "search": text })).await, wanted, "{text}");
        }
        world.end().await;
    }
}

/// Gives the steps of a run due times with ties; every third has none.
async fn with_due_times(world: &World) -> String {
    let names: Vec<String> = (0..12).map(|i| format!("s{i}")).collect();
    let steps: Vec<(&str, &str, Value)> = names.iter().map(|name| (name.as_str(), "custom", json!({}))).collect();
    let (run, _) = world.own_run(&steps, json!({})).await;
    for (day, sequences) in [(1, "1, 4, 5"), (2, "2, 7"), (3, "8, 10, 11")] {
        world
            .force(&format!("UPDATE step SET due_at = '2026-12-0{day}T00:00:00+00:00' WHERE sequence IN ({sequences})"))
            .await;
    }
    world.force("UPDATE step SET assignee_id = (SELECT id FROM member LIMIT 1)").await;
    run
}

both! {
    async fn walking_either_way_gives_the_list_in_each_order(kind) {
        let world = World::without_server(kind, None).await;
        let run = with_due_times(&world).await;
        let due = json!({ "dueAt": { "from": "2026-12-01T00:00:00Z" } });
        for (field, direction) in [("DUE_AT", "ASC"), ("DUE_AT", "DESC"), ("CREATED_AT", "ASC"), ("CREATED_AT", "DESC")] {
            for (filter, count) in [(json!({}), 12), (json!({ "ready": true, "runIds": [run] }), 12), (due.clone(), 8), (json!({ "mine": true }), 12), (json!({ "createdAt": { "from": noon() } }), 12), (json!({ "ready": false }), 0)] {
                let whole = world.ask(LIST, json!({ "filter": filter, "by": by(field, direction), "first": 100 })).await["steps"].clone();
                let whole = whole["nodes"].as_array().unwrap();
                let mut wanted = whole.clone();
                wanted.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
                if direction == "DESC" {
                    wanted.reverse();
                }
                if field == "DUE_AT" {
                    // A stable sort: the order of ties, and of steps without a due time, is that of their ids.
                    wanted.sort_by(|one, other| match (one["dueAt"].as_str(), other["dueAt"].as_str()) {
                        (None, other) => other.is_some().cmp(&false),
                        (_, None) => std::cmp::Ordering::Less,
                        (one, other) if direction == "ASC" => one.cmp(&other),
                        (one, other) => other.cmp(&one),
                    });
                }
                assert_eq!((whole, whole.len()), (&wanted, count), "{field} {direction} {filter}");
                for size in [1, 3, 8, 13] {
                    for back in [false, true] {
                        let (mut walked, mut cursor) = (Vec::new(), Value::Null);
                        loop {
                            let (number, place) = if back { ("last", "before") } else { ("first", "after") };
                            let window = json!({ "filter": filter, "by": by(field, direction), number: size, place: cursor });
                            let data = world.ask(LIST, window).await["steps"].clone();
                            let page = data["nodes"].as_array().unwrap().clone();
                            assert!(page.len() <= size);
                            if back {
                                walked.splice(0..0, page);
                            } else {
                                walked.extend(page);
                            }
                            let (more, next) = if back { ("hasPreviousPage", "startCursor") } else { ("hasNextPage", "endCursor") };
                            if data["pageInfo"][more] != true {
                                break;
                            }
                            cursor = data["pageInfo"][next].clone();
                        }
                        assert_eq!(&walked, whole, "{field} {direction} {filter} {size} back: {back}");
                    }
                }
            }
        }
        // Due times were set behind the log's back.
        world.drop_unchecked().await;
    }
}

both! {
    async fn the_steps_of_a_run_in_each_order(kind) {
        let world = World::without_server(kind, None).await;
        let run = with_due_times(&world).await;
        let (other, _) = world.own_run(&[("x", "custom", json!({})), ("y", "custom", json!({}))], json!({})).await;
        let below = "query($id: ID!, $by: StepOrder, $filter: StepFilter, $first: Int, $after: String, $last: Int, $before: String) { run(id: $id) {
            steps(filter: $filter, orderBy: $by, first: $first, after: $after, last: $last, before: $before) {
                totalCount nodes { id key name status dueAt assignedTo availableActions { action allowed } }
                pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }";
        for (field, direction) in [("DUE_AT", "ASC"), ("DUE_AT", "DESC"), ("CREATED_AT", "ASC"), ("CREATED_AT", "DESC")] {
            let by = by(field, direction);
            // The page is that of the list by the run's id, whatever `runIds` the filter has.
            for filter in [json!({}), json!({ "ready": true }), json!({ "dueAt": { "from": "2026-12-02T00:00:00Z" } })] {
                let mut of_run = filter.clone();
                of_run["runIds"] = json!([run]);
                let whole = world.ask(LIST, json!({ "filter": of_run, "by": by, "first": 100 })).await["steps"].clone();
                let mut given = filter.clone();
                given["runIds"] = json!([other]);
                let found = world.ask(below, json!({ "id": run, "filter": given, "by": by, "first": 100 })).await["run"]["steps"].clone();
                assert_eq!((&found["nodes"], &found["totalCount"]), (&whole["nodes"], &whole["totalCount"]), "{by} {filter}");
            }
            let whole = world.ask(below, json!({ "id": run, "by": by, "first": 100 })).await["run"]["steps"]["nodes"].as_array().unwrap().clone();
            assert_eq!(whole.len(), 12);
            for size in [1, 5, 8] {
                for back in [false, true] {
                    let (number, place) = if back { ("last", "before") } else { ("first", "after") };
                    let (mut walked, mut cursor) = (Vec::new(), Value::Null);
                    loop {
                        let page = world.ask(below, json!({ "id": run, "by": by, number: size, place: cursor })).await["run"]["steps"].clone();
                        let nodes = page["nodes"].as_array().unwrap().clone();
                        assert!(nodes.len() <= size);
                        if back {
                            walked.splice(0..0, nodes);
                        } else {
                            walked.extend(nodes);
                        }
                        let (more, next) = if back { ("hasPreviousPage", "startCursor") } else { ("hasNextPage", "endCursor") };
                        if page["pageInfo"][more] != true {
                            break;
                        }
                        cursor = page["pageInfo"][next].clone();
                    }
                    assert_eq!(walked, whole, "{by} {size} back: {back}");
                }
            }
            // Of all runs of a list at once: the same pages as of each alone.
            let both = "query($by: StepOrder, $first: Int, $last: Int) { runs(first: 10) { nodes { id steps(orderBy: $by, first: $first, last: $last) { nodes { key } pageInfo { hasNextPage hasPreviousPage } } } } }";
            let alone = "query($id: ID!, $by: StepOrder, $first: Int, $last: Int) { run(id: $id) { id steps(orderBy: $by, first: $first, last: $last) { nodes { key } pageInfo { hasNextPage hasPreviousPage } } } }";
            for page in [json!({ "first": 5 }), json!({ "last": 5 }), json!({ "first": 0 }), json!({ "last": 10 }), json!({ "first": 12 })] {
                let mut variables = page.clone();
                variables["by"] = by.clone();
                let listed = world.ask(both, variables.clone()).await["runs"]["nodes"].as_array().unwrap().clone();
                assert_eq!(listed.len(), 2);
                for found in listed {
                    variables["id"] = found["id"].clone();
                    assert_eq!(world.ask(alone, variables.clone()).await["run"], found, "{by} {page}");
                }
            }
        }
        let cursor = world.ask(below, json!({ "id": run, "by": by("DUE_AT", "ASC"), "first": 2 })).await["run"]["steps"]["pageInfo"]["endCursor"].clone();
        for wrong in [
            json!({ "id": run, "by": by("DUE_AT", "DESC"), "after": cursor }),
            json!({ "id": run, "after": cursor }),
            json!({ "id": other, "by": by("DUE_AT", "ASC"), "after": cursor }),
            json!({ "id": run, "first": 2, "last": 2 }),
            json!({ "id": run, "last": 501 }),
        ] {
            assert_eq!(world.refused(below, wrong.clone()).await.0, "BAD_USER_INPUT", "{wrong}");
        }
        world.drop_unchecked().await;
    }
}

both! {
    async fn steps_by_due_time_below_many_runs_take_as_many_statements_as_below_one(kind) {
        let world = World::without_server(kind, None).await;
        let number = async || {
            let query = "{ runs(first: 100) { nodes { id steps(first: 3, orderBy: { field: DUE_AT, direction: ASC }) { nodes { key dueAt } } } } }";
            world.db.take_statements();
            let found = world.ask(query, json!({})).await["runs"]["nodes"].clone();
            // The log is numbered meanwhile.
            let of_steps = world.db.take_statements().iter().filter(|statement| statement.sql.contains("step")).count();
            (of_steps, found.as_array().unwrap().len())
        };
        let run = with_due_times(&world).await;
        world.own_run(&[("x", "custom", json!({})), ("y", "custom", json!({}))], json!({})).await;
        world.db.keep_statements();
        let few = number().await;
        for _ in 0..9 {
            world.own_run(&[("x", "custom", json!({})), ("y", "custom", json!({}))], json!({})).await;
        }
        let many = number().await;
        assert_eq!((few, many.1), ((many.0, 2), 11));
        if kind == Kind::Sqlite {
            // An index of the run has the order, in either direction.
            for descending in [false, true] {
                let filter = StepFilter { run_ids: Some(vec![run.as_str().into()]), ..StepFilter::default() };
                let (sort, args) = (Sort { by: SortBy::DueAt, descending }, Args { first: Some(50), ..Args::default() });
                let window = steps::window(&world.db, &world.viewer, &filter, sort, args, noon()).unwrap();
                let plan = window.plan(world.db.read()).await.unwrap();
                assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{plan}");
            }
        }
        world.drop_unchecked().await;
    }
}

both! {
    async fn pages_between_cursors_and_cursors_of_other_orders(kind) {
        let world = World::without_server(kind, None).await;
        with_due_times(&world).await;
        let order = by("DUE_AT", "ASC");
        let edges = "query($by: StepOrder) { steps(orderBy: $by, first: 100) { edges { cursor node { id } } } }";
        let all = world.ask(edges, json!({ "by": order })).await["steps"]["edges"].as_array().unwrap().clone();
        for (after, before) in [(0, 11), (0, 5), (2, 9), (6, 11), (7, 8), (8, 11), (8, 9), (9, 3)] {
            for end in ["first", "last"] {
                let window = json!({ "by": order, end: 100, "after": all[after]["cursor"], "before": all[before]["cursor"] });
                let page = world.ask(LIST, window).await["steps"]["nodes"].clone();
                let page: Vec<&Value> = page.as_array().unwrap().iter().map(|step| &step["id"]).collect();
                let wanted: Vec<&Value> = all.iter().take(before).skip(after + 1).map(|edge| &edge["node"]["id"]).collect();
                assert_eq!(page, wanted, "{after} {before} {end}");
            }
        }
        let cursor = all[3]["cursor"].clone();
        for window in [
            json!({ "after": cursor }),
            json!({ "after": cursor, "by": by("DUE_AT", "DESC") }),
            json!({ "after": cursor, "by": by("CREATED_AT", "ASC") }),
            json!({ "before": cursor, "by": order, "filter": { "ready": true } }),
            json!({ "after": "nonsense", "by": order }),
            json!({ "first": 2, "last": 2, "by": order }),
            json!({ "first": 501, "by": order }),
            json!({ "last": -1, "by": order }),
        ] {
            assert_eq!(world.refused(LIST, window.clone()).await.0, "BAD_USER_INPUT", "{window}");
        }
        // The default order is CREATED_AT, ascending: its cursors are the same.
        let first = world.ask(LIST, json!({ "first": 1 })).await["steps"]["pageInfo"]["endCursor"].clone();
        let next = world.ask(LIST, json!({ "first": 100, "after": first, "by": by("CREATED_AT", "ASC") })).await;
        assert_eq!(next["steps"]["nodes"].as_array().unwrap().len(), 11);
        world.drop_unchecked().await;
    }
}

both! {
    async fn another_orgs_steps_are_in_no_list(kind) {
        let world = World::with_auth(kind).await;
        let (run, own) = world.own_run(&[("x", "custom", json!({}))], json!({})).await;
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let theirs = crate::harness::key(&world.db, &other, Role::Admin, None).await;
        let campaign = world.create("campaign", json!({ "name": "Ours" })).await;
        for filter in [json!({}), json!({ "ready": true }), json!({ "ready": false }), json!({ "ids": own }), json!({ "runIds": [run] }), json!({ "campaignIds": [campaign] }), json!({ "search": "x" })] {
            for field in ["CREATED_AT", "DUE_AT"] {
                let (status, answer) = world.post_as(&theirs, LIST, json!({ "filter": filter, "by": by(field, "ASC") })).await;
                assert_eq!((status, &answer["data"]["steps"]["totalCount"], &answer["data"]["steps"]["nodes"]), (200, &json!(0), &json!([])), "{filter}: {answer}");
            }
        }
        assert_eq!(keys(&world, json!({ "ready": true })).await, "x");
        world.end().await;
    }
}
