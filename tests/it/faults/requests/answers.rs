//! Responses: their keys come in the order of the document.

use serde_json::json;

use crate::harness::World;

/// The keys of a text of JSON in their order, objects and lists written as `{…}` and `[…]`.
fn keys(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match first {
            '"' => {
                let mut end = 1;
                while !rest[end..].starts_with('"') {
                    end +=
                        if rest[end..].starts_with('\\') { 2 } else { rest[end..].chars().next().unwrap().len_utf8() };
                }
                if rest[end + 1..].starts_with(':') {
                    out += &format!("{} ", &rest[1..end]);
                }
                rest = &rest[end + 1..];
            }
            '{' | '}' => {
                out.push(first);
                rest = &rest[1..];
            }
            _ => rest = &rest[first.len_utf8()..],
        }
    }
    out
}

both! {
    async fn keys_in_the_order_of_the_document(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 2).await;
        let ask = async |query: &str| {
            let request = crate::harness::client().post(format!("http://{}/graphql", world.address));
            let response = request.json(&json!({ "query": query, "variables": { "id": plan.campaign, "ids": [plan.campaign, plan.records[0]], "yes": true } }));
            let text = response.send().await.unwrap().text().await.unwrap();
            assert!(!text.contains("\"errors\""), "{text}");
            keys(&text)
        };
        for (query, wanted) in [
            // Fields that are loaded beside fields that are already in memory.
            ("{ campaigns { totalCount nodes { goal { name id } name writer { id } id segment { name recordCount } status } pageInfo { hasNextPage } } viewer { role } }",
             "{data {campaigns {totalCount nodes {goal {name id }name writer {id }id segment {name recordCount }status }pageInfo {hasNextPage }}viewer {role }}}"),
            ("query($id: ID!) { b: viewer { role } a: campaign(id: $id) { z: versions { nodes { version actor { name kind } } totalCount } y: name x: goal { name } } }",
             "{data {b {role }a {z {nodes {version actor {name kind }}totalCount }y x {name }}}}"),
            // Fragments, and fields that are selected more than once.
            ("query($id: ID!) { campaign(id: $id) { ...A name ...B id goal { id } } } fragment A on Campaign { goal { name } status } fragment B on Campaign { writer { id } ... { name active } goal { description } }",
             "{data {campaign {goal {name description id }status name writer {id }active id }}}"),
            // Type conditions: a field of another type has no key.
            ("query($ids: [ID!]!) { nodes(ids: $ids) { ... on Record { name id } id ... on Campaign { goal { id } name } ...N __typename } } fragment N on Node { id ... on Record { stage } ... on Campaign { status } }",
             "{data {nodes {id goal {id }name status __typename }{name id stage __typename }}}"),
            ("query($ids: [ID!]!, $yes: Boolean!) { nodes(ids: $ids) { ... on Record @skip(if: $yes) { name } ... on Campaign @include(if: $yes) { goal { id } id } } }",
             "{data {nodes {goal {id }id }{}}}"),
            ("{ __schema { queryType { name kind } mutationType { kind name } } __typename viewer { __typename role } }",
             "{data {__schema {queryType {name kind }mutationType {kind name }}__typename viewer {__typename role }}}"),
        ] {
            // The second time the document is known.
            for _ in 0..2 {
                assert_eq!(ask(query).await, wanted, "{query}");
            }
        }
        // Of a subscription, as serialised.
        let query = format!("subscription {{ events(after: \"{}\") {{ campaignId cursor actor {{ name kind }} kind }} }}", crate::harness::cursor::at(0));
        let request = crate::harness::client().post(format!("http://{}/graphql", world.address)).header("accept", "text/event-stream");
        let mut response = request.json(&json!({ "query": query })).send().await.unwrap();
        let mut text = String::new();
        while !text.contains("\n\nevent: next") && !text.contains("}\n\n") {
            text += std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
        }
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        assert_eq!(keys(data), "{data {events {campaignId cursor actor {name kind }kind }}}");
        world.end().await;
    }
}

/// Measures the cost of the checks and of the key order relative to executing the same request;
/// printed with `--nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_costs() {
    use async_graphql::Variables;
    use async_graphql::parser::parse_query;
    use sortie::graphql::document::Plan;
    use std::time::Instant;

    let world = World::without_server(crate::harness::Kind::Sqlite, None).await;
    world.leads(50).await;
    let query = "query Q($filter: RecordFilterInput, $first: Int, $after: String, $order: RecordOrder) { records(filter: $filter, first: $first, after: $after, orderBy: $order) { nodes { id kind externalId name email phone timeZone stage attributes createdAt updatedAt revision } pageInfo { hasNextPage endCursor } } }";
    let variables = json!({ "filter": { "kind": { "eq": "lead" }, "createdAt": { "since": "2026-01-01T00:00:00Z" } }, "first": 50 });
    const TIMES: u32 = 300;
    let timed = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        (0..TIMES).for_each(|_| work());
        begun.elapsed() / TIMES
    };
    let parsed = parse_query(query).unwrap();
    let mut document = parsed.clone();
    let plan = Plan::of(&mut document);
    let planned = timed(&mut || drop(Plan::of(&mut parsed.clone())));
    let checked = timed(&mut || drop(plan.check(None, Variables::from_json(variables.clone())).unwrap()));
    let request = plan.check(None, Variables::from_json(variables.clone())).unwrap();
    let built = timed(&mut || drop(request.request(&document)));
    let copied = timed(&mut || drop(document.clone()));
    let schema = sortie::graphql::prevalidated_schema(world.db.clone());
    let begun = Instant::now();
    for _ in 0..TIMES {
        let request = sortie::graphql::with_viewer(request.request(&document), &world.db, &world.viewer);
        assert!(sortie::graphql::batching::execute(&schema, request).await.is_ok());
    }
    let executed = begun.elapsed() / TIMES;
    println!(
        "a document's plan, once {planned:?}; variables of a request {checked:?}; its document {built:?}, of which the copy {copied:?}; executed {executed:?}"
    );
    assert!(checked < executed / 4, "checking takes {checked:?} of {executed:?}");
    world.end().await;
}

both! {
    async fn errors_of_the_document_name_their_field(kind) {
        let world = World::new(kind).await;
        for (query, field) in [
            ("{ goals { nodes { id nome } } }", "goals.nodes.nome"),
            ("{ all: goals { nodes { ... on Goal { other: nome } } } }", "all.nodes.other"),
            ("{ goals { nodes { ...f } } } fragment f on Goal { id nome }", "nome"),
            ("{ goals(frist: 1) { nodes { id } } }", "frist"),
            ("query($x: Gaol) { goals { nodes { id } } }", "Gaol"),
            ("{ goals { nodes } }", "goals.nodes"),
            ("{ goals @dazu { nodes { id } } }", "dazu"),
        ] {
            let answer = world.post(query, json!({})).await;
            let extensions = &answer["errors"][0]["extensions"];
            assert_eq!((&extensions["code"], &extensions["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{query}: {answer:#}");
        }
        world.end().await;
    }
}

both! {
    async fn a_number_out_of_range_is_named_with_its_path(kind) {
        let world = World::new(kind).await;
        let body = r#"{ "query": "mutation($input: CreateRecordInput!) { createRecord(input: $input) { record { id } } }",
            "variables": { "input": { "name": "a \"{[", "kind": "lead", "attributes": { "sizes": [1, { "x": 1e400 }] } } } }"#;
        let request = crate::harness::client().post(format!("http://{}/graphql", world.address));
        let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
        let answer: serde_json::Value = response.json().await.unwrap();
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"]["field"], "input.attributes.sizes[1].x", "{answer:#}");
        assert!(error["message"].as_str().unwrap().contains("numbers must lie between"), "{answer:#}");
        world.end().await;
    }
}
