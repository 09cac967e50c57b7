//! Response keys in the order of the document, whatever directives leave out: of each key, the
//! first occurrence that is not skipped counts.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::json;

use crate::harness::{Kind, World};

/// A part of a selection on the viewer.
#[derive(Clone, Debug)]
enum Piece {
    Field(&'static str),
    Inline(Vec<(Piece, Guard)>),
    Spread(usize),
}

/// A directive: none, or one with a literal or a variable.
#[derive(Clone, Copy, Debug)]
struct Guard {
    name: &'static str,
    value: Option<bool>,
    literal: bool,
}

const KEYS: [&str; 4] = ["role", "orgId", "__typename", "name"];

fn guard() -> impl Strategy<Value = Guard> {
    let name = prop::sample::select(vec!["skip", "include"]);
    (name, prop::option::of(any::<bool>()), any::<bool>()).prop_map(|(name, value, literal)| Guard {
        name,
        value,
        literal,
    })
}

fn set(depth: usize) -> BoxedStrategy<Vec<(Piece, Guard)>> {
    let field = prop::sample::select(KEYS.to_vec()).prop_map(Piece::Field).boxed();
    let piece = match depth {
        0 => field,
        _ => prop_oneof![3 => field, 1 => set(depth - 1).prop_map(Piece::Inline), 1 => (0..2usize).prop_map(Piece::Spread)]
            .boxed(),
    };
    prop::collection::vec((piece, guard()), 1..5).boxed()
}

impl Guard {
    fn text(self) -> String {
        match (self.value, self.literal) {
            (None, _) => String::new(),
            (Some(value), true) => format!(" @{}(if: {value})", self.name),
            (Some(value), false) => format!(" @{}(if: ${})", self.name, if value { "yes" } else { "no" }),
        }
    }

    fn is_kept(self) -> bool {
        self.value.is_none_or(|value| value == (self.name == "include"))
    }
}

fn text(set: &[(Piece, Guard)]) -> String {
    let each = set.iter().map(|(piece, guard)| match piece {
        Piece::Field(name) => format!("{name}{}", guard.text()),
        Piece::Inline(set) => format!("...{} {{ {} }}", guard.text(), text(set)),
        Piece::Spread(number) => format!("...F{number}{}", guard.text()),
    });
    each.collect::<Vec<_>>().join(" ")
}

/// CollectFields of the specification.
fn collect(set: &[(Piece, Guard)], fragments: &[Vec<(Piece, Guard)>], seen: &mut Vec<usize>, keys: &mut Vec<String>) {
    for (piece, _) in set.iter().filter(|(_, guard)| guard.is_kept()) {
        match piece {
            Piece::Field(name) if keys.iter().any(|key| key == name) => {}
            Piece::Field(name) => keys.push((*name).to_owned()),
            Piece::Inline(set) => collect(set, fragments, seen, keys),
            Piece::Spread(number) if seen.contains(number) => {}
            Piece::Spread(number) => {
                seen.push(*number);
                collect(&fragments[*number], fragments, seen, keys);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_where_they_first_stand_unskipped() {
    let world = World::new(Kind::Sqlite).await;
    let client = crate::harness::client();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (set(2), set(0), set(0));
    for _ in 0..500 {
        let (set, first, second) = strategy.new_tree(&mut runner).unwrap().current();
        let fragments = [first, second];
        // Everything is used, so that the document is valid.
        let document = format!(
            "query($yes: Boolean!, $no: Boolean!) {{ viewer {{ {} }} u: viewer @skip(if: true) {{ ...F0 ...F1 a: role @skip(if: $yes) b: role @skip(if: $no) }} }}
             fragment F0 on Viewer {{ {} }} fragment F1 on Viewer {{ {} }}",
            text(&set), text(&fragments[0]), text(&fragments[1])
        );
        let mut wanted = Vec::new();
        collect(&set, &fragments, &mut Vec::new(), &mut wanted);
        let query = document.replace(" name", " name: orgId");
        let body = json!({ "query": query, "variables": { "yes": true, "no": false } });
        let answer = client.post(format!("http://{}/graphql", world.address)).json(&body).send().await.unwrap();
        let answer = answer.text().await.unwrap();
        // As serialised, because a parsed object may have another order.
        let viewer = answer.split("\"viewer\":{").nth(1).and_then(|rest| rest.split('}').next());
        let viewer = viewer.unwrap_or_else(|| panic!("{query}\n{answer}"));
        let found: Vec<&str> = viewer.split('"').skip(1).step_by(4).collect();
        assert_eq!(found, wanted, "{query}\n{answer}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_document_has_the_order_of_each_requests_variables() {
    let world = World::new(Kind::Sqlite).await;
    let query = "query($x: Boolean!) { viewer { role @skip(if: $x) orgId role } a: __typename @include(if: $x) viewer { orgId } }";
    for (x, viewer) in [(true, r#"{"orgId":"#), (false, r#"{"role":"ADMIN","orgId":"#), (true, r#"{"orgId":"#)] {
        let told = crate::harness::client().post(format!("http://{}/graphql", world.address));
        let told = told.json(&json!({ "query": query, "variables": { "x": x } })).send().await.unwrap();
        let told = told.text().await.unwrap();
        assert!(told.starts_with(&format!(r#"{{"data":{{"viewer":{viewer}"#)), "{told}");
    }
    world.end().await;
}
