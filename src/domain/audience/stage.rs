//! Pipelines: the ordered stages of each kind of record, defined by the org or built in.

use entity::id::*;
use entity::stage::{ActiveModel, COLUMN, Column, Entity};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Set};
use serde_json::json;
use std::collections::BTreeMap;

use crate::domain::audience::kind;
use crate::kernel::db::WriteContext;
use crate::kernel::db::batch::insert_all;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// The built-in pipelines; an org can override each of them.
const BUILT_IN: &[(&str, &[&str])] = &[
    ("partnership", &["New Lead", "Conversation Active", "MOU Drafted", "MOU Sent", "MOU Signed", "Active Partner"]),
    ("objective", &["Planned", "At Risk", "On Track", "Achieved"]),
];

/// A pipeline of stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// The kind of the records.
    pub kind: String,
    /// The names of the stages, in order.
    pub stages: Vec<String>,
    /// True if the org has defined them; false for a built-in pipeline.
    pub own: bool,
}

impl Pipeline {
    /// The stage after `stage`, or the first one for a record without a stage. `None` after the
    /// last stage, and for a stage that is not in the pipeline.
    pub fn next(&self, stage: Option<&str>) -> Option<&str> {
        let at = match stage {
            None => 0,
            Some(stage) => self.stages.iter().position(|one| one == stage)? + 1,
        };
        self.stages.get(at).map(String::as_str)
    }
}

/// Returns all pipelines of the viewer's org, ordered by kind.
pub async fn all(db: &impl ConnectionTrait, viewer: &Viewer) -> Result<Vec<Pipeline>> {
    let rows = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .order_by_asc(Column::RecordKind)
        .order_by_asc(Column::Sequence)
        .all(db)
        .await?;
    let mut found: BTreeMap<String, Pipeline> = BTreeMap::new();
    for (kind, stages) in BUILT_IN {
        let stages = stages.iter().map(|stage| (*stage).to_owned()).collect();
        found.insert((*kind).to_owned(), Pipeline { kind: (*kind).to_owned(), stages, own: false });
    }
    for row in rows {
        let one = found.entry(row.record_kind.clone()).or_insert_with(|| Pipeline {
            kind: row.record_kind.clone(),
            stages: Vec::new(),
            own: true,
        });
        if !one.own {
            one.own = true;
            one.stages.clear();
        }
        one.stages.push(row.name);
    }
    Ok(found.into_values().collect())
}

/// Rejects a stage that the pipeline of the record's kind does not have; a kind without a pipeline
/// accepts any. Every write of a stage calls this, and only when the stage changes: a record may
/// keep a stage that was removed from its pipeline. Errors: BAD_USER_INPUT, with the valid stages
/// in `allowed`.
pub fn check(pipelines: &[Pipeline], field: &str, kind: &str, stage: &str) -> Result<()> {
    let Some(pipeline) = pipelines.iter().find(|pipeline| pipeline.kind == kind) else { return Ok(()) };
    if pipeline.stages.iter().any(|one| one == stage) {
        return Ok(());
    }
    let stage = validate::printable(stage);
    let message = format!("a {kind} has no stage `{stage}`; there is {}", pipeline.stages.join(", "));
    Err(Refusal::input(field, message).with("allowed", json!(pipeline.stages)).into())
}

/// Loads the pipelines, then calls [`check`].
pub(crate) async fn check_one(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    field: &str,
    kind: &str,
    stage: &str,
) -> Result<()> {
    check(&all(db, viewer).await?, field, kind, stage)
}

/// Replaces the stages of a kind of record, in order; an empty list restores the built-in pipeline.
/// Records keep their stage. Errors: BAD_USER_INPUT for an invalid or duplicate name.
pub async fn set(db: &WriteContext, viewer: &Viewer, kind: &str, stages: &[String]) -> Result<Option<Pipeline>> {
    let kind = kind::check("recordKind", kind)?;
    if stages.len() > limits::STAGES {
        return Err(Refusal::limit_for_field("stages", format!("at most {}", limits::STAGES)).into());
    }
    let mut names: Vec<String> = Vec::new();
    for (i, stage) in stages.iter().enumerate() {
        let name = validate::name(&format!("stages[{i}]"), stage)?;
        if names.contains(&name) {
            return Err(Refusal::input(&format!("stages[{i}]"), format!("`{name}` comes twice")).into());
        }
        names.push(name);
    }
    transact!(db, |tx| {
        let before = of(tx.db(), viewer, &kind).await?.map(|pipeline| pipeline.stages).unwrap_or_default();
        Entity::delete_many()
            .filter(COLUMN.org_id.eq(viewer.org_id))
            .filter(COLUMN.record_kind.eq(kind.clone()))
            .exec(tx.db())
            .await?;
        let rows: Vec<ActiveModel> = names
            .iter()
            .zip(0..)
            .map(|(name, sequence)| ActiveModel {
                id: Set(StageId::new()),
                org_id: Set(viewer.org_id),
                record_kind: Set(kind.clone()),
                name: Set(name.clone()),
                sequence: Set(sequence),
                created_at: Set(tx.now()),
            })
            .collect();
        match rows.first().and_then(|row| row.id.try_as_ref()) {
            Some(id) => tx.set_result(*id),
            None => tx.set_result(viewer.org_id),
        }
        insert_all(tx, rows).await?;
        let payload = json!({ "recordKind": kind, "from": before, "to": names });
        event::append(tx, Event::new(viewer.org_id, "stage.set", &viewer.actor()).payload(payload));
        of(tx.db(), viewer, &kind).await
    })
}

/// Returns the pipeline of a kind of record; `None` if the org has not defined one and none is
/// built in. Errors: BAD_USER_INPUT.
pub async fn of_kind(db: &impl ConnectionTrait, viewer: &Viewer, kind: &str) -> Result<Option<Pipeline>> {
    of(db, viewer, &kind::check("recordKind", kind)?).await
}

async fn of(db: &impl ConnectionTrait, viewer: &Viewer, kind: &str) -> Result<Option<Pipeline>> {
    Ok(all(db, viewer).await?.into_iter().find(|pipeline| pipeline.kind == kind))
}
