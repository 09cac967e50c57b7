//! Run snapshots: the structure, the instructions and the test target that a run started with.
//! Snapshots of campaigns' runs are immutable once the run is launched, so each is read once and
//! cached in memory. The structure of guided work can be mended, on any node, so its snapshots are not cached.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use entity::definition::{Definition, StepDef, TaskDef};
use entity::id::{MemberId, OrgId, RecordId, RunId};
use entity::run_snapshot::{ActiveModel, COLUMN, Entity, Model};
use entity::writer::WriterKind;
use entity::{RunStatus, RunType, run, run_note};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Set};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::executor_ids::ExecutorIds;
use super::step_graph::StepGraph;
use crate::domain::plan::campaign_snapshot::CampaignSnapshot;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{json_size, limits};

/// Recipients and sample data of a test run, stored with its snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// Recipient addresses.
    pub recipients: Vec<String>,
    /// Sample records; every recipient gets one message per record. Empty: placeholders are used.
    pub sample: Vec<RecordId>,
    /// True if the messages are reviewed as in a normal run.
    pub review: bool,
}

/// Parameters of guided work, stored with the run's snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuidedSnapshot {
    /// Records linked at the start.
    #[serde(default)]
    pub linked: Vec<RecordId>,
    /// Assignee of steps that name none.
    #[serde(default)]
    pub assignee: Option<MemberId>,
}

/// Snapshot that a run works with.
#[derive(Debug)]
pub struct RunSnapshot {
    /// Structure.
    pub definition: Definition,
    /// Copies of the campaign's parts; none while the run is only scheduled, and for guided work.
    pub instructions: Option<CampaignSnapshot>,
    /// Target of a test run; none for other runs.
    pub test: Option<Test>,
    /// Parameters of guided work; none for runs of campaigns.
    pub guided: Option<GuidedSnapshot>,
    /// Agents and members that the structure names; none for runs launched before ids were stored.
    pub executors: Option<ExecutorIds>,
    /// Dependencies between the structure's steps.
    pub graph: StepGraph,
    /// Approximate size in memory.
    bytes: usize,
}

impl RunSnapshot {
    /// The run's only record; none for a run with an audience, or a test run.
    pub(crate) fn one_record(&self) -> Option<RecordId> {
        self.instructions.as_ref().filter(|_| self.test.is_none()).and_then(|instructions| instructions.record_id)
    }

    /// Definition of a task of the run.
    pub(crate) fn task(&self, key: &str) -> Option<&TaskDef> {
        self.definition.phases.iter().flat_map(|phase| &phase.tasks).find(|declared| declared.key == key)
    }

    /// Definitions of a step of the run and of its task.
    pub(crate) fn step(&self, key: &str) -> Option<(&TaskDef, &StepDef)> {
        all_steps(&self.definition).find(|(_, step)| step.key == key)
    }
}

fn all_steps(definition: &Definition) -> impl Iterator<Item = (&TaskDef, &StepDef)> {
    let tasks = definition.phases.iter().flat_map(|phase| &phase.tasks);
    tasks.flat_map(|task| task.steps.iter().map(move |step| (task, step)))
}

/// Definition of a step.
pub fn step<'a>(definition: &'a Definition, key: &str) -> Option<&'a StepDef> {
    all_steps(definition).map(|(_, step)| step).find(|step| step.key == key)
}

/// Cached snapshots of campaigns' runs by run id, bounded in bytes; an id is never reused.
type Snapshots = Cache<RunId, Arc<RunSnapshot>, Bytes>;

static CACHE: LazyLock<Snapshots> =
    LazyLock::new(|| Cache::with_weighter(limits::SNAPSHOTS_CACHED, limits::SNAPSHOTS_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<RunId, Arc<RunSnapshot>> for Bytes {
    fn weight(&self, _: &RunId, snapshot: &Arc<RunSnapshot>) -> u64 {
        snapshot.bytes as u64
    }
}

/// Total size of the cached snapshots in bytes.
pub fn cached_bytes() -> u64 {
    CACHE.weight()
}

/// Snapshot of a run.
pub(crate) async fn of(db: &impl ConnectionTrait, run: &run::Model) -> Result<Arc<RunSnapshot>> {
    if let Some(snapshot) = CACHE.get(&run.id) {
        return Ok(snapshot);
    }
    let row = Entity::find_by_id(run.id).one(db).await?;
    let row = row.ok_or_else(|| Error::internal(format!("{} has no snapshot", run.id)))?;
    let snapshot = read(row);
    if run.status != RunStatus::Scheduled && snapshot.guided.is_none() {
        CACHE.insert(run.id, snapshot.clone());
    }
    Ok(snapshot)
}

/// Snapshots of runs that have begun, by run id; cached ones cost no statement.
pub async fn of_begun(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    runs: &[RunId],
) -> Result<HashMap<RunId, Arc<RunSnapshot>>> {
    let mut all: HashMap<RunId, Arc<RunSnapshot>> = runs.iter().filter_map(|id| Some((*id, CACHE.get(id)?))).collect();
    let missing: Vec<RunId> = runs.iter().copied().filter(|id| !all.contains_key(id)).collect();
    if !missing.is_empty() {
        for row in of_runs(db, viewer, &missing).await? {
            let (id, snapshot) = (row.run_id, read(row));
            if snapshot.guided.is_none() {
                CACHE.insert(id, snapshot.clone());
            }
            all.insert(id, snapshot);
        }
    }
    Ok(all)
}

fn read(row: Model) -> Arc<RunSnapshot> {
    let bytes = size_of::<RunSnapshot>() + json_size::of(&row.definition) + json_size::of(&row.instructions);
    let bytes = bytes + row.test.as_ref().map_or(0, json_size::of);
    let instructions = instructions(&row);
    // Guided work has no campaign, so its row holds no campaign instructions.
    let guided = match &instructions {
        None => serde_json::from_value(row.instructions).ok(),
        Some(_) => None,
    };
    let test = row.test.and_then(|test| serde_json::from_value(test).ok());
    let executors = row.executors.and_then(|executors| serde_json::from_value(executors).ok());
    let graph = StepGraph::of(&row.definition);
    Arc::new(RunSnapshot { definition: row.definition, instructions, test, guided, executors, graph, bytes })
}

/// Rows of some runs, unordered, with their preflights, which may still change.
pub async fn of_runs(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[RunId]) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), COLUMN.run_id, runs.iter().copied()))
        .all(db)
        .await?)
}

/// Instructions of a snapshot row; none while the run is only scheduled, and for guided work, whose
/// row holds a `GuidedSnapshot`.
pub fn instructions(row: &Model) -> Option<CampaignSnapshot> {
    serde_json::from_value(row.instructions.clone()).ok()
}

/// Records that guided work was started with; none for a run of a campaign.
pub fn linked(row: &Model) -> Vec<RecordId> {
    serde_json::from_value::<GuidedSnapshot>(row.instructions.clone()).map(|guided| guided.linked).unwrap_or_default()
}

/// Stores the snapshot of a run that has just been created.
pub(super) async fn insert(tx: &Tx, run: &run::Model, mut row: ActiveModel) -> Result<()> {
    row.run_id = Set(run.id);
    row.org_id = Set(run.org_id);
    // A repeat takes over those of its original.
    if !matches!(&row.executors, ActiveValue::Set(Some(_))) {
        let definition =
            row.definition.try_as_ref().ok_or_else(|| Error::internal("a snapshot without a structure"))?;
        row.executors = Set(Some(executors_of(tx, run.org_id, definition).await?));
    }
    let row = row.insert(tx.db()).await?;
    record_on_run(tx, run.id, &row.instructions).await
}

async fn executors_of(tx: &Tx, org_id: OrgId, definition: &Definition) -> Result<Value> {
    let found = ExecutorIds::of_structure(tx.db(), &Viewer::engine(org_id), definition).await?;
    Ok(serde_json::to_value(found)?)
}

/// Records on the run its goal, and whether a language model writes its content. Nothing while it
/// is only scheduled, and for guided work.
async fn record_on_run(tx: &Tx, id: RunId, instructions: &Value) -> Result<()> {
    let Ok(instructions) = serde_json::from_value::<CampaignSnapshot>(instructions.clone()) else { return Ok(()) };
    let is_by_model = instructions.writer_kind == Some(WriterKind::Agent);
    let goal_id = instructions.goal.map(|goal| goal.id);
    let other_goal = match goal_id {
        Some(goal_id) => run::Column::GoalId.is_null().or(run::Column::GoalId.ne(goal_id)),
        None => run::Column::GoalId.is_not_null(),
    };
    let changed = run::Entity::update_many()
        .col_expr(run::Column::ByModel, Expr::value(is_by_model))
        .col_expr(run::Column::GoalId, Expr::value(goal_id))
        .filter(run::COLUMN.id.eq(id))
        .filter(run::COLUMN.by_model.eq(!is_by_model).or(other_goal))
        .exec(tx.db())
        .await?;
    if changed.rows_affected > 0 {
        // Notes carry the goal of their run.
        run_note::Entity::update_many()
            .col_expr(run_note::Column::GoalId, Expr::value(goal_id))
            .filter(run_note::COLUMN.run_id.eq(id))
            .exec(tx.db())
            .await?;
    }
    Ok(())
}

/// Stores a newer preflight; and instructions and structure, if it lets the run launch.
pub(super) async fn emit(
    tx: &Tx,
    run: &run::Model,
    preflight: Value,
    launched: Option<(Value, Definition)>,
) -> Result<()> {
    let mut row = ActiveModel { run_id: Set(run.id), preflight: Set(Some(preflight)), ..Default::default() };
    if let Some((instructions, definition)) = launched {
        record_on_run(tx, run.id, &instructions).await?;
        row.executors = Set(Some(executors_of(tx, run.org_id, &definition).await?));
        row.instructions = Set(instructions);
        row.definition = Set(definition);
    }
    row.update(tx.db()).await?;
    Ok(())
}

/// Replaces the structure of guided work, with the ids of members that it names now and did not name
/// before.
pub(super) async fn mend(tx: &Tx, run: &run::Model, definition: Definition, executors: ExecutorIds) -> Result<()> {
    debug_assert_eq!(run.run_type, RunType::Guided, "the structure of a campaign's run is cached");
    let executors = serde_json::to_value(executors)?;
    let row = ActiveModel {
        run_id: Set(run.id),
        definition: Set(definition),
        executors: Set(Some(executors)),
        ..Default::default()
    };
    row.update(tx.db()).await?;
    Ok(())
}
