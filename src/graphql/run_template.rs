//! Run templates: the structures of runs, in layers, with their queries and mutations.

use async_graphql::{Context, ID, InputObject, Json, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::TemplateKind;
use entity::definition::{Definition, Layer, Override, Overrides};
use entity::id::RunTemplateId;
use serde_json::Value;

use super::list::{List, Totals, args, list};
use super::loader::load;
use super::{db, viewer};
use crate::domain::content::yaml;
use crate::domain::plan::run_template::layer::{self, PartOrigin, Resolved};
use crate::domain::plan::run_template::{self as noun, Chain, Executors, Problem};
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::error::Refusal;
use crate::kernel::validate;

/// A structure of runs: phases → tasks → steps. Built in, the org's own, or a base with overrides.
pub struct RunTemplate(pub entity::run_template::Model);

impl RowFields for RunTemplate {}

/// A structure of runs: phases → tasks → steps. Built in, the org's own, or a base with overrides.
#[Object]
impl RunTemplate {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The key that manifests and other templates refer to; unique within the org.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Free text for readers; empty if none was given.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// The kind of runs that it is for.
    async fn kind(&self) -> TemplateKind {
        self.0.kind
    }

    /// Owner: PLATFORM for built-in templates, which all orgs can read; ORG for the org's own.
    async fn layer(&self) -> Layer {
        noun::layer_of(&self.0)
    }

    /// True for a built-in template, which can't be changed.
    async fn built_in(&self) -> bool {
        self.0.built_in
    }

    /// The template whose structure it overrides; null if it has a structure of its own.
    async fn base(&self, ctx: &Context<'_>) -> Result<Option<RunTemplate>> {
        Ok(load(ctx, self.0.base_id).await?.map(RunTemplate))
    }

    /// The run template's own structure; null if it overrides another template.
    async fn definition(&self) -> Option<Counted<Definition>> {
        self.0.definition.clone().map(Counted)
    }

    /// The run template's changes to the base, in order; empty if it has no base.
    async fn overrides(&self) -> Vec<Override> {
        self.0.overrides.0.clone()
    }

    /// The structure that results from its base and its overrides.
    #[graphql(complexity = "20 + child_complexity")]
    async fn resolved_definition(&self, ctx: &Context<'_>) -> Result<Counted<ResolvedDefinition>> {
        let chain = Box::pin(Chain::of(db(ctx).read(), self.0.clone())).await?;
        let resolved = chain.resolve(&Overrides::default());
        Box::pin(ResolvedDefinition::of(ctx, self.0.kind, resolved)).await.map(Counted)
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A structure after all layers are combined.
#[derive(SimpleObject)]
pub struct ResolvedDefinition {
    /// The structure that runs start with.
    pub definition: Definition,
    /// The layer of each phase, task and step, and of each field that an override set, in order of
    /// paths.
    pub origins: Vec<PartOrigin>,
    /// All problems with the structure, each with its path; empty if it is valid.
    pub problems: Vec<Problem>,
}

impl ResolvedDefinition {
    /// Validates the structure, also against the members and agents that its steps name.
    pub async fn of(ctx: &Context<'_>, kind: TemplateKind, resolved: Resolved) -> Result<Self> {
        let db = db(ctx);
        let executors = Executors::of(db.read(), viewer(ctx), &resolved.definition).await?.with_model(db.has_model());
        let mut problems = resolved.problems;
        problems.extend(noun::problems_within_budget(kind, &resolved.definition, Some(&executors)).await?);
        noun::check_not_late("resolvedDefinition", &problems)?;
        let origins = resolved.origins.into_iter().map(|(path, layer)| PartOrigin { path, layer }).collect();
        Ok(Self { definition: resolved.definition, origins, problems })
    }
}

/// Query fields for run templates.
#[derive(Default)]
pub struct RunTemplateQuery;

#[Object]
impl RunTemplateQuery {
    /// Returns the run template with this id; null if there is none that the org can read.
    async fn run_template(&self, ctx: &Context<'_>, id: ID) -> Result<Option<RunTemplate>> {
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), validate::id("id", &id)?)).await?.map(RunTemplate))
    }

    /// Run templates that the org can read, including built-in ones, newest first. Page with
    /// `first` and `after`, or `last` and `before`; page size 50 by default, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn run_templates(
        &self,
        ctx: &Context<'_>,
        filter: Option<noun::Filter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<RunTemplate>> {
        let filter = filter.unwrap_or_default();
        let args = args(first, after, last, before);
        let page = Box::pin(noun::page(db(ctx).read(), viewer(ctx), &filter, &args)).await?;
        Ok(list(page, Totals::RunTemplates(filter), RunTemplate))
    }
}
deletion!(RunTemplateDeletion: delete_run_template of RunTemplateId);

/// Fields of a new run template: a structure of its own, or a base with overrides.
#[derive(InputObject)]
pub struct CreateRunTemplateInput {
    /// The key that manifests and other templates refer to; derived from the name by default.
    key: Option<String>,
    /// The name.
    name: String,
    /// Free text for readers.
    description: Option<String>,
    /// The kind of runs that it is for; can't be changed later. The base's kind by default, or
    /// CAMPAIGN without a base.
    kind: Option<TemplateKind>,
    /// The structure as a typed input.
    definition: Option<Definition>,
    /// The structure as YAML (or JSON), instead of `definition`.
    yaml: Option<String>,
    /// Id of the template to override, instead of a structure of its own.
    base_id: Option<ID>,
    /// Changes to the base: a map from paths to new values, in which null removes, or a list of
    /// `{path, op, value, before}`.
    overrides: Option<Json<Value>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a run template. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateRunTemplateInput {
    /// Id of the run template.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the run template has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// The new key.
    key: Option<String>,
    /// The new name.
    name: Option<String>,
    /// The new description.
    description: Option<String>,
    /// The new structure as a typed input.
    definition: Option<Definition>,
    /// The new structure as YAML (or JSON), instead of `definition`.
    yaml: Option<String>,
    /// The new overrides, which replace all current ones; null removes them.
    overrides: MaybeUndefined<Json<Value>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed run template.
#[derive(SimpleObject)]
pub struct RunTemplatePayload {
    /// The run template after the change.
    run_template: RunTemplate,
}

/// Mutations for run templates.
#[derive(Default)]
pub struct RunTemplateMutation;

#[Object]
impl RunTemplateMutation {
    /// Creates a run template. Rejected with BAD_USER_INPUT, with all problems and their paths in
    /// `problems`; with NOT_FOUND for an unknown base; with CONFLICT if the key is taken.
    async fn create_run_template(
        &self,
        ctx: &Context<'_>,
        input: CreateRunTemplateInput,
    ) -> Result<RunTemplatePayload> {
        let (definition, problems) = structure(input.definition, input.yaml)?;
        let fields = noun::Fields {
            key: input.key,
            name: Some(input.name),
            description: input.description,
            kind: input.kind,
            definition,
            problems,
            base_id: input.base_id.map(|id| validate::id("baseId", &id)).transpose()?,
            overrides: input.overrides.map(|given| overrides(&given.0)).transpose()?,
        };
        let made = idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields));
        Ok(RunTemplatePayload { run_template: RunTemplate(made) })
    }

    /// Updates the given fields. Runs that have started keep their structure. Rejected with
    /// NOT_FOUND, CONFLICT or BAD_USER_INPUT, as `createRunTemplate` is.
    async fn update_run_template(
        &self,
        ctx: &Context<'_>,
        input: UpdateRunTemplateInput,
    ) -> Result<RunTemplatePayload> {
        let id = validate::id::<RunTemplateId>("id", &input.id)?;
        let (definition, problems) = structure(input.definition, input.yaml)?;
        let overrides = match input.overrides {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(Overrides::default()),
            MaybeUndefined::Value(given) => Some(overrides(&given.0)?),
        };
        let fields = noun::Fields {
            key: input.key,
            name: input.name,
            description: input.description,
            kind: None,
            definition,
            problems,
            base_id: None,
            overrides,
        };
        let expected = input.expected_revision;
        let changed =
            idempotent!(ctx, input.idempotency_key, |db| noun::update(db, viewer(ctx), id, expected, &fields));
        Ok(RunTemplatePayload { run_template: RunTemplate(changed) })
    }
}

fn overrides(given: &Value) -> Result<Overrides> {
    Ok(layer::overrides(given).map_err(|why| Refusal::input("overrides", why))?)
}

/// Returns the given structure, from the typed input or from YAML.
fn structure(typed: Option<Definition>, text: Option<String>) -> Result<(Option<Definition>, Vec<Problem>)> {
    match (typed, text) {
        (Some(_), Some(_)) => Err(Refusal::input("yaml", "give either `definition` or `yaml`, not both").into()),
        (typed, None) => Ok((typed, Vec::new())),
        (None, Some(text)) => {
            let read = yaml::read(&text).map_err(|why| Refusal::input("yaml", why))?;
            let (definition, problems) = noun::written(&read.value);
            Ok((Some(definition), problems))
        }
    }
}
