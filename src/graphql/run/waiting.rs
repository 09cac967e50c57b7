//! Why a run does not move by itself, as it is shown.

use async_graphql::{Context, Object, Result};
use chrono::{DateTime, Utc};
use entity::member::Role;

use crate::domain::run::waiting::Reason;
use crate::graphql::Actor;
use crate::graphql::loader::load;
use crate::graphql::step::Step;

/// A reason why a run does not move by itself.
pub struct Constraint(pub Reason);

/// A reason why a run does not move by itself.
#[Object]
impl Constraint {
    /// A word for programs: SCHEDULED, CAMPAIGN_PAUSED, SCHEDULE_PAUSED, RUN_PAUSED, STUCK (work on it fails again and again), APPROVAL,
    /// RESOLUTION (messages whose fate a person has to tell), PEOPLE, WORKERS, NO_AGENT (no agent takes the steps),
    /// IN_HAND (steps that an agent, a function or the engine has begun some time ago), PUT_OFF (messages whose next try is due
    /// later), WAIT (a `wait` step's time), DELAY (a step's earliest time), RETRY (the pause after a failure), CHANNEL_PAUSED, RATE,
    /// EVENTS (the phase is open for them), BLOCKED (a task that depends on others), RELEASE; of guided work also MESSAGES
    /// and COMPLETION.
    async fn code(&self) -> &str {
        self.0.code
    }

    /// A sentence for people.
    async fn message(&self) -> &str {
        &self.0.message
    }

    /// How many steps, or messages, wait for it that could begin or go on: not those whose trigger has not fired. Null where
    /// it is not about steps.
    async fn steps(&self) -> Option<i64> {
        self.0.steps
    }

    /// Until when, in UTC; of several the earliest. Null where nobody knows.
    async fn until(&self) -> Option<DateTime<Utc>> {
        self.0.until
    }

    /// The members and agents that it waits for by name; empty where it waits for anybody of the roles, or for nobody.
    async fn who(&self) -> Vec<Actor> {
        self.0.who.iter().cloned().map(Actor::from).collect()
    }

    /// The roles that it waits for, each the least that may; empty where it waits for somebody by name, or for nobody.
    async fn roles(&self) -> Vec<Role> {
        self.0.roles.clone()
    }

    /// The step; null where it is about several, or about none.
    async fn step(&self, ctx: &Context<'_>) -> Result<Option<Step>> {
        Ok(load(ctx, self.0.step).await?.map(Step))
    }
}
