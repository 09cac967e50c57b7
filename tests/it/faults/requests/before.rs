//! A request is validated as a whole before any of it is executed: custom scalars, nulls in lists,
//! times, numbers.

use serde_json::{Value, json};

use crate::harness::World;

both! {
    async fn nothing_is_done_of_a_request_that_does_not_fit(kind) {
        let world = World::without_server(kind, None).await;
        let goal = "mutation($n: String! PARAMETERS) { a: createGoal(input: { name: $n }) { goal { id } } b: createSegment(input: { name: \"half\", filter: FILTER }) { segment { id } } }";
        let literal = |filter: &str| goal.replace(" PARAMETERS", "").replace("FILTER", filter);
        let mut cases: Vec<(String, Value, String)> = Vec::new();
        // A number as a literal, as a variable of its own, and within one.
        for value in [json!("abc"), json!("0x10"), json!("NaN"), json!("+5"), json!(""), json!("\u{663}"), json!("1e400"), json!({ "a": 1 }), json!([1, 2]), json!(true), json!("9223372036854775808"), json!(9223372036854775808_u64), json!("1e-400")] {
            let written = value.to_string().replace("\"a\":", "a:");
            let at = "filter.attributes[0].gte".to_owned();
            cases.push((literal(&format!("{{ attributes: [{{ name: \"n\", gte: {written} }}] }}")), json!({}), at.clone()));
            cases.push((goal.replace("PARAMETERS", "$v: Number").replace("FILTER", "{ attributes: [{ name: \"n\", gte: $v }] }"), json!({ "v": value }), at.clone()));
            cases.push((goal.replace("PARAMETERS", "$f: RecordFilterInput").replace("FILTER", "$f"), json!({ "f": { "attributes": [{ "name": "n", "gte": value }] } }), at));
        }
        // Nulls in lists.
        for (parameters, filter, variables, field) in [
            ("$e: ID", "{ ids: [$e] }", json!({}), "filter.ids[0]"),
            ("$e: ID", "{ ids: [$e] }", json!({ "e": null }), "filter.ids[0]"),
            ("$e: [ID]", "{ ids: $e }", json!({ "e": ["record_01h455vb4pex5vsknk084sn02q", null] }), "filter.ids"),
            ("$e: [ID!]", "{ ids: $e }", json!({ "e": [null] }), "filter.ids[0]"),
            ("$e: String", "{ name: { in: [\"a\", $e] } }", json!({}), "filter.name.in[1]"),
            ("$e: [String]", "{ and: [{ name: { notIn: $e } }] }", json!({ "e": [null] }), "filter.and[0].name.notIn"),
            ("$e: RecordFilterInput", "{ or: [$e] }", json!({}), "filter.or[0]"),
            ("$e: AttributeFilter", "{ attributes: [$e] }", json!({ "e": null }), "filter.attributes[0]"),
            ("", "{ ids: [null] }", json!({}), "filter.ids[0]"),
        ] {
            cases.push((goal.replace("PARAMETERS", parameters).replace("FILTER", filter), variables, field.into()));
        }
        // Times.
        for time in ["2026-01-01", "2016-12-31T23:59:60Z", "9999-12-31T23:59:60Z", "9999-12-31T18:59:60-05:00", "0000-12-31T23:59:60.5Z", "10000-01-01T00:00:00Z"] {
            cases.push((literal(&format!("{{ createdAt: {{ since: \"{time}\" }} }}")), json!({}), "filter.createdAt.since".into()));
            cases.push((goal.replace("PARAMETERS", "$t: DateTime").replace("FILTER", "{ createdAt: { since: $t } }"), json!({ "t": time }), "filter.createdAt.since".into()));
        }
        for (document, mut variables, field) in cases {
            variables["n"] = json!("half");
            let answer = world.post(&document, variables.clone()).await;
            let error = &answer["errors"][0];
            assert_eq!((answer["data"].is_null() && error.get("path").is_none(), &error["extensions"]["code"], &error["extensions"]["field"]), (true, &json!("BAD_USER_INPUT"), &json!(field)), "{document} {variables}: {answer}");
            assert!(!error["message"].as_str().unwrap().contains("occurred while"), "{answer}");
        }
        let message = world.refused("query($t: DateTime) { records(filter: { createdAt: { since: $t } }) { totalCount } }", json!({ "t": "2016-12-31T23:59:60Z" })).await.1;
        assert!(message.contains("write 2016-12-31T23:59:59Z or 2017-01-01T00:00:00Z"), "{message}");
        let none = world.ask("{ goals { totalCount } segments { totalCount } }", json!({})).await;
        assert_eq!(none, json!({ "goals": { "totalCount": 0 }, "segments": { "totalCount": 0 } }));
        // A variable without a value that is no item of a list is not given, and the value of a list may be one text.
        let answer = world.ask("query($e: [ID!], $t: [String!]) { records(filter: { name: { in: $t }, ids: $e }) { totalCount } }", json!({ "t": "x" })).await;
        assert_eq!(answer["records"]["totalCount"], 0);
        world.end().await;
    }
}

both! {
    /// A time has the precision that both databases store, whatever way it comes in.
    async fn times_are_cut_to_microseconds(kind) {
        let world = World::without_server(kind, None).await;
        let create = "mutation($input: CreateRecordInput!) { createRecord(input: $input) { record { id lastContactedAt } } }";
        let last = |answer: &Value| answer["createRecord"]["record"]["lastContactedAt"].as_str().unwrap().trim_end_matches("+00:00").trim_end_matches('Z').to_owned();
        for (given, kept) in [
            ("2026-01-01T00:00:00.1234567891234Z", "2026-01-01T00:00:00.123456"),
            ("2026-01-01T02:00:00.123456999+02:00", "2026-01-01T00:00:00.123456"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999"),
            ("0001-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500"),
        ] {
            let variable = world.ask(create, json!({ "input": { "kind": "lead", "name": "V", "lastContactedAt": given } })).await;
            assert_eq!(last(&variable), kept, "{given}");
            let one = "mutation($t: DateTime) { createRecord(input: { kind: \"lead\", name: \"O\", lastContactedAt: $t }) { record { lastContactedAt } } }";
            assert_eq!(last(&world.ask(one, json!({ "t": given })).await), kept, "{given}");
            let plain = one.replace("($t: DateTime)", &format!("($t: DateTime = \"{given}\")"));
            assert_eq!(last(&world.ask(&plain, json!({})).await), kept, "{given}");
            let literal = format!("mutation {{ ...F }} fragment F on MutationRoot {{ createRecord(input: {{ kind: \"lead\", name: \"L {given}\", lastContactedAt: \"{given}\" }}) {{ record {{ name lastContactedAt }} }} }}");
            let literal = literal.replace("MutationRoot", &world.root("mutationType").await);
            let answer = world.ask(&literal, json!({})).await;
            // A text is not converted to a time.
            assert_eq!((last(&answer), &answer["createRecord"]["record"]["name"]), (kept.to_owned(), &json!(format!("L {given}"))));
            // A stored time is found by the value that was given.
            for filter in [json!({ "since": given }), json!({ "since": given, "before": "9999-12-31T23:59:59.999999Z" })] {
                let data = world.ask("query($f: TimeFilter!) { records(first: 500, filter: { lastContactedAt: $f }) { nodes { lastContactedAt } } }", json!({ "f": filter })).await;
                let found = data["records"]["nodes"].as_array().unwrap().iter().filter(|one| one["lastContactedAt"].as_str().unwrap().starts_with(kept)).count();
                assert_eq!(found > 0, filter.get("before").is_none() || !kept.starts_with("9999"), "{given} {filter}: {data}");
            }
        }
        for time in ["9999-12-31T23:59:60Z", "2016-12-31T23:59:60Z", "2016-12-31T18:59:60.123-05:00"] {
            let field = world.field_refused(create, json!({ "input": { "kind": "lead", "name": "X", "lastContactedAt": time } })).await;
            assert_eq!(field, "lastContactedAt", "{time}");
        }
        // A cursor at the last possible time still works.
        let page = "query($after: String) { runs(first: 1, after: $after, orderBy: { field: SCHEDULED_FOR, direction: DESC }) { pageInfo { endCursor } } records(first: 500) { totalCount } }";
        assert!(world.ask(page, json!({})).await["records"]["totalCount"].as_u64().unwrap() > 0);
        world.end().await;
    }
}

impl World {
    async fn root(&self, of: &str) -> String {
        let data = self.ask(&format!("{{ __schema {{ {of} {{ name }} }} }}"), json!({})).await;
        data["__schema"][of]["name"].as_str().unwrap().to_owned()
    }
}
