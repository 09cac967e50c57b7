//! May it fly? The table of 1-product.md, in one piece: for the query, the campaign's field, dry runs and launches.

mod asked;
mod content;
pub mod report;

use entity::{CampaignStatus, Channel, RunStatus, record, run};
pub use report::{CheckStatus, LaunchAction, Preflight, PreflightCheck, PreflightCode, Severity};
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::Db;
use crate::error::Result;
use crate::instructions::Parts;
use crate::viewer::Viewer;
use crate::{run_template, schedule};

/// What the launch's own input says, where there is one.
#[derive(Clone, Debug, Default)]
pub struct LaunchInput {
    /// The test addresses.
    pub recipients: Vec<String>,
    /// How many sample records to take.
    pub sample: Option<i32>,
    /// When.
    pub when: Option<schedule::When>,
}

/// What surrounds the check: the input, and which rules are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// The launch's input; none: what depends on it is not judged.
    pub input: Option<&'a LaunchInput>,
    /// Leaves the activity check out (submit, approve).
    pub any_status: bool,
}

/// Judges all of the table. Reads a snapshot; compare `Parts::revisions` when the launch is carried out.
pub async fn preflight(
    db: &Db,
    viewer: &Viewer,
    parts: &Parts,
    action: LaunchAction,
    terms: Terms<'_>,
) -> Result<Preflight> {
    let campaign = &parts.campaign;
    let definition = &parts.resolved.definition;
    let mut checks = Checks {
        action,
        communicates: run_template::communicates(definition),
        templated: run_template::is_templated(definition),
        all: Vec::new(),
    };
    checks.definitions(parts);
    checks.audience(db, viewer, parts).await?;
    if !terms.any_status {
        checks.active(campaign.status);
    }
    checks.channel(campaign.channel);
    checks.content(db, viewer, parts).await?;
    let executors = run_template::Executors::of(db.read(), viewer, definition).await?;
    let mut problems = parts.resolved.problems.clone();
    problems.extend(run_template::problems(definition, Some(&executors)));
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    checks.say(
        PreflightCode::RunTemplate,
        problems.is_empty(),
        None,
        "the structure of the run is valid",
        &told.join("; "),
        "mend the template, or the campaign's overrides",
    );
    checks.input(db, campaign.channel, terms.input);
    checks.open_run(db, parts).await?;
    let ready = checks.all.iter().all(|check| check.status != CheckStatus::Failed);
    Ok(Preflight { action, ready, checks: checks.all })
}

/// The records of a campaign's audience, as a condition; none without an audience.
pub fn audience(db: &Db, parts: &Parts) -> Result<Option<Condition>> {
    match (&parts.segment, parts.campaign.record_id) {
        (Some(segment), _) => Ok(Some(crate::segment::condition(db, segment)?)),
        (None, Some(id)) => {
            let own = Condition::all().add(record::COLUMN.org_id.eq(parts.campaign.org_id));
            Ok(Some(own.add(record::COLUMN.id.eq(id))))
        }
        (None, None) => Ok(None),
    }
}

/// The first records of the audience; else of the org.
pub async fn sample(db: &Db, parts: &Parts, most: u64) -> Result<Vec<record::Model>> {
    let of_org = || Condition::all().add(record::COLUMN.org_id.eq(parts.campaign.org_id));
    let find = |condition| record::Entity::find().filter(condition).order_by_asc(record::Column::Id).limit(most);
    let found = match audience(db, parts)? {
        Some(condition) => find(condition).all(db.read()).await?,
        None => Vec::new(),
    };
    if found.is_empty() { Ok(find(of_org()).all(db.read()).await?) } else { Ok(found) }
}

struct Checks {
    action: LaunchAction,
    communicates: bool,
    templated: bool,
    all: Vec<PreflightCheck>,
}

impl Checks {
    /// A required check, passed or failed.
    fn say(&mut self, code: PreflightCode, passed: bool, field: Option<&str>, well: &str, ill: &str, mend: &str) {
        self.push(
            code,
            if passed { CheckStatus::Passed } else { CheckStatus::Failed },
            Severity::Required,
            field,
            if passed { well } else { ill },
            (!passed).then_some(mend),
        );
    }

    /// An advisory check, passed or a warning.
    fn advise(&mut self, code: PreflightCode, passed: bool, field: Option<&str>, well: &str, ill: &str, mend: &str) {
        self.push(
            code,
            if passed { CheckStatus::Passed } else { CheckStatus::Warning },
            Severity::Advisory,
            field,
            if passed { well } else { ill },
            (!passed).then_some(mend),
        );
    }

    fn not_applicable(&mut self, code: PreflightCode, why: &str) {
        self.push(code, CheckStatus::NotApplicable, Severity::Advisory, None, why, None);
    }

    fn push(
        &mut self,
        code: PreflightCode,
        status: CheckStatus,
        severity: Severity,
        field: Option<&str>,
        message: &str,
        mend: Option<&str>,
    ) {
        self.all.push(PreflightCheck {
            code,
            status,
            severity,
            field: field.map(str::to_owned),
            message: message.to_owned(),
            remediation: mend.map(str::to_owned),
        });
    }

    fn definitions(&mut self, parts: &Parts) {
        let campaign = &parts.campaign;
        self.say(
            PreflightCode::Goal,
            parts.goal.is_some(),
            Some("goalId"),
            "there is a goal",
            "the campaign has no goal",
            "give it a goal",
        );
        if !self.templated {
            for code in [PreflightCode::Writer, PreflightCode::Reviewer, PreflightCode::MessageTemplate] {
                self.not_applicable(code, "no content comes from the campaign");
            }
            return;
        }
        self.say(
            PreflightCode::Writer,
            parts.writer.is_some(),
            Some("writerId"),
            "there is a writer",
            "the campaign has no writer",
            "give it a writer",
        );
        match campaign.channel {
            Channel::Email | Channel::Sms => self.say(
                PreflightCode::Reviewer,
                parts.reviewer.is_some(),
                Some("reviewerId"),
                "there is a reviewer",
                "the campaign has no reviewer",
                "give it a reviewer",
            ),
            Channel::Phone => self.not_applicable(PreflightCode::Reviewer, "calls are not reviewed"),
        }
        let code = PreflightCode::MessageTemplate;
        let (field, mend) = (Some("messageTemplateId"), "give it a message template");
        match (&parts.message_template, campaign.channel) {
            (Some(template), channel) if template.channel != channel => {
                let ill = format!("the message template is for {}, the campaign for {channel}", template.channel);
                self.say(code, false, field, "", &ill, "take a template of the campaign's channel");
            }
            (found, Channel::Email) => {
                let lenient = self.action == LaunchAction::TestRun && campaign.status == CampaignStatus::Active;
                let (well, ill) = ("there is a message template", "the campaign has no message template");
                if lenient {
                    self.advise(code, found.is_some(), field, well, ill, mend);
                } else {
                    self.say(code, found.is_some(), field, well, ill, mend);
                }
            }
            (_, Channel::Sms | Channel::Phone) => self.not_applicable(code, "only mail needs a message template"),
        }
    }

    async fn audience(&mut self, db: &Db, viewer: &Viewer, parts: &Parts) -> Result<()> {
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
            return Ok(());
        }
        let Some(condition) = condition.filter(|_| self.communicates) else {
            self.not_applicable(PreflightCode::AudienceReachable, "there is no audience to look at");
            self.not_applicable(PreflightCode::SharedAddresses, "there is no audience to look at");
            return Ok(());
        };
        let address = match parts.campaign.channel {
            Channel::Email => record::Column::Email,
            Channel::Sms | Channel::Phone => record::Column::Phone,
        };
        let all = record::Entity::find().filter(record::COLUMN.org_id.eq(viewer.org_id)).filter(condition);
        let total = all.clone().count(db.read()).await?;
        let reachable = all.filter(address.is_not_null()).filter(record::COLUMN.unsubscribed_at.is_null());
        let reached = reachable.clone().count(db.read()).await?;
        let distinct = reachable
            .select_only()
            .expr(sea_orm::sea_query::Func::lower(sea_orm::sea_query::Expr::col((record::Entity, address))))
            .distinct()
            .count(db.read())
            .await?;
        let code = PreflightCode::AudienceReachable;
        let mend = "choose another segment, or complete the records' addresses";
        if reached == 0 {
            let ill = if total == 0 {
                "the audience is empty".to_owned()
            } else {
                format!("none of {total} records can be reached")
            };
            match self.action {
                LaunchAction::Run => self.say(code, false, Some("segmentId"), "", &ill, mend),
                LaunchAction::TestRun | LaunchAction::Schedule => {
                    self.advise(code, false, Some("segmentId"), "", &ill, mend)
                }
            }
        } else {
            let well = format!("all {total} records can be reached");
            let ill = format!("{} of {total} records can't be reached and will be left out", total - reached);
            self.advise(code, reached == total, None, &well, &ill, "complete the records' addresses");
        }
        let twice = reached - distinct;
        let ill = format!("{twice} records share an address with another one; each address gets one message");
        self.advise(
            PreflightCode::SharedAddresses,
            twice == 0,
            None,
            "no two records share an address",
            &ill,
            "merge the records",
        );
        Ok(())
    }

    fn active(&mut self, status: CampaignStatus) {
        let code = PreflightCode::CampaignActive;
        let ill = format!("the campaign is {status}");
        match (self.action, status) {
            (
                LaunchAction::TestRun,
                CampaignStatus::Draft | CampaignStatus::PendingApproval | CampaignStatus::Active,
            ) => {
                self.advise(
                    code,
                    status == CampaignStatus::Active,
                    None,
                    "the campaign is active",
                    &ill,
                    "submit and approve it",
                );
            }
            _ => self.say(
                code,
                status == CampaignStatus::Active,
                None,
                "the campaign is active",
                &ill,
                "only an active campaign launches: approve or resume it",
            ),
        }
    }

    fn channel(&mut self, channel: Channel) {
        let code = PreflightCode::Channel;
        match channel {
            _ if !self.communicates => self.not_applicable(code, "nothing is sent"),
            Channel::Email => self.say(code, true, None, "mail is configured", "", ""),
            Channel::Phone => self.say(code, true, None, "people make the calls", "", ""),
            Channel::Sms => self.say(
                code,
                false,
                Some("channel"),
                "",
                "no provider of text messages is configured",
                "use EMAIL or PHONE",
            ),
        }
    }

    async fn open_run(&mut self, db: &Db, parts: &Parts) -> Result<()> {
        let open = run::Entity::find()
            .filter(run::COLUMN.org_id.eq(parts.campaign.org_id))
            .filter(run::COLUMN.campaign_id.eq(parts.campaign.id))
            .filter(run::COLUMN.status.is_in(RunStatus::OPEN))
            .count(db.read())
            .await?;
        let ill = format!("{open} other runs of the campaign are open");
        self.advise(
            PreflightCode::OpenRun,
            open == 0,
            None,
            "no other run of the campaign is open",
            &ill,
            "wait for them, or cancel them",
        );
        Ok(())
    }
}
