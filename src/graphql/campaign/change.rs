//! What people do with a campaign: make, change, and every edge of its law.

use async_graphql::{Context, ID, InputObject, Json, MaybeUndefined, Object, Result, SimpleObject};
use entity::Channel;
use entity::campaign::CampaignTransition;
use entity::id::CampaignId;

use super::Campaign;
use crate::domain::plan::campaign::preflight::Preflight;
use crate::domain::plan::campaign::transition::SeenState;
use crate::domain::plan::campaign::{self as noun};
use crate::graphql::record::given;
use crate::graphql::viewer;
use crate::kernel::validate;

/// What is to be made; only the name is needed, the rest may come piece by piece.
#[derive(InputObject)]
pub struct CreateCampaignInput {
    /// The name.
    name: String,
    /// For its readers.
    description: Option<String>,
    /// The way to its records; EMAIL unless said.
    channel: Option<Channel>,
    /// What it is for.
    goal_id: Option<ID>,
    /// Where its content comes from.
    writer_id: Option<ID>,
    /// Who lets content out.
    reviewer_id: Option<ID>,
    /// What is rendered.
    message_template_id: Option<ID>,
    /// Its audience.
    segment_id: Option<ID>,
    /// Its one record, in place of a segment.
    record_id: Option<ID>,
    /// The structure of its runs; the platform's for its channel, unless said.
    run_template_id: Option<ID>,
    /// What it changes in that structure: a map of paths in which null removes and all else replaces, or a list of
    /// `{path, op, value, before}`.
    overrides: Option<Json<serde_json::Value>>,
    /// What its writer is told.
    instructions: Option<String>,
    /// Values for placeholders, a flat object.
    variables: Option<Json<serde_json::Value>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given; null takes away.
#[derive(InputObject)]
pub struct UpdateCampaignInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another name.
    name: Option<String>,
    /// Another description.
    description: Option<String>,
    /// Another channel.
    channel: Option<Channel>,
    /// Another goal.
    goal_id: MaybeUndefined<ID>,
    /// Another writer.
    writer_id: MaybeUndefined<ID>,
    /// Another reviewer.
    reviewer_id: MaybeUndefined<ID>,
    /// Another message template.
    message_template_id: MaybeUndefined<ID>,
    /// Another audience.
    segment_id: MaybeUndefined<ID>,
    /// Another record, in place of a segment.
    record_id: MaybeUndefined<ID>,
    /// Another structure of its runs; null: the platform's for its channel.
    run_template_id: MaybeUndefined<ID>,
    /// All overrides anew, a map of paths or a list of `{path, op, value, before}`.
    overrides: Option<Json<serde_json::Value>>,
    /// Other instructions.
    instructions: Option<String>,
    /// All variables anew, a flat object.
    variables: Option<Json<serde_json::Value>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Of which campaign another is to be made.
#[derive(InputObject)]
pub struct DuplicateCampaignInput {
    /// Which one.
    id: ID,
    /// The name of the new one; `Copy of …` unless said.
    name: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Which version a campaign is to be brought back to.
#[derive(InputObject)]
pub struct RestoreCampaignVersionInput {
    /// Which campaign.
    id: ID,
    /// Which of its versions: 1, 2, 3 …
    version: i32,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Which campaign is to take a step.
#[derive(InputObject)]
pub struct CampaignActInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The `contentVersion` of a preflight that you saw; refused with CONFLICT when anything that an approval covers has changed
    /// since, also in its message template, segment or another part.
    expected_content_version: Option<String>,
    /// Why; needed to reject, kept where it is given.
    reason: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct CampaignPayload {
    /// As it is now.
    campaign: Campaign,
}

/// The campaign, and the preflight that let it pass or held it back.
#[derive(SimpleObject)]
pub struct CampaignPreflightPayload {
    /// As it is now; unchanged where the preflight is not ready.
    campaign: Campaign,
    /// The preflight for RUN, without the activity check.
    preflight: Preflight,
}

deletion!(CampaignDeletion: delete_campaign of CampaignId);

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct CampaignMutation;

#[Object]
impl CampaignMutation {
    /// Makes one, as a draft. Refused with BAD_USER_INPUT, or NOT_FOUND for a part that is not there.
    async fn create_campaign(&self, ctx: &Context<'_>, input: CreateCampaignInput) -> Result<CampaignPayload> {
        let fields = noun::Fields {
            name: Some(input.name),
            description: input.description,
            channel: input.channel,
            goal_id: part("goalId", input.goal_id)?,
            writer_id: part("writerId", input.writer_id)?,
            reviewer_id: part("reviewerId", input.reviewer_id)?,
            message_template_id: part("messageTemplateId", input.message_template_id)?,
            segment_id: part("segmentId", input.segment_id)?,
            record_id: part("recordId", input.record_id)?,
            run_template_id: part("runTemplateId", input.run_template_id)?,
            overrides: overrides(input.overrides)?,
            instructions: input.instructions,
            variables: input.variables.map(|variables| variables.0),
        };
        Ok(CampaignPayload {
            campaign: idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields)).into(),
        })
    }

    /// Changes what is given, which makes a new version. Refused with NOT_FOUND, CONFLICT, BAD_USER_INPUT,
    /// INVALID_TRANSITION.
    async fn update_campaign(&self, ctx: &Context<'_>, input: UpdateCampaignInput) -> Result<CampaignPayload> {
        let fields = noun::Fields {
            name: input.name,
            description: input.description,
            channel: input.channel,
            goal_id: change("goalId", &input.goal_id)?,
            writer_id: change("writerId", &input.writer_id)?,
            reviewer_id: change("reviewerId", &input.reviewer_id)?,
            message_template_id: change("messageTemplateId", &input.message_template_id)?,
            segment_id: change("segmentId", &input.segment_id)?,
            record_id: change("recordId", &input.record_id)?,
            run_template_id: change("runTemplateId", &input.run_template_id)?,
            overrides: overrides(input.overrides)?,
            instructions: input.instructions,
            variables: input.variables.map(|variables| variables.0),
        };
        let id = validate::id("id", &input.id)?;
        let changed = idempotent!(ctx, input.idempotency_key, |db| noun::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(CampaignPayload { campaign: changed.into() })
    }

    /// Makes another from it: a draft with all its parts, named `Copy of …` unless said. Refused with NOT_FOUND.
    async fn duplicate_campaign(&self, ctx: &Context<'_>, input: DuplicateCampaignInput) -> Result<CampaignPayload> {
        let id = validate::id("id", &input.id)?;
        let name = input.name.as_deref();
        let campaign = idempotent!(ctx, input.idempotency_key, |db| noun::duplicate(db, viewer(ctx), id, name));
        Ok(CampaignPayload { campaign: campaign.into() })
    }

    /// Makes it again as it was at a version, which is a new version. Refused with NOT_FOUND, also for a part that is not
    /// there any more, CONFLICT, BAD_USER_INPUT, INVALID_TRANSITION.
    async fn restore_campaign_version(
        &self,
        ctx: &Context<'_>,
        input: RestoreCampaignVersionInput,
    ) -> Result<CampaignPayload> {
        let id = validate::id("id", &input.id)?;
        let (expected, version) = (input.expected_revision, input.version);
        let campaign =
            idempotent!(ctx, input.idempotency_key, |db| noun::restore(db, viewer(ctx), id, expected, version));
        Ok(CampaignPayload { campaign: campaign.into() })
    }

    /// Draft → pending approval. Held back while its preflight fails, which the payload shows.
    async fn submit_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPreflightPayload> {
        pass(ctx, input, CampaignTransition::Submit).await
    }

    /// Pending approval → active. Held back while its preflight fails, which the payload shows.
    async fn approve_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPreflightPayload> {
        pass(ctx, input, CampaignTransition::Approve).await
    }

    /// Pending approval → draft, with a reason.
    async fn reject_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Reject).await
    }

    /// Active → paused: nothing of it launches, fires, is claimed or sent until it is resumed.
    async fn pause_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Pause).await
    }

    /// Paused → active.
    async fn resume_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Resume).await
    }

    /// Active → completed, once no run is open; ends its schedules.
    async fn complete_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Complete).await
    }

    /// Calls it off, with its runs and schedules. Twice is once.
    async fn cancel_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Cancel).await
    }
}

async fn pass(ctx: &Context<'_>, input: CampaignActInput, act: CampaignTransition) -> Result<CampaignPreflightPayload> {
    let id = validate::id("id", &input.id)?;
    let seen = SeenState { revision: input.expected_revision, content: input.expected_content_version.as_deref() };
    let (campaign, preflight) =
        idempotent!(ctx, input.idempotency_key, |db| noun::transition::pass(db, viewer(ctx), id, seen, act), |id| {
            noun::transition::passed(db, viewer(ctx), id)
        });
    Ok(CampaignPreflightPayload { campaign: campaign.into(), preflight })
}

async fn act(ctx: &Context<'_>, input: CampaignActInput, act: CampaignTransition) -> Result<CampaignPayload> {
    let id = validate::id("id", &input.id)?;
    let seen = SeenState { revision: input.expected_revision, content: input.expected_content_version.as_deref() };
    let reason = input.reason.as_deref();
    let campaign =
        idempotent!(ctx, input.idempotency_key, |db| noun::transition::act(db, viewer(ctx), id, seen, act, reason));
    Ok(CampaignPayload { campaign: campaign.into() })
}

fn part<I: entity::id::Id>(field: &str, id: Option<ID>) -> Result<Option<Option<I>>> {
    Ok(id.map(|id| validate::id(field, &id)).transpose()?.map(Some))
}

fn change<I: entity::id::Id>(field: &str, id: &MaybeUndefined<ID>) -> Result<Option<Option<I>>> {
    let read = given(id).map(|id| id.map(|id| validate::id(field, &id)).transpose());
    Ok(read.transpose()?)
}

fn overrides(given: Option<Json<serde_json::Value>>) -> Result<Option<entity::definition::Overrides>> {
    let read = given.map(|given| crate::domain::plan::run_template::layer::overrides(&given.0)).transpose();
    Ok(read.map_err(|why| crate::kernel::error::Refusal::input("overrides", why))?)
}
