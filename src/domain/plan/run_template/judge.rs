//! Validates structures. The validation runs before the transaction that stores a structure; within
//! the transaction its results are cached.

use entity::TemplateKind;
use entity::definition::{Definition, Layer, Overrides};
use entity::id::RunTemplateId;
use entity::run_template::Model;
use serde_json::json;

use super::layer::{self, Changes};
use super::{Chain, Executors, Fields, Problem, guided, message_rules, problems};
use crate::kernel::budget::{self, LATE};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Rejects a template if its structure has problems; reports all of them, each with its path.
pub(super) async fn judge(tx: &Tx, row: &Model, fields: &Fields) -> Result<()> {
    let chain = Chain::of(tx.db(), row.clone()).await?;
    if let Some(id) = chain.template.base_id {
        let base = chain.base.as_ref().ok_or_else(|| Refusal::not_found("run template", id))?;
        if base.base_id.is_some() {
            return Err(Refusal::input("baseId", "must be a template without a base of its own").into());
        }
    }
    let resolved = chain.resolve(&Overrides::default());
    let mut found = fields.problems.clone();
    found.extend(resolved.problems.clone());
    found.extend(problems_of(row.kind, &resolved.definition, None));
    reject_if_problems("definition", &found)
}

/// Returns the problems of a structure for a kind of runs.
pub fn problems_of(kind: TemplateKind, definition: &Definition, executors: Option<&Executors>) -> Vec<Problem> {
    let mut found = problems(definition, executors);
    match kind {
        TemplateKind::Guided => found.extend(guided::problems(definition)),
        TemplateKind::Campaign => {
            found.extend(message_rules::problems(definition));
            found.extend(guided::campaign_problems(definition));
        }
    }
    found
}

/// Returns LIMIT_EXCEEDED if a check ran out of time, which is no fault of the structure.
pub fn check_not_late(field: &str, problems: &[Problem]) -> Result<()> {
    match problems.iter().find(|problem| problem.message.ends_with(LATE)) {
        Some(late) => Err(budget::late(&place(field, late)).into()),
        None => Ok(()),
    }
}

/// The place of a problem in the input: below `field`, unless its path begins with an item of that.
fn place(field: &str, problem: &Problem) -> String {
    match problem.path.strip_prefix(field) {
        _ if problem.path.is_empty() => field.to_owned(),
        Some(item) if item.is_empty() || item.starts_with('[') => problem.path.clone(),
        _ => format!("{field}.{}", problem.path),
    }
}

/// Number of further problems in the message of such an error; its `problems` has all.
const SHOWN: usize = 19;

/// Rejects steps with problems: the error names the first field, and has all problems, each with its
/// path. Errors: BAD_USER_INPUT; LIMIT_EXCEEDED if the validation ran out of time.
pub fn reject_at_first(field: &str, problems: &[Problem]) -> Result<()> {
    check_not_late(field, problems)?;
    let Some(first) = problems.first() else { return Ok(()) };
    let more = problems.iter().skip(1).take(SHOWN).map(|problem| format!("; {problem}"));
    let message = format!("{}{}", first.message, more.collect::<String>());
    Err(Refusal::input(&place(field, first), message).with("problems", json!(problems)).into())
}

/// Same as [`problems_of`], on the threads of the budget.
pub async fn problems_within_budget(
    kind: TemplateKind,
    definition: &Definition,
    executors: Option<&Executors>,
) -> Result<Vec<Problem>> {
    let (definition, executors) = (definition.clone(), executors.cloned());
    budget::run_here(move |_| budget::judging(budget::JUDGING, || problems_of(kind, &definition, executors.as_ref())))
        .await
}

/// The parts of a template that are known before it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) kind: TemplateKind,
    /// The base structure and its layer.
    pub(crate) base: (Definition, Layer),
    pub(crate) overrides: Overrides,
}

impl Draft {
    /// Builds the draft of a new or existing template with changed fields; `None` if the template
    /// will be rejected anyway.
    pub(crate) fn of(template: Option<&Model>, base: Option<&Model>, fields: &Fields) -> Option<Self> {
        let own = || fields.definition.clone().or_else(|| template?.definition.clone());
        let standing = match base {
            Some(base) => (base.definition.clone()?, super::layer_of(base)),
            None => (own()?, Layer::Org),
        };
        let overrides = fields.overrides.clone().or_else(|| Some(template?.overrides.clone())).unwrap_or_default();
        let kind = base.or(template).map(|row| row.kind).or(fields.kind).unwrap_or(TemplateKind::Campaign);
        Some(Self { kind, base: standing, overrides })
    }

    /// Returns the problems of the resolved structure.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        budget::judging(budget::JUDGING, || {
            let changes = [Changes { layer: Layer::Org, overrides: &self.overrides }];
            let resolved = layer::resolve(&self.base.0, self.base.1, &changes);
            problems_of(self.kind, &resolved.definition, None)
        })
    }
}

/// Validates the future template before the transaction, which then finds the results cached.
/// Errors: LIMIT_EXCEEDED if time runs out.
pub(super) async fn validate_before(
    db: &Db,
    viewer: &Viewer,
    id: Option<RunTemplateId>,
    fields: &Fields,
) -> Result<()> {
    let template = match id {
        Some(id) => super::find(db.read(), viewer, id).await?,
        None => None,
    };
    let base = match template.as_ref().map_or(fields.base_id, |template| template.base_id) {
        Some(id) => super::find(db.read(), viewer, id).await?,
        None => None,
    };
    let Some(draft) = Draft::of(template.as_ref(), base.as_ref(), fields) else { return Ok(()) };
    check_not_late("definition", &budget::run_here(move |_| draft.problems()).await?)
}

/// Rejects a structure with problems.
pub fn reject_if_problems(field: &str, problems: &[Problem]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    check_not_late(field, problems)?;
    let mut messages: Vec<String> = problems.iter().take(20).map(Problem::to_string).collect();
    if problems.len() > messages.len() {
        messages.push(format!("and {} more", problems.len() - messages.len()));
    }
    Err(Refusal::input(field, messages.join("; ")).with("problems", json!(problems)).into())
}
