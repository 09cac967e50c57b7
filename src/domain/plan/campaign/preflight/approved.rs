//! The preflight check that the campaign's content is approved.

use super::{Checks, LaunchAction, PreflightCode};
use crate::domain::plan::campaign::approval;
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

impl Checks {
    /// Checks that the content that would be sent is the approved content.
    pub(super) async fn approved(&mut self, db: &Db, viewer: &Viewer, parts: &CampaignParts) -> Result<()> {
        let (code, campaign) = (PreflightCode::ApprovedVersion, &parts.campaign);
        if campaign.approved_at.is_none() {
            self.not_applicable(code, "the campaign has not been approved yet");
            return Ok(());
        }
        let changes = approval::changed(db.read(), viewer, parts).await?;
        let fields: Vec<&str> = changes.iter().map(|(field, _, _)| field.as_str()).collect();
        let success =
            format!("{} was approved, and nothing that matters has changed since", approval::version(campaign));
        let by = campaign.approved_by.as_ref().map_or("somebody", |by| by.name.as_str());
        let failure =
            format!("changed since {} was approved by {by}: {}", approval::version(campaign), fields.join(", "));
        let remediation = "have it approved again: `approveCampaign`";
        if self.action == LaunchAction::TestRun {
            self.advise(code, changes.is_empty(), None, &success, &failure, remediation);
        } else {
            self.require(code, changes.is_empty(), None, &success, &failure, remediation);
        }
        Ok(())
    }
}
