//! Statements that only read.
//!
//! A request's statements run on lanes: connections shared out in turn, with a row budget and a
//! timeout. A statement whose request is gone is interrupted (SQLite) or cancelled (Postgres)
//! before its lane is free again. All other statements use internal connections (pool `house`), and
//! wait for no request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement, StreamTrait};

use super::lanes::{LanePermit, Lanes};
use super::reachability::Reachability;
use super::row_size::{unparsed, weight};
use crate::kernel::cost::{self, Request};
use crate::kernel::error::Refusal;
use crate::kernel::limits;

/// The connections for reading. Clones share them.
#[derive(Clone, Debug)]
pub struct Reader {
    internal: DatabaseConnection,
    requests: Option<Arc<Requests>>,
}

/// The connections for requests.
#[derive(Debug)]
struct Requests {
    lanes: Lanes,
    all: Vec<ReadConnection>,
    internal: DatabaseConnection,
    reach: Reachability,
}

/// One connection, and the handle that interrupts its statement.
#[derive(Debug)]
pub(super) struct ReadConnection {
    pub(super) connection: DatabaseConnection,
    pub(super) end: Arc<Interrupt>,
}

/// Interrupts the statement of one connection.
#[derive(Debug, Default)]
pub(super) struct Interrupt {
    /// Set to make the progress handler stop the statement (SQLite).
    pub(super) stop: AtomicBool,
    /// Id of the backend process (Postgres); 0 before connecting.
    pub(super) process: AtomicI32,
}

impl Reader {
    /// Uses internal connections only.
    pub(super) fn internal(internal: DatabaseConnection) -> Self {
        Self { internal, requests: None }
    }

    /// Adds lanes for requests.
    pub(super) fn with_lanes(internal: DatabaseConnection, all: Vec<ReadConnection>, reach: Reachability) -> Self {
        let requests = Requests { lanes: Lanes::new(all.len()), all, internal: internal.clone(), reach };
        Self { internal, requests: Some(Arc::new(requests)) }
    }

    /// The internal connections, for reads of several statements in one transaction.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.internal
    }

    /// Total number of lanes, and number taken.
    pub(super) fn lanes(&self) -> (usize, usize) {
        self.requests.as_ref().map_or((0, 0), |requests| (requests.all.len(), requests.lanes.taken()))
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        for lane in self.requests.iter().flat_map(|requests| &requests.all) {
            lane.end.stop.store(true, Ordering::Relaxed);
            let _ = lane.connection.close_by_ref().await;
        }
        let _ = self.internal.close_by_ref().await;
    }

    /// The first rows of a statement, until they take that many bytes; at least one, if there is one.
    pub async fn query_first_rows(&self, statement: Statement, bytes: usize) -> Result<Vec<QueryResult>, DbErr> {
        let Some(lane) = self.lane().await? else { return first_rows(&self.internal, statement, bytes).await };
        let first = async {
            let rows = first_rows(lane.connection()?, statement, bytes).await?;
            rows.iter().try_for_each(|row| lane.charge_row(row))?;
            Ok(rows)
        };
        let done = lane.bounded(first).await;
        lane.release_lane(done)
    }

    async fn lane(&self) -> Result<Option<OnLane>, DbErr> {
        let (Some(requests), Some(request)) = (&self.requests, cost::current()) else { return Ok(None) };
        if let Some(refusal) = request.refusal() {
            return Err(ended_error(refusal));
        }
        let patience = if request.timed { limits::LANE_PATIENCE } else { limits::QUERY_TIME };
        match requests.lanes.acquire(request.owner(), patience).await {
            Ok(permit) => Ok(Some(OnLane { requests: requests.clone(), request, permit: Some(permit) })),
            Err(_) => {
                let message = "the statements of this key, or of its org, have waited too long for a connection";
                Err(ended_error(&request.end(cost::busy(message.to_owned()))))
            }
        }
    }
}

async fn first_rows(
    connection: &DatabaseConnection,
    statement: Statement,
    bytes: usize,
) -> Result<Vec<QueryResult>, DbErr> {
    let mut rows = connection.stream_raw(statement).await?;
    let (mut first, mut taken) = (Vec::new(), 0);
    while taken < bytes
        && let Some(row) = rows.try_next().await?
    {
        taken += unparsed(&row);
        first.push(row);
    }
    Ok(first)
}

/// The error that ends the statement; the request itself reports the rejection to the client.
fn ended_error(refusal: &Refusal) -> DbErr {
    DbErr::Custom(refusal.message.clone())
}

/// A request's statement on its lane.
struct OnLane {
    requests: Arc<Requests>,
    request: Arc<Request>,
    permit: Option<LanePermit>,
}

impl OnLane {
    fn lane(&self) -> Option<&ReadConnection> {
        self.permit.as_ref().map(|permit| &self.requests.all[permit.lane()])
    }

    fn connection(&self) -> Result<&DatabaseConnection, DbErr> {
        self.lane().map(|lane| &lane.connection).ok_or_else(|| DbErr::Custom("the lane is gone".into()))
    }

    /// Charges a row to the request.
    fn charge_row(&self, row: &QueryResult) -> Result<(), DbErr> {
        self.request.read(weight(row)).map_err(|refusal| ended_error(&refusal))
    }

    /// Runs a statement until it is done, its time is over, or its lane is needed.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, DbErr>> + Send) -> Result<T, DbErr> {
        let Some(ended) = self.permit.as_ref().map(LanePermit::ended) else {
            return Err(DbErr::Custom("the lane is gone".into()));
        };
        let work = self.requests.reach.unless_unreachable(work);
        let bounded = async {
            match self.request.timed {
                true => Some(work.await),
                // A timed request has its own timeout; a subscription's item spends most of its
                // time waiting.
                false => tokio::time::timeout(limits::QUERY_TIME, work).await.ok(),
            }
        };
        let done = tokio::select! {
            biased;
            done = bounded => done,
            () = ended => {
                let message = "statements of this org ran long while others waited".to_owned();
                return Err(ended_error(&self.request.end(cost::busy(message))));
            }
        };
        done.unwrap_or_else(|| {
            let message =
                format!("a statement took longer than {} s: request less at once", limits::QUERY_TIME.as_secs());
            Err(ended_error(&self.request.end(Refusal::limit(message))))
        })
    }

    /// Gives the lane back. After a rejection the statement may still run, and `drop` ends it.
    fn release_lane<T>(mut self, done: Result<T, DbErr>) -> Result<T, DbErr> {
        if self.request.refusal().is_none() {
            self.permit = None;
        }
        done
    }
}

impl Drop for OnLane {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let requests = self.requests.clone();
        requests.all[permit.lane()].end.stop.store(true, Ordering::Relaxed);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { requests.end(permit).await });
        }
    }
}

impl Requests {
    /// Ends a connection's statement; its lane is free when it is idle.
    async fn end(&self, permit: LanePermit) {
        let lane = &self.all[permit.lane()];
        let backend = lane.connection.get_database_backend();
        loop {
            let process = lane.end.process.load(Ordering::Relaxed);
            if backend == DbBackend::Postgres && process != 0 {
                let sql = "SELECT pg_cancel_backend($1)";
                let cancel = Statement::from_sql_and_values(backend, sql, [process.into()]);
                if let Err(err) = self.internal.query_one_raw(cancel).await {
                    log_failure!(warn, err, "an abandoned statement could not be cancelled");
                }
            }
            // The pool gets the connection back once the statement is over. The ping itself may be
            // what was cancelled.
            let rests = lane.connection.execute_unprepared("SELECT 1");
            match tokio::time::timeout(Duration::from_secs(1), rests).await {
                Ok(Ok(_)) => break,
                Ok(Err(DbErr::ConnectionAcquire(_) | DbErr::Conn(_))) => break,
                // Not immediately: the database may be unreachable.
                Ok(Err(_)) => tokio::time::sleep(limits::LANE_WAIT).await,
                Err(_) => {}
            }
        }
        lane.end.stop.store(false, Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DbBackend {
        self.internal.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let Some(lane) = self.lane().await? else { return self.internal.execute_raw(statement).await };
        let done = lane.bounded(lane.connection()?.execute_raw(statement)).await;
        lane.release_lane(done)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let Some(lane) = self.lane().await? else { return self.internal.execute_unprepared(sql).await };
        let done = lane.bounded(lane.connection()?.execute_unprepared(sql)).await;
        lane.release_lane(done)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let Some(lane) = self.lane().await? else { return self.internal.query_one_raw(statement).await };
        let done = lane.bounded(lane.connection()?.query_one_raw(statement)).await;
        let done = done.and_then(|row| row.map(|row| lane.charge_row(&row).map(|()| row)).transpose());
        lane.release_lane(done)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let Some(lane) = self.lane().await? else { return self.internal.query_all_raw(statement).await };
        let all = async {
            let mut rows = lane.connection()?.stream_raw(statement).await?;
            let mut all = Vec::new();
            while let Some(row) = rows.try_next().await? {
                lane.charge_row(&row)?;
                all.push(row);
            }
            Ok(all)
        };
        let done = lane.bounded(all).await;
        lane.release_lane(done)
    }
}
