//! A message template's history: what changed, who changed it, when.

use entity::id::{MessageTemplateId, MessageTemplateVersionId};

scoped!(message_template_version, MessageTemplateVersionId, "message template version");
versioned!(message_template_version, message_template, message_template_id: MessageTemplateId, MessageTemplateVersionId);
changes!(message_template: name as "name", subject as "subject", body as "body");
