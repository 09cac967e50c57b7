//! What the fields of one answer ask the loaders for is gathered until the executor has come through all that it can: then
//! each loader asks once. Not by a span of time, within which a large answer may or may not have been gone through.
//!
//! The loads of an answer are driven by whoever drives the executor, in turns: so they begin, and hand out their rows, while
//! it rests.

use std::any::TypeId;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Request, Response};
use futures_util::future::{BoxFuture, poll_fn};
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use futures_util::task::{ArcWake, AtomicWaker, waker_ref};
use futures_util::{Stream, StreamExt};

use super::Schema;
use super::document::{AnswerShape, checked};
use super::loader::Rows;

type Load = BoxFuture<'static, ()>;

/// The loads that the fields of one answer have asked for, and that have not begun.
#[derive(Clone, Default)]
pub struct Turn(Arc<Asked>);

#[derive(Default)]
struct Asked {
    /// Whether somebody drives them.
    driven: AtomicBool,
    loads: Mutex<Vec<Load>>,
    /// The executor's own waker.
    executor: Arc<Executor>,
}

/// Whether the executor can go on: it rests now and then although it can, to let others go first.
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

impl Turn {
    /// The turn of a request, which it carries; one of its own where it carries none.
    fn of(request: &Request) -> Self {
        let carried = request.data.get(&TypeId::of::<Self>()).and_then(|turn| turn.downcast_ref::<Self>());
        let turn = carried.cloned().unwrap_or_default();
        turn.0.driven.store(true, Ordering::Relaxed);
        turn
    }

    /// Loaders whose loads are driven with the executor; by the runtime, where nobody does.
    pub fn loaders(&self, rows: Rows) -> DataLoader<Rows> {
        let asked = self.0.clone();
        let spawn = move |load: Load| {
            if asked.driven.load(Ordering::Relaxed) {
                asked.loads.lock().unwrap_or_else(PoisonError::into_inner).push(load);
            } else {
                tokio::spawn(load);
            }
        };
        DataLoader::new(rows, spawn).delay(Duration::ZERO)
    }

    fn asked(&self) -> Vec<Load> {
        std::mem::take(&mut *self.0.loads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The executor, then the loads, as long as there is something that goes on.
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
            // Its waker has told the driver's: it goes on in the next turn, and the loads wait for it. Not at once: where it
            // rests because the runtime wants its turn (tokio's budget), it would rest for ever.
            if executor.woken.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
            loads.extend(self.asked());
            let mut through = false;
            while let Poll::Ready(Some(())) = loads.poll_next_unpin(cx) {
                through = true;
            }
            if !through {
                return Poll::Pending;
            }
        }
    }
}

/// Executes a query or a mutation.
pub async fn execute(schema: &Schema, request: Request) -> Response {
    let (request, outline) = match checked(request) {
        Ok(checked) => checked,
        Err(response) => return *response,
    };
    let (turn, mut loads) = (Turn::of(&request), FuturesUnordered::new());
    let mut work = pin!(schema.execute(request));
    outline.write(poll_fn(|cx| turn.drive(cx, &mut loads, |cx| work.as_mut().poll(cx))).await)
}

/// Executes a subscription, answer by answer.
pub fn stream(schema: &Schema, request: Request) -> impl Stream<Item = Response> + Send + use<> {
    let loads = Mutex::new(FuturesUnordered::new());
    match checked(request) {
        Ok((request, outline)) => {
            Answers { turn: Turn::of(&request), loads, all: schema.execute_stream(request).boxed(), outline }
        }
        Err(response) => {
            let all = stream::once(async { *response }).boxed();
            Answers { turn: Turn::default(), loads, all, outline: Arc::default() }
        }
    }
}

struct Answers {
    turn: Turn,
    loads: Mutex<FuturesUnordered<Load>>,
    all: BoxStream<'static, Response>,
    outline: Arc<AnswerShape>,
}

impl Stream for Answers {
    type Item = Response;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        let this = &mut *self;
        let loads = this.loads.get_mut().unwrap_or_else(PoisonError::into_inner);
        let next = this.turn.drive(cx, loads, |cx| this.all.poll_next_unpin(cx));
        next.map(|next| next.map(|response| this.outline.write(response)))
    }
}
