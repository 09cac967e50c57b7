//! Preflight: all checks before a launch, as in the table of docs/reference/product.md. The query,
//! the campaign's field, dry runs and launches share them.

mod approved;
mod audience;
mod content;
mod launch_input;
pub mod report;
mod step_mails;

use entity::{CampaignStatus, Channel, RunStatus, RunType, TemplateKind, campaign, record, run};
pub use launch_input::test_recipients;
pub use report::{AudienceCounts, CheckStatus, LaunchAction, Preflight, PreflightCheck, PreflightCode, Severity};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::approval;
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::domain::plan::{run_template, schedule};
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// The input of a launch that the checks depend on.
#[derive(Clone, Debug, Default)]
pub struct LaunchInput {
    /// The test addresses.
    pub recipients: Vec<String>,
    /// Number of sample records.
    pub sample: Option<i32>,
    /// The time of the launch.
    pub when: Option<schedule::ScheduleTime>,
    /// True to launch although another run of the campaign is open.
    pub even_if_open: bool,
    /// The policies of the schedule.
    pub terms: schedule::SchedulePolicies,
}

/// Context of a preflight: the launch's input, and the checks to leave out.
#[derive(Clone, Copy, Debug, Default)]
pub struct PreflightContext<'a> {
    /// The launch's input; `None` leaves out the checks that depend on it.
    pub input: Option<&'a LaunchInput>,
    /// Leaves out the check that the campaign is active (for submit and approve).
    pub any_status: bool,
}

/// Runs all checks. They read outside of the launch's transaction: compare
/// `CampaignParts::revisions` again when launching.
pub async fn preflight(
    db: &Db,
    viewer: &Viewer,
    parts: &CampaignParts,
    action: LaunchAction,
    terms: PreflightContext<'_>,
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
    let audience = checks.audience(db, viewer, parts).await?;
    if !terms.any_status {
        checks.active(campaign.status);
        checks.approved(db, viewer, parts).await?;
    }
    checks.channel(campaign.channel);
    checks.content(db, viewer, parts).await?;
    let executors = run_template::Executors::of(db.read(), viewer, definition).await?.with_model(db.has_model());
    let mut problems = parts.resolved.problems.clone();
    problems.extend(run_template::problems_within_budget(TemplateKind::Campaign, definition, Some(&executors)).await?);
    if campaign.record_id.is_none() {
        problems.extend(run_template::without_recipient(definition));
    }
    run_template::check_not_late("definition", &problems)?;
    let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
    checks.require(
        PreflightCode::RunTemplate,
        problems.is_empty(),
        None,
        "the structure of the run is valid",
        &messages.join("; "),
        "correct the template or the campaign's overrides",
    );
    checks.input(db, campaign, terms.input).await?;
    checks.open_run(db, parts, terms.input).await?;
    let ready = checks.all.iter().all(|check| check.status != CheckStatus::Failed);
    let content_version = Some(approval::content_version(parts)?);
    Ok(Preflight { content_version, action, ready, checks: checks.all, audience })
}

/// Returns the condition for the records of a campaign's audience; `None` without an audience.
pub fn audience(db: &Db, parts: &CampaignParts) -> Result<Option<Condition>> {
    match (&parts.segment, parts.campaign.record_id) {
        (Some(segment), _) => Ok(Some(crate::domain::audience::segment::condition(db, segment)?)),
        (None, Some(id)) => {
            let own = Condition::all().add(record::COLUMN.org_id.eq(parts.campaign.org_id));
            let own = own.add(record::COLUMN.id.eq(id));
            Ok(Some(own.add(crate::domain::audience::record::erasure::not_erased(parts.campaign.org_id))))
        }
        (None, None) => Ok(None),
    }
}

/// Returns the first records of the audience, else of the org.
pub async fn sample(db: &Db, parts: &CampaignParts, most: u64) -> Result<Vec<record::Model>> {
    let org = parts.campaign.org_id;
    let not_erased = || crate::domain::audience::record::erasure::not_erased(org);
    let of_org = || Condition::all().add(record::COLUMN.org_id.eq(org)).add(not_erased());
    let find = |condition| record::Entity::find().filter(condition).order_by_asc(record::Column::Id).limit(most);
    let found = match audience(db, parts)? {
        Some(condition) => find(condition).all(db.read()).await?,
        None => Vec::new(),
    };
    if found.is_empty() { Ok(find(of_org()).all(db.read()).await?) } else { Ok(found) }
}

pub(super) struct Checks {
    action: LaunchAction,
    communicates: bool,
    templated: bool,
    all: Vec<PreflightCheck>,
}

impl Checks {
    /// A required check, passed or failed.
    pub(super) fn require(
        &mut self,
        code: PreflightCode,
        passed: bool,
        field: Option<&str>,
        success: &str,
        failure: &str,
        remediation: &str,
    ) {
        self.push(
            code,
            if passed { CheckStatus::Passed } else { CheckStatus::Failed },
            Severity::Required,
            field,
            if passed { success } else { failure },
            (!passed).then_some(remediation),
        );
    }

    /// An advisory check, passed or a warning.
    pub(super) fn advise(
        &mut self,
        code: PreflightCode,
        passed: bool,
        field: Option<&str>,
        success: &str,
        failure: &str,
        remediation: &str,
    ) {
        self.push(
            code,
            if passed { CheckStatus::Passed } else { CheckStatus::Warning },
            Severity::Advisory,
            field,
            if passed { success } else { failure },
            (!passed).then_some(remediation),
        );
    }

    pub(super) fn not_applicable(&mut self, code: PreflightCode, why: &str) {
        self.push(code, CheckStatus::NotApplicable, Severity::Advisory, None, why, None);
    }

    fn push(
        &mut self,
        code: PreflightCode,
        status: CheckStatus,
        severity: Severity,
        field: Option<&str>,
        message: &str,
        remediation: Option<&str>,
    ) {
        self.all.push(PreflightCheck {
            code,
            status,
            severity,
            field: field.map(str::to_owned),
            message: message.to_owned(),
            remediation: remediation.map(str::to_owned),
        });
    }

    fn definitions(&mut self, parts: &CampaignParts) {
        let campaign = &parts.campaign;
        self.require(
            PreflightCode::Goal,
            parts.goal.is_some(),
            Some("goalId"),
            "the campaign has a goal",
            "the campaign has no goal",
            "give it a goal",
        );
        if !self.templated {
            for code in [PreflightCode::Writer, PreflightCode::Reviewer, PreflightCode::MessageTemplate] {
                self.not_applicable(code, "the run takes no content from the campaign");
            }
            return;
        }
        self.require(
            PreflightCode::Writer,
            parts.writer.is_some(),
            Some("writerId"),
            "the campaign has a writer",
            "the campaign has no writer",
            "give it a writer",
        );
        match campaign.channel {
            Channel::Email | Channel::Sms => self.require(
                PreflightCode::Reviewer,
                parts.reviewer.is_some(),
                Some("reviewerId"),
                "the campaign has a reviewer",
                "the campaign has no reviewer",
                "give it a reviewer",
            ),
            Channel::Phone => self.not_applicable(PreflightCode::Reviewer, "calls are not reviewed"),
        }
        let code = PreflightCode::MessageTemplate;
        let (field, remediation) = (Some("messageTemplateId"), "give it a message template");
        match (&parts.message_template, campaign.channel) {
            (Some(template), channel) if template.channel != channel => {
                let failure = format!("the message template is for {}, the campaign for {channel}", template.channel);
                self.require(code, false, field, "", &failure, "choose a template for the campaign's channel");
            }
            (found, Channel::Email) => {
                let lenient = self.action == LaunchAction::TestRun && campaign.status == CampaignStatus::Active;
                let (success, failure) =
                    ("the campaign has a message template", "the campaign has no message template");
                if lenient {
                    self.advise(code, found.is_some(), field, success, failure, remediation);
                } else {
                    self.require(code, found.is_some(), field, success, failure, remediation);
                }
            }
            (_, Channel::Sms | Channel::Phone) => self.not_applicable(code, "only mail needs a message template"),
        }
    }

    fn active(&mut self, status: CampaignStatus) {
        let code = PreflightCode::CampaignActive;
        let failure = format!("the campaign is {status}");
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
                    &failure,
                    "submit and approve it",
                );
            }
            _ => self.require(
                code,
                status == CampaignStatus::Active,
                None,
                "the campaign is active",
                &failure,
                match status {
                    CampaignStatus::Draft => "only an active campaign launches: submit it, then have it approved",
                    CampaignStatus::PendingApproval => "only an active campaign launches: have it approved",
                    CampaignStatus::Paused => "only an active campaign launches: resume it",
                    _ => "only an active campaign launches; this one has ended: create a new one",
                },
            ),
        }
    }

    fn channel(&mut self, channel: Channel) {
        let code = PreflightCode::Channel;
        match channel {
            _ if !self.communicates => self.not_applicable(code, "nothing is sent"),
            Channel::Email => self.require(code, true, None, "mail is configured", "", ""),
            Channel::Phone => self.require(code, true, None, "people make the calls", "", ""),
            Channel::Sms => self.require(
                code,
                false,
                Some("channel"),
                "",
                "no provider of text messages is configured",
                "use EMAIL or PHONE",
            ),
        }
    }

    async fn open_run(&mut self, db: &Db, parts: &CampaignParts, input: Option<&LaunchInput>) -> Result<()> {
        let code = PreflightCode::OpenRun;
        let open = open_runs(db.read(), &parts.campaign).await?;
        let success = "no other run of the campaign is open";
        let Some(first) = open.first() else {
            self.advise(code, true, None, success, "", "");
            return Ok(());
        };
        let failure = match open.len() {
            1 => format!("the run {} ({}) is open: it is {}", first.name, first.id, first.status),
            count => format!("{count} runs of the campaign are open, {} ({}) among them", first.name, first.id),
        };
        match (self.action, input) {
            (LaunchAction::Run, Some(input)) if !input.even_if_open => {
                let remediation =
                    "wait for it, cancel it, or set `evenIfOpen: true`: recipients of both runs get both messages";
                self.require(code, false, Some("evenIfOpen"), success, &failure, remediation);
            }
            (LaunchAction::Run, None) => {
                let remediation = "wait for it or cancel it; to launch anyway, set `evenIfOpen: true`";
                self.advise(code, false, Some("evenIfOpen"), success, &failure, remediation);
            }
            _ => self.advise(code, false, None, success, &failure, "wait for it or cancel it"),
        }
        Ok(())
    }
}

/// Returns up to 100 open runs of a campaign, oldest first, without test runs and runs that are
/// scheduled for later.
pub(crate) async fn open_runs(db: &impl ConnectionTrait, campaign: &campaign::Model) -> Result<Vec<run::Model>> {
    Ok(run::Entity::find()
        .filter(run::COLUMN.org_id.eq(campaign.org_id))
        .filter(run::COLUMN.campaign_id.eq(campaign.id))
        .filter(run::COLUMN.status.is_in([RunStatus::Queued, RunStatus::InProgress, RunStatus::Paused]))
        .filter(run::COLUMN.run_type.ne(RunType::TestRun))
        .order_by_asc(run::COLUMN.id)
        .limit(100)
        .all(db)
        .await?)
}
