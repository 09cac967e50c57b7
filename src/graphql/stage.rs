//! Stages: the pipelines of the org's records, per kind.

use async_graphql::{Context, InputObject, Object, Result, SimpleObject};

use super::{db, viewer};
use crate::domain::audience::stage as noun;

/// The stages of a kind of record, in order.
#[derive(SimpleObject)]
pub struct Pipeline {
    /// The kind of record, e.g. `partnership`.
    record_kind: String,
    /// Stages from first to last.
    stages: Vec<String>,
    /// True if the org has defined the stages; false for the built-in ones.
    own: bool,
}

impl From<noun::Pipeline> for Pipeline {
    fn from(found: noun::Pipeline) -> Self {
        Self { record_kind: found.kind, stages: found.stages, own: found.own }
    }
}

/// Query fields for stages.
#[derive(Default)]
pub struct StageQuery;

#[Object]
impl StageQuery {
    /// The pipelines, one per kind of record. Records of kinds without a pipeline may have any
    /// stage.
    async fn stages(&self, ctx: &Context<'_>, record_kind: Option<String>) -> Result<Vec<Pipeline>> {
        let all = Box::pin(noun::all(db(ctx).read(), viewer(ctx))).await?;
        let matches = |found: &noun::Pipeline| record_kind.as_ref().is_none_or(|kind| *kind == found.kind);
        Ok(all.into_iter().filter(matches).map(Pipeline::from).collect())
    }
}

/// New stages of a pipeline.
#[derive(InputObject)]
pub struct SetStagesInput {
    /// The kind of record.
    record_kind: String,
    /// All stages, in order; an empty list restores the built-in ones.
    stages: Vec<String>,
    /// Idempotency key. Repeating the request with the same key within seven days changes nothing
    /// and returns the current pipeline.
    idempotency_key: Option<String>,
}

/// The changed pipeline.
#[derive(SimpleObject)]
pub struct SetStagesPayload {
    /// The pipeline after the change; null if the kind has neither stages of the org nor built-in
    /// ones.
    pipeline: Option<Pipeline>,
}

/// Mutations for stages.
#[derive(Default)]
pub struct StageMutation;

#[Object]
impl StageMutation {
    /// Sets the stages of a kind of record, in order. Records keep their current stage.
    async fn set_stages(&self, ctx: &Context<'_>, input: SetStagesInput) -> Result<SetStagesPayload> {
        let (kind, stages) = (&input.record_kind, &input.stages);
        let found = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(noun::set(db, viewer(ctx), kind, stages)),
            |id| async {
                let _: super::idempotent::AnyResultId = id;
                noun::of_kind(db.read(), viewer(ctx), kind).await
            }
        );
        Ok(SetStagesPayload { pipeline: found.map(Pipeline::from) })
    }
}
