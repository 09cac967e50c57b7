//! A message template's history: each change with its actor and time.

use entity::id::{MessageTemplateId, MessageTemplateVersionId};

scoped!(message_template_version, MessageTemplateVersionId, "message template version");
versioned!(message_template_version, message_template, message_template_id: MessageTemplateId, MessageTemplateVersionId);
changes!(message_template: name as "name", subject as "subject", body as "body");
