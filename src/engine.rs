//! The engine runs the background loops. Each loop is a reconciler: it takes no input but the
//! time, reads its work from the database, and is woken by a timer or by new events.

pub mod begin;
pub mod builtin_agent;
pub mod bulk_actions;
mod failed_work;
pub mod housekeeping;
mod lease;
pub mod perform;
pub mod rescue;
pub mod send;
mod settle;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use perform::Steps;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::channel::Mail;
use crate::channel::http_client::HttpClient;
use crate::channel::language_model::LanguageModel;
use crate::kernel::clock::Clock;
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;
use crate::step_kind::api_call::ApiCall;
use crate::step_kind::decision::Decision;
use crate::step_kind::draft::{Draft, DraftSelection};
use crate::step_kind::email::Email;
use crate::step_kind::update_record::UpdateRecord;
use crate::step_kind::wait::Wait;
use crate::step_kind::{Work, send::Send, summarise::Summarise};

/// The running loops; `stop` ends them.
#[derive(Debug)]
pub struct Engine {
    context: EngineContext,
    loops: JoinSet<()>,
    stop: watch::Sender<bool>,
    ticker: Ticker,
}

/// The scheduler behind the tick that wakes the loops every second.
struct Ticker(JobScheduler);

impl std::fmt::Debug for Ticker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticker")
    }
}

/// The context that every loop works in.
#[derive(Clone, Debug)]
pub struct EngineContext {
    /// The database.
    pub db: WriteContext,
    /// The source of the current time.
    pub clock: Clock,
    /// The duration of a lease on a step, unless it is renewed.
    pub lease: Duration,
    /// The name of this process in leases.
    pub worker: String,
}

impl Engine {
    /// Starts all loops.
    pub async fn start(
        context: EngineContext,
        mail: Mail,
        domain: String,
        http_client: Arc<HttpClient>,
        model: Option<Arc<LanguageModel>>,
    ) -> Result<Self> {
        let stop = watch::Sender::new(false);
        let (ticker, tick) = ticker().await?;
        let mut loops = JoinSet::new();
        let wake = |context: &EngineContext| Wake {
            nudge: context.db.nudges(),
            tick: tick.subscribe(),
            clock: context.clock.clone(),
            stop: stop.subscribe(),
        };
        let draft = |takes| Draft { takes, domain: domain.clone(), model: model.clone() };
        loops.spawn(slots::run(
            Steps { context: context.clone(), work: draft(DraftSelection::Written) },
            wake(&context),
        ));
        // Two loops render drafts: while one settles, the other renders.
        let (draft, claiming) = (Arc::new(draft(DraftSelection::Rendered)), Arc::new(Mutex::new(())));
        for _ in 0..2 {
            loops.spawn(worker_loop(context.clone(), draft.clone(), claiming.clone(), wake(&context)));
        }
        let mail = Arc::new(mail);
        let send = || Send { mail: mail.clone() };
        loops.spawn(slots::run(Steps { context: context.clone(), work: send() }, wake(&context)));
        loops.spawn(slots::run(send::ReleasedMessages { context: context.clone(), send: send() }, wake(&context)));
        loops.spawn(slots::run(
            Steps { context: context.clone(), work: Email::new(mail.clone(), domain) },
            wake(&context),
        ));
        loops.spawn(worker_loop(context.clone(), Arc::new(Summarise), Arc::default(), wake(&context)));
        loops.spawn(slots::run(Steps { context: context.clone(), work: ApiCall { http_client } }, wake(&context)));
        loops.spawn(worker_loop(context.clone(), Arc::new(Wait), Arc::default(), wake(&context)));
        loops.spawn(worker_loop(context.clone(), Arc::new(Decision), Arc::default(), wake(&context)));
        loops.spawn(worker_loop(context.clone(), Arc::new(UpdateRecord), Arc::default(), wake(&context)));
        if let Some(model) = model {
            loops.spawn(slots::run(builtin_agent::Agents { context: context.clone(), model }, wake(&context)));
        }
        loops.spawn(begin::run(context.clone(), wake(&context)));
        loops.spawn(bulk_actions::run(context.clone(), wake(&context)));
        loops.spawn(rescue::run(context.clone(), wake(&context)));
        loops.spawn(housekeeping::run(context.clone(), wake(&context)));
        Ok(Self { context, loops, stop, ticker })
    }

    /// Stops claiming and lets claimed work settle, for up to `limits::SHUTDOWN_GRACE`. Releases the leases
    /// of what has not settled by then, so that other processes can claim it.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::SHUTDOWN_GRACE, all).await.is_err() {
            self.loops.shutdown().await;
            match rescue::release_leases(&self.context).await {
                Ok(count) => tracing::warn!(count, "claimed work did not settle in time; its leases are released"),
                Err(err) => log_failure!(error, err, "leases could not be released; they will expire"),
            }
        }
        let _ = self.ticker.0.shutdown().await;
    }
}

/// Starts a tick every second, in UTC. The schedules of campaigns are rows, not jobs in here.
async fn ticker() -> Result<(Ticker, watch::Sender<()>)> {
    let tick = watch::Sender::new(());
    let scheduler = JobScheduler::new().await.map_err(Error::internal)?;
    let sender = tick.clone();
    let job = Job::new("* * * * * *", move |_, _| {
        sender.send_replace(());
    });
    scheduler.add(job.map_err(Error::internal)?).await.map_err(Error::internal)?;
    scheduler.start().await.map_err(Error::internal)?;
    Ok((Ticker(scheduler), tick))
}

/// The signals that wake or stop a loop.
#[derive(Debug)]
pub(crate) struct Wake {
    nudge: watch::Receiver<()>,
    tick: watch::Receiver<()>,
    clock: Clock,
    stop: watch::Receiver<bool>,
}

impl Wake {
    /// Marks all signals as seen. Called before reading work, so that whatever happens from then
    /// on wakes the next wait.
    pub(crate) fn mark_seen(&mut self) {
        self.nudge.mark_unchanged();
        self.tick.mark_unchanged();
    }

    /// Waits for a signal; `false` if the loop is to stop.
    pub(crate) async fn wait(&mut self) -> bool {
        if *self.stop.borrow() {
            return false;
        }
        tokio::select! {
            _ = self.nudge.changed() => {}
            _ = self.tick.changed() => {}
            () = self.clock.moved() => {}
            () = tokio::time::sleep(limits::POLL) => {}
            _ = self.stop.changed() => {}
        }
        // Commits come close together: one read serves all of them.
        self.pause(limits::COLLECT_DELAY).await
    }

    /// Sleeps for a while; `false` if the loop is to stop.
    pub(crate) async fn pause(&mut self, time: Duration) -> bool {
        let _ = tokio::time::timeout(time, self.stop.wait_for(|stop| *stop)).await;
        !*self.stop.borrow()
    }

    /// True if the engine is stopping.
    pub(crate) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

async fn worker_loop<W: Work>(context: EngineContext, work: Arc<W>, claiming: Arc<Mutex<()>>, mut wake: Wake) {
    loop {
        wake.mark_seen();
        let worked = match failed_work::guarded(perform::tick_in_turn(&context, &*work, &claiming)).await {
            Ok(count) => count > 0,
            Err(err) => {
                metrics::counter!("sortie_failed_ticks_total", "work" => W::KIND).increment(1);
                log_failure!(error, err, kind = W::KIND, "an iteration of an engine loop failed");
                false
            }
        };
        if wake.stopping() || (!worked && !wake.wait().await) {
            return;
        }
    }
}
