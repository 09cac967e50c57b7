//! Message templates: subject and body with named placeholders, per channel; versioned.

pub mod version;

use entity::Channel;
use entity::campaign::Column as Campaign;
use entity::id::MessageTemplateId;
use entity::message_template::{ActiveModel, Model};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};
use serde_json::json;

use crate::domain::content::templating;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::references::is;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(message_template, MessageTemplateId, "message template");
paged!(message_template);
defined!(message_template, MessageTemplateId, "message template");
deleted!(message_template, MessageTemplateId, "message template"; used by campaign as "campaign" where |id: MessageTemplateId| is(Campaign::MessageTemplateId, id); with message_template_version.MessageTemplateId);

/// The fields of a template; an update changes only the given ones.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The name.
    pub name: Option<String>,
    /// The channel; default EMAIL, fixed on creation.
    pub channel: Option<Channel>,
    /// The subject; required for mail.
    pub subject: Option<String>,
    /// The body.
    pub body: Option<String>,
}

/// Creates a template. Errors: BAD_USER_INPUT for a missing name or body, mail without a subject, a
/// text that does not parse.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    transact!(db, |tx| create_in(tx, viewer, fields).await)
}

/// Same as [`create`], within the caller's transaction.
pub(crate) async fn create_in(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = validate::name("name", fields.name.as_deref().unwrap_or_default())?;
    let channel = fields.channel.unwrap_or(Channel::Email);
    let body = check_text("body", fields.body.as_deref())?;
    let subject = match channel {
        Channel::Email => Some(check_text("subject", fields.subject.as_deref())?),
        Channel::Sms | Channel::Phone => fields.subject.clone(),
    };
    templating::check("subject", subject.as_deref().unwrap_or_default())?;
    let row = ActiveModel {
        id: Set(MessageTemplateId::new()),
        org_id: Set(viewer.org_id),
        name: Set(name.clone()),
        channel: Set(channel),
        subject: Set(subject.clone()),
        body: Set(body.clone()),
        version: Set(1),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    let message_template = row.insert(tx.db()).await?;
    version::keep(tx, viewer, &message_template, json!([])).await?;
    created(tx, viewer, &message_template);
    Ok(message_template)
}

/// Updates the given fields; a change creates a version. Errors: NOT_FOUND, CONFLICT,
/// BAD_USER_INPUT.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: MessageTemplateId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    transact!(db, |tx| update_in(tx, viewer, id, expected, fields).await)
}

/// Same as [`update`], within the caller's transaction.
pub(crate) async fn update_in(
    tx: &Tx,
    viewer: &Viewer,
    id: MessageTemplateId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let found = must_lock(tx, viewer, id, expected).await?;
    if fields.channel.is_some_and(|channel| channel != found.channel) {
        return Err(Refusal::input("channel", "cannot be changed after creation").into());
    }
    let mut row = found.clone().into_active_model();
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(validate::name("name", name)?);
    }
    if let Some(subject) = &fields.subject {
        row.subject.set_if_not_equals(Some(check_text("subject", Some(subject))?));
    }
    if let Some(body) = &fields.body {
        row.body.set_if_not_equals(check_text("body", Some(body))?);
    }
    if !row.is_changed() {
        return save(tx, viewer, row, found.revision).await;
    }
    row.version = Set(found.version + 1);
    let message_template = save(tx, viewer, row, found.revision).await?;
    version::keep(tx, viewer, &message_template, version::changes(&found, &message_template)).await?;
    Ok(message_template)
}

fn check_text(field: &str, text: Option<&str>) -> Result<String> {
    let text = text.unwrap_or_default();
    if text.trim().is_empty() {
        return Err(Refusal::input(field, "must not be blank").into());
    }
    templating::check(field, text)?;
    Ok(text.to_owned())
}
