//! Stages: the pipelines of the org's records.

use async_graphql::{Context, InputObject, Object, Result, SimpleObject};

use super::{db, viewer};
use crate::domain::audience::stage as noun;

/// The stages of a kind of record, in their order.
#[derive(SimpleObject)]
pub struct Pipeline {
    /// The kind of records: `partnership`.
    record_kind: String,
    /// Their stages, from the first to the last.
    stages: Vec<String>,
    /// Whether the org has set them; false for those that come with the program.
    own: bool,
}

impl From<noun::Pipeline> for Pipeline {
    fn from(found: noun::Pipeline) -> Self {
        Self { record_kind: found.kind, stages: found.stages, own: found.own }
    }
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct StageQuery;

#[Object]
impl StageQuery {
    /// The pipelines, by the kind of their records. Records of other kinds may have any stage.
    async fn stages(&self, ctx: &Context<'_>, record_kind: Option<String>) -> Result<Vec<Pipeline>> {
        let all = Box::pin(noun::all(db(ctx).read(), viewer(ctx))).await?;
        let wanted = |found: &noun::Pipeline| record_kind.as_ref().is_none_or(|kind| *kind == found.kind);
        Ok(all.into_iter().filter(wanted).map(Pipeline::from).collect())
    }
}

/// A pipeline anew.
#[derive(InputObject)]
pub struct SetStagesInput {
    /// The kind of records.
    record_kind: String,
    /// All stages, in their order; empty: those that come with the program are in force again.
    stages: Vec<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the pipeline as it is then.
    idempotency_key: Option<String>,
}

/// What was set.
#[derive(SimpleObject)]
pub struct SetStagesPayload {
    /// As it is now; null where neither the org nor the program has one.
    pipeline: Option<Pipeline>,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct StageMutation;

#[Object]
impl StageMutation {
    /// Sets the stages of a kind of record, in their order. Records keep the stage that they have.
    async fn set_stages(&self, ctx: &Context<'_>, input: SetStagesInput) -> Result<SetStagesPayload> {
        let (kind, stages) = (&input.record_kind, &input.stages);
        let found = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(noun::set(db, viewer(ctx), kind, stages)),
            |id| async {
                let _: super::idempotent::Anything = id;
                noun::of_kind(db.read(), viewer(ctx), kind).await
            }
        );
        Ok(SetStagesPayload { pipeline: found.map(Pipeline::from) })
    }
}
