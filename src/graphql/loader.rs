//! Rows by id, many at once: what the objects of one answer refer to is fetched in one statement per noun.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::Context;
use async_graphql::dataloader::Loader;
use entity::id::*;

use super::rows;
use crate::db::Db;
use crate::error::Result;
use crate::viewer::Viewer;

/// Loads for one viewer, within one answer.
pub struct Rows {
    /// The database.
    pub db: Arc<Db>,
    /// Who asks.
    pub viewer: Viewer,
}

macro_rules! by_id {
    ($($id:ty => $noun:path, $table:ident;)*) => {$(
        impl Loader<$id> for Rows {
            type Value = entity::$table::Model;
            type Error = Arc<crate::error::Error>;

            async fn load(&self, ids: &[$id]) -> std::result::Result<HashMap<$id, Self::Value>, Self::Error> {
                use $noun as noun;
                let found = noun::find_all(self.db.read(), &self.viewer, ids).await.map_err(Arc::new)?;
                Ok(found.into_iter().map(|row| (row.id, row)).collect())
            }
        }
    )*};
}

by_id! {
    GoalId => crate::goal, goal;
    WriterId => crate::writer, writer;
    ReviewerId => crate::reviewer, reviewer;
    MemberId => crate::member, member;
    MessageTemplateId => crate::message_template, message_template;
    SegmentId => crate::segment, segment;
    RecordId => crate::record, record;
    CampaignId => crate::campaign, campaign;
    RunId => crate::run, run;
    PhaseId => crate::run::phase, phase;
    TaskId => crate::run::task, task;
    StepId => crate::run::step, step;
    CommunicationId => crate::communication, communication;
    ScheduleId => crate::schedule, schedule;
    SuppressionId => crate::suppression, suppression;
    ApiKeyId => crate::api_key, api_key;
}

/// The parts of a run, by the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartsOf(pub RunId);

/// A run's phases and tasks, in order.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Its phases.
    pub phases: Vec<entity::phase::Model>,
    /// Its tasks.
    pub tasks: Vec<entity::task::Model>,
}

impl Loader<PartsOf> for Rows {
    type Value = Parts;
    type Error = Arc<crate::error::Error>;

    async fn load(&self, runs: &[PartsOf]) -> std::result::Result<HashMap<PartsOf, Parts>, Self::Error> {
        let ids: Vec<RunId> = runs.iter().map(|of| of.0).collect();
        let phases = crate::run::phase::of_runs(self.db.read(), &self.viewer, &ids).await.map_err(Arc::new)?;
        let tasks = crate::run::task::of_runs(self.db.read(), &self.viewer, &ids).await.map_err(Arc::new)?;
        let mut all: HashMap<PartsOf, Parts> =
            runs.iter().map(|of| (*of, Parts { phases: Vec::new(), tasks: Vec::new() })).collect();
        for phase in phases {
            if let Some(parts) = all.get_mut(&PartsOf(phase.run_id)) {
                parts.phases.push(phase);
            }
        }
        for task in tasks {
            if let Some(parts) = all.get_mut(&PartsOf(task.run_id)) {
                parts.tasks.push(task);
            }
        }
        Ok(all)
    }
}

/// The row of an id, if the viewer's org has it.
pub async fn load<I>(ctx: &Context<'_>, id: Option<I>) -> Result<Option<<Rows as Loader<I>>::Value>>
where
    I: Send + Sync + std::hash::Hash + Eq + Clone + 'static,
    Rows: Loader<I, Error = Arc<crate::error::Error>>,
{
    match id {
        // The error is shared by all who waited for the same statement; each tells it once.
        Some(id) => rows(ctx).load_one(id).await.map_err(|err| crate::error::Error::ours(err.to_string())),
        None => Ok(None),
    }
}

/// The row of an id that must be there, since a row of ours refers to it.
pub async fn must_load<I>(ctx: &Context<'_>, id: I) -> Result<<Rows as Loader<I>>::Value>
where
    I: Send + Sync + std::hash::Hash + Eq + Clone + 'static,
    Rows: Loader<I, Error = Arc<crate::error::Error>>,
{
    load(ctx, Some(id)).await?.ok_or_else(|| crate::error::Error::ours("a row that is referred to is not there"))
}
