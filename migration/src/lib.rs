//! The schema of the database, step by step, up and down. CHECKs restate the laws' vocabularies.
//!
//! The steps are SQL, one text for both databases: `{uuid}` and its like stand for the types that differ.

pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

mod m0001_begin;

/// All steps, in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_begin::Migration)]
    }
}

/// Runs statements, each ended by a line that ends in `;`.
/// Every statement must bear being run twice: a crash may leave a step half done on SQLite.
pub(crate) async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let types: &[(&str, &str)] = match manager.get_database_backend() {
        DatabaseBackend::Postgres => &[
            ("{uuid}", "uuid"),
            ("{text}", "text COLLATE \"C\""),
            ("{json}", "jsonb"),
            ("{time}", "timestamptz"),
            ("{int}", "integer"),
            ("{long}", "bigint"),
            ("{bool}", "boolean"),
        ],
        _ => &[
            ("{uuid}", "blob"),
            ("{text}", "text"),
            ("{json}", "text"),
            ("{time}", "text"),
            ("{int}", "integer"),
            ("{long}", "integer"),
            ("{bool}", "boolean"),
        ],
    };
    let mut sql = sql.to_owned();
    for (name, sql_type) in types {
        sql = sql.replace(name, sql_type);
    }
    for statement in sql.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
        manager.get_connection().execute_unprepared(statement).await?;
    }
    Ok(())
}
