//! The connection pools: for requests' writes, for the engine, for authentication and health, and
//! lanes for requests' reads. None of the first three waits for the last.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sea_orm::sqlx::{self, SqliteConnection};
use sea_orm::{ConnectOptions, Database, DatabaseConnection};

use super::dialect::Dialect;
use super::file::{self, lock, sqlite};
use super::postgres;
use super::reachability::Reachability;
use super::reader::{Interrupt, ReadConnection, Reader};
use super::statements::Statements;
use crate::kernel::error::Result;
use crate::kernel::limits;

/// Timeout of authentication and health checks for a connection.
const FRONT_PATIENCE: Duration = Duration::from_secs(5);

/// All connections of a database.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    /// Writes of requests.
    pub(super) writer: DatabaseConnection,
    /// Writes of the engine; on SQLite the same connection as `writer`.
    pub(super) engine: DatabaseConnection,
    /// Authentication and health checks.
    pub(super) front: DatabaseConnection,
    /// Reads.
    pub(super) reader: Reader,
    /// Lock on the SQLite file, which only one process may hold.
    _lock: Option<Arc<std::fs::File>>,
}

impl Pools {
    /// Opens the pools, for writing or read-only beside another process.
    pub(super) async fn open(
        url: &str,
        dialect: Dialect,
        to_write: bool,
        statements: &Arc<Statements>,
        reach: &Reachability,
    ) -> Result<Self> {
        match dialect {
            Dialect::Sqlite => Self::of_file(url, to_write, statements).await,
            Dialect::Postgres => Self::of_server(url, to_write, statements, reach).await,
        }
    }

    async fn of_file(url: &str, to_write: bool, statements: &Arc<Statements>) -> Result<Self> {
        let path = Path::new(url.trim_start_matches("sqlite://").split('?').next().unwrap_or_default());
        if !to_write {
            file::check_readable(path)?;
            let one = connect(sqlite(url, 1, true), statements).await?;
            return Ok(Self::read_only(one));
        }
        let lock = Arc::new(lock(path)?);
        let writer = connect(sqlite(url, 1, false), statements).await?;
        let internal = connect(sqlite(url, 4, true), statements).await?;
        let front = connect(sqlite(url, 2, true), statements).await?;
        let mut lanes = Vec::new();
        for _ in 0..limits::LANES_SQLITE {
            let end: Arc<Interrupt> = Arc::default();
            let mut options = sqlite(url, 1, true);
            let stop = end.clone();
            options.map_sqlx_sqlite_pool_opts(move |options| {
                let stop = stop.clone();
                options.after_connect(move |connection, _| Box::pin(interruptible(connection, stop.clone())))
            });
            lanes.push(ReadConnection { connection: connect(options, statements).await?, end });
        }
        let (reader, engine) = (Reader::with_lanes(internal, lanes, Reachability::default()), writer.clone());
        Ok(Self { writer, engine, front, reader, _lock: Some(lock) })
    }

    async fn of_server(url: &str, to_write: bool, statements: &Arc<Statements>, reach: &Reachability) -> Result<Self> {
        postgres::reach(url, postgres::PATIENCE).await?;
        if !to_write {
            return Ok(Self::read_only(connect(postgres::options(url, 2, None), statements).await?));
        }
        let (write, internal) = (limits::WRITE_STATEMENT, limits::INTERNAL_STATEMENT);
        // A request fails after a while without a connection; the engine waits as long as it takes.
        let with_acquire_timeout = |mut options: ConnectOptions, patience: Duration| {
            options.acquire_timeout(patience);
            options
        };
        let writer = with_acquire_timeout(postgres::options(url, 8, Some(write)), limits::LANE_PATIENCE);
        let writer = connect(writer, statements).await?;
        let engine = connect(postgres::options(url, 12, Some(internal)), statements).await?;
        let front = with_acquire_timeout(postgres::options(url, 2, Some(limits::READY_TIME)), FRONT_PATIENCE);
        let front = connect(front, statements).await?;
        let mut lanes = Vec::new();
        for _ in 0..limits::LANES_POSTGRES {
            let end: Arc<Interrupt> = Arc::default();
            let most = limits::QUERY_TIME + Duration::from_secs(5);
            let mut options = with_acquire_timeout(postgres::options(url, 1, Some(most)), limits::LANE_PATIENCE);
            let process = end.clone();
            options.connect_lazy(true).map_sqlx_postgres_pool_opts(move |options| {
                let process = process.clone();
                options.after_connect(move |connection, _| {
                    let process = process.clone();
                    Box::pin(async move {
                        let id: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await?;
                        process.process.store(id, Ordering::Relaxed);
                        Ok(())
                    })
                })
            });
            lanes.push(ReadConnection { connection: connect(options, statements).await?, end });
        }
        let reader = Reader::with_lanes(engine.clone(), lanes, reach.clone());
        Ok(Self { writer, engine, front, reader, _lock: None })
    }

    fn read_only(one: DatabaseConnection) -> Self {
        Self {
            writer: one.clone(),
            engine: one.clone(),
            front: one.clone(),
            reader: Reader::internal(one),
            _lock: None,
        }
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        self.reader.close().await;
        for pool in [&self.writer, &self.engine, &self.front] {
            let _ = pool.close_by_ref().await;
        }
    }
}

async fn connect(options: ConnectOptions, statements: &Arc<Statements>) -> Result<DatabaseConnection> {
    let mut connection = Database::connect(options).await?;
    let statements = statements.clone();
    connection.set_metric_callback(move |info| statements.sent(info.statement));
    Ok(connection)
}

/// Makes a connection check periodically if its statement must stop.
async fn interruptible(connection: &mut SqliteConnection, end: Arc<Interrupt>) -> std::result::Result<(), sqlx::Error> {
    let continue_statement = move || !end.stop.load(Ordering::Relaxed);
    connection.lock_handle().await?.set_progress_handler(limits::PROGRESS_STEPS, continue_statement);
    Ok(())
}
