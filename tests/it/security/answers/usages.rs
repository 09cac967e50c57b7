//! Variables are used only where their types allow it: the specification's rule 5.8.5.

use serde_json::{Value, json};

use crate::harness::World;

/// The definition of a variable, a use of it on the query, a value, and whether the rule allows it.
const USAGES: [(&str, &str, &str, bool); 30] = [
    ("$x: Int", "goals(first: $x) { totalCount }", "1", true),
    ("$x: Int!", "goals(first: $x) { totalCount }", "1", true),
    ("$x: Int = 1", "goals(first: $x) { totalCount }", "1", true),
    ("$x: String", "goals(first: $x) { totalCount }", "1", false),
    ("$x: [Int]", "goals(first: $x) { totalCount }", "1", false),
    ("$x: ID!", "goal(id: $x) { name }", r#""goal_01h455vb4pex5vsknk084sn02q""#, true),
    ("$x: ID", "goal(id: $x) { name }", r#""goal_01h455vb4pex5vsknk084sn02q""#, false),
    ("$x: ID = null", "goal(id: $x) { name }", r#""goal_01h455vb4pex5vsknk084sn02q""#, false),
    (
        "$x: ID = \"goal_01h455vb4pex5vsknk084sn02q\"",
        "goal(id: $x) { name }",
        r#""goal_01h455vb4pex5vsknk084sn02q""#,
        true,
    ),
    ("$x: String!", "goal(id: $x) { name }", r#""goal_01h455vb4pex5vsknk084sn02q""#, false),
    ("$x: [ID!]!", "nodes(ids: $x) { id }", "[]", true),
    ("$x: [ID!]", "nodes(ids: $x) { id }", "[]", false),
    ("$x: [ID]!", "nodes(ids: $x) { id }", "[]", false),
    ("$x: ID!", "nodes(ids: $x) { id }", r#""goal_01h455vb4pex5vsknk084sn02q""#, false),
    ("$x: ID!", "nodes(ids: [$x]) { id }", r#""goal_01h455vb4pex5vsknk084sn02q""#, true),
    ("$x: ID", "nodes(ids: [$x]) { id }", r#""goal_01h455vb4pex5vsknk084sn02q""#, false),
    ("$x: RunFilter", "runs(filter: $x) { totalCount }", "{}", true),
    ("$x: RunFilter!", "runs(filter: $x) { totalCount }", "{}", true),
    ("$x: RecordFilterInput", "runs(filter: $x) { totalCount }", "{}", false),
    ("$x: [RunStatus!]", "runs(filter: { statuses: $x }) { totalCount }", "[]", true),
    ("$x: [RunStatus!]!", "runs(filter: { statuses: $x }) { totalCount }", "[]", true),
    ("$x: [RunStatus]", "runs(filter: { statuses: $x }) { totalCount }", "[]", false),
    ("$x: RunStatus", "runs(filter: { statuses: $x }) { totalCount }", r#""QUEUED""#, false),
    ("$x: RunStatus!", "runs(filter: { statuses: [$x] }) { totalCount }", r#""QUEUED""#, true),
    ("$x: RunStatus", "runs(filter: { statuses: [$x] }) { totalCount }", r#""QUEUED""#, false),
    ("$x: [RunStatus!]", "runs(filter: { statuses: [$x] }) { totalCount }", "[]", false),
    ("$x: Boolean!", "viewer { role @skip(if: $x) }", "true", true),
    ("$x: Boolean = false", "viewer { role @skip(if: $x) }", "true", true),
    ("$x: Boolean", "viewer { role @skip(if: $x) }", "true", false),
    ("$x: Boolean", "__typename @include(if: $x)", "true", false),
];

both! {
    async fn variables_stand_where_their_types_allow_it(kind) {
        let world = World::new(kind).await;
        for (definition, used, value, is_allowed) in USAGES {
            let variables = json!({ "x": serde_json::from_str::<Value>(value).unwrap() });
            // Directly, in a fragment, and, if invalid, in an operation that is not the executed
            // one.
            let plain = format!("query({definition}) {{ {used} }}");
            let within = format!("query({definition}) {{ ...F }} fragment F on Query {{ {used} }}");
            let beside = format!("query A {{ viewer {{ role }} }} query B({definition}) {{ {used} }}");
            for (query, name) in [(plain, None), (within, None), (beside, Some("A"))] {
                if is_allowed && name.is_some() {
                    continue;
                }
                let request = crate::harness::client().post(format!("http://{}/graphql", world.address));
                let request = request.header("accept", "application/graphql-response+json");
                let variables = if name.is_some() { json!({}) } else { variables.clone() };
                let body = json!({ "query": query, "variables": variables, "operationName": name });
                let response = request.json(&body).send().await.unwrap();
                let status = response.status().as_u16();
                let told: Value = response.json().await.unwrap();
                if is_allowed {
                    assert!(status == 200 && told["data"].is_object(), "{query}: {status} {told}");
                } else {
                    assert!(status == 400 && told.get("data").is_none(), "{query}: {status} {told}");
                    assert_eq!(told["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{query}: {told}");
                }
            }
        }
        world.end().await;
    }
}
