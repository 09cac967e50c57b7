//! Preflight checks of the audience: its size, and the number of records that can be reached now.

use entity::{Channel, record};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter, QuerySelect};

use super::{AudienceCounts, Checks, LaunchAction, PreflightCode, audience};
use crate::domain::audience::suppression;
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::domain::plan::run_template;
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

#[derive(Debug, FromQueryResult)]
struct Counted {
    total: i64,
    no_address: i64,
    unsubscribed: i64,
    suppressed: i64,
    addresses: i64,
}

/// Counts the records that match a condition, by their reachability through a channel, in one
/// statement. The start of a run applies the same rules.
async fn count(db: &Db, viewer: &Viewer, channel: Channel, met: Condition) -> Result<AudienceCounts> {
    let address = match channel {
        Channel::Email => "record.email",
        Channel::Sms | Channel::Phone => "record.phone",
    };
    let opted_out =
        format!("(record.unsubscribed_at IS NOT NULL OR {})", suppression::is_suppressed(channel, address, true));
    let class = format!(
        "CASE WHEN {address} IS NULL THEN 'N' WHEN {opted_out} THEN 'U' WHEN {} THEN 'S' ELSE 'R' END",
        suppression::is_suppressed(channel, address, false)
    );
    let of = |word: &str| format!("CAST(COALESCE(SUM(CASE WHEN {class} = '{word}' THEN 1 ELSE 0 END), 0) AS BIGINT)");
    let addresses = format!("COUNT(DISTINCT CASE WHEN {class} = 'R' THEN LOWER({address}) END)");
    let counted = record::Entity::find()
        .filter(record::COLUMN.org_id.eq(viewer.org_id))
        .filter(met)
        .select_only()
        .column_as(Expr::cust("COUNT(*)"), "total")
        .column_as(Expr::cust(of("N")), "no_address")
        .column_as(Expr::cust(of("U")), "unsubscribed")
        .column_as(Expr::cust(of("S")), "suppressed")
        .column_as(Expr::cust(addresses), "addresses")
        .into_model::<Counted>()
        .one(db.read())
        .await?;
    let Some(counted) = counted else { return Ok(AudienceCounts::default()) };
    let each = |number: i64| u64::try_from(number).unwrap_or(0);
    let (total, reachable) = (each(counted.total), each(counted.addresses));
    let (no_address, unsubscribed) = (each(counted.no_address), each(counted.unsubscribed));
    let suppressed = each(counted.suppressed);
    let duplicate_address = total.saturating_sub(no_address + unsubscribed + suppressed + reachable);
    Ok(AudienceCounts { total, reachable, no_address, unsubscribed, suppressed, duplicate_address })
}

/// Describes the counts of records that are skipped, by reason.
fn skipped_by_reason(counts: &AudienceCounts) -> String {
    let each = [
        (counts.unsubscribed, "unsubscribed"),
        (counts.suppressed, "suppressed"),
        (counts.no_address, "without an address"),
    ];
    let parts: Vec<String> =
        each.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    parts.join(", ")
}

impl Checks {
    /// Checks the audience; returns its reachability if the run sends messages.
    pub(super) async fn audience(
        &mut self,
        db: &Db,
        viewer: &Viewer,
        parts: &CampaignParts,
    ) -> Result<Option<AudienceCounts>> {
        let test = self.action == LaunchAction::TestRun;
        let condition = audience(db, parts)?;
        if test {
            self.not_applicable(PreflightCode::Audience, "a test run goes to the test addresses only");
        } else {
            self.require(
                PreflightCode::Audience,
                condition.is_some(),
                Some("segmentId"),
                "the campaign has an audience",
                "the campaign has no audience",
                "give it a segment or a record",
            );
        }
        if let Some(condition) = condition.clone().filter(|_| !self.communicates && !test) {
            let all = record::Entity::find().filter(record::COLUMN.org_id.eq(viewer.org_id)).filter(condition);
            let total = all.count(db.read()).await?;
            let (code, field) = (PreflightCode::AudienceReachable, Some("segmentId"));
            let (success, failure) =
                (format!("there are {total} records; nothing is sent to them"), "the audience is empty");
            match self.action {
                LaunchAction::Run => self.require(code, total > 0, field, &success, failure, "choose another segment"),
                LaunchAction::TestRun | LaunchAction::Schedule => {
                    self.advise(code, total > 0, field, &success, failure, "choose another segment")
                }
            }
            self.not_applicable(PreflightCode::SharedAddresses, "nothing is sent");
            self.size(parts, total);
            return Ok(None);
        }
        let Some(condition) = condition.filter(|_| self.communicates) else {
            self.not_applicable(PreflightCode::AudienceReachable, "there is no audience to check");
            self.not_applicable(PreflightCode::SharedAddresses, "there is no audience to check");
            self.not_applicable(PreflightCode::RunSize, "there is no audience to check");
            return Ok(None);
        };
        let counts = count(db, viewer, parts.campaign.channel, condition).await?;
        self.reachable(&counts);
        match test {
            true => self.not_applicable(PreflightCode::RunSize, "a test run goes to the test addresses only"),
            false => self.size(parts, counts.reachable),
        }
        Ok(Some(counts))
    }

    /// Checks the number of steps that the run would have.
    fn size(&mut self, parts: &CampaignParts, records: u64) {
        let each = run_template::steps_per_record(&parts.resolved.definition) as u64;
        let (all, most) = (each.saturating_mul(records), limits::RUN_STEPS);
        let success = format!("the run will have {all} steps for its records");
        let failure =
            format!("the run would have {all} steps, {each} for each of {records} records: at most {most} are allowed");
        let remediation = "choose a smaller segment, or a run template with fewer steps per record";
        self.require(PreflightCode::RunSize, all <= most, Some("segmentId"), &success, &failure, remediation);
    }

    fn reachable(&mut self, counts: &AudienceCounts) {
        let code = PreflightCode::AudienceReachable;
        let remediation = match counts.no_address {
            0 => "choose another segment: opt-outs and suppressions also apply to this campaign",
            _ => "choose another segment, or complete the records' addresses",
        };
        let AudienceCounts { total, reachable, duplicate_address, .. } = *counts;
        let why = skipped_by_reason(counts);
        if reachable == 0 {
            let failure = if total == 0 {
                "the audience is empty".to_owned()
            } else {
                format!("none of {total} records can be reached: {why}")
            };
            match self.action {
                LaunchAction::Run => self.require(code, false, Some("segmentId"), "", &failure, remediation),
                LaunchAction::TestRun | LaunchAction::Schedule => {
                    self.advise(code, false, Some("segmentId"), "", &failure, remediation)
                }
            }
        } else {
            let gone = total - reachable - duplicate_address;
            let success = format!("all {total} records can be reached");
            let failure = format!("{gone} of {total} records can't be reached and will be skipped: {why}");
            let remediation = match (counts.no_address, gone - counts.no_address.min(gone)) {
                (0, _) => "nothing to do: opt-outs and suppressions remain in effect",
                (_, 0) => "complete the records' addresses",
                _ => "complete the missing addresses; opt-outs and suppressions remain in effect",
            };
            self.advise(code, gone == 0, None, &success, &failure, remediation);
        }
        let failure =
            format!("{duplicate_address} records share an address with another one; each address gets one message");
        self.advise(
            PreflightCode::SharedAddresses,
            duplicate_address == 0,
            None,
            "no two records share an address",
            &failure,
            "merge the records",
        );
    }
}
