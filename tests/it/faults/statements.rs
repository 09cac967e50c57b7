//! Section 2: the number of statements does not grow with the data. Set-based work is tested at 1,
//! 499, 500, 501, 5,000 and 20,000 rows, and with 1 to 8 steps a record.

mod sizes;

use serde_json::{Value, json};

use crate::harness::{Kind, World};

impl World {
    /// Inserts `count` records of a kind in a single statement.
    pub async fn many_records(&self, kind: Kind, of: &str, count: usize) {
        let (id, numbers) = match kind {
            Kind::Sqlite => (
                "randomblob(16)",
                format!(
                    "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n)"
                ),
            ),
            Kind::Postgres => ("gen_random_uuid()", format!("(SELECT i FROM generate_series(1, {count}) AS i)")),
        };
        let at = "'2026-11-02T12:00:00+00:00'";
        self.force(&format!(
            "INSERT INTO record (id, org_id, kind, external_id, name, email, attributes, search, priority, created_at, updated_at, revision) \
             SELECT {id}, o.id, '{of}', '{of}-' || n.i, 'R ' || n.i, '{of}' || n.i || '@example.com', '{{\"first_name\":\"A\",\"company\":\"B\"}}', '', 0, {at}, {at}, 1 \
             FROM org o CROSS JOIN {numbers} AS n WHERE o.id = (SELECT org_id FROM member LIMIT 1)"
        ))
        .await;
    }

    /// A segment of all records of a kind.
    pub async fn all_of(&self, of: &str) -> String {
        self.create("segment", json!({ "name": of, "filter": { "kind": { "eq": of } } })).await
    }

    /// Number of a run's steps that are in a status.
    pub async fn steps_in(&self, run: &str, status: &str) -> i64 {
        let query = "query($run: ID!) { run(id: $run) { progress { counts { total pending queued completed skipped failed } } } }";
        self.ask(query, json!({ "run": run })).await["run"]["progress"]["counts"][status].as_i64().unwrap()
    }
}

/// A template whose only task has a number of human steps per record, so that nothing advances by
/// itself.
fn template(steps: usize) -> Value {
    let steps: Vec<Value> = (0..steps)
        .map(|i| json!({ "key": format!("s{i}"), "name": "Look", "type": "look", "assignedTo": "AGENT", "trigger": if i == 7 { "after:s0" } else { "immediate" } }))
        .collect();
    let tasks = json!([{ "key": "t", "name": "T", "fanOut": true, "steps": steps }]);
    json!({ "key": format!("of-{}", tasks[0]["steps"].as_array().unwrap().len()), "name": "Look", "phases": [{ "key": "p", "name": "P", "autonomous": true, "tasks": tasks }] })
}

both! {
    async fn a_fan_out_of_any_size_begins_and_is_called_off(kind) {
        let world = World::without_server(kind, None).await;
        let templates: Vec<Value> = (1..=8).map(template).collect();
        world.apply(&json!({ "agents": [{ "name": "looker" }], "runTemplates": templates }).to_string()).await;
        for (records, steps) in [(1, 8), (499, 1), (443, 2), (500, 3), (501, 5), (501, 8), (1_000, 4), (251, 6), (72, 7), (5_000, 1), (20_000, 1)] {
            let begun = std::time::Instant::now();
            let of = format!("k{}_{}", "x".repeat(steps), if records > 501 { "many" } else { "few" }) + &"y".repeat(records % 7);
            world.many_records(kind, &of, records).await;
            let segment = world.all_of(&of).await;
            let run = world.fly(&format!("of-{steps}"), json!({ "segmentId": segment })).await;
            world.tick(false).await;
            let total = (records * steps) as i64;
            let waiting = if steps == 8 { records as i64 } else { 0 };
            assert_eq!((world.steps_in(&run, "total").await, world.steps_in(&run, "pending").await), (total, waiting), "{records} × {steps}");
            assert_eq!(world.steps_in(&run, "queued").await, total - waiting, "{records} × {steps}");
            let made = begun.elapsed();
            world.act("cancelRun", "run", json!({ "id": run })).await;
            world.tick(false).await;
            assert_eq!(world.steps_in(&run, "skipped").await, total, "{records} × {steps}");
            println!("{kind:?}: {records} × {steps} made after {made:?}, called off after {:?}", begun.elapsed());
        }
        world.end().await;
    }
}

/// The step that reviews a run's messages.
async fn review(world: &World, run: &str) -> Value {
    let query =
        "query($run: ID!) { run(id: $run) { steps(filter: { statuses: [AWAITING_APPROVAL] }) { nodes { id } } } }";
    world.ask(query, json!({ "run": run })).await["run"]["steps"]["nodes"][0]["id"].clone()
}

async fn outcomes(world: &World, run: &str) -> Vec<Vec<String>> {
    let uuid: entity::id::RunId = run.parse().unwrap();
    let of = match world.db.dialect() {
        sortie::kernel::db::dialect::Dialect::Sqlite => format!("x'{}'", uuid.0.simple()),
        sortie::kernel::db::dialect::Dialect::Postgres => format!("'{}'", uuid.0),
    };
    world
        .sql(&format!("SELECT outcome, COUNT(*) FROM run_record WHERE run_id = {of} GROUP BY outcome ORDER BY outcome"))
        .await
}

both! {
    async fn five_hundred_and_two_are_drafted_again_sent_repeated_and_left_alone(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.many_records(kind, "lead", 501).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        // Rejected as a whole, drafted again, approved, sent.
        let rejected = world.act("rejectStep", "step", json!({ "id": review(&world, &run).await, "reason": "kinder" })).await;
        assert_eq!(rejected["status"], "QUEUED");
        world.tick(true).await;
        world.act("approveStep", "step", json!({ "id": review(&world, &run).await })).await;
        world.tick(true).await;
        assert_eq!(outcomes(&world, &run).await, [["SENT".to_owned(), "502".to_owned()]]);
        assert_eq!(world.outbox().len(), 502);
        // Once more, and everybody unsubscribes while the messages await their review.
        let second = world.launch(&plan).await;
        world.tick(true).await;
        world.ask("mutation { unsubscribeRecords(input: { filter: { kind: { eq: \"lead\" } } }) { count } }", json!({})).await;
        world.tick(true).await;
        let approve = review(&world, &second).await;
        if !approve.is_null() {
            world.act("approveStep", "step", json!({ "id": approve })).await;
            world.tick(true).await;
        }
        let came = outcomes(&world, &second).await;
        assert_eq!(came.iter().map(|row| row[1].parse::<i64>().unwrap()).sum::<i64>(), 502, "{came:?}");
        assert!(came.iter().all(|row| row[0] != "SENT"), "{came:?}");
        assert_eq!(world.outbox().len(), 502);
        world.end().await;
    }
}

both! {
    async fn long_lists_are_answered_together(kind) {
        let world = World::without_server(kind, None).await;
        world.many_records(kind, "lead", 10_001).await;
        let (mut ids, mut names): (Vec<String>, Vec<String>) = Default::default();
        let mut after = Value::Null;
        while ids.len() < 10_000 {
            let query = "query($after: String) { records(first: 500, after: $after) { nodes { id name } pageInfo { endCursor } } }";
            let data = world.ask(query, json!({ "after": after })).await["records"].clone();
            let nodes = data["nodes"].as_array().unwrap();
            ids.extend(nodes.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            names.extend(nodes.iter().map(|one| one["name"].as_str().unwrap().to_owned()));
            after = data["pageInfo"]["endCursor"].clone();
        }
        ids.truncate(10_000);
        let listed = world.create("segment", json!({ "name": "List", "recordIds": ids })).await;
        // Nine lists of one request, which together may have 25,000 items.
        let (some, names) = (&ids[..2_700], &names[..2_700]);
        let others: Vec<String> = (0..some.len()).map(|i| format!("x{i}@example.com")).collect();
        let one = json!({ "ids": some, "name": { "in": names }, "email": { "notIn": others }, "externalId": { "notIn": names } });
        let all = json!({ "and": [one], "or": [one], "not": { "name": { "in": others } } });
        let preview = "query($filter: RecordFilterInput!) { previewSegment(filter: $filter) { count } }";
        let begun = std::time::Instant::now();
        let counted = world.ask(preview, json!({ "filter": all })).await["previewSegment"]["count"].clone();
        assert_eq!(counted, some.len());
        // One list of the maximum length.
        let whole = world.ask(preview, json!({ "filter": { "ids": ids } })).await["previewSegment"]["count"].clone();
        assert_eq!(whole, 10_000);
        println!("{kind:?}: long lists counted in {:?}", begun.elapsed());
        let long = world.create("segment", json!({ "name": "Long", "filter": all })).await;
        let counts = world.ask("{ segments { nodes { id recordCount } } }", json!({})).await["segments"]["nodes"].clone();
        for (id, count) in [(&listed, json!(10_000)), (&long, counted)] {
            assert!(counts.as_array().unwrap().contains(&json!({ "id": id, "recordCount": count })), "{counts:#}");
        }
        // Beyond the limit there is an error.
        let first = ids[0].clone();
        ids.push(first);
        let many = json!({ "ids": ids });
        let (code, message) = world.refused(preview, json!({ "filter": many })).await;
        assert_eq!((code.as_str(), message.starts_with("filter")), ("BAD_USER_INPUT", true), "{message}");
        world.end().await;
    }
}

both! {
    async fn lists_below_many_nodes_take_long_filters(kind) {
        let world = World::without_server(kind, None).await;
        let size = sortie::app::seed::Size { campaigns: 120, runs: 360, steps_per_run: 1 };
        sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
        let id = |i: u128| entity::id::RecordId(uuid::Uuid::from_u128(i)).to_string();
        let ids: Vec<String> = (0..500).map(id).collect();
        let types: Vec<String> = (0..5_000).map(|i| format!("kind{i}")).collect();
        let steps = "query($f: StepFilter!, $all: StepFilter!) { runs(first: 200) { nodes { steps(first: 1, filter: $f) { totalCount nodes { id } } all: steps(first: 1, filter: $all) { totalCount } } } }";
        let all = [types.clone(), vec!["send_message".to_owned()]].concat();
        let data = world.ask(steps, json!({ "f": { "recordIds": ids, "types": types }, "all": { "types": all } })).await;
        let runs = data["runs"]["nodes"].as_array().unwrap();
        assert_eq!(runs.len(), 200);
        assert!(runs.iter().all(|run| run["steps"]["totalCount"] == 0 && run["all"]["totalCount"] == 1), "{:#}", runs[0]);
        // Too many conditions for the parameters of a single statement.
        let mut or: Vec<Value> = (0..99).map(|i| json!({ "search": format!("none {i}"), "statuses": ["FAILED", "PAUSED"], "channels": ["SMS"] })).collect();
        or.push(json!({ "types": ["RUN", "SCHEDULE", "TEST_RUN"] }));
        let or = json!({ "or": or });
        let below = "query($f: RunFilter!) { campaigns(first: 110) { nodes { runs(first: 1, filter: $f) { totalCount nodes { name } countsByStatus { count } } } } }";
        let data = world.ask(below, json!({ "f": or })).await;
        let campaigns = data["campaigns"]["nodes"].as_array().unwrap();
        let seeded = campaigns.iter().filter(|one| one["runs"]["totalCount"] == 3 && one["runs"]["nodes"].as_array().unwrap().len() == 1);
        assert!(seeded.count() >= 109, "{:#}", campaigns[0]);
        // Beyond the maximum number of filters there is an error.
        let deep = json!({ "or": vec![json!({ "or": vec![json!({ "search": "x" }); 60] }); 2] });
        let (code, message) = world.refused("query($f: RunFilter!) { runs(filter: $f) { totalCount } }", json!({ "f": deep })).await;
        assert_eq!((code.as_str(), message.starts_with("filter.or[1].or[")), ("LIMIT_EXCEEDED", true), "{message}");
        world.drop_unchecked().await;
    }
}

both! {
    async fn one_that_the_database_refuses_is_told_of_that_one(kind) {
        use sea_orm::{EntityTrait, QueryFilter, sea_query::Expr};
        use sortie::kernel::page::{Args, Window};
        let world = World::without_server(kind, None).await;
        world.leads(3).await;
        let window = |name: &str, met: &'static str| Window::<entity::record::Entity> {
            select: entity::record::Entity::find().filter(Expr::cust(met)),
            order: sortie::domain::audience::record::NEWEST_FIRST,
            fingerprint: name.to_owned(),
            args: Args::default(),
            part: None,
        };
        let all = [window("all", "1 = 1"), window("broken", "no_such_function(1) = 1"), window("none", "1 = 0")];
        let pages = Window::read_all(world.db.read(), &all).await.unwrap();
        assert_eq!(pages.iter().map(|page| page.as_ref().ok().map(|page| page.rows.len())).collect::<Vec<_>>(), [Some(3), None, Some(0)]);
        let counts = Window::count_all(world.db.read(), &all).await.unwrap();
        assert_eq!(counts.into_iter().map(|count| count.ok()).collect::<Vec<_>>(), [Some(3), None, Some(0)]);
        world.end().await;
    }
}
