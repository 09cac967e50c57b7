//! Measures the strategies for assigning positions to the event log: `cargo bench --bench positions
//! -- postgres://…` (an empty database on a server with fsync on). One org; each transaction is one
//! step transition with its event, the engine's smallest transaction.

// A program: printing is its purpose.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its figures and ends where it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement, TransactionTrait};

/// The strategies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// No positions at all: the database's own limit.
    Without,
    /// Each transaction locks the org's counter row last and holds it until the commit is on disk.
    Counter,
    /// One sequencer assigns positions after the commit, in batches, below the snapshot's xmin.
    Sequencer,
}

const SECONDS: u64 = 8;

#[tokio::main]
async fn main() {
    let Some(url) = std::env::args().find(|arg| arg.starts_with("postgres")) else {
        return println!("give the address of an empty database: postgres://…");
    };
    println!(
        "| writers | events per commit | way | commits/s | events/s | told after, p50 | p99 |\n|---|---|---|---|---|---|---|"
    );
    for writers in [1, 8, 32] {
        for events in [1, 64] {
            for way in [Way::Without, Way::Counter, Way::Sequencer] {
                measure(&url, writers, events, way).await;
            }
        }
    }
}

async fn measure(url: &str, writers: u32, events: u32, way: Way) {
    let mut options = ConnectOptions::new(url);
    options.max_connections(writers + 2).sqlx_logging(false);
    let db = Database::connect(options).await.unwrap();
    for sql in [
        "DROP TABLE IF EXISTS b_step, b_event, b_counter",
        "CREATE TABLE b_step (id int PRIMARY KEY, n int NOT NULL)",
        "CREATE TABLE b_counter (org int PRIMARY KEY, position bigint NOT NULL)",
        "CREATE TABLE b_event (id bigserial PRIMARY KEY, org int NOT NULL, position bigint, xid xid8, payload jsonb NOT NULL, at timestamptz NOT NULL, seen timestamptz)",
        "CREATE UNIQUE INDEX ON b_event (org, position)",
        "CREATE INDEX ON b_event (xid, id) WHERE position IS NULL",
        "INSERT INTO b_counter VALUES (1, 0)",
    ] {
        db.execute_unprepared(sql).await.unwrap();
    }
    db.execute_unprepared(&format!("INSERT INTO b_step SELECT g, 0 FROM generate_series(1, {writers}) g"))
        .await
        .unwrap();
    let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 1..=writers {
        let (db, stop, commits) = (db.clone(), stop.clone(), commits.clone());
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                write(&db, writer, events, way).await;
                commits.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let sequencer = (way == Way::Sequencer).then(|| {
        let (db, stop) = (db.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if number(&db).await == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        })
    });
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    stop.store(true, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
    let rate = commits.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    let mut lag = ["–".to_owned(), "–".to_owned()];
    if let Some(sequencer) = sequencer {
        sequencer.await.unwrap();
        let sql = "SELECT percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM seen - at)::float8)::float8[] FROM b_event WHERE seen IS NOT NULL";
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();
        let found: Vec<f64> = row.try_get_by_index(0).unwrap_or_default();
        lag = [0, 1].map(|i| found.get(i).map_or("?".into(), |s| format!("{:.1} ms", s * 1000.0)));
    }
    println!(
        "| {writers} | {events} | {way:?} | {rate:.0} | {:.0} | {} | {} |",
        rate * f64::from(events),
        lag[0],
        lag[1]
    );
    db.close().await.unwrap();
}

async fn write(db: &DatabaseConnection, writer: u32, events: u32, way: Way) {
    let backend = db.get_database_backend();
    let tx = db.begin().await.unwrap();
    let step =
        Statement::from_sql_and_values(backend, "UPDATE b_step SET n = n + 1 WHERE id = $1", [(writer as i32).into()]);
    tx.execute_raw(step).await.unwrap();
    let count = i64::from(events);
    let mut position = None;
    if way == Way::Counter {
        let sql = "UPDATE b_counter SET position = position + $1 WHERE org = 1 RETURNING position";
        let row =
            tx.query_one_raw(Statement::from_sql_and_values(backend, sql, [count.into()])).await.unwrap().unwrap();
        position = Some(row.try_get_by_index::<i64>(0).unwrap() - count);
    }
    let sql = "INSERT INTO b_event (org, position, xid, payload, at) SELECT 1, $1 + g, pg_current_xact_id(), \
               '{\"from\": \"QUEUED\", \"to\": \"IN_PROGRESS\", \"key\": \"send_message\"}', clock_timestamp() FROM generate_series(1, $2) g";
    tx.execute_raw(Statement::from_sql_and_values(backend, sql, [position.into(), count.into()])).await.unwrap();
    tx.commit().await.unwrap();
}

/// Assigns positions to events that no open transaction can precede any more. Returns their number.
async fn number(db: &DatabaseConnection) -> u64 {
    let sql = "WITH open AS (SELECT id, row_number() OVER (ORDER BY xid, id) AS n FROM b_event \
               WHERE position IS NULL AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, id LIMIT 5000), \
               counted AS (UPDATE b_counter SET position = position + (SELECT COUNT(*) FROM open) WHERE org = 1 RETURNING position) \
               UPDATE b_event e SET position = (SELECT position FROM counted) - (SELECT COUNT(*) FROM open) + open.n, \
               seen = clock_timestamp() FROM open WHERE e.id = open.id";
    db.execute_unprepared(sql).await.unwrap().rows_affected()
}
