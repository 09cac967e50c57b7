//! Work on large texts and values gives the async threads away meanwhile; small work stays on them.

use std::future::poll_fn;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::task::Poll;
use std::time::Duration;

use sortie::kernel::large;
use sortie::kernel::limits::LARGE_BYTES;
use tokio::runtime::Runtime;

/// A runtime with a single thread for tasks.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Runs work in a task, beside another one that sends a message. The work receives the message only
/// if the thread's other tasks run meanwhile.
fn beside<F>(work: impl FnOnce(Receiver<()>) -> F + Send + 'static) -> F::Output
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let runtime = runtime();
    let task = async move {
        let (send, receive) = channel();
        // Spawned from a task, it is in the queue of the same thread.
        tokio::spawn(async move { send.send(()).ok() });
        work(receive).await
    };
    runtime.block_on(async { tokio::spawn(task).await.unwrap() })
}

/// A message that is certain to come, unless the other task can't run.
fn comes(receive: &Receiver<()>) -> bool {
    receive.recv_timeout(Duration::from_secs(30)).is_ok()
}

/// True if nothing comes: the other task can't run as long as this thread is kept.
fn is_kept(receive: &Receiver<()>) -> bool {
    receive.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout)
}

#[test]
fn large_work_gives_its_thread_away() {
    assert!(beside(|receive| async move { large::run(LARGE_BYTES, move || comes(&receive)).await }));
    assert!(beside(|receive| async move { large::at_once(LARGE_BYTES, move || comes(&receive)) }));
    let polled = |receive| async move {
        let work = poll_fn(move |_| Poll::Ready(comes(&receive)));
        large::polled(LARGE_BYTES, work).await
    };
    assert!(beside(polled));
}

#[test]
fn small_work_keeps_its_thread() {
    assert!(beside(|receive| async move { large::run(LARGE_BYTES - 1, move || is_kept(&receive)).await }));
    assert!(beside(|receive| async move { large::at_once(LARGE_BYTES - 1, move || is_kept(&receive)) }));
    let polled = |receive| async move {
        let work = poll_fn(move |_| Poll::Ready(is_kept(&receive)));
        large::polled(LARGE_BYTES - 1, work).await
    };
    assert!(beside(polled));
}
