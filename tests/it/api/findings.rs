//! Findings in a list: each run has those that it has alone, for as many statements whether the page has
//! one run or fifty.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sortie::domain::run::findings::FindingCode;
use sortie::kernel::db::dialect::Dialect;

use crate::harness::{Kind, World};

const FIELDS: &str = "name status campaign { id } findings { code severity belongsTo message count recordIds }";

/// Makes rows of all kinds for sixty runs without any: the higher a run's number, the more recipients it
/// has. Its last digit says its status.
const FILLED: [&str; 18] = [
    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 59)
        INSERT INTO run_record (id, org_id, run_id, record_id, outcome, reason)
        SELECT UUID, r.org_id, r.id, p.id,
        CASE (n.i + NUMBER) % 4 WHEN 0 THEN 'FAILED' WHEN 1 THEN 'SUPPRESSED' WHEN 2 THEN 'SKIPPED' ELSE 'SENT' END,
        CASE WHEN n.i % 7 = 0 THEN NULL WHEN NUMBER % 3 = 0 THEN 'OTHER: reason ' || (n.i % 45) ELSE 'STEP_FAILED' END
        FROM run r CROSS JOIN n LEFT JOIN record p ON p.external_id = 'L-' || (n.i % 6) WHERE n.i < NUMBER",
    "INSERT INTO step (id, org_id, run_id, phase_id, task_id, run_record_id, record_id, key, name, kind, sequence,
        status, reason, error, trigger, content_source, assigned_to, available_at, attempt_count, failure_count,
        max_attempts, lapse_count, created_at, revision)
        SELECT UUID, s.org_id, s.run_id, s.phase_id, s.task_id, p.id, p.record_id, 'call', 'Call', 'api_call', 1,
        CASE p.outcome WHEN 'FAILED' THEN 'FAILED' WHEN 'SUPPRESSED' THEN 'SKIPPED' ELSE 'COMPLETED' END,
        CASE p.outcome WHEN 'SUPPRESSED' THEN 'CONDITION_UNREADABLE' END, p.reason, 'immediate', 'SYSTEM_GENERATED',
        'WORKFLOW', s.available_at, 1, CASE p.outcome WHEN 'FAILED' THEN 2 ELSE 0 END, 5, 0, s.created_at, 1
        FROM step s JOIN run_record p ON p.run_id = s.run_id WHERE s.kind = 'send_message'",
    "INSERT INTO communication (id, org_id, campaign_id, run_id, step_id, run_record_id, record_id, occasion, channel,
        to_address, to_name, body, status, test, message_id, edited_by, error, refusals, created_at, updated_at, revision)
        SELECT UUID, r.org_id, r.campaign_id, r.id, s.id, p.id, p.record_id, 0, 'EMAIL', 'a@example.com', 'A', 'B',
        CASE WHEN p.outcome = 'SENT' THEN 'SENT' WHEN NUMBER % 5 = 0 THEN 'REJECTED' WHEN NUMBER % 5 = 1 THEN 'UNKNOWN'
        ELSE 'APPROVED' END, FALSE, TEXT, CASE WHEN NUMBER % 7 = 0 THEN r.created_by END, 'busy ' || r.name,
        CASE WHEN NUMBER % 10 = 2 AND p.outcome = 'FAILED' THEN 1 ELSE 0 END, s.created_at, s.created_at, 1
        FROM step s JOIN run r ON r.id = s.run_id JOIN run_record p ON p.id = s.run_record_id",
    "INSERT INTO reply (id, org_id, communication_id, campaign_id, run_id, record_id, channel, body, received_at,
        recorded_by, created_at, updated_at, status)
        SELECT UUID, c.org_id, c.id, c.campaign_id, c.run_id, c.record_id, c.channel, 'Yes', c.created_at,
        r.created_by, c.created_at, c.created_at, CASE WHEN NUMBER % 4 = 0 THEN 'HANDLED' ELSE 'OPEN' END
        FROM communication c JOIN run r ON r.id = c.run_id WHERE c.status = 'SENT'",
    "INSERT INTO stuck (work, subject, org_id, run_id, failures, error, since, last_at, next_try_at)
        SELECT 'CLAIM', r.id, r.org_id, r.id, 3, 'error of ' || r.name, r.created_at, r.created_at, r.created_at
        FROM run r WHERE NUMBER % 6 = 0",
    "INSERT INTO channel_pause (org_id, channel, refused, error, tries, since, next_try_at)
        SELECT r.org_id, 'EMAIL', '[]', 'busy', 1, r.created_at, r.created_at FROM run r WHERE NUMBER = 0",
    "UPDATE run SET goal_id = NULL WHERE name LIKE 'Run %1'",
    "UPDATE run SET status = 'IN_PROGRESS', ended_at = NULL WHERE name LIKE 'Run %2'",
    "UPDATE run SET status = 'PAUSED', ended_at = NULL WHERE name LIKE 'Run %3'",
    "UPDATE run SET status = 'QUEUED', started_at = NULL, ended_at = NULL WHERE name LIKE 'Run %4'",
    "UPDATE run SET status = 'SCHEDULED', scheduled_for = created_at, queued_at = NULL, started_at = NULL,
        ended_at = NULL WHERE name LIKE 'Run %5'",
    "UPDATE run SET status = 'FAILED', failure = 'the cause of ' || name WHERE name LIKE 'Run %6'",
    "UPDATE run SET status = 'CANCELLED' WHERE name LIKE 'Run %7'",
    "UPDATE run SET scheduled_for = created_at, queued_at = '2026-11-02T12:00:00+00:00' WHERE name LIKE 'Run %8'",
    "UPDATE run SET type = 'GUIDED', campaign_id = NULL, goal_id = NULL WHERE name LIKE 'Run %9'",
    "UPDATE campaign SET instructions = 'At length' WHERE name LIKE 'Campaign %2'",
    "UPDATE campaign SET goal_id = NULL, segment_id = NULL WHERE name LIKE 'Campaign %3'",
    "UPDATE campaign SET writer_id = NULL, instructions = 'None' WHERE name LIKE 'Campaign %4'",
];

/// Sixty runs of seven campaigns.
async fn sixty_runs(kind: Kind) -> World {
    let world = World::without_server(kind, None).await;
    let size = sortie::app::seed::Size { campaigns: 7, runs: 60, steps_per_run: 1 };
    sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
    world.leads(5).await;
    let (uuid, text) = match world.db.dialect() {
        Dialect::Postgres => ("gen_random_uuid()", "CAST(gen_random_uuid() AS text)"),
        Dialect::Sqlite => ("randomblob(16)", "hex(randomblob(16))"),
    };
    for sql in FILLED {
        let sql = sql.replace("UUID", uuid).replace("TEXT", text);
        world.force(&sql.replace("NUMBER", "CAST(SUBSTR(r.name, 5) AS integer)")).await;
    }
    world
}

/// The runs of the shortest page from the oldest on, and the number of statements.
async fn page(world: &World, first: usize) -> (Vec<Value>, u64) {
    let query = format!(
        "query($first: Int) {{ runs(first: $first, orderBy: {{ field: CREATED_AT, direction: ASC }}) {{ nodes {{ id {FIELDS} }} }} }}"
    );
    let (mut runs, mut least) = (Vec::new(), u64::MAX);
    // Snapshots of runs are cached; on Postgres the sequencer's statements are counted as well.
    for _ in 0..if world.db.dialect() == Dialect::Postgres { 5 } else { 2 } {
        let before = world.db.statements();
        let data = world.ask(&query, json!({ "first": first })).await;
        least = least.min(world.db.statements() - before);
        runs = data["runs"]["nodes"].as_array().unwrap().clone();
    }
    assert_eq!(runs.len(), first);
    (runs, least)
}

/// The run without DRIFT: seeded runs of other worlds have the same ids, and snapshots are cached by them.
fn without_drift(run: &Value) -> Value {
    let mut run = run.clone();
    run["findings"].as_array_mut().unwrap().retain(|one| one["code"] != "DRIFT");
    run
}

fn with_code<'a>(run: &'a Value, code: &str) -> Vec<&'a Value> {
    run["findings"].as_array().unwrap().iter().filter(|one| one["code"] == code).collect()
}

/// The sum of the counts of a run's findings with a code.
fn sum(run: &Value, code: &str) -> i64 {
    with_code(run, code).iter().map(|one| one["count"].as_i64().unwrap()).sum()
}

/// Checks the counts of a run against the rows.
async fn check_counts(world: &World, run: &Value) {
    let name = run["name"].as_str().unwrap();
    let number = async |from: &str, condition: &str| {
        let sql = format!(
            "SELECT COUNT(*) FROM {from} x JOIN run r ON r.id = x.run_id WHERE r.name = '{name}' AND {condition}"
        );
        world.number(&sql).await
    };
    for (code, from, condition) in [
        ("FAILED", "run_record", "x.outcome = 'FAILED'"),
        ("SUPPRESSED", "run_record", "x.outcome = 'SUPPRESSED'"),
        ("LEFT_OUT", "run_record", "x.outcome = 'SKIPPED'"),
        ("REJECTED", "communication", "x.status = 'REJECTED'"),
        ("EDITED", "communication", "x.edited_by IS NOT NULL"),
        ("UNKNOWN", "communication", "x.status = 'UNKNOWN'"),
        ("REFUSED_FOR_NOW", "communication", "x.refusals > 0"),
        ("REPLIES", "reply", "x.status IS NOT NULL"),
        ("REPLIES_OPEN", "reply", "x.status = 'OPEN'"),
        ("RETRIED", "step", "x.failure_count > 0"),
    ] {
        assert_eq!(sum(run, code), number(from, condition).await, "{code} of {name}: {run:#}");
    }
    let of_steps = number("step", "x.status = 'FAILED'").await;
    assert!(
        sum(run, "STEPS_FAILED") <= of_steps && (of_steps == 0) == with_code(run, "STEPS_FAILED").is_empty(),
        "{name}"
    );
    // Each reason has its own count and at most five examples, one for each recipient that has a record.
    let reasons = world
        .sql(&format!(
            "SELECT CAST(COUNT(*) AS text) || ' failed: ' || COALESCE(x.reason, 'no reason recorded'), CAST(COUNT(x.record_id) AS text) \
             FROM run_record x JOIN run r ON r.id = x.run_id WHERE r.name = '{name}' AND x.outcome = 'FAILED' GROUP BY x.reason"
        ))
        .await;
    let reasons: BTreeMap<String, usize> =
        reasons.into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect();
    let (others, listed): (Vec<&Value>, Vec<&Value>) = with_code(run, "FAILED")
        .into_iter()
        .partition(|one| one["message"].as_str().unwrap().ends_with("more failed, for other reasons"));
    for one in &listed {
        let message = one["message"].as_str().unwrap();
        let with_record = reasons.get(message).unwrap_or_else(|| panic!("{message} is none of {reasons:#?}"));
        let some = one["recordIds"].as_array().unwrap().len();
        assert!(
            some <= 5.min(*with_record) && (*with_record == 0 || some > 0 || one["count"].as_i64() > Some(5)),
            "{one:#}"
        );
    }
    assert_eq!(others.len(), usize::from(listed.len() < reasons.len()), "{name}: {reasons:#?}");
}

/// Checks that each finding belongs to what its run has.
fn check_scopes(run: &Value, has_goal: bool) {
    for one in run["findings"].as_array().unwrap() {
        let code = FindingCode::ALL.into_iter().find(|code| one["code"] == code.name()).unwrap();
        let scope = match (code.belongs_to().to_string().as_str(), run["campaign"].is_null(), has_goal) {
            (_, true, _) => "EXECUTION".to_owned(),
            ("GOAL", false, false) => "CAMPAIGN".to_owned(),
            (scope, ..) => scope.to_owned(),
        };
        assert_eq!(one["belongsTo"], scope, "{one:#}");
    }
}

both! {
    async fn a_list_has_the_findings_of_each_run_for_as_many_statements(kind) {
        let world = sixty_runs(kind).await;
        let (mut costs, mut codes) = (Vec::new(), BTreeSet::new());
        let one = format!("query($id: ID!) {{ run(id: $id) {{ id {FIELDS} }} }}");
        for first in [1, 10, 50, 60] {
            let (runs, cost) = page(&world, first).await;
            costs.push(cost);
            if first == 10 || first == 50 {
                continue;
            }
            for run in &runs {
                let alone = world.ask(&one, json!({ "id": run["id"] })).await["run"].clone();
                assert_eq!(without_drift(run), without_drift(&alone));
                check_counts(&world, run).await;
                check_scopes(run, !run["name"].as_str().unwrap().ends_with(['1', '9']));
                codes.extend(run["findings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap().to_owned()));
            }
        }
        assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?} statements for 1, 10, 50 and 60 runs");
        // Every code came, and in each run in their order.
        let all: Vec<&str> = FindingCode::ALL.into_iter().map(FindingCode::name).collect();
        codes.insert("DRIFT".to_owned());
        assert_eq!(codes, all.iter().map(|code| (*code).to_owned()).collect());
        let (runs, _) = page(&world, 60).await;
        let place = |one: &Value| all.iter().position(|code| one["code"] == *code).unwrap();
        assert!(runs.iter().all(|run| run["findings"].as_array().unwrap().is_sorted_by_key(place)), "{runs:#?}");
        // Of many reasons twenty are listed, together for all outcomes.
        let most = |run: &&Value| ["FAILED", "SUPPRESSED", "LEFT_OUT"].iter().map(|code| with_code(run, code).len()).sum::<usize>();
        let longest = runs.iter().max_by_key(most).unwrap();
        let listed = longest["findings"].as_array().unwrap().iter().filter(|one| {
            ["FAILED", "SUPPRESSED", "LEFT_OUT"].contains(&one["code"].as_str().unwrap()) && !one["message"].as_str().unwrap().ends_with("for other reasons")
        });
        assert_eq!(listed.count(), 20, "{longest:#}");
        world.drop_unchecked().await;
    }
}

both! {
    async fn each_run_of_a_list_has_the_drift_of_its_own_campaign(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let parts = "query($id: ID!) { campaign(id: $id) { goal { id } writer { id } reviewer { id } segment { id } } }";
        let parts = world.ask(parts, json!({ "id": plan.campaign })).await["campaign"].clone();
        let mut campaigns = vec![plan.campaign.clone()];
        for name in ["Other variables", "Unchanged"] {
            let input = json!({
                "name": name, "channel": "EMAIL", "variables": { "offer": "a trial" }, "messageTemplateId": plan.template,
                "goalId": parts["goal"]["id"], "writerId": parts["writer"]["id"], "reviewerId": parts["reviewer"]["id"],
                "segmentId": parts["segment"]["id"],
            });
            let campaign = world.create("campaign", input).await;
            for verb in ["submitCampaign", "approveCampaign"] {
                world.act(verb, "campaign", json!({ "id": campaign })).await;
            }
            campaigns.push(campaign);
        }
        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
        for campaign in campaigns.iter().chain(&campaigns) {
            world.ask(launch, json!({ "id": campaign })).await;
        }
        world.tick(true).await;
        let change = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
        for input in [
            json!({ "id": campaigns[0], "instructions": "More formal" }),
            json!({ "id": campaigns[1], "variables": { "offer": "another" } }),
        ] {
            world.ask(change, json!({ "input": input })).await;
        }
        let query = "{ runs { nodes { campaign { id } drift { field } findings { code severity belongsTo message } } } }";
        let runs = world.ask(query, json!({})).await["runs"]["nodes"].clone();
        assert_eq!(runs.as_array().unwrap().len(), 6);
        for run in runs.as_array().unwrap() {
            let fields: Vec<&str> = run["drift"].as_array().unwrap().iter().map(|one| one["field"].as_str().unwrap()).collect();
            let changed = ["instructions", "variables"].map(|field| fields.contains(&field));
            let own = campaigns.iter().position(|id| run["campaign"]["id"] == id.as_str()).unwrap();
            assert_eq!(changed, [own == 0, own == 1], "{run:#}");
            let message = format!("the campaign has changed since: {}; the run still uses its snapshot", fields.join(", "));
            let expected = json!({ "code": "DRIFT", "severity": "INFO", "belongsTo": "CAMPAIGN", "message": message });
            let found = with_code(run, "DRIFT");
            assert_eq!(found, if fields.is_empty() { Vec::new() } else { vec![&expected] }, "{run:#}");
            assert_eq!(fields.is_empty(), own == 2, "{run:#}");
        }
        world.end().await;
    }
}

#[test]
fn every_code_stands_in_the_docs_with_what_it_belongs_to() {
    let page = std::fs::read_to_string("docs/reasons.md").unwrap();
    let part = page.split_once("\n## Findings: `code`, with `belongsTo`\n").unwrap().1.split("\n## ").next().unwrap();
    let found: Vec<(&str, &str)> = part
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let (code, rest) = line.split_once("` | `").unwrap();
            (code, rest.split_once('`').unwrap().0)
        })
        .collect();
    let scopes: Vec<(&str, String)> =
        FindingCode::ALL.into_iter().map(|code| (code.name(), code.belongs_to().to_string())).collect();
    assert_eq!(found, scopes.iter().map(|(code, scope)| (*code, scope.as_str())).collect::<Vec<_>>());
}
