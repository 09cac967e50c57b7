//! Is there something to say, and does it render?

use entity::writer::WriterKind;

use super::{Checks, PreflightCode, sample, step_mails};
use crate::domain::content::templating::{self, Source};
use crate::domain::plan::campaign_snapshot::{CampaignParts, Instructions};
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;

impl Checks {
    pub(super) async fn content(&mut self, db: &Db, viewer: &Viewer, parts: &CampaignParts) -> Result<()> {
        let letters = step_mails::faults(db, viewer, parts).await?;
        if !self.templated {
            self.not_applicable(PreflightCode::Content, "no content comes from the campaign");
            self.rendered("no content comes from the campaign", None, letters);
            return Ok(());
        }
        let code = PreflightCode::Content;
        if parts.writer.as_ref().is_some_and(|writer| writer.kind == WriterKind::Agent) {
            self.say(
                code,
                db.has_model(),
                Some("writerId"),
                "the language model writes",
                "no language model is configured for agent writers",
                "use a templated writer, or configure a model (`--model-url`)",
            );
            self.rendered("an agent writes", None, letters);
            return Ok(());
        }
        let source = Instructions::of(parts).source(&parts.campaign.name, &viewer.actor.name);
        self.say(
            code,
            source.is_some(),
            Some("messageTemplateId"),
            "there is something to render",
            "there is neither a message template nor a body of the writer",
            "give the campaign a template, or its writer a body",
        );
        let own = match source {
            Some(source) => Some(Self::rendering(db, parts, source).await?),
            None => None,
        };
        self.rendered("there is nothing to render", own, letters);
        Ok(())
    }

    /// Judges the faults of the campaign's content and of the run template's own mails.
    fn rendered(&mut self, why_not: &str, own: Option<Vec<String>>, letters: Option<Vec<String>>) {
        if own.is_none() && letters.is_none() {
            self.not_applicable(PreflightCode::Rendering, why_not);
            return;
        }
        let field = if own.as_ref().is_none_or(Vec::is_empty) { "runTemplateId" } else { "messageTemplateId" };
        let faults: Vec<String> = own.into_iter().chain(letters).flatten().collect();
        let ill = format!("the content does not render: {}", faults.join("; "));
        let mend = "give the placeholder a value in the campaign's variables or the records' attributes, or mend the \
                    template: `{% if first_name %}` asks whether there is one";
        let well = "the content renders for a sample";
        self.say(PreflightCode::Rendering, faults.is_empty(), Some(field), well, &ill, mend);
    }

    /// The faults of the campaign's content, for a sample.
    async fn rendering(db: &Db, parts: &CampaignParts, source: Source) -> Result<Vec<String>> {
        let records = sample(db, parts, 5).await?;
        let mut values: Vec<_> = records.iter().map(|record| templating::values(Some(record))).collect();
        if values.is_empty() {
            values.push(templating::placeholders(&source));
        }
        let rendered = templating::render_all(source, values).await?;
        let mut faults: Vec<String> = Vec::new();
        for (i, outcome) in rendered.into_iter().enumerate() {
            if let Err(why) = outcome {
                let name = records.get(i).map_or("a placeholder", |record| record.name.as_str());
                faults.push(format!("{why} (for {})", validate::shown(name)));
            }
        }
        Ok(faults)
    }
}
