//! Response keys in the order of the document as it was written, also where a field occurs several
//! times with others between: its selections are collected in the order in which they stand.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::json;

use crate::harness::{Kind, World};

/// A part of a selection on the query: the viewer with some of its fields, or fragments of such.
#[derive(Clone, Debug)]
enum Piece {
    Viewer(Vec<(&'static str, Guard)>),
    Inline(Vec<(Piece, Guard)>),
    Spread(usize),
}

/// A directive `@include` with a variable, or none.
type Guard = Option<bool>;

const KEYS: [&str; 4] = ["role", "orgId", "__typename", "name"];

fn guard() -> impl Strategy<Value = Guard> {
    prop_oneof![3 => Just(None), 1 => any::<bool>().prop_map(Some)]
}

fn set(depth: usize) -> BoxedStrategy<Vec<(Piece, Guard)>> {
    let fields = prop::collection::vec((prop::sample::select(KEYS.to_vec()), guard()), 1..4);
    let viewer = fields.prop_map(Piece::Viewer).boxed();
    let piece = match depth {
        0 => viewer,
        _ => prop_oneof![3 => viewer, 1 => set(depth - 1).prop_map(Piece::Inline), 1 => (0..2usize).prop_map(Piece::Spread)]
            .boxed(),
    };
    prop::collection::vec((piece, guard()), 1..5).boxed()
}

fn directive(guard: Guard) -> String {
    guard.map_or_else(String::new, |kept| format!(" @include(if: ${})", if kept { "yes" } else { "no" }))
}

fn text(set: &[(Piece, Guard)]) -> String {
    let each = set.iter().map(|(piece, guard)| match piece {
        Piece::Viewer(keys) => {
            let keys: Vec<String> =
                keys.iter().map(|(key, guard)| format!("{}{}", field(key), directive(*guard))).collect();
            format!("viewer{} {{ {} }}", directive(*guard), keys.join(" "))
        }
        Piece::Inline(set) => format!("...{} {{ {} }}", directive(*guard), text(set)),
        Piece::Spread(number) => format!("...F{number}{}", directive(*guard)),
    });
    each.collect::<Vec<_>>().join(" ")
}

fn field(key: &str) -> &str {
    if key == "name" { "name: orgId" } else { key }
}

/// CollectFields of the specification, for the keys of the viewer.
fn collect(
    set: &[(Piece, Guard)],
    fragments: &[Vec<(Piece, Guard)>],
    seen: &mut Vec<usize>,
    keys: &mut Option<Vec<String>>,
) {
    for (piece, _) in set.iter().filter(|(_, guard)| *guard != Some(false)) {
        match piece {
            Piece::Viewer(fields) => {
                let keys = keys.get_or_insert_default();
                for (key, _) in fields.iter().filter(|(_, guard)| *guard != Some(false)) {
                    if !keys.iter().any(|known| known == key) {
                        keys.push((*key).to_owned());
                    }
                }
            }
            Piece::Inline(set) => collect(set, fragments, seen, keys),
            Piece::Spread(number) if seen.contains(number) => {}
            Piece::Spread(number) => {
                seen.push(*number);
                collect(&fragments[*number], fragments, seen, keys);
            }
        }
    }
}

/// The response as serialised, because a parsed object may have another order.
async fn answer(world: &World, query: &str) -> String {
    let body = json!({ "query": query, "variables": { "yes": true, "no": false } });
    let request = crate::harness::client().post(format!("http://{}/graphql", world.address)).json(&body);
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_selections_come_as_written() {
    let world = World::new(Kind::Sqlite).await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (set(2), set(0), set(0));
    for _ in 0..400 {
        let (set, first, second) = strategy.new_tree(&mut runner).unwrap().current();
        let fragments = [first, second];
        // Everything is used, so that the document is valid.
        let query = format!(
            "query($yes: Boolean!, $no: Boolean!) {{ {} ... @skip(if: true) {{ ...F0 ...F1 a: __typename @skip(if: $yes) b: __typename @skip(if: $no) }} }}
             fragment F0 on Query {{ {} }} fragment F1 on Query {{ {} }}",
            text(&set), text(&fragments[0]), text(&fragments[1])
        );
        let mut wanted = None;
        collect(&set, &fragments, &mut Vec::new(), &mut wanted);
        let answer = answer(&world, &query).await;
        let viewer = answer.split("\"viewer\":{").nth(1).and_then(|rest| rest.split('}').next());
        let found = viewer.map(|viewer| viewer.split('"').skip(1).step_by(4).map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(found, wanted, "{query}\n{answer}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_depth_and_around_fragments() {
    let world = World::new(Kind::Sqlite).await;
    world.create("record", json!({ "kind": "lead", "name": "Ann" })).await;
    let org = world.ask("{ viewer { orgId } }", json!({})).await["viewer"]["orgId"].clone();
    for (query, data) in [
        (
            "{ viewer { role } ...F viewer { orgId } } fragment F on Query { viewer { __typename } }".to_owned(),
            r#"{"viewer":{"role":"ADMIN","__typename":"Viewer","orgId":ORG}}"#,
        ),
        (
            "{ viewer { role } ... { viewer { __typename orgId } } viewer { orgId role } }".to_owned(),
            r#"{"viewer":{"role":"ADMIN","__typename":"Viewer","orgId":ORG}}"#,
        ),
        // Below a list, and two levels below the field that occurs twice.
        (
            "{ records(first: 1) { nodes { name } } ...F records(first: 1) { totalCount nodes { kind } } }
             fragment F on Query { records(first: 1) { nodes { k: kind } pageInfo { hasNextPage } } }"
                .to_owned(),
            r#"{"records":{"nodes":[{"name":"Ann","k":"lead","kind":"lead"}],"pageInfo":{"hasNextPage":false},"totalCount":1}}"#,
        ),
        // A field that is left out of the first occurrence stands where it comes next.
        (
            "query($yes: Boolean!) { viewer { role } viewer @skip(if: $yes) { orgId a: role } viewer { a: role orgId } }".to_owned(),
            r#"{"viewer":{"role":"ADMIN","a":"ADMIN","orgId":ORG}}"#,
        ),
        (
            "query($no: Boolean!) { viewer { role } viewer @skip(if: $no) { orgId a: role } viewer { a: role orgId } }".to_owned(),
            r#"{"viewer":{"role":"ADMIN","orgId":ORG,"a":"ADMIN"}}"#,
        ),
        // Abstract types, by their runtime type.
        (
            "{ records(first: 1) { nodes { ... on Node { id2: __typename } name } } ...F records(first: 1) { nodes { ... on Record { kind } z: name } } }
             fragment F on Query { records(first: 1) { nodes { ... on Node { b: __typename } } } }"
                .to_owned(),
            r#"{"records":{"nodes":[{"id2":"Record","name":"Ann","b":"Record","kind":"lead","z":"Ann"}]}}"#,
        ),
        // Introspection.
        (
            r#"{ __type(name: "Role") { kind } ... { __type(name: "Role") { a: kind } } __type(name: "Role") { name kind } }"#.to_owned(),
            r#"{"__type":{"kind":"ENUM","a":"ENUM","name":"Role"}}"#,
        ),
    ] {
        let found = answer(&world, &query).await;
        let data = data.replace("ORG", &org.to_string());
        assert_eq!(found, format!(r#"{{"data":{data}}}"#), "{query}");
    }
    // A mutation's fields, in the order in which they are carried out.
    let query = "mutation { b: createGoal(input: { name: \"B\" }) { goal { name } } ... { a: createGoal(input: { name: \"A\" }) { goal { name } } } \
                 b: createGoal(input: { name: \"B\" }) { goal { revision } } }";
    let found = answer(&world, query).await;
    assert_eq!(found, r#"{"data":{"b":{"goal":{"name":"B","revision":1}},"a":{"goal":{"name":"A"}}}}"#);
    world.end().await;
}
