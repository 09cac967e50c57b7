//! Finds, creates and updates run templates: the platform's, an org's own, and templates that
//! override a base. `layer` resolves the layers; `rules` has the rules for valid structures.

pub mod built_in;
mod built_in_rows;
mod executors;
pub mod guided;
mod judge;
pub mod kind;
pub mod layer;
mod message_rules;
pub mod read;
mod rules;
mod steps;
mod unreadable;
mod wait_graph;

use async_graphql::SimpleObject;
use entity::TemplateKind;
use entity::campaign::Column as Campaign;
use entity::definition::{Definition, Layer, Overrides};
use entity::id::*;
use entity::run_template::{ActiveModel, COLUMN, Column, Entity, Model};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::Value;

pub use built_in::standard_outreach;
pub use built_in_rows::{built_in_rows, sync_built_in};
pub use executors::Executors;
pub(crate) use judge::Draft;
use judge::judge;
pub use judge::{check_not_late, problems_of, problems_within_budget, reject_at_first, reject_if_problems};
pub use kind::*;
use layer::{Changes, Resolved};
pub use message_rules::without_recipient;
pub use rules::problems;
pub(crate) use steps::steps;
pub use steps::{communicates, has_review, is_templated, steps_per_record};

use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Tx, WriteContext, error_codes};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::page::{self, Args, Page};
use crate::kernel::references::is;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// The key of the task that contains a review.
pub const REVIEW_TASK: &str = "review";

defined!(run_template, RunTemplateId, "run template");
deleted!(run_template, RunTemplateId, "run template";
    used by campaign as "campaign" where |id: RunTemplateId| is(Campaign::RunTemplateId, id),
        run_template as "run template" where |id: RunTemplateId| is(Column::BaseId, id),
        run as "run" where |id: RunTemplateId| is(entity::run::Column::RunTemplateId, id),
        schedule as "schedule" where |id: RunTemplateId| is(entity::schedule::Column::RunTemplateId, id);
    with; if check_deletable);

/// Orders by id, newest first.
pub const NEWEST_FIRST: page::Order<Entity> =
    page::Order { by: None, id: Column::Id, id_of: |row| row.id.0, descending: true, nulls_apart: false };

/// A problem in the structure of a run template.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, SimpleObject)]
#[graphql(name = "DefinitionProblem")]
pub struct Problem {
    /// Path of the part, by keys: `phases.in_flight.tasks.send.steps.send.trigger`.
    pub path: String,
    /// Description of the problem.
    pub message: String,
}

impl Problem {
    /// Creates a problem at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: crate::kernel::quote::brief(message.into()) }
    }
}

/// The message of an error about a field, without the field's name, which a problem's path has.
pub(super) fn without_field(field: &str, err: &impl std::fmt::Display) -> String {
    let message = err.to_string();
    message.strip_prefix(&format!("{field}: ")).map_or(message.clone(), str::to_owned)
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Restricts a query to what the viewer's org can read: its own templates and the built-in ones.
/// Templates that members of the platform's org created for themselves stay private to that org.
fn readable(viewer: &Viewer) -> sea_orm::Condition {
    sea_orm::Condition::any().add(COLUMN.org_id.eq(viewer.org_id)).add(COLUMN.built_in.eq(true))
}

/// Returns the row, if the viewer's org can read it.
pub async fn find(db: &impl ConnectionTrait, viewer: &Viewer, id: RunTemplateId) -> Result<Option<Model>> {
    Ok(Entity::find_by_id(id).filter(readable(viewer)).one(db).await?)
}

/// Returns the given rows that the viewer's org can read, in no particular order.
pub async fn find_all(db: &impl ConnectionTrait, viewer: &Viewer, ids: &[RunTemplateId]) -> Result<Vec<Model>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Entity::find()
        .filter(readable(viewer))
        .filter(any_of(db.get_database_backend(), COLUMN.id, ids.iter().copied()))
        .all(db)
        .await?)
}

/// Returns the row. Errors: NOT_FOUND.
pub async fn must_find(db: &impl ConnectionTrait, viewer: &Viewer, id: RunTemplateId) -> Result<Model> {
    find(db, viewer, id).await?.ok_or_else(|| Refusal::not_found("run template", id).into())
}

/// Finds a template by its key; the org's own takes precedence over the platform's.
pub async fn by_key(db: &impl ConnectionTrait, viewer: &Viewer, key: &str) -> Result<Option<Model>> {
    let found = Entity::find().filter(readable(viewer)).filter(COLUMN.key.eq(key)).all(db).await?;
    Ok(found.into_iter().max_by_key(|row| row.org_id == viewer.org_id))
}

/// Filter over run templates; all given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, async_graphql::InputObject)]
#[graphql(name = "RunTemplateFilter")]
pub struct Filter {
    /// Only templates for this kind of run.
    pub kind: Option<TemplateKind>,
    /// Only templates with one of these keys.
    pub keys: Option<Vec<String>>,
}

fn select(db: &impl ConnectionTrait, viewer: &Viewer, filter: &Filter) -> sea_orm::Select<Entity> {
    let mut all = Entity::find().filter(readable(viewer));
    if let Some(kind) = filter.kind {
        all = all.filter(COLUMN.kind.eq(kind));
    }
    if let Some(keys) = &filter.keys {
        all = all.filter(any_of(db.get_database_backend(), COLUMN.key, keys.clone()));
    }
    all
}

/// Returns a page of the matching templates that the viewer's org can read, newest first.
pub async fn page(db: &impl ConnectionTrait, viewer: &Viewer, filter: &Filter, args: &Args) -> Result<Page<Model>> {
    let fingerprint = page::fingerprint(&("run_template", filter))?;
    page::page(db, select(db, viewer, filter), &NEWEST_FIRST, &fingerprint, args).await
}

/// Counts the matching templates that the viewer's org can read.
pub async fn count(db: &impl ConnectionTrait, viewer: &Viewer, filter: &Filter) -> Result<u64> {
    use sea_orm::PaginatorTrait;
    Ok(select(db, viewer, filter).count(db).await?)
}

/// A template with its base.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The template.
    pub template: Model,
    /// The base.
    pub base: Option<Model>,
}

impl Chain {
    /// Reads the template's base, if any.
    pub async fn of(db: &impl ConnectionTrait, template: Model) -> Result<Self> {
        let only = Self::of_all(db, vec![template]).await?.pop();
        only.ok_or_else(|| Error::internal("a template without a chain"))
    }

    /// Reads the bases of several templates. A base that was built in when it was chosen is read even if
    /// it is no longer offered to other orgs.
    pub async fn of_all(db: &impl ConnectionTrait, templates: Vec<Model>) -> Result<Vec<Self>> {
        let ids: Vec<RunTemplateId> = templates.iter().filter_map(|template| template.base_id).collect();
        let bases = if ids.is_empty() {
            Vec::new()
        } else {
            Entity::find().filter(any_of(db.get_database_backend(), COLUMN.id, ids)).all(db).await?
        };
        let base_of = |template: &Model| bases.iter().find(|base| Some(base.id) == template.base_id).cloned();
        Ok(templates.into_iter().map(|template| Self { base: base_of(&template), template }).collect())
    }

    /// Resolves the template's structure, with a campaign's overrides applied on top.
    pub fn resolve(&self, overrides: &Overrides) -> Resolved {
        let root = self.base.as_ref().unwrap_or(&self.template);
        let empty = Definition::default();
        let definition = root.definition.as_ref().unwrap_or(&empty);
        let mut changes = Vec::new();
        if self.base.is_some() {
            changes.push(Changes { layer: Layer::Org, overrides: &self.template.overrides });
        }
        changes.push(Changes { layer: Layer::Campaign, overrides });
        let mut resolved = layer::resolve(definition, layer_of(root), &changes);
        resolved.definition.template = self.template.name.clone();
        resolved
    }
}

/// Returns the layer of a template without a base.
pub fn layer_of(template: &Model) -> Layer {
    if template.built_in { Layer::Platform } else { Layer::Org }
}

/// The fields of a template; an update changes only the given ones.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The key, by which manifests and APIs refer to the template.
    pub key: Option<String>,
    /// The display name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The kind of its runs, fixed on creation; default: that of the base, else campaign runs.
    pub kind: Option<TemplateKind>,
    /// The structure; only without a base.
    pub definition: Option<Definition>,
    /// Problems found while parsing the definition.
    pub problems: Vec<Problem>,
    /// The template that it overrides; fixed on creation.
    pub base_id: Option<RunTemplateId>,
    /// The changes to the base.
    pub overrides: Option<Overrides>,
}

/// Creates a template. Errors: CONFLICT for a key that is taken; BAD_USER_INPUT for a missing key
/// or name, neither or both of a structure and a base, a structure with problems (all are reported).
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    judge::validate_before(db, viewer, None, fields).await?;
    transact!(db, |tx| create_in(tx, viewer, fields).await)
}

/// Same as [`create`], within the caller's transaction.
pub(crate) async fn create_in(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = validate::name("name", fields.name.as_deref().unwrap_or_default())?;
    let mut kind = fields.kind.unwrap_or(TemplateKind::Campaign);
    if let Some(id) = fields.base_id {
        let base = must_find(tx.db(), viewer, id).await?;
        if fields.kind.is_some_and(|kind| kind != base.kind) {
            return Err(Refusal::input("kind", format!("must be that of its base: {}", base.kind)).into());
        }
        kind = base.kind;
    }
    let key = fields.key.clone().unwrap_or_else(|| crate::domain::content::yaml::key_of(&name).replace('_', "-"));
    let key = check_key(&key)?;
    check_no_overrides_without_base(fields.base_id, fields)?;
    if fields.definition.is_some() == fields.base_id.is_some() {
        return Err(Refusal::input("definition", "give either a definition or a base with overrides").into());
    }
    let row = ActiveModel {
        id: Set(RunTemplateId::new()),
        org_id: Set(viewer.org_id),
        key: Set(key.clone()),
        name: Set(name.clone()),
        description: Set(validate::text("description", fields.description.as_deref().unwrap_or_default())?),
        kind: Set(kind),
        built_in: Set(false),
        base_id: Set(fields.base_id),
        definition: Set(fields
            .definition
            .clone()
            .map(|definition| Definition { template: name.clone(), ..definition })),
        overrides: Set(fields.overrides.clone().unwrap_or_default()),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    let row = match row.insert(tx.db()).await {
        Err(err) if error_codes::is_duplicate(&err) => {
            return Err(Refusal::conflict(format!("a run template `{key}` already exists")).into());
        }
        other => other?,
    };
    judge(tx, &row, fields).await?;
    created(tx, viewer, &row);
    Ok(row)
}

/// Updates the given fields; runs that have started keep the structure they started with.
/// Errors: NOT_FOUND, CONFLICT, BAD_USER_INPUT.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: RunTemplateId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    judge::validate_before(db, viewer, Some(id), fields).await?;
    transact!(db, |tx| update_in(tx, viewer, id, expected, fields).await)
}

/// Same as [`update`], within the caller's transaction.
pub(crate) async fn update_in(
    tx: &Tx,
    viewer: &Viewer,
    id: RunTemplateId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let found = must_lock(tx, viewer, id, expected).await?;
    check_not_built_in(&found)?;
    if fields.base_id.is_some_and(|base| Some(base) != found.base_id) {
        return Err(Refusal::input("baseId", "cannot be changed after creation").into());
    }
    if fields.kind.is_some_and(|kind| kind != found.kind) {
        return Err(Refusal::input("kind", format!("cannot be changed after creation: it is {}", found.kind)).into());
    }
    if fields.definition.is_some() && found.base_id.is_some() {
        return Err(Refusal::input("definition", "this template has a base: give `overrides` instead").into());
    }
    check_no_overrides_without_base(found.base_id, fields)?;
    let revision = found.revision;
    let kept_name = found.definition.as_ref().map_or_else(|| found.name.clone(), |kept| kept.template.clone());
    let mut row = found.into_active_model();
    if let Some(key) = &fields.key {
        row.key.set_if_not_equals(check_key(key)?);
    }
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(validate::name("name", name)?);
    }
    if let Some(text) = &fields.description {
        row.description.set_if_not_equals(validate::text("description", text)?);
    }
    if let Some(definition) = &fields.definition {
        // The name that the definition was created with: the same steps are the same definition, which an
        // approval covers.
        row.definition.set_if_not_equals(Some(Definition { template: kept_name, ..definition.clone() }));
    }
    if let Some(overrides) = &fields.overrides {
        row.overrides.set_if_not_equals(overrides.clone());
    }
    let row = save(tx, viewer, row, revision).await?;
    judge(tx, &row, fields).await?;
    Ok(row)
}

/// Rejects overrides on a template without a base: they would have no effect.
fn check_no_overrides_without_base(base: Option<RunTemplateId>, fields: &Fields) -> Result<()> {
    if base.is_none() && fields.overrides.as_ref().is_some_and(|overrides| !overrides.0.is_empty()) {
        return Err(Refusal::input("overrides", "not allowed without a base").into());
    }
    Ok(())
}

fn check_not_built_in(template: &Model) -> Result<()> {
    if template.built_in {
        let message = "this template is built in; to change it, create one that has it as its `baseId`";
        return Err(Refusal::conflict(message).into());
    }
    Ok(())
}

async fn check_deletable(_: &Tx, _: &WriteContext, _: &Viewer, was: &Model) -> Result<()> {
    check_not_built_in(was)
}

fn check_key(key: &str) -> Result<String> {
    let fits =
        !key.is_empty() && key.len() <= 80 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if fits {
        Ok(key.to_owned())
    } else {
        Err(Refusal::input(
            "key",
            "only letters, digits, _ and - are allowed, at most 80 of them, like `senior-devops-leader`",
        )
        .into())
    }
}

/// Parses a structure written in YAML or JSON. Returns the readable part and all problems of form.
pub fn written(value: &Value) -> (Definition, Vec<Problem>) {
    if value.to_string().len() > limits::DEFINITION_BYTES {
        let problem = Problem::new("", format!("must be at most {} bytes", limits::DEFINITION_BYTES));
        return (Definition::default(), vec![problem]);
    }
    read::definition(value, "", "")
}
