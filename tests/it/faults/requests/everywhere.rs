//! Every argument and input field of the schema, found by introspection, with values that break
//! databases, clocks and parsers: never INTERNAL, always a code, and the same result on both
//! databases.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Kind, World, postgres};

const INTROSPECTION: &str = "{ __schema { queryType { name } mutationType { name } types { kind name
    fields { name args { name defaultValue type { ...T } } type { ...T } } inputFields { name defaultValue type { ...T } } enumValues { name } possibleTypes { name } } } }
    fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }";

/// The schema as introspection shows it.
struct Types(HashMap<String, Value>);

impl Types {
    async fn of(world: &World) -> Self {
        let data = world.ask(INTROSPECTION, json!({})).await;
        let types = data["__schema"]["types"].as_array().unwrap().clone();
        Self(types.into_iter().map(|of| (of["name"].as_str().unwrap().to_owned(), of)).collect())
    }

    fn get(&self, name: &str) -> &Value {
        &self.0[name]
    }

    fn fields(&self, name: &str) -> &[Value] {
        self.0[name]["fields"].as_array().map_or(&[], Vec::as_slice)
    }
}

/// The innermost type of a reference, whether it is a list, and as a text.
fn named(reference: &Value) -> (&str, bool) {
    match reference["kind"].as_str().unwrap() {
        "NON_NULL" => named(&reference["ofType"]),
        "LIST" => (named(&reference["ofType"]).0, true),
        _ => (reference["name"].as_str().unwrap(), false),
    }
}

fn written(reference: &Value) -> String {
    match reference["kind"].as_str().unwrap() {
        "NON_NULL" => format!("{}!", written(&reference["ofType"])),
        "LIST" => format!("[{}]", written(&reference["ofType"])),
        _ => reference["name"].as_str().unwrap().to_owned(),
    }
}

fn required(slot: &Value) -> bool {
    slot["type"]["kind"] == "NON_NULL" && slot["defaultValue"].is_null()
}

/// A world with an object of every noun, and the ids by noun.
struct Full {
    world: World,
    ids: BTreeMap<&'static str, String>,
}

impl Full {
    async fn until_nothing_is_on_its_way(&self) {
        let waiting = "{ communications(filter: { statuses: [APPROVED, SENDING] }) { totalCount } }";
        let none = |data: &Value| data["communications"]["totalCount"] == 0;
        self.world.until("the letters to leave", waiting, json!({}), none).await;
    }

    async fn new(kind: Kind) -> Self {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let agent = world.create("agent", json!({ "name": "bot", "kind": "OUTSIDE" })).await;
        let member = world.create("member", json!({ "name": "M", "email": "m@example.com", "role": "OPERATOR" })).await;
        let templates = world.ask("{ runTemplates { nodes { id key } } }", json!({})).await;
        let guided =
            templates["runTemplates"]["nodes"].as_array().unwrap().iter().find(|of| of["key"] == "new-lead-intake");
        let guided = guided.unwrap_or_else(|| panic!("{templates:#}"))["id"].as_str().unwrap().to_owned();
        world.until_review(&run).await;
        let parts = "query($id: ID!) { campaign(id: $id) { goal { id } writer { id } reviewer { id } } run(id: $id2) { phases { id tasks { id steps { nodes { id } } } } } }";
        let parts = world
            .ask(&parts.replace("($id: ID!)", "($id: ID!, $id2: ID!)"), json!({ "id": plan.campaign, "id2": run }))
            .await;
        // Guided steps, each in progress.
        let start = "mutation($key: String!) { startGuidedRun(input: { templateKey: $key }) { run { steps { nodes { id type } } } } }";
        let mut steps = BTreeMap::new();
        for key in ["weekly-pipeline-review", "new-lead-intake", "mou-sprint"] {
            let started = world.ask(start, json!({ "key": key })).await;
            for step in started["startGuidedRun"]["run"]["steps"]["nodes"].as_array().unwrap() {
                let id = step["id"].as_str().unwrap().to_owned();
                world
                    .ask(
                        "mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }",
                        json!({ "id": id }),
                    )
                    .await;
                steps.insert(step["type"].as_str().unwrap().to_owned(), id);
            }
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let phase = &parts["run"]["phases"][0];
        let mut ids = BTreeMap::from([
            ("campaign", plan.campaign.clone()),
            ("record", plan.records[0].clone()),
            ("segment", plan.segment.clone()),
            ("messageTemplate", plan.template.clone()),
            ("run", run),
            ("agent", agent),
            ("member", member),
            ("runTemplate", guided),
            ("goal", text(&parts["campaign"]["goal"]["id"])),
            ("writer", text(&parts["campaign"]["writer"]["id"])),
            ("reviewer", text(&parts["campaign"]["reviewer"]["id"])),
            ("phase", text(&phase["id"])),
            ("task", text(&phase["tasks"][0]["id"])),
            ("step", text(&phase["tasks"][0]["steps"]["nodes"][0]["id"])),
        ]);
        for (act, of) in [
            ("stepEmail", "email"),
            ("stepStage", "update_stage"),
            ("stepMeeting", "schedule"),
            ("stepFollowUp", "create_task"),
            ("stepNote", "note"),
            ("stepRecords", "custom"),
        ] {
            let step = steps.get(of).or(steps.values().next()).unwrap();
            ids.insert(act, step.clone());
        }
        Self { world, ids }
    }

    /// The id that an argument or field takes, found by its name and that of the root field.
    fn id(&self, root: &str, slot: &str) -> Value {
        let (root, slot) = (root.to_lowercase(), slot.to_lowercase());
        // The longest noun wins: messageTemplate before template.
        let found = |text: &str| {
            let of = self.ids.iter().filter(|(noun, _)| text.contains(&noun.to_lowercase()));
            of.max_by_key(|(noun, _)| noun.len()).map(|(_, id)| id.clone())
        };
        let guided = found(&root).filter(|_| slot == "stepid");
        json!(
            guided
                .or_else(|| found(&slot))
                .or_else(|| found(&root))
                .unwrap_or_else(|| "run_01h455vb4pex5vsknk084sn02q".into())
        )
    }
}

const ODD: &str = "e\u{301} \u{301}\u{302} \u{202e}\u{5d0}\u{5d1} 👩\u{200d}👩\u{200d}👧 \u{fffd} ß İ ǆ \u{feff} \u{10ffff} ' \" \\ % _ {{ }} $1 ?1";

/// Test values of a scalar; true for those that must be rejected.
fn odd(scalar: &str, whole: bool) -> Vec<(Value, bool)> {
    let all: Vec<(Value, bool)> = match scalar {
        "Int" => vec![
            (json!(2147483648i64), true),
            (json!(9223372036854775808u64), true),
            (json!(2147483647), false),
            (json!(-2147483648), false),
            (json!(0), false),
            (json!(-1), false),
            (json!(1e308), true),
        ],
        "Float" => vec![
            (json!(9223372036854775808u64), true),
            (json!(1e308), true),
            (json!(-9223372036854775808f64), true),
            (json!(9007199254740992f64), true),
            (json!(-1e17), true),
            (json!(9007199254740991f64), false),
            (json!(9007199254740993i64), false),
            (json!(1e-320), false),
            (json!(-0.0), false),
        ],
        "DateTime" => vec![
            (json!("9999-12-31T23:59:59-05:00"), true),
            (json!("0000-01-01T00:00:00Z"), true),
            (json!("0001-01-01T00:00:00Z"), false),
            (json!("9999-12-31T23:59:59.999999999Z"), false),
            (json!("-0001-01-01T00:00:00Z"), true),
            (json!("+10000-01-01T00:00:00Z"), true),
            (json!("10000-01-01T00:00:00Z"), true),
            (json!("0001-01-01T00:00:00+14:00"), true),
            (json!("2026-06-31T00:00:00Z"), true),
            (json!("9999-12-31T09:00:00-14:00"), false),
        ],
        "JSON" => vec![
            (json!({ "a": "b\u{0}" }), true),
            (json!({ "a": 9223372036854775808u64 }), true),
            (json!({ "a": [9007199254740992f64] }), true),
            (json!({ ODD: ODD, "": null }), false),
            (json!({ "a\u{0}": 1 }), true),
            (json!("a\u{0}"), true),
            (json!([1e300]), true),
            (json!(ODD), false),
            (json!({ "a": -9223372036854775808i64, "b": 9223372036854775807i64, "c": 1e-300, "d": 0.1 }), false),
            (json!([]), false),
            (json!({}), false),
            (json!(0), false),
            (json!((0..20_000).collect::<Vec<i32>>()), false),
            ((0..100).fold(json!(1), |inner, _| json!([inner])), true),
        ],
        "ID" => vec![
            (json!("a\u{0}"), true),
            (json!(ODD), false),
            (json!(""), false),
            (json!(9223372036854775807i64), false),
            (json!("run_7zzzzzzzzzzzzzzzzzzzzzzzzz"), false),
        ],
        "Duration" | "Trigger" | "FailWhen" => vec![
            (json!("a\u{0}"), true),
            (json!("999999999999d"), true),
            (json!(ODD), true),
            (json!("delay:999999999999d"), true),
            (json!("18446744073709551615s"), true),
            (json!("PERCENT(999)"), true),
            (json!(1), true),
        ],
        "String" => vec![
            (json!("a\u{0}b"), true),
            (json!(ODD), false),
            (json!(""), false),
            (json!("999999999999d"), false),
            (json!("\u{301}"), false),
            (json!("x".repeat(200_000)), false),
            (json!(" \n\t "), false),
            (json!("9".repeat(40)), false),
        ],
        "Boolean" => vec![(json!("true"), true), (json!(1), true)],
        // A new scalar: whatever the value, the response has a code.
        _ => vec![
            (json!("a\u{0}"), true),
            (json!(ODD), false),
            (json!(1e308), false),
            (json!(9223372036854775807i64), false),
            (json!({}), false),
            (json!("1e400"), false),
        ],
    };
    all.into_iter().take(if whole { usize::MAX } else { 2 }).collect()
}

/// A path to a leaf: argument, then fields.
type Way = Vec<String>;

/// A field, and the document that queries it with a variable for each argument.
struct Ask {
    name: String,
    document: String,
    arguments: Vec<Value>,
    /// The noun of an additional id that the document needs.
    node: Option<String>,
}

struct Sweep<'a> {
    types: &'a Types,
    /// Number of times that an input field was given all values.
    given: BTreeMap<(String, String), usize>,
}

impl Sweep<'_> {
    /// The minimal valid value of an argument or input field.
    fn least(&self, full: &Full, root: &str, slot: &Value, level: usize) -> Value {
        let (name, list) = named(&slot["type"]);
        let of = self.types.get(name);
        let key = slot["name"].as_str().unwrap();
        let one = match of["kind"].as_str().unwrap() {
            "ENUM" => of["enumValues"][0]["name"].clone(),
            "INPUT_OBJECT" => self.least_object(full, root, of, level + 1),
            _ => match name {
                "ID" => full.id(root, key),
                "Int" => json!(1),
                "Float" => json!(1.5),
                "Boolean" => json!(false),
                "DateTime" => json!("2026-12-01T10:00:00Z"),
                "JSON" => json!({}),
                "Duration" => json!("1h"),
                "Trigger" => json!("immediate"),
                "FailWhen" => json!("ANY"),
                _ => match key {
                    "email" | "address" => json!("someone@example.com"),
                    "cron" => json!("0 9 * * *"),
                    "timeZone" => json!("Europe/Berlin"),
                    _ => json!("text"),
                },
            },
        };
        if list { json!([one]) } else { one }
    }

    fn least_object(&self, full: &Full, root: &str, of: &Value, level: usize) -> Value {
        assert!(level < 12, "{root} needs itself");
        let fields = of["inputFields"].as_array().unwrap().iter().filter(|field| required(field));
        fields.map(|field| (field["name"].as_str().unwrap().to_owned(), self.least(full, root, field, level))).collect()
    }

    /// All paths to leaves below an argument or input field, each with its scalar, whether it is a
    /// list, and whether all values are tried.
    fn ways(&mut self, slot: &Value, way: &mut Way, open: &mut Vec<String>, out: &mut Vec<(Way, String, bool, bool)>) {
        let (name, list) = named(&slot["type"]);
        let (name, key) = (name.to_owned(), slot["name"].as_str().unwrap().to_owned());
        way.push(key.clone());
        let of = self.types.get(&name);
        let owner = open.last().cloned().unwrap_or_default();
        match of["kind"].as_str().unwrap() {
            "INPUT_OBJECT" if !open.contains(&name) && way.len() < 8 => {
                open.push(name);
                for field in of["inputFields"].as_array().unwrap().clone() {
                    self.ways(&field, way, open, out);
                }
                open.pop();
            }
            "SCALAR" => {
                let times = self.given.entry((owner, key)).or_default();
                *times += 1;
                out.push((way.clone(), name, list, *times <= 2));
            }
            _ => {}
        }
        way.pop();
    }

    /// The arguments with a value at the end of a path.
    fn with(&self, full: &Full, ask: &Ask, way: &[String], value: &Value, list: bool) -> Value {
        let mut variables = serde_json::Map::new();
        if let Some(noun) = &ask.node {
            variables.insert("node".into(), json!(full.ids[noun.as_str()]));
        }
        for slot in &ask.arguments {
            let key = slot["name"].as_str().unwrap();
            if key == way[0] {
                variables.insert(key.into(), self.along(full, &ask.name, slot, &way[1..], value, list));
            } else if required(slot) {
                variables.insert(key.into(), self.least(full, &ask.name, slot, 0));
            }
        }
        Value::Object(variables)
    }

    fn along(&self, full: &Full, root: &str, slot: &Value, way: &[String], value: &Value, list: bool) -> Value {
        let (name, is_list) = named(&slot["type"]);
        let Some(next) = way.first() else {
            return if list && !value.is_array() { json!([value]) } else { value.clone() };
        };
        let of = self.types.get(name);
        let mut object = self.least_object(full, root, of, 0);
        let field = of["inputFields"].as_array().unwrap().iter().find(|field| field["name"] == json!(next)).unwrap();
        object[next] = self.along(full, root, field, &way[1..], value, list);
        if is_list { json!([object]) } else { object }
    }
}

/// Selection set of a response: its scalar and enum fields, and `nodes { __typename }` for a list.
fn selection(types: &Types, reference: &Value) -> String {
    let (name, _) = named(reference);
    if !["OBJECT", "INTERFACE"].contains(&types.get(name)["kind"].as_str().unwrap()) {
        return String::new();
    }
    let plain = types.fields(name).iter().filter(|field| {
        let leaf = ["SCALAR", "ENUM"].contains(&types.get(named(&field["type"]).0)["kind"].as_str().unwrap());
        leaf && !field["args"].as_array().unwrap().iter().any(required)
    });
    let mut all: BTreeSet<&str> = plain.map(|field| field["name"].as_str().unwrap()).collect();
    all.insert("__typename");
    if types.fields(name).iter().any(|field| field["name"] == "nodes") {
        all.insert("nodes { __typename }");
    }
    format!("{{ {} }}", all.into_iter().collect::<Vec<_>>().join(" "))
}

fn ask(types: &Types, kind: &str, node: Option<(&str, &str)>, field: &Value) -> Option<Ask> {
    let arguments = field["args"].as_array().unwrap().clone();
    let name = field["name"].as_str().unwrap().to_owned();
    if arguments.is_empty() {
        return None;
    }
    let text = |slot: &Value| slot["name"].as_str().unwrap().to_owned();
    let mut declared: Vec<String> =
        arguments.iter().map(|slot| format!("${}: {}", text(slot), written(&slot["type"]))).collect();
    let passed: Vec<String> = arguments.iter().map(|slot| format!("{}: ${}", text(slot), text(slot))).collect();
    let mut asked = format!("{name}({}) {}", passed.join(", "), selection(types, &field["type"]));
    if let Some((_, of)) = node {
        declared.push("$node: ID!".into());
        asked = format!("node(id: $node) {{ ... on {of} {{ {asked} }} }}");
    }
    let document = format!("{kind}({}) {{ {asked} }}", declared.join(", "));
    Some(Ask { name, document, arguments, node: node.map(|(noun, _)| noun.to_owned()) })
}

/// All fields with arguments; those that end things come last.
fn asks(types: &Types) -> Vec<Ask> {
    let mut all: Vec<Ask> = types.fields("Query").iter().filter_map(|field| ask(types, "query", None, field)).collect();
    let nodes = types.get("Node")["possibleTypes"].as_array().unwrap();
    for of in nodes.iter().map(|of| of["name"].as_str().unwrap()) {
        let noun = of[..1].to_lowercase() + &of[1..];
        all.extend(types.fields(of).iter().filter_map(|field| ask(types, "query", Some((&noun, of)), field)));
    }
    let mut acts: Vec<Ask> =
        types.fields("Mutation").iter().filter_map(|field| ask(types, "mutation", None, field)).collect();
    let ends = ["delete", "cancel", "complete", "end", "revoke", "fail", "skip", "reject"];
    acts.sort_by_key(|act| ends.iter().any(|end| act.name.starts_with(end)));
    all.extend(acts);
    all.extend(types.fields("Subscription").iter().filter_map(|field| ask(types, "subscription", None, field)));
    all
}

/// The error code of a response, `OK` without an error.
fn code(answer: &Value) -> String {
    match answer["errors"].as_array() {
        None => "OK".to_owned(),
        Some(errors) => {
            let code =
                |error: &Value| match (error["extensions"]["code"].as_str(), error["extensions"]["field"].as_str()) {
                    (None, _) => "NO CODE".to_owned(),
                    (Some("BAD_USER_INPUT"), None) => "BAD_USER_INPUT NO FIELD".to_owned(),
                    (Some(code), _) => code.to_owned(),
                };
            errors.iter().map(code).collect::<Vec<_>>().join(" ")
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_values_everywhere() {
    let begun = Instant::now();
    let sqlite = Full::new(Kind::Sqlite).await;
    let postgres = if postgres::available() { Some(Full::new(Kind::Postgres).await) } else { None };
    let types = Types::of(&sqlite.world).await;
    let mut sweep = Sweep { types: &types, given: BTreeMap::new() };
    let (mut asked, mut wrong) = (0, Vec::new());
    for ask in asks(&types) {
        if ask.node.as_ref().is_some_and(|noun| !sqlite.ids.contains_key(noun.as_str())) {
            continue;
        }
        let mut ways = Vec::new();
        for slot in &ask.arguments {
            sweep.ways(slot, &mut Vec::new(), &mut Vec::new(), &mut ways);
        }
        for (way, scalar, list, whole) in ways {
            let mut values = odd(&scalar, whole);
            if list && whole {
                let one = match scalar.as_str() {
                    "ID" => json!("run_01h455vb4pex5vsknk084sn02q"),
                    "Int" => json!(1),
                    "String" | "JSON" => json!("a"),
                    _ => json!("1"),
                };
                values.push((json!(vec![one.clone(); 10_000]), false));
                values.push((json!(vec![one; 20_000]), true));
            }
            // A subscription that is not rejected stays open.
            values.retain(|(_, refused)| *refused || !ask.document.starts_with("subscription"));
            for (value, refused) in values {
                let on = async |full: &Full| {
                    let variables = sweep.with(full, &ask, &way, &value, list);
                    let answer = full.world.post(&ask.document, variables).await;
                    // A second letter is rejected while the first is in flight, but not after that
                    // was cancelled.
                    if ask.name == "sendStepEmail" && answer.get("errors").is_none() {
                        full.until_nothing_is_on_its_way().await;
                    }
                    answer
                };
                let (one, other) = match &postgres {
                    Some(postgres) => {
                        let (one, other) = tokio::join!(on(&sqlite), on(postgres));
                        (one, Some(other))
                    }
                    None => (on(&sqlite).await, None),
                };
                asked += 1;
                let (code_of_one, field) = (code(&one), one["errors"][0]["extensions"]["field"].clone());
                let bad = ["INTERNAL", "NO CODE", "NO FIELD"].iter().any(|bad| code_of_one.contains(bad));
                let differs = other.as_ref().is_some_and(|other| code(other) != code_of_one);
                let let_in = refused && (code_of_one != "BAD_USER_INPUT" || !field.is_string());
                if bad || differs || let_in {
                    let shown: String = value.to_string().chars().take(60).collect();
                    let told = |answer: &Value| answer["errors"].to_string().chars().take(220).collect::<String>();
                    wrong.push(format!(
                        "{} {} = {shown}: {} | {}",
                        ask.document.split('(').next().unwrap().to_owned() + " " + &ask.name,
                        way.join("."),
                        told(&one),
                        other.as_ref().map(told).unwrap_or_default()
                    ));
                }
            }
        }
    }
    println!("{asked} requests to each database in {:?}", begun.elapsed());
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    sqlite.world.drop_unchecked().await;
    if let Some(postgres) = postgres {
        postgres.world.drop_unchecked().await;
    }
}
