//! Converts YAML to JSON and keeps the line of each part. Aliases are rejected: the size of the
//! text bounds the size of the value.

use std::collections::HashMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use crate::kernel::{limits, storable};

/// A parsed document.
#[derive(Debug, Default)]
pub struct YamlDocument {
    /// The value.
    pub value: Value,
    places: Place,
}

impl YamlDocument {
    /// Returns the line of a part, starting at 1, by its path: `phases.0.name`. An item of a list
    /// is also found by its key or name, and a field by its name in camelCase. `None` for no such
    /// part.
    pub fn line(&self, path: &str) -> Option<usize> {
        self.places.find(path)
    }

    /// Returns the line of a part or of its nearest ancestor that is written, with that one's path:
    /// a beginning of the given one, empty for the document.
    pub fn nearest<'a>(&self, path: &'a str) -> (usize, &'a str) {
        self.places.nearest(path)
    }
}

/// A part's line, and its parts. Full paths are not stored: their size would be quadratic in the
/// size of the text.
#[derive(Debug, Default)]
struct Place {
    line: usize,
    below: Option<Box<Below>>,
}

#[derive(Debug, Default)]
struct Below {
    all: Vec<Place>,
    /// Indexes into `all` by name; the first of several with one name.
    named: HashMap<String, usize>,
    list: bool,
}

impl Place {
    fn find(&self, path: &str) -> Option<usize> {
        let (line, found) = self.nearest(path);
        (found.len() == path.len()).then_some(line)
    }

    /// A walk down without a way back: names may contain dots, and a tree in which each of many
    /// levels has `a` and `a.a` would have to be searched as a whole. Of several names that fit, the
    /// longest is meant.
    fn nearest<'a>(&self, path: &'a str) -> (usize, &'a str) {
        let (mut at, mut found) = (self, 0);
        while let Some((below, end)) = at.child(path, found) {
            (at, found) = (below, end);
        }
        (at.line, &path[..found])
    }

    /// Finds the part that the path names next, after the given number of bytes, and the end of its
    /// name.
    fn child(&self, path: &str, found: usize) -> Option<(&Self, usize)> {
        let below = self.below.as_deref()?;
        let start = if found == 0 { 0 } else { found + 1 };
        let rest = path.get(start..).filter(|rest| !rest.is_empty())?;
        // No name is longer, so that a step costs the same however long the path is.
        let ends = rest.match_indices('.').map(|(at, _)| at).chain([rest.len()]);
        let ends: Vec<usize> = ends.take_while(|end| *end <= limits::YAML_NAME_BYTES).collect();
        ends.into_iter().rev().find_map(|end| {
            let name = &rest[..end];
            let index = if below.list { name.parse().ok() } else { None };
            let index = index.or_else(|| below.named.get(name).copied())?;
            Some((below.all.get(index)?, start + end))
        })
    }
}

/// A reason why a text was rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct YamlError {
    /// The line, starting at 1, if known.
    pub line: Option<usize>,
    /// The path of the part; empty if unknown.
    pub path: String,
    /// The message.
    pub message: String,
}

impl std::fmt::Display for YamlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match self.path.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

impl From<String> for YamlError {
    fn from(message: String) -> Self {
        let parts = message.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
        match parts.and_then(|(line, rest)| Some((line.parse().ok()?, rest.to_owned()))) {
            Some((line, message)) => Self { line: Some(line), message, ..Self::default() },
            None => Self { message, ..Self::default() },
        }
    }
}

/// Parses the single document of a text; an empty one is null. The error names the line.
pub fn read(text: &str) -> Result<YamlDocument, YamlError> {
    read_up_to(text, limits::DEFINITION_BYTES)
}

/// Same as [`read`], with a maximum size in bytes.
pub fn read_up_to(text: &str, bytes: usize) -> Result<YamlDocument, YamlError> {
    if text.len() > bytes {
        return Err(format!("must be at most {bytes} bytes; it has {}", text.len()).into());
    }
    let mut reader = Reader { parser: Parser::new_from_str(text), parts: 0, path: Vec::new(), unfit: None };
    let (value, places) = reader.document()?;
    if let Some(unfit) = reader.unfit {
        return Err(unfit);
    }
    storable::json(&value).map_err(|unfit| YamlError {
        line: places.find(&unfit.path.replace('[', ".").replace(']', "")),
        path: unfit.path,
        message: unfit.unfit.to_string(),
    })?;
    Ok(YamlDocument { value, places })
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    parts: usize,
    /// Path of the current part: `.name`, `[0]`.
    path: Vec<String>,
    /// The first number that JSON cannot represent.
    unfit: Option<YamlError>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        match self.parser.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(err)) => Err(format!("line {}: {}", err.marker().line(), err.info())),
            None => Err("the text ends unexpectedly".into()),
        }
    }

    fn document(&mut self) -> Result<(Value, Place), String> {
        let mut document = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(document.unwrap_or_default()),
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                _ if document.is_some() => {
                    return Err(format!("line {}: only one document is allowed", span.start.line()));
                }
                event => document = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<(Value, Place), String> {
        let line = span.start.line();
        self.parts += 1;
        if depth > limits::GATE_JSON_DEPTH {
            return Err(format!("line {line}: nested too deeply"));
        }
        if self.parts > limits::YAML_PARTS {
            return Err(format!("line {line}: at most {} values are allowed", limits::YAML_PARTS));
        }
        let mut below = Below::default();
        let value = match event {
            Event::Scalar(text, style, _, _) => {
                let value = match style {
                    ScalarStyle::Plain => self.plain(text, line),
                    _ => Value::String(text.into_owned()),
                };
                return Ok((value, Place { line, below: None }));
            }
            Event::SequenceStart(..) => {
                below.list = true;
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break Value::Array(items);
                    }
                    self.path.push(format!("[{}]", items.len()));
                    let (item, place) = self.node(event, span, depth + 1)?;
                    self.path.pop();
                    if let Some(key) = item.get("key").or_else(|| item.get("name")).and_then(Value::as_str) {
                        below.named.entry(key_of(key)).or_insert(items.len());
                    }
                    below.all.push(place);
                    items.push(item);
                }
            }
            Event::MappingStart(..) => {
                let mut fields = Map::new();
                loop {
                    let (event, span) = self.next()?;
                    let line = span.start.line();
                    let name = match event {
                        Event::MappingEnd => break Value::Object(fields),
                        Event::Scalar(text, ..) => text.into_owned(),
                        _ => return Err(format!("line {line}: a key must be a string")),
                    };
                    if name.len() > limits::YAML_NAME_BYTES {
                        return Err(format!("line {line}: a key must have at most {} bytes", limits::YAML_NAME_BYTES));
                    }
                    let (event, span) = self.next()?;
                    self.path.push(format!(".{name}"));
                    let (value, place) = self.node(event, span, depth + 1)?;
                    self.path.pop();
                    let index = below.all.len();
                    below.all.push(Place { line, ..place });
                    below.named.entry(name.clone()).or_insert(index);
                    let camel = camel(&name);
                    if camel != name {
                        below.named.entry(camel).or_insert(index);
                    }
                    if fields.contains_key(&name) {
                        return Err(format!(
                            "line {line}: duplicate key `{}`",
                            crate::kernel::validate::printable(&name)
                        ));
                    }
                    fields.insert(name, value);
                }
            }
            Event::Alias(_) => return Err(format!("line {line}: aliases are not supported; write the value out")),
            _ => return Err(format!("line {line}: unexpected token")),
        };
        Ok((value, Place { line, below: Some(Box::new(below)) }))
    }

    /// Parses a plain scalar. The first invalid one is remembered rather than returned as an error:
    /// syntax errors later in the text take precedence.
    fn plain(&mut self, text: std::borrow::Cow<'_, str>, line: usize) -> Value {
        scalar(text).unwrap_or_else(|message| {
            let path = &self.path;
            // The path is written out for the first one only: a text may have hundreds of thousands.
            self.unfit.get_or_insert_with(|| {
                let path = path.concat().trim_start_matches('.').to_owned();
                YamlError { line: Some(line), path, message }
            });
            Value::Null
        })
    }
}

/// Writes a value as YAML.
pub fn write(value: &Value) -> Result<String, String> {
    let mut text = String::new();
    let tree = tree(value);
    saphyr::YamlEmitter::new(&mut text).dump(&tree).map_err(|err| err.to_string())?;
    text.push('\n');
    Ok(text)
}

fn tree(value: &Value) -> saphyr::Yaml<'_> {
    use saphyr::Yaml;
    match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(flag) => Yaml::Value(Scalar::Boolean(*flag)),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Yaml::Value(Scalar::Integer(number)),
            None => Yaml::Value(Scalar::FloatingPoint(number.as_f64().unwrap_or_default().into())),
        },
        Value::String(text) => Yaml::Value(Scalar::String(text.as_str().into())),
        Value::Array(items) => Yaml::Sequence(items.iter().map(tree).collect()),
        Value::Object(fields) => Yaml::Mapping(
            fields
                .iter()
                .map(|(name, value)| (Yaml::Value(Scalar::String(name.as_str().into())), tree(value)))
                .collect(),
        ),
    }
}

/// Parses a plain scalar by YAML's core schema. Errors: a number that JSON cannot represent.
fn scalar(text: std::borrow::Cow<'_, str>) -> Result<Value, String> {
    let shown = crate::kernel::validate::printable(&text);
    let too_small = storable::written(&text);
    Ok(match Scalar::parse_from_cow(text) {
        Scalar::FloatingPoint(number) if !number.is_finite() => {
            return Err(format!("`{shown}` is not a number that can be stored; quote it to make it a string"));
        }
        Scalar::FloatingPoint(_) if too_small == Err(storable::Unstorable::Vanished) => {
            return Err(format!("`{shown}` {}", storable::Unstorable::Vanished));
        }
        Scalar::Null => Value::Null,
        Scalar::Boolean(flag) => flag.into(),
        Scalar::Integer(number) => number.into(),
        Scalar::FloatingPoint(number) => {
            serde_json::Number::from_f64(number.into_inner()).map_or(Value::Null, Value::Number)
        }
        Scalar::String(text) => Value::String(text.into_owned()),
    })
}

/// Derives a key from a name: `In-Flight` → `in_flight`.
pub fn key_of(name: &str) -> String {
    let mut key = String::new();
    for c in name.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => key.push(c.to_ascii_lowercase()),
            '_' | '-' | ' ' if !key.is_empty() && !key.ends_with('_') => key.push('_'),
            _ => {}
        }
    }
    key
}

/// Converts to camelCase: `depends_on` → `dependsOn`.
pub fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut all = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut chars = word.chars();
        all.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        all.push_str(chars.as_str());
    }
    all
}
