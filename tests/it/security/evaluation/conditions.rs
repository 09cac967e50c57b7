//! A13: conditions that overflow the parser's stack, multiply their input, or never end.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sortie::domain::content::cel::{Condition, check};
use sortie::kernel::budget::Steps;

use super::soon;
use crate::harness::World;

/// Conditions that make a parser recurse, each with a given depth.
pub(in crate::security) fn chains(links: usize) -> Vec<String> {
    let chain = |before: &str, link: &str, after: &str| format!("{before}{}{after}", link.repeat(links));
    vec![
        chain("1", "+1", " == 1"),
        chain("1", "-1", " == 1"),
        chain("1", "*1", " == 1"),
        chain("1", "==1", ""),
        chain("1", "<1", ""),
        chain("true", "&&true", ""),
        chain("true", "||true", ""),
        chain("true", "?true:true", ""),
        chain("true", "?true", ":true"),
        chain("", "!", "true"),
        chain("", "-", "1"),
        chain("", "- ", "record.a"),
        chain("record", ".a", ""),
        chain("record", ".?a", ""),
        chain("record", "[0]", ""),
        chain("record", "[?0]", ""),
        chain("record", ".a()", ""),
        chain("record", " in record", ""),
        chain("", "(", "1"),
        chain("", "[", "1"),
        chain("", "{1:", "1"),
        chain("", "[1,", "1"),
        chain("", "size(", "1"),
        chain("", "record[", "1"),
        chain("", "[1].all(x,", "true"),
        chain("[1]", ".map(x,x)", " == [1]"),
        chain("[1]", ".filter(x,x>0)", " == [1]"),
        chain("A{a:", "A{a:", "1"),
        chain("'", "a", "' == ''"),
        chain("1", "\n", "== 1"),
        chain("\"\"\"", "\"", ""),
        chain("", "// a\n", "true"),
        chain("1 in [", "1,", "1]"),
        chain("`a`", ".`a`", ""),
        chain("", "\\", ""),
        chain("", "&", ""),
    ]
}

pub(super) fn values() -> Map<String, Value> {
    let numbers: Vec<i64> = (0..1_000).collect();
    let record = json!({ "name": "Ann", "tags": ["a", "b"], "score": 7, "text": "a".repeat(10_000), "many": numbers });
    let Value::Object(values) = json!({ "record": record, "variables": {}, "results": {}, "run": {}, "campaign": {} })
    else {
        panic!()
    };
    values
}

const KNOWN: &[&str] = &["record", "variables", "results", "run", "campaign"];

fn judged(source: &str) -> Result<bool, String> {
    Condition::parse(source)?.holds(&values())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_chain_overflows_the_parser() {
    // On a thread of the runtime, as the server does.
    let work = tokio::spawn(async {
        for links in [20, 60, 190, 201, 2_000] {
            for source in chains(links) {
                soon(&source, || drop(judged(&source)));
            }
        }
    });
    work.await.unwrap();
    assert_eq!(judged(&format!("1{} == 51", "+1".repeat(50))), Ok(true));
    let why = judged(&format!("1{} == 1", "+1".repeat(1_900))).unwrap_err();
    assert!(why.contains("at most 200 operators"), "{why}");
}

#[test]
fn nothing_multiplies() {
    let doubled = |of: &str| format!("['aaaaaaaaaa']{} == []", format!(".map(record, {of})").repeat(60));
    let ten = "[1,2,3,4,5,6,7,8,9,0]";
    let deep = format!("{ten}{}true{}", format!(".all(x, {ten}").repeat(8), ")".repeat(8));
    for source in [
        doubled("record+record"),
        doubled("[record,record]"),
        doubled("{'a': record, 'b': record}"),
        doubled("[record] + [record]"),
        deep,
        "record.many.map(x, record.many) == []".into(),
        "record.many.map(x, record.many.map(y, [x, y])) == []".into(),
        "record.text.matches(record.text)".into(),
        "record.text.matches('(a{1000}){1000}')".into(),
        "record.text.matches('((((a{10}){10}){10}){10}){10}')".into(),
        format!("record.text.matches('{}')", "(".repeat(400)),
        "[record,record,record,record,record,record,record,record,record,record,record,record,record,record,record,record,record] == []".into(),
    ] {
        let why = soon(&source, || Condition::parse(&source).map(|_| ()).unwrap_err());
        assert!(!why.is_empty() && why.len() < 500, "{source}: {why}");
    }
}

#[test]
fn loops_end() {
    for source in [
        "record.many.all(a, record.many.all(b, record.many.all(c, record.many.all(d, a + b + c + d >= 0))))",
        "record.many.exists(a, record.many.exists(b, record.many.exists(c, a + b + c < 0)))",
        "record.many.exists_one(a, record.many.exists_one(b, record.many.exists_one(c, a + b + c < 0)))",
        "record.many.filter(a, record.many.filter(b, a + b < 0).size() > 0).size() > 0",
        "record.many.exists(a, record.many.exists(b, nosuch.b == a))",
        "record.many.exists(a, record.many.exists(b, a)) || true",
        "record.many.map(a, record.many.exists(b, b < 0)).exists(c, c) || true",
    ] {
        let why = soon(source, || judged(source).unwrap_err());
        assert!(why.contains("limit of steps or time"), "{source}: {why}");
    }
    // A batch shares one budget of evaluation steps.
    let (steps, condition) = (Steps::of_batch(), Condition::parse("record.many.all(a, a >= 0)").unwrap());
    let held = (0..1_000).take_while(|_| condition.holds_within(&values(), &steps) == Ok(true)).count();
    assert!((1..=200).contains(&held), "{held}");
}

#[test]
fn macros_can_be_used() {
    for (source, wanted) in [
        ("[1].all(x, x > 0)", Ok(true)),
        ("record.tags.exists(tag, tag == 'b')", Ok(true)),
        ("record.tags.exists_one(tag, tag == 'b')", Ok(true)),
        ("record.tags.existsOne(tag, tag != 'z')", Ok(false)),
        ("record.tags.filter(tag, tag != 'b').size() == 1", Ok(true)),
        ("record.tags.map(tag, tag + '!') == ['a!', 'b!']", Ok(true)),
        ("record.tags.map(tag, tag == 'a', tag + '!') == ['a!']", Ok(true)),
        ("record.many.filter(n, n > 900).map(n, n * 2).all(n, n > 1800)", Ok(true)),
        ("[[1, 2], [3]].all(list, list.exists(n, n > 1))", Ok(true)),
        ("record.all(key, key != 'nosuch')", Ok(true)),
        ("has(record.name) && !has(record.nosuch)", Ok(true)),
        ("record.name.matches('^A') && matches(record.name, 'n+$')", Ok(true)),
        ("record.name in ['Ann', 'Ben'] && record.name.startsWith('A')", Ok(true)),
        // As in CEL: an error is ignored if the other operand decides, in either order.
        ("[1, 'a', 3].exists(x, x > 2)", Ok(true)),
        ("[1, 'a', 0].all(x, x > 0)", Ok(false)),
        ("[].all(x, x > 0) && ![].exists(x, x > 0)", Ok(true)),
        ("type(record.score) == int", Ok(true)),
    ] {
        check(source, KNOWN).unwrap_or_else(|why| panic!("{source}: {why}"));
        assert_eq!(judged(source), wanted, "{source}");
    }
    assert!(check("[1].all(x, y > 0)", KNOWN).unwrap_err().contains("unknown variable y"));
    assert!(check("[1].all(x, x > 0) && x > 0", KNOWN).unwrap_err().contains("unknown variable x"));
    assert!(judged("[1, 'a'].exists(x, x > 2)").is_err());
    assert!(judged("[1].map(x, x.nosuch).size() > 0").is_err());
}

both! {
    async fn a_managers_condition_ends_nobody(kind) {
        let world = World::without_server(kind, None).await;
        let create = "mutation($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } } }";
        let filters = ["1".to_owned() + &"+1".repeat(1_900) + " == 1", format!("['aaaaaaaaaa']{} == []", ".map(record,record+record)".repeat(60))];
        for (i, filter) in filters.into_iter().enumerate() {
            let (code, told) = world.refused(create, json!({ "input": { "name": format!("a{i}"), "filter": filter } })).await;
            assert!(code == "BAD_USER_INPUT" && told.starts_with("filter: "), "{code} {told}");
        }
        world.ask(create, json!({ "input": { "name": "fine", "filter": "[1].all(x, x > 0)" } })).await;
        world.end().await;
    }
}

#[test]
fn many_owners_have_their_turns() {
    let begun = Instant::now();
    let owners = [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3];
    let mut order = Vec::new();
    // The first condition is slow and uses up its time; the others still get theirs.
    let done = sortie::kernel::budget::in_turn(&owners, begun + Duration::from_millis(2_400), |i, until| {
        assert!(until <= Instant::now() + Duration::from_secs(2));
        order.push(i);
        while owners[i] == 1 && begun.elapsed() < Duration::from_millis(400 * order.len() as u64) {
            std::hint::spin_loop();
        }
        i
    });
    assert_eq!(order[..4], [0, 8, 10, 9], "who had the least time is next: {order:?}");
    let missing: Vec<usize> = (0..11).filter(|i| done[*i].is_none()).collect();
    assert!(!missing.is_empty() && missing.iter().all(|i| owners[*i] == 1), "{missing:?}");
    // At least one condition is evaluated, however late it is.
    let late = sortie::kernel::budget::in_turn(&[1, 2], begun, |i, _| i);
    assert_eq!(late.iter().flatten().count(), 1);
}

both! {
    /// Conditions that can be evaluated alone are evaluated, however many there are and whatever
    /// their total time.
    async fn conditions_of_many_steps_do_not_spend_each_other_s_time(kind) {
        let world = World::without_server(kind, None).await;
        let orders: Map<String, Value> = (0..180).map(|i| (format!("o{i}"), json!(i))).collect();
        let rows: Vec<Value> = (0..420).map(|i| json!({ "kind": "lead", "name": format!("R{i}"), "attributes": orders })).collect();
        for row in rows {
            world.create("record", row).await;
        }
        let step = json!({ "key": "look", "type": "look", "assignedTo": "HUMAN", "when": "record.attributes.exists(a, record.attributes[a] == -1) || record.attributes.exists(a, record.attributes[a] == -2) || record.attributes.exists(a, record.attributes[a] == -3) || record.attributes.exists(a, record.attributes[a] == 179)" });
        let phases = json!([{ "key": "all", "name": "All", "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [step] }] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "looks", "name": "looks", "phases": phases }] }).to_string()).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        world.fly("looks", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        for _ in 0..20 {
            world.tick(false).await;
        }
        let all = world.sql("SELECT status, COALESCE(reason, ''), CAST(COUNT(*) AS TEXT) FROM step WHERE kind = 'look' GROUP BY status, reason").await;
        assert_eq!(all, [["PENDING", "", "420"]]);
        world.end().await;
    }
}
