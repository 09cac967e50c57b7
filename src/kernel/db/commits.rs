//! Signals of commits, to those who wait for what others write.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::kernel::event::new_event::Event;

/// The signals of commits. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Commits {
    /// The name of this process among those on the database, so that it does not wake itself.
    node: Arc<str>,
    /// The log has grown: its events have their positions.
    log: watch::Sender<()>,
    /// This process has committed events.
    written: watch::Sender<()>,
    listeners: Arc<Mutex<Vec<Listener>>>,
}

/// A loop that waits for commits which may have given it work.
struct Listener {
    concerns: Box<dyn Fn(&Event) -> bool + Send + Sync>,
    signal: watch::Sender<()>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl Default for Commits {
    fn default() -> Self {
        let node = uuid::Uuid::now_v7().simple().to_string().into();
        Self { node, log: watch::Sender::new(()), written: watch::Sender::new(()), listeners: Arc::default() }
    }
}

impl Commits {
    /// The name of this process in its signals to others.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// The signal that the log has grown, here or on another node.
    pub(crate) fn log(&self) -> watch::Receiver<()> {
        self.log.subscribe()
    }

    /// The signal that this process has committed events.
    pub(crate) fn written(&self) -> watch::Receiver<()> {
        self.written.subscribe()
    }

    /// The signal of commits with an event that concerns the caller, and of work without events.
    pub(crate) fn concerning(&self, concerns: impl Fn(&Event) -> bool + Send + Sync + 'static) -> watch::Receiver<()> {
        let (signal, receiver) = watch::channel(());
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.signal.receiver_count() > 0);
        listeners.push(Listener { concerns: Box::new(concerns), signal });
        receiver
    }

    /// Signals a commit of this process with these events.
    pub(super) fn committed(&self, events: &[Event]) {
        self.written.send_replace(());
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if events.iter().any(&listener.concerns) {
                listener.signal.send_replace(());
            }
        }
    }

    /// Signals that events have got their positions.
    pub(crate) fn numbered(&self) {
        self.log.send_replace(());
    }

    /// Signals work that may lie anywhere: another node has committed, or rows changed without an event.
    pub(crate) fn wake_all(&self) {
        self.log.send_replace(());
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener.signal.send_replace(());
        }
    }
}
