//! YAML → JSON, with the line on which each part stands. No aliases: what is written is what there is.

use std::collections::HashMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use crate::{gate, limits};

/// A document.
#[derive(Debug, Default)]
pub struct Written {
    /// What it says.
    pub value: Value,
    /// The line of each part, from 1, by its path: `phases.0.name`; of a part in a list that has a key or a name also by
    /// that.
    pub lines: HashMap<String, usize>,
}

/// Why a text is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// The line, from 1; none where it is about none.
    pub line: Option<usize>,
    /// The part; empty where it is about none.
    pub path: String,
    /// A sentence.
    pub message: String,
}

impl std::fmt::Display for Unread {
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

impl From<String> for Unread {
    fn from(message: String) -> Self {
        let parts = message.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
        match parts.and_then(|(line, rest)| Some((line.parse().ok()?, rest.to_owned()))) {
            Some((line, message)) => Self { line: Some(line), message, ..Self::default() },
            None => Self { message, ..Self::default() },
        }
    }
}

/// Reads the one document of a text; an empty one is null. The error names the line.
pub fn read(text: &str) -> Result<Written, Unread> {
    read_up_to(text, limits::DEFINITION_BYTES)
}

/// The same, of a text of so many bytes at most.
pub fn read_up_to(text: &str, bytes: usize) -> Result<Written, Unread> {
    if text.len() > bytes {
        return Err(format!("at most {bytes} bytes, not {}", text.len()).into());
    }
    let mut reader = Reader { parser: Parser::new_from_str(text), written: Written::default(), unfit: None };
    reader.document()?;
    if let Some(unfit) = reader.unfit {
        return Err(unfit);
    }
    let Written { value, mut lines } = reader.written;
    gate::json(&value).map_err(|unfit| Unread {
        line: lines.get(&unfit.path.replace('[', ".").replace(']', "")).copied(),
        path: unfit.path,
        message: unfit.unfit.to_string(),
    })?;
    by_key(&value, "", "", &mut lines);
    Ok(Written { value, lines })
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    written: Written,
    /// The first number that JSON can't hold.
    unfit: Option<Unread>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        match self.parser.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(err)) => Err(format!("line {}: {}", err.marker().line(), err.info())),
            None => Err("ends too early".into()),
        }
    }

    fn document(&mut self) -> Result<(), String> {
        let mut seen = false;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                _ if seen => return Err(format!("line {}: one document only", span.start.line())),
                event => {
                    seen = true;
                    self.written.value = self.node(event, span, "", 0)?;
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, path: &str, depth: usize) -> Result<Value, String> {
        let line = span.start.line();
        self.written.lines.insert(path.to_owned(), line);
        if depth > 64 {
            return Err(format!("line {line}: too deep"));
        }
        let at = |path: &str, name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match event {
            Event::Scalar(text, style, _, _) => match style {
                ScalarStyle::Plain => Ok(scalar(text).unwrap_or_else(|message| {
                    let place = |part: &str| match part.parse::<usize>() {
                        Ok(place) => format!("[{place}]"),
                        Err(_) => format!(".{part}"),
                    };
                    let path: String = path.split('.').map(place).collect();
                    let path = path.trim_start_matches('.').to_owned();
                    self.unfit.get_or_insert(Unread { line: Some(line), path, message });
                    Value::Null
                })),
                _ => Ok(Value::String(text.into_owned())),
            },
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        return Ok(Value::Array(items));
                    }
                    let below = at(path, &items.len().to_string());
                    items.push(self.node(event, span, &below, depth + 1)?);
                }
            }
            Event::MappingStart(..) => {
                let mut fields = Map::new();
                loop {
                    let (event, span) = self.next()?;
                    let line = span.start.line();
                    let name = match event {
                        Event::MappingEnd => return Ok(Value::Object(fields)),
                        Event::Scalar(text, ..) => text.into_owned(),
                        _ => return Err(format!("line {line}: a name must be a text")),
                    };
                    // Each part is kept with its whole path.
                    if name.len() > limits::YAML_NAME_BYTES {
                        return Err(format!("line {line}: a name has at most {} bytes", limits::YAML_NAME_BYTES));
                    }
                    let (event, span) = self.next()?;
                    let below = at(path, &name);
                    let value = self.node(event, span, &below, depth + 1)?;
                    self.written.lines.insert(below, line);
                    if fields.insert(name.clone(), value).is_some() {
                        return Err(format!("line {line}: `{name}` comes twice"));
                    }
                }
            }
            Event::Alias(_) => Err(format!("line {line}: aliases are not read; write it out")),
            _ => Err(format!("line {line}: unexpected")),
        }
    }
}

/// Adds the paths by which structures name their parts: fields in camelCase, parts of lists by key or name.
fn by_key(value: &Value, written: &str, named: &str, lines: &mut HashMap<String, usize>) {
    let at = |path: &str, name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let mut below = |written: String, named: String, value: &Value| {
        if let Some(line) = lines.get(&written).copied() {
            lines.entry(named.clone()).or_insert(line);
        }
        by_key(value, &written, &named, lines);
    };
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let key = item.get("key").or_else(|| item.get("name")).and_then(Value::as_str);
                let key = key.map_or_else(|| i.to_string(), crate::run_template::read::key_of);
                below(at(written, &i.to_string()), at(named, &key), item);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                below(at(written, name), at(named, &crate::run_template::read::camel(name)), value);
            }
        }
        _ => {}
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

/// A plain scalar by YAML's core schema. Errors: a number that JSON does not have.
fn scalar(text: std::borrow::Cow<'_, str>) -> Result<Value, String> {
    let shown = crate::input::shown(&text);
    let too_small = gate::written(&text);
    Ok(match Scalar::parse_from_cow(text) {
        Scalar::FloatingPoint(number) if !number.is_finite() => {
            return Err(format!("`{shown}` is no number that can be kept; a text stands in quotes"));
        }
        Scalar::FloatingPoint(_) if too_small == Err(gate::Unfit::Vanished) => {
            return Err(format!("`{shown}` {}", gate::Unfit::Vanished));
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
