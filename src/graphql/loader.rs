//! Data loaders: fetch the rows that a response refers to in one statement per table.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::Context;
use entity::id::*;
use futures_util::future::BoxFuture;
use sea_orm::EntityTrait;

use super::batch_loader::{Key, Loader};
use super::rows;
use crate::domain::plan::campaign;
use crate::domain::run::guided::step_records;
use crate::domain::run::waiting::step_waits::{ChannelState, StepWaits};
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::event::{EventSelector, LogRange};
use crate::kernel::page::{Page, Window};
use crate::kernel::viewer::Viewer;

/// The loaders' context: one viewer, one response.
pub struct Rows {
    /// The database.
    pub db: Arc<Db>,
    /// The viewer.
    pub viewer: Viewer,
}

// A macro because each id's rows are found by its noun's module, and the nouns share no trait.
macro_rules! by_id {
    ($($id:ty => $noun:path, $table:ident;)*) => {$(
        impl Loader<$id> for Rows {
            type Value = entity::$table::Model;

            async fn load(&self, ids: &[$id]) -> Result<HashMap<$id, Self::Value>> {
                use $noun as noun;
                let found = noun::find_all(self.db.read(), &self.viewer, ids).await?;
                Ok(found.into_iter().map(|row| (row.id, row)).collect())
            }
        }
    )*};
}

by_id! {
    GoalId => crate::domain::content::goal, goal;
    WriterId => crate::domain::content::writer, writer;
    ReviewerId => crate::domain::content::reviewer, reviewer;
    MemberId => crate::domain::people::member, member;
    MessageTemplateId => crate::domain::content::message_template, message_template;
    SegmentId => crate::domain::audience::segment, segment;
    RecordId => crate::domain::audience::record, record;
    RecordLinkId => crate::domain::audience::record::link, record_link;
    CampaignId => crate::domain::plan::campaign, campaign;
    RunId => crate::domain::run, run;
    RunNoteId => crate::domain::run::note, run_note;
    RunRecordId => crate::domain::run::recipients, run_record;
    PhaseId => crate::domain::run::phase, phase;
    TaskId => crate::domain::run::task, task;
    StepId => crate::domain::run::step, step;
    CommunicationId => crate::domain::message::communication, communication;
    ScheduleId => crate::domain::plan::schedule, schedule;
    ReplyId => crate::domain::message::reply, reply;
    ActivityId => crate::domain::message::activity, activity;
    FollowUpId => crate::domain::follow_up, follow_up;
    MeetingId => crate::domain::meeting, meeting;
    SuppressionId => crate::domain::audience::suppression, suppression;
    ApiKeyId => crate::domain::people::api_key, api_key;
    SavedViewId => crate::domain::people::saved_view, saved_view;
    RunTemplateId => crate::domain::plan::run_template, run_template;
    AgentId => crate::domain::plan::agent, agent;
    AuditId => crate::kernel::audit, audit;
    BulkActionId => crate::domain::bulk_action, bulk_action;
    ImportId => crate::domain::import::report, import;
    CampaignVersionId => crate::domain::plan::campaign::version, campaign_version;
    MessageTemplateVersionId => crate::domain::content::message_template::version, message_template_version;
    WriterVersionId => crate::domain::content::writer::version, writer_version;
}

/// Key of a built-in run template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BuiltIn(pub &'static str);

impl Loader<BuiltIn> for Rows {
    type Value = entity::run_template::Model;

    async fn load(&self, keys: &[BuiltIn]) -> Result<HashMap<BuiltIn, Self::Value>> {
        let found = crate::domain::plan::run_template::built_in_rows(self.db.read()).await?;
        let row = |of: &BuiltIn| found.iter().find(|row| row.key == of.0).cloned();
        Ok(keys.iter().filter_map(|of| Some((*of, row(of)?))).collect())
    }
}

/// Loader key for a run's snapshot row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotOfRun(pub RunId);

impl Loader<SnapshotOfRun> for Rows {
    type Value = entity::run_snapshot::Model;

    async fn load(&self, runs: &[SnapshotOfRun]) -> Result<HashMap<SnapshotOfRun, Self::Value>> {
        let ids: Vec<RunId> = runs.iter().map(|of| of.0).collect();
        let found = crate::domain::run::snapshot::of_runs(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|row| (SnapshotOfRun(row.run_id), row)).collect())
    }
}

/// Loader key for the parsed snapshot of a started run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StartedSnapshotOfRun(pub RunId);

impl Loader<StartedSnapshotOfRun> for Rows {
    type Value = Arc<crate::domain::run::snapshot::RunSnapshot>;

    async fn load(&self, runs: &[StartedSnapshotOfRun]) -> Result<HashMap<StartedSnapshotOfRun, Self::Value>> {
        let ids: Vec<RunId> = runs.iter().map(|of| of.0).collect();
        let found = crate::domain::run::snapshot::of_begun(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, snapshot)| (StartedSnapshotOfRun(id), snapshot)).collect())
    }
}

/// Loader key for the channels paused by their rate limit or by an upstream response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channels;

impl Loader<Channels> for Rows {
    type Value = Arc<HashMap<entity::Channel, ChannelState>>;

    async fn load(&self, _: &[Channels]) -> Result<HashMap<Channels, Self::Value>> {
        let found = crate::domain::run::waiting::step_waits::channels(&self.db).await?;
        Ok(HashMap::from([(Channels, Arc::new(found))]))
    }
}

/// Loader key for the conditions that a run's steps wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepWaitsOfRun(pub RunId);

impl Loader<StepWaitsOfRun> for Rows {
    type Value = Arc<StepWaits>;

    async fn load(&self, runs: &[StepWaitsOfRun]) -> Result<HashMap<StepWaitsOfRun, Self::Value>> {
        let ids: Vec<RunId> = runs.iter().map(|of| of.0).collect();
        let found = StepWaits::of(&self.db, &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, found)| (StepWaitsOfRun(id), Arc::new(found))).collect())
    }
}

/// Loader key for a guided step's fixed list of records; absent while the list is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepRecordsOfStep(pub StepId);

impl Loader<StepRecordsOfStep> for Rows {
    type Value = entity::step_record_list::Model;

    async fn load(&self, steps: &[StepRecordsOfStep]) -> Result<HashMap<StepRecordsOfStep, Self::Value>> {
        let ids: Vec<StepId> = steps.iter().map(|of| of.0).collect();
        let found = step_records::taken_of(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|list| (StepRecordsOfStep(list.step_id), list)).collect())
    }
}

/// Loader key for the actions on single records in a guided step; absent if there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordActionsOfStep(pub StepId);

impl Loader<RecordActionsOfStep> for Rows {
    type Value = Vec<step_records::RecordAct>;

    async fn load(&self, steps: &[RecordActionsOfStep]) -> Result<HashMap<RecordActionsOfStep, Self::Value>> {
        let ids: Vec<StepId> = steps.iter().map(|of| of.0).collect();
        let found = step_records::done_of(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, done)| (RecordActionsOfStep(id), done)).collect())
    }
}

/// Loader key for the tags of a campaign; absent if it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagsOfCampaign(pub CampaignId);

impl Loader<TagsOfCampaign> for Rows {
    type Value = Vec<String>;

    async fn load(&self, campaigns: &[TagsOfCampaign]) -> Result<HashMap<TagsOfCampaign, Self::Value>> {
        let ids: Vec<CampaignId> = campaigns.iter().map(|of| of.0).collect();
        let found = campaign::tags::of_all(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, tags)| (TagsOfCampaign(id), tags)).collect())
    }
}

/// Loader key for the verdicts on a run's retry, and on its repetition for unreached recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnreachedOfRun(pub RunId);

impl Loader<UnreachedOfRun> for Rows {
    type Value = crate::domain::run::unreached::UnreachedVerdicts;

    async fn load(&self, runs: &[UnreachedOfRun]) -> Result<HashMap<UnreachedOfRun, Self::Value>> {
        let ids: Vec<RunId> = runs.iter().map(|of| of.0).collect();
        let verdicts = async {
            let runs = crate::domain::run::find_all(self.db.read(), &self.viewer, &ids).await?;
            crate::domain::run::unreached::judge(self.db.read(), &self.viewer, &runs).await
        };
        let verdicts = verdicts.await?;
        Ok(verdicts.into_iter().map(|(id, verdicts)| (UnreachedOfRun(id), verdicts)).collect())
    }
}

/// Loader key for a run's phases and tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartsOfRun(pub RunId);

/// A run's phases and tasks, in order.
#[derive(Debug, Default)]
pub struct RunParts {
    /// The phases.
    pub phases: Vec<entity::phase::Model>,
    /// The tasks.
    pub tasks: Vec<entity::task::Model>,
}

impl RunParts {
    /// Loads the parts of several runs.
    pub async fn of(db: &Db, viewer: &Viewer, runs: &[RunId]) -> Result<HashMap<RunId, Arc<Self>>> {
        let mut all: HashMap<RunId, Self> = runs.iter().map(|id| (*id, Self::default())).collect();
        let (phases, tasks) = futures_util::future::try_join(
            crate::domain::run::phase::of_runs(db.read(), viewer, runs),
            crate::domain::run::task::of_runs(db.read(), viewer, runs),
        )
        .await?;
        for phase in phases {
            if let Some(parts) = all.get_mut(&phase.run_id) {
                parts.phases.push(phase);
            }
        }
        for task in tasks {
            if let Some(parts) = all.get_mut(&task.run_id) {
                parts.tasks.push(task);
            }
        }
        Ok(all.into_iter().map(|(id, parts)| (id, Arc::new(parts))).collect())
    }
}

impl Loader<PartsOfRun> for Rows {
    type Value = Arc<RunParts>;

    async fn load(&self, runs: &[PartsOfRun]) -> Result<HashMap<PartsOfRun, Self::Value>> {
        let ids: Vec<RunId> = runs.iter().map(|of| of.0).collect();
        let found = RunParts::of(&self.db, &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, parts)| (PartsOfRun(id), parts)).collect())
    }
}

impl<E> Loader<Window<E>> for Rows
where
    E: EntityTrait + Send + Sync + 'static,
    E::Model: Clone + Send + Sync + 'static,
{
    type Value = Arc<Result<Page<E::Model>>>;

    async fn load(&self, windows: &[Window<E>]) -> Result<HashMap<Window<E>, Self::Value>> {
        let pages = Window::read_all(self.db.read(), windows).await?;
        Ok(windows.iter().cloned().zip(pages.into_iter().map(Arc::new)).collect())
    }
}

/// Loader key, next to a window: the number of rows on all its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Count;

impl<E> Loader<(Window<E>, Count)> for Rows
where
    E: EntityTrait + Send + Sync + 'static,
{
    type Value = Arc<Result<u64>>;

    async fn load(&self, of: &[(Window<E>, Count)]) -> Result<HashMap<(Window<E>, Count), Self::Value>> {
        let windows: Vec<Window<E>> = of.iter().map(|(window, _)| window.clone()).collect();
        let counts = Window::count_all(self.db.read(), &windows).await?;
        Ok(of.iter().cloned().zip(counts.into_iter().map(Arc::new)).collect())
    }
}

/// Loader key, next to a window: the number of its rows in each status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByStatus;

/// A table whose rows are counted by their status.
pub trait WithStatus: EntityTrait {
    /// The column of the status.
    const STATUS: Self::Column;
}

impl WithStatus for entity::run::Entity {
    const STATUS: Self::Column = entity::run::Column::Status;
}

impl WithStatus for entity::communication::Entity {
    const STATUS: Self::Column = entity::communication::Column::Status;
}

impl WithStatus for entity::reply::Entity {
    const STATUS: Self::Column = entity::reply::Column::Status;
}

impl<E> Loader<(Window<E>, ByStatus)> for Rows
where
    E: WithStatus + Send + Sync + 'static,
{
    type Value = Arc<Result<HashMap<String, u64>>>;

    async fn load(&self, of: &[(Window<E>, ByStatus)]) -> Result<HashMap<(Window<E>, ByStatus), Self::Value>> {
        let windows: Vec<_> = of.iter().map(|(window, _)| window.clone()).collect();
        let counts = Window::count_all_by(self.db.read(), &windows, Some(E::STATUS)).await?;
        Ok(of.iter().cloned().zip(counts.into_iter().map(|counts| Arc::new(counts.map(HashMap::from_iter)))).collect())
    }
}

/// Reads a page of a nested list: batched for all nodes of the outer list, directly if `alone`.
pub fn nested_page<'a, E>(ctx: &'a Context<'_>, window: Window<E>, alone: bool) -> BoxFuture<'a, Result<Page<E::Model>>>
where
    E: EntityTrait + Send + Sync + 'static,
    E::Model: Clone + Send + Sync + 'static,
{
    Box::pin(async move {
        if alone {
            return window.read(super::db(ctx).read()).await;
        }
        cloned_result(must_load(ctx, window).await?.as_ref())
    })
}

/// Returns one result of a batch as an owned value.
pub fn cloned_result<T: Clone>(loaded: &Result<T>) -> Result<T> {
    match loaded {
        Ok(found) => Ok(found.clone()),
        Err(crate::kernel::error::Error::Refused(refusal)) => Err(refusal.clone().into()),
        Err(err) => Err(crate::kernel::error::Error::internal(err.to_string())),
    }
}

/// Counts the rows on all pages of a window, batched for all nodes of the outer list.
pub fn nested_count<'a, E>(ctx: &'a Context<'_>, window: Window<E>) -> BoxFuture<'a, Result<u64>>
where
    E: EntityTrait + Send + Sync + 'static,
{
    Box::pin(async move { cloned_result(must_load(ctx, (window, Count)).await?.as_ref()) })
}

/// Loader key for a page of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventsOf {
    /// The selected events.
    pub which: EventSelector,
    /// The part of the log.
    pub range: LogRange,
}

impl Loader<EventsOf> for Rows {
    type Value = Arc<(Vec<entity::event::Model>, bool)>;

    async fn load(&self, of: &[EventsOf]) -> Result<HashMap<EventsOf, Self::Value>> {
        let requests: Vec<_> = of.iter().map(|of| (&of.which, of.range)).collect();
        let pages = crate::kernel::event::pages(&self.db, &self.viewer, &requests).await?;
        Ok(of.iter().cloned().zip(pages.into_iter().map(Arc::new)).collect())
    }
}

/// Returns the row with an id, if the viewer's org has it. Boxed, like everything that a field
/// awaits: the executor reserves the size of a type's largest field for each of them.
pub fn load<'a, I>(ctx: &'a Context<'_>, id: Option<I>) -> BoxFuture<'a, Result<Option<<Rows as Loader<I>>::Value>>>
where
    I: Key,
    Rows: Loader<I>,
{
    Box::pin(async move {
        match id {
            Some(id) => rows(ctx).load_one(id).await,
            None => Ok(None),
        }
    })
}

/// Returns the row with an id that must exist, since another row refers to it.
pub async fn must_load<I>(ctx: &Context<'_>, id: I) -> Result<<Rows as Loader<I>>::Value>
where
    I: Key,
    Rows: Loader<I>,
{
    load(ctx, Some(id)).await?.ok_or_else(|| crate::kernel::error::Error::internal("a referenced row does not exist"))
}
