//! Section 3: values that the two databases store differently, and filters over them.

mod nothing;
mod opposites;
mod phones;
mod placeholders;
mod written;

use serde_json::{Value, json};

use crate::harness::World;

impl World {
    /// The names of the records that match a filter, in their order.
    pub async fn found(&self, filter: Value) -> Vec<String> {
        let query = "query($f: RecordFilterInput!) { records(first: 500, filter: $f, orderBy: { field: NAME, direction: ASC }) { totalCount nodes { name } } }";
        let data = self.ask(query, json!({ "f": filter })).await["records"].clone();
        let names: Vec<String> =
            data["nodes"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(data["totalCount"], names.len());
        names
    }

    /// Code and field of the error that rejects a filter over records.
    async fn refused_at(&self, filter: Value) -> (String, String) {
        let query = "query($f: RecordFilterInput!) { previewSegment(filter: $f) { count } }";
        let answer = self.post(query, json!({ "f": filter })).await;
        let text = |key: &str| answer["errors"][0]["extensions"][key].as_str().unwrap_or_default().to_owned();
        (text("code"), text("field"))
    }

    /// A record with one attribute, `it`.
    pub async fn with_it(&self, name: &str, it: Value) {
        self.create("record", json!({ "kind": "lead", "name": name, "attributes": { "it": it } })).await;
    }
}

/// Numbers in their order; those in one group are equal.
const NUMBERS: [&[&str]; 17] = [
    &["-9223372036854775808"],
    &["-9007199254740993"],
    &["-9007199254740992"],
    &["-1", "-1.0"],
    &["-0.5"],
    &["0", "-0.0", "0.0"],
    &["1e-7", "0.0000001"],
    &["0.1"],
    &["1"],
    &["2.5"],
    &["1000", "1e3"],
    &["9007199254740991", "9007199254740991.0", "9.007199254740991e15"],
    &["9007199254740992"],
    &["9007199254740993"],
    &["1152921504606846976"],
    &["9223372036854775806"],
    &["9223372036854775807"],
];

both! {
    async fn numbers_are_exact_to_64_bits(kind) {
        let world = World::without_server(kind, None).await;
        let mut all: Vec<(usize, String)> = Vec::new();
        for (group, texts) in NUMBERS.iter().enumerate() {
            for (i, text) in texts.iter().enumerate() {
                let name = format!("{group:02}-{i}");
                world.with_it(&name, serde_json::from_str(text).unwrap()).await;
                all.push((group, name));
            }
        }
        for (name, it) in [("text", json!("1")), ("true", json!(true)), ("null", json!(null)), ("empty", json!(""))] {
            world.with_it(name, it).await;
        }
        let names = |wanted: &dyn Fn(usize) -> bool| all.iter().filter(|(group, _)| wanted(*group)).map(|(_, name)| name.clone()).collect::<Vec<_>>();
        for (group, texts) in NUMBERS.iter().enumerate() {
            for text in *texts {
                let it: Value = serde_json::from_str(text).unwrap();
                for (condition, wanted) in [
                    (json!({ "eq": it }), names(&|one| one == group)),
                    (json!({ "in": [it] }), names(&|one| one == group)),
                    (json!({ "in": [it, "x", false, 12345] }), names(&|one| one == group)),
                    (json!({ "gt": it }), names(&|one| one > group)),
                    (json!({ "gte": it }), names(&|one| one >= group)),
                    (json!({ "lt": it }), names(&|one| one < group)),
                    (json!({ "lte": text, "gte": text }), names(&|one| one == group)),
                ] {
                    let mut attribute = condition.clone();
                    attribute["name"] = json!("it");
                    assert_eq!(world.found(json!({ "attributes": [attribute] })).await, wanted, "{condition}");
                }
            }
        }
        // Mixed lists, and a literal in the document.
        assert_eq!(world.found(json!({ "attributes": [{ "name": "it", "in": ["1", true, 9007199254740993_i64, 0.1, ""] }] })).await, ["07-0", "13-0", "empty", "text", "true"]);
        let literal = "{ previewSegment(filter: { attributes: [{ name: \"it\", gt: 9007199254740992, lt: 9007199254740994 }] }) { sample { name } } }";
        assert_eq!(world.ask(literal, json!({})).await["previewSegment"]["sample"], json!([{ "name": "13-0" }]));
        // Beyond 64 bits.
        for beyond in ["9223372036854775808", "18446744073709551616", "-9223372036854775809", "1e19", "-1e300"] {
            let it: Value = serde_json::from_str(beyond).unwrap();
            for (condition, field) in [
                (json!({ "name": "it", "eq": it }), "eq"),
                (json!({ "name": "it", "in": [1, it] }), "in[1]"),
                (json!({ "name": "it", "gt": it }), "gt"),
                (json!({ "name": "it", "lte": beyond }), "lte"),
            ] {
                let (code, at) = world.refused_at(json!({ "and": [{ "attributes": [condition] }] })).await;
                assert_eq!((code.as_str(), at.as_str()), ("BAD_USER_INPUT", format!("filter.and[0].attributes[0].{field}").as_str()), "{beyond}");
            }
        }
        // Beyond 2^53, with a fraction or an exponent: the digits are already lost. A text keeps
        // them.
        let inexact = "plain digits";
        for beyond in ["9007199254740992.0", "9007199254740993.0", "-9007199254740993.0", "9.007199254740993e15", "1e17", "1152921504606846976.5"] {
            let it: Value = serde_json::from_str(beyond).unwrap();
            for condition in [json!({ "eq": it }), json!({ "in": [it] }), json!({ "gt": it }), json!({ "lte": it })] {
                let mut attribute = condition.clone();
                attribute["name"] = json!("it");
                let (code, at) = world.refused_at(json!({ "attributes": [attribute] })).await;
                assert!(code == "BAD_USER_INPUT" && at.starts_with("filter.attributes[0]."), "{beyond} {condition}: {code} {at}");
            }
            let literal = format!("{{ previewSegment(filter: {{ attributes: [{{ name: \"it\", gt: {beyond} }}] }}) {{ count }} }}");
            let (code, told) = world.refused(&literal, json!({})).await;
            assert!(code == "BAD_USER_INPUT" && told.contains(inexact), "{beyond}: {told}");
            for query in [
                format!("mutation {{ createRecord(input: {{ kind: \"lead\", name: \"N\", attributes: {{ it: {beyond} }} }}) {{ record {{ id }} }} }}"),
                "mutation($it: JSON!) { createRecord(input: { kind: \"lead\", name: \"N\", attributes: $it }) { record { id } } }".to_owned(),
                format!("mutation {{ createCampaign(input: {{ name: \"C\", variables: {{ it: {beyond} }} }}) {{ campaign {{ id }} }} }}"),
                format!("mutation {{ raiseEvent(input: {{ name: \"a.b\", recordIds: [], payload: {{ it: {beyond} }} }}) {{ name }} }}"),
            ] {
                let (code, told) = world.refused(&query, json!({ "it": { "it": it } })).await;
                assert!(code == "BAD_USER_INPUT" && told.contains(inexact) && told.contains("it:"), "{query}: {told}");
            }
            let yaml = format!("segments:\n  - name: Big\n    filter: {{attributes: [{{name: it, gte: {beyond}}}]}}\n");
            let apply = "mutation($y: String!) { applyManifest(input: { yaml: $y }) { applied problems { line message } } }";
            let told = world.ask(apply, json!({ "y": yaml })).await["applyManifest"].clone();
            assert!(told["applied"] == false && told["problems"][0]["line"] == 3 && told.to_string().contains(inexact), "{told}");
        }
        for (text, wanted) in [("9007199254740993.0", "13-0"), ("9007199254740993.000", "13-0"), ("-9007199254740993.0", "01-0"), ("9223372036854775807.0", "16-0")] {
            assert_eq!(world.found(json!({ "attributes": [{ "name": "it", "gte": text, "lte": text }] })).await, [wanted], "{text}");
        }
        // Saved, and read again.
        let segment = world.create("segment", json!({ "name": "One", "filter": { "attributes": [{ "name": "it", "gte": "9007199254740993", "lt": 9007199254740994_i64 }] } })).await;
        let data = world.ask("query($id: ID!) { segment(id: $id) { recordCount filter } }", json!({ "id": segment })).await;
        assert_eq!(data["segment"]["recordCount"], 1, "{data}");
        world.end().await;
    }
}

/// Dates as text that are 14 days or more before the tests' time, noon on 2026-11-02.
const LONG_AGO: [&str; 14] = [
    "2026-10-19T11:59:59Z",
    "2026-10-19",
    "2026-10-01",
    "0001-01-01",
    "2026-10-19T13:00:00+02:00",
    "2026-10-19 11:59",
    "2024-02-29",
    "2026-10-19T11:59:59.999Z",
    "2026-10-19T06:59:59-05:00",
    "2000-02-29T00:00:00+14:00",
    "2026-10-19T11:59:59.123456",
    "2026-10-19T11:59z",
    "0001-01-01T05:00:00+05:00",
    "1970-01-01T00:00:00-00:00",
];

/// Texts that are later dates, or no dates.
const NOT: [&str; 40] = [
    "",
    "-",
    "12/31/2099",
    "12/31/1999",
    "now",
    "2459000.5",
    "10:00",
    "2026-02-30",
    "2025-02-29",
    "1900-02-29",
    "2026-04-31",
    "2026-13-01",
    "2026-00-10",
    "2026-10-00",
    "0000-01-01",
    "-0001-01-01",
    "2026-10-19T12:00:00Z",
    "2026-10-19T11:00:00-05:00",
    "2026-10-20",
    "9999-12-31T23:59:59-05:00",
    "10000-01-01",
    "0001-01-01T00:00:00+05:00",
    "2026-10-01T24:00:00Z",
    "2026-10-01T23:60Z",
    "2026-10-01T10:00:60Z",
    "2026-10-01 10:00 Z",
    "2026-10-01T10",
    "2026-10-01Z",
    "2026-10-01T10:00:00+0500",
    "2026-10-01T10:00:00.",
    " 2026-10-01",
    "2026-10-01 ",
    "２０２６-10-01",
    "2026-10-01T10:00:00+15:00",
    "20261001",
    "2026-10-01T10:00:00+02:00 BC",
    "2026-10-01\n",
    "2026-10-01T10:00:00Zx",
    "infinity",
    "2026-10-1",
];

both! {
    async fn only_dates_are_long_ago(kind) {
        let world = World::without_server(kind, None).await;
        for (i, text) in LONG_AGO.iter().enumerate() {
            world.with_it(&format!("a{i:02}"), json!(text)).await;
        }
        for (i, text) in NOT.iter().enumerate() {
            world.with_it(&format!("n{i:02}"), json!(text)).await;
        }
        for (i, it) in [json!(20200101), json!(true), json!(null), json!(-1.5)].into_iter().enumerate() {
            world.with_it(&format!("x{i}"), it).await;
        }
        let old = |age: &str| json!({ "attributes": [{ "name": "it", "olderThan": age }] });
        let found = world.found(old("14d")).await;
        let at = |place: &str| place.parse::<usize>().unwrap();
        let shown: Vec<&str> = found.iter().map(|name| name.strip_prefix('a').map_or_else(|| NOT[at(&name[1..])], |place| LONG_AGO[at(place)])).collect();
        let wanted: Vec<String> = (0..LONG_AGO.len()).map(|i| format!("a{i:02}")).collect();
        assert_eq!(found, wanted, "{shown:?}");
        assert_eq!(world.found(json!({ "not": old("14d") })).await.len(), NOT.len() + 4);
        // A duration that no record matches; and an invalid one.
        assert_eq!(world.found(old("9000y")).await, [] as [String; 0]);
        assert_eq!(world.refused_at(old("soon")).await, ("BAD_USER_INPUT".into(), "filter.attributes[0].olderThan".into()));
        world.end().await;
    }
}

both! {
    async fn a_search_finds_every_spelling(kind) {
        let world = World::without_server(kind, None).await;
        let names = ["Jos\u{e9} A", "Jose\u{301} B", "Stra\u{df}e C", "STRASSE D", "\u{130}stanbul E", "i\u{307}stanbul F", "\u{fb01}ne G", "FINE H", "\u{3a3}\u{399}\u{3a3} J", "100%_\\ K"];
        for name in names {
            world.create("record", json!({ "kind": "lead", "name": name, "externalId": format!("id {name}"), "stage": name })).await;
            world.create("campaign", json!({ "name": name, "description": "x", "channel": "EMAIL" })).await;
            world.guided("weekly-pipeline-review", json!({ "name": name })).await;
        }
        let letters = |names: &Value| {
            let mut all: Vec<char> = names.as_array().unwrap().iter().filter_map(|one| one["name"].as_str().unwrap().chars().last()).collect();
            all.sort_unstable();
            String::from_iter(all)
        };
        for (text, wanted) in [
            ("jos\u{e9}", "AB"), ("JOSE\u{301}", "AB"), ("strasse", "CD"), ("STRA\u{1e9e}E", "CD"), ("i\u{307}STANBUL", "EF"),
            ("\u{130}stan", "EF"), ("fine", "GH"), ("\u{fb01}NE", "GH"), ("\u{3c3}\u{3b9}\u{3c2}", "J"), ("100%_\\", "K"), ("0%", "K"), ("_\\", "K"), ("%_%", ""), ("nobody", ""),
        ] {
            let query = "query($s: String!) { records(filter: { search: $s }) { nodes { name } } campaigns(filter: { search: $s }) { nodes { name } } runs(filter: { search: $s }) { nodes { name } } }";
            let data = world.ask(query, json!({ "s": text })).await;
            for list in ["records", "campaigns", "runs"] {
                assert_eq!(letters(&data[list]["nodes"]), wanted, "{list}: {text}");
            }
        }
        // Names, ids and stages are normalised, however the filter spells them.
        for filter in [
            json!({ "name": { "eq": "Jose\u{301} A" } }), json!({ "externalId": { "in": ["id Jose\u{301} A"] } }),
            json!({ "stage": { "eq": "Jose\u{301} A" } }), json!({ "name": { "contains": "E\u{301} A" } }),
        ] {
            // `contains` ignores case for ASCII letters only.
            let wanted = if filter["name"]["contains"].is_null() { 1 } else { 0 };
            assert_eq!(world.found(filter.clone()).await.len(), wanted, "{filter}");
        }
        let long = "x".repeat(1_001);
        for list in ["records", "campaigns", "runs"] {
            let query = format!("query($s: String!) {{ {list}(filter: {{ search: $s }}) {{ totalCount }} }}");
            for text in ["\u{fdfa}".repeat(1_000), long.clone(), "%".repeat(60_000)] {
                let error = world.post(&query, json!({ "s": text })).await["errors"][0]["extensions"].clone();
                assert_eq!((&error["code"], &error["field"]), (&json!("BAD_USER_INPUT"), &json!("filter.search")), "{list}");
            }
            assert_eq!(world.ask(&query, json!({ "s": "%".repeat(1_000) })).await[list]["totalCount"], 0);
        }
        world.end().await;
    }
}

both! {
    async fn every_name_of_an_attribute_can_be_asked_for(kind) {
        let world = World::without_server(kind, None).await;
        let names = [
            "First Name", "$", "a[0]", "a.b", "it's", "say \"x\"", "back\\slash", "", "日本", "tab\there", "$.x", "#", "0", "\\\"", "Caf\u{e9}",
            "'; DROP TABLE record; --", "{}", "\u{1f600}", "a\u{7f}b", "new\nline", "?", "$1", "x".repeat(300).leak(),
        ];
        let each = |value: Value| Value::Object(names.iter().map(|name| ((*name).to_owned(), value.clone())).collect());
        for (name, value) in [("text", json!("Value")), ("number", json!(7)), ("true", json!(true)), ("date", json!("2026-01-01"))] {
            world.create("record", json!({ "kind": "lead", "name": name, "attributes": each(value) })).await;
        }
        world.create("record", json!({ "kind": "lead", "name": "without", "attributes": { "other": 1 } })).await;
        for name in names.iter().copied().chain(["Cafe\u{301}"]) {
            for (condition, wanted) in [
                (json!({ "eq": "Value" }), "text"),
                (json!({ "in": ["Value", 7] }), "number text"),
                (json!({ "eq": true }), "true"),
                (json!({ "gt": 6, "lte": 7 }), "number"),
                (json!({ "contains": "VAL" }), "text"),
                (json!({ "olderThan": "14d" }), "date"),
                (json!({ "isNull": true }), "without"),
                (json!({ "isNull": false }), "date number text true"),
            ] {
                let mut attribute = condition.clone();
                attribute["name"] = json!(name);
                assert_eq!(world.found(json!({ "attributes": [attribute] })).await.join(" "), wanted, "{name:?} {condition}");
            }
        }
        for name in ["a\u{0}", &"x".repeat(20_000)] {
            assert_eq!(world.refused_at(json!({ "attributes": [{ "name": name, "eq": 1 }] })).await, ("BAD_USER_INPUT".into(), "filter.attributes[0].name".into()));
        }
        world.end().await;
    }
}

both! {
    async fn filters_and_orders_hold_to_the_ends_of_time(kind) {
        let world = World::without_server(kind, None).await;
        for (name, at) in [("first", json!("0001-01-01T00:00:00Z")), ("last", json!("9999-12-31T23:59:59.999999Z")), ("now", json!("2026-11-02T12:00:00.5Z")), ("whole", json!("2026-11-02T12:00:00Z")), ("never", json!(null))] {
            world.create("record", json!({ "kind": "lead", "name": name, "lastContactedAt": at })).await;
        }
        for (direction, wanted) in [("ASC", ["first", "whole", "now", "last", "never"]), ("DESC", ["last", "now", "whole", "first", "never"])] {
            let (mut after, mut names) = (Value::Null, Vec::new());
            loop {
                let query = format!("query($after: String) {{ records(first: 1, after: $after, orderBy: {{ field: LAST_CONTACTED_AT, direction: {direction} }}) {{ nodes {{ name }} pageInfo {{ hasNextPage endCursor }} }} }}");
                let data = world.ask(&query, json!({ "after": after })).await["records"].clone();
                names.push(data["nodes"][0]["name"].as_str().unwrap().to_owned());
                if data["pageInfo"]["hasNextPage"] == false {
                    break;
                }
                after = data["pageInfo"]["endCursor"].clone();
            }
            assert_eq!(names, wanted, "{direction}");
        }
        for (filter, wanted) in [
            (json!({ "before": "0001-01-01T00:00:00Z" }), ""),
            (json!({ "before": "0001-01-01T00:00:01Z" }), "first"),
            (json!({ "since": "9999-12-31T23:59:59Z" }), "last"),
            (json!({ "before": "9999-12-31T18:59:59.999999-05:00" }), "first now whole"),
            (json!({ "before": "0001-01-01T00:00:00Z", "orNever": true }), "never"),
            (json!({ "olderThan": "9000y" }), ""),
            (json!({ "newerThan": "9000y" }), "first last now whole"),
            (json!({ "olderThan": "0s", "orNever": true }), "first never"),
            (json!({ "since": "2026-11-02T14:00:00.5+02:00" }), "last now"),
        ] {
            assert_eq!(world.found(json!({ "lastContactedAt": filter })).await.join(" "), wanted, "{filter}");
        }
        for beyond in ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+00:01", "0000-06-01T00:00:00Z"] {
            for (filter, field) in [("before", "filter.createdAt.before"), ("since", "filter.createdAt.since")] {
                assert_eq!(world.refused_at(json!({ "createdAt": { filter: beyond } })).await, ("BAD_USER_INPUT".into(), field.into()), "{beyond}");
            }
            for (column, end) in [("createdAt", "from"), ("scheduledFor", "to")] {
                let query = "query($f: RunFilter!) { runs(filter: $f) { totalCount } }";
                let error = world.post(query, json!({ "f": { "not": { column: { end: beyond } } } })).await["errors"][0]["extensions"].clone();
                assert_eq!((&error["code"], &error["field"]), (&json!("BAD_USER_INPUT"), &json!(format!("filter.not.{column}.{end}"))), "{beyond}");
            }
        }
        world.end().await;
    }
}
