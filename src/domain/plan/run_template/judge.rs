//! The judgement of a structure: made before the transaction that keeps it, and known within it.

use entity::TemplateKind;
use entity::definition::{Definition, Layer, Overrides};
use entity::id::RunTemplateId;
use entity::run_template::Model;
use serde_json::json;

use super::layer::{self, Changes};
use super::{Chain, Executors, Fields, Problem, guided, problems};
use crate::kernel::budget::{self, LATE};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Refuses a template whose structure has problems: all of them are told, each with its path.
pub(super) async fn judge(tx: &Tx, row: &Model, fields: &Fields) -> Result<()> {
    let chain = Chain::of(tx.db(), row.clone()).await?;
    if let Some(id) = chain.template.base_id {
        let base = chain.base.as_ref().ok_or_else(|| Refusal::not_found("run template", id))?;
        if base.base_id.is_some() {
            return Err(Refusal::input("baseId", "a base stands alone: this one changes another template").into());
        }
    }
    let resolved = chain.resolve(&Overrides::default());
    let mut found = fields.problems.clone();
    found.extend(resolved.problems.clone());
    found.extend(problems_of(row.kind, &resolved.definition, None));
    refuse("definition", &found)
}

/// Returns the problems of a structure for such runs; none if it may be used.
pub fn problems_of(kind: TemplateKind, definition: &Definition, executors: Option<&Executors>) -> Vec<Problem> {
    let mut found = problems(definition, executors);
    if kind == TemplateKind::Guided {
        found.extend(guided::problems(definition));
    }
    found
}

/// Refuses where something could not be judged in time, which is no fault of it.
pub fn in_time(field: &str, problems: &[Problem]) -> Result<()> {
    match problems.iter().find(|problem| problem.message.ends_with(LATE)) {
        Some(late) => Err(budget::late(&format!("{field}.{}", late.path)).into()),
        None => Ok(()),
    }
}

/// The same as [`problems_of`], on the threads of the budget.
pub async fn judged(
    kind: TemplateKind,
    definition: &Definition,
    executors: Option<&Executors>,
) -> Result<Vec<Problem>> {
    let (definition, executors) = (definition.clone(), executors.cloned());
    budget::run_here(move |_| budget::judging(budget::JUDGING, || problems_of(kind, &definition, executors.as_ref())))
        .await
}

/// The parts of a template, as far as they are known before it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) kind: TemplateKind,
    /// The structure that stands alone, and its layer.
    pub(crate) standing: (Definition, Layer),
    pub(crate) overrides: Overrides,
}

impl Draft {
    /// The draft of a template that is there, or of none, with some fields; none where it will be refused anyway.
    pub(crate) fn of(template: Option<&Model>, base: Option<&Model>, fields: &Fields) -> Option<Self> {
        let own = || fields.definition.clone().or_else(|| template?.definition.clone());
        let standing = match base {
            Some(base) => (base.definition.clone()?, super::layer_of(base)),
            None => (own()?, Layer::Org),
        };
        let overrides = fields.overrides.clone().or_else(|| Some(template?.overrides.clone())).unwrap_or_default();
        let kind = base.or(template).map(|row| row.kind).or(fields.kind).unwrap_or(TemplateKind::Campaign);
        Some(Self { kind, standing, overrides })
    }

    /// Returns the problems of what comes of it.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        budget::judging(budget::JUDGING, || {
            let changes = [Changes { layer: Layer::Org, overrides: &self.overrides }];
            let resolved = layer::resolve(&self.standing.0, self.standing.1, &changes);
            problems_of(self.kind, &resolved.definition, None)
        })
    }
}

/// Judges what a template will be, before the transaction that keeps it: there all of it is known. Errors: LIMIT_EXCEEDED
/// where the time is over.
pub(super) async fn before(db: &Db, viewer: &Viewer, id: Option<RunTemplateId>, fields: &Fields) -> Result<()> {
    let template = match id {
        Some(id) => super::find(db.read(), viewer, id).await?,
        None => None,
    };
    let base = match template.as_ref().map_or(fields.base_id, |template| template.base_id) {
        Some(id) => super::find(db.read(), viewer, id).await?,
        None => None,
    };
    let Some(draft) = Draft::of(template.as_ref(), base.as_ref(), fields) else { return Ok(()) };
    in_time("definition", &budget::run_here(move |_| draft.problems()).await?)
}

/// Refuses where there are problems.
pub fn refuse(field: &str, problems: &[Problem]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    in_time(field, problems)?;
    let mut told: Vec<String> = problems.iter().take(20).map(Problem::to_string).collect();
    if problems.len() > told.len() {
        told.push(format!("and {} more", problems.len() - told.len()));
    }
    Err(Refusal::input(field, told.join("; ")).with("problems", json!(problems)).into())
}
