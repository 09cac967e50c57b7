//! Database migrations, up and down. CHECKs list the values of the state machines' statuses.
//!
//! Migrations are SQL, one text for both databases; placeholders such as `{uuid}` stand for types
//! that differ.

pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseBackend, Statement};

mod m0001_begin;
mod m0002_trust;
mod m0003_positions;
mod m0004_door;
mod m0005_orders;
mod m0006_brief;
mod m0007_hot;
mod m0008_hierarchy;
mod m0009_guided;
mod m0010_folded;
mod m0011_stuck;
mod m0012_recipients;
mod m0013_times;
mod m0014_reasons;
mod m0015_import;
mod m0016_reasons;
mod m0018_import_alive;
mod m0019_composed;
mod m0020_audit;
mod m0022_lists;
mod m0023_shares;
mod m0024_early;
mod m0025_turns;
mod m0026_meetings;
mod m0027_queued_steps;
mod m0028_event_order;
mod m0029_step_lists;
mod m0030_follow;
mod m0031_looking_back;
mod m0032_held_sweeps;
mod m0033_key_details;
mod m0034_executor_ids;
mod m0035_organizer;
mod m0036_kept_records;
mod m0037_campaign_records;
mod m0038_bulk_actions;
mod m0039_schedule_bounds;
mod m0040_reply_status;
mod m0041_log_times;
mod m0042_status_orders;
mod m0043_saved_views;
mod m0044_run_notes;
mod m0045_erasure;
mod m0046_campaign_archive;
mod m0047_work_list;
// There is no m0048.
mod m0049_record_links;
mod m0050_more_bulk_verbs;
mod m0051_past_occurrences;
mod m0052_campaign_times;
mod m0053_numbered_events;
mod m0054_search_and_due;

/// All migrations, in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_begin::Migration),
            Box::new(m0002_trust::Migration),
            Box::new(m0003_positions::Migration),
            Box::new(m0004_door::Migration),
            Box::new(m0005_orders::Migration),
            Box::new(m0006_brief::Migration),
            Box::new(m0007_hot::Migration),
            Box::new(m0008_hierarchy::Migration),
            Box::new(m0009_guided::Migration),
            Box::new(m0010_folded::Migration),
            Box::new(m0011_stuck::Migration),
            Box::new(m0012_recipients::Migration),
            Box::new(m0013_times::Migration),
            Box::new(m0014_reasons::Migration),
            Box::new(m0015_import::Migration),
            Box::new(m0016_reasons::Migration),
            Box::new(m0018_import_alive::Migration),
            Box::new(m0019_composed::Migration),
            Box::new(m0020_audit::Migration),
            Box::new(m0022_lists::Migration),
            Box::new(m0023_shares::Migration),
            Box::new(m0024_early::Migration),
            Box::new(m0025_turns::Migration),
            Box::new(m0026_meetings::Migration),
            Box::new(m0027_queued_steps::Migration),
            Box::new(m0028_event_order::Migration),
            Box::new(m0029_step_lists::Migration),
            Box::new(m0030_follow::Migration),
            Box::new(m0031_looking_back::Migration),
            Box::new(m0032_held_sweeps::Migration),
            Box::new(m0033_key_details::Migration),
            Box::new(m0034_executor_ids::Migration),
            Box::new(m0035_organizer::Migration),
            Box::new(m0036_kept_records::Migration),
            Box::new(m0037_campaign_records::Migration),
            Box::new(m0038_bulk_actions::Migration),
            Box::new(m0039_schedule_bounds::Migration),
            Box::new(m0040_reply_status::Migration),
            Box::new(m0041_log_times::Migration),
            Box::new(m0042_status_orders::Migration),
            Box::new(m0043_saved_views::Migration),
            Box::new(m0044_run_notes::Migration),
            Box::new(m0045_erasure::Migration),
            Box::new(m0046_campaign_archive::Migration),
            Box::new(m0047_work_list::Migration),
            Box::new(m0049_record_links::Migration),
            Box::new(m0050_more_bulk_verbs::Migration),
            Box::new(m0051_past_occurrences::Migration),
            Box::new(m0052_campaign_times::Migration),
            Box::new(m0053_numbered_events::Migration),
            Box::new(m0054_search_and_due::Migration),
        ]
    }
}

/// The types and values that differ between the databases.
fn types(backend: DatabaseBackend) -> &'static [(&'static str, &'static str)] {
    match backend {
        DatabaseBackend::Postgres => &[
            ("{uuid}", "uuid"),
            ("{text}", "text COLLATE \"C\""),
            ("{json}", "jsonb"),
            ("{time}", "timestamptz"),
            ("{int}", "integer"),
            ("{long}", "bigint"),
            ("{bool}", "boolean"),
            ("{after_all}", "'infinity'::timestamptz"),
            ("{before_all}", "'-infinity'::timestamptz"),
        ],
        _ => &[
            ("{uuid}", "blob"),
            ("{text}", "text"),
            ("{json}", "text"),
            ("{time}", "text"),
            ("{int}", "integer"),
            ("{long}", "integer"),
            ("{bool}", "boolean"),
            ("{after_all}", "'~'"),
            ("{before_all}", "''"),
        ],
    }
}

fn typed(manager: &SchemaManager<'_>, sql: &str) -> String {
    let mut sql = sql.to_owned();
    for (name, sql_type) in types(manager.get_database_backend()) {
        sql = sql.replace(name, sql_type);
    }
    sql
}

/// Runs statements, each ended by a line that ends in `;`. Outside a transaction every statement
/// must be repeatable, because a crash may leave a migration half applied on SQLite.
pub(crate) async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    for statement in typed(manager, sql).split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
        manager.get_connection().execute_unprepared(statement).await?;
        if let Some(hook) = AFTER_STATEMENT.get() {
            hook();
        }
    }
    Ok(())
}

static AFTER_STATEMENT: std::sync::OnceLock<fn()> = std::sync::OnceLock::new();

/// Registers a hook that runs after each statement of a migration; for tests that end the process
/// there.
pub fn after_each_statement(hook: fn()) {
    let _ = AFTER_STATEMENT.set(hook);
}

/// Rebuilds a table on SQLite, which can't alter constraints: replaces `from` by `to` in its CREATE
/// statement, and keeps its name, rows and indexes. In a transaction only; foreign keys to the
/// table are checked at its end.
pub(crate) async fn rebuild_table(manager: &SchemaManager<'_>, table: &str, from: &str, to: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let sql = "SELECT sql FROM sqlite_master WHERE tbl_name = $1 AND sql IS NOT NULL ORDER BY type = 'index'";
    let statement = Statement::from_sql_and_values(DatabaseBackend::Sqlite, sql, [table.into()]);
    let mut texts = Vec::new();
    for row in db.query_all_raw(statement).await? {
        texts.push(row.try_get_by_index::<String>(0)?);
    }
    let (from, to) = (typed(manager, from), typed(manager, to));
    match texts.first_mut() {
        Some(text) if text.contains(&from) => *text = text.replace(&from, &to),
        _ => return Err(DbErr::Migration(format!("the table {table} has no `{from}` to change"))),
    }
    db.execute_unprepared("PRAGMA defer_foreign_keys = ON").await?;
    db.execute_unprepared(&format!("CREATE TEMP TABLE kept AS SELECT * FROM {table}")).await?;
    db.execute_unprepared(&format!("DROP TABLE {table}")).await?;
    // The rows are inserted before the indexes are created.
    db.execute_unprepared(&texts.remove(0)).await?;
    db.execute_unprepared(&format!("INSERT INTO {table} SELECT * FROM temp.kept")).await?;
    db.execute_unprepared("DROP TABLE temp.kept").await?;
    for index in texts {
        db.execute_unprepared(&index).await?;
    }
    Ok(())
}

/// Changes the values that a column's CHECK allows, on Postgres.
pub(crate) async fn replace_check_values(
    manager: &SchemaManager<'_>,
    table: &str,
    column: &str,
    from: &str,
    to: &str,
) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let name = format!("{table}_{column}_check");
    let sql = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1";
    let statement = Statement::from_sql_and_values(DatabaseBackend::Postgres, sql, [name.as_str().into()]);
    let found = db.query_one_raw(statement).await?.map(|row| row.try_get_by_index::<String>(0)).transpose()?;
    // Postgres prints the list as an array of casts; only the quoted parts are values.
    let words = |text: &str| -> Vec<String> { text.split('\'').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut values = words(&found.ok_or_else(|| DbErr::Migration(format!("there is no constraint {name}")))?);
    let (from, to) = (words(from), words(to));
    values.retain(|word| to.contains(word) || !from.contains(word));
    values.extend(to.into_iter().filter(|word| !from.contains(word)));
    let values: Vec<String> = values.iter().map(|word| format!("'{word}'")).collect();
    let sql = format!(
        "ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} CHECK ({column} IN ({}))",
        values.join(", ")
    );
    db.execute_unprepared(&sql).await?;
    Ok(())
}
