//! Previews of a launch: the preflight, and the messages that would be drafted.

use async_graphql::{Context, ID, Object, Result, SimpleObject};

use crate::domain::content::templating;
use crate::domain::plan::campaign as noun;
use crate::domain::plan::campaign::preflight::{self, LaunchAction, Preflight, PreflightContext};
use crate::domain::plan::campaign_snapshot::{CampaignParts, CampaignSnapshot};
use crate::graphql::preflight::LaunchInput;
use crate::graphql::record::Record;
use crate::graphql::{db, viewer};
use crate::kernel::validate;

/// A message as it would be drafted.
#[derive(SimpleObject)]
pub struct MessagePreview {
    /// The record whose data were used.
    record: Record,
    /// The subject; null if the channel has none, or if rendering failed.
    subject: Option<String>,
    /// The text; null if rendering failed.
    body: Option<String>,
    /// The rendering error; null if there is none.
    error: Option<String>,
}

/// Query fields for previews.
#[derive(Default)]
pub struct PreviewQuery;

#[Object]
impl PreviewQuery {
    /// Checks whether an action is allowed with this input; returns all reasons at once. Rejected
    /// with NOT_FOUND.
    #[graphql(complexity = "50 + child_complexity")]
    async fn preflight(
        &self,
        ctx: &Context<'_>,
        campaign_id: ID,
        action: LaunchAction,
        input: Option<LaunchInput>,
    ) -> Result<Preflight> {
        let campaign =
            Box::pin(noun::must_find(db(ctx).read(), viewer(ctx), validate::id("campaignId", &campaign_id)?)).await?;
        let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), campaign)).await?;
        let input = input.unwrap_or_default().read()?;
        let terms = PreflightContext { input: Some(&input), any_status: false };
        Ok(Box::pin(preflight::preflight(db(ctx), viewer(ctx), &parts, action, terms)).await?)
    }

    /// The messages that would be drafted for the given records, or for the first `sample` records
    /// of the audience (3 by default, at most 20).
    #[graphql(complexity = "50 + child_complexity")]
    async fn preview_messages(
        &self,
        ctx: &Context<'_>,
        campaign_id: ID,
        record_ids: Option<Vec<ID>>,
        sample: Option<i32>,
    ) -> Result<Vec<MessagePreview>> {
        let campaign =
            Box::pin(noun::must_find(db(ctx).read(), viewer(ctx), validate::id("campaignId", &campaign_id)?)).await?;
        let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), campaign)).await?;
        let most = crate::kernel::limits::TEST_SAMPLE;
        let records = match &record_ids {
            Some(ids) if ids.len() > most => {
                return Err(
                    crate::kernel::error::Refusal::limit_for_field("recordIds", format!("at most {most}")).into()
                );
            }
            Some(ids) => {
                Box::pin(crate::domain::audience::record::find_all(
                    db(ctx).read(),
                    viewer(ctx),
                    &validate::ids(ids, "input", "recordIds")?,
                ))
                .await?
            }
            None => {
                let count = u64::try_from(sample.unwrap_or(3)).unwrap_or(0).min(most as u64);
                Box::pin(preflight::sample(db(ctx), &parts, count)).await?
            }
        };
        let instructions = CampaignSnapshot::of(&parts);
        let source = instructions.source(&parts.campaign.name, &viewer(ctx).actor.name);
        let source = source.ok_or_else(|| {
            crate::kernel::error::Refusal::conflict(
                "there is nothing to render: the campaign has no message template and its writer no body",
            )
        })?;
        let values = records.iter().map(|record| templating::values(Some(record))).collect();
        let rendered = Box::pin(templating::render_all(source, values)).await?;
        let each = records.into_iter().zip(rendered).map(|(record, rendered)| {
            let record = Record(record);
            match rendered {
                Ok(message) => {
                    MessagePreview { record, subject: message.subject, body: Some(message.body), error: None }
                }
                Err(why) => MessagePreview { record, subject: None, body: None, error: Some(why) },
            }
        });
        Ok(each.collect())
    }
}
