//! `sortie import`: imports a file into the database and prints the report.

use std::io::Read;
use std::path::Path;

use serde_json::json;

use crate::domain::import::{Options, Problem, import_with};
use crate::kernel::config::Import;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::terminal::{err, out};
use crate::kernel::viewer::Viewer;

/// Opens the file and imports it; returns true if every row and field was imported.
pub async fn import(db: &Db, viewer: &Viewer, given: &Import) -> Result<bool> {
    let file = given.file.as_path();
    let file_error = |reason: &dyn std::fmt::Display| Error::internal(format!("{}: {reason}", file.display()));
    let stdin = file == Path::new("-");
    let source: Box<dyn Read> = if stdin {
        Box::new(std::io::stdin().lock())
    } else if file.is_dir() {
        return Err(file_error(&"is a folder: give a file, or `-` for standard input"));
    } else {
        Box::new(std::fs::File::open(file).map_err(|err| file_error(&err))?)
    };
    let name = if stdin { "stdin".into() } else { file.file_name().unwrap_or_default().to_string_lossy().into_owned() };
    let options = Options {
        kind: given.kind.clone(),
        file: name,
        map: given.map.clone(),
        types: given.types.clone(),
        delimiter: given.delimiter.clone(),
        encoding: given.encoding.clone(),
        decimal: given.decimal.clone(),
        dates: given.dates.clone(),
        region: given.region.clone().or_else(|| given.config.phone_region.clone()),
    };
    let input = json!({ "kind": options.kind, "file": options.file });
    let read = async |db: WriteContext| {
        import_with(&db, viewer, &options, std::io::BufReader::new(source), |report, problems| {
            problems.iter().for_each(print_problem);
            err(format_args!("{} rows read …\n", report.rows));
        })
        .await
    };
    let report = super::audited(db, viewer, "importRecords", &input, read).await?;
    let each = report.columns.0.iter().map(|column| {
        let becomes = column.becomes.as_deref().unwrap_or("not read");
        let kind = column.kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
        if becomes == column.name { format!("{becomes}{kind}") } else { format!("{} → {becomes}{kind}", column.name) }
    });
    let columns: Vec<String> = each.collect();
    out(format_args!("columns: {}\n", columns.join(", ")));
    for warning in &report.warnings.0 {
        out(format_args!("warning: {warning}\n"));
    }
    out(format_args!(
        "{} rows: {} created, {} updated, {} unchanged, {} left out; {} fields left out.\n",
        report.rows, report.created, report.updated, report.unchanged, report.bad, report.fields_left_out
    ));
    if let Some(failure) = &report.failure {
        err(format_args!("sortie: {failure}\n"));
    }
    Ok(report.failure.is_none() && report.bad == 0 && report.fields_left_out == 0)
}

fn print_problem(problem: &Problem) {
    let column = problem.column.as_deref().map(|column| format!(", column {column}")).unwrap_or_default();
    // Some messages quote the value themselves.
    let value = problem.value.as_deref().filter(|_| !problem.why.starts_with('`'));
    let value = value.map(|value| format!(" `{value}`")).unwrap_or_default();
    out(format_args!("line {}{column}:{value} {}\n", problem.line, problem.why));
}
