//! The reports of imports.

use async_graphql::{Context, ID, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::ImportId;
use entity::import::ImportStatus;

use super::{Actor, db, viewer};
use crate::domain::audience::record::report as noun;
use crate::kernel::limits;

/// One file of records that went in.
pub struct Import(pub entity::import::Model);

/// What was wrong with one line of a file.
#[derive(SimpleObject)]
pub struct ImportProblem {
    /// 1, 2, 3 … within the import; pass the last one as `after` to read on.
    number: i64,
    /// The line of the file, from 1; the header is line 1.
    line: i64,
    /// The column; null where it is about the line as a whole.
    column: Option<String>,
    /// The value as it stood there, shortened; null where it is about the line as a whole.
    value: Option<String>,
    /// What is wrong with it.
    why: String,
}

/// A column of an imported file, as it was read.
#[derive(SimpleObject)]
pub struct ImportColumn {
    /// The column's name in the file; empty for a column without one.
    name: String,
    /// The field that it became, as `email`, or an attribute, as `attributes.company`; null for a column that was not
    /// read.
    becomes: Option<String>,
    /// The type of an attribute: `text`, `number`, `boolean` or `date`; null for other columns.
    #[graphql(name = "type")]
    kind: Option<String>,
}

/// One file of records that went in.
#[Object]
impl Import {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The kind of its records.
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The file's name.
    async fn file(&self) -> &str {
        &self.0.file
    }

    /// Where it stands.
    async fn status(&self) -> ImportStatus {
        self.0.status
    }

    /// Rows read so far, without the header.
    async fn rows(&self) -> i64 {
        self.0.rows
    }

    /// New records.
    async fn created(&self) -> i64 {
        self.0.created
    }

    /// Records that changed.
    async fn updated(&self) -> i64 {
        self.0.updated
    }

    /// Records that were there already, just so.
    async fn unchanged(&self) -> i64 {
        self.0.unchanged
    }

    /// Rows left out.
    async fn bad(&self) -> i64 {
        self.0.bad
    }

    /// Values, or parts of values, that were left out of rows which went in. A record that was known kept what it had.
    async fn fields_left_out(&self) -> i64 {
        self.0.fields_left_out
    }

    /// The file's columns in its order, as they were read; empty for imports before this was kept.
    async fn columns(&self) -> Vec<ImportColumn> {
        let each = |column: &entity::import::ImportColumn| ImportColumn {
            name: column.name.clone(),
            becomes: column.becomes.clone(),
            kind: column.kind.clone(),
        };
        self.0.columns.0.iter().map(each).collect()
    }

    /// What seems wrong with the file as a whole: columns that are close to a known one, types that did not hold; at most
    /// 100.
    async fn warnings(&self) -> &[String] {
        &self.0.warnings.0
    }

    /// What was wrong, in order of lines, from behind a problem's number on; at most 500 at once.
    async fn problems(&self, ctx: &Context<'_>, after: Option<i64>) -> Result<Vec<ImportProblem>> {
        let found =
            noun::problems(db(ctx), viewer(ctx), self.0.id, after.unwrap_or(0), limits::PAGE_MAX as u64).await?;
        let each = found.into_iter().map(|row| ImportProblem {
            number: row.number,
            line: row.line,
            column: row.column_name,
            value: row.value,
            why: row.why,
        });
        Ok(each.collect())
    }

    /// Why it stopped; null where it did not.
    async fn failure(&self) -> Option<&str> {
        self.0.failure.as_deref()
    }

    /// Who imported it.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// When it began.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When it ended; null before.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }
}

definition!(ImportQuery: import, imports of Import, ImportId, Imports);
