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
pub mod wake;

use std::sync::Arc;
use std::time::Duration;

use perform::Steps;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_cron_scheduler::{Job, JobScheduler};
use wake::Wake;

use crate::channel::Mail;
use crate::channel::http_client::HttpClient;
use crate::channel::language_model::LanguageModel;
use crate::kernel::clock::Clock;
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Error, Result};
use crate::kernel::event::Event;
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
        let wake = |concerns: fn(&Event) -> bool| Wake::new(&context, &tick, &stop, concerns);
        let draft = |takes| Draft { takes, domain: domain.clone(), model: model.clone() };
        loops.spawn(step_slots(&context, draft(DraftSelection::Written), wake(queues::<Draft>)));
        // Two loops render drafts: while one settles, the other renders.
        let (draft, claiming) = (Arc::new(draft(DraftSelection::Rendered)), Arc::new(Mutex::new(())));
        for _ in 0..2 {
            loops.spawn(worker_loop(context.clone(), draft.clone(), claiming.clone(), wake(queues::<Draft>)));
        }
        let mail = Arc::new(mail);
        let send = || Send { mail: mail.clone() };
        loops.spawn(step_slots(&context, send(), wake(queues::<Send>)));
        let released = send::ReleasedMessages { context: context.clone(), send: send() };
        loops.spawn(slots::run(released, wake(wake::queues_message)));
        loops.spawn(step_slots(&context, Email::new(mail.clone(), domain), wake(queues::<Email>)));
        loops.spawn(step_slots(&context, ApiCall { http_client }, wake(queues::<ApiCall>)));
        loops.spawn(step_batches(&context, Summarise, wake(queues::<Summarise>)));
        loops.spawn(step_batches(&context, Wait, wake(queues::<Wait>)));
        loops.spawn(step_batches(&context, Decision, wake(queues::<Decision>)));
        loops.spawn(step_batches(&context, UpdateRecord, wake(queues::<UpdateRecord>)));
        if let Some(model) = model {
            let agents = builtin_agent::Agents { context: context.clone(), model };
            loops.spawn(slots::run(agents, wake(wake::queues_any_step)));
        }
        loops.spawn(begin::run(context.clone(), wake(wake::concerns_runs)));
        loops.spawn(bulk_actions::run(context.clone(), wake(wake::concerns_bulk_actions)));
        loops.spawn(rescue::run(context.clone(), wake(wake::by_time_alone)));
        loops.spawn(housekeeping::run(context.clone(), wake(wake::by_time_alone)));
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

/// True if an event may queue steps of this work.
fn queues<W: Work>(event: &Event) -> bool {
    wake::queues_step(event, W::KIND)
}

/// Performs one kind of steps that wait for external systems.
fn step_slots<W: Work>(
    context: &EngineContext,
    work: W,
    wake: Wake,
) -> impl Future<Output = ()> + std::marker::Send + use<W> {
    slots::run(Steps { context: context.clone(), work }, wake)
}

/// Performs one kind of steps that are done at once, batch after batch.
fn step_batches<W: Work>(
    context: &EngineContext,
    work: W,
    wake: Wake,
) -> impl Future<Output = ()> + std::marker::Send + use<W> {
    worker_loop(context.clone(), Arc::new(work), Arc::default(), wake)
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
