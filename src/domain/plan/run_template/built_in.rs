//! The platform's built-in templates: outreach over each channel, and guided work.

pub mod guided;

use entity::definition::{Definition, PhaseDef, StepDef, TaskDef, Trigger};
use entity::step::{ContentSource, Executor};
use entity::{Channel, TemplateKind};

use super::kind::{CALL, DRAFT, HANDLE_REPLY, REVIEW, SEND, SUMMARISE};

/// A built-in template.
#[derive(Clone, Debug)]
pub struct BuiltIn {
    /// The key.
    pub key: &'static str,
    /// The description.
    pub description: &'static str,
    /// The kind of its runs.
    pub kind: TemplateKind,
    /// The structure, with its name.
    pub definition: Definition,
}

/// Returns all built-in templates.
pub fn all() -> Vec<BuiltIn> {
    let outreach = |channel, description| BuiltIn {
        key: outreach_key(channel),
        description,
        kind: TemplateKind::Campaign,
        definition: standard_outreach(channel),
    };
    let mut all = vec![
        outreach(Channel::Email, "Drafts, has reviewed and sends one message to each record; replies come to people."),
        outreach(Channel::Phone, "Drafts what is to be said; people call each record."),
    ];
    all.extend(guided::all());
    all
}

/// Returns the key of the outreach template for a channel.
pub fn outreach_key(channel: Channel) -> &'static str {
    match channel {
        Channel::Email | Channel::Sms => "standard-outreach",
        Channel::Phone => "standard-outreach-phone",
    }
}

/// Returns *Standard Outreach* for a channel (docs/reference/product.md, "The hierarchy").
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
            PhaseDef { key: "processing".into(), name: "Processing".into(), tasks: processing, ..PhaseDef::default() },
            PhaseDef {
                key: "in_flight".into(),
                name: "In-Flight".into(),
                autonomous: !calls,
                interrupt_events: interrupts(),
                tasks: vec![out, handle],
                ..PhaseDef::default()
            },
            PhaseDef {
                key: "completed".into(),
                name: "Completed".into(),
                autonomous: true,
                tasks: vec![task("summarise", "Summarise", summary)],
                ..PhaseDef::default()
            },
        ],
    }
}

fn task(key: &str, name: &str, step: StepDef) -> TaskDef {
    TaskDef { key: key.into(), name: name.into(), steps: vec![step], ..TaskDef::default() }
}

fn workflow(key: &str, name: &str, kind: &str, content_source: Option<ContentSource>) -> StepDef {
    StepDef { key: key.into(), name: name.into(), kind: kind.into(), content_source, ..StepDef::default() }
}

fn human(key: &str, name: &str, kind: &str, trigger: Trigger) -> StepDef {
    StepDef { assigned_to: Executor::Human, trigger, ..workflow(key, name, kind, None) }
}
