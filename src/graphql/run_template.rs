//! The structures that runs are made from.

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
use crate::kernel::error::Refusal;
use crate::kernel::validate;

/// The structure of runs: phases → tasks → steps. The platform's, an org's own, or one that changes another.
pub struct RunTemplate(pub entity::run_template::Model);

/// The structure of runs: phases → tasks → steps. The platform's, an org's own, or one that changes another.
#[Object]
impl RunTemplate {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// By which manifests and other templates name it; unique within the org.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// For its readers; empty where nothing was said.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// What runs it is for.
    async fn kind(&self) -> TemplateKind {
        self.0.kind
    }

    /// Whose it is: PLATFORM for built-in ones, which all orgs read; ORG for the org's own.
    async fn layer(&self) -> Layer {
        noun::layer_of(&self.0)
    }

    /// Whether it came with the program, which keeps it as it is.
    async fn built_in(&self) -> bool {
        self.0.built_in
    }

    /// The template that it changes; null where it stands alone.
    async fn base(&self, ctx: &Context<'_>) -> Result<Option<RunTemplate>> {
        Ok(load(ctx, self.0.base_id).await?.map(RunTemplate))
    }

    /// Its own structure; null where it changes another template.
    async fn definition(&self) -> Option<Counted<Definition>> {
        self.0.definition.clone().map(Counted)
    }

    /// What it changes in its base, in order; empty where it stands alone.
    async fn overrides(&self) -> Vec<Override> {
        self.0.overrides.0.clone()
    }

    /// The structure that comes of it and its base.
    #[graphql(complexity = "20 + child_complexity")]
    async fn resolved_definition(&self, ctx: &Context<'_>) -> Result<Counted<ResolvedDefinition>> {
        let chain = Box::pin(Chain::of(db(ctx).read(), self.0.clone())).await?;
        let resolved = chain.resolve(&Overrides::default());
        Box::pin(ResolvedDefinition::of(ctx, self.0.kind, resolved)).await.map(Counted)
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When it was last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A structure after layering.
#[derive(SimpleObject)]
pub struct ResolvedDefinition {
    /// What runs are made from.
    pub definition: Definition,
    /// The layer of each phase, task and step, and of each field that an override set; in order of their paths.
    pub origins: Vec<PartOrigin>,
    /// All that is wrong with it, each with its path; empty where it may fly.
    pub problems: Vec<Problem>,
}

impl ResolvedDefinition {
    /// Judged against those who may do its steps.
    pub async fn of(ctx: &Context<'_>, kind: TemplateKind, resolved: Resolved) -> Result<Self> {
        let executors = Executors::of(db(ctx).read(), viewer(ctx), &resolved.definition).await?;
        let mut problems = resolved.problems;
        problems.extend(noun::judged(kind, &resolved.definition, Some(&executors)).await?);
        noun::in_time("resolvedDefinition", &problems)?;
        let origins = resolved.origins.into_iter().map(|(path, layer)| PartOrigin { path, layer }).collect();
        Ok(Self { definition: resolved.definition, origins, problems })
    }
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct RunTemplateQuery;

#[Object]
impl RunTemplateQuery {
    /// One by its id; null where the org can read none with it.
    async fn run_template(&self, ctx: &Context<'_>, id: ID) -> Result<Option<RunTemplate>> {
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), validate::id("id", &id)?)).await?.map(RunTemplate))
    }

    /// Those that can be read, the platform's among them, the newest first. `first` after a cursor, or `last` before one; 50
    /// unless said, at most 500.
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

/// What is to be made: a structure of its own, or a base with overrides.
#[derive(InputObject)]
pub struct CreateRunTemplateInput {
    /// By which manifests and other templates name it; made of the name unless said.
    key: Option<String>,
    /// The name.
    name: String,
    /// For its readers.
    description: Option<String>,
    /// What runs it is for, fixed once it is made; those of campaigns unless said, and where it has a base those of that.
    kind: Option<TemplateKind>,
    /// Its structure, typed.
    definition: Option<Definition>,
    /// Its structure as YAML (or JSON), in place of `definition`.
    yaml: Option<String>,
    /// The template that it changes, in place of a structure of its own.
    base_id: Option<ID>,
    /// What it changes there: a map of paths in which null removes and all else replaces, or a list of
    /// `{path, op, value, before}`.
    overrides: Option<Json<Value>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given.
#[derive(InputObject)]
pub struct UpdateRunTemplateInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another key.
    key: Option<String>,
    /// Another name.
    name: Option<String>,
    /// Another description.
    description: Option<String>,
    /// Another structure, typed.
    definition: Option<Definition>,
    /// Another structure as YAML (or JSON), in place of `definition`.
    yaml: Option<String>,
    /// All overrides anew; null takes them away.
    overrides: MaybeUndefined<Json<Value>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct RunTemplatePayload {
    /// As it is now.
    run_template: RunTemplate,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct RunTemplateMutation;

#[Object]
impl RunTemplateMutation {
    /// Makes one. Refused with BAD_USER_INPUT, where `problems` tells all that is wrong, each with its path; NOT_FOUND for a
    /// base that is not there; CONFLICT for a key that is taken.
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

    /// Changes what is given; runs that have begun keep what they began with. Refused with NOT_FOUND, CONFLICT,
    /// BAD_USER_INPUT as for making one.
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

/// The structure that is given, typed or written.
fn structure(typed: Option<Definition>, text: Option<String>) -> Result<(Option<Definition>, Vec<Problem>)> {
    match (typed, text) {
        (Some(_), Some(_)) => Err(Refusal::input("yaml", "give `definition` or `yaml`, one of them").into()),
        (typed, None) => Ok((typed, Vec::new())),
        (None, Some(text)) => {
            let read = yaml::read(&text).map_err(|why| Refusal::input("yaml", why))?;
            let (definition, problems) = noun::written(&read.value);
            Ok((Some(definition), problems))
        }
    }
}
