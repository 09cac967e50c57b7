//! Imports records from a CSV stream: valid rows are upserted, invalid cells and lines are
//! reported. Idempotent: importing the same file again changes nothing. A field without a column in
//! the file stays as it is; a blank cell clears its field.

mod addresses;
mod columns;
mod dates;
mod delimiter;
mod infer;
mod lines;
mod numbers;
pub mod report;
mod row;
mod source;
mod types;
mod write;

use std::collections::VecDeque;
use std::io::{self, Read};

use entity::id::ImportId;
use entity::import::{self, ImportColumns, ImportStatus, ImportWarnings};
use entity::import_seen;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};

use crate::domain::audience::kind;
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;
use columns::{Column, Field, Target};
use lines::{Found, Ids, Line, Lines};
use row::Parsed;

/// A problem with one cell or line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file, from 1.
    pub line: u64,
    /// Column; `None` if the whole line is affected.
    pub column: Option<String>,
    /// The value, shortened.
    pub value: Option<String>,
    /// Description of the problem.
    pub why: String,
}

impl Problem {
    /// A problem that affects a whole line.
    fn of_line(line: u64, why: String) -> Self {
        Self { line, column: None, value: None, why }
    }
}

/// Import options. Options that are not given are detected from the file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Kind of the records: `lead`.
    pub kind: String,
    /// Name of the file, for the report.
    pub file: String,
    /// Mapping of columns to fields: `Mail=email`; `Mail=` ignores the column.
    pub map: Vec<String>,
    /// Types of attributes: `employees=number,active=boolean`.
    pub types: Vec<String>,
    /// The delimiter: one character, or `tab`.
    pub delimiter: Option<String>,
    /// The encoding: `windows-1252`.
    pub encoding: Option<String>,
    /// The region of telephone numbers without a country code: `DE`.
    pub region: Option<String>,
    /// The separator before the decimals of numbers: `,` or `.`.
    pub decimal: Option<String>,
    /// The order of day, month and year: `DMY`, `MDY` or `YMD`.
    pub dates: Option<String>,
}

/// Imports records of `kind` from `source`, and calls `progress` after each chunk. Errors:
/// BAD_USER_INPUT for an unusable header; CONFLICT if the import was taken for abandoned; internal if
/// the source can't be read. In the latter two cases earlier chunks are kept.
pub async fn import(
    db: &WriteContext,
    viewer: &Viewer,
    kind: &str,
    file: &str,
    source: impl Read,
    progress: impl FnMut(&import::Model, &[Problem]),
) -> Result<import::Model> {
    let options = Options { kind: kind.to_owned(), file: file.to_owned(), ..Options::default() };
    import_with(db, viewer, &options, source, progress).await
}

/// Imports with options. Errors: those of `import`, and BAD_USER_INPUT for invalid options.
pub async fn import_with(
    db: &WriteContext,
    viewer: &Viewer,
    options: &Options,
    source: impl Read,
    mut progress: impl FnMut(&import::Model, &[Problem]),
) -> Result<import::Model> {
    let kind = kind::check("kind", &options.kind)?;
    let region = options.region.as_deref().map(|region| validate::region("region", region)).transpose()?;
    let mut file = File::open(options, source, &kind)?;
    let mut report = begin(db, viewer, options, &file).await?;
    loop {
        let (mut rows, mut contacts, mut problems, mut size) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut end = None;
        while rows.len() + problems.len() < limits::CHUNK as usize && size < limits::IMPORT_HELD_BYTES {
            let (line, parsed) = match file.next() {
                None => {
                    end = Some(None);
                    break;
                }
                Some(Err(err)) => {
                    end = Some(Some(Err(err)));
                    break;
                }
                Some(Ok(Found::Line(line))) if line.is_blank() => continue,
                Some(Ok(Found::TooLong(line))) => {
                    size += line.size();
                    let why = format!("is longer than {} bytes", limits::IMPORT_LINE_BYTES);
                    (line.line, row::skipped(&file.columns, &line, region.as_deref(), why))
                }
                Some(Ok(Found::Unclosed(opened))) => {
                    let why = format!("the quote opened in line {opened} is not closed: the rest was not read");
                    end = Some(Some(Ok(why.clone())));
                    (opened, Parsed { problems: vec![Problem::of_line(opened, why)], ..Parsed::default() })
                }
                Some(Ok(Found::Line(line))) => {
                    size += line.size();
                    let now = db.now();
                    (line.line, row::read(&mut file.columns, &line, region.as_deref(), now, file.by_address))
                }
            };
            let Parsed { row, opted_out, problems: found } = parsed;
            debug_assert!(row.is_some() || !found.is_empty(), "line {line} is neither taken nor reported");
            report.rows += 1;
            match row {
                Some(row) => {
                    report.fields_left_out += found.len() as i64;
                    rows.push(row);
                }
                None => report.bad += 1,
            }
            contacts.extend(opted_out);
            problems.extend(found);
            if end.is_some() {
                break;
            }
        }
        report = match write::chunk(db, viewer, &report, &rows, &contacts, &mut problems).await {
            Ok(report) => report,
            Err(err) => {
                finish(db, &report, &file, Some("the rest could not be written: see the log")).await?;
                return Err(err);
            }
        };
        progress(&report, &problems);
        match end {
            None => {}
            Some(None) => return finish(db, &report, &file, None).await,
            Some(Some(Ok(why))) => return finish(db, &report, &file, Some(&why)).await,
            Some(Some(Err(err))) => {
                finish(db, &report, &file, Some(&err.to_string())).await?;
                return Err(Error::internal(err));
            }
        }
    }
}

/// A file whose header was read, with its first rows, from which the column types are inferred.
struct File<R> {
    lines: Lines<source::Text<R>>,
    delimiter: u8,
    columns: Vec<Column>,
    warnings: Vec<String>,
    sample: VecDeque<io::Result<Found>>,
    ids: Ids,
    /// True if no column is the external id: records are identified by their mail address.
    by_address: bool,
}

impl<R: Read> File<R> {
    fn open(options: &Options, source: R, kind: &str) -> Result<Self> {
        let (head, mut text) = source::open(source, options.encoding.as_deref())?;
        let end = delimiter::line_end(&head);
        let named = delimiter::named(&head, end);
        let mut first = 1;
        let mut rest = head.as_slice();
        if named.is_some() {
            let mut byte = [0];
            while text.read(&mut byte).map_err(Error::internal)? == 1 && byte[0] != end {}
            first = 2;
            rest = head.splitn(2, |byte| *byte == end).nth(1).unwrap_or_default();
        }
        let delimiter = match (&options.delimiter, named) {
            (Some(given), _) => delimiter::parse(given)?,
            (None, Some(named)) => named,
            (None, None) => delimiter::detect(rest, end, options),
        };
        let mut lines = Lines::new(text, delimiter, end, first);
        let mut warnings = Vec::new();
        let refused = |why: String| -> Error { Refusal::input("header", why).into() };
        let header = loop {
            match lines.next() {
                Ok(Some(Found::Line(line))) if line.is_blank() => {}
                Ok(Some(Found::Line(line))) => break line,
                Ok(Some(Found::TooLong(line))) => {
                    let (line, most) = (line.line, limits::IMPORT_LINE_BYTES);
                    return Err(refused(format!("line {line} is longer than {most} bytes")));
                }
                Ok(Some(Found::Unclosed(line))) => {
                    return Err(refused(format!("the quote opened in line {line} is not closed")));
                }
                Ok(None) => return Err(refused("the file is empty: the column `external_id` is missing".into())),
                Err(err) => return Err(Error::internal(err)),
            }
        };
        if !head.iter().any(|byte| matches!(byte, b'\n' | b'\r')) && head.len() < source::HEAD {
            let message = "the file is one line without a line end, so there are no records below the header. \
                           `curl -d` strips line ends from a file: send it with `--data-binary`";
            return Err(refused(message.into()));
        }
        let columns = columns::read(&header, kind, options, &mut warnings)?;
        let decimal = options.decimal.as_deref().map(numbers::Decimal::parse).transpose()?;
        let order = options.dates.as_deref().map(dates::Order::parse).transpose()?;
        let at = |field| columns.iter().position(|column| column.target == Target::Field(field));
        let (id, address) = (at(Field::ExternalId), at(Field::Email));
        let ids = Ids::of(id.or(address).unwrap_or_default());
        let by_address = id.is_none();
        let mut file = Self { lines, delimiter, columns, warnings, sample: VecDeque::new(), ids, by_address };
        file.look_ahead(decimal, order);
        Ok(file)
    }

    /// Reads the first rows and infers from them the columns' types and the formats of numbers and
    /// dates.
    fn look_ahead(&mut self, decimal: Option<numbers::Decimal>, order: Option<dates::Order>) {
        let (mut rows, mut size, mut more) = (0, 0, true);
        while more && rows < limits::IMPORT_SAMPLE_ROWS && size < limits::IMPORT_HELD_BYTES {
            let Some(found) = self.read() else { break };
            match &found {
                Ok(Found::Line(line) | Found::TooLong(line)) => size += line.size(),
                Ok(Found::Unclosed(_)) | Err(_) => more = false,
            }
            rows += 1;
            self.sample.push_back(found);
        }
        if rows == 0 {
            self.warnings.push("there are no rows below the header".into());
        }
        let rows: Vec<&Line> = self.sample.iter().filter_map(line).collect();
        let count = self.columns.len();
        let rows: Vec<Vec<&str>> = rows
            .into_iter()
            .filter(|row| row.len() == count)
            .map(|row| row.cells().map(|cell| std::str::from_utf8(cell).unwrap_or_default().trim()).collect())
            .collect();
        infer::decimals(&mut self.columns, &rows, decimal, &mut self.warnings);
        infer::date_orders(&mut self.columns, &rows, order);
        infer::attribute_types(&mut self.columns, &rows, &mut self.warnings);
    }

    fn next(&mut self) -> Option<io::Result<Found>> {
        self.sample.pop_front().or_else(|| self.read())
    }

    fn read(&mut self) -> Option<io::Result<Found>> {
        let found = self.lines.next().transpose()?;
        if let Ok(Found::Line(line)) = &found {
            if let Some(opened) = line.swallowed(self.columns.len(), self.delimiter, &self.ids) {
                return Some(Ok(Found::Unclosed(opened)));
            }
            self.ids.note(line);
        }
        Some(found)
    }
}

fn line(found: &io::Result<Found>) -> Option<&Line> {
    match found {
        Ok(Found::Line(line)) => Some(line),
        _ => None,
    }
}

async fn begin<R>(db: &WriteContext, viewer: &Viewer, options: &Options, file: &File<R>) -> Result<import::Model> {
    let columns = ImportColumns(file.columns.iter().map(Column::shown).collect());
    let warnings = ImportWarnings(file.warnings.iter().take(limits::IMPORT_WARNINGS).cloned().collect());
    transact!(db, |tx| {
        let row = import::ActiveModel {
            id: Set(ImportId::new()),
            org_id: Set(viewer.org_id),
            kind: Set(options.kind.clone()),
            file: Set(validate::printable(&options.file)),
            status: Set(ImportStatus::Running),
            rows: Set(0),
            created: Set(0),
            updated: Set(0),
            unchanged: Set(0),
            bad: Set(0),
            fields_left_out: Set(0),
            columns: Set(columns.clone()),
            warnings: Set(warnings.clone()),
            failure: Set(None),
            actor: Set(viewer.actor()),
            created_at: Set(tx.now()),
            ended_at: Set(None),
            alive_at: Set(Some(tx.now())),
        };
        Ok(row.insert(tx.db()).await?)
    })
}

/// Ends the import; as failed, with a reason, if the rest of the file was not read.
async fn finish<R>(
    db: &WriteContext,
    report: &import::Model,
    file: &File<R>,
    failure: Option<&str>,
) -> Result<import::Model> {
    let found = file.columns.iter().filter_map(|column| column.typed.warning(&validate::printable(&column.name)));
    let warnings: Vec<String> = file.warnings.iter().cloned().chain(found).take(limits::IMPORT_WARNINGS).collect();
    transact!(db, |tx| {
        report::lock_running(tx, report).await?;
        let seen = import_seen::Entity::delete_many().filter(import_seen::COLUMN.import_id.eq(report.id));
        seen.exec(tx.db()).await?;
        let mut row = report.clone().into_active_model();
        row.status = Set(if failure.is_some() { ImportStatus::Failed } else { ImportStatus::Completed });
        row.failure = Set(failure.map(validate::printable));
        row.warnings = Set(ImportWarnings(warnings.clone()));
        row.ended_at = Set(Some(tx.now()));
        Ok(row.update(tx.db()).await?)
    })
}
