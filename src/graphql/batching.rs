//! Batches the loads of a response: they are collected until the executor can't proceed, then each
//! loader runs one query. A fixed delay is not used: within it a large response may or may not have
//! been traversed.
//!
//! The task that polls the executor also polls the loads, alternately, so that they start and
//! deliver rows while the executor waits.

use std::any::TypeId;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_graphql::{Request, Response};
use futures_util::future::poll_fn;
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use futures_util::task::{ArcWake, AtomicWaker, waker_ref};
use futures_util::{Stream, StreamExt};

use super::Schema;
use super::batch_loader::{Load, Loaders};
use super::document::{AnswerShape, checked};
use super::loader::Rows;

/// The pending loads of one response.
#[derive(Clone, Default)]
pub struct LoadBatch(Arc<PendingLoads>);

#[derive(Default)]
struct PendingLoads {
    /// Set when `drive` polls the loads.
    driven: AtomicBool,
    loads: Mutex<Vec<Load>>,
    /// The executor's own waker.
    executor: Arc<Executor>,
}

/// The executor's waker. It records a wake-up, since the executor sometimes yields although it
/// could proceed.
#[derive(Default)]
struct Executor {
    woken: AtomicBool,
    driver: AtomicWaker,
}

impl ArcWake for Executor {
    fn wake_by_ref(executor: &Arc<Self>) {
        executor.woken.store(true, Ordering::SeqCst);
        executor.driver.wake();
    }
}

impl LoadBatch {
    /// Returns the request's own `LoadBatch`, or a new one if it carries none.
    fn of(request: &Request) -> Self {
        let carried = request.data.get(&TypeId::of::<Self>()).and_then(|turn| turn.downcast_ref::<Self>());
        let turn = carried.cloned().unwrap_or_default();
        turn.0.driven.store(true, Ordering::Relaxed);
        turn
    }

    /// Creates loaders whose loads are polled by `drive`, or spawned on the runtime if nothing
    /// drives them.
    pub fn loaders(&self, rows: Rows) -> Loaders {
        let pending = self.0.clone();
        let spawn = move |load: Load| {
            if pending.driven.load(Ordering::Relaxed) {
                pending.loads.lock().unwrap_or_else(PoisonError::into_inner).push(load);
            } else {
                tokio::spawn(async move {
                    // Whoever is about to ask for further keys does so first.
                    tokio::task::yield_now().await;
                    load.await;
                });
            }
        };
        Loaders::new(rows, spawn)
    }

    fn take_pending(&self) -> Vec<Load> {
        std::mem::take(&mut *self.0.loads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Polls the executor, then the loads, until neither makes progress.
    fn drive<T>(
        &self,
        cx: &mut Context<'_>,
        loads: &mut FuturesUnordered<Load>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let executor = &self.0.executor;
        executor.driver.register(cx.waker());
        let waker = waker_ref(executor);
        loop {
            executor.woken.store(false, Ordering::SeqCst);
            if let Poll::Ready(done) = work(&mut Context::from_waker(&waker)) {
                return Poll::Ready(done);
            }
            // The executor woke itself, which has woken this task too: it continues in the next
            // poll, and the loads wait for it. It is not polled again at once: where it yields to
            // the runtime (tokio's budget), it would keep yielding forever.
            if executor.woken.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
            loads.extend(self.take_pending());
            let mut progressed = false;
            while let Poll::Ready(Some(())) = loads.poll_next_unpin(cx) {
                progressed = true;
            }
            if !progressed {
                return Poll::Pending;
            }
        }
    }
}

/// Executes a query or a mutation.
pub async fn execute(schema: &Schema, request: Request) -> Response {
    let (request, shape) = match checked(request) {
        Ok(checked) => checked,
        Err(response) => return *response,
    };
    let (turn, mut loads) = (LoadBatch::of(&request), FuturesUnordered::new());
    let mut work = pin!(schema.execute(request));
    shape.write(poll_fn(|cx| turn.drive(cx, &mut loads, |cx| work.as_mut().poll(cx))).await)
}

/// Executes a subscription as a stream of responses.
pub fn stream(schema: &Schema, request: Request) -> impl Stream<Item = Response> + Send + use<> {
    let loads = Mutex::new(FuturesUnordered::new());
    match checked(request) {
        Ok((request, shape)) => {
            Answers { turn: LoadBatch::of(&request), loads, all: schema.execute_stream(request).boxed(), shape }
        }
        Err(response) => {
            let all = stream::once(async { *response }).boxed();
            Answers { turn: LoadBatch::default(), loads, all, shape: Arc::default() }
        }
    }
}

struct Answers {
    turn: LoadBatch,
    loads: Mutex<FuturesUnordered<Load>>,
    all: BoxStream<'static, Response>,
    shape: Arc<AnswerShape>,
}

impl Stream for Answers {
    type Item = Response;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        let this = &mut *self;
        let loads = this.loads.get_mut().unwrap_or_else(PoisonError::into_inner);
        let next = this.turn.drive(cx, loads, |cx| this.all.poll_next_unpin(cx));
        next.map(|next| next.map(|response| this.shape.write(response)))
    }
}
