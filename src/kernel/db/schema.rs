//! Compares a database's schema with the one that this program knows: missing, older, same or
//! newer.

use std::collections::BTreeSet;

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DbErr, RuntimeErr, Statement};

use super::{Db, dialect::Dialect, postgres};
use crate::kernel::error::{Error, Result};

/// The result of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Schema {
    /// The database has no schema.
    Missing,
    /// Migrations are pending; the last one that was applied.
    Older(String),
    /// The schema is the one that this program knows.
    Same,
    /// The schema has a migration that this program does not know.
    Newer(String),
}

impl Db {
    /// Rejects a database whose schema differs from this program's. Errors: internal, with the
    /// remedy.
    pub async fn must_match_schema(&self) -> Result<()> {
        match self.schema().await? {
            Schema::Older(last) => Err(Error::internal(format!(
                "the schema of {} is older than this program (its last migration is {last}): back it up, then run \
                 `sortie migrate`",
                self.display_name()
            ))),
            Schema::Missing => Err(self.no_schema()),
            found => self.not_newer(found),
        }
    }

    /// Lets a read-only connection begin transactions that are rolled back; on SQLite beside a
    /// server, which waits for them as for its own.
    pub async fn allow_dry_run(&self) -> Result<()> {
        if self.dialect == Dialect::Sqlite {
            self.pools.writer.execute_unprepared("PRAGMA query_only = OFF").await?;
        }
        Ok(())
    }

    /// Rejects a database without a schema, or with that of a newer version. Errors: internal, with
    /// the remedy.
    pub async fn must_have_schema(&self) -> Result<()> {
        match self.schema().await? {
            Schema::Missing => Err(self.no_schema()),
            found => self.not_newer(found),
        }
    }

    /// Rejects a database with the schema of a newer version.
    pub(super) async fn must_not_be_newer(&self) -> Result<()> {
        let found = self.schema().await?;
        self.not_newer(found)
    }

    fn not_newer(&self, found: Schema) -> Result<()> {
        let Schema::Newer(unknown) = found else { return Ok(()) };
        Err(Error::internal(format!(
            "{} was made by a newer version of sortie: this one does not know its migration {unknown}. Use that version, or \
             restore a backup from before the upgrade",
            self.display_name()
        )))
    }

    fn no_schema(&self) -> Error {
        Error::internal(format!(
            "{} is empty: `sortie migrate`, `sortie serve` or `sortie demo` makes the schema in it",
            self.display_name()
        ))
    }

    /// The database for an operator: a file, or a server and a database name; never a password.
    pub fn display_name(&self) -> String {
        display_name(&self.url)
    }

    async fn schema(&self) -> Result<Schema> {
        let db = &self.pools.engine;
        let rows = db.query_all_raw(Statement::from_string(
            db.get_database_backend(),
            "SELECT version FROM seaql_migrations ORDER BY version",
        ));
        let rows = match rows.await {
            Ok(rows) => rows,
            Err(err) => {
                return match code(&err).as_deref() {
                    // SQLite reports a missing table only by the message.
                    Some("42P01") => Ok(Schema::Missing),
                    Some("1") if err.to_string().contains("no such table") => Ok(Schema::Missing),
                    _ => Err(unopened(&self.url, err.into())),
                };
            }
        };
        let applied: BTreeSet<String> =
            rows.iter().map(|row| row.try_get_by_index(0)).collect::<std::result::Result<_, DbErr>>()?;
        let known: BTreeSet<String> = Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
        Ok(match (applied.difference(&known).last(), known.is_subset(&applied)) {
            _ if applied.is_empty() => Schema::Missing,
            (Some(unknown), _) => Schema::Newer(unknown.clone()),
            (None, true) => Schema::Same,
            (None, false) => Schema::Older(applied.last().cloned().unwrap_or_default()),
        })
    }

    /// The error of a failed migration; with the remedy if rights are missing.
    pub(super) fn unmigrated(&self, err: DbErr) -> Error {
        match (self.dialect, code(&err).as_deref()) {
            (Dialect::Postgres, Some("42501")) => postgres::may_not_create(&self.url, &err),
            _ => err.into(),
        }
    }
}

/// The database of a URL, for an operator.
pub fn display_name(url: &str) -> String {
    match url.strip_prefix("sqlite:") {
        Some(path) => path.trim_start_matches("//").split('?').next().unwrap_or_default().to_owned(),
        None => format!("{}, database {}", postgres::server(url), postgres::database(url)),
    }
}

/// The error of a failed open; says so if the file is not a database.
pub(super) fn unopened(url: &str, err: Error) -> Error {
    match err.db().and_then(code).as_deref() {
        Some("26") => Error::internal(format!("{} is not an SQLite database", display_name(url))),
        _ => err,
    }
}

fn code(err: &DbErr) -> Option<String> {
    let inner = match err {
        DbErr::Conn(RuntimeErr::SqlxError(inner))
        | DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        _ => return None,
    };
    Some(inner.as_database_error()?.code()?.into_owned())
}
