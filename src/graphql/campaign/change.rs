//! Campaign mutations: create, update, duplicate, restore a version, and every transition of the
//! state machine.

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

/// Fields of a new campaign. Only the name is required; the rest can be set later.
#[derive(InputObject)]
pub struct CreateCampaignInput {
    /// The name.
    name: String,
    /// Free text for readers.
    description: Option<String>,
    /// Message channel; EMAIL by default.
    channel: Option<Channel>,
    /// Id of the goal.
    goal_id: Option<ID>,
    /// Id of the writer: the source of the content.
    writer_id: Option<ID>,
    /// Id of the reviewer, who approves the content.
    reviewer_id: Option<ID>,
    /// Id of the message template to render.
    message_template_id: Option<ID>,
    /// Id of the segment that is the audience.
    segment_id: Option<ID>,
    /// Id of a single record as the audience, instead of a segment.
    record_id: Option<ID>,
    /// Id of the run template; the platform's template for the channel by default.
    run_template_id: Option<ID>,
    /// Changes to the run template: a map of paths, in which null removes and any other value
    /// replaces, or a list of `{path, op, value, before}`.
    overrides: Option<Json<serde_json::Value>>,
    /// Instructions for the writer, in addition to its own.
    instructions: Option<String>,
    /// Values for placeholders, a flat object.
    variables: Option<Json<serde_json::Value>>,
    /// Tags, at most 20 of at most 40 characters; none by default.
    tags: Option<Vec<String>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a campaign. Omitted fields stay as they are; null clears the fields whose name ends in
/// `Id`, and leaves others as they are.
#[derive(InputObject)]
pub struct UpdateCampaignInput {
    /// Id of the campaign.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the campaign has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// The new name.
    name: Option<String>,
    /// The new description.
    description: Option<String>,
    /// The new channel.
    channel: Option<Channel>,
    /// Id of the new goal.
    goal_id: MaybeUndefined<ID>,
    /// Id of the new writer.
    writer_id: MaybeUndefined<ID>,
    /// Id of the new reviewer.
    reviewer_id: MaybeUndefined<ID>,
    /// Id of the new message template.
    message_template_id: MaybeUndefined<ID>,
    /// Id of the segment that is the new audience.
    segment_id: MaybeUndefined<ID>,
    /// Id of a single record as the new audience, instead of a segment.
    record_id: MaybeUndefined<ID>,
    /// Id of the new run template; null: the platform's template for the channel.
    run_template_id: MaybeUndefined<ID>,
    /// Replaces all overrides: a map of paths or a list of `{path, op, value, before}`.
    overrides: Option<Json<serde_json::Value>>,
    /// The new instructions for the writer.
    instructions: Option<String>,
    /// Replaces all variables, a flat object.
    variables: Option<Json<serde_json::Value>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the campaign to copy.
#[derive(InputObject)]
pub struct DuplicateCampaignInput {
    /// Id of the campaign.
    id: ID,
    /// Name of the copy; `Copy of …` by default.
    name: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the version to restore.
#[derive(InputObject)]
pub struct RestoreCampaignVersionInput {
    /// Id of the campaign.
    id: ID,
    /// Number of the version, starting at 1.
    version: i32,
    /// Expected revision: rejected with CONFLICT if the campaign has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The tags to give to a campaign.
#[derive(InputObject)]
pub struct SetCampaignTagsInput {
    /// Id of the campaign.
    id: ID,
    /// The tags in place of all that it has, at most 20 of at most 40 characters. An empty list
    /// removes them.
    tags: Vec<String>,
    /// Expected revision: rejected with CONFLICT if the campaign has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the campaign to archive, or to take back.
#[derive(InputObject)]
pub struct ArchiveCampaignInput {
    /// Id of the campaign.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the campaign has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Reason, stored in the event.
    reason: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the campaign of a transition.
#[derive(InputObject)]
pub struct CampaignActInput {
    /// Id of the campaign.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the campaign has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Expected `contentVersion`, from a preflight: rejected with CONFLICT if anything covered by
    /// an approval has changed since, including the message template, the segment and other parts.
    expected_content_version: Option<String>,
    /// Reason, stored in the event of the transition. Required by rejectCampaign, which stores it
    /// in `Campaign.rejectedBecause`, too.
    reason: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed campaign.
#[derive(SimpleObject)]
pub struct CampaignPayload {
    /// The campaign after the change.
    campaign: Campaign,
}

/// The campaign and its preflight, which allowed or blocked the transition.
#[derive(SimpleObject)]
pub struct CampaignPreflightPayload {
    /// The campaign after the transition; unchanged if the preflight is not ready.
    campaign: Campaign,
    /// The preflight for RUN, without the check that the campaign is active.
    preflight: Preflight,
}

deletion!(CampaignDeletion: delete_campaign of CampaignId);

/// Mutations for campaigns.
#[derive(Default)]
pub struct CampaignMutation;

#[Object]
impl CampaignMutation {
    /// Creates a campaign as a draft. Rejected with BAD_USER_INPUT, or NOT_FOUND if a part does not
    /// exist.
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
            tags: input.tags,
        };
        Ok(CampaignPayload {
            campaign: idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields)).into(),
        })
    }

    /// Updates the given fields; a change creates a new version. Rejected with NOT_FOUND, CONFLICT,
    /// BAD_USER_INPUT or INVALID_TRANSITION.
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
            tags: None,
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

    /// Creates a draft copy of a campaign with all its parts, named `Copy of …` by default.
    /// Rejected with NOT_FOUND.
    async fn duplicate_campaign(&self, ctx: &Context<'_>, input: DuplicateCampaignInput) -> Result<CampaignPayload> {
        let id = validate::id("id", &input.id)?;
        let name = input.name.as_deref();
        let campaign = idempotent!(ctx, input.idempotency_key, |db| noun::duplicate(db, viewer(ctx), id, name));
        Ok(CampaignPayload { campaign: campaign.into() })
    }

    /// Restores a version, which creates a new version. Rejected with NOT_FOUND, also if a part no
    /// longer exists, CONFLICT, BAD_USER_INPUT or INVALID_TRANSITION.
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

    /// Draft → pending approval. Blocked while the preflight fails; the payload contains it.
    async fn submit_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPreflightPayload> {
        pass(ctx, input, CampaignTransition::Submit).await
    }

    /// Pending approval → active; also renews the approval of an active campaign that has changed
    /// since. Blocked while the preflight fails; the payload contains it.
    async fn approve_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPreflightPayload> {
        pass(ctx, input, CampaignTransition::Approve).await
    }

    /// Pending approval → draft; requires a reason.
    async fn reject_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Reject).await
    }

    /// Active → paused: until it is resumed, nothing of it is launched, scheduled, claimed or sent.
    async fn pause_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Pause).await
    }

    /// Paused → active.
    async fn resume_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Resume).await
    }

    /// Active → completed. Rejected with CONFLICT while a run is queued, in progress, paused or
    /// scheduled: end its schedules first, since each has a scheduled run. Any schedules left are
    /// ended.
    async fn complete_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Complete).await
    }

    /// Replaces the tags of a campaign, in any status: tags are no part of what is approved. Rejected
    /// with NOT_FOUND, CONFLICT, BAD_USER_INPUT naming the tag, or LIMIT_EXCEEDED.
    async fn set_campaign_tags(&self, ctx: &Context<'_>, input: SetCampaignTagsInput) -> Result<CampaignPayload> {
        let (id, expected, tags) = (validate::id("id", &input.id)?, input.expected_revision, input.tags);
        let campaign =
            idempotent!(ctx, input.idempotency_key, |db| noun::tags::set(db, viewer(ctx), id, expected, &tags));
        Ok(CampaignPayload { campaign: campaign.into() })
    }

    /// Puts a campaign aside that is a draft or has ended: it does not change until it is taken back,
    /// but for its tags, or a run of a campaign for one record is retried. Its runs, messages and figures stay. Rejected with NOT_FOUND, or CONFLICT while it is pending
    /// approval, active or paused, and if it is archived already.
    async fn archive_campaign(&self, ctx: &Context<'_>, input: ArchiveCampaignInput) -> Result<CampaignPayload> {
        archive(ctx, input, true).await
    }

    /// Takes a campaign back from the archive, with the status that it had. Rejected with NOT_FOUND,
    /// or CONFLICT if it is not archived.
    async fn unarchive_campaign(&self, ctx: &Context<'_>, input: ArchiveCampaignInput) -> Result<CampaignPayload> {
        archive(ctx, input, false).await
    }

    /// Cancels a campaign with its runs and schedules. Cancelling it again has no effect.
    async fn cancel_campaign(&self, ctx: &Context<'_>, input: CampaignActInput) -> Result<CampaignPayload> {
        act(ctx, input, CampaignTransition::Cancel).await
    }
}

async fn pass(ctx: &Context<'_>, input: CampaignActInput, act: CampaignTransition) -> Result<CampaignPreflightPayload> {
    let id = validate::id("id", &input.id)?;
    let seen = SeenState { revision: input.expected_revision, content: input.expected_content_version.as_deref() };
    let reason = input.reason.as_deref();
    let (campaign, preflight) = idempotent!(
        ctx,
        input.idempotency_key,
        |db| noun::transition::pass_with_preflight(db, viewer(ctx), id, seen, act, reason),
        |id| { noun::transition::replay_pass(db, viewer(ctx), id) }
    );
    Ok(CampaignPreflightPayload { campaign: campaign.into(), preflight })
}

async fn act(ctx: &Context<'_>, input: CampaignActInput, act: CampaignTransition) -> Result<CampaignPayload> {
    let id = validate::id("id", &input.id)?;
    let seen = SeenState { revision: input.expected_revision, content: input.expected_content_version.as_deref() };
    let reason = input.reason.as_deref();
    let campaign = idempotent!(ctx, input.idempotency_key, |db| crate::domain::run::campaign_control::change_status(
        db,
        viewer(ctx),
        id,
        seen,
        act,
        reason
    ));
    Ok(CampaignPayload { campaign: campaign.into() })
}

async fn archive(ctx: &Context<'_>, input: ArchiveCampaignInput, archived: bool) -> Result<CampaignPayload> {
    let (id, expected, reason) = (validate::id("id", &input.id)?, input.expected_revision, input.reason.as_deref());
    let campaign = idempotent!(ctx, input.idempotency_key, |db| noun::archive::set(
        db,
        viewer(ctx),
        id,
        expected,
        archived,
        reason
    ));
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
    Ok(read.map_err(|message| crate::kernel::error::Refusal::input("overrides", message))?)
}
