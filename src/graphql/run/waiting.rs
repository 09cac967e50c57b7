//! The reasons why a run does not advance by itself.

use async_graphql::{Context, Object, Result};
use chrono::{DateTime, Utc};
use entity::member::Role;
use entity::{Channel, RunStatus};

use super::Run;
use crate::domain::run::waiting::{Reason, WaitContext, reasons};
use crate::graphql::Actor;
use crate::graphql::loader::{Channels, SnapshotOfRun, StepWaitsOfRun, load, must_load};
use crate::graphql::step::Step;

/// A reason why a run does not advance by itself.
pub struct Constraint(pub Reason);

/// A reason why a run does not advance by itself.
#[Object]
impl Constraint {
    /// Code for programs: SCHEDULED, EARLIER_RUN (it starts when the runs of its schedule before it
    /// have ended), CAMPAIGN_PAUSED, SCHEDULE_PAUSED, RUN_PAUSED, STUCK (work on it has failed at least once and is retried with backoff), SWEEP (a large change that is
    /// being applied to its recipients, steps or messages, with how far it is), APPROVAL, RESOLUTION (messages
    /// whose outcome a person has to resolve), PEOPLE, WORKERS, NO_AGENT (no agent accepts the
    /// steps), IN_HAND (steps that an agent, a function or the engine started some time ago),
    /// PUT_OFF (messages whose next attempt is due later), WAIT (time of a `wait` step), DELAY
    /// (earliest time of a step), RETRY (backoff after a failure), CHANNEL_PAUSED, RATE, EVENTS
    /// (the phase stays open for events), BLOCKED (a task that depends on others), STANDSTILL
    /// (steps that wait for each other), RELEASE; for guided work also MESSAGES,
    /// FAILED_STEPS (a person retries them) and COMPLETION.
    async fn code(&self) -> &str {
        self.0.code
    }

    /// Sentence for people.
    async fn message(&self) -> &str {
        &self.0.message
    }

    /// Number of steps or messages that could start or continue but wait for this; steps whose
    /// trigger has not fired are not counted. Null if the reason is not about steps.
    async fn steps(&self) -> Option<i64> {
        self.0.steps
    }

    /// Time until which it waits, in UTC, the earliest of several; null if unknown.
    async fn until(&self) -> Option<DateTime<Utc>> {
        self.0.until
    }

    /// The members and agents that it waits for by name; empty if it waits for any member of the
    /// roles, or for nobody.
    async fn who(&self) -> Vec<Actor> {
        self.0.who.iter().cloned().map(Actor::from).collect()
    }

    /// The lowest roles that may act; empty if it waits for named actors, or for nobody.
    async fn roles(&self) -> Vec<Role> {
        self.0.roles.clone()
    }

    /// The step; null if it is about several steps or none.
    async fn step(&self, ctx: &Context<'_>) -> Result<Option<Step>> {
        Ok(load(ctx, self.0.step).await?.map(Step))
    }
}

impl Run {
    /// The reasons; none if it has ended.
    pub(super) async fn waiting(&self, ctx: &Context<'_>) -> Result<Vec<Constraint>> {
        if !self.row.status.is_open() {
            return Ok(Vec::new());
        }
        let (campaign, parts) = (self.plan(ctx).await?, self.parts(ctx).await?);
        let (channels, found) = (must_load(ctx, Channels).await?, must_load(ctx, StepWaitsOfRun(self.row.id)).await?);
        let definition = must_load(ctx, SnapshotOfRun(self.row.id)).await?.definition;
        let waiting = self.row.schedule_id.filter(|_| self.row.status == RunStatus::Scheduled);
        let schedule: Option<entity::schedule::Model> = load(ctx, waiting).await?;
        let context = WaitContext {
            schedule: schedule.as_ref(),
            run: &self.row,
            campaign: campaign.as_deref(),
            phases: &parts.phases,
            tasks: &parts.tasks,
            definition: &definition,
            channel: channels.get(&Channel::Email),
            found: &found,
        };
        Ok(reasons(&context).into_iter().map(Constraint).collect())
    }
}
