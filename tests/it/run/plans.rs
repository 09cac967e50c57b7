//! The records of a guided step are read from an index, with a constant number of statements,
//! however many records there are; so are the lists of steps. (For their speed: `cargo bench --bench
//! speed -- guided`, `-- pages`.)

use serde_json::json;
use sortie::domain::plan::run_template::guided::GuidedConfig;
use sortie::domain::run::guided::records;
use sortie::domain::run::step::list::{Sort, SortBy};
use sortie::kernel::event::EventSelector;
use sortie::kernel::page::Args;

use crate::harness::{Kind, World, noon};

const MANY: usize = 6_000;

/// Fills the world like the benchmark does: records of all stages and priorities, most contacted
/// lately, some never, some that replied.
async fn fill(world: &World, count: usize) {
    const STAGES: [&str; 6] =
        ["New Lead", "Conversation Active", "MOU Drafted", "MOU Sent", "MOU Signed", "Active Partner"];
    for kind in ["partnership", "objective", "lead"] {
        let mut csv = String::from("external_id,name,email,stage,priority,contact,last_contacted_at\n");
        for i in 0..count {
            let ago = chrono::Duration::hours((i % 700) as i64);
            let contacted = if i % 11 == 0 { String::new() } else { (noon() - ago).to_rfc3339() };
            csv += &format!(
                "{i},Partner {i},p{i}@example.com,{},{},Dr {i},{contacted}\n",
                STAGES[i % 6],
                i * 7_919 % 1_000
            );
        }
        let file = std::io::Cursor::new(csv);
        sortie::domain::import::import(&world.db.write(), &world.viewer, kind, "x.csv", file, |_, _| {}).await.unwrap();
    }
}

both! {
    async fn what_a_step_shows_is_answered_from_an_index(kind) {
        let world = World::without_server(kind, None).await;
        fill(&world, MANY).await;
        world.force("UPDATE record SET last_replied_at = last_contacted_at WHERE priority < 100").await;
        // Every other lead has become a partnership.
        world.force("INSERT INTO record_link (id, org_id, from_id, to_id, role, created_by, created_at) \
            SELECT l.id, l.org_id, l.id, p.id, 'partnership', '{}', l.created_at FROM record l JOIN record p ON p.org_id = l.org_id \
            AND p.kind = 'partnership' AND p.external_id = l.external_id WHERE l.kind = 'lead' AND l.priority < 500").await;
        // Postgres maintains its statistics itself; SQLite has none without ANALYZE.
        if kind == Kind::Postgres {
            world.force("ANALYZE").await;
        }
        let run = world.guided("weekly-pipeline-review", json!({})).await.parse().unwrap();
        let mut looked = 0;
        for template in sortie::domain::plan::run_template::built_in::all().iter().filter(|one| one.kind == entity::TemplateKind::Guided) {
            for step in template.definition.phases.iter().flat_map(|phase| &phase.tasks).flat_map(|task| &task.steps) {
                let Some(source) = GuidedConfig::of(step).unwrap().records else { continue };
                let plan = records::plan(&world.db, &world.viewer, run, &source).await.unwrap();
                println!("{kind:?} {} {}:\n{plan}\n", template.key, step.key);
                let (through, sorted) = match kind {
                    Kind::Sqlite => (plan.contains("USING INDEX record_of_kind_"), plan.contains("TEMP B-TREE")),
                    Kind::Postgres => (plan.contains("using record_of_kind_") || plan.contains("on record_of_kind_"), plan.contains("Sort Key")),
                };
                assert!(through && !plan.contains("Seq Scan on record "), "{} {}: {plan}", template.key, step.key);
                assert!(!sorted, "{} {}: {plan}", template.key, step.key);
                looked += 1;
            }
        }
        assert!(looked >= 18, "{looked}");
        world.end().await;
    }
}

/// Steps of all kinds, few of each among many that a workflow has completed.
const RARE: &str = "UPDATE step SET status = 'AWAITING_APPROVAL', assigned_to = 'HUMAN', assignee_role = 'REVIEWER',
    kind = 'approval', due_at = '2026-01-01T00:00:00+00:00', assignee_id = (SELECT id FROM member LIMIT 1),
    record_id = (SELECT id FROM record LIMIT 1)
    WHERE id IN (SELECT id FROM step ORDER BY id DESC LIMIT 3)";

both! {
    async fn each_condition_on_steps_is_answered_from_an_index(kind) {
        let world = World::without_server(kind, None).await;
        let member = world.ask("{ members(first: 1) { nodes { id } } }", json!({})).await["members"]["nodes"][0]["id"].clone();
        let size = sortie::app::seed::Size { campaigns: 10, runs: 2_000, steps_per_run: 5 };
        sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
        let record: entity::id::RecordId = world.ask("mutation { createRecord(input: { kind: \"lead\", name: \"L\" }) { record { id } } }", json!({}))
            .await["createRecord"]["record"]["id"].as_str().unwrap().parse().unwrap();
        world.force(RARE).await;
        if kind == Kind::Postgres {
            world.force("ANALYZE").await;
        }
        let steps = world.ask("{ steps(last: 1) { nodes { id run { id } task { id } } } }", json!({})).await["steps"]["nodes"][0].clone();
        for condition in [
            json!({ "runIds": [steps["run"]["id"]] }),
            json!({ "taskIds": [steps["task"]["id"]] }),
            json!({ "statuses": ["AWAITING_APPROVAL"] }),
            json!({ "statuses": ["FAILED"] }),
            json!({ "types": ["approval"] }),
            json!({ "types": ["none"] }),
            json!({ "assignedTo": ["HUMAN"] }),
            json!({ "assignedTo": ["HUMAN", "AGENT"] }),
            json!({ "assigneeIds": [member] }),
            json!({ "roles": ["REVIEWER"] }),
            json!({ "recordIds": [record.to_string()] }),
            json!({ "overdue": true }),
            json!({ "dueAt": { "to": "2026-02-01T00:00:00Z" } }),
            json!({ "createdAt": { "to": "2000-01-01T00:00:00Z" } }),
            json!({ "ready": true }),
            json!({ "ids": [steps["id"]] }),
        ] {
            let by_id = condition["ids"].is_array();
            let filter = <sortie::domain::run::step::StepFilter as async_graphql::InputType>::parse(
                Some(async_graphql::Value::from_json(condition.clone()).unwrap())).ok().unwrap();
            for args in [Args { first: Some(50), ..Args::default() }, Args { last: Some(50), ..Args::default() }] {
                let window = sortie::domain::run::step::window(&world.db, &world.viewer, &filter, Sort::default(), args, noon()).unwrap();
                let plan = window.plan(world.db.read()).await.unwrap();
                let without = match kind {
                    Kind::Sqlite => plan.lines().any(|line| line.starts_with("SCAN")) || plan.contains("USING INDEX step_by_org"),
                    Kind::Postgres => plan.contains("Seq Scan on step") || ((plan.contains("step_by_org") || plan.contains("step_pkey")) && !by_id),
                };
                assert!(!without, "{kind:?} {condition}: {plan}");
            }
        }
        for which in [
            EventSelector { steps: Some(vec![steps["id"].as_str().unwrap().parse().unwrap()]), ..EventSelector::default() },
            EventSelector { records: Some(vec![record]), ..EventSelector::default() },
        ] {
            for from_end in [false, true] {
                let plan = sortie::kernel::event::plan(&world.db, &world.viewer, &which, from_end).await.unwrap();
                assert!(plan.contains("event_by_step") || plan.contains("event_by_record"), "{kind:?} {which:?}: {plan}");
            }
        }
        world.end().await;
    }
}

both! {
    async fn steps_by_their_due_time_are_read_in_order_from_an_index(kind) {
        use sea_orm::{ConnectionTrait, TransactionTrait};
        use sortie::domain::run::step::{StepFilter, window};

        let world = World::without_server(kind, None).await;
        let size = sortie::app::seed::Size { campaigns: 10, runs: 2_000, steps_per_run: 5 };
        sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
        world.force("UPDATE step SET assigned_to = 'HUMAN', status = 'PENDING', due_at = '2026-12-01T00:00:00+00:00', assignee_id = (SELECT id FROM member LIMIT 1)
            WHERE id IN (SELECT id FROM step ORDER BY id DESC LIMIT 30)").await;
        world.force("UPDATE step SET due_at = '2026-01-01T00:00:00+00:00' WHERE id IN (SELECT id FROM step ORDER BY id LIMIT 3000)").await;
        if kind == Kind::Postgres {
            world.force("ANALYZE").await;
        }
        let tx = world.db.read().connection().begin().await.unwrap();
        if kind == Kind::Postgres {
            // The planner would read a few rows as a whole and sort them, unless that is disabled.
            tx.execute_unprepared("SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off").await.unwrap();
        }
        for (filter, index) in [
            (json!({}), "step_by_due"),
            (json!({ "ready": true }), "by_due"),
            (json!({ "overdue": true }), "by_due"),
            (json!({ "assignedTo": ["HUMAN"], "ready": true }), "by_due"),
            (json!({ "mine": true }), "by_due"),
        ] {
            let parsed = Some(async_graphql::Value::from_json(filter.clone()).unwrap());
            let parsed = <StepFilter as async_graphql::InputType>::parse(parsed).ok().unwrap();
            for descending in [false, true] {
                for args in [Args { first: Some(50), ..Args::default() }, Args { last: Some(50), ..Args::default() }] {
                    let sort = Sort { by: SortBy::DueAt, descending };
                    let window = window(&world.db, &world.viewer, &parsed, sort, args, noon()).unwrap();
                    let plan = window.plan(&tx).await.unwrap();
                    // The rows without a due time are those of a list in order of creation.
                    let sorts = plan.contains("Sort Key") || plan.contains("TEMP B-TREE");
                    assert!(plan.contains(index) && !sorts, "{kind:?} {filter} {descending}: {plan}");
                }
            }
        }
        tx.rollback().await.unwrap();
        // Seeded steps were changed behind the log's back.
        world.drop_unchecked().await;
    }
}

/// One goal, segment, writer, reviewer and message template that three campaigns of many use, and a
/// goal that three runs were launched for.
const RARELY_USED: &str =
    "UPDATE campaign SET goal_id = #goal, segment_id = #segment, writer_id = #writer, reviewer_id = #reviewer,
    message_template_id = #message_template WHERE id IN (SELECT id FROM campaign ORDER BY id DESC LIMIT 3);
    UPDATE run SET goal_id = #goal WHERE id IN (SELECT id FROM run ORDER BY id DESC LIMIT 3)";

both! {
    async fn what_uses_a_part_is_read_in_order_from_an_index(kind) {
        use sea_orm::{ConnectionTrait, TransactionTrait};
        use sortie::domain::plan::campaign::list as campaigns;
        use sortie::domain::run::list as runs;

        let world = World::without_server(kind, None).await;
        let size = sortie::app::seed::Size { campaigns: 3_000, runs: 3_000, steps_per_run: 1 };
        sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
        let often = world.ask("{ campaigns(last: 1) { nodes { id goal { id } segment { id } writer { id } reviewer { id } messageTemplate { id } } } }", json!({}))
            .await["campaigns"]["nodes"][0].clone();
        let mut force = RARELY_USED.to_owned();
        let mut rarely = json!({});
        for (noun, table, input) in [
            ("goal", "goal", json!({ "name": "Rare" })),
            ("segment", "segment", json!({ "name": "Rare", "recordIds": [] })),
            ("writer", "writer", json!({ "name": "Rare" })),
            ("reviewer", "reviewer", json!({ "name": "Rare" })),
            ("messageTemplate", "message_template", json!({ "name": "Rare", "subject": "s", "body": "b" })),
        ] {
            rarely[noun] = json!({ "id": world.create(noun, input).await });
            force = force.replace(&format!("#{table}"), &format!("(SELECT id FROM {table} WHERE name = 'Rare')"));
        }
        for statement in force.split(';') {
            world.force(statement).await;
        }
        if kind == Kind::Postgres {
            world.force("ANALYZE").await;
        }
        let tx = world.db.read().connection().begin().await.unwrap();
        if kind == Kind::Postgres {
            // The planner would read a few rows as a whole and sort them, unless that is disabled.
            tx.execute_unprepared("SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off").await.unwrap();
        }
        let parsed = |value: &serde_json::Value| Some(async_graphql::Value::from_json(value.clone()).unwrap());
        let all_args = [Args { first: Some(50), ..Args::default() }, Args { last: Some(50), ..Args::default() }];
        for (filter, noun, index) in [
            ("goalIds", "goal", "campaign_of_goal"),
            ("segmentIds", "segment", "campaign_of_segment"),
            ("writerIds", "writer", "campaign_of_writer"),
            ("reviewerIds", "reviewer", "campaign_of_reviewer"),
            ("messageTemplateIds", "messageTemplate", "campaign_of_message_template"),
        ] {
            for (used, is_rare) in [(&rarely, true), (&often, false)] {
                let filter = json!({ filter: [used[noun]["id"]] });
                let filter = <campaigns::Filter as async_graphql::InputType>::parse(parsed(&filter)).ok().unwrap();
                for args in all_args.clone() {
                    let window = campaigns::window(&world.db, &world.viewer, &filter, campaigns::SortBy::CreatedAt, true, args).unwrap();
                    let plan = window.plan(&tx).await.unwrap();
                    let sorts = plan.contains("Sort") || plan.contains("TEMP B-TREE");
                    // Of what most campaigns use, either index gives the order.
                    assert!(!sorts && (plan.contains(index) || (!is_rare && plan.contains("campaign_by_created"))), "{kind:?} {noun}: {plan}");
                }
            }
        }
        let changed = json!({ "updatedAt": { "from": "2020-01-01T00:00:00Z" } });
        let changed = <campaigns::Filter as async_graphql::InputType>::parse(parsed(&changed)).ok().unwrap();
        for filter in [campaigns::Filter::default(), changed] {
            for args in all_args.clone() {
                let window = campaigns::window(&world.db, &world.viewer, &filter, campaigns::SortBy::UpdatedAt, true, args).unwrap();
                let plan = window.plan(&tx).await.unwrap();
                let sorts = plan.contains("Sort") || plan.contains("TEMP B-TREE");
                assert!(!sorts && plan.contains("campaign_by_updated"), "{kind:?} {filter:?}: {plan}");
            }
        }
        for used in [&rarely, &often] {
            let filter = json!({ "goalIds": [used["goal"]["id"]] });
            let filter = <runs::RunFilter as async_graphql::InputType>::parse(parsed(&filter)).ok().unwrap();
            for args in all_args.clone() {
                let plan = runs::plan(&tx, &world.viewer, &filter, runs::SortBy::CreatedAt, true, &args).await.unwrap();
                let sorts = plan.contains("Sort") || plan.contains("TEMP B-TREE");
                let indexed = plan.contains("run_of_goal") || (used == &often && plan.contains("run_by_created"));
                assert!(!sorts && indexed, "{kind:?} {filter:?}: {plan}");
            }
        }
        tx.rollback().await.unwrap();
        // Seeded campaigns were changed behind the log's back.
        world.drop_unchecked().await;
    }
}

/// Number of statements for a step's records with all that is shown of each. It is the minimum of a
/// few tries, because on Postgres the sequencer's statements are counted as well.
async fn cost(world: &World, step: &str, shown: usize) -> u64 {
    let query = "query($id: ID!) { step(id: $id) { records { nodes { id name communications(first: 3) { nodes { id status } }
        replies(first: 3) { nodes { id body } } activities(first: 3) { nodes { id kind } } followUps(statuses: [OPEN], first: 3) { nodes { id } }
        timeline(first: 3) { nodes { kind } } } } suggestions { record { id } mail { subject } } } }";
    let mut least = u64::MAX;
    for _ in 0..5 {
        let before = world.db.statements();
        let found = world.ask(query, json!({ "id": step })).await["step"].clone();
        least = least.min(world.db.statements() - before);
        let nodes = found["records"]["nodes"].as_array().unwrap();
        assert_eq!((nodes.len(), found["suggestions"].as_array().unwrap().len()), (shown, shown));
        for node in nodes {
            let counts = ["communications", "replies", "activities", "followUps", "timeline"]
                .map(|list| node[list]["nodes"].as_array().unwrap().len());
            assert_eq!(counts, [1, 1, 3, 1, 3], "{node:#}");
        }
    }
    least
}

both! {
    async fn what_is_shown_of_each_record_is_loaded_with_as_many_statements_for_many_as_for_few(kind) {
        let world = World::without_server(kind, None).await;
        fill(&world, 60).await;
        let ids = world.ask("{ records(first: 60, filter: { kind: { eq: \"partnership\" } }) { nodes { id } } }", json!({})).await["records"]["nodes"].clone();
        let ids: Vec<&str> = ids.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        let config = |count: usize| json!({ "records": { "ids": &ids[..count] }, "subject": "Hi {{ name }}", "body": "x" });
        let (_, steps) = world.own_run(&[("few", "email", config(2)), ("many", "email", config(50)), ("all", "custom", json!({}))], json!({})).await;
        world.step_act("startStep", &steps[2], json!({})).await;
        world.ask("mutation($s: ID!, $ids: [ID!]!) { addStepNote(input: { stepId: $s, text: \"n\", recordIds: $ids }) { step { id } } sendStepEmail(input: { stepId: $s, recordIds: $ids, subject: \"s\", body: \"b\" }) { step { id } } }", json!({ "s": steps[2], "ids": &ids[..50] })).await;
        for id in &ids[..50] {
            world.ask("mutation($s: ID!, $id: ID!) { createStepFollowUp(input: { stepId: $s, title: \"t\", recordId: $id }) { followUp { id } } }", json!({ "s": steps[2], "id": id })).await;
        }
        world.tick(true).await;
        let sent = world.ask("{ communications(first: 100) { nodes { id } } }", json!({})).await["communications"]["nodes"].clone();
        for message in sent.as_array().unwrap() {
            world.ask("mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"yes\" }) { reply { id } } }", json!({ "id": message["id"] })).await;
        }
        world.ask_all_events().await;
        let (few, many) = (cost(&world, &steps[0], 2).await, cost(&world, &steps[1], 50).await);
        assert_eq!(few, many);
        println!("{kind:?}: {many} statements for 50 records with all that is shown of each");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn housekeeping_gives_sqlite_its_statistics() {
    let world = World::without_server(Kind::Sqlite, None).await;
    world.leads(120).await;
    let look = json!({ "key": "look", "type": "look", "assignedTo": "HUMAN" });
    let phases = json!([{ "key": "p", "tasks": [{ "key": "t", "fanOut": true, "steps": [look] }] }]);
    world.apply(&json!({ "runTemplates": [{ "key": "looks", "name": "Looks", "phases": phases }] }).to_string()).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    let mut last = String::new();
    for name in ["a", "b", "c"] {
        last = world.fly("looks", json!({ "name": name, "segmentId": segment })).await;
        world.tick(false).await;
    }
    let plan = async || {
        let filter = <sortie::domain::run::step::StepFilter as async_graphql::InputType>::parse(Some(
            async_graphql::Value::from_json(json!({ "runIds": [last] })).unwrap(),
        ));
        let args = Args { first: Some(50), ..Args::default() };
        let filter = filter.ok().unwrap();
        let window =
            sortie::domain::run::step::window(&world.db, &world.viewer, &filter, Sort::default(), args, noon())
                .unwrap();
        window.plan(world.db.read()).await.unwrap()
    };
    assert!(plan().await.contains("step_by_org"), "{}", plan().await);
    world.db.keep_statistics().await.unwrap();
    assert!(plan().await.contains("step_by_run"), "{}", plan().await);
    world.end().await;
}
