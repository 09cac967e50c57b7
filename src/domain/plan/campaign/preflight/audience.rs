//! The audience: its size, and who of it can be reached as the lists stand now.

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

/// Counts the records that meet a condition by how a channel reaches them, in one statement. The same rules take the
/// audience in when a run begins.
async fn count(db: &Db, viewer: &Viewer, channel: Channel, met: Condition) -> Result<AudienceCounts> {
    let address = match channel {
        Channel::Email => "record.email",
        Channel::Sms | Channel::Phone => "record.phone",
    };
    let opted_out = format!("(record.unsubscribed_at IS NOT NULL OR {})", suppression::listed(channel, address, true));
    let class = format!(
        "CASE WHEN {address} IS NULL THEN 'N' WHEN {opted_out} THEN 'U' WHEN {} THEN 'S' ELSE 'R' END",
        suppression::listed(channel, address, false)
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

/// Why so many are left out, in words.
fn left_out(counts: &AudienceCounts) -> String {
    let each = [
        (counts.unsubscribed, "unsubscribed"),
        (counts.suppressed, "suppressed"),
        (counts.no_address, "without an address"),
    ];
    let told: Vec<String> =
        each.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    told.join(", ")
}

impl Checks {
    /// Judges the audience; who can be reached comes back, where something is sent.
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
            self.say(
                PreflightCode::Audience,
                condition.is_some(),
                Some("segmentId"),
                "there is an audience",
                "the campaign has no audience",
                "give it a segment, or a record",
            );
        }
        if let Some(condition) = condition.clone().filter(|_| !self.communicates && !test) {
            let all = record::Entity::find().filter(record::COLUMN.org_id.eq(viewer.org_id)).filter(condition);
            let total = all.count(db.read()).await?;
            let (code, field) = (PreflightCode::AudienceReachable, Some("segmentId"));
            let (well, ill) = (format!("there are {total} records; nothing is sent to them"), "the audience is empty");
            match self.action {
                LaunchAction::Run => self.say(code, total > 0, field, &well, ill, "choose another segment"),
                LaunchAction::TestRun | LaunchAction::Schedule => {
                    self.advise(code, total > 0, field, &well, ill, "choose another segment")
                }
            }
            self.not_applicable(PreflightCode::SharedAddresses, "nothing is sent");
            self.size(parts, total);
            return Ok(None);
        }
        let Some(condition) = condition.filter(|_| self.communicates) else {
            self.not_applicable(PreflightCode::AudienceReachable, "there is no audience to look at");
            self.not_applicable(PreflightCode::SharedAddresses, "there is no audience to look at");
            self.not_applicable(PreflightCode::RunSize, "there is no audience to look at");
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

    /// Judges how many steps the run would make.
    fn size(&mut self, parts: &CampaignParts, records: u64) {
        let each = run_template::steps_per_record(&parts.resolved.definition) as u64;
        let (all, most) = (each.saturating_mul(records), limits::RUN_STEPS);
        let well = format!("the run makes {all} steps for its records");
        let ill = format!("the run would make {all} steps, {each} for each of {records} records: at most {most}");
        let mend = "choose a smaller segment, or a structure with fewer steps for each record";
        self.say(PreflightCode::RunSize, all <= most, Some("segmentId"), &well, &ill, mend);
    }

    fn reachable(&mut self, counts: &AudienceCounts) {
        let code = PreflightCode::AudienceReachable;
        let mend = match counts.no_address {
            0 => "choose another segment: an opt-out or a suppression is not lifted for a campaign",
            _ => "choose another segment, or complete the records' addresses",
        };
        let AudienceCounts { total, reachable, duplicate_address, .. } = *counts;
        let why = left_out(counts);
        if reachable == 0 {
            let ill = if total == 0 {
                "the audience is empty".to_owned()
            } else {
                format!("none of {total} records can be reached: {why}")
            };
            match self.action {
                LaunchAction::Run => self.say(code, false, Some("segmentId"), "", &ill, mend),
                LaunchAction::TestRun | LaunchAction::Schedule => {
                    self.advise(code, false, Some("segmentId"), "", &ill, mend)
                }
            }
        } else {
            let gone = total - reachable - duplicate_address;
            let well = format!("all {total} records can be reached");
            let ill = format!("{gone} of {total} records can't be reached and will be left out: {why}");
            let mend = match (counts.no_address, gone - counts.no_address.min(gone)) {
                (0, _) => "nothing is to be done: opt-outs and suppressions hold",
                (_, 0) => "complete the records' addresses",
                _ => "complete the addresses of those that have none; opt-outs and suppressions hold",
            };
            self.advise(code, gone == 0, None, &well, &ill, mend);
        }
        let ill =
            format!("{duplicate_address} records share an address with another one; each address gets one message");
        self.advise(
            PreflightCode::SharedAddresses,
            duplicate_address == 0,
            None,
            "no two records share an address",
            &ill,
            "merge the records",
        );
    }
}
