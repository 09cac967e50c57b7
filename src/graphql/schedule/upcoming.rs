//! Occurrences of a schedule to come.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{Context, Object, Result};

use chrono::{DateTime, Utc};
use entity::id::ScheduleId;

use crate::domain::run::upcoming::{self, KnownFuture, UpcomingOccurrence as Found};
use crate::graphql::batch_loader::Loader;
use crate::graphql::db;
use crate::graphql::list::repeated_cost;
use crate::graphql::loader::{Rows, load};
use crate::graphql::run::Run;
use crate::kernel::error::Refusal;
use crate::kernel::{budget, limits};

/// An occurrence of a schedule that has not started.
pub struct UpcomingOccurrence(Found);

/// An occurrence of a schedule that has not started.
#[Object]
impl UpcomingOccurrence {
    /// Time of the pattern, in UTC: the one that `skipOccurrence` takes.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }

    /// Time at which it starts: `at` plus the schedule's jitter, or the time to which
    /// `rescheduleRun` moved it.
    async fn starts_at(&self) -> DateTime<Utc> {
        self.0.starts_at
    }

    /// True if `skipOccurrence` skipped it: it does not start.
    async fn skipped(&self) -> bool {
        self.0.skipped
    }

    /// The run that waits for it; null if it gets its run later, as all but the next one do, and if
    /// it was skipped.
    async fn run(&self) -> Option<Run> {
        self.0.run.clone().map(Run::from)
    }
}

/// Loader key for what is known about the future of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FutureOfSchedule(pub ScheduleId);

impl Loader<FutureOfSchedule> for Rows {
    type Value = Arc<KnownFuture>;

    async fn load(
        &self,
        of: &[FutureOfSchedule],
    ) -> crate::kernel::error::Result<HashMap<FutureOfSchedule, Self::Value>> {
        let ids: Vec<ScheduleId> = of.iter().map(|one| one.0).collect();
        let found = upcoming::known_future(self.db.read(), &self.viewer, &ids, self.db.now()).await?;
        Ok(found.into_iter().map(|(id, known)| (FutureOfSchedule(id), Arc::new(known))).collect())
    }
}

/// Returns the next occurrences of a schedule.
pub(super) async fn list(
    ctx: &Context<'_>,
    schedule: &entity::schedule::Model,
    first: Option<i32>,
) -> Result<Vec<UpcomingOccurrence>> {
    let count = first.unwrap_or(DEFAULT);
    if !(0..=limits::UPCOMING_OCCURRENCES).contains(&count) {
        return Err(Refusal::input("first", format!("must be 0 to {}", limits::UPCOMING_OCCURRENCES)).into());
    }
    let known = load(ctx, Some(FutureOfSchedule(schedule.id))).await?.unwrap_or_default();
    let (schedule, now, count) = (schedule.clone(), db(ctx).now(), usize::try_from(count).unwrap_or_default());
    let found = budget::run_here(move |_| upcoming::upcoming(&schedule, &known, now, count)).await??;
    Ok(found.into_iter().map(UpcomingOccurrence).collect())
}

/// Number of occurrences by default.
const DEFAULT: i32 = 10;

/// Complexity of the occurrences of one schedule: of reading its pattern, and of each occurrence.
pub(super) fn cost(first: Option<i32>, below: usize) -> usize {
    let count = usize::try_from(first.unwrap_or(DEFAULT).min(limits::UPCOMING_OCCURRENCES)).unwrap_or_default();
    repeated_cost(count, below.saturating_add(40)).saturating_add(200)
}
