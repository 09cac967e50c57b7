//! The schema from introspection: the places that take an id, and documents that put an id there.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The schema, from introspection.
pub struct Schema(pub BTreeMap<String, Value>);

pub const INTROSPECTION: &str = "{ __schema { types { kind name enumValues { name } \
    inputFields { name type { ...T } defaultValue } fields { name type { ...T } args { name type { ...T } } } } } } \
    fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }";

/// The named type below all lists and non-nulls.
pub fn bare(of: &Value) -> &str {
    if of["name"].is_null() { bare(&of["ofType"]) } else { of["name"].as_str().unwrap() }
}

fn written(of: &Value) -> String {
    match of["kind"].as_str().unwrap() {
        "NON_NULL" => format!("{}!", written(&of["ofType"])),
        "LIST" => format!("[{}]", written(&of["ofType"])),
        _ => of["name"].as_str().unwrap().to_owned(),
    }
}

impl Schema {
    pub fn of(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("there is no type {name}"))
    }

    /// Every argument or input field below a type that takes an id, as a path.
    pub fn places(&self, of: &Value, path: &[String], within: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        let name = bare(of);
        if name == "ID" {
            found.push(path.to_vec());
        }
        // A nested filter of the same type adds nothing new.
        if within.iter().any(|outer| outer == name) {
            return;
        }
        within.push(name.to_owned());
        for field in self.of(name)["inputFields"].as_array().into_iter().flatten() {
            let path = [path, &[field["name"].as_str().unwrap().to_owned()]].concat();
            self.places(&field["type"], &path, within, found);
        }
        within.pop();
    }

    /// A value of a type: its required fields, and those along the path to the id.
    fn value(&self, of: &Value, path: &[String], id: &str, own: &dyn Fn(&str) -> Value, name: &str) -> Value {
        match of["kind"].as_str().unwrap() {
            "NON_NULL" => return self.value(&of["ofType"], path, id, own, name),
            "LIST" => return json!([self.value(&of["ofType"], path, id, own, name)]),
            _ => {}
        }
        let named = of["name"].as_str().unwrap();
        let kind = self.of(named);
        match (named, kind["kind"].as_str().unwrap()) {
            ("ID", _) if id.is_empty() => own(name),
            ("ID", _) => json!(id),
            ("String", _) => json!(sample(name)),
            ("Int", _) => json!(1),
            ("Float", _) => json!(1.0),
            ("Boolean", _) => json!(false),
            ("DateTime", _) => json!("2026-12-01T00:00:00Z"),
            ("JSON", _) => json!({}),
            ("Trigger", _) => json!("manual"),
            ("FailWhen", _) => json!("ANY"),
            ("Duration", _) => json!("1h"),
            (_, "ENUM") => kind["enumValues"][0]["name"].clone(),
            (_, "INPUT_OBJECT") => {
                let mut all = Map::new();
                for field in kind["inputFields"].as_array().unwrap() {
                    let name = field["name"].as_str().unwrap();
                    let here = path.first().is_some_and(|first| first == name);
                    if here || (field["type"]["kind"] == "NON_NULL" && field["defaultValue"].is_null()) {
                        let (rest, id) = if here { (&path[1..], id) } else { (&[][..], "") };
                        all.insert(name.to_owned(), self.value(&field["type"], rest, id, own, name));
                    }
                }
                Value::Object(all)
            }
            (other, kind) => panic!("a value of {other} ({kind}) is not known to this test"),
        }
    }

    /// All leaf fields of a type, and those a few levels below.
    pub fn selection(&self, of: &str, depth: usize) -> String {
        let kind = self.of(of);
        if kind["kind"] == "INTERFACE" || kind["kind"] == "UNION" {
            return " { __typename ... on Node { id } }".into();
        }
        let Some(fields) = kind["fields"].as_array() else { return String::new() };
        let mut all = Vec::new();
        for field in fields {
            let needs = field["args"].as_array().unwrap().iter().any(|arg| arg["type"]["kind"] == "NON_NULL");
            let below = bare(&field["type"]);
            let leaf = self.of(below)["fields"].is_null();
            if !needs && (leaf || depth > 0) {
                let one = if below.ends_with("Connection")
                    && field["args"].as_array().unwrap().iter().any(|arg| arg["name"] == "first")
                {
                    "(first: 2)"
                } else {
                    ""
                };
                let inner = if leaf { String::new() } else { self.selection(below, depth - 1) };
                if leaf || !inner.is_empty() {
                    all.push(format!("{}{one}{inner}", field["name"].as_str().unwrap()));
                }
            }
        }
        if all.is_empty() { String::new() } else { format!(" {{ {} }}", all.join(" ")) }
    }

    /// Document and variables that query one field with an id at one path.
    pub fn document(
        &self,
        word: &str,
        field: &Value,
        place: &[String],
        id: &str,
        own: &dyn Fn(&str) -> Value,
    ) -> (String, Value) {
        let (mut declared, mut given, mut variables) = (Vec::new(), Vec::new(), Map::new());
        for arg in field["args"].as_array().unwrap() {
            let name = arg["name"].as_str().unwrap();
            let here = place.first().is_some_and(|first| first == name);
            if here || arg["type"]["kind"] == "NON_NULL" {
                declared.push(format!("${name}: {}", written(&arg["type"])));
                given.push(format!("{name}: ${name}"));
                let (rest, id) = if here { (&place[1..], id) } else { (&[][..], "") };
                variables.insert(name.to_owned(), self.value(&arg["type"], rest, id, own, name));
            }
        }
        let name = field["name"].as_str().unwrap();
        let (declared, given) = if declared.is_empty() {
            Default::default()
        } else {
            (format!("({})", declared.join(", ")), format!("({})", given.join(", ")))
        };
        let depth = if word == "subscription" { 1 } else { 2 };
        (
            format!("{word}{declared} {{ {name}{given}{} }}", self.selection(bare(&field["type"]), depth)),
            Value::Object(variables),
        )
    }
}

fn sample(name: &str) -> &str {
    match name {
        "cron" => "0 9 * * *",
        "timezone" | "timeZone" => "Europe/Berlin",
        "email" | "address" => "somebody@example.com",
        "kind" => "lead",
        "type" => "email",
        _ => "some",
    }
}
