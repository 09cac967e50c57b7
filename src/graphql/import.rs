//! Imports: reports of the imported CSV files.

use async_graphql::{Context, ID, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::ImportId;
use entity::import::ImportStatus;

use super::{Actor, db, viewer};
use crate::domain::import::report as noun;
use crate::graphql::selection::RowFields;
use crate::kernel::limits;

/// The import of a file of records.
pub struct Import(pub entity::import::Model);

impl RowFields for Import {}

/// A problem with one line of the file.
#[derive(SimpleObject)]
pub struct ImportProblem {
    /// 1, 2, 3 … within the import; pass the last one as `after` to read the next ones.
    number: i64,
    /// Line of the file, starting at 1; the header is line 1.
    line: i64,
    /// Name of the column; null if the whole line is affected.
    column: Option<String>,
    /// The rejected value, shortened; null if the whole line is affected.
    value: Option<String>,
    /// Description of the problem.
    why: String,
}

/// A column of an imported file, and how it was read.
#[derive(SimpleObject)]
pub struct ImportColumn {
    /// The column's name in the file; empty if it has none.
    name: String,
    /// The field that it was read into, e.g. `email`, or the attribute, e.g. `attributes.company`;
    /// null for an ignored column.
    becomes: Option<String>,
    /// Type of an attribute: `text`, `number`, `boolean` or `date`; null for other columns.
    #[graphql(name = "type")]
    kind: Option<String>,
}

/// The import of a file of records.
#[Object]
impl Import {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The kind of the imported records.
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Name of the file.
    async fn file(&self) -> &str {
        &self.0.file
    }

    /// Current status.
    async fn status(&self) -> ImportStatus {
        self.0.status
    }

    /// Number of rows read so far, without the header.
    async fn rows(&self) -> i64 {
        self.0.rows
    }

    /// Number of created records.
    async fn created(&self) -> i64 {
        self.0.created
    }

    /// Number of changed records.
    async fn updated(&self) -> i64 {
        self.0.updated
    }

    /// Number of records that already existed with the same values.
    async fn unchanged(&self) -> i64 {
        self.0.unchanged
    }

    /// Number of rejected rows.
    async fn bad(&self) -> i64 {
        self.0.bad
    }

    /// Number of values, or parts of values, that were skipped in rows that were imported. An
    /// existing record kept its value.
    async fn fields_left_out(&self) -> i64 {
        self.0.fields_left_out
    }

    /// The file's columns in their order; empty for imports that are older than this report.
    async fn columns(&self) -> Vec<ImportColumn> {
        let each = |column: &entity::import::ImportColumn| ImportColumn {
            name: column.name.clone(),
            becomes: column.becomes.clone(),
            kind: column.kind.clone(),
        };
        self.0.columns.0.iter().map(each).collect()
    }

    /// Warnings about the whole file, at most 100: columns with a name close to a known one, types
    /// that did not hold for all values.
    async fn warnings(&self) -> &[String] {
        &self.0.warnings.0
    }

    /// The problems in order of lines, after the problem with the number `after`; at most 500 per
    /// request.
    async fn problems(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Number of the problem behind which the page begins. Null: the first one.")] after: Option<
            i64,
        >,
    ) -> Result<Vec<ImportProblem>> {
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

    /// Reason for which it stopped early; null if it did not.
    async fn failure(&self) -> Option<&str> {
        self.0.failure.as_deref()
    }

    /// The actor that imported the file.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Start time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// End time; null while it is running.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }
}

definition!(ImportQuery: import, imports of Import, ImportId, Imports);
