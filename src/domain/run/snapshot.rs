//! What a run was told: its structure, its instructions, and where a test goes. Once a run is let in that never changes, so
//! it is read once and kept in memory.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use entity::definition::{Definition, StepDef, TaskDef};
use entity::id::{RecordId, RunId};
use entity::run_snapshot::{ActiveModel, COLUMN, Entity, Model};
use entity::writer::WriterKind;
use entity::{RunStatus, run};
use quick_cache::sync::Cache;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Set};
use serde_json::Value;

use super::launch::Test;
use super::step_graph::StepGraph;
use crate::domain::plan::campaign_snapshot::Instructions;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// What a run was told.
#[derive(Debug)]
pub struct RunSnapshot {
    /// Its structure.
    pub definition: Definition,
    /// The campaign's parts as they were; none while it is only scheduled.
    pub instructions: Option<Instructions>,
    /// Where a test run goes; none for others.
    pub test: Option<Test>,
    /// What guided work is begun with; none for runs of campaigns.
    pub guided: Option<super::guided::GuidedSnapshot>,
    /// What follows what, in its structure.
    pub graph: StepGraph,
}

impl RunSnapshot {
    /// The one record that it is about; none where it has an audience, or is a test.
    pub(crate) fn one_record(&self) -> Option<RecordId> {
        self.instructions.as_ref().filter(|_| self.test.is_none()).and_then(|told| told.record_id)
    }

    /// How a task of the run is declared.
    pub(crate) fn task(&self, key: &str) -> Option<&TaskDef> {
        self.definition.phases.iter().flat_map(|phase| &phase.tasks).find(|declared| declared.key == key)
    }

    /// How a step of the run is declared, and its task.
    pub(crate) fn step(&self, key: &str) -> Option<(&TaskDef, &StepDef)> {
        all_steps(&self.definition).find(|(_, step)| step.key == key)
    }
}

fn all_steps(definition: &Definition) -> impl Iterator<Item = (&TaskDef, &StepDef)> {
    let tasks = definition.phases.iter().flat_map(|phase| &phase.tasks);
    tasks.flat_map(|task| task.steps.iter().map(move |step| (task, step)))
}

/// How a step is declared.
pub fn step<'a>(definition: &'a Definition, key: &str) -> Option<&'a StepDef> {
    all_steps(definition).map(|(_, step)| step).find(|step| step.key == key)
}

/// By the run's id, which is never given twice.
static KEPT: LazyLock<Cache<RunId, Arc<RunSnapshot>>> = LazyLock::new(|| Cache::new(limits::BRIEFS_KEPT));

/// A run's.
pub(crate) async fn of(db: &impl ConnectionTrait, run: &run::Model) -> Result<Arc<RunSnapshot>> {
    if let Some(snapshot) = KEPT.get(&run.id) {
        return Ok(snapshot);
    }
    let row = Entity::find_by_id(run.id).one(db).await?;
    let row = row.ok_or_else(|| Error::ours(format!("{} was told nothing", run.id)))?;
    let snapshot = read(row);
    if run.status != RunStatus::Scheduled {
        KEPT.insert(run.id, snapshot.clone());
    }
    Ok(snapshot)
}

/// Those of runs that have begun, by their ids: what is kept costs no statement.
pub async fn of_begun(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    runs: &[RunId],
) -> Result<HashMap<RunId, Arc<RunSnapshot>>> {
    let mut all: HashMap<RunId, Arc<RunSnapshot>> = runs.iter().filter_map(|id| Some((*id, KEPT.get(id)?))).collect();
    let missing: Vec<RunId> = runs.iter().copied().filter(|id| !all.contains_key(id)).collect();
    if !missing.is_empty() {
        for row in of_runs(db, viewer, &missing).await? {
            let (id, snapshot) = (row.run_id, read(row));
            KEPT.insert(id, snapshot.clone());
            all.insert(id, snapshot);
        }
    }
    Ok(all)
}

fn read(row: Model) -> Arc<RunSnapshot> {
    let instructions = instructions(&row);
    // Guided work has no campaign whose parts it would be told.
    let guided = match &instructions {
        None => serde_json::from_value(row.instructions).ok(),
        Some(_) => None,
    };
    let test = row.test.and_then(|test| serde_json::from_value(test).ok());
    let graph = StepGraph::of(&row.definition);
    Arc::new(RunSnapshot { definition: row.definition, instructions, test, guided, graph })
}

/// The rows of some runs, in no order: with their preflights, which may still change.
pub async fn of_runs(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[RunId]) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), COLUMN.run_id, runs.iter().copied()))
        .all(db)
        .await?)
}

/// What a run is told; none while it is only scheduled.
pub fn instructions(row: &Model) -> Option<Instructions> {
    serde_json::from_value(row.instructions.clone()).ok()
}

/// Keeps what a run that has just been made is told.
pub(super) async fn insert(tx: &Tx, run: &run::Model, mut row: ActiveModel) -> Result<()> {
    row.run_id = Set(run.id);
    row.org_id = Set(run.org_id);
    let row = row.insert(tx.db()).await?;
    record_writer(tx, run.id, &row.instructions).await
}

/// Says on the run whether a language model writes for it.
async fn record_writer(tx: &Tx, id: RunId, told: &Value) -> Result<()> {
    let by_model = serde_json::from_value::<Instructions>(told.clone())
        .is_ok_and(|told| told.writer_kind == Some(WriterKind::Agent));
    run::Entity::update_many()
        .col_expr(run::Column::ByModel, Expr::value(by_model))
        .filter(run::COLUMN.id.eq(id))
        .filter(run::COLUMN.by_model.eq(!by_model))
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Keeps a newer preflight, and instructions and structure where it is let in by it.
pub(super) async fn emit(tx: &Tx, run: RunId, preflight: Value, told: Option<(Value, Definition)>) -> Result<()> {
    let mut row = ActiveModel { run_id: Set(run), preflight: Set(Some(preflight)), ..Default::default() };
    if let Some((instructions, definition)) = told {
        record_writer(tx, run, &instructions).await?;
        row.instructions = Set(instructions);
        row.definition = Set(definition);
    }
    row.update(tx.db()).await?;
    Ok(())
}
