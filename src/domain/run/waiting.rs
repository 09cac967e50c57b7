//! Reasons why a run does not progress by itself just now: the people, workers or times that it
//! waits for, and the number of steps affected.

mod guided;
mod hold;
mod standstill;
pub mod step_waits;
mod sweeps;

use chrono::{DateTime, Utc};
use entity::definition::{Definition, StepDef, TaskDef, Trigger};
use entity::id::*;
use entity::member::Role;
use entity::step::{Executor, StepStatus};
use entity::{
    Actor, CampaignStatus, PhaseStatus, RunStatus, RunType, TaskStatus, campaign, phase, run, schedule, task,
};

use crate::domain::plan::run_template::kind;
use step_waits::{ChannelState, Group, StepWaits};

/// Reason why a run does not progress by itself.
#[derive(Clone, Debug)]
pub struct Reason {
    /// Machine-readable code.
    pub code: &'static str,
    /// Sentence for people.
    pub message: String,
    /// Number of steps that could start or continue but for this reason; none if it is not about
    /// steps.
    pub steps: Option<i64>,
    /// End of the wait; none if not known.
    pub until: Option<DateTime<Utc>>,
    /// Members and agents that it waits for by name.
    pub who: Vec<Actor>,
    /// Roles that it waits for, if nobody is named.
    pub roles: Vec<Role>,
    /// Step, if the reason is about a single one.
    pub step: Option<StepId>,
}

/// Loaded rows that a run's reasons are derived from.
#[derive(Debug)]
pub struct WaitContext<'a> {
    /// Run.
    pub run: &'a run::Model,
    /// Campaign; none for guided work.
    pub campaign: Option<&'a campaign::Model>,
    /// Schedule that will fire the run; none if there is none.
    pub schedule: Option<&'a schedule::Model>,
    /// Phases, in order.
    pub phases: &'a [phase::Model],
    /// Tasks.
    pub tasks: &'a [task::Model],
    /// Structure.
    pub definition: &'a Definition,
    /// Channel state, if the channel is held up.
    pub channel: Option<&'a ChannelState>,
    /// Findings about the run's steps.
    pub found: &'a StepWaits,
}

/// Steps of a task that wait for the same thing.
#[derive(Debug, Default)]
struct WaitGroup {
    steps: i64,
    begun: i64,
    until: Option<DateTime<Utc>>,
    who: Vec<Actor>,
    roles: Vec<Role>,
    only: Option<StepId>,
    attempt: Option<(i32, i32)>,
    names: Vec<String>,
}

impl WaitGroup {
    fn add(&mut self, group: &Group, steps: i64) {
        self.only = (self.steps == 0 && steps == 1).then_some(group.first);
        self.steps += steps;
        match &group.assignee {
            Some(who) if !self.who.contains(who) => self.who.push(who.clone()),
            _ => {}
        }
        if !self.names.contains(&group.name) {
            self.names.push(group.name.clone());
        }
    }

    fn role(&mut self, group: &Group, otherwise: Role) {
        if group.assignee.is_none() {
            let role = group.role.unwrap_or(otherwise);
            if !self.roles.contains(&role) {
                self.roles.push(role);
            }
        }
    }

    fn until(&mut self, at: Option<DateTime<Utc>>) {
        self.until = match (self.until, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    fn reason(self, code: &'static str, message: String) -> Reason {
        let Self { steps, until, who, roles, only: step, .. } = self;
        Reason { code, message, steps: Some(steps), until, who, roles, step }
    }
}

/// Builds a reason that is not about steps.
fn plain(code: &'static str, message: impl Into<String>, until: Option<DateTime<Utc>>) -> Reason {
    Reason { code, message: message.into(), steps: None, until, who: Vec::new(), roles: Vec::new(), step: None }
}

/// Formats a number of steps with its verb: `1 step is`, `3 steps are`.
fn count_steps(count: i64) -> String {
    if count == 1 { "1 step is".into() } else { format!("{count} steps are") }
}

/// Returns the reasons; empty if the run progresses without a sweep, or has ended.
pub fn reasons(context: &WaitContext<'_>) -> Vec<Reason> {
    let (run, found) = (context.run, context.found);
    let mut all = Vec::new();
    if !run.status.is_open() {
        return all;
    }
    if context.campaign.is_some_and(|campaign| campaign.status == CampaignStatus::Paused) {
        all.push(plain("CAMPAIGN_PAUSED", "its campaign is paused", None));
    }
    if context.schedule.is_some_and(|schedule| schedule.status == schedule::ScheduleStatus::Paused) {
        all.insert(0, plain("SCHEDULE_PAUSED", "its schedule is paused", None));
    }
    match (run.status, run.scheduled_for) {
        (RunStatus::Scheduled, _) if run.buffered_at.is_some() => {
            all.push(plain("EARLIER_RUN", "it starts when the runs of its schedule before it have ended", None));
        }
        (RunStatus::Scheduled, Some(at)) => {
            all.push(plain("SCHEDULED", format!("it is scheduled for {}", at.to_rfc3339()), Some(at)));
        }
        (RunStatus::Paused, _) => all.push(plain("RUN_PAUSED", "it is paused", None)),
        _ => {}
    }
    for row in &found.stuck {
        let often = if row.failures == 1 { "once".to_owned() } else { format!("{} times", row.failures) };
        let message = format!(
            "{} failed {often} since {}: {}; it is tried again at {}",
            crate::kernel::stuck::as_activity(row.work),
            row.since.to_rfc3339(),
            row.error,
            row.next_try_at.to_rfc3339()
        );
        all.push(plain("STUCK", message, Some(row.next_try_at)));
    }
    sweeps::add_reasons(context, &mut all);
    let Some(phase) = context.phases.iter().find(|phase| phase.status == PhaseStatus::Active) else { return all };
    let phase_tasks: Vec<&task::Model> = context.tasks.iter().filter(|task| task.phase_id == phase.id).collect();
    let declared = context.definition.phases.iter().find(|declared| declared.key == phase.key);
    for task in &phase_tasks {
        let declared = declared.iter().flat_map(|phase| &phase.tasks).find(|declared| declared.key == task.key);
        let groups: Vec<&Group> = found.groups.iter().filter(|group| group.task_id == task.id).collect();
        add_task_reasons(task, declared, &groups, context, &mut all);
    }
    add_sending_reasons(context, &mut all);
    add_event_reason(phase, &phase_tasks, declared.map_or(&[], |declared| &declared.tasks), found, &mut all);
    if !found.moves(context.channel) {
        standstill::add_blocked_tasks(&phase_tasks, context.tasks, &mut all);
    }
    let through = phase_tasks.iter().all(|task| task.fan_out_done && task.counts().open() == 0);
    if run.run_type == RunType::Guided {
        let failed = phase_tasks.iter().map(|task| task.failed).sum();
        guided::reasons(run, found, through, failed, &mut all);
    } else if run.status == RunStatus::InProgress && through && !phase.autonomous && phase.advanced_by.is_none() {
        let reason = plain("RELEASE", format!("{} waits to be released by a person", phase.name), None);
        all.push(Reason { roles: vec![Role::Operator], ..reason });
    }
    standstill::add_reason(run, found, &phase_tasks, &mut all);
    all
}

/// Adds the reasons of one task's steps, each kind of reason once.
fn add_task_reasons(
    task: &task::Model,
    declared: Option<&TaskDef>,
    groups: &[&Group],
    context: &WaitContext<'_>,
    all: &mut Vec<Reason>,
) {
    let declared = |key: &str| -> Option<&StepDef> { declared?.steps.iter().find(|step| step.key == key) };
    let (mut approval, mut resolution, mut people) = (WaitGroup::default(), WaitGroup::default(), WaitGroup::default());
    let (mut workers, mut nobody) = (WaitGroup::default(), WaitGroup::default());
    let (mut in_hand, mut held, mut held_since) = (0, WaitGroup::default(), None);
    let (mut waiting, mut delayed, mut retried) = (WaitGroup::default(), WaitGroup::default(), WaitGroup::default());
    for group in groups {
        let human = group.assigned_to == Executor::Human;
        match group.status {
            StepStatus::AwaitingApproval if hold::awaits_resolution(group, declared(&group.key)) => {
                resolution.add(group, group.count);
                resolution.role(group, Role::Operator);
            }
            // Nobody can approve in a paused run.
            StepStatus::AwaitingApproval if context.run.status == RunStatus::Paused => {}
            StepStatus::AwaitingApproval => {
                approval.add(group, group.count);
                approval.role(group, Role::Reviewer);
            }
            // The engine starts reviews; steps of a blocked task can't begin.
            StepStatus::Pending if human && group.kind != kind::REVIEW && task.status != TaskStatus::Blocked => {
                let begins = match group.trigger {
                    Trigger::Immediate | Trigger::Manual => true,
                    // Such a step is created when its event arrives.
                    Trigger::Event(_) => task.fan_out,
                    Trigger::After(_) | Trigger::Delay(_) => false,
                };
                if begins && context.may_act_on(group) {
                    people.add(group, group.count);
                    people.role(group, Role::Operator);
                }
            }
            StepStatus::InProgress if human && group.kind != kind::REVIEW && context.may_act_on(group) => {
                people.add(group, group.count);
                people.begun += group.count;
                people.role(group, Role::Operator);
            }
            StepStatus::Queued => {
                let due = group.count - group.later;
                if due > 0 && human && context.may_act_on(group) {
                    people.add(group, due);
                    people.role(group, Role::Operator);
                } else if due > 0 && group.outside {
                    let takes = context.found.takes(group, task, context.run);
                    if takes { &mut workers } else { &mut nobody }.add(group, due);
                }
                let sends = is_sending(group);
                let first = group.later - group.retried;
                if group.retried > 0 {
                    retried.add(group, group.retried);
                    retried.until(group.retried_at);
                    retried.attempt = Some((group.failures + 1, group.max_attempts));
                }
                // Approved messages that wait for their channel are reported by `sending`.
                if sends && group.planned > 0 {
                    delayed.add(group, group.planned);
                    delayed.until(group.planned_at);
                }
                if first > 0 && !sends {
                    let sum =
                        if group.kind == kind::WAIT && !human && !group.outside { &mut waiting } else { &mut delayed };
                    sum.add(group, first);
                    sum.until(group.next_at);
                }
            }
            StepStatus::InProgress => {
                if group.outside {
                    in_hand += group.count;
                }
                if group.held > 0 && !human {
                    held.add(group, group.held);
                    held_since = held_since.into_iter().chain(group.held_since).min();
                }
            }
            StepStatus::Pending => {}
            StepStatus::Completed | StepStatus::Skipped | StepStatus::Failed => {}
        }
    }
    let name = &task.name;
    let at = |sum: &WaitGroup| sum.until.map_or_else(String::new, |at| format!("; the next at {}", at.to_rfc3339()));
    let mut add = |code, sum: WaitGroup, message: &dyn Fn(&WaitGroup) -> String| {
        if sum.steps > 0 {
            let message = message(&sum);
            all.push(sum.reason(code, message));
        }
    };
    add("APPROVAL", approval, &|sum| format!("{name}: approval is pending for {}", sum.names.join(", ")));
    add("RESOLUTION", resolution, &|sum| format!("{name}: {} messages with unknown outcome", sum.steps));
    add("PEOPLE", people, &|sum| {
        let begun = match sum.begun {
            0 => String::new(),
            begun if begun == sum.steps => ", begun".to_owned(),
            begun => format!(", {begun} of them begun"),
        };
        format!("{name}: {} waiting for people{begun}", count_steps(sum.steps))
    });
    add("WORKERS", workers, &|sum| {
        let held = if in_hand > 0 { format!("; {in_hand} more in hand") } else { String::new() };
        format!("{name}: {} waiting for agents or functions{held}", count_steps(sum.steps))
    });
    add("IN_HAND", held, &|sum| {
        let since =
            held_since.map_or_else(String::new, |at: DateTime<Utc>| format!(", the longest since {}", at.to_rfc3339()));
        format!("{name}: {} in hand{since}: {}", count_steps(sum.steps), sum.names.join(", "))
    });
    add("NO_AGENT", nobody, &|sum| {
        format!(
            "{name}: {} waiting, and no agent or function takes them: {}",
            count_steps(sum.steps),
            sum.names.join(", ")
        )
    });
    add("WAIT", waiting, &|sum| format!("{name}: {} waiting for their time{}", count_steps(sum.steps), at(sum)));
    add("DELAY", delayed, &|sum| format!("{name}: {} not available yet{}", count_steps(sum.steps), at(sum)));
    add("RETRY", retried, &|sum| {
        let attempt = sum.attempt.map_or_else(String::new, |(n, of)| format!(", attempt {n} of {of}"));
        format!("{name}: {} retried after a failure{attempt}{}", count_steps(sum.steps), at(sum))
    });
}

/// True if the steps send messages.
fn is_sending(group: &Group) -> bool {
    group.assigned_to == Executor::Workflow && matches!(group.kind.as_str(), kind::SEND | kind::EMAIL)
}

/// Adds the reasons that hold up approved messages: their channel, or a temporary refusal.
fn add_sending_reasons(context: &WaitContext<'_>, all: &mut Vec<Reason>) {
    let queued = context.found.groups.iter().filter(|group| group.status == StepStatus::Queued && is_sending(group));
    let mut sum = WaitGroup::default();
    for group in queued {
        if group.count > group.planned {
            sum.add(group, group.count - group.planned);
            sum.until(group.next_at);
        }
    }
    // In a campaign's run, what people wrote holds up nothing.
    let released = if context.run.run_type == RunType::Guided { context.run.in_flight } else { 0 };
    let count = if sum.steps > 0 { sum.steps } else { released };
    if count == 0 {
        return;
    }
    let before = all.len();
    if let Some(channel) = context.channel {
        if let Some((since, next, why)) = &channel.paused {
            let message = format!(
                "the channel has been paused since {}: {why}; a probe message goes at {}",
                since.to_rfc3339(),
                next.to_rfc3339()
            );
            all.push(Reason { steps: Some(count), ..plain("CHANNEL_PAUSED", message, Some(*next)) });
        }
        if let Some(at) = channel.rate_until {
            let message = format!("the channel's rate is used up; the next message goes at {}", at.to_rfc3339());
            all.push(Reason { steps: Some(count), ..plain("RATE", message, Some(at)) });
        }
    }
    if let Some((count, next)) = context.found.refused {
        let at = next.map_or_else(String::new, |at| format!("; the next goes at {}", at.to_rfc3339()));
        let messages = if count == 1 { "1 message was".to_owned() } else { format!("{count} messages were") };
        let message = format!("{messages} refused for now and will be retried{at}");
        all.push(Reason { steps: Some(count), ..plain("RETRY", message, next) });
    } else if all.len() == before
        && let Some(next) = sum.until
    {
        let message = format!("{} postponed; the next is due at {}", count_steps(count), next.to_rfc3339());
        all.push(Reason { steps: Some(count), ..plain("PUT_OFF", message, Some(next)) });
    }
}

/// Adds the reason of a phase that stays open for events.
fn add_event_reason(
    phase: &phase::Model,
    mine: &[&task::Model],
    declared: &[TaskDef],
    found: &StepWaits,
    all: &mut Vec<Reason>,
) {
    let Some(until) = phase.open_until else { return };
    let mut names: Vec<String> = Vec::new();
    let mut pending = 0;
    for task in mine {
        // Fan-out steps are created when their event arrives: until then only the task exists.
        let made = task.fan_out && !task.fan_out_done;
        let of = declared.iter().find(|declared| declared.key == task.key).filter(|of| made && of.on_event());
        let awaited = of.into_iter().flat_map(|of| &of.steps).map(|step| &step.trigger);
        let groups =
            found.groups.iter().filter(|group| group.task_id == task.id && group.status == StepStatus::Pending);
        let groups = groups.filter(|group| !task.fan_out && matches!(group.trigger, Trigger::Event(_)));
        let mut add = |trigger: &Trigger| {
            if let Trigger::Event(name) = trigger
                && !names.contains(name)
            {
                names.push(name.clone());
            }
        };
        for group in groups {
            add(&group.trigger);
            pending += group.count;
        }
        awaited.for_each(add);
    }
    if !names.is_empty() {
        let message = format!("{} is open for {} until {}", phase.name, names.join(", "), until.to_rfc3339());
        let steps = (pending > 0).then_some(pending);
        all.push(Reason { steps, ..plain("EVENTS", message, Some(until)) });
    }
}
