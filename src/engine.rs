//! The engine: owns every loop. Each is a reconciler that takes nothing but the time, and is woken by time or the log.

pub mod begin;
pub mod builtin_agent;
mod failed_work;
pub mod housekeeping;
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
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;
use crate::step_kind::api_call::ApiCall;
use crate::step_kind::decision::Decision;
use crate::step_kind::draft::{Draft, Takes};
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

/// What wakes the ticks by time.
struct Ticker(JobScheduler);

impl std::fmt::Debug for Ticker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metronome")
    }
}

/// What every loop needs.
#[derive(Clone, Debug)]
pub struct EngineContext {
    /// The database.
    pub db: Arc<Db>,
    /// The time.
    pub clock: Clock,
    /// How long a worker holds a step.
    pub lease: Duration,
    /// This process, as leases name it.
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
        loops.spawn(slots::run(Steps { context: context.clone(), work: draft(Takes::Written) }, wake(&context)));
        // Two render side by side: while one settles, the other renders.
        let (draft, claiming) = (Arc::new(draft(Takes::Rendered)), Arc::new(Mutex::new(())));
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
        loops.spawn(rescue::run(context.clone(), wake(&context)));
        loops.spawn(housekeeping::run(context.clone(), wake(&context)));
        Ok(Self { context, loops, stop, ticker })
    }

    /// No new claims; work in hand settles, within a bound; what has not by then is given back for others to take.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::STOP, all).await.is_err() {
            self.loops.shutdown().await;
            match rescue::give_back(&self.context).await {
                Ok(count) => tracing::warn!(count, "work in hand did not settle in time; its leases are given back"),
                Err(err) => log_failure!(error, err, "leases could not be given back; they lapse"),
            }
        }
        let _ = self.ticker.0.shutdown().await;
    }
}

/// Wakes the ticks every second, in UTC. It holds no schedules: those are rows.
async fn ticker() -> Result<(Ticker, watch::Sender<()>)> {
    let tick = watch::Sender::new(());
    let scheduler = JobScheduler::new().await.map_err(Error::ours)?;
    let sender = tick.clone();
    let job = Job::new("* * * * * *", move |_, _| {
        sender.send_replace(());
    });
    scheduler.add(job.map_err(Error::ours)?).await.map_err(Error::ours)?;
    scheduler.start().await.map_err(Error::ours)?;
    Ok((Ticker(scheduler), tick))
}

/// What wakes a loop.
#[derive(Debug)]
pub(crate) struct Wake {
    nudge: watch::Receiver<()>,
    tick: watch::Receiver<()>,
    clock: Clock,
    stop: watch::Receiver<bool>,
}

impl Wake {
    /// Before a look around: what happens from now on wakes the next wait.
    pub(crate) fn look(&mut self) {
        self.nudge.mark_unchanged();
        self.tick.mark_unchanged();
    }

    /// Waits for something to do; `false`: stop.
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
        // Commits come close together: one look is for all of them.
        self.pause(limits::GATHER).await
    }

    /// Waits for a while; `false`: stop.
    pub(crate) async fn pause(&mut self, time: Duration) -> bool {
        let _ = tokio::time::timeout(time, self.stop.wait_for(|stop| *stop)).await;
        !*self.stop.borrow()
    }

    /// Whether the engine is to stop.
    pub(crate) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

async fn worker_loop<W: Work>(context: EngineContext, work: Arc<W>, claiming: Arc<Mutex<()>>, mut wake: Wake) {
    loop {
        wake.look();
        let worked = match failed_work::guarded(perform::tick_in_turn(&context, &*work, &claiming)).await {
            Ok(count) => count > 0,
            Err(err) => {
                metrics::counter!("sortie_failed_ticks_total", "work" => W::KIND).increment(1);
                log_failure!(error, err, kind = W::KIND, "a tick failed");
                false
            }
        };
        if wake.stopping() || (!worked && !wake.wait().await) {
            return;
        }
    }
}
