//! The structures that runs are made from: built in, one per channel, and the rules that every structure keeps to.

use entity::Channel;
use entity::definition::{Definition, PhaseDef, StepDef, TaskDef, Trigger};
use entity::step::{ContentSource, Executor};

use crate::limits;

/// The kind of step that drafts one message.
pub const DRAFT: &str = "draft_message";
/// The kind of step in which a person reviews all messages of a run.
pub const REVIEW: &str = "review_messages";
/// The key of the task that such a step is of.
pub const REVIEW_TASK: &str = "review";
/// The kind of step that sends one message.
pub const SEND: &str = "send_message";
/// The kind of step in which a person calls one record.
pub const CALL: &str = "call";
/// The kind of step in which a person handles one reply.
pub const HANDLE_REPLY: &str = "handle_reply";
/// The kind of step that says what came of the run.
pub const SUMMARISE: &str = "summarise";

/// *Standard Outreach*, as it is for a channel (1-product.md, "The hierarchy").
pub fn standard_outreach(channel: Channel) -> Definition {
    let interrupts = || vec!["reply.received".to_owned(), "record.unsubscribed".to_owned()];
    let mut processing = vec![TaskDef {
        fan_out: true,
        ..task(
            "draft",
            "Draft messages",
            workflow("draft", "Draft the message", DRAFT, Some(ContentSource::TemplateSourced)),
        )
    }];
    let calls = channel == Channel::Phone;
    if !calls {
        let review = human("review", "Review the messages", REVIEW, Trigger::Immediate);
        processing.push(TaskDef { depends_on: vec!["draft".into()], ..task("review", "Review messages", review) });
    }
    let out = if calls {
        TaskDef { fan_out: true, ..task("call", "Call", human("call", "Call", CALL, Trigger::Manual)) }
    } else {
        TaskDef { fan_out: true, ..task("send", "Send messages", workflow("send", "Send the message", SEND, None)) }
    };
    let handle = human("handle_reply", "Handle the reply", HANDLE_REPLY, Trigger::Event("reply.received".into()));
    let handle = TaskDef { fan_out: true, ..task("handle_replies", "Handle replies", handle) };
    let summary = workflow("summarise", "Summarise the run", SUMMARISE, Some(ContentSource::SystemGenerated));
    Definition {
        template: "Standard Outreach".into(),
        phases: vec![
            PhaseDef {
                key: "processing".into(),
                name: "Processing".into(),
                autonomous: false,
                interrupt_events: vec![],
                tasks: processing,
            },
            PhaseDef {
                key: "in_flight".into(),
                name: "In-Flight".into(),
                autonomous: !calls,
                interrupt_events: interrupts(),
                tasks: vec![out, handle],
            },
            PhaseDef {
                key: "completed".into(),
                name: "Completed".into(),
                autonomous: true,
                interrupt_events: vec![],
                tasks: vec![task("summarise", "Summarise", summary)],
            },
        ],
    }
}

/// What is wrong with a structure; nothing, if it may fly.
pub fn problems(definition: &Definition) -> Vec<String> {
    let mut problems = Vec::new();
    if definition.phases.is_empty() {
        problems.push("there is no phase".to_owned());
    }
    let mut keys = std::collections::HashSet::new();
    for phase in &definition.phases {
        if phase.tasks.is_empty() {
            problems.push(format!("{}: there is no task", phase.key));
        }
        let tasks: Vec<&str> = phase.tasks.iter().map(|task| task.key.as_str()).collect();
        for (i, task) in phase.tasks.iter().enumerate() {
            if !keys.insert(task.key.as_str()) {
                problems.push(format!("{}: the key comes twice", task.key));
            }
            if task.steps.is_empty() {
                problems.push(format!("{}: there is no step", task.key));
            }
            // Only on tasks before it, so that there is no cycle.
            for on in &task.depends_on {
                if !tasks[..i].contains(&on.as_str()) {
                    problems.push(format!("{}: depends on {on}, which is no task before it in its phase", task.key));
                }
            }
            for step in &task.steps {
                let human = step.assigned_to == Executor::Human;
                if phase.autonomous && human && !matches!(step.trigger, Trigger::Event(_)) {
                    problems.push(format!("{}: a human step of an autonomous phase must be an event: step", step.key));
                }
                if step.max_attempts < 1 {
                    problems.push(format!("{}: needs at least one attempt", step.key));
                }
                if matches!(step.trigger, Trigger::Event(_)) && (!task.fan_out || task.steps.len() > 1) {
                    problems.push(format!("{}: an event: step stands alone in a task that fans out", step.key));
                }
            }
        }
    }
    problems
}

/// Whether it has a step that drafts or sends, so that content, addresses and a channel are needed.
pub fn communicates(definition: &Definition) -> bool {
    steps(definition).any(|step| matches!(step.kind.as_str(), DRAFT | SEND | CALL))
}

/// Whether it has a review that content must pass.
pub fn has_review(definition: &Definition) -> bool {
    steps(definition).any(|step| step.kind == REVIEW)
}

fn steps(definition: &Definition) -> impl Iterator<Item = &StepDef> {
    definition.phases.iter().flat_map(|phase| &phase.tasks).flat_map(|task| &task.steps)
}

fn task(key: &str, name: &str, step: StepDef) -> TaskDef {
    TaskDef {
        key: key.into(),
        name: name.into(),
        fan_out: false,
        depends_on: vec![],
        fail_when: None,
        steps: vec![step],
    }
}

fn workflow(key: &str, name: &str, kind: &str, content_source: Option<ContentSource>) -> StepDef {
    StepDef {
        key: key.into(),
        name: name.into(),
        kind: kind.into(),
        assigned_to: Executor::Workflow,
        content_source,
        trigger: Trigger::Immediate,
        max_attempts: limits::ATTEMPTS,
    }
}

fn human(key: &str, name: &str, kind: &str, trigger: Trigger) -> StepDef {
    StepDef { assigned_to: Executor::Human, trigger, ..workflow(key, name, kind, None) }
}
