//! A message template's history: each change with its actor and time.

use entity::id::{MessageTemplateId, MessageTemplateVersionId};
use entity::message_template::Model;
use serde_json::{Value, json};

use crate::kernel::scoped::differences;

scoped!(message_template_version, MessageTemplateVersionId, "message template version");
versioned!(message_template_version, message_template, message_template_id: MessageTemplateId, MessageTemplateVersionId);

/// The differences between two versions.
pub(super) fn changes(before: &Model, after: &Model) -> Value {
    let fields = |row: &Model| [("name", json!(row.name)), ("subject", json!(row.subject)), ("body", json!(row.body))];
    differences(fields(before), fields(after))
}
