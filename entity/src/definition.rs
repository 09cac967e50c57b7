//! The structure of a run as a template declares it: phases → tasks → steps, with their rules.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

use crate::step::{ContentSource, Executor};

/// A whole structure; a run keeps the one that it started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Definition {
    /// The name of the template it came from.
    pub template: String,
    /// In the order in which they run.
    pub phases: Vec<PhaseDef>,
}

/// A stage with its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseDef {
    /// Unique within the definition.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// Whether it completes without a person's act.
    pub autonomous: bool,
    /// The events about a record that stop what is open for it here; empty: not interruptible.
    #[serde(default)]
    pub interrupt_events: Vec<String>,
    /// They run together unless `depends_on` says otherwise.
    pub tasks: Vec<TaskDef>,
}

/// A unit of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDef {
    /// Unique within the definition.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// Whether its steps are made once per record of the audience.
    #[serde(default)]
    pub fan_out: bool,
    /// Keys of tasks of the same phase that must be completed or skipped before.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// When failures of steps fail the task; none: `ALL` for a fan-out, else `ANY`.
    #[serde(default)]
    pub fail_when: Option<FailWhen>,
    /// Its steps.
    pub steps: Vec<StepDef>,
}

impl TaskDef {
    /// The rule in force.
    pub fn fail_rule(&self) -> FailWhen {
        self.fail_when.unwrap_or(if self.fan_out { FailWhen::All } else { FailWhen::Any })
    }
}

/// When failed steps fail their task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailWhen {
    /// One failure is enough.
    Any,
    /// Only when none completed.
    All,
    /// More than so many of a hundred.
    Percent(u8),
}

/// One step, or one per record in a fan-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDef {
    /// Unique within the definition.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// Which work it is: `draft_message`, `send_message` …
    pub kind: String,
    /// Who does it.
    pub assigned_to: Executor,
    /// Where its content comes from, for steps that make content.
    #[serde(default)]
    pub content_source: Option<ContentSource>,
    /// When it starts.
    pub trigger: Trigger,
    /// How many reported failures are one too many.
    pub max_attempts: i32,
}

/// When a step starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Trigger {
    /// With its task.
    Immediate,
    /// When somebody starts it.
    Manual,
    /// When an event about its record comes.
    Event(String),
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Immediate => f.write_str("immediate"),
            Self::Manual => f.write_str("manual"),
            Self::Event(name) => write!(f, "event:{name}"),
        }
    }
}

impl From<Trigger> for String {
    fn from(trigger: Trigger) -> Self {
        trigger.to_string()
    }
}

impl TryFrom<String> for Trigger {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "immediate" => Ok(Self::Immediate),
            "manual" => Ok(Self::Manual),
            other => match other.strip_prefix("event:") {
                Some(name) if !name.is_empty() => Ok(Self::Event(name.to_owned())),
                _ => Err(format!("`{other}` is no trigger: immediate, manual or event:NAME")),
            },
        }
    }
}
