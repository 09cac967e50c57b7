//! A14: YAML whose paths, or whose errors, take quadratic space. And other nested input: JSON.

use serde_json::{Value, json};
use sortie::domain::content::yaml;
use sortie::kernel::storable;

use super::soon;
use crate::harness::World;

/// Texts that make a parser recurse, or that have many values below long paths.
pub(in crate::security) fn texts(size: usize) -> Vec<String> {
    let name = "n".repeat(250);
    let deep: String = (0..60).map(|depth| format!("{}{name}:\n", " ".repeat(depth))).collect();
    let wide: String = (0..size / 70).map(|i| format!("{}k{i}: 1\n", " ".repeat(60))).collect();
    vec![
        deep + &wide,
        "[".repeat(size),
        "{".repeat(size),
        "{a: ".repeat(size),
        "- ".repeat(size),
        "? ".repeat(size),
        "[a,".repeat(size),
        format!("[{}]", "a,".repeat(size / 2)),
        format!("{{{}}}", (0..size / 8).map(|i| format!("k{i}: 1,")).collect::<String>()),
        "a: ".repeat(size),
        "!!a ".repeat(size),
        "&a ".repeat(size),
        "*a ".repeat(size),
        "--- a\n".repeat(size),
        format!("\"{}", "\\u0041".repeat(size)),
        format!("|\n{}", " a\n".repeat(size)),
        format!("a: &a [{}]\nb: [*a, *a]", "x,".repeat(100)),
        "%YAML 1.2\n".repeat(size),
        "# a\n".repeat(size),
        "\t".repeat(size),
        "'".repeat(size),
        format!("a: {}", "9".repeat(size)),
        format!("a: 0x{}", "f".repeat(size)),
        format!("a: 1e{}", "9".repeat(size)),
    ]
}

#[test]
fn no_yaml_takes_more_than_its_size_says() {
    for size in [100, 10_000, 100_000] {
        for text in texts(size) {
            soon(&text, || drop(yaml::read(&text)));
        }
    }
    // 98 KB, 1,100 values below a path of 15 KB: each error is located by its line.
    let text = texts(98_000).remove(0);
    let written = soon("deep", || yaml::read(&text).unwrap());
    let path = vec!["n".repeat(250); 60].join(".");
    assert_eq!((written.line(&path), written.line(&format!("{path}.k0"))), (Some(60), Some(61)));
    assert_eq!(written.line(&format!("{path}.k1000")), Some(1_061));
}

/// A tree whose every object has the keys `a` and `a.a`: a path of many `a` fits everywhere.
fn ambiguous(levels: usize) -> String {
    match levels {
        0 => "1".into(),
        _ => format!("{{a: {}, a.a: {}}}", ambiguous(levels - 1), ambiguous(levels - 1)),
    }
}

#[test]
fn names_with_dots_are_found_by_a_plain_walk() {
    let written = yaml::read(&ambiguous(15)).unwrap();
    let path = vec!["a"; 64].join(".");
    // As many problems as are reported, each below a path that is longer than the tree.
    soon("500 problems", || {
        for _ in 0..500 {
            assert_eq!(written.line(&path), None);
            let (line, found) = written.nearest(&path);
            assert_eq!((line, found.len()), (1, 2 * 30 - 1));
        }
    });
    let written = yaml::read("a.b:\n  c:\n    - name: In-Flight\n      x: 1\nd:\n  e: 2\n").unwrap();
    assert_eq!((written.line("a.b"), written.line("a.b.c"), written.line("a.b.c.0.x")), (Some(1), Some(2), Some(4)));
    assert_eq!((written.line("a.b.c.in_flight.x"), written.line("d.e"), written.line("")), (Some(4), Some(6), Some(1)));
    assert_eq!((written.line("a"), written.line("a.b.c.1"), written.line("d.e.f")), (None, None, None));
    assert_eq!(written.nearest("a.b.c.0.y.z"), (3, "a.b.c.0"));
    assert_eq!(written.nearest("nosuch.x"), (1, ""));
}

/// The first unfit number is reported, with its whole path; the others cost nothing.
#[test]
fn many_unfit_numbers_are_one_problem() {
    let name = "n".repeat(250);
    let deep: String = (0..60).map(|depth| format!("{}{name}:\n", " ".repeat(depth))).collect();
    let wide: String = (0..10_000).map(|_| format!("{}- .inf\n", " ".repeat(60))).collect();
    let text = deep + &wide;
    let why = soon("unfit", || yaml::read_up_to(&text, text.len()).unwrap_err());
    assert_eq!(why.line, Some(61));
    assert!(why.path.ends_with("[0]") && why.path.starts_with(&name), "{}", why.message);
}

#[test]
fn json_has_bounds() {
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "[[],".repeat(50_000)] {
        soon(&text, || serde_json::from_str::<Value>(&text).unwrap_err());
    }
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    assert!(
        storable::json(&deep(64)).is_ok() && storable::json(&deep(65)).is_err() && storable::json(&deep(120)).is_err()
    );
}

both! {
    async fn problems_are_bounded_too(kind) {
        let world = World::without_server(kind, None).await;
        let fields: String = (0..10_000).map(|i| format!("    f{i}: 1\n")).collect();
        let text = format!("phases:\n  - name: {}\n{fields}", "p".repeat(100_000));
        let query = "mutation($input: CreateRunTemplateInput!) { createRunTemplate(input: $input) { runTemplate { id } } }";
        let answer = world.post(query, json!({ "input": { "name": "T", "yaml": text } })).await;
        assert!(answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT", "{}", &answer.to_string()[..500]);
        assert!(answer.to_string().len() < 400_000, "{}", answer.to_string().len());
        let preview = "mutation($text: String!) { applyManifest(input: { yaml: $text, dryRun: true }) { problems { line message } } }";
        let manifest = format!("goals:\n  - name: G\n{fields}");
        let answer = world.post(preview, json!({ "text": manifest })).await;
        assert!(answer.to_string().len() < 400_000, "{}", &answer.to_string()[..500]);
        world.end().await;
    }
}

both! {
    /// Lines are found after the transaction, and each by one walk.
    async fn problems_in_a_tree_of_dotted_names_are_found_at_once(kind) {
        let world = World::without_server(kind, None).await;
        let preview = "mutation($text: String!) { applyManifest(input: { yaml: $text, dryRun: true }) { applied problems { line path message } } }";
        let fields: String = (0..400).map(|i| format!("    {}.f{i}: 1\n", vec!["a"; 40].join("."))).collect();
        let text = format!("goals:\n  - name: G\n    a: {}\n{fields}  - name: H\n    nosuch: 1\n", ambiguous(13));
        let begun = std::time::Instant::now();
        let answer = world.ask(preview, json!({ "text": text })).await["applyManifest"].clone();
        println!("{kind:?}: {} problems in {:?}", answer["problems"].as_array().unwrap().len(), begun.elapsed());
        assert_eq!(answer["applied"], false);
        let problems = answer["problems"].as_array().unwrap();
        assert!(problems.len() > 300, "{}", problems.len());
        assert!(problems.iter().all(|problem| problem["line"].is_number()), "{answer:.2000}");
        world.end().await;
    }
}

both! {
    /// Nested input is parsed recursively; without a bound, anybody who may read one list could
    /// overflow the stack and end the process.
    async fn nested_filters_are_refused_before_they_are_read(kind) {
        let world = World::new(kind).await;
        let leaf = json!({ "kind": { "eq": "lead" } });
        let nested = |key: &str, levels: usize| {
            (0..levels).fold(leaf.clone(), |within, _| if key == "not" { json!({ key: within }) } else { json!({ key: [within] }) })
        };
        let literal = |key: &str, levels: usize, end: &str| match key {
            "not" => format!("{}{end}{}", "{not:".repeat(levels), "}".repeat(levels)),
            _ => format!("{}{end}{}", format!("{{{key}:[").repeat(levels), "]}".repeat(levels)),
        };
        let asked = [
            ("query($f: RecordFilterInput!) { previewSegment(filter: $f) { count } }", "previewSegment", "and"),
            ("query($f: RecordFilterInput!) { records(filter: $f) { totalCount } }", "records", "or"),
            ("query($f: RunFilter!) { runs(filter: $f) { totalCount } }", "runs", "or"),
            ("mutation($f: RecordFilterInput!) { createSegment(input: { name: \"S\", filter: $f }) { segment { id } } }", "createSegment", "and"),
        ];
        for (document, field, list) in asked {
            for key in ["not", list] {
                for levels in [9, 23, 24, 40, 55, 60] {
                    let leaf_of_runs = document.contains("RunFilter");
                    let mut filter = nested(key, levels);
                    if leaf_of_runs {
                        filter = serde_json::from_str(&filter.to_string().replace(r#""kind":{"eq":"lead"}"#, r#""search":"a""#)).unwrap();
                    }
                    let answer = world.post(document, json!({ "f": filter })).await;
                    assert_eq!(answer["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{field} {key} {levels}: {answer}");
                    // A literal, and one that ends in a variable.
                    for (end, variables) in [("{}", json!({})), ("$f", json!({ "f": filter }))] {
                        let declared = if end == "$f" { document.split_once(')').unwrap().0.to_owned() + ")" } else { "query".to_owned() };
                        let inner = if field == "createSegment" { "previewSegment" } else { field };
                        let fields = if inner == "previewSegment" { "count" } else { "totalCount" };
                        let declared = declared.replace("mutation", "query").replace("Input!)", "Input)").replace("RunFilter!)", "RunFilter)");
                        let text = format!("{declared} {{ {inner}(filter: {}) {{ {fields} }} }}", literal(key, levels, end));
                        let answer = world.post(&text, variables).await;
                        let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default();
                        assert!(["LIMIT_EXCEEDED", "BAD_USER_INPUT"].contains(&code), "{text:.200}: {answer}");
                    }
                }
            }
        }
        for levels in [9, 24, 25, 30, 55, 62] {
            for (open, close) in [("{not: ", "}"), ("{and: [", "]}")] {
                let filter = format!("{}{{kind: {{eq: lead}}}}{}", open.repeat(levels), close.repeat(levels));
                for yaml in [
                    format!("segments:\n  - name: M\n    filter: {filter}\n"),
                    format!("runTemplates:\n  - name: T\n    kind: GUIDED\n    definition: {{ phases: [{{ key: p, tasks: [{{ key: t, steps: [{{ key: s, type: custom, assignedTo: HUMAN, config: {{ records: {{ filter: {filter} }} }} }}] }}] }}] }}\n"),
                ] {
                    let apply = "mutation($y: String!) { applyManifest(input: { yaml: $y }) { applied problems { message } } }";
                    let applied = world.post(apply, json!({ "y": yaml })).await;
                    assert!(applied["data"]["applyManifest"]["applied"] != true, "{levels}: {applied}");
                    assert!(!applied.to_string().contains("INTERNAL"), "{levels}: {applied}");
                }
            }
        }
        assert_eq!(world.ask("{ viewer { role } }", json!({})).await["viewer"]["role"], "ADMIN");
        world.end().await;
    }
}

both! {
    /// The executor copies a variable for each of its uses: the total size is checked before.
    async fn variables_used_often_are_counted_as_often(kind) {
        let world = World::new(kind).await;
        let long = "x".repeat(900_000);
        let many = |uses: usize| vec!["{name:{eq:$s}}"; uses].join(",");
        for (document, variables) in [
            (format!("query($s: String!) {{ records(filter: {{ or: [{}] }}) {{ totalCount }} }}", many(300)), json!({ "s": long })),
            (format!("query($s: String = {:?}) {{ records(filter: {{ or: [{}] }}) {{ totalCount }} }}", "x".repeat(12_000), many(1_500)), json!({})),
            (
                format!("query($s: String!) {{ {} }} fragment f on Query {{ {} }}", ["...f"; 8].join(" "),
                    (0..5).map(|i| format!("a{i}: records(filter: {{ name: {{ eq: $s }} }}) {{ totalCount }}")).collect::<Vec<_>>().join(" ")),
                json!({ "s": long }),
            ),
            (
                format!("mutation($j: JSON) {{ {} }}", (0..10).map(|i| format!("a{i}: raiseEvent(input: {{ name: \"e\", payload: [{}] }}) {{ name }}", vec!["$j"; 40].join(","))).collect::<Vec<_>>().join(" ")),
                json!({ "j": [long] }),
            ),
        ] {
            let answer = world.post(&document, variables).await;
            let error = &answer["errors"][0];
            assert_eq!(error["extensions"]["code"], "LIMIT_EXCEEDED", "{:.300}", answer.to_string());
            assert!(error["message"].as_str().unwrap().contains("the variables expand to more than"), "{:.300}", answer.to_string());
        }
        // A long variable that is used a few times is accepted.
        let twice = format!("query($s: String!) {{ records(filter: {{ or: [{}] }}) {{ totalCount }} }}", many(2));
        assert_eq!(world.ask(&twice, json!({ "s": "Lead" })).await["records"]["totalCount"], 0);
        world.end().await;
    }
}

both! {
    /// Errors repeat names, and may be many: both are bounded.
    async fn errors_are_few_and_short(kind) {
        let world = World::new(kind).await;
        let (name, short) = ("L".repeat(30_000), "L".repeat(256));
        let ids = (0..3_500).map(|i| format!("$a{i}")).collect::<Vec<_>>().join(",");
        let unused = (0..2_500).map(|i| format!("$a{i}: Int")).collect::<Vec<_>>().join(",");
        let fields = (0..900).map(|i| format!("unknown{i}")).collect::<Vec<_>>().join(" ");
        for of in [&name, &short] {
            for document in [
                format!("query {of} {{ records(filter: {{ ids: [{ids}] }}) {{ totalCount }} }}"),
                format!("query {of}({unused}) {{ viewer {{ role }} }}"),
                format!("query {of} {{ {fields} }}"),
                format!("query {{ {of}: viewer {{ role }} ...{of} }}"),
            ] {
                let answer = world.post(&document, json!({})).await;
                let errors = answer["errors"].as_array().unwrap();
                assert!(!errors.is_empty() && errors.len() <= 20, "{}", errors.len());
                assert!(answer.to_string().len() < 50_000, "{}", answer.to_string().len());
                if *of == name {
                    assert_eq!(errors[0]["extensions"]["code"], "LIMIT_EXCEEDED");
                }
            }
        }
        world.end().await;
    }
}

/// The whole schema, as GraphiQL queries it.
pub(in crate::security) fn whole_schema(alias: &str) -> String {
    let of_type = (0..9).fold(String::new(), |below, _| format!("ofType {{ kind name {below} }}"));
    let value = format!("name description type {{ kind name {of_type} }} defaultValue isDeprecated deprecationReason");
    format!(
        "{alias}__schema {{ description queryType {{ name }} mutationType {{ name }} subscriptionType {{ name }} \
         types {{ kind name description specifiedByURL isOneOf fields(includeDeprecated: true) {{ name description \
         args(includeDeprecated: true) {{ {value} }} type {{ kind name {of_type} }} isDeprecated deprecationReason }} \
         inputFields(includeDeprecated: true) {{ {value} }} interfaces {{ kind name {of_type} }} \
         enumValues(includeDeprecated: true) {{ name description isDeprecated deprecationReason }} \
         possibleTypes {{ kind name {of_type} }} }} \
         directives {{ name description isRepeatable locations args(includeDeprecated: true) {{ {value} }} }} }}"
    )
}

both! {
    /// Introspection of the whole schema is allowed once, not forty times, in one request.
    async fn the_schema_is_asked_for_once(kind) {
        let world = World::new(kind).await;
        let whole = world.ask(&format!("{{ {} }}", whole_schema("")), json!({})).await;
        assert!(whole["__schema"]["types"].as_array().unwrap().len() > 300);
        let short = "__schema { types { name description fields { name description args { name description } } inputFields { name description } enumValues { name description } } }";
        let many = |one: &dyn Fn(usize) -> String, count| (0..count).map(one).collect::<Vec<_>>().join(" ");
        for document in [
            format!("{{ {} }}", many(&|i| whole_schema(&format!("m{i}: ")), 3)),
            format!("{{ {} }}", many(&|i| format!("m{i}: {short}"), 45)),
            format!("{{ {} }} fragment F on Query {{ {} }}", many(&|_| "...F".to_owned(), 1), many(&|i| format!("m{i}: {short}"), 45)),
            format!("{{ __type(name: \"Query\") {{ {} }} }}", (0..5).fold("name".to_owned(), |below, _| format!("fields {{ type {{ ofType {{ {below} }} }} }}"))),
        ] {
            let answer = world.post(&document, json!({})).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{document:.200} {:.300}", answer.to_string());
        }
        // Single `__type` queries for several types are still allowed in one request.
        let types = ["Run", "Campaign", "Step", "Record"].map(|name| format!("{name}: __type(name: \"{name}\") {{ fields {{ name type {{ name ofType {{ name }} }} args {{ name }} }} }}"));
        assert!(world.ask(&format!("{{ {} }}", types.join(" ")), json!({})).await["Run"]["fields"].is_array());
        world.end().await;
    }
}
