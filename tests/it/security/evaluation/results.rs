//! Results of earlier steps in conditions and templates: bounded in memory, and only those read that
//! are named.

use std::collections::BTreeMap;
use std::sync::Arc;

use entity::{run, step};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use sortie::domain::run::snapshot::{self, RunSnapshot};
use sortie::domain::run::values::mentions::Mentions;
use sortie::domain::run::values::{Reader, Values};
use sortie::kernel::limits;
use sortie::kernel::viewer::Viewer;

use crate::harness::World;

fn keys(all: &[&str]) -> Mentions {
    Mentions::Keys(all.iter().map(|key| (*key).to_owned()).collect())
}

#[test]
fn results_that_are_named_plainly_are_found() {
    for (text, wanted) in [
        ("", &[][..]),
        ("record.city == \"Ulm\"", &[]),
        ("my_results.a + resultset.b + results2.c", &[]),
        ("results.check.score > 3 && results.look.ok", &["check", "look"]),
        ("Score: {{ results.check.score }}", &["check"]),
        ("{{ results['my-key'].x }}{{ results[ \"two\" ] }}", &["my-key", "two"]),
        ("has(results\n  . check)", &["check"]),
        ("results.check", &["check"]),
    ] {
        assert_eq!(Mentions::of_text(text), keys(wanted), "{text}");
    }
    let settings = json!({ "url": "{{ results.a.url }}", "body": { "x": ["{{ results.b }}", 3, null] } });
    assert_eq!(Mentions::of_json(&settings), keys(&["a", "b"]));
    assert!(Mentions::of_json(&json!(null)).is_empty());
}

#[test]
fn any_other_use_means_all_results() {
    for text in [
        "results",
        "{% for key in results %}{{ results[key] }}{% endfor %}",
        "size(results) > 0 && results.a.x",
        "results[\"a\" + \"b\"].x",
        "results['\\u0061']",
        "results[0]",
        "results.?a",
        "results.größe",
        "{{ results ~ results.a }}",
        "{{ results|length }}",
    ] {
        assert_eq!(Mentions::of_text(text), Mentions::All, "{text}");
    }
}

/// Nested objects of 7 bytes of text each, which take 5 MB when they are parsed.
fn nested() -> Value {
    json!({ "x": vec![json!({ "": 0 }); 9_000] })
}

fn human(key: &str) -> Value {
    json!({ "key": key, "name": key, "type": "look", "assignedTo": "HUMAN", "trigger": "immediate", "resultSchema": {} })
}

both! {
    async fn nested_results_are_bounded_and_can_be_used(kind) {
        let world = World::new(kind).await;
        let deep = "results.look.order.lines.exists(line, line.sum > 3)";
        let mark = json!({
            "key": "mark", "name": "mark", "type": "update_record", "assignedTo": "WORKFLOW", "when": deep,
            "config": { "attributes": { "sum": "{{ results.look.order.lines[1].sum }}", "id": "{{ results['look'].order.id }}", "all": "{% for key in results %}{{ key }} {% endfor %}" } },
        });
        let not = json!({
            "key": "not", "name": "not", "type": "update_record", "assignedTo": "WORKFLOW", "trigger": "immediate",
            "when": "results.look.order.lines[0].sum > 3", "config": { "attributes": { "not": "x" } },
        });
        let phases = json!([
            { "key": "first", "name": "First", "autonomous": false, "tasks": [{ "key": "look", "name": "look", "steps": [human("look")] }] },
            { "key": "second", "name": "Second", "autonomous": true, "tasks": [{ "key": "mark", "name": "mark", "fanOut": true, "failWhen": "ANY", "steps": [mark, not] }] },
        ]);
        world.apply(&json!({ "runTemplates": [{ "key": "looks", "name": "Looks", "phases": phases }] }).to_string()).await;
        world.leads(3).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("looks", json!({ "segmentId": segment })).await;
        let query = "query($run: ID!) { steps(filter: { runIds: [$run] }, first: 50) { nodes { id key } } }";
        let found = world.until("the first step", query, json!({ "run": run }), |data| data["steps"]["nodes"][0]["id"].is_string()).await;
        let look = found["steps"]["nodes"][0]["id"].as_str().unwrap().to_owned();
        world.step_act("startStep", &look, json!({})).await;
        let complete = "mutation($id: ID!, $result: JSON!) { completeStep(input: { id: $id, result: $result }) { step { status } } }";
        assert!(nested().to_string().len() <= limits::RESULT_BYTES);
        let (code, told) = world.refused(complete, json!({ "id": look, "result": nested() })).await;
        assert!(code == "BAD_USER_INPUT" && told.contains("bytes of memory"), "{code} {told}");
        let result = json!({ "order": { "id": "A-1", "lines": [{ "sum": 1 }, { "sum": 7 }], "note": "x".repeat(4_000) } });
        world.ask(complete, json!({ "id": look, "result": result })).await;
        world.until_run(&run, "COMPLETED").await;
        let records = world.ask("{ records { nodes { attributes } } }", json!({})).await;
        for record in records["records"]["nodes"].as_array().unwrap() {
            let attributes = &record["attributes"];
            assert_eq!((&attributes["sum"], &attributes["id"]), (&json!("7"), &json!("A-1")), "{records:#}");
            assert!(attributes["all"].as_str().unwrap().contains("look") && attributes["not"].is_null(), "{records:#}");
        }
        world.end().await;
    }
}

/// A run with 40 single steps with results, and an open step for each of three records.
async fn run_with_results(world: &World) -> (run::Model, Arc<RunSnapshot>, Vec<step::Model>) {
    let singles: Vec<Value> = (0..40).map(|i| human(&format!("s{i}"))).collect();
    let own = json!({ "key": "own", "name": "own", "fanOut": true, "steps": [human("own")] });
    let tasks = json!([{ "key": "singles", "name": "singles", "steps": singles }, own]);
    let phases = json!([{ "key": "all", "name": "All", "tasks": tasks }]);
    world.apply(&json!({ "runTemplates": [{ "key": "looks", "name": "Looks", "phases": phases }] }).to_string()).await;
    world.leads(3).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    world.fly("looks", json!({ "segmentId": segment })).await;
    world.tick(false).await;
    let text = "x".repeat(60_000);
    world
        .force(&format!("UPDATE step SET status = 'COMPLETED', result = '{{\"text\":\"{text}\"}}' WHERE key <> 'own'"))
        .await;
    world.force(&format!("UPDATE step SET result = '{}' WHERE key = 's0'", nested())).await;
    let small = json!({ "order": { "lines": [{ "sum": 7 }] } });
    world.force(&format!("UPDATE step SET result = '{small}' WHERE key = 's1'")).await;
    let run = run::Entity::find().one(world.db.read()).await.unwrap().unwrap();
    let viewer = Viewer::engine(run.org_id);
    let snapshot = snapshot::of_begun(world.db.read(), &viewer, &[run.id]).await.unwrap()[&run.id].clone();
    let all = step::Entity::find().all(world.db.read()).await.unwrap();
    let own: Vec<step::Model> = all.into_iter().filter(|step| step.key == "own").collect();
    assert_eq!(own.len(), 3);
    (run, snapshot, own)
}

both! {
    async fn results_are_read_once_for_all_and_within_bounds(kind) {
        let world = World::without_server(kind, None).await;
        let (run, snapshot, own) = run_with_results(&world).await;
        let read = async |readers: &[Reader], most: usize| {
            Values::read(world.db.read(), &run, &snapshot, readers, most).await.unwrap()
        };
        let most = limits::RESULTS_READ_BYTES;
        // 200 steps share one copy of the results that they name, and get only these.
        let named: Vec<Reader> = (0..200).map(|i| Reader::of(&own[i % 3], keys(&["s1", "s2"]))).collect();
        let values = read(&named, most).await;
        assert_eq!(values.covered(), 200);
        assert!((60_000..70_000).contains(&values.results_bytes()), "{}", values.results_bytes());
        let of = values.of(&named[199]).unwrap();
        let results: BTreeMap<&String, &Value> = of["results"].as_object().unwrap().iter().collect();
        assert_eq!(results.keys().map(|key| key.as_str()).collect::<Vec<_>>(), ["s1", "s2"]);
        assert_eq!(results[&"s1".to_owned()]["order"]["lines"][0]["sum"], 7);
        assert!(of["record"]["name"].as_str().unwrap().starts_with("Lead"));
        // Those that name none read none, and those that name an unknown one lack it.
        let none = [Reader::of(&own[0], Mentions::default()), Reader::of(&own[1], keys(&["nosuch"]))];
        let values = read(&none, most).await;
        assert_eq!((values.covered(), values.results_bytes()), (2, 0));
        assert!(none.iter().all(|reader| values.of(reader).unwrap()["results"] == json!({})));
        // Stored before there was a bound: too large when it is parsed, though its text is not.
        let large = [Reader::of(&own[0], keys(&["s0"])), Reader::of(&own[1], keys(&["s1"]))];
        let values = read(&large, most).await;
        let why = values.of(&large[0]).unwrap_err();
        assert!(why.contains("too large together"), "{why}");
        assert!(values.of(&large[1]).is_ok());
        // Steps that together name more than fits are served from the first on, at least one.
        let each: Vec<Reader> = (2..40).map(|i| Reader::of(&own[0], keys(&[&format!("s{i}")]))).collect();
        assert_eq!(read(&each, 200_000).await.covered(), 3);
        assert_eq!(read(&each, 0).await.covered(), 1);
        let values = read(&each[37..], 0).await;
        assert_eq!(values.of(&each[37]).unwrap()["results"]["s39"]["text"].as_str().unwrap().len(), 60_000);
        world.drop_unchecked().await;
    }
}

both! {
    async fn results_that_are_too_many_are_not_read(kind) {
        let world = World::without_server(kind, None).await;
        let (run, snapshot, own) = run_with_results(&world).await;
        let text = "x".repeat(limits::RESULTS_PARSED_BYTES / 38);
        world.force(&format!("UPDATE step SET result = '{{\"text\":\"{text}\"}}' WHERE key <> 'own'")).await;
        let readers = [Reader::of(&own[0], Mentions::All), Reader::of(&own[1], keys(&["s3"]))];
        let values = Values::read(world.db.read(), &run, &snapshot, &readers, limits::RESULTS_READ_BYTES).await.unwrap();
        assert_eq!(values.covered(), 2);
        assert!(values.results_bytes() < 2 * text.len(), "{}", values.results_bytes());
        let why = values.of(&readers[0]).unwrap_err();
        assert!(why.contains("too large together") && why.contains("results.key"), "{why}");
        assert!(values.of(&readers[1]).is_ok());
        world.drop_unchecked().await;
    }
}
