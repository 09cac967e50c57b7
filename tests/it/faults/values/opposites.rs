//! A filter and its negation together cover everything, and both databases find the same records:
//! random filters over rows in which any value may be absent.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::harness::{Kind, World, postgres};

const FILTERS: usize = 120;

/// Samples of a strategy, the same in each run.
fn some(strategy: impl Strategy<Value = Value>) -> Vec<Value> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..FILTERS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn of(values: Vec<Value>) -> impl Strategy<Value = Value> + Clone {
    proptest::sample::select(values)
}

/// Filters with one condition each.
fn composed(leaf: impl Strategy<Value = Value> + 'static, and: bool) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let some = prop::collection::vec(inner.clone(), 1..3);
        let all = some.clone().prop_map(move |all| if and { json!({ "and": all }) } else { json!({ "or": all }) });
        prop_oneof![inner.prop_map(|one| json!({ "not": one })), some.prop_map(|any| json!({ "or": any })), all]
    })
}

fn record_filters() -> Vec<Value> {
    let texts =
        of(vec![json!("New"), json!("won"), json!("a@example.com"), json!(""), json!("é"), json!("%"), json!("lead")]);
    let many = prop::collection::vec(texts.clone(), 0..12).prop_map(|list| json!(list));
    let text = prop_oneof![
        texts.clone().prop_map(|one| json!({ "eq": one })),
        texts.clone().prop_map(|one| json!({ "ne": one })),
        many.clone().prop_map(|list| json!({ "in": list })),
        many.prop_map(|list| json!({ "notIn": list })),
        texts.clone().prop_map(|one| json!({ "contains": one })),
        any::<bool>().prop_map(|absent| json!({ "isNull": absent })),
    ];
    let column = of(["kind", "externalId", "name", "email", "phone", "timeZone", "stage"].map(Value::from).to_vec());
    let times = of(vec![
        json!("2026-10-01T00:00:00Z"),
        json!("0001-01-01T00:00:00Z"),
        json!("9999-12-31T00:00:00Z"),
        json!("2026-11-02T12:00:00Z"),
    ]);
    let time = prop_oneof![
        (times.clone(), any::<bool>()).prop_map(|(at, never)| json!({ "before": at, "orNever": never })),
        times.clone().prop_map(|at| json!({ "since": at })),
        Just(json!({ "olderThan": "14d" })),
        Just(json!({ "newerThan": "14d" })),
        any::<bool>().prop_map(|absent| json!({ "isNull": absent })),
    ];
    let when = of(["lastContactedAt", "lastRepliedAt", "createdAt"].map(Value::from).to_vec());
    let values = of(vec![
        json!(1),
        json!(2.5),
        json!("New"),
        json!(true),
        json!(false),
        json!(9007199254740993_i64),
        json!("2026-01-01"),
        json!(""),
    ]);
    let numbers = of(vec![json!(1), json!(2.5), json!(9007199254740993_i64), json!(-7)]);
    let attribute = prop_oneof![
        values.clone().prop_map(|one| json!({ "eq": one })),
        prop::collection::vec(values, 0..12).prop_map(|list| json!({ "in": list })),
        numbers.clone().prop_map(|one| json!({ "gt": one })),
        (numbers.clone(), numbers).prop_map(|(from, to)| json!({ "gte": from, "lte": to })),
        texts.clone().prop_map(|one| json!({ "contains": one })),
        Just(json!({ "olderThan": "14d" })),
        any::<bool>().prop_map(|absent| json!({ "isNull": absent })),
    ];
    let name = of(vec![json!("it"), json!("other one"), json!("say \"x\"")]);
    let leaf = prop_oneof![
        3 => (column, text).prop_map(|(column, text)| json!({ column.as_str().unwrap(): text })),
        2 => (when, time).prop_map(|(column, time)| json!({ column.as_str().unwrap(): time })),
        3 => (name, attribute).prop_map(|(name, mut met)| {
            met["name"] = name;
            json!({ "attributes": [met] })
        }),
        1 => any::<bool>().prop_map(|gone| json!({ "unsubscribed": gone })),
        1 => (0..3).prop_map(|least| json!({ "priority": { "gte": least, "lte": 2 } })),
        1 => texts.prop_map(|text| json!({ "search": text })),
    ];
    some(composed(leaf, true))
}

/// Records in which anything may be absent.
async fn filled(world: &World) -> usize {
    let values = [
        json!(1),
        json!(2.5),
        json!(9007199254740993_i64),
        json!("New"),
        json!(true),
        json!(null),
        json!("2026-01-01"),
        json!("soon"),
    ];
    let times =
        [json!(null), json!("2026-09-01T00:00:00Z"), json!("2026-11-02T11:59:59.5Z"), json!("0001-01-01T00:00:00Z")];
    let mut count = 0;
    for i in 0..48 {
        let one = |of: [&str; 2]| of[i % 2].to_owned();
        let name = format!("{} {i}", ["New", "é", "100%"][i % 3]);
        let mut record = json!({ "kind": one(["lead", "contact"]), "name": name });
        let mut put = |name: &str, there: bool, value: Value| {
            if there {
                record[name] = value;
            }
        };
        put("externalId", i % 3 != 0, json!(format!("X{i}")));
        put("email", i % 4 != 0, json!(one(["a@example.com", "b@example.com"])));
        put("phone", i % 5 == 0, json!(format!("+49301234{i:02}")));
        put("timeZone", i % 6 == 0, json!("Europe/Berlin"));
        put("stage", i % 3 != 1, json!(one(["New", "won"])));
        put("lastContactedAt", true, times[i % 4].clone());
        put(
            "attributes",
            i % 7 != 0,
            json!({ "it": values[i % 8], "other one": values[(i / 2) % 8], "say \"x\"": values[(i / 3) % 8], "priority": i % 4 }),
        );
        let id = world.create("record", record).await;
        if i % 9 == 0 {
            world
                .ask(
                    "mutation($id: ID!) { updateRecord(input: { id: $id, unsubscribed: true }) { record { id } } }",
                    json!({ "id": id }),
                )
                .await;
        }
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_records() {
    let mut found: Vec<Vec<Vec<String>>> = Vec::new();
    let filters = record_filters();
    for kind in [Kind::Sqlite, Kind::Postgres].into_iter().filter(|kind| *kind == Kind::Sqlite || postgres::available())
    {
        let world = World::without_server(kind, None).await;
        let all = filled(&world).await;
        let mut each = Vec::new();
        for filter in &filters {
            let (met, not) = (world.found(filter.clone()).await, world.found(json!({ "not": filter })).await);
            assert_eq!(met.len() + not.len(), all, "{kind:?}: {filter}");
            assert!(met.iter().all(|name| !not.contains(name)), "{kind:?}: {filter}");
            each.push(met);
        }
        found.push(each);
        world.end().await;
    }
    for (i, filter) in filters.iter().enumerate() {
        assert!(
            found.iter().all(|each| each[i] == found[0][i]),
            "{filter}: {:?}",
            found.iter().map(|each| &each[i]).collect::<Vec<_>>()
        );
    }
    let some = found[0].iter().filter(|names| !names.is_empty() && names.len() < 48).count();
    assert!(some > FILTERS / 3, "only {some} filters let some through, and others not");
}

fn run_filters(campaigns: &[Value], runs: &[Value]) -> Vec<Value> {
    let list =
        |values: Vec<Value>, most: usize| prop::collection::vec(of(values), 0..most).prop_map(|list| json!(list));
    let words = |words: &[&str]| words.iter().map(|word| json!(word)).collect::<Vec<_>>();
    let times = of(vec![
        json!("2026-01-01T00:00:30Z"),
        json!("2026-01-01T00:10:00Z"),
        json!("9999-12-31T00:00:00Z"),
        json!("0001-01-01T00:00:00Z"),
    ]);
    let range = prop_oneof![
        times.clone().prop_map(|at| json!({ "from": at })),
        times.clone().prop_map(|at| json!({ "to": at })),
        (times.clone(), times).prop_map(|(from, to)| json!({ "from": from, "to": to })),
    ];
    let template = entity::id::RunTemplateId(uuid::Uuid::nil()).to_string();
    let record = entity::id::RecordId(uuid::Uuid::nil()).to_string();
    let leaf = prop_oneof![
        list(campaigns.to_vec(), 12).prop_map(|ids| json!({ "campaignIds": ids })),
        list(runs.to_vec(), 12).prop_map(|ids| json!({ "ids": ids })),
        list(vec![json!(template)], 3).prop_map(|ids| json!({ "runTemplateIds": ids })),
        list(vec![json!(record)], 3).prop_map(|ids| json!({ "recordIds": ids })),
        list(words(&["EMAIL", "SMS", "PHONE"]), 3).prop_map(|channels| json!({ "channels": channels })),
        list(words(&["COMPLETED", "FAILED", "SCHEDULED", "IN_PROGRESS", "PAUSED"]), 4)
            .prop_map(|statuses| json!({ "statuses": statuses })),
        list(words(&["RUN", "SCHEDULE", "TEST_RUN", "GUIDED"]), 3).prop_map(|types| json!({ "types": types })),
        (of(words(&["createdAt", "scheduledFor"])), range)
            .prop_map(|(column, range)| json!({ column.as_str().unwrap(): range })),
        of(words(&["run 000001", "weekly", "Campaign", ""])).prop_map(|text| json!({ "search": text })),
    ];
    some(composed(leaf, false))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_runs() {
    let mut found: Vec<Vec<Vec<String>>> = Vec::new();
    for kind in [Kind::Sqlite, Kind::Postgres].into_iter().filter(|kind| *kind == Kind::Sqlite || postgres::available())
    {
        let world = World::without_server(kind, None).await;
        let size = sortie::app::seed::Size { campaigns: 7, runs: 150, steps_per_run: 1 };
        sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
        for _ in 0..3 {
            world.guided("weekly-pipeline-review", json!({})).await;
        }
        let query = "query($f: RunFilter) { runs(first: 500, filter: $f, orderBy: { field: CREATED_AT, direction: ASC }) { totalCount nodes { id name campaign { id } } } }";
        let all = world.ask(query, json!({})).await["runs"].clone();
        let nodes = all["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 153);
        let campaigns: Vec<Value> = nodes.iter().take(6).map(|run| run["campaign"]["id"].clone()).collect();
        let runs: Vec<Value> = nodes.iter().take(140).step_by(9).map(|run| run["id"].clone()).collect();
        let mut each = Vec::new();
        for filter in run_filters(&campaigns, &runs) {
            let mut names = Vec::new();
            for filter in [filter.clone(), json!({ "not": filter })] {
                let data = world.ask(query, json!({ "f": filter })).await["runs"].clone();
                let found: Vec<String> = data["nodes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|run| run["name"].as_str().unwrap().to_owned())
                    .collect();
                assert_eq!(data["totalCount"], found.len());
                names.push(found);
            }
            assert_eq!(names[0].len() + names[1].len(), 153, "{kind:?}: {filter}");
            each.push(names.swap_remove(0));
        }
        found.push(each);
        world.drop_unchecked().await;
    }
    assert!(found.iter().all(|each| *each == found[0]));
}
