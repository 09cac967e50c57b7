//! Manifests: YAML files that declare the org's definitions.

use async_graphql::{Context, InputObject, Object, Result, SimpleObject};

use super::{db, viewer};
use crate::domain::manifest::{self as noun, Change, Problem};
use crate::graphql::counted::Counted;
use crate::kernel::quote;

/// A manifest to apply.
#[derive(InputObject)]
pub struct ApplyManifestInput {
    /// The manifest, as YAML (or JSON): `goals`, `writers`, `reviewers`, `messageTemplates`,
    /// `segments`, `agents`, `functions`, `runTemplates`.
    yaml: String,
    /// True to only return the changes without making them; false by default.
    dry_run: Option<bool>,
}

/// The changes that were made, or would be with `dryRun`.
#[derive(SimpleObject)]
pub struct ApplyManifestPayload {
    /// True if the changes were made.
    applied: bool,
    /// The change to each object, in the order of application.
    changes: Vec<Change>,
    /// All problems with the manifest, each with its line. If there are any, nothing was changed.
    problems: Vec<Problem>,
}

/// Query fields for manifests.
#[derive(Default)]
pub struct ManifestQuery;

#[Object]
impl ManifestQuery {
    /// The org's definitions as a YAML manifest. Applying it again changes nothing.
    #[graphql(complexity = "100")]
    async fn manifest(&self, ctx: &Context<'_>) -> Result<Counted<String>> {
        Ok(Counted(Box::pin(noun::export(db(ctx), viewer(ctx))).await?))
    }
}

/// Mutations for manifests.
#[derive(Default)]
pub struct ManifestMutation;

#[Object]
impl ManifestMutation {
    /// Applies a manifest in one transaction: creates missing objects, updates those that differ,
    /// and leaves the others as they are. Applying it twice changes nothing more. Problems with the
    /// manifest are part of the payload.
    async fn apply_manifest(&self, ctx: &Context<'_>, input: ApplyManifestInput) -> Result<ApplyManifestPayload> {
        let planned = input.dry_run.unwrap_or(false);
        let db = super::idempotent::keyed(ctx, None)?;
        let found = Box::pin(noun::apply(&db, viewer(ctx), &input.yaml, planned)).await?;
        let applied = !planned && found.problems.is_empty();
        let brief = |problem: Problem| Problem { message: quote::brief(problem.message), ..problem };
        let problems = found.problems.into_iter().map(brief).collect();
        Ok(ApplyManifestPayload { applied, changes: found.changes, problems })
    }
}
