//! Two ways of answering: nodes of lists and single objects below them are answered from their rows,
//! `node(id)` and subscriptions by the library's executor, field by field. Both give the same for
//! every selection that can be generated. `SORTIE_SEED` chooses other selections.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::socket::Socket;
use crate::transport::strangers::schema::{INTROSPECTION, Schema, bare};

/// Root fields of lists, and the types of their nodes.
const LISTS: [(&str, &str); 5] = [
    ("runs", "Run"),
    ("campaigns", "Campaign"),
    ("steps", "Step"),
    ("records", "Record"),
    ("communications", "Communication"),
];

/// Fields with single objects.
const OBJECTS: [(&str, &str, &str); 5] = [
    ("Run", "campaign", "Campaign"),
    ("Step", "run", "Run"),
    ("Step", "record", "Record"),
    ("Communication", "run", "Run"),
    ("Communication", "record", "Record"),
];

/// The fields of a type that are neither objects nor have arguments.
fn leaves<'a>(schema: &'a Schema, of: &str) -> Vec<&'a str> {
    let fields = schema.of(of)["fields"].as_array().unwrap();
    let leaves = fields.iter().filter(|field| {
        let no_arguments = field["args"].as_array().unwrap().is_empty();
        no_arguments && schema.of(bare(&field["type"]))["fields"].is_null()
    });
    leaves.map(|field| field["name"].as_str().unwrap()).collect()
}

/// A random selection on a type: fields, some twice, under other names, in fragments, with
/// directives.
fn selection(random: &mut StdRng, schema: &Schema, of: &str, depth: usize) -> String {
    let leaves = leaves(schema, of);
    let objects: Vec<_> = OBJECTS.iter().filter(|(on, ..)| *on == of && depth > 0).collect();
    let mut parts = Vec::new();
    for _ in 0..random.random_range(1..9) {
        let field = *leaves.choose(random).unwrap();
        parts.push(match random.random_range(0..12) {
            0 => format!("other_{field}: {field}"),
            1 => format!("... {{ {field} }}"),
            2 => format!("... on {of} {{ {field} __typename }}"),
            3 => "... on Node { id }".to_owned(),
            4 => format!("{field} @include(if: true)"),
            5 => format!("{field} @skip(if: true)"),
            6 => "__typename kind: __typename".to_owned().replace("kind:", "what:"),
            7 | 8 if !objects.is_empty() => {
                let (_, name, below) = objects.choose(random).unwrap();
                format!("{name} {{ {} }}", selection(random, schema, below, depth - 1))
            }
            _ => field.to_owned(),
        });
    }
    parts.push("id".to_owned());
    parts.join(" ")
}

both! {
    async fn lists_and_single_objects_answer_alike(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.until_review(&run).await;
        let types = world.ask(INTROSPECTION, json!({})).await["__schema"]["types"].clone();
        let named = |of: &Value| (of["name"].as_str().unwrap().to_owned(), of.clone());
        let schema = Schema(types.as_array().unwrap().iter().map(named).collect());
        let seed = std::env::var("SORTIE_SEED").ok().and_then(|said| said.parse().ok()).unwrap_or(7);
        let mut random = StdRng::seed_from_u64(seed);
        let (mut answers, mut with_all) = (0, 0);
        for (list, of) in LISTS {
            let all = schema.selection(of, 0);
            let all = all.trim().trim_start_matches('{').trim_end_matches('}').to_owned();
            // One field alone, for which only its columns are read, and an object below it.
            let below = OBJECTS.iter().filter(|(on, ..)| *on == of);
            let below = below.map(|(_, name, of)| format!("{name} {}", schema.selection(of, 0)));
            let alone = leaves(&schema, of).into_iter().map(str::to_owned).chain(below);
            let alone: Vec<String> = alone.collect();
            for round in 0..40 + alone.len() {
                let selected = match round {
                    0 => all.clone(),
                    1..40 => selection(&mut random, &schema, of, 2),
                    _ => format!("id {}", alone[round - 40]),
                };
                let query = format!("{{ {list}(first: 6) {{ nodes {{ {selected} }} edges {{ at: cursor node {{ {selected} }} }} }} }}");
                let found = world.ask(&query, json!({})).await[list].clone();
                let nodes = found["nodes"].as_array().unwrap();
                assert!(!nodes.is_empty(), "{list} is empty");
                for (node, edge) in nodes.iter().zip(found["edges"].as_array().unwrap()) {
                    assert_eq!(*node, edge["node"], "{selected}");
                    let query = format!("query($id: ID!) {{ node(id: $id) {{ ... on {of} {{ {selected} }} }} }}");
                    let single = world.ask(&query, json!({ "id": node["id"] })).await["node"].clone();
                    assert_eq!(*node, single, "{selected}");
                    answers += 1;
                }
                with_all += usize::from(round == 0);
            }
        }
        assert_eq!(with_all, LISTS.len());
        assert!(answers > 400, "{answers}");
        world.end().await;
    }
}

both! {
    async fn the_log_and_subscriptions_answer_alike(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.until_review(&run).await;
        let selected = "cursor kind campaignId runId phaseId taskId stepId recordId at payload actor { kind name } run { id status } campaign { name } __typename";
        let query = format!("{{ events(first: 100) {{ pageInfo {{ hasNextPage startCursor endCursor }} nodes {{ {selected} }} edges {{ cursor }} }} }}");
        let log = world.ask(&query, json!({})).await["events"].clone();
        let nodes = log["nodes"].as_array().unwrap();
        assert_eq!(log["pageInfo"]["startCursor"], nodes[0]["cursor"]);
        assert_eq!(log["pageInfo"]["endCursor"], nodes[nodes.len() - 1]["cursor"]);
        let cursors: Vec<&Value> = log["edges"].as_array().unwrap().iter().map(|edge| &edge["cursor"]).collect();
        assert_eq!(cursors, nodes.iter().map(|node| &node["cursor"]).collect::<Vec<_>>());
        let mut socket = Socket::open(world.address).await;
        let document = format!("subscription($after: String) {{ events(after: $after) {{ {selected} }} }}");
        socket.subscribe("all", &document, json!({ "after": nodes[0]["cursor"] })).await;
        for node in &nodes[1..] {
            assert_eq!(socket.next().await["events"], *node);
        }
        drop(socket);
        world.end().await;
    }
}

both! {
    async fn an_error_below_a_node_has_its_path(kind) {
        let world = World::new(kind).await;
        world.plan("EMAIL", 2).await;
        // The argument is refused by the resolver of each node; the field may not be null.
        let below = "name runs(after: \"nonsense\") { totalCount }";
        for (of, path) in [
            (format!("nodes {{ {below} }}"), json!(["campaigns", "nodes", 0, "runs"])),
            (format!("edges {{ node {{ {below} }} }}"), json!(["campaigns", "edges", 0, "node", "runs"])),
        ] {
            let answer = world.post(&format!("{{ campaigns {{ {of} }} goals {{ nodes {{ name }} }} }}"), json!({})).await;
            assert_eq!(answer["errors"][0]["path"], path, "{answer:#}");
            assert_eq!(answer["data"], Value::Null, "{answer:#}");
        }
        world.end().await;
    }
}
