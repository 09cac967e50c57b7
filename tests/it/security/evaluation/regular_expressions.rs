//! Regular expressions that follow thousands of positions at each character of a long text, in
//! conditions and in schemas, and evaluations that keep the threads of others.

use std::sync::mpsc;

use serde_json::{Map, Value, json};
use sortie::domain::content::cel::{Condition, check};
use sortie::domain::content::result_schema;
use sortie::kernel::budget::{self, EvaluationPool, Steps};
use uuid::Uuid;

use super::soon;
use crate::harness::World;

/// Patterns of too many positions. The last ones hide them from a scan for classes.
const WIDE: [&str; 11] = [
    "a{7000}[^a]",
    "a{3500}[^a]",
    "(?:[ab]{30}){30}[^a]",
    "(?:(?:a{10}){10}|(?:[b-d]{10}){10}){10}",
    r"\p{Lu}{0,2000}",
    "(?i)k{900}x",
    "(?:é{100}){5}",
    "(?x) a #[\n {900} #]",
    r"[\]a]{900}[\]]",
    "[(]a{900}[)]{0}",
    "(?:a?){900}",
];

/// Patterns that people write; each fits with a text of 64 KiB.
const USUAL: [&str; 12] = [
    r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$",
    "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(T[0-2]\d:[0-5]\d(:[0-5]\d)?(Z|[+-]\d\d:\d\d))?$",
    "^[A-Z]{2}[0-9]{2,32}$",
    ".{0,255}",
    "^.{1,255}$",
    r"\p{L}+",
    r"^\p{Lu}\p{L}*( \p{Lu}\p{L}*)*$",
    r"^\+?[0-9 ()/-]{6,30}$",
    "^https?://[^ ]+$",
    r"(?i)\b(yes|no|später)\b",
    "[^a]$",
];

/// The largest text that a pattern is matched against.
fn texts() -> [String; 3] {
    ["a".repeat(64 * 1024), "Ann 7, ".repeat(9_000), "äé ".repeat(13_000)]
}

fn words() -> String {
    let words: Vec<String> = (0..100).map(|i| format!("w{i}")).collect();
    format!("({})", words.join("|"))
}

fn with_text(text: &str) -> Map<String, Value> {
    let values = json!({ "record": { "text": text } });
    values.as_object().cloned().unwrap_or_default()
}

fn matches(pattern: &str) -> String {
    format!("record.text.matches(r'''{pattern}''')")
}

#[test]
fn a_pattern_of_too_many_positions_is_refused() {
    for pattern in WIDE {
        let why = soon(pattern, || check(&matches(pattern), &["record"]).unwrap_err());
        assert!(why.contains("too large") && why.contains("640") && why.len() < 500, "{pattern}: {why}");
    }
    // Classes within classes hide the parentheses: each is counted as a whole.
    for pattern in ["[[](]a{900}[[]){0}]", "[](]a{900}[]){0}]", "[[:alpha:](]a{900}[)]{0}"] {
        let why = soon(pattern, || check(&matches(pattern), &["record"]).unwrap_err());
        assert!(why.contains("too large") || why.contains("regex parse error"), "{pattern}: {why}");
    }
    let wide = WIDE.into_iter().filter(|pattern| !pattern.contains("(?i)") && !pattern.contains("(?x)"));
    for pattern in wide.chain(["[](]a{900}[]){0}]", "[[]{900}]", "[^](]a{900}[^]){0}]"]) {
        for schema in [json!({ "pattern": pattern }), json!({ "patternProperties": { pattern: {} } })] {
            let why = soon(pattern, || result_schema::check(&schema).unwrap_err());
            assert!(why.contains("pattern") && why.len() < 1_500, "{pattern}: {why}");
        }
    }
}

#[test]
fn usual_patterns_match_long_texts() {
    let words = words();
    for pattern in USUAL.into_iter().chain([words.as_str()]) {
        let source = matches(pattern);
        check(&source, &["record"]).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        let condition = Condition::parse(&source).unwrap();
        for text in texts() {
            soon(pattern, || condition.evaluate(&with_text(&text), &Steps::of_one()))
                .unwrap_or_else(|why| panic!("{pattern}: {why}"));
        }
        // ECMA 262 has no flags within a pattern.
        if pattern.starts_with("(?i)") {
            continue;
        }
        let schema = json!({ "properties": { "a": { "pattern": pattern } } });
        result_schema::check(&schema).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        for text in texts() {
            let told = soon(pattern, || result_schema::problems(&schema, &json!({ "a": text })));
            assert!(told.iter().all(|one| !one.contains("too large to be validated")), "{pattern}: {told:?}");
        }
    }
    let schema = json!({ "pattern": "^[A-Z]{2}[0-9]{2,32}$" });
    assert_eq!(result_schema::problems(&schema, &json!("DE12")), Vec::<String>::new());
    assert_eq!(result_schema::problems(&schema, &json!("de12")).len(), 1);
}

#[test]
fn patterns_take_steps_without_a_loop() {
    let one = Condition::parse("record.text.matches('a')").unwrap();
    assert!(one.takes_steps() && !Condition::parse("record.text == 'a'").unwrap().takes_steps());
    // The widest pattern fits the largest text once.
    let widest = "record.text.matches('a{600}[^a]')";
    let values = with_text(&texts()[0]);
    assert_eq!(soon(widest, || Condition::parse(widest).unwrap().holds_within(&values, &Steps::of_batch())), Ok(false));
    // Thirty of them exceed the steps, also where `||` swallows the error.
    let many = vec![widest; 30].join(" || ") + " || true";
    let why = soon("thirty", || Condition::parse(&many).unwrap().holds(&values).unwrap_err());
    assert!(why.contains("limit of steps or time"), "{why}");
    // On short texts there is no problem.
    assert_eq!(Condition::parse(&many).unwrap().holds(&with_text("aaa")), Ok(true));
    // An event's budget does not suffice for it at all.
    let why = soon("event", || Condition::parse(widest).unwrap().holds_within(&values, &Steps::of_event()));
    assert!(why.unwrap_err().contains("limit of steps or time"));
}

#[test]
fn a_schema_s_patterns_have_a_bound_together() {
    let many: Vec<Value> = (0..190).map(|_| json!({ "$ref": "#/$defs/p" })).collect();
    let schema = json!({ "$defs": { "p": { "pattern": "a{600}[^a]" } }, "anyOf": many });
    result_schema::check(&schema).unwrap();
    for text in texts() {
        let told = soon("190 references", || result_schema::problems(&schema, &json!(text)));
        assert_eq!(told, ["the result: is too large to be validated against its schema"]);
    }
    // With a short text it is judged, and each problem is located.
    assert_eq!(result_schema::problems(&schema, &json!("a".repeat(50))).len(), 1);
    assert!(result_schema::problems(&schema, &json!("a".repeat(50)))[0].starts_with("the result: "));
    // Names of fields are matched, too.
    let names: Map<String, Value> = (0..5_000).map(|i| (format!("{}{i}", "a".repeat(8)), json!(1))).collect();
    let schema = json!({ "patternProperties": { "a{600}[^a]": {} } });
    let told = soon("names", || result_schema::problems(&schema, &Value::Object(names.clone())));
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evaluation_that_overran_counts_until_its_thread_ends() {
    let half = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8) / 2;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let pool = EvaluationPool::Admission;
    let (taken, is_taken) = mpsc::channel();
    let (ends, held): (Vec<_>, Vec<_>) = (0..half)
        .map(|_| {
            let ((end, is_over), taken) = (mpsc::channel::<()>(), taken.clone());
            let work = move |_| {
                let _ = taken.send(());
                let _ = is_over.recv();
            };
            (end, tokio::spawn(budget::run_for(pool, Some(one), work)))
        })
        .unzip();
    tokio::task::block_in_place(|| (0..half).for_each(|_| is_taken.recv().unwrap()));
    // Meanwhile the other's are done.
    for i in 0..20 {
        assert_eq!(budget::run_for(pool, Some(other), move |_| i).await.unwrap(), i);
    }
    for held in held {
        assert!(held.await.unwrap().is_err(), "it ran beyond its time");
    }
    // Another try is refused at once, instead of taking the next thread.
    let why = budget::run_for(pool, Some(one), |_| ()).await.unwrap_err().to_string();
    assert!(why.contains("beyond their time"), "{why}");
    assert_eq!(budget::run_for(pool, Some(other), |_| 7).await.unwrap(), 7);
    drop(ends);
    // The threads end soon after.
    while budget::run_for(pool, Some(one), |_| ()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

both! {
    async fn wide_patterns_are_refused_with_their_field(kind) {
        let world = World::without_server(kind, None).await;
        let create = "mutation($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } } }";
        let filter = json!({ "name": "a", "filter": "record.name.matches('a{7000}[^a]')" });
        let (code, told) = world.refused(create, json!({ "input": filter })).await;
        assert!(code == "BAD_USER_INPUT" && told.starts_with("filter: matches: the pattern is too large"), "{code} {told}");
        let schema = json!({ "name": "a", "outputSchema": { "pattern": r"^(?:(?=[\s\S]*)a)*$" } });
        let (code, told) = world.refused(create, json!({ "input": schema })).await;
        assert!(code == "BAD_USER_INPUT" && told.starts_with("outputSchema: ") && told.contains("combine several patterns"), "{code} {told}");
        world.end().await;
    }
}

both! {
    /// A decision of thirty wide patterns over a long text fails by itself, and that of another run is
    /// made meanwhile.
    async fn a_decision_of_wide_patterns_ends(kind) {
        let world = World::with_auth(kind).await;
        let case = vec!["record.attributes.text.matches('a{600}[^a]')"; 30].join(" || ");
        let decision = |case: &str| json!({ "key": "decide", "type": "decision", "assignedTo": "WORKFLOW", "config": { "cases": [{ "when": case, "skip": [] }] } });
        let template = |key: &str, case: &str| json!({ "key": key, "name": key, "phases": [{ "key": "p", "autonomous": true, "tasks": [{ "key": "t", "fanOut": true, "steps": [decision(case)] }] }] });
        world.apply(&json!({ "runTemplates": [template("wide", &case), template("plain", "true")] }).to_string()).await;
        world.create("record", json!({ "kind": "lead", "name": "Ann", "attributes": { "text": "a".repeat(15_000) } })).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let wide = world.fly("wide", json!({ "segmentId": segment })).await;
        let plain = world.fly("plain", json!({ "segmentId": segment })).await;
        world.until_run(&plain, "COMPLETED").await;
        world.until_step(&wide, "decide", "FAILED").await;
        let told = world.sql("SELECT error FROM step WHERE key = 'decide' AND status = 'FAILED'").await;
        assert!(told.len() == 1 && told[0][0].contains("limit of steps or time"), "{told:?}");
        world.end().await;
    }
}
