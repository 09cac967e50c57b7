//! Bulk operations at 1, 499, 500, 501 and 5,000: imports, opt-outs, work by workers, retries,
//! repeats, bulk actions.

use serde_json::{Value, json};
use sortie::domain::import::{Options, import_with};

use crate::harness::World;

const SIZES: [usize; 5] = [1, 499, 500, 501, 2_000];

/// Imports a file and returns the counts of created, updated, unchanged and bad rows.
async fn import(world: &World, kind: &str, csv: &str) -> [i64; 4] {
    let options = Options { kind: kind.into(), file: "sizes.csv".into(), ..Options::default() };
    let report = import_with(&world.db.write(), &world.viewer, &options, csv.as_bytes(), |_, _| ()).await.unwrap();
    [report.created, report.updated, report.unchanged, report.bad]
}

/// A file of a number of lines, each made from its index.
fn csv(header: &str, rows: usize, line: impl Fn(usize) -> String) -> String {
    let mut all = format!("{header}\n");
    for i in 0..rows {
        all += &line(i);
        all.push('\n');
    }
    all
}

both! {
    async fn files_and_opt_outs_of_any_size(kind) {
        let world = World::without_server(kind, None).await;
        for rows in SIZES.into_iter().chain([20_000]) {
            let of = format!("of{}", "x".repeat(rows.to_string().len()) + &"y".repeat(rows % 10));
            let n = rows as i64;
            let plain = csv("external_id,name,email", rows, |i| format!("{of}-{i},N {i},{of}-{i}@example.com"));
            assert_eq!(import(&world, &of, &plain).await, [n, 0, 0, 0]);
            assert_eq!(import(&world, &of, &plain).await, [0, 0, n, 0]);
            let named = csv("external_id,name", rows, |i| format!("{of}-{i},M {i}"));
            assert_eq!(import(&world, &of, &named).await, [0, n, 0, 0]);
            // Half of them opt out in a file, the rest by a bulk action; each is suppressed once.
            let out = csv("external_id,opted_out", rows, |i| format!("{of}-{i},{}", if i % 2 == 0 { "yes" } else { "" }));
            let half = n - n / 2;
            assert_eq!(import(&world, &of, &out).await, [0, half, n - half, 0]);
            let query = "mutation($kind: String!) { unsubscribeRecords(input: { filter: { kind: { eq: $kind } } }) { count } }";
            let done = world.ask(query, json!({ "kind": of })).await;
            assert_eq!(done["unsubscribeRecords"]["count"], n - half, "{rows}");
            world.tick(false).await;
            let query = "query($kind: String!) { all: records(filter: { kind: { eq: $kind } }) { totalCount } out: records(filter: { kind: { eq: $kind }, unsubscribed: true }) { totalCount } }";
            let counts = world.ask(query, json!({ "kind": of })).await;
            assert_eq!((&counts["all"]["totalCount"], &counts["out"]["totalCount"]), (&json!(n), &json!(n)), "{rows}");
        }
        let suppressed = world.number("SELECT COUNT(DISTINCT address_key) FROM suppression").await;
        assert_eq!(suppressed, (SIZES.iter().sum::<usize>() + 20_000) as i64);
        world.end().await;
    }
}

/// Claims all queued steps and settles each with an outcome; returns their number.
async fn settle_all(world: &World, outcome: Value) -> usize {
    let claim = "mutation { claimSteps(input: { agent: \"looker\", worker: \"w\", limit: 500, leaseSeconds: 600 }) { steps { id token } } }";
    let settle = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { agent: \"looker\", steps: $steps }) { steps { code message } } }";
    let mut all = 0;
    loop {
        let claimed = world.ask(claim, json!({})).await["claimSteps"]["steps"].as_array().unwrap().clone();
        if claimed.is_empty() {
            return all;
        }
        all += claimed.len();
        let steps: Vec<Value> = claimed
            .into_iter()
            .map(|mut step| {
                step.as_object_mut().unwrap().extend(outcome.as_object().unwrap().clone());
                step
            })
            .collect();
        let settled = world.ask(settle, json!({ "steps": steps })).await;
        for one in settled["settleSteps"]["steps"].as_array().unwrap() {
            assert_eq!(one["code"], Value::Null, "{one:#}");
        }
        world.tick(false).await;
    }
}

/// Statuses of a run and the counts of its recipients' outcomes.
async fn ended(world: &World, run: &str) -> Value {
    let query = "query($id: ID!) { run(id: $id) { status outcome records { totalCount } } }";
    world.ask(query, json!({ "id": run })).await["run"].clone()
}

both! {
    async fn retries_and_repeats_of_any_size(kind) {
        let world = World::without_server(kind, None).await;
        let steps = json!([{ "key": "s", "name": "Look", "type": "look", "assignedTo": "AGENT", "trigger": "immediate" }]);
        let tasks = json!([{ "key": "t", "name": "T", "fanOut": true, "steps": steps }]);
        let template = json!({ "key": "looks", "name": "Look", "phases": [{ "key": "p", "name": "P", "autonomous": true, "tasks": tasks }] });
        world.apply(&json!({ "agents": [{ "name": "looker" }], "runTemplates": [template] }).to_string()).await;
        let retry = "mutation($id: ID!) { retryRun(input: { id: $id }) { run { id } } }";
        let repeat = "mutation($id: ID!) { repeatRun(input: { id: $id, onlyFailed: true }) { run { id } } }";
        for records in SIZES {
            let begun = std::time::Instant::now();
            let of = format!("r{}", "x".repeat(records.to_string().len()) + &"y".repeat(records % 10));
            world.many_records(kind, &of, records).await;
            let run = world.fly("looks", json!({ "segmentId": world.all_of(&of).await })).await;
            world.tick(false).await;
            // All fail; they are tried again in the run, and fail again.
            let failed = json!({ "error": "no answer", "retryable": false });
            assert_eq!(settle_all(&world, failed.clone()).await, records);
            assert_eq!(world.steps_in(&run, "failed").await, records as i64);
            world.ask(retry, json!({ "id": run })).await;
            world.tick(false).await;
            assert_eq!(settle_all(&world, failed).await, records, "retried");
            let over = ended(&world, &run).await;
            assert!(["FAILED", "COMPLETED"].contains(&over["status"].as_str().unwrap()), "{over:#}");
            // A repeat of them succeeds for all.
            let second = world.ask(repeat, json!({ "id": run })).await["repeatRun"]["run"]["id"].as_str().unwrap().to_owned();
            world.tick(false).await;
            assert_eq!(settle_all(&world, json!({ "result": {} })).await, records, "repeated");
            let over = ended(&world, &second).await;
            assert_eq!((&over["status"], &over["records"]["totalCount"]), (&json!("COMPLETED"), &json!(records)), "{over:#}");
            assert_eq!(world.refused(repeat, json!({ "id": run })).await.0, "CONFLICT");
            println!("{kind:?}: {records} failed twice and repeated after {:?}", begun.elapsed());
        }
        world.end().await;
    }
}

both! {
    async fn bulk_actions_on_any_number_of_runs(kind) {
        let world = World::without_server(kind, None).await;
        let cancel = "mutation($filter: RunFilter!, $dry: Boolean) { cancelRuns(input: { filter: $filter, dryRun: $dry }) { matched count refusedCounts { code count } } }";
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2027-01-01T00:00:00Z\" }) { run { id } } }";
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        world.ask(schedule, json!({ "id": plan.campaign })).await;
        let all = json!({ "campaignIds": [plan.campaign] });
        let mut before = 1;
        for runs in [1, 499, 500, 501, 1_000, 1_001] {
            // More of the same kind, of which the given number is pending.
            if runs > before {
                copy_run(&world, runs - before).await;
            }
            before = runs;
            let dry = world.post(cancel, json!({ "filter": all, "dry": true })).await;
            if runs > 1_000 {
                assert_eq!(dry["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{dry:#}");
                continue;
            }
            assert_eq!(dry["data"]["cancelRuns"]["count"], runs, "{dry:#}");
            if runs == 1_000 {
                let done = world.ask(cancel, json!({ "filter": all })).await;
                assert_eq!(done["cancelRuns"]["count"], runs, "{done:#}");
            }
        }
        world.drop_unchecked().await;
    }
}

/// Inserts `count` copies of the only scheduled run.
async fn copy_run(world: &World, count: usize) {
    let (uuid, numbers) = match world.db.dialect() {
        sortie::kernel::db::dialect::Dialect::Sqlite => (
            "randomblob(16)",
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n)"
            ),
        ),
        sortie::kernel::db::dialect::Dialect::Postgres => {
            ("gen_random_uuid()", format!("(SELECT i FROM generate_series(1, {count}) AS i)"))
        }
    };
    let columns = columns_of(world, "run").await;
    let from: Vec<String> = columns
        .iter()
        .map(|name| match name.as_str() {
            "id" => uuid.to_owned(),
            // An occurrence is unique within its schedule, so the copies belong to none.
            "schedule_id" | "occurrence_at" => "NULL".to_owned(),
            _ => format!("r.{name}"),
        })
        .collect();
    world
        .force(&format!(
            "INSERT INTO run ({}) SELECT {} FROM (SELECT * FROM run ORDER BY id LIMIT 1) AS r CROSS JOIN {numbers} AS n",
            columns.join(", "),
            from.join(", ")
        ))
        .await;
}

async fn columns_of(world: &World, table: &str) -> Vec<String> {
    let sql = match world.db.dialect() {
        sortie::kernel::db::dialect::Dialect::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
        sortie::kernel::db::dialect::Dialect::Postgres => {
            format!(
                "SELECT column_name::text FROM information_schema.columns WHERE table_name = '{table}' AND table_schema = current_schema()"
            )
        }
    };
    world.sql(&sql).await.into_iter().map(|mut row| row.remove(0)).collect()
}

both! {
    /// A run has a maximum of steps per record times records.
    async fn a_run_makes_so_many_steps(kind) {
        let world = World::without_server(kind, None).await;
        let steps = |count: usize| -> Vec<Value> {
            (0..count).map(|i| json!({ "key": format!("s{i}"), "name": "Look", "type": "look", "assignedTo": "AGENT" })).collect()
        };
        let template = |key: &str, count: usize| json!({ "key": key, "name": key, "phases": [{ "key": "p", "name": "P", "autonomous": true,
            "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": steps(count) }] }] });
        let manifest = json!({ "agents": [{ "name": "looker" }], "runTemplates": [template("large", 990), template("usual", 8)] });
        world.apply(&manifest.to_string()).await;
        world.many_records(kind, "few", 2_020).await;
        world.many_records(kind, "more", 2_021).await;
        world.many_records(kind, "lead", 100_000).await;
        let goal = world.create("goal", json!({ "name": "G" })).await;
        for (key, of, ready) in [("large", "few", true), ("large", "more", false), ("usual", "lead", true)] {
            let template = world.id_of("runTemplates", "key", key).await;
            let segment = world.all_of(of).await;
            let campaign = world.create("campaign", json!({ "name": key, "channel": "EMAIL", "goalId": goal, "segmentId": segment, "runTemplateId": template })).await;
            let judged = "mutation($id: ID!) { submitCampaign(input: { id: $id }) { campaign { status } preflight { ready checks { code status field message } } } }";
            let judged = world.ask(judged, json!({ "id": campaign })).await["submitCampaign"]["preflight"].clone();
            let check = judged["checks"].as_array().unwrap().iter().find(|check| check["code"] == "RUN_SIZE").unwrap();
            assert_eq!(check["status"], if ready { "PASSED" } else { "FAILED" }, "{key} {of}: {judged:#}");
            assert_eq!(judged["ready"], ready, "{key} {of}: {judged:#}");
            if !ready {
                assert_eq!(check["field"], "segmentId");
                let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } } }";
                world.force("UPDATE campaign SET status = 'ACTIVE'").await;
                let launched = world.ask(launch, json!({ "id": campaign })).await;
                assert!(launched["runCampaign"]["run"].is_null(), "{launched:#}");
            }
        }
        world.drop_unchecked().await;
    }
}
