//! Records from a CSV file, streamed: good rows go in, bad lines are told, and the same file twice changes nothing.

mod row;

use std::collections::HashMap;
use std::io::Read;

use chrono::{DateTime, Utc};
use csv::ByteRecord;
use entity::id::{ImportId, RecordId};
use entity::import::{self, ImportStatus};
use entity::record::{self, ActiveModel, Model};
use entity::{import_problem, import_seen};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::{Value, json};

use crate::db::{Db, Tx};
use crate::error::{Error, Result};
use crate::viewer::Viewer;
use crate::{input, limits, transact};
use row::{Columns, Row};

/// What is wrong with one cell or line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line of the file, from 1.
    pub line: u64,
    /// The column, where it is about one.
    pub column: Option<String>,
    /// The value, shortened.
    pub value: Option<String>,
    /// What is wrong.
    pub why: String,
}

/// Reads records of `kind` from `source`; `progress` hears of each chunk. Errors: BAD_USER_INPUT for a header that
/// can't be used; ours, when the source can't be read, after which what went in before stays.
pub async fn import(
    db: &Db,
    viewer: &Viewer,
    kind: &str,
    file: &str,
    source: impl Read,
    mut progress: impl FnMut(&import::Model, &[Problem]),
) -> Result<import::Model> {
    let kind = super::check_kind("kind", kind)?;
    // Lines end with LF here, and a CR before it is taken off the last cell: else the reader miscounts lines.
    let mut lines = csv::ReaderBuilder::new();
    let mut lines = lines.flexible(true).terminator(csv::Terminator::Any(b'\n')).from_reader(Unmarked::new(source));
    let columns = Columns::read(lines.byte_headers().map_err(Error::ours)?, &kind)?;
    let mut report = begin(db, viewer, &kind, file).await?;
    let mut line = ByteRecord::new();
    loop {
        let (mut rows, mut problems) = (Vec::new(), Vec::new());
        let mut ended = false;
        while rows.len() + problems.len() < limits::CHUNK as usize {
            match lines.read_byte_record(&mut line) {
                Ok(true) if is_blank(&line) => {}
                Ok(true) => {
                    let at = begun_at(&lines, &line);
                    report.rows += 1;
                    match columns.row(at, &line) {
                        Ok(row) => rows.push(row),
                        Err(found) => {
                            report.bad += 1;
                            problems.extend(found);
                        }
                    }
                }
                Ok(false) => {
                    ended = true;
                    break;
                }
                Err(err) => {
                    fail(db, &report, &err.to_string()).await?;
                    return Err(Error::ours(err));
                }
            }
        }
        report = chunk(db, viewer, &report, &rows, &mut problems).await?;
        progress(&report, &problems);
        if ended {
            return finish(db, report).await;
        }
    }
}

/// The line that a record began on: counted back from where the reader is, which is behind the record's last line.
fn begun_at<R: Read>(lines: &csv::Reader<Unmarked<R>>, line: &ByteRecord) -> u64 {
    let source = lines.get_ref();
    // The last record may have no end of its own: no LF behind it, or a quote that is never closed.
    let open = source.last != b'\n' || line.as_slice().ends_with(b"\n");
    let unended = source.ended && lines.position().byte() == source.count && open;
    let within = line.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
    (lines.position().line() - u64::from(!unended)).saturating_sub(within)
}

fn is_blank(line: &ByteRecord) -> bool {
    line.len() == 1 && line.as_slice().trim_ascii().is_empty()
}

/// Drops a byte order mark at the front, and knows how far and how it ended.
struct Unmarked<R> {
    source: R,
    begun: bool,
    ended: bool,
    count: u64,
    last: u8,
}

impl<R: Read> Unmarked<R> {
    fn new(source: R) -> Self {
        Self { source, begun: false, ended: false, count: 0, last: 0 }
    }
}

impl<R: Read> Read for Unmarked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut count = self.source.read(buffer)?;
        if !self.begun && count > 0 {
            self.begun = true;
            if buffer[..count].starts_with(b"\xef\xbb\xbf") {
                buffer.copy_within(3..count, 0);
                count = if count > 3 { count - 3 } else { self.source.read(buffer)? };
            }
        }
        self.ended = count == 0;
        self.count += count as u64;
        self.last = if count > 0 { buffer[count - 1] } else { self.last };
        Ok(count)
    }
}

async fn begin(db: &Db, viewer: &Viewer, kind: &str, file: &str) -> Result<import::Model> {
    transact!(db, |tx| {
        let row = import::ActiveModel {
            id: Set(ImportId::new()),
            org_id: Set(viewer.org_id),
            kind: Set(kind.to_owned()),
            file: Set(input::shown(file)),
            status: Set(ImportStatus::Running),
            rows: Set(0),
            created: Set(0),
            updated: Set(0),
            unchanged: Set(0),
            bad: Set(0),
            failure: Set(None),
            actor: Set(viewer.actor()),
            created_at: Set(tx.now()),
            ended_at: Set(None),
        };
        Ok(row.insert(tx.db()).await?)
    })
}

/// One chunk in one transaction: a select, at most two upserts, the problems, the counts.
async fn chunk(
    db: &Db,
    viewer: &Viewer,
    report: &import::Model,
    rows: &[Row],
    problems: &mut Vec<Problem>,
) -> Result<import::Model> {
    let told = problems.clone();
    let (report, all) = transact!(db, |tx| {
        let (mut report, mut problems) = (report.clone(), told.clone());
        let rows = without_duplicates(tx, &report, rows, &mut problems).await?;
        report.bad += problems.len() as i64 - told.len() as i64;
        upsert(tx, viewer, &mut report, &rows).await?;
        keep(tx, &report, &problems).await?;
        let row = report.clone().into_active_model().reset_all();
        Ok((row.update(tx.db()).await?, problems))
    })?;
    *problems = all;
    problems.sort_by_key(|problem| problem.line);
    Ok(report)
}

/// Keeps the first line of each external id; in the database, so that memory stays bounded whatever the file.
async fn without_duplicates(
    tx: &Tx,
    report: &import::Model,
    rows: &[Row],
    problems: &mut Vec<Problem>,
) -> Result<Vec<Row>> {
    let ids: Vec<&str> = rows.iter().map(|row| row.external_id.as_str()).collect();
    let seen = import_seen::Entity::find()
        .filter(import_seen::COLUMN.import_id.eq(report.id))
        .filter(import_seen::COLUMN.external_id.is_in(ids))
        .all(tx.db())
        .await?;
    let mut first: HashMap<String, i64> = seen.into_iter().map(|row| (row.external_id, row.line)).collect();
    let (mut kept, mut new) = (Vec::new(), Vec::new());
    for row in rows {
        if let Some(line) = first.get(&row.external_id) {
            problems.push(Problem {
                line: row.line,
                column: Some("external_id".into()),
                value: Some(input::shown(&row.external_id)),
                why: format!("stands in line {line} already; the first one counts"),
            });
            continue;
        }
        first.insert(row.external_id.clone(), row.line as i64);
        new.push(import_seen::ActiveModel {
            import_id: Set(report.id),
            external_id: Set(row.external_id.clone()),
            line: Set(row.line as i64),
        });
        kept.push(row.clone());
    }
    if !new.is_empty() {
        import_seen::Entity::insert_many(new).exec_without_returning(tx.db()).await?;
    }
    Ok(kept)
}

async fn upsert(tx: &Tx, viewer: &Viewer, report: &mut import::Model, rows: &[Row]) -> Result<()> {
    let found = record::Entity::find()
        .filter(record::COLUMN.org_id.eq(viewer.org_id))
        .filter(record::COLUMN.kind.eq(report.kind.clone()))
        .filter(record::COLUMN.external_id.is_in(rows.iter().map(|row| row.external_id.clone())))
        .all(tx.db())
        .await?;
    let found: HashMap<&str, &Model> =
        found.iter().filter_map(|row| Some((row.external_id.as_deref()?, row))).collect();
    let mut changed = Vec::new();
    for row in rows {
        let before = found.get(row.external_id.as_str()).copied();
        let after = merged(viewer, &report.kind, before, row, tx.now());
        match before {
            Some(before) if *before == after => report.unchanged += 1,
            Some(_) => changed.push(after),
            None => changed.push(after),
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let rows: Vec<ActiveModel> = changed.iter().map(|row| row.clone().into_active_model().reset_all()).collect();
    let on_conflict = OnConflict::columns([record::Column::OrgId, record::Column::Kind, record::Column::ExternalId])
        .update_columns([
            record::Column::Name,
            record::Column::Email,
            record::Column::Phone,
            record::Column::TimeZone,
            record::Column::Stage,
            record::Column::LastContactedAt,
            record::Column::Attributes,
            record::Column::Search,
            record::Column::UpdatedAt,
        ])
        .value(record::Column::Revision, Expr::col((record::Entity, record::Column::Revision)).add(1))
        .to_owned();
    let written = record::Entity::insert_many(rows).on_conflict(on_conflict).exec_with_returning(tx.db()).await?;
    for after in &written {
        match after.external_id.as_deref().and_then(|id| found.get(id)) {
            Some(before) => {
                report.updated += 1;
                super::tell_changes(tx, viewer, before, after);
            }
            None => {
                report.created += 1;
                super::tell(tx, viewer, "record.created", after, json!({}));
            }
        }
    }
    Ok(())
}

/// The record as it is to be: what the file has a column for comes from the file, a blank cell clears, all else stays.
fn merged(viewer: &Viewer, kind: &str, before: Option<&Model>, row: &Row, now: DateTime<Utc>) -> Model {
    let mut attributes = before.and_then(|before| before.attributes.as_object().cloned()).unwrap_or_default();
    for (name, value) in &row.attributes {
        if value.is_null() {
            attributes.remove(name);
        } else {
            attributes.insert(name.clone(), value.clone());
        }
    }
    let attributes = Value::Object(attributes);
    let given = |given: &Option<Option<String>>, stands: fn(&Model) -> &Option<String>| match given {
        Some(given) => given.clone(),
        None => before.and_then(|before| stands(before).clone()),
    };
    let email = given(&row.email, |before| &before.email);
    let contacted = row.last_contacted_at.flatten();
    let after = Model {
        id: before.map_or_else(RecordId::new, |before| before.id),
        org_id: viewer.org_id,
        kind: kind.to_owned(),
        external_id: Some(row.external_id.clone()),
        name: row.name.clone(),
        search: super::search(&row.name, email.as_deref(), Some(&row.external_id)),
        email,
        phone: given(&row.phone, |before| &before.phone),
        time_zone: given(&row.time_zone, |before| &before.time_zone),
        stage: given(&row.stage, |before| &before.stage),
        // A contact that was made here since the file was written is not forgotten, also where its cell is blank.
        last_contacted_at: Ord::max(before.and_then(|before| before.last_contacted_at), contacted),
        priority: super::priority(&attributes),
        last_replied_at: before.and_then(|before| before.last_replied_at),
        unsubscribed_at: before.and_then(|before| before.unsubscribed_at),
        attributes,
        created_at: before.map_or(now, |before| before.created_at),
        updated_at: before.map_or(now, |before| before.updated_at),
        revision: before.map_or(1, |before| before.revision),
    };
    match before {
        Some(before) if after != *before => Model { updated_at: now, ..after },
        _ => after,
    }
}

async fn keep(tx: &Tx, report: &import::Model, problems: &[Problem]) -> Result<()> {
    use sea_orm::PaginatorTrait;
    if problems.is_empty() {
        return Ok(());
    }
    let kept = import_problem::Entity::find().filter(import_problem::COLUMN.import_id.eq(report.id));
    let kept = kept.count(tx.db()).await? as i64;
    let room = usize::try_from(limits::IMPORT_PROBLEMS - kept).unwrap_or(0);
    let mut problems: Vec<&Problem> = problems.iter().collect();
    problems.sort_by_key(|problem| problem.line);
    let rows: Vec<_> = problems
        .iter()
        .take(room)
        .zip(kept + 1..)
        .map(|(problem, number)| import_problem::ActiveModel {
            import_id: Set(report.id),
            number: Set(number),
            org_id: Set(report.org_id),
            line: Set(problem.line as i64),
            column_name: Set(problem.column.clone()),
            value: Set(problem.value.clone()),
            why: Set(problem.why.clone()),
        })
        .collect();
    if !rows.is_empty() {
        import_problem::Entity::insert_many(rows).exec_without_returning(tx.db()).await?;
    }
    Ok(())
}

async fn finish(db: &Db, report: import::Model) -> Result<import::Model> {
    transact!(db, |tx| {
        let seen = import_seen::Entity::delete_many().filter(import_seen::COLUMN.import_id.eq(report.id));
        seen.exec(tx.db()).await?;
        let mut row = report.clone().into_active_model();
        row.status = Set(ImportStatus::Completed);
        row.ended_at = Set(Some(tx.now()));
        Ok(row.update(tx.db()).await?)
    })
}

async fn fail(db: &Db, report: &import::Model, why: &str) -> Result<import::Model> {
    transact!(db, |tx| {
        let mut row = report.clone().into_active_model();
        row.status = Set(ImportStatus::Failed);
        row.failure = Set(Some(input::shown(why)));
        row.ended_at = Set(Some(tx.now()));
        Ok(row.update(tx.db()).await?)
    })
}
