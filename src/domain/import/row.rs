//! Parses one line according to the header's columns. An invalid cell is reported and its field
//! left unchanged; the rest of the line is imported. A line is skipped only if it has no usable
//! external id, too few or too many cells, or is too long. An opt-out counts whatever else is wrong
//! with its line: for the record if there is one, and for every address that the line has.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::addresses::{self, Contact, plain};
use super::columns::{self, Column, Field, Target};
use super::dates::{self, Order};
use super::lines::Line;
use super::{Problem, types};
use crate::kernel::{limits, storable, validate};

/// A parsed line. A field is `None` if the file has no such column or its cell is invalid, which
/// leaves it unchanged, and `Some(None)` if its cell is blank, which clears it. An attribute with a
/// blank cell is null.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) external_id: String,
    pub(super) name: Option<String>,
    /// First and last name, used for a new record without a name.
    pub(super) first_and_last: [Option<String>; 2],
    pub(super) email: Option<Option<String>>,
    pub(super) phone: Option<Option<String>>,
    pub(super) time_zone: Option<Option<String>>,
    pub(super) stage: Option<Option<String>>,
    pub(super) last_contacted_at: Option<Option<DateTime<Utc>>>,
    pub(super) opt_out: Option<OptOut>,
    /// All addresses of a line with an opt-out.
    pub(super) contacts: Vec<Contact>,
    pub(super) attributes: Map<String, Value>,
    /// True if the file has no external ids, and records are identified by their mail address.
    pub(super) by_address: bool,
}

/// The record opts out of all messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptOut {
    /// At the time of the import, because the file gives no time.
    Now,
    /// At this time, or at the import if that is in the future.
    Since(DateTime<Utc>),
}

/// Settings for parsing a cell.
struct Reading<'a> {
    region: Option<&'a str>,
    now: DateTime<Utc>,
    order: Option<Order>,
}

type Cell<T> = std::result::Result<T, String>;

/// A line as it was parsed.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The row, if the line is usable.
    pub(super) row: Option<Row>,
    /// Addresses that opt out without a record that has them.
    pub(super) opted_out: Vec<Contact>,
    pub(super) problems: Vec<Problem>,
}

/// Skips a line. Its opt-out counts for every address that can be read in it.
pub(super) fn skipped(columns: &[Column], cells: &Line, region: Option<&str>, mut why: String) -> Parsed {
    let mut opted_out = Vec::new();
    if addresses::opts_out(columns, cells) {
        opted_out = addresses::of_row(columns, cells, region);
        why = format!("{why}; {}", addresses::outcome(&opted_out));
        if addresses::is_address_dropped(columns, cells) {
            why.push_str("; a cell with addresses is too long to be read");
        }
    } else if addresses::is_opt_out_dropped(columns, cells) {
        why.push_str("; if it has an opt-out, that was not read");
    }
    Parsed { row: None, opted_out, problems: vec![Problem::of_line(cells.line, why)] }
}

/// Parses a line.
pub(super) fn read(
    columns: &mut [Column],
    cells: &Line,
    region: Option<&str>,
    now: DateTime<Utc>,
    by_address: bool,
) -> Parsed {
    let line = cells.line;
    if cells.len() != columns.len() {
        let why = format!("has {} cells where the header has {}", cells.len(), columns.len());
        return skipped(columns, cells, region, why);
    }
    let mut row = Row { line, ..Row::default() };
    let mut problems = Vec::new();
    let mut good = true;
    for (column, cell) in columns.iter_mut().zip(cells.cells()) {
        let lossy = String::from_utf8_lossy(cell);
        let read = match std::str::from_utf8(cell) {
            Ok(text) => row.set(column, text, region, now),
            // An unreadable opt-out still counts as one.
            Err(_) if matches!(column.target, Target::Field(Field::Unsubscribed | Field::UnsubscribedAt)) => {
                row.opt_out(OptOut::Now);
                Err(super::source::NOT_UTF8.to_owned())
            }
            Err(_) if column.target == Target::Ignored => Ok(()),
            Err(_) => Err(super::source::NOT_UTF8.to_owned()),
        };
        if let Err(why) = read {
            good &= column.target != Target::Field(Field::ExternalId);
            let value = (!lossy.trim().is_empty()).then(|| validate::printable(&lossy));
            problems.push(Problem { line, column: Some(column.name.clone()), value, why });
        }
    }
    if by_address && let Err(why) = row.use_address_as_id() {
        let column = columns.iter().find(|column| column.target == Target::Field(Field::Email));
        let column = column.map(|column| column.name.clone());
        good = false;
        // An invalid address was already reported with its reason.
        if !problems.iter().any(|problem| problem.column == column) {
            problems.push(Problem { line, column, value: None, why });
        }
    }
    let mut opted_out = Vec::new();
    if row.opt_out.is_some() {
        row.contacts = addresses::of_row(columns, cells, region);
        let of_record = [&row.email, &row.phone].map(|address| address.clone().flatten());
        let is_unread = |contact: &&Contact| !good || !of_record.contains(&Some(contact.1.clone()));
        opted_out = row.contacts.iter().filter(is_unread).cloned().collect();
        if let Some(problem) = problems.last_mut().filter(|_| !good || !opted_out.is_empty()) {
            problem.why = format!("{}; {}", problem.why, addresses::outcome(&opted_out));
        }
    }
    Parsed { row: good.then_some(row), opted_out, problems }
}

impl Row {
    /// Uses the mail address as the external id.
    fn use_address_as_id(&mut self) -> Cell<()> {
        let none = "is blank: if no column is `external_id`, records are identified by their address";
        let address = self.email.clone().flatten().ok_or(none)?;
        self.external_id = validate::key("email", &address.to_lowercase()).map_err(plain)?;
        self.by_address = true;
        Ok(())
    }

    fn set(&mut self, column: &mut Column, cell: &str, region: Option<&str>, now: DateTime<Utc>) -> Cell<()> {
        if cell.contains('\0') && column.target != Target::Ignored {
            return Err(storable::Unstorable::Nul.to_string());
        }
        // Line breaks and control characters become spaces, so that a name can't break a mail
        // header.
        let clean: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = (!clean.is_empty()).then_some(clean);
        match &column.target {
            Target::Ignored => Ok(()),
            Target::Field(field) => {
                let order = column.typed.order;
                self.set_field(*field, cell, text, &Reading { region, now, order })
            }
            Target::Attribute(name) => {
                let name = name.clone();
                let Some(text) = text else {
                    self.attributes.insert(name, Value::Null);
                    return Ok(());
                };
                // Attributes may be any text: whitespace within them is kept.
                let given = cell.trim();
                if given.chars().count() > limits::TEXT_CHARS {
                    return Err(format!("is longer than {} characters", limits::TEXT_CHARS));
                }
                if let Some(part) = columns::part_of_name(&name) {
                    self.first_and_last[part] = Some(text);
                }
                let value = column.typed.read(self.line, given)?;
                self.attributes.insert(name, value);
                Ok(())
            }
        }
    }

    fn set_field(&mut self, field: Field, cell: &str, text: Option<String>, reading: &Reading<'_>) -> Cell<()> {
        let Reading { region, now, order } = *reading;
        match (field, text) {
            (Field::ExternalId, _) => {
                self.external_id = validate::key("external_id", cell).map_err(plain)?;
            }
            (Field::Name, None) => {
                return Err(
                    "must not be blank: an existing record keeps its name, a new one is named by its first and last \
                            name, its address or its external id"
                        .into(),
                );
            }
            (Field::Name, Some(text)) => {
                self.name = Some(storable::nfc(&validate::name("name", &text).map_err(plain)?).into_owned());
            }
            (Field::Email, Some(_)) => self.email = Some(Some(addresses::email(cell)?)),
            (Field::Email, None) => self.email = Some(None),
            (Field::Phone, Some(text)) => {
                let (number, extension) = validate::phone_in("phone", &text, region).map_err(plain)?;
                self.phone = Some(Some(number));
                if let Some(extension) = extension {
                    return Err(format!("the extension {extension} is dropped, the number is imported"));
                }
            }
            (Field::Phone, None) => self.phone = Some(None),
            (Field::TimeZone, Some(text)) => {
                self.time_zone = Some(Some(validate::time_zone("time_zone", &text).map_err(plain)?.to_string()));
            }
            (Field::TimeZone, None) => self.time_zone = Some(None),
            (Field::Stage, text) => {
                let stage = text.map(|text| validate::name("stage", &text)).transpose().map_err(plain)?;
                self.stage = Some(stage.map(|stage| storable::nfc(&stage).into_owned()));
            }
            (Field::LastContactedAt, Some(text)) => {
                let at = types::time(&text, order).ok_or_else(|| dates::why_not(&text))?;
                if at > now + limits::CLOCKS_APART {
                    return Err("is in the future: the time of the last contact must be in the past".into());
                }
                self.last_contacted_at = Some(Some(at));
            }
            (Field::LastContactedAt, None) => self.last_contacted_at = Some(None),
            (Field::Unsubscribed | Field::UnsubscribedAt, None) => {}
            (Field::Unsubscribed, Some(text)) => match (types::yes_or_no(&text), types::time(&text, order)) {
                (Some(false), _) => {}
                (Some(true), _) => self.opt_out(OptOut::Now),
                // Some files have the time of the opt-out here, and blanks for everybody else.
                (None, Some(at)) => self.opt_out(OptOut::Since(at)),
                (None, None) => {
                    self.opt_out(OptOut::Now);
                    return Err("is neither yes nor no: treated as yes, so that nobody is contacted by mistake".into());
                }
            },
            (Field::UnsubscribedAt, Some(text)) => match types::time(&text, order) {
                Some(at) => self.opt_out(OptOut::Since(at)),
                None => {
                    self.opt_out(OptOut::Now);
                    return Err(format!("{}; the record is unsubscribed as of now", dates::why_not(&text)));
                }
            },
        }
        Ok(())
    }

    /// Sets the opt-out; a known time takes precedence over an unknown one.
    fn opt_out(&mut self, opt_out: OptOut) {
        if !matches!((self.opt_out, opt_out), (Some(OptOut::Since(_)), OptOut::Now)) {
            self.opt_out = Some(opt_out);
        }
    }

    /// The name of a new record.
    pub(super) fn new_name(&self) -> String {
        let by_parts: Vec<&str> = self.first_and_last.iter().flatten().map(String::as_str).collect();
        let parts = (!by_parts.is_empty()).then(|| by_parts.join(" "));
        let name = self.name.clone().or(parts).or_else(|| self.email.clone().flatten());
        let name = name.unwrap_or_else(|| self.external_id.clone());
        storable::nfc(&name).chars().take(limits::NAME_CHARS).collect()
    }
}
