//! YAML → JSON, with the line on which each part stands. No aliases: what is written is what there is.

use std::collections::HashMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use crate::limits;

/// A document.
#[derive(Debug, Default)]
pub struct Written {
    /// What it says.
    pub value: Value,
    /// The line of each part, from 1, by its path: `phases.0.name`; of a part in a list that has a key or a name also by
    /// that.
    pub lines: HashMap<String, usize>,
}

/// Reads the one document of a text; an empty one is null. The error names the line.
pub fn read(text: &str) -> Result<Written, String> {
    if text.len() > limits::DEFINITION_BYTES {
        return Err(format!("at most {} bytes", limits::DEFINITION_BYTES));
    }
    let mut reader = Reader { parser: Parser::new_from_str(text), written: Written::default() };
    reader.document()?;
    Ok(reader.written)
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    written: Written,
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
                ScalarStyle::Plain => Ok(scalar(text)),
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

/// A plain scalar by YAML's core schema.
fn scalar(text: std::borrow::Cow<'_, str>) -> Value {
    match Scalar::parse_from_cow(text) {
        Scalar::Null => Value::Null,
        Scalar::Boolean(flag) => flag.into(),
        Scalar::Integer(number) => number.into(),
        Scalar::FloatingPoint(number) => {
            serde_json::Number::from_f64(number.into_inner()).map_or(Value::Null, Value::Number)
        }
        Scalar::String(text) => Value::String(text.into_owned()),
    }
}
