//! The actions on a run, and the judge of each: allowed now, or rejected with the reason.

use async_graphql::Enum;
use entity::run::{Model, RunTransition};
use entity::{CampaignStatus, RunStatus, campaign, task};
use sea_orm::ConnectionTrait;
use serde_json::json;

use super::next_status;
use super::unreached::{UnreachedVerdicts, judge_one};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Action on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "RunAction")]
pub enum Action {
    /// Moves a scheduled run to another time.
    Reschedule,
    /// Pauses the run.
    Pause,
    /// Resumes the run.
    Resume,
    /// Cancels the run.
    Cancel,
    /// Retries failed work.
    Retry,
    /// Re-evaluates the run's state and starts whatever can start.
    Refresh,
    /// Queues a copy of the run.
    Repeat,
    /// Queues a copy for the recipients that the run did not reach.
    RepeatFailed,
    /// Completes guided work.
    Complete,
    /// Changes the name or the description (`updateRun`).
    Update,
    /// Adds a step to guided work (`addRunStep`).
    AddStep,
    /// Reorders the steps of guided work that have not begun (`reorderRunSteps`).
    ReorderSteps,
    /// Corrects the outcome of guided work that has ended (`updateRunOutcome`).
    UpdateOutcome,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 13] = [
        Self::Reschedule,
        Self::Pause,
        Self::Resume,
        Self::Cancel,
        Self::Retry,
        Self::Refresh,
        Self::Repeat,
        Self::RepeatFailed,
        Self::Complete,
        Self::Update,
        Self::AddStep,
        Self::ReorderSteps,
        Self::UpdateOutcome,
    ];

    /// Transition of the run; none for a refresh, a repeat or a mend.
    fn act(self) -> Option<RunTransition> {
        match self {
            Self::Reschedule => Some(RunTransition::Reschedule),
            Self::Pause => Some(RunTransition::Pause),
            Self::Resume => Some(RunTransition::Resume),
            Self::Cancel => Some(RunTransition::Cancel),
            Self::Retry => Some(RunTransition::Retry),
            Self::Complete => Some(RunTransition::Complete),
            Self::Refresh
            | Self::Repeat
            | Self::RepeatFailed
            | Self::Update
            | Self::AddStep
            | Self::ReorderSteps
            | Self::UpdateOutcome => None,
        }
    }
}

/// Facts of a run's campaign that the actions on the run depend on.
#[derive(Clone, Copy, Debug)]
pub struct CampaignFacts {
    /// The campaign's status.
    pub status: CampaignStatus,
    /// True if the campaign is for a single record: it follows its runs, and goes on if one of them does.
    pub has_one_record: bool,
}

impl CampaignFacts {
    /// The facts of a campaign.
    pub fn of(campaign: &campaign::Model) -> Self {
        Self { status: campaign.status, has_one_record: campaign.record_id.is_some() }
    }
}

/// Everything besides the run itself that decides which actions are allowed.
#[derive(Clone, Debug, Default)]
pub struct RunContext {
    /// The run's campaign; none for guided work.
    campaign: Option<CampaignFacts>,
    /// Number of the run's open steps.
    pub(super) open_steps: i64,
    /// Number of the run's failed steps.
    failed_steps: i64,
    /// Verdicts on the run's unreached recipients; none while it is open.
    unreached: Option<UnreachedVerdicts>,
}

impl RunContext {
    /// Builds the context from the run's tasks and, if it has ended, the verdicts on its unreached
    /// recipients.
    pub fn of(campaign: Option<CampaignFacts>, tasks: &[task::Model], unreached: Option<UnreachedVerdicts>) -> Self {
        let open_steps = tasks.iter().map(|task| task.counts().open()).sum();
        Self { campaign, open_steps, failed_steps: tasks.iter().map(|task| task.failed).sum(), unreached }
    }

    /// Loads the part of the context that an action depends on.
    pub(super) async fn read(
        db: &impl ConnectionTrait,
        viewer: &Viewer,
        run: &Model,
        campaign: Option<CampaignFacts>,
        action: Action,
    ) -> Result<Self> {
        let tasks = match action {
            Action::Complete => super::task::of_runs(db, viewer, &[run.id]).await?,
            _ => Vec::new(),
        };
        let unreached = match action {
            Action::Retry | Action::RepeatFailed if !run.status.is_open() => Some(judge_one(db, viewer, run).await?),
            _ => None,
        };
        Ok(Self::of(campaign, &tasks, unreached))
    }

    /// True if a retry of the run retries only the steps of unreached recipients.
    pub(super) fn retries_only_unreached(&self) -> bool {
        self.unreached.as_ref().is_some_and(|verdicts| matches!(verdicts.retry, Ok(true)))
    }
}

/// Checks that an action is allowed now; the error names the reason. The mutations call the same
/// check. Guided work has no campaign.
pub fn check_allowed(run: &Model, context: &RunContext, action: Action) -> Result<()> {
    check_status(run, context.campaign, action)?;
    match (action, &context.unreached) {
        (Action::Retry, Some(verdicts)) => Ok(verdicts.retry.clone().map(|_| ())?),
        (Action::RepeatFailed, Some(verdicts)) => Ok(verdicts.repeat.clone()?),
        (Action::Complete, _) => check_closed(run, context),
        _ => Ok(()),
    }
}

/// Checks that no step of guided work is open or has failed, and that no message is in flight; the
/// error counts those that are.
fn check_closed(run: &Model, context: &RunContext) -> Result<()> {
    let (open_steps, failed_steps) = (context.open_steps, context.failed_steps);
    if failed_steps > 0 && open_steps == 0 {
        let message =
            format!("{failed_steps} of its steps have failed: retry them, then skip those that nobody is to do");
        return Err(Refusal::conflict(message).with("failedSteps", json!(failed_steps)).into());
    }
    if open_steps > 0 {
        return Err(Refusal::conflict(format!("{open_steps} of its steps are open: complete or skip them")).into());
    }
    if run.in_flight == 0 {
        return Ok(());
    }
    let message = format!("{} of its messages are in flight, or their outcome is unknown", run.in_flight);
    Err(Refusal::conflict(message).with("messagesOnWay", json!(run.in_flight)).into())
}

/// Checks the action by the statuses of the run and its campaign.
fn check_status(run: &Model, campaign: Option<CampaignFacts>, action: Action) -> Result<()> {
    // Cancelling is idempotent: the second request succeeds and changes nothing.
    if action == Action::Cancel && run.status == RunStatus::Cancelled {
        return Ok(());
    }
    match (action, campaign) {
        (Action::Update, _) => return Ok(()),
        (Action::AddStep | Action::ReorderSteps, _) => return check_mendable(run, campaign.is_some()),
        (Action::UpdateOutcome, _) => return check_outcome_correctable(run, campaign.is_some()),
        (Action::Repeat | Action::RepeatFailed, Some(campaign)) => return check_repeat_allowed(run, campaign.status),
        (Action::Repeat | Action::RepeatFailed, None) => {
            return Err(Refusal::conflict("guided work can't be repeated: start it anew with startGuidedRun").into());
        }
        // Completed guided work can't be retried.
        (Action::Retry, None) if run.status == RunStatus::Completed => {
            let message = "completed guided work can't be retried: start it anew with startGuidedRun".into();
            let refusal = Refusal::transition("run", run.status, RunTransition::Retry);
            return Err(Refusal { message, ..refusal }.with("allowed", json!([])).into());
        }
        (Action::Complete, Some(_)) => {
            return Err(Refusal::conflict("a campaign's run completes by itself once its phases are completed").into());
        }
        _ => {}
    }
    match action.act() {
        Some(transition) => next_status(run, transition).map(|_| ())?,
        None if run.status.is_open() => {}
        None => return Err(Refusal::conflict(format!("it has ended: it is {}", run.status)).into()),
    }
    match (action, campaign) {
        (Action::Retry, Some(campaign)) => check_retry_allowed(run, campaign),
        _ => Ok(()),
    }
}

/// Checks that steps can be added to the run, and reordered.
fn check_mendable(run: &Model, has_campaign: bool) -> Result<()> {
    let why = match run.status {
        _ if has_campaign => "a campaign's run keeps the structure that it started with: change that of later \
                              runs with updateRunTemplate or updateCampaign"
            .to_owned(),
        RunStatus::InProgress | RunStatus::Paused => return Ok(()),
        RunStatus::Scheduled | RunStatus::Queued => {
            "it has not begun: its steps come from its template when it begins".to_owned()
        }
        RunStatus::Completed | RunStatus::Cancelled | RunStatus::Failed => {
            format!("it has ended: it is {}; start other work with startGuidedRun", run.status)
        }
    };
    Err(Refusal::conflict(why).into())
}

/// Checks that the outcome of the run can be corrected.
fn check_outcome_correctable(run: &Model, has_campaign: bool) -> Result<()> {
    let why = if has_campaign {
        "the outcome of a campaign's run is the result of its `summarise` step: add a note with addRunNote".to_owned()
    } else if run.status.is_open() {
        format!("it has not ended: it is {}; completeRun takes its outcome", run.status)
    } else {
        return Ok(());
    };
    Err(Refusal::conflict(why).into())
}

/// Checks that the run can be retried, apart from its state machine.
fn check_retry_allowed(run: &Model, campaign: CampaignFacts) -> Result<()> {
    let why = match campaign.status {
        _ if run.started_at.is_none() => "its preflight failed before it began: launch the campaign again".to_owned(),
        CampaignStatus::Completed if campaign.has_one_record => return Ok(()),
        CampaignStatus::Completed | CampaignStatus::Cancelled => format!("its campaign is {}", campaign.status),
        CampaignStatus::Draft
        | CampaignStatus::PendingApproval
        | CampaignStatus::Active
        | CampaignStatus::Paused
        | CampaignStatus::Failed => return Ok(()),
    };
    Err(Refusal::conflict(why).into())
}

/// Checks that the run can be repeated, apart from unreached recipients.
fn check_repeat_allowed(run: &Model, campaign: CampaignStatus) -> Result<()> {
    let why = if run.status.is_open() {
        format!("it has not ended: it is {}", run.status)
    } else if run.started_at.is_none() {
        "it never began: launch the campaign again".to_owned()
    } else if campaign != CampaignStatus::Active {
        format!("its campaign is {campaign}")
    } else {
        return Ok(());
    };
    Err(Refusal::conflict(why).into())
}
