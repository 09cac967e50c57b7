//! One line of a file: read by the header's columns, cleaned, and told what is wrong with it.

use chrono::{DateTime, Utc};
use csv::ByteRecord;
use serde_json::{Map, Value, json};

use super::Problem;
use crate::error::{Error, Refusal, Result};
use crate::{input, limits};

/// A good line. A field is `None` where the file has no such column, which changes nothing, and `Some(None)` where its
/// cell is blank, which clears it. An attribute of a blank cell is null.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) external_id: String,
    pub(super) name: String,
    pub(super) email: Option<Option<String>>,
    pub(super) phone: Option<Option<String>>,
    pub(super) time_zone: Option<Option<String>>,
    pub(super) stage: Option<Option<String>>,
    pub(super) last_contacted_at: Option<Option<DateTime<Utc>>>,
    pub(super) attributes: Map<String, Value>,
}

/// The header: which column is which.
pub(super) struct Columns {
    names: Vec<String>,
    numbers: Vec<bool>,
}

const REQUIRED: [&str; 2] = ["external_id", "name"];
/// Attributes that are whole numbers, by kind of record; all others are text.
const NUMBERS: [(&str, &str); 1] = [("lead", "employees")];

impl Columns {
    pub(super) fn read(header: &ByteRecord, kind: &str) -> Result<Self> {
        let mut names: Vec<String> = Vec::new();
        for cell in header {
            let name = std::str::from_utf8(cell).map_err(|_| Refusal::input("header", "is not UTF-8"))?.trim();
            if name.is_empty() || names.iter().any(|before| before == name) {
                let shown = input::shown(name);
                return Err(Refusal::input("header", format!("the column `{shown}` is blank or comes twice")).into());
            }
            names.push(name.to_owned());
        }
        if let Some(name) = REQUIRED.iter().find(|name| !names.iter().any(|column| column == *name)) {
            return Err(Refusal::input("header", format!("the column `{name}` is missing")).into());
        }
        let numbers = names.iter().map(|name| NUMBERS.contains(&(kind, name))).collect();
        Ok(Self { names, numbers })
    }

    pub(super) fn row(&self, line: u64, cells: &ByteRecord) -> std::result::Result<Row, Vec<Problem>> {
        let whole = |why: String| vec![Problem { line, column: None, value: None, why }];
        if cells.len() != self.names.len() {
            return Err(whole(format!("has {} cells where the header has {}", cells.len(), self.names.len())));
        }
        if cells.as_slice().len() > limits::IMPORT_LINE_BYTES {
            return Err(whole(format!("is longer than {} bytes", limits::IMPORT_LINE_BYTES)));
        }
        let mut row = Row {
            line,
            external_id: String::new(),
            name: String::new(),
            email: None,
            phone: None,
            time_zone: None,
            stage: None,
            last_contacted_at: None,
            attributes: Map::new(),
        };
        let mut problems = Vec::new();
        for (i, cell) in cells.iter().enumerate() {
            let cell = if i + 1 == cells.len() { cell.strip_suffix(b"\r").unwrap_or(cell) } else { cell };
            let column = &self.names[i];
            let told = |value: &str, why: String| Problem {
                line,
                column: Some(column.clone()),
                value: Some(input::shown(value)),
                why,
            };
            let Ok(cell) = std::str::from_utf8(cell) else {
                problems.push(told(&String::from_utf8_lossy(cell), "is not UTF-8".into()));
                continue;
            };
            if let Err(why) = row.set(column, cell, self.numbers[i]) {
                problems.push(told(cell, why));
            }
        }
        if problems.is_empty() { Ok(row) } else { Err(problems) }
    }
}

impl Row {
    fn set(&mut self, column: &str, cell: &str, number: bool) -> std::result::Result<(), String> {
        let plain =
            |err: Error| err.to_string().split_once(": ").map_or_else(|| err.to_string(), |(_, why)| why.to_owned());
        // Names come from anywhere: line breaks and controls become spaces, so that they can't break a header.
        let clean: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = (!clean.is_empty()).then_some(clean);
        match column {
            "external_id" => self.external_id = input::name(column, cell).map_err(plain)?,
            "name" => self.name = input::name(column, text.as_deref().unwrap_or_default()).map_err(plain)?,
            "email" if text.is_some() => self.email = Some(Some(input::email(column, cell).map_err(plain)?)),
            "phone" if text.is_some() => self.phone = Some(Some(input::phone(column, cell.trim()).map_err(plain)?)),
            "timezone" | "time_zone" if text.is_some() => {
                self.time_zone = Some(Some(input::time_zone(column, cell).map_err(plain)?.to_string()));
            }
            "last_contacted_at" if text.is_some() => {
                let at = DateTime::parse_from_rfc3339(cell.trim())
                    .map_err(|_| "is not a time like 2026-10-30T14:39:18Z".to_owned())?;
                self.last_contacted_at = Some(Some(chrono::SubsecRound::trunc_subsecs(at.to_utc(), 6)));
            }
            "email" => self.email = Some(None),
            "phone" => self.phone = Some(None),
            "timezone" | "time_zone" => self.time_zone = Some(None),
            "last_contacted_at" => self.last_contacted_at = Some(None),
            "stage" => self.stage = Some(text.map(|text| input::name(column, &text)).transpose().map_err(plain)?),
            _ => match text {
                Some(text) if number => {
                    let number: i64 = text.parse().map_err(|_| "is not a whole number".to_owned())?;
                    self.attributes.insert(column.to_owned(), json!(number));
                }
                Some(text) if text.chars().count() > limits::TEXT_CHARS => {
                    return Err(format!("is longer than {} characters", limits::TEXT_CHARS));
                }
                Some(text) => {
                    self.attributes.insert(column.to_owned(), json!(text));
                }
                None => {
                    self.attributes.insert(column.to_owned(), Value::Null);
                }
            },
        }
        Ok(())
    }
}
