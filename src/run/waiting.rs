//! Why a run does not move by itself just now.

use std::collections::HashMap;

use async_graphql::SimpleObject;
use chrono::{DateTime, Utc};
use entity::definition::{Definition, StepDef, Trigger};
use entity::step::Executor;
use entity::{CampaignStatus, Channel, PhaseStatus, RunStatus, RunType, campaign, channel_rate, phase, run, task};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::db::Db;
use crate::error::Result;
use crate::run_template::kind;

/// A reason why a run does not move by itself.
#[derive(SimpleObject)]
pub struct Constraint {
    /// A word for programs: SCHEDULED, CAMPAIGN_PAUSED, SCHEDULE_PAUSED, RUN_PAUSED, APPROVAL, RELEASE, PEOPLE, WORKERS,
    /// EVENTS, RESOLUTION, RATE; of guided work also MESSAGES and COMPLETION.
    code: &'static str,
    /// A sentence for people.
    message: String,
}

/// The reason of a run whose schedule is paused.
pub fn schedule_paused() -> Constraint {
    Constraint { code: "SCHEDULE_PAUSED", message: "its schedule is paused".into() }
}

/// When the next message of each channel goes whose rate is used up.
pub async fn rates_until(db: &Db) -> Result<HashMap<Channel, DateTime<Utc>>> {
    let all = channel_rate::Entity::find().filter(channel_rate::COLUMN.org_id.eq(entity::org::PLATFORM));
    let used_up = channel_rate::COLUMN.next_at.gt(db.now());
    Ok(all.filter(used_up).all(db.read()).await?.into_iter().map(|row| (row.channel, row.next_at)).collect())
}

/// The reasons, judged on rows that are at hand; none where it moves, or has ended.
pub fn waiting_for(
    run: &run::Model,
    campaign: Option<&campaign::Model>,
    phases: &[phase::Model],
    tasks: &[task::Model],
    rate_until: Option<DateTime<Utc>>,
    definition: &Definition,
) -> Vec<Constraint> {
    let mut all = Vec::new();
    let mut say = |code, message: String| all.push(Constraint { code, message });
    if !run.status.is_open() {
        return all;
    }
    if campaign.is_some_and(|campaign| campaign.status == CampaignStatus::Paused) {
        say("CAMPAIGN_PAUSED", "its campaign is paused".into());
    }
    match (run.status, run.scheduled_for) {
        (RunStatus::Scheduled, Some(at)) => say("SCHEDULED", format!("its time, {}", at.to_rfc3339())),
        (RunStatus::Paused, _) => say("RUN_PAUSED", "it is paused".into()),
        _ => {}
    }
    let Some(phase) = phases.iter().find(|phase| phase.status == PhaseStatus::Active) else { return all };
    let mine: Vec<&task::Model> = tasks.iter().filter(|task| task.phase_id == phase.id).collect();
    let declared = definition.phases.iter().find(|declared| declared.key == phase.key);
    for task in &mine {
        let steps = declared.iter().flat_map(|phase| &phase.tasks).filter(|declared| declared.key == task.key);
        let steps: Vec<&StepDef> = steps.flat_map(|declared| &declared.steps).collect();
        let any = |is: &dyn Fn(&StepDef) -> bool| steps.iter().any(|step| is(step));
        let approved = any(&|step| step.kind == kind::REVIEW || step.approval.is_some());
        if task.awaiting_approval > 0 && approved {
            say("APPROVAL", format!("{}: approval is pending", task.name));
        } else if task.awaiting_approval > 0 {
            say("RESOLUTION", format!("{}: {} messages whose fate is unknown", task.name, task.awaiting_approval));
        }
        let sends = any(&|step| matches!(step.kind.as_str(), kind::SEND | kind::EMAIL));
        if let Some(at) = rate_until.filter(|_| sends && (task.queued > 0 || run.on_way > 0)) {
            say(
                "RATE",
                format!("{}: the channel's rate is used up; the next message goes at {}", task.name, at.to_rfc3339()),
            );
        }
        let by_people = any(&|step| step.assigned_to == Executor::Human && step.kind != kind::REVIEW);
        let with_people = task.pending + task.in_progress;
        if by_people && with_people > 0 && task.status != entity::TaskStatus::Blocked {
            say("PEOPLE", format!("{}: {with_people} steps are waiting for people", task.name));
        }
        if task.queued > 0 && any(&kind::is_outside) {
            say("WORKERS", format!("{}: {} steps are waiting for agents or functions", task.name, task.queued));
        }
    }
    let waits = |task: &&task::Model| {
        let steps = declared.iter().flat_map(|phase| &phase.tasks).filter(|declared| declared.key == task.key);
        task.pending > 0 && steps.flat_map(|task| &task.steps).any(|step| matches!(step.trigger, Trigger::Event(_)))
    };
    if let Some(until) = phase.open_until
        && mine.iter().any(waits)
    {
        say("EVENTS", format!("{} waits for events until {}", phase.name, until.to_rfc3339()));
    }
    let through = mine.iter().all(|task| task.fan_out_done && task.counts().open() == 0);
    if run.run_type == RunType::Guided {
        if through && run.on_way > 0 {
            let told = format!("{} of its messages are on their way, or their fate is unknown", run.on_way);
            say("MESSAGES", told);
        } else if through {
            say("COMPLETION", "its steps are closed: a person completes it".into());
        }
    } else if through && !phase.autonomous && phase.person_act.is_none() {
        say("RELEASE", format!("{} waits to be released by a person", phase.name));
    }
    all
}
