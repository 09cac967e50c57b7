//! Every root list of the schema, read by introspection: each filter field with common and rare
//! values, in every order, from both ends. Combinations of filters (`and`, `or`, `not`) are left
//! out.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Fields of an input object that are also set together; `orNever` means nothing alone.
const PAIRS: [(&str, &str); 4] = [("from", "to"), ("since", "before"), ("gte", "lte"), ("orNever", "before")];
/// Before or after them lie all rows, some, or none; between two of them lies an hour.
const TIMES: [&str; 4] =
    ["2020-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-01T01:00:00Z", "2030-01-01T00:00:00Z"];

/// A root field that returns a connection and has no required argument.
pub struct List {
    pub name: String,
    /// Type of its nodes.
    node: String,
    arguments: Vec<Value>,
    /// Values of its first and last row by noun.
    samples: HashMap<String, Vec<String>>,
}

impl List {
    fn ends(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().map(name_of).filter(|name| ["first", "last"].contains(name))
    }
}

/// All lists, and the types of the schema by name.
pub struct Lists {
    types: HashMap<String, Value>,
    pub all: Vec<List>,
}

impl Lists {
    /// Reads the schema, and samples of the rows, with requests through `ask`.
    pub async fn read(mut ask: impl AsyncFnMut(String) -> Value) -> Self {
        let kind = "name type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
        let fields = format!("enumValues {{ name }} inputFields {{ {kind} }} fields {{ {kind} args {{ {kind} }} }}");
        let schema = ask(format!("{{ __schema {{ types {{ kind name {fields} }} }} }}")).await;
        let types = schema["__schema"]["types"].as_array().unwrap();
        let types = types.iter().map(|kind| (name_of(kind).to_owned(), kind.clone())).collect();
        let mut lists = Self { types, all: Vec::new() };
        for field in lists.members("Query", "fields").to_vec() {
            let arguments = field["args"].as_array().unwrap().clone();
            let Some(node) = base(&field).strip_suffix("Connection") else { continue };
            if !arguments.iter().any(|argument| argument["type"]["kind"] == "NON_NULL") {
                let name = name_of(&field).to_owned();
                let mut list = List { name, node: node.to_owned(), arguments, samples: HashMap::new() };
                lists.sample(&mut ask, &mut list).await;
                lists.all.push(list);
            }
        }
        lists
    }

    /// Fields, input fields or enum values of a type.
    fn members(&self, kind: &str, what: &str) -> &[Value] {
        self.types[kind][what].as_array().map_or(&[], Vec::as_slice)
    }

    /// Reads from the first and the last row of a list what its filters name.
    async fn sample(&self, ask: &mut impl AsyncFnMut(String) -> Value, list: &mut List) {
        let filters = list.arguments.iter().flat_map(|argument| self.members(base(argument), "inputFields"));
        let mut wanted = vec!["id".to_owned(), "name".to_owned()];
        wanted.extend(filters.chain(&list.arguments).map(|field| noun(name_of(field))));
        let (mut selection, mut samples) = ("__typename".to_owned(), HashMap::<_, Vec<_>>::new());
        for field in self.members(&list.node, "fields") {
            let (name, kind) = (name_of(field), base(field));
            if wanted.contains(&noun(name)) && field["args"] == json!([]) {
                if self.types[kind]["kind"] == "SCALAR" {
                    selection += &format!(" {name}");
                } else if self.members(kind, "fields").iter().any(|field| field["name"] == "id") {
                    selection += &format!(" {name} {{ id }}");
                }
            }
        }
        for end in list.ends() {
            let query = format!("{{ {}({end}: 1) {{ nodes {{ {selection} }} }} }}", list.name);
            let data = ask(query).await;
            for (name, value) in data[&list.name]["nodes"][0].as_object().into_iter().flatten() {
                let known = samples.entry(noun(name)).or_default();
                let value = value.as_str().or(value["id"].as_str()).map(str::to_owned);
                known.extend(value.filter(|value| !known.contains(value)));
            }
        }
        list.samples = samples;
    }

    /// A document for each filter, order and end of a list.
    pub fn documents(&self, list: &List) -> Vec<String> {
        let (mut filters, mut orders, mut documents) = (vec![String::new()], vec![String::new()], Vec::new());
        for argument in &list.arguments {
            let name = name_of(argument);
            if name == "orderBy" {
                let by = self.members(base(argument), "inputFields");
                let fields = by.iter().filter(|by| by["name"] == "field").flat_map(|by| self.values(list, by, None));
                let both = |by| ["ASC", "DESC"].map(|way| format!(" orderBy: {{ field: {by}, direction: {way} }}"));
                orders = fields.flat_map(both).collect();
            } else if !["first", "after", "last", "before"].contains(&name) {
                filters.extend(self.values(list, argument, None).iter().map(|value| format!(" {name}: {value}")));
            }
        }
        for (filter, order) in filters.iter().flat_map(|filter| orders.iter().map(move |order| (filter, order))) {
            let page = "{ nodes { __typename } pageInfo { hasNextPage endCursor } }";
            documents.extend(list.ends().map(|end| format!("{{ {}({end}: 50{order}{filter}) {page} }}", list.name)));
        }
        documents
    }

    /// Literals for a field or argument; `outer` is the noun of the field that it is nested in.
    fn values(&self, list: &List, field: &Value, outer: Option<&str>) -> Vec<String> {
        let (name, kind) = (name_of(field), base(field));
        let noun = outer.map_or_else(|| noun(name), str::to_owned);
        let strings = |texts: Vec<String>| texts.iter().map(|text| json!(text).to_string()).collect();
        let mut values: Vec<String> = match (self.types[kind]["kind"].as_str().unwrap(), kind) {
            ("ENUM", _) => self.members(kind, "enumValues").iter().map(|value| name_of(value).to_owned()).collect(),
            ("INPUT_OBJECT", _) => self.conditions(list, kind, (name != "filter").then_some(&noun)),
            (_, "Boolean") => ["true", "false"].map(String::from).to_vec(),
            (_, "Int" | "Number") => ["0", "99"].map(String::from).to_vec(),
            (_, "ID") => strings(self.ids(list, &noun)),
            (_, "DateTime") => strings(TIMES.map(String::from).to_vec()),
            (_, "String") if name.ends_with("Than") => strings(["1d", "400d"].map(String::from).to_vec()),
            _ => strings(texts(list, &noun)),
        };
        if field["type"]["kind"] == "LIST" {
            values.iter_mut().for_each(|value| *value = format!("[{value}]"));
        }
        values
    }

    /// Input objects of a type: each field alone with each value, and ranges with both ends.
    fn conditions(&self, list: &List, kind: &str, outer: Option<&String>) -> Vec<String> {
        let (mut required, mut values, mut all) = (String::new(), HashMap::new(), Vec::new());
        for field in self.members(kind, "inputFields").iter().filter(|field| base(field) != kind) {
            let (name, each) = (name_of(field), self.values(list, field, outer.map(String::as_str)));
            if field["type"]["kind"] == "NON_NULL" {
                // The name of an attribute.
                required += &format!("{name}: \"company\" ");
            } else if name != "orNever" {
                all.extend(each.iter().map(|value| format!("{name}: {value}")));
            }
            values.insert(name, each);
        }
        for (one, other) in PAIRS {
            let both = values.get(one).into_iter().zip(values.get(other));
            let both = both.flat_map(|(low, high): (&Vec<_>, &Vec<_>)| low.iter().zip(high.iter().skip(1)));
            all.extend(both.map(|(low, high)| format!("{one}: {low} {other}: {high}")));
        }
        all.iter().map(|condition| format!("{{ {required}{condition} }}")).collect()
    }

    /// Ids from the list's own rows or else from the noun's list, and one that does not exist.
    fn ids(&self, list: &List, noun: &str) -> Vec<String> {
        let own = list.samples.get(noun).filter(|own| !own.is_empty());
        let noun = if noun == "assignee" { "member" } else { noun };
        let other = self.all.iter().find(|list| list.node == noun[..1].to_uppercase() + &noun[1..]);
        let mut ids = own.or(other.and_then(|other| other.samples.get("id"))).cloned().unwrap_or_default();
        let prefix = ids.first().and_then(|id| id.rsplit_once('_')).map_or(noun, |(prefix, _)| prefix);
        ids.push(format!("{prefix}_01h455vb4pex5vsknk084sn02q"));
        ids
    }
}

/// Texts of a list's rows, the first word of one, and ones that no row has.
fn texts(list: &List, noun: &str) -> Vec<String> {
    let mut texts = list.samples.get(noun).cloned().unwrap_or_default();
    texts.extend(texts.first().and_then(|text| text.split_once(' ')).map(|(word, _)| word.to_owned()));
    // A kind that cannot occur is refused.
    let others = if list.node == "Event" { ["step.*", "payment.received"] } else { ["Acme", "zeppelin"] };
    texts.into_iter().chain(others.map(str::to_owned)).collect()
}

/// `run` for `runIds` and `runId`, `kind` for `kinds`; a search is for names.
fn noun(field: &str) -> String {
    let noun = field.strip_suffix("Ids").or(field.strip_suffix("Id")).or(field.strip_suffix('s')).unwrap_or(field);
    if field == "search" { "name" } else { noun }.to_owned()
}

fn name_of(member: &Value) -> &str {
    member["name"].as_str().unwrap()
}

/// Name of a field's type without lists and non-null.
fn base(field: &Value) -> &str {
    let kind = field.get("type").unwrap_or(&field["ofType"]);
    if kind["ofType"].is_null() { name_of(kind) } else { base(kind) }
}
