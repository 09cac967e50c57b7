//! Preflight checks of the content: it has a source, and it renders for sample records.

use entity::writer::WriterKind;

use super::{Checks, PreflightCode, sample, step_mails};
use crate::domain::content::templating::{self, Source};
use crate::domain::plan::campaign_snapshot::{CampaignParts, CampaignSnapshot};
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;

impl Checks {
    pub(super) async fn content(&mut self, db: &Db, viewer: &Viewer, parts: &CampaignParts) -> Result<()> {
        let step_mail_errors = step_mails::faults(db, viewer, parts).await?;
        if !self.templated {
            self.not_applicable(PreflightCode::Content, "the run takes no content from the campaign");
            self.rendered("the run takes no content from the campaign", None, step_mail_errors);
            return Ok(());
        }
        let code = PreflightCode::Content;
        if parts.writer.as_ref().is_some_and(|writer| writer.kind == WriterKind::Agent) {
            self.require(
                code,
                db.has_model(),
                Some("writerId"),
                "a language model writes the content",
                "no language model is configured for agent writers",
                "use a templated writer, or configure a model (`--model-url`)",
            );
            self.rendered("an agent writes", None, step_mail_errors);
            return Ok(());
        }
        let source = CampaignSnapshot::of(parts).source(&parts.campaign.name, &viewer.actor.name);
        self.require(
            code,
            source.is_some(),
            Some("messageTemplateId"),
            "the campaign has a template to render",
            "there is neither a message template nor a body in the writer",
            "give the campaign a template, or its writer a body",
        );
        let content_errors = match source {
            Some(source) => Some(Self::rendering(db, parts, source).await?),
            None => None,
        };
        self.rendered("there is nothing to render", content_errors, step_mail_errors);
        Ok(())
    }

    /// Reports the rendering errors of the campaign's content and of the run template's own mails.
    fn rendered(&mut self, reason: &str, content_errors: Option<Vec<String>>, step_mail_errors: Option<Vec<String>>) {
        if content_errors.is_none() && step_mail_errors.is_none() {
            self.not_applicable(PreflightCode::Rendering, reason);
            return;
        }
        let field =
            if content_errors.as_ref().is_none_or(Vec::is_empty) { "runTemplateId" } else { "messageTemplateId" };
        let errors: Vec<String> = content_errors.into_iter().chain(step_mail_errors).flatten().collect();
        let failure = format!("the content does not render: {}", errors.join("; "));
        let remediation = "give the placeholder a value in the campaign's variables or the records' attributes, or \
                           change the template: `{% if first_name %}` tests for a value";
        let success = "the content renders for a sample";
        self.require(PreflightCode::Rendering, errors.is_empty(), Some(field), success, &failure, remediation);
    }

    /// Renders the campaign's content for sample records and returns the errors.
    async fn rendering(db: &Db, parts: &CampaignParts, source: Source) -> Result<Vec<String>> {
        let records = sample(db, parts, 5).await?;
        let mut values: Vec<_> = records.iter().map(|record| templating::values(Some(record))).collect();
        if values.is_empty() {
            values.push(templating::placeholders(&source));
        }
        let rendered = templating::render_all(source, values).await?;
        let mut errors: Vec<String> = Vec::new();
        for (i, outcome) in rendered.into_iter().enumerate() {
            if let Err(why) = outcome {
                let name = records.get(i).map_or("a placeholder", |record| record.name.as_str());
                errors.push(format!("{why} (for {})", validate::printable(name)));
            }
        }
        Ok(errors)
    }
}
