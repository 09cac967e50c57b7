//! Campaigns: create, update, duplicate, restore. The list is in `list`, status changes are in
//! `transition`, approvals in `approval`, tags and the archive in their modules.

pub mod approval;
pub mod archive;
pub mod list;
pub mod preflight;
pub mod tags;
pub mod transition;
pub mod version;

use entity::campaign::{ActiveModel, COLUMN, Column, Entity, Model};
use entity::columns::{Columns, PartialModel};
use entity::definition::Overrides;
use entity::id::*;
use entity::{CampaignStatus, Channel};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::{Value, json};

use crate::domain::audience::record;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::references::is;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, page, validate};
use crate::transact;

scoped!(campaign, CampaignId, "campaign");
saved!(campaign, CampaignId, "campaign");
deleted!(campaign, CampaignId, "campaign";
    used by run as "run" where |id: CampaignId| is(entity::run::Column::CampaignId, id),
        schedule as "schedule" where |id: CampaignId| is(entity::schedule::Column::CampaignId, id);
    with campaign_version.CampaignId, campaign_approval.CampaignId, campaign_tag.CampaignId);

/// The rows that are in the viewer's org, in no order; only the given columns, or all.
pub async fn find_part(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    ids: &[CampaignId],
    columns: Option<Columns>,
) -> Result<Vec<Model>> {
    let select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    let select = select.filter(any_of(db.get_database_backend(), COLUMN.id, ids.iter().copied()));
    page::rows(db, select, columns.map(|columns| columns.and(Model::column(Column::Id)))).await
}

/// The fields of a campaign; an update changes only the given ones, and `Some(None)` clears a
/// field.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The channel to its records.
    pub channel: Option<Channel>,
    /// The goal.
    pub goal_id: Option<Option<GoalId>>,
    /// The source of its content.
    pub writer_id: Option<Option<WriterId>>,
    /// The approver of its content.
    pub reviewer_id: Option<Option<ReviewerId>>,
    /// The template that is rendered.
    pub message_template_id: Option<Option<MessageTemplateId>>,
    /// The audience.
    pub segment_id: Option<Option<SegmentId>>,
    /// The single record, instead of a segment.
    pub record_id: Option<Option<RecordId>>,
    /// The structure of its runs.
    pub run_template_id: Option<Option<RunTemplateId>>,
    /// The changes to that structure.
    pub overrides: Option<Overrides>,
    /// Instructions for its writer.
    pub instructions: Option<String>,
    /// Values for placeholders, a flat object.
    pub variables: Option<Value>,
    /// Tags of a new campaign.
    pub tags: Option<Vec<String>>,
}

/// Creates a draft. Errors: BAD_USER_INPUT, NOT_FOUND for a part that does not exist.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = validate::name("name", fields.name.as_deref().unwrap_or_default())?;
    let tags = tags::check(fields.tags.as_deref().unwrap_or_default())?;
    transact!(db, |tx| {
        let row = ActiveModel {
            id: Set(CampaignId::new()),
            org_id: Set(viewer.org_id),
            name: Set(name.clone()),
            description: Set(String::new()),
            channel: Set(Channel::Email),
            status: Set(CampaignStatus::Draft),
            goal_id: Set(None),
            writer_id: Set(None),
            reviewer_id: Set(None),
            message_template_id: Set(None),
            segment_id: Set(None),
            record_id: Set(None),
            run_template_id: Set(None),
            overrides: Set(Overrides::default()),
            instructions: Set(String::new()),
            variables: Set(json!({})),
            version: Set(1),
            rejected_because: Set(None),
            approved_by: Set(None),
            approved_at: Set(None),
            approved_version: Set(None),
            started_at: Set(None),
            completed_at: Set(None),
            archived_at: Set(None),
            archived_by: Set(None),
            created_by: Set(viewer.actor()),
            search: Set(String::new()),
            created_at: Set(tx.now()),
            updated_at: Set(tx.now()),
            revision: Set(1),
        };
        let row = apply(tx, viewer, row, fields).await?;
        let campaign = row.insert(tx.db()).await?;
        version::keep(tx, viewer, &campaign, json!([])).await?;
        if !tags.is_empty() {
            tags::replace(tx, &campaign, &tags).await?;
        }
        let record = match campaign.record_id {
            Some(id) => record::find(tx.db(), viewer, id).await?,
            None => None,
        };
        let payload = json!({ "recordKind": record.map(|record| record.kind), "orgId": campaign.org_id });
        emit(tx, viewer, "campaign.created", &campaign, payload);
        tx.set_result(campaign.id);
        Ok(campaign)
    })
}

/// Updates the given fields; every change creates a version. Errors: NOT_FOUND, CONFLICT,
/// INVALID_TRANSITION for a campaign that is pending approval or has ended.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: CampaignId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    transact!(db, |tx| {
        let before = must_lock(tx, viewer, id, expected).await?;
        editable(&before)?;
        let mut row = apply(tx, viewer, before.clone().into_active_model(), fields).await?;
        if !row.is_changed() {
            return Ok(before);
        }
        row.version = Set(before.version + 1);
        let campaign = save(tx, row, before.revision).await?;
        version::keep(tx, viewer, &campaign, version::changes(&before, &campaign)).await?;
        emit(tx, viewer, "campaign.updated", &campaign, json!({ "version": campaign.version }));
        Ok(campaign)
    })
}

/// Copies a campaign with all its parts into a new draft. Errors: NOT_FOUND, BAD_USER_INPUT.
pub async fn duplicate(db: &WriteContext, viewer: &Viewer, id: CampaignId, name: Option<&str>) -> Result<Model> {
    let from = must_find(db.read(), viewer, id).await?;
    let tags = tags::of_all(db.read(), viewer, &[id]).await?.remove(&id);
    let fields = Fields {
        name: Some(name.map_or_else(|| copy_of(&from.name), str::to_owned)),
        description: Some(from.description),
        channel: Some(from.channel),
        goal_id: Some(from.goal_id),
        writer_id: Some(from.writer_id),
        reviewer_id: Some(from.reviewer_id),
        message_template_id: Some(from.message_template_id),
        segment_id: Some(from.segment_id),
        record_id: Some(from.record_id),
        run_template_id: Some(from.run_template_id),
        overrides: Some(from.overrides),
        instructions: Some(from.instructions),
        variables: Some(from.variables),
        tags,
    };
    create(db, viewer, &fields).await
}

/// Returns `Copy of …`, cut to the maximum length of a name.
fn copy_of(name: &str) -> String {
    format!("Copy of {name}").chars().take(limits::NAME_CHARS).collect()
}

/// Restores the fields of an earlier version, as a new version. Errors: NOT_FOUND for the campaign,
/// or a part that no longer exists; BAD_USER_INPUT for the version; CONFLICT; INVALID_TRANSITION
/// as for `update`.
pub async fn restore(
    db: &WriteContext,
    viewer: &Viewer,
    id: CampaignId,
    expected: Option<i32>,
    version: i32,
) -> Result<Model> {
    let now = must_find(db.read(), viewer, id).await?;
    if version < 1 || version > now.version {
        let message = format!("the campaign has the versions 1 to {}", now.version);
        return Err(Refusal::input("version", message).into());
    }
    // Expects the revision that was read, so that a concurrent change leads to a conflict.
    let fields = version::fields_at(db, viewer, id, version).await?;
    update(db, viewer, id, expected.or(Some(now.revision)), &fields).await
}

fn editable(campaign: &Model) -> Result<()> {
    archive::check_not_archived(campaign, None)?;
    match campaign.status {
        CampaignStatus::Draft | CampaignStatus::Active | CampaignStatus::Paused => Ok(()),
        status => Err(Refusal {
            code: crate::kernel::error::Code::InvalidTransition,
            message: format!("cannot update a campaign that is {status}; only a DRAFT, ACTIVE or PAUSED one"),
            details: serde_json::Map::new(),
        }
        .with("status", json!(status))
        .into()),
    }
}

async fn apply(tx: &Tx, viewer: &Viewer, mut row: ActiveModel, fields: &Fields) -> Result<ActiveModel> {
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(validate::name("name", name)?);
    }
    if let Some(text) = &fields.description {
        row.description.set_if_not_equals(validate::text("description", text)?);
    }
    if let Some(channel) = fields.channel {
        row.channel.set_if_not_equals(channel);
    }
    // A macro because the parts' ids, and so their lookups, differ in type.
    macro_rules! part {
        ($field:ident, $noun:ident) => {
            if let Some(id) = fields.$field {
                if let Some(id) = id {
                    nouns::$noun::must_find(tx.db(), viewer, id).await?;
                }
                row.$field.set_if_not_equals(id);
            }
        };
    }
    part!(goal_id, goal);
    part!(writer_id, writer);
    part!(reviewer_id, reviewer);
    part!(message_template_id, message_template);
    part!(segment_id, segment);
    part!(record_id, record);
    part!(run_template_id, run_template);
    if let Some(Some(id)) = fields.run_template_id
        && crate::domain::plan::run_template::must_find(tx.db(), viewer, id).await?.kind == entity::TemplateKind::Guided
    {
        return Err(Refusal::input(
            "runTemplateId",
            "this template is for guided work: start it with `startGuidedRun`",
        )
        .into());
    }
    if let Some(overrides) = &fields.overrides {
        if serde_json::to_vec(overrides)?.len() > limits::DEFINITION_BYTES {
            return Err(
                Refusal::input("overrides", format!("must be at most {} bytes", limits::DEFINITION_BYTES)).into()
            );
        }
        row.overrides.set_if_not_equals(overrides.clone());
    }
    if let Some(text) = &fields.instructions {
        row.instructions.set_if_not_equals(validate::text("instructions", text)?);
    }
    if let Some(variables) = &fields.variables {
        row.variables.set_if_not_equals(record::check_attributes("variables", variables)?);
    }
    if row.segment_id.try_as_ref().is_some_and(Option::is_some)
        && row.record_id.try_as_ref().is_some_and(Option::is_some)
    {
        return Err(Refusal::input("recordId", "a campaign has a segment or a record, not both").into());
    }
    let text = |value: &sea_orm::ActiveValue<String>| value.try_as_ref().cloned().unwrap_or_default();
    row.search.set_if_not_equals(crate::kernel::storable::folded(&format!(
        "{} {}",
        text(&row.name),
        text(&row.description)
    )));
    Ok(row)
}

fn emit(tx: &Tx, viewer: &Viewer, kind: &str, campaign: &Model, mut payload: Value) {
    if let Some(payload) = payload.as_object_mut() {
        payload.insert("name".into(), json!(campaign.name));
        payload.insert("channel".into(), json!(campaign.channel));
        payload.insert("recordId".into(), json!(campaign.record_id));
    }
    event::append(tx, Event::new(campaign.org_id, kind, &viewer.actor()).campaign(campaign.id).payload(payload));
}

/// The domain modules by name, for the macro in `apply`: entity modules have the same names.
mod nouns {
    pub(super) use crate::domain::audience::{record, segment};
    pub(super) use crate::domain::content::{goal, message_template, reviewer, writer};
    pub(super) use crate::domain::plan::run_template;
}
