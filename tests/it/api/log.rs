//! The log: read forwards and backwards, by kinds of a noun, with the objects beside their ids.

use serde_json::{Value, json};

use crate::harness::World;

const PAGE: &str = "query($filter: EventFilter, $first: Int, $after: String, $last: Int, $before: String) {
    events(filter: $filter, first: $first, after: $after, last: $last, before: $before) {
        nodes { cursor kind } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

fn nodes(page: &Value) -> Vec<Value> {
    page["nodes"].as_array().unwrap().clone()
}

/// A run that has ended, and another org's events beside it.
async fn a_run(world: &World) -> String {
    let plan = world.plan("EMAIL", 3).await;
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    world.tick(false).await;
    world.act("cancelRun", "run", json!({ "id": run })).await;
    world.tick(false).await;
    run
}

both! {
    async fn backwards_it_has_the_same_events(kind) {
        let world = World::without_server(kind, None).await;
        // Nothing yet but what the org's creation wrote.
        let empty = world.ask(PAGE, json!({ "filter": { "kinds": ["run.created"] }, "last": 5 })).await["events"].clone();
        assert_eq!((&empty["nodes"], &empty["pageInfo"]["hasPreviousPage"]), (&json!([]), &json!(false)));
        let run = a_run(&world).await;
        until_numbered(&world).await;
        for filter in [json!(null), json!({ "runIds": [run] }), json!({ "runIds": [run], "kinds": ["step.*", "run.cancelled"] })] {
            let forwards = nodes(&world.ask(PAGE, json!({ "filter": filter, "first": 500 })).await["events"]);
            assert!(forwards.len() > 4, "{filter}");
            for size in [1, 4, forwards.len(), forwards.len() + 1] {
                let (mut backwards, mut before) = (Vec::new(), json!(null));
                loop {
                    let page = world.ask(PAGE, json!({ "filter": filter, "last": size, "before": before })).await["events"].clone();
                    let info = &page["pageInfo"];
                    assert_eq!(info["hasNextPage"], json!(!before.is_null()));
                    let mut rows = nodes(&page);
                    assert_eq!(rows.last().map(|row| row["cursor"].clone()), Some(info["endCursor"].clone()));
                    rows.append(&mut backwards);
                    backwards = rows;
                    if info["hasPreviousPage"] == false {
                        break;
                    }
                    before = info["startCursor"].clone();
                }
                assert_eq!(backwards, forwards, "{size} of {filter}");
            }
            // Between two positions, from either side.
            let (after, before) = (&forwards[0]["cursor"], &forwards[4]["cursor"]);
            let between = json!({ "filter": filter, "after": after, "before": before });
            assert_eq!(nodes(&world.ask(PAGE, between).await["events"]), forwards[1..4]);
            let newest = json!({ "filter": filter, "after": after, "before": before, "last": 2 });
            assert_eq!(nodes(&world.ask(PAGE, newest).await["events"]), forwards[2..4]);
        }
        // A run's, a campaign's and a step's own lists.
        let own = "query($id: ID!) { run(id: $id) { events(last: 2) { nodes { kind } } campaign { events(last: 1) { nodes { kind } } }
            steps(first: 1) { nodes { history(last: 1) { nodes { kind } } } } } }";
        let own = world.ask(own, json!({ "id": run })).await["run"].clone();
        assert_eq!((nodes(&own["events"]).len(), nodes(&own["campaign"]["events"]).len()), (2, 1));
        assert_eq!(nodes(&own["steps"]["nodes"][0]["history"]).len(), 1);
        for (variables, field) in [
            (json!({ "first": 1, "last": 1 }), "last"),
            (json!({ "last": -1 }), "last"),
            (json!({ "last": 501 }), "last"),
            (json!({ "before": "nonsense" }), "before"),
        ] {
            let told = world.post(PAGE, variables.clone()).await["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{variables}");
        }
        world.end().await;
    }
}

both! {
    async fn all_kinds_of_a_noun_are_selected_by_a_star(kind) {
        let world = World::without_server(kind, None).await;
        a_run(&world).await;
        let all = nodes(&world.ask(PAGE, json!({ "first": 500 })).await["events"]);
        let of = |noun: &str| all.iter().filter(|event| event["kind"].as_str().unwrap().starts_with(noun)).cloned().collect::<Vec<_>>();
        let some = world.ask(PAGE, json!({ "filter": { "kinds": ["run.*"] }, "first": 500 })).await["events"].clone();
        assert_eq!(nodes(&some), of("run."));
        let both = json!({ "filter": { "kinds": ["phase.*", "phase.started", "payment.received"] }, "first": 500 });
        assert_eq!(nodes(&world.ask(PAGE, both).await["events"]), of("phase."));
        for wrong in ["payment.*", "*", "run*", "run.*.*", ".*", "*.started", "run.nonsense"] {
            let told = world.post(PAGE, json!({ "filter": { "kinds": [wrong] } })).await["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!("filter.kinds")), "{wrong}");
        }
        world.end().await;
    }
}

both! {
    async fn objects_stand_beside_their_ids_at_a_constant_cost(kind) {
        let world = World::without_server(kind, None).await;
        let run = a_run(&world).await;
        until_numbered(&world).await;
        let query = "query($last: Int) { events(last: $last) { nodes { kind campaignId runId stepId recordId
            campaign { id } run { id } step { id } record { id } } } }";
        let cost = async |last: usize| {
            let before = world.db.statements();
            let found = nodes(&world.ask(query, json!({ "last": last })).await["events"]);
            (found, world.db.statements() - before)
        };
        let ((few, cost_of_few), (many, cost_of_many)) = (cost(3).await, cost(30).await);
        assert!(few.len() == 3 && many.len() == 30 && cost_of_many <= cost_of_few + 3, "{cost_of_few} and {cost_of_many}");
        for event in &many {
            for noun in ["campaign", "run", "step", "record"] {
                assert_eq!(event[noun]["id"], event[format!("{noun}Id")], "{event}");
            }
        }
        assert!(many.iter().any(|event| event["run"]["id"] == run.as_str()));
        world.end().await;
    }
}

/// Waits until the log has every event: on Postgres, transactions of other tests hold it up.
async fn until_numbered(world: &World) {
    while world.ask_all_events().await.len() as i64 != world.number("SELECT COUNT(*) FROM event").await {
        tokio::task::yield_now().await;
    }
}

both! {
    async fn a_period_of_the_log_is_selected_and_counted(kind) {
        use chrono::Duration;
        let world = World::without_server(kind, None).await;
        let goal = async |name: &str| drop(world.create("goal", json!({ "name": name })).await);
        // The order of the log is that of commits: the clock may step back.
        for (minutes, name) in [(0, "a"), (1, "b"), (4, "late"), (3, "early"), (60, "c"), (600, "d")] {
            world.clock.set(crate::harness::noon() + Duration::minutes(minutes));
            goal(name).await;
        }
        until_numbered(&world).await;
        let query = "query($filter: EventFilter, $first: Int, $last: Int) { events(filter: $filter, first: $first, last: $last) {
            totalCount nodes { payload } pageInfo { hasNextPage hasPreviousPage } } }";
        let at = |minutes: i64| (crate::harness::noon() + Duration::minutes(minutes)).to_rfc3339();
        let names = |page: &Value| page["nodes"].as_array().unwrap().iter().map(|event| event["payload"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let goals = json!(["goal.created"]);
        for (period, wanted) in [
            (json!(null), vec!["a", "b", "late", "early", "c", "d"]),
            (json!({ "from": at(0), "to": at(1) }), vec!["a"]),
            (json!({ "from": at(1) }), vec!["b", "late", "early", "c", "d"]),
            (json!({ "to": at(4) }), vec!["a", "b", "early"]),
            (json!({ "from": at(3), "to": at(61) }), vec!["late", "early", "c"]),
            (json!({ "from": at(4), "to": at(60) }), vec!["late"]),
            (json!({ "from": at(601) }), vec![]),
            (json!({ "to": at(0) }), vec![]),
            (json!({ "from": at(61), "to": at(600) }), vec![]),
            (json!({ "from": at(60), "to": at(0) }), vec![]),
        ] {
            for kinds in [goals.clone(), json!(["goal.created", "payment.received", "run.*"])] {
                let filter = json!({ "kinds": kinds, "at": period });
                let page = world.ask(query, json!({ "filter": filter, "first": 500 })).await["events"].clone();
                assert_eq!((names(&page), &page["totalCount"]), (wanted.iter().map(|name| (*name).to_owned()).collect(), &json!(wanted.len())), "{filter}");
                let page = world.ask(query, json!({ "filter": filter, "last": 2 })).await["events"].clone();
                assert_eq!(names(&page), wanted[wanted.len().saturating_sub(2)..], "{filter}");
                assert_eq!(page["pageInfo"]["hasPreviousPage"], wanted.len() > 2, "{filter}");
                let page = world.ask(query, json!({ "filter": filter, "first": 1 })).await["events"].clone();
                assert_eq!(names(&page), wanted[..wanted.len().min(1)], "{filter}");
                assert_eq!(page["pageInfo"]["hasNextPage"], wanted.len() > 1, "{filter}");
            }
            // Without kinds, the same period has these and possibly others.
            let page = world.ask(query, json!({ "filter": { "at": period }, "first": 500 })).await["events"].clone();
            assert_eq!(page["totalCount"], page["nodes"].as_array().unwrap().len());
        }
        let told = world.post(query, json!({ "filter": { "at": { "from": "-9999-01-01T00:00:00Z" } } })).await;
        assert!(told["errors"].is_array(), "{told}");
        // A list's totals are counted in one statement.
        world.plan("EMAIL", 1).await;
        until_numbered(&world).await;
        // On Postgres the sequencer's statements are counted as well.
        let (mut all, mut least) = (Value::Null, u64::MAX);
        for _ in 0..5 {
            let before = world.db.statements();
            all = world.ask("{ all: events(first: 1) { totalCount } campaigns { nodes { events(first: 1) { totalCount } } } }", json!({})).await;
            least = least.min(world.db.statements() - before);
        }
        assert!(least <= 10, "{least}");
        assert_eq!(all["campaigns"]["nodes"][0]["events"]["totalCount"], 1);
        assert_eq!(all["all"]["totalCount"], world.number("SELECT COUNT(*) FROM event").await);
        world.end().await;
    }
}

both! {
    async fn a_kind_and_a_period_are_answered_from_an_index(kind) {
        use crate::harness::{Kind, noon};
        use sortie::kernel::event::EventSelector;
        let world = World::without_server(kind, None).await;
        let size = sortie::app::seed::Size { campaigns: 10, runs: 2_000, steps_per_run: 5 };
        sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
        world.create("goal", json!({ "name": "Rare" })).await;
        if kind == Kind::Postgres {
            world.force("ANALYZE").await;
        }
        for from_end in [false, true] {
            let which = EventSelector { kinds: Some(vec!["goal.created".to_owned()]), ..EventSelector::default() };
            let plan = sortie::kernel::event::plan(&world.db, &world.viewer, &which, from_end).await.unwrap();
            assert!(plan.contains("event_by_kind") && !plan.contains("TEMP B-TREE"), "{kind:?}: {plan}");
        }
        for is_from in [true, false] {
            for plan in sortie::kernel::event::plans_of_period(&world.db, &world.viewer, noon(), is_from).await.unwrap() {
                assert!(plan.contains("event_by_time") && !plan.contains("TEMP B-TREE") && !plan.contains("Seq Scan"), "{kind:?}: {plan}");
            }
        }
        world.drop_unchecked().await;
    }
}
