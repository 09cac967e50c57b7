//! One chunk of a part: reads the next rows, and writes those that change.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, Statement, Value as Bound};
use serde_json::{Value, json};
use uuid::Uuid;

use entity::id::{OrgId, RecordId};
use entity::meeting::Attendees;

use super::parts::{Part, Rule};
use super::scrub::{self, ERASED, Words};
use crate::domain::audience::suppression::erased::digest;
use crate::kernel::db::Tx;
use crate::kernel::db::dialect::{Dialect, Type};
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// The kinds of events about a link, whose record is the one that the link goes from.
const LINKS: [&str; 2] = ["record.linked", "record.unlinked"];

/// The person that is erased.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) org_id: OrgId,
    pub(super) record_id: RecordId,
    pub(super) words: Words,
    /// The meetings that the person attends, as events show their ids.
    pub(super) meetings: HashSet<String>,
}

/// One row as read: its keys, the context, the columns.
struct Row {
    keys: Vec<String>,
    context: String,
    columns: Vec<Option<String>>,
}

/// A chunk that was processed.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Number of rows that were read.
    pub(super) rows: usize,
    /// Keys of the last one; none if the part is finished.
    pub(super) next: Option<Vec<String>>,
}

/// Empties the rows behind `after`, at most a chunk of them.
pub(super) async fn chunk(tx: &Tx, person: &Person, part: &Part, after: Option<&[String]>) -> Result<Chunk> {
    let rows = read(tx, person, part, after).await?;
    for row in &rows {
        write(tx, person, part, row).await?;
    }
    if let Some(shown) = part.shown {
        let of_row = |row: &Row| row.keys.first().and_then(|key| key.parse::<Uuid>().ok());
        // The row of a meeting is read whether the person attends or not.
        let about = rows.iter().filter(|row| part.table != "meeting" || attends(person, &row.context));
        let targets: Vec<String> = about.filter_map(of_row).map(shown).collect();
        empty_audit_of(tx, person, &targets).await?;
    }
    let (count, full) = (rows.len(), rows.len() as u64 == limits::CHUNK);
    Ok(Chunk { rows: count, next: rows.into_iter().next_back().filter(|_| full).map(|row| row.keys) })
}

async fn read(tx: &Tx, person: &Person, part: &Part, after: Option<&[String]>) -> Result<Vec<Row>> {
    let backend = tx.db().get_database_backend();
    let mut values: Vec<Bound> = vec![person.record_id.0.into(), person.org_id.0.into()];
    let keys: Vec<&str> = part.keys.iter().map(|(key, _)| *key).collect();
    let keys = keys.join(", ");
    let behind = match after {
        None => String::new(),
        Some(after) => {
            let mut places = Vec::new();
            for ((_, of), text) in part.keys.iter().zip(after) {
                values.push(bound(*of, text)?);
                places.push(format!("${}", values.len()));
            }
            format!("AND ({keys}) > ({})", places.join(", "))
        }
    };
    let mut shown: Vec<String> = part.keys.iter().map(|(key, of)| text_of(tx.dialect(), key, *of)).collect();
    shown.push(part.context.to_owned());
    shown.extend(part.columns.iter().map(|(column, _)| format!("CAST({column} AS text)")));
    // A statement may leave a parameter unused on neither database.
    let scope = format!("($1 = $1 AND $2 = $2 AND {})", part.scope);
    let lock = if part.locked && tx.dialect() == Dialect::Postgres { " FOR UPDATE" } else { "" };
    let sql = format!(
        "SELECT {} FROM {} WHERE {scope} {behind} ORDER BY {keys} LIMIT {}{lock}",
        shown.join(", "),
        part.table,
        limits::CHUNK
    );
    let sql = if tx.dialect() == Dialect::Postgres {
        sql.replace("$1", "CAST($1 AS uuid)").replace("$2", "CAST($2 AS uuid)")
    } else {
        sql
    };
    let mut rows = Vec::new();
    for row in tx.db().query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
        let (count, columns) = (part.keys.len(), part.columns.len());
        rows.push(Row {
            keys: (0..count).map(|i| row.try_get_by_index::<String>(i)).collect::<std::result::Result<_, _>>()?,
            context: row.try_get_by_index::<Option<String>>(count)?.unwrap_or_default(),
            columns: (0..columns)
                .map(|i| row.try_get_by_index::<Option<String>>(count + 1 + i))
                .collect::<std::result::Result<_, _>>()?,
        });
    }
    Ok(rows)
}

/// Writes the columns of a row that change.
async fn write(tx: &Tx, person: &Person, part: &Part, row: &Row) -> Result<()> {
    let (mut values, mut set): (Vec<Bound>, Vec<String>) = (Vec::new(), Vec::new());
    for ((column, rule), before) in part.columns.iter().zip(&row.columns) {
        let Some(before) = before else { continue };
        let after = replaced(person, *rule, &row.context, before)?;
        if after.as_ref() == Some(before) {
            continue;
        }
        values.push(after.into());
        let place = format!("${}", values.len());
        let place = if rule.is_json() && tx.dialect() == Dialect::Postgres {
            format!("CAST(CAST({place} AS text) AS jsonb)")
        } else {
            place
        };
        set.push(format!("{column} = {place}"));
    }
    if set.is_empty() {
        return Ok(());
    }
    let mut met = Vec::new();
    for ((key, of), text) in part.keys.iter().zip(&row.keys) {
        values.push(bound(*of, text)?);
        met.push(format!("{key} = ${}", values.len()));
    }
    if part.table != "import_seen" {
        values.push(person.org_id.0.into());
        met.push(format!("org_id = ${}", values.len()));
    }
    let sql = format!("UPDATE {} SET {} WHERE {}", part.table, set.join(", "), met.join(" AND "));
    tx.db().execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values)).await?;
    Ok(())
}

impl Rule {
    fn is_json(self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::JsonWords
                | Self::Result
                | Self::Event
                | Self::OtherEvent
                | Self::Input
                | Self::Attendees
        )
    }
}

/// The value in place of another; the same if nothing in it is personal.
fn replaced(person: &Person, rule: Rule, context: &str, before: &str) -> Result<Option<String>> {
    let words = &person.words;
    let text = |after: Option<String>| Ok(Some(after.unwrap_or_else(|| before.to_owned())));
    let mark = || if before.is_empty() { String::new() } else { ERASED.to_owned() };
    // Unlike for every record: a key is used again by a person who came back, and erased again.
    let hidden = || match before.starts_with("sha256:") {
        true => before.to_owned(),
        false => digest(person.org_id, &format!("{}\0{before}", person.record_id)),
    };
    match rule {
        Rule::Null => return Ok(None),
        Rule::Blank => return Ok(Some(String::new())),
        Rule::Mark => return Ok(Some(mark())),
        Rule::Digest => return Ok(Some(hidden())),
        Rule::Words => return text(words.replaced(before)),
        Rule::BlankIfNamed => return text(words.occurs_in(before).then(String::new)),
        Rule::NullIfNamed => return Ok((!words.occurs_in(before)).then(|| before.to_owned())),
        Rule::DigestIfNamed => return text(words.occurs_in(before).then(hidden)),
        Rule::Reason => {
            return text(match before.split_once(": ") {
                Some((code, _)) if code != "INTERRUPTED" => Some(format!("{code}: {ERASED}")),
                _ => words.replaced(before),
            });
        }
        Rule::Error if context == "ENGINE" => return text(words.replaced(before)),
        Rule::Error => return Ok(Some(mark())),
        Rule::MarkOfAttendee if attends(person, context) => return Ok(Some(mark())),
        Rule::NullOfAttendee if attends(person, context) => return Ok(None),
        Rule::MarkOfAttendee | Rule::NullOfAttendee => return text(words.replaced(before)),
        Rule::Attendees => {
            let mut all: Attendees = serde_json::from_str(before)?;
            if !scrub::empty_attendees(&mut all, person.record_id, words) {
                return text(None);
            }
            return Ok(Some(serde_json::to_string(&all)?));
        }
        Rule::Empty | Rule::JsonWords | Rule::Result | Rule::Event | Rule::OtherEvent | Rule::Input => {}
    }
    let given: Value = serde_json::from_str(before)?;
    let mut value = given.clone();
    match rule {
        Rule::Empty => scrub::empty(&mut value, ""),
        Rule::Result => scrub::empty_result(context, &mut value),
        Rule::Event => scrub::empty_event(context, &mut value, words),
        // The role says what the person was to the other record.
        Rule::OtherEvent if LINKS.contains(&context) && value["toId"] == words.record => {
            scrub::empty_event(context, &mut value, words);
        }
        // Its title was written about those who attend.
        Rule::OtherEvent if value["meetingId"].as_str().is_some_and(|id| person.meetings.contains(id)) => {
            scrub::empty_event(context, &mut value, words);
        }
        // The reason of an erasure stays, without the person's name.
        Rule::Input if context != "eraseRecord" && before.contains(&words.record) => scrub::empty(&mut value, ""),
        _ => words.replace_in(&mut value),
    }
    if value == given { text(None) } else { Ok(Some(value.to_string())) }
}

/// True if the person is among a meeting's attendees, before or after the person was emptied.
fn attends(person: &Person, attendees: &str) -> bool {
    let all: Option<Attendees> = serde_json::from_str(attendees).ok();
    all.is_some_and(|mut all| scrub::empty_attendees(&mut all, person.record_id, &person.words))
}

/// Empties what mutations about some objects were given.
async fn empty_audit_of(tx: &Tx, person: &Person, targets: &[String]) -> Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    let backend = tx.db().get_database_backend();
    let sql = format!(
        "SELECT id, CAST(input AS text) FROM audit WHERE org_id = $1 AND mutation <> 'eraseRecord' AND target {}",
        tx.dialect().among("$2", Type::Text)
    );
    let values: [Bound; 2] = [person.org_id.0.into(), json!(targets).into()];
    for row in tx.db().query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
        let (id, before): (Uuid, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let mut input: Value = serde_json::from_str(&before)?;
        scrub::empty(&mut input, "");
        let sql = format!("UPDATE audit SET input = {} WHERE id = $2", tx.dialect().written_json());
        let values: [Bound; 2] = [input.to_string().into(), id.into()];
        tx.db().execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    Ok(())
}

/// A key column as text.
fn text_of(dialect: Dialect, key: &str, of: Type) -> String {
    match (of, dialect) {
        (Type::Uuid, Dialect::Sqlite) => format!("hex({key})"),
        _ => format!("CAST({key} AS text)"),
    }
}

/// A key that was read as text, as a parameter.
fn bound(of: Type, text: &str) -> Result<Bound> {
    Ok(match of {
        Type::Uuid => text.parse::<Uuid>().map_err(Error::internal)?.into(),
        Type::Int => text.parse::<i64>().map_err(Error::internal)?.into(),
        _ => text.into(),
    })
}
