//! Manifests: what is to be, in one text.

use async_graphql::{Context, InputObject, Object, Result, SimpleObject};

use super::{db, viewer};
use crate::domain::manifest::{self as noun, Change, Problem};
use crate::graphql::counted::Counted;

/// A manifest to be applied.
#[derive(InputObject)]
pub struct ApplyManifestInput {
    /// The manifest, as YAML (or JSON): `goals`, `writers`, `reviewers`, `messageTemplates`, `segments`, `agents`,
    /// `functions`, `runTemplates`.
    yaml: String,
    /// Only shows what would be done; false unless said.
    dry_run: Option<bool>,
}

/// What was done, or would be.
#[derive(SimpleObject)]
pub struct ApplyManifestPayload {
    /// Whether it was carried out.
    applied: bool,
    /// What becomes of each thing, in the order in which it is done.
    changes: Vec<Change>,
    /// All that is wrong, each with its line; then nothing was done.
    problems: Vec<Problem>,
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct ManifestQuery;

#[Object]
impl ManifestQuery {
    /// What the org has of what a manifest may declare, as YAML: applied again, it changes nothing.
    #[graphql(complexity = "100")]
    async fn manifest(&self, ctx: &Context<'_>) -> Result<Counted<String>> {
        Ok(Counted(Box::pin(noun::export(db(ctx), viewer(ctx))).await?))
    }
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct ManifestMutation;

#[Object]
impl ManifestMutation {
    /// Makes it so: what is missing is made, what differs is changed, what is not named stays; all of it in one transaction,
    /// or nothing. Applied twice it changes nothing. What is wrong is part of the payload.
    async fn apply_manifest(&self, ctx: &Context<'_>, input: ApplyManifestInput) -> Result<ApplyManifestPayload> {
        let planned = input.dry_run.unwrap_or(false);
        let db = super::idempotent::keyed(ctx, None)?;
        let found = Box::pin(noun::apply(&db, viewer(ctx), &input.yaml, planned)).await?;
        let applied = !planned && found.problems.is_empty();
        Ok(ApplyManifestPayload { applied, changes: found.changes, problems: found.problems })
    }
}
