//! The consistency checker: each invariant is violated by direct SQL, and the checker names it.

use serde_json::json;

use crate::harness::{Kind, World};

async fn wrong(world: &World) -> Vec<&'static str> {
    let found = sortie::app::check::check(&world.db).await.unwrap();
    found
        .iter()
        .filter(|one| one.wrong > 0)
        .inspect(|one| assert!(!one.examples.is_empty()))
        .map(|one| one.what)
        .collect()
}

both! {
    async fn what_is_broken_is_named(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        let scheduled = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2027-01-01T00:00:00Z\" }) { run { id } } }";
        world.ask(scheduled, json!({ "id": plan.campaign })).await;
        world.ask("mutation($id: ID!) { startBulkAction(input: { verb: PAUSE_RUNS, ids: [$id] }) { bulkAction { id } } }", json!({ "id": run })).await;
        world.ask("mutation($id: ID!) { addRunNote(input: { runId: $id, belongsTo: GOAL, text: \"n\" }) { runNote { id } } }", json!({ "id": run })).await;
        world.ask("mutation($a: ID!, $b: ID!) { linkRecords(input: { fromId: $a, toId: $b, role: \"friend\" }) { recordLink { id } } }", json!({ "a": plan.records[0], "b": plan.records[1] })).await;
        world.own_run(&[("own", "note", json!({}))], json!({})).await;
        world.tick(true).await;
        assert_eq!(wrong(&world).await, Vec::<&str>::new());
        let payload = |from: &str, to: &str| match kind {
            Kind::Sqlite => format!("replace(payload, '{from}', '{to}')"),
            Kind::Postgres => format!("replace(payload::text, '{from}', '{to}')::jsonb"),
        };
        let org = if kind == Kind::Sqlite { "x'01930000000070008000000000000099'" } else { "'01930000-0000-7000-8000-000000000099'" };
        let broken = [
            ("UPDATE task SET completed = completed + 1 WHERE key = 'draft'".to_owned(), "the counters of every task"),
            ("UPDATE step SET error = 'x', status = 'FAILED' WHERE kind = 'summarise'".to_owned(), "folding the log"),
            ("UPDATE step SET attempt_count = 3 WHERE kind = 'draft_message'".to_owned(), "attempts of a step"),
            ("UPDATE step SET failure_count = 9 WHERE kind = 'send_message'".to_owned(), "only a step in progress"),
            ("UPDATE step SET completed_by = NULL WHERE kind = 'draft_message'".to_owned(), "a step that has ended"),
            ("UPDATE phase SET status = 'FAILED'".to_owned(), "the status of every task, phase and run"),
            ("UPDATE communication SET reserved_at = NULL".to_owned(), "nothing is sent without a reservation"),
            ("UPDATE communication SET to_address = 'same@example.com'".to_owned(), "an address gets one message"),
            ("UPDATE communication SET status = 'UNKNOWN'".to_owned(), "the outcome of a recipient"),
            ("UPDATE record SET erased_at = created_at".to_owned(), "an erased record is empty"),
            ("UPDATE run_record SET outcome = NULL".to_owned(), "every record of a completed or cancelled run"),
            ("UPDATE run SET status = 'QUEUED' WHERE status = 'SCHEDULED'".to_owned(), "an occurrence that fell due"),
            ("UPDATE schedule SET status = 'ENDED', next_at = NULL; UPDATE run SET status = 'SCHEDULED' WHERE schedule_id IS NOT NULL".to_owned(), "a live schedule has scheduled runs"),
            (format!("UPDATE event SET payload = {} WHERE kind = 'run.started'", payload("IN_PROGRESS", "SCHEDULED")), "every change of status is a transition"),
            (format!("UPDATE event SET payload = {} WHERE kind = 'run.completed'", payload("\"IN_PROGRESS\"", "\"PAUSED\"")), "every change follows"),
            (format!("INSERT INTO org (id, name, created_at) VALUES ({org}, 'o', '2026-01-01T00:00:00+00:00'); UPDATE reply SET org_id = {org}; UPDATE segment SET org_id = {org}"), "no row refers to another org"),
            (format!("INSERT INTO idempotency_key (org_id, asker, mutation, key, input, created_at) VALUES ({org}, 'a', 'm', 'k', 'i', '2026-01-01T00:00:00+00:00')"), "an idempotency key names"),
            ("UPDATE event SET kind = 'run.cancelled' WHERE kind = 'run.started'".to_owned(), "no message is reserved after"),
            ("DELETE FROM event WHERE kind = 'run.created'".to_owned(), "positions of each org"),
            ("INSERT INTO sweep (id, org_id, run_id, kind, actor, created_at, held) SELECT id, org_id, id, 'CLOSE', created_by, created_at, TRUE FROM run WHERE status = 'COMPLETED'".to_owned(), "a sweep is held"),
            ("UPDATE bulk_action SET done = 1, refused = 0".to_owned(), "the counts of a bulk action"),
            ("UPDATE step SET sequence = 1 WHERE key = 'own'".to_owned(), "the steps of guided work"),
            ("UPDATE run_note SET goal_id = NULL".to_owned(), "a note carries the campaign and the goal"),
            ("UPDATE record_link SET role = 'enemy'".to_owned(), "a link joins two records that are not erased"),
        ];
        for (sql, what) in broken {
            world.force(&sql).await;
            let found = wrong(&world).await;
            assert!(found.iter().any(|found| found.starts_with(what)), "{sql}: {found:?}");
        }
        world.drop_unchecked().await;
    }
}
