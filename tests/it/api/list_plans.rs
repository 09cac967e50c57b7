//! Every filter and order of every list of the schema is read from an index, in order: the plans of
//! all their statements. (For their speed: `cargo bench --bench speed -- filters`.)

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, Statement, TransactionTrait};
use serde_json::json;

use super::statements::filled;
use crate::harness::Kind;
use crate::harness::lists::Lists;

/// The parts of a plan that read a whole table, or sort rows.
fn faults(kind: Kind, document: &str, plan: &str) -> Vec<String> {
    // What selects nothing, such as an unknown segment, is sorted at no cost.
    if plan.contains("One-Time Filter: false") {
        return Vec::new();
    }
    // SQLite reads a period from its index, and sorts what lies in it; and the few members of an org.
    let period = ["from:", "to:", "since:", "before:", "Than:", "overdue:"].iter().any(|end| document.contains(end));
    let may_sort = kind == Kind::Sqlite && (period || document.starts_with("{ members("));
    let bad = |line: &&str| match kind {
        Kind::Postgres => {
            line.starts_with("Sort ") || line.starts_with("Incremental Sort") || line.contains("Seq Scan on")
        }
        Kind::Sqlite if line.contains("TEMP B-TREE FOR ORDER BY") => !may_sort,
        Kind::Sqlite => {
            // A part of the statement itself, read to its end.
            let of_part = ["SCAN one", "SCAN (", "SCAN CONSTANT"].iter().any(|part| line.starts_with(part));
            line.starts_with("SCAN ") && !line.contains("USING") && !of_part
        }
    };
    let lines = plan.lines().map(|line| line.trim().trim_start_matches("->").trim());
    lines.filter(bad).map(|line| line.split("  (").next().unwrap_or_default().to_owned()).collect()
}

async fn plan(db: &impl ConnectionTrait, statement: &Statement) -> String {
    let (explain, column) = match db.get_database_backend() {
        sea_orm::DbBackend::Postgres => ("EXPLAIN", 0),
        _ => ("EXPLAIN QUERY PLAN", 3),
    };
    let statement = Statement { sql: format!("{explain} {}", statement.sql), ..statement.clone() };
    let rows = db.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index::<String>(column).unwrap()).collect::<Vec<_>>().join("\n")
}

both! {
    async fn every_filter_and_order_is_read_from_an_index(kind) {
        let world = filled(kind, 2).await;
        let lists = Lists::read(async |query: String| world.ask(&query, json!({})).await).await;
        let tx = world.db.read().connection().begin().await.unwrap();
        if kind == Kind::Postgres {
            // The planner would read a few rows as a whole and sort them, unless that is disabled.
            tx.execute_unprepared("SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_incremental_sort = off").await.unwrap();
        }
        let (mut looked_at, mut found) = (BTreeSet::new(), BTreeMap::new());
        world.db.keep_statements();
        for list in &lists.all {
            for document in lists.documents(list) {
                world.db.take_statements();
                // Some are refused, such as a kind of event that cannot occur.
                world.post(&document, json!({})).await;
                for statement in world.db.take_statements() {
                    if statement.sql.starts_with("SELECT") && statement.sql.contains("ORDER BY") && looked_at.insert(statement.sql.clone()) {
                        for fault in faults(kind, &document, &plan(&tx, &statement).await) {
                            found.entry((list.name.clone(), fault)).or_insert_with(Vec::new).push((document.clone(), statement.sql.clone()));
                        }
                    }
                }
            }
        }
        tx.rollback().await.unwrap();
        assert!(looked_at.len() > 500, "{} statements", looked_at.len());
        let told = found.iter().map(|((list, fault), all): (_, &Vec<_>)| {
            format!("{list}: {fault}: {} statements, e.g. {}\n    {}", all.len(), all[0].0, all[0].1)
        });
        assert!(found.is_empty(), "{}", told.collect::<Vec<_>>().join("\n"));
        world.drop_unchecked().await;
    }
}
