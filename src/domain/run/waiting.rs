//! Why a run does not move by itself just now: who or what it waits for, how many steps do, and until when.

mod guided;
pub mod step_waits;

use chrono::{DateTime, Utc};
use entity::definition::{Definition, StepDef, TaskDef, Trigger};
use entity::id::*;
use entity::member::Role;
use entity::step::{Executor, StepStatus};
use entity::{
    Actor, CampaignStatus, PhaseStatus, RunStatus, RunType, TaskStatus, campaign, phase, run, schedule, task,
};

use crate::domain::plan::run_template::kind;
use crate::kernel::limits;
use step_waits::{ChannelState, Group, StepWaits};

/// A reason why a run does not move by itself.
#[derive(Clone, Debug)]
pub struct Reason {
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// How many steps wait for it that could begin or go on; none where it is not about steps.
    pub steps: Option<i64>,
    /// Until when; none where that is not known.
    pub until: Option<DateTime<Utc>>,
    /// The members and agents that it waits for by name.
    pub who: Vec<Actor>,
    /// The roles that it waits for, where nobody is named.
    pub roles: Vec<Role>,
    /// The step, where it is about one.
    pub step: Option<StepId>,
}

/// What a run's reasons are judged on, all of it read before.
#[derive(Debug)]
pub struct WaitContext<'a> {
    /// The run.
    pub run: &'a run::Model,
    /// Its plan; none of guided work.
    pub campaign: Option<&'a campaign::Model>,
    /// The schedule that is to fire it; none where none is.
    pub schedule: Option<&'a schedule::Model>,
    /// Its phases, in order.
    pub phases: &'a [phase::Model],
    /// Its tasks.
    pub tasks: &'a [task::Model],
    /// Its structure.
    pub definition: &'a Definition,
    /// What holds its channel up.
    pub channel: Option<&'a ChannelState>,
    /// What its steps wait for.
    pub found: &'a StepWaits,
}

/// What steps of a task wait for in the same way.
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

/// A reason that is not about steps.
fn plain(code: &'static str, message: impl Into<String>, until: Option<DateTime<Utc>>) -> Reason {
    Reason { code, message: message.into(), steps: None, until, who: Vec::new(), roles: Vec::new(), step: None }
}

/// A number of steps with its verb: `1 step is`, `3 steps are`.
fn steps(count: i64) -> String {
    if count == 1 { "1 step is".into() } else { format!("{count} steps are") }
}

/// The reasons; none where it moves, or has ended.
pub fn reasons(around: &WaitContext<'_>) -> Vec<Reason> {
    let (run, found) = (around.run, around.found);
    let mut all = Vec::new();
    if !run.status.is_open() {
        return all;
    }
    if around.campaign.is_some_and(|campaign| campaign.status == CampaignStatus::Paused) {
        all.push(plain("CAMPAIGN_PAUSED", "its campaign is paused", None));
    }
    if around.schedule.is_some_and(|schedule| schedule.status == schedule::ScheduleStatus::Paused) {
        all.insert(0, plain("SCHEDULE_PAUSED", "its schedule is paused", None));
    }
    match (run.status, run.scheduled_for) {
        (RunStatus::Scheduled, Some(at)) => {
            all.push(plain("SCHEDULED", format!("its time, {}", at.to_rfc3339()), Some(at)));
        }
        (RunStatus::Paused, _) => all.push(plain("RUN_PAUSED", "it is paused", None)),
        _ => {}
    }
    for row in &found.stuck {
        let often = if row.failures == 1 { "once".to_owned() } else { format!("{} times", row.failures) };
        let told = format!(
            "{} failed {often} since {}: {}; it is tried again at {}",
            crate::kernel::stuck::as_activity(row.work),
            row.since.to_rfc3339(),
            row.error,
            row.next_try_at.to_rfc3339()
        );
        all.push(plain("STUCK", told, Some(row.next_try_at)));
    }
    let Some(phase) = around.phases.iter().find(|phase| phase.status == PhaseStatus::Active) else { return all };
    let mine: Vec<&task::Model> = around.tasks.iter().filter(|task| task.phase_id == phase.id).collect();
    let declared = around.definition.phases.iter().find(|declared| declared.key == phase.key);
    for task in &mine {
        let declared = declared.iter().flat_map(|phase| &phase.tasks).find(|declared| declared.key == task.key);
        let groups: Vec<&Group> = found.groups.iter().filter(|group| group.task_id == task.id).collect();
        of_task(task, declared, &groups, around, &mut all);
    }
    sending(around, &mut all);
    events(phase, &mine, declared.map_or(&[], |declared| &declared.tasks), found, &mut all);
    if !found.moves(around.channel) {
        blocked(&mine, around.tasks, &mut all);
    }
    let through = mine.iter().all(|task| task.fan_out_done && task.counts().open() == 0);
    if run.run_type == RunType::Guided {
        guided::reasons(run, found, through, &mut all);
    } else if through && !phase.autonomous && phase.person_act.is_none() {
        let told = plain("RELEASE", format!("{} waits to be released by a person", phase.name), None);
        all.push(Reason { roles: vec![Role::Operator], ..told });
    }
    all
}

/// What the steps of one task wait for, each kind of reason once.
fn of_task(
    task: &task::Model,
    declared: Option<&TaskDef>,
    groups: &[&Group],
    around: &WaitContext<'_>,
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
            StepStatus::AwaitingApproval => {
                let approved = declared(&group.key).is_some_and(|step| step.approval.is_some());
                if approved || group.kind == kind::REVIEW {
                    approval.add(group, group.count);
                    approval.role(group, Role::Reviewer);
                } else {
                    resolution.add(group, group.count);
                    resolution.role(group, Role::Operator);
                }
            }
            // The engine starts a review; what a blocked task has can't begin.
            StepStatus::Pending if human && group.kind != kind::REVIEW && task.status != TaskStatus::Blocked => {
                let begins = match group.trigger {
                    Trigger::Immediate | Trigger::Manual => true,
                    // Made when its event came.
                    Trigger::Event(_) => task.fan_out,
                    Trigger::After(_) | Trigger::Delay(_) => false,
                };
                if begins {
                    people.add(group, group.count);
                    people.role(group, Role::Operator);
                }
            }
            StepStatus::InProgress if human && group.kind != kind::REVIEW => {
                people.add(group, group.count);
                people.begun += group.count;
                people.role(group, Role::Operator);
            }
            StepStatus::Queued => {
                let due = group.count - group.later;
                if due > 0 && human {
                    people.add(group, due);
                    people.role(group, Role::Operator);
                } else if due > 0 && group.outside {
                    let takes = around.found.takes(group, task, around.run);
                    if takes { &mut workers } else { &mut nobody }.add(group, due);
                }
                let sends = is_sending(group);
                let first = group.later - group.retried;
                if group.retried > 0 {
                    retried.add(group, group.retried);
                    retried.until(group.retried_at);
                    retried.attempt = Some((group.failures + 1, group.max_attempts));
                }
                // What was let out and waits for its channel is told of below.
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
    let mut say = |code, sum: WaitGroup, message: &dyn Fn(&WaitGroup) -> String| {
        if sum.steps > 0 {
            let message = message(&sum);
            all.push(sum.reason(code, message));
        }
    };
    say("APPROVAL", approval, &|sum| format!("{name}: approval is pending of {}", sum.names.join(", ")));
    say("RESOLUTION", resolution, &|sum| format!("{name}: {} messages whose fate is unknown", sum.steps));
    say("PEOPLE", people, &|sum| {
        let begun = match sum.begun {
            0 => String::new(),
            begun if begun == sum.steps => ", begun".to_owned(),
            begun => format!(", {begun} of them begun"),
        };
        format!("{name}: {} waiting for people{begun}", steps(sum.steps))
    });
    say("WORKERS", workers, &|sum| {
        let held = if in_hand > 0 { format!("; {in_hand} more in hand") } else { String::new() };
        format!("{name}: {} waiting for agents or functions{held}", steps(sum.steps))
    });
    say("IN_HAND", held, &|sum| {
        let since =
            held_since.map_or_else(String::new, |at: DateTime<Utc>| format!(", the longest since {}", at.to_rfc3339()));
        format!("{name}: {} in hand{since}: {}", steps(sum.steps), sum.names.join(", "))
    });
    say("NO_AGENT", nobody, &|sum| {
        format!("{name}: {} waiting, and no agent or function takes them: {}", steps(sum.steps), sum.names.join(", "))
    });
    say("WAIT", waiting, &|sum| format!("{name}: {} waiting for their time{}", steps(sum.steps), at(sum)));
    say("DELAY", delayed, &|sum| format!("{name}: {} not to begin before a time{}", steps(sum.steps), at(sum)));
    say("RETRY", retried, &|sum| {
        let attempt = sum.attempt.map_or_else(String::new, |(n, of)| format!(", attempt {n} of {of}"));
        format!("{name}: {} tried again after a failure{attempt}{}", steps(sum.steps), at(sum))
    });
}

/// Whether steps hand messages over.
fn is_sending(group: &Group) -> bool {
    group.assigned_to == Executor::Workflow && matches!(group.kind.as_str(), kind::SEND | kind::EMAIL)
}

/// What holds up messages that are let out: their channel, or what the other side said.
fn sending(around: &WaitContext<'_>, all: &mut Vec<Reason>) {
    let queued = around.found.groups.iter().filter(|group| group.status == StepStatus::Queued && is_sending(group));
    let mut sum = WaitGroup::default();
    for group in queued {
        if group.count > group.planned {
            sum.add(group, group.count - group.planned);
            sum.until(group.next_at);
        }
    }
    let count = if sum.steps > 0 { sum.steps } else { around.run.on_way };
    if count == 0 {
        return;
    }
    let said = all.len();
    if let Some(channel) = around.channel {
        if let Some((since, next, why)) = &channel.paused {
            let told = format!(
                "the channel is paused since {}: {why}; one message finds out at {}",
                since.to_rfc3339(),
                next.to_rfc3339()
            );
            all.push(Reason { steps: Some(count), ..plain("CHANNEL_PAUSED", told, Some(*next)) });
        }
        if let Some(at) = channel.rate_until {
            let told = format!("the channel's rate is used up; the next message goes at {}", at.to_rfc3339());
            all.push(Reason { steps: Some(count), ..plain("RATE", told, Some(at)) });
        }
    }
    if let Some((count, next)) = around.found.refused {
        let at = next.map_or_else(String::new, |at| format!("; the next goes at {}", at.to_rfc3339()));
        let what = if count == 1 { "1 message was".to_owned() } else { format!("{count} messages were") };
        let told = format!("{what} refused for now and tried again{at}");
        all.push(Reason { steps: Some(count), ..plain("RETRY", told, next) });
    } else if all.len() == said
        && let Some(next) = sum.until
    {
        let told = format!("{} put off; the next goes at {}", steps(count), next.to_rfc3339());
        all.push(Reason { steps: Some(count), ..plain("PUT_OFF", told, Some(next)) });
    }
}

/// A phase that stays open for events.
fn events(phase: &phase::Model, mine: &[&task::Model], declared: &[TaskDef], found: &StepWaits, all: &mut Vec<Reason>) {
    let Some(until) = phase.open_until else { return };
    let mut names: Vec<String> = Vec::new();
    let mut pending = 0;
    for task in mine {
        // Steps of a fan-out are made when their event comes: until then there is nothing but the task.
        let made = task.fan_out && !task.fan_out_done;
        let of = declared.iter().find(|declared| declared.key == task.key).filter(|of| made && of.on_event());
        let first = of.and_then(|of| of.steps.first()).map(|step| &step.trigger);
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
        first.into_iter().for_each(add);
    }
    if !names.is_empty() {
        let told = format!("{} is open for {} until {}", phase.name, names.join(", "), until.to_rfc3339());
        let steps = (pending > 0).then_some(pending);
        all.push(Reason { steps, ..plain("EVENTS", told, Some(until)) });
    }
}

/// Tasks that others hold up, where nothing moves by itself.
fn blocked(mine: &[&task::Model], tasks: &[task::Model], all: &mut Vec<Reason>) {
    for task in mine.iter().filter(|task| task.status == TaskStatus::Blocked) {
        let unmet = |key: &&String| !tasks.iter().any(|other| other.key == **key && other.status.is_met());
        let names = task.depends_on.0.iter().filter(unmet).take(limits::USES_SHOWN as usize);
        let names: Vec<String> = names
            .map(|key| {
                tasks.iter().find(|other| other.key == *key).map_or_else(|| key.clone(), |other| other.name.clone())
            })
            .collect();
        let told = format!("{} waits for {}", task.name, names.join(", "));
        all.push(Reason { steps: Some(task.pending), ..plain("BLOCKED", told, None) });
    }
}
