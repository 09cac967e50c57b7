//! The structure of a run as a template declares it: phases → tasks → steps, with their rules. One shape for the database,
//! for GraphQL (in and out) and for YAML.

use async_graphql::{InputObject, Json, SimpleObject};
use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::member::Role;
pub use crate::rule::{FailWhen, Span, Trigger};
use crate::step::{ContentSource, Executor};

/// How many reported failures are one too many, where nothing else is said.
pub const ATTEMPTS: i32 = 5;

/// The structure of a run: phases → tasks → steps, with their rules. A run keeps the one that it started with.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult, SimpleObject, InputObject,
)]
#[graphql(input_name = "DefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// The name of the template that it came from; empty where it came from none.
    #[serde(default)]
    #[graphql(skip_input)]
    pub template: String,
    /// In the order in which they run.
    pub phases: Vec<PhaseDef>,
}

/// A stage with its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "PhaseDefinition", input_name = "PhaseDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct PhaseDef {
    /// Unique among the phases.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// For its readers; null where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it completes without a person's act.
    #[graphql(default)]
    pub autonomous: bool,
    /// The events about a record that stop what is open for it here; empty: not interruptible.
    #[serde(default, alias = "interrupt_events")]
    #[graphql(default)]
    pub interrupt_events: Vec<String>,
    /// For how long, from its start, steps that wait for an event are waited for; not at all where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_for: Option<Span>,
    /// They run together unless `dependsOn` says otherwise.
    pub tasks: Vec<TaskDef>,
}

/// A unit of work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "TaskDefinition", input_name = "TaskDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct TaskDef {
    /// Unique within the definition.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// For its readers; null where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether its steps are made once per record of the audience.
    #[serde(default, alias = "fan_out")]
    #[graphql(default)]
    pub fan_out: bool,
    /// Keys of tasks of the same phase that must be completed or skipped before.
    #[serde(default, alias = "depends_on")]
    #[graphql(default)]
    pub depends_on: Vec<String>,
    /// When failures of steps fail the task; null: `ALL` for a fan-out, else `ANY`.
    #[serde(default, alias = "fail_when", skip_serializing_if = "Option::is_none")]
    pub fail_when: Option<FailWhen>,
    /// A condition in CEL over `record`, `variables` and `results`; where it does not hold, its steps are skipped. Null:
    /// always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Within which time from its start it should be done; null: no time is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_in: Option<Span>,
    /// Its steps.
    pub steps: Vec<StepDef>,
}

impl TaskDef {
    /// The rule in force.
    pub fn fail_rule(&self) -> FailWhen {
        self.fail_when.unwrap_or(if self.fan_out { FailWhen::All } else { FailWhen::Any })
    }

    /// Whether its steps, one set per record, are made when an event comes and not before.
    pub fn on_event(&self) -> bool {
        self.fan_out && self.steps.first().is_some_and(|step| matches!(step.trigger, Trigger::Event(_)))
    }
}

/// One step, or one per record in a fan-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "StepDefinition", input_name = "StepDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct StepDef {
    /// Unique within the definition.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// For its readers; null where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Which work it is: of a workflow one of `draft_message`, `send_message`, `email`, `api_call`, `wait`, `decision`,
    /// `update_record`, `summarise`, or one that a function of the org does; of people and agents any word.
    #[serde(rename = "type", alias = "kind")]
    #[graphql(name = "type")]
    pub kind: String,
    /// Who does it.
    #[serde(alias = "assigned_to")]
    pub assigned_to: Executor,
    /// The name of the agent that does it; null: any whose filter admits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The mail address of the member who does it; null: anybody who may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee: Option<String>,
    /// The role that doing or approving it needs; null: operators do, reviewers approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Where its content comes from; null for steps that make none.
    #[serde(default, alias = "content_source", skip_serializing_if = "Option::is_none")]
    pub content_source: Option<ContentSource>,
    /// When it starts; `immediate` unless said.
    #[serde(default)]
    #[graphql(default)]
    pub trigger: Trigger,
    /// A condition in CEL over `record`, `variables` and `results`; where it does not hold, it is skipped. Null: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Within which time from when it can be begun it should be done; null: no time is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_in: Option<Span>,
    /// What its work needs, by its type; null: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Json<Value>>,
    /// The JSON Schema that its result must meet; null: any flat object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_schema: Option<Json<Value>>,
    /// What it takes to let it out once it is done; null: it is done when whoever does it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalDef>,
    /// How it is tried again; null: as for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryDef>,
    /// How many reported failures are one too many.
    #[serde(default = "attempts", alias = "max_attempts")]
    #[graphql(default = 5)]
    pub max_attempts: i32,
}

impl Default for StepDef {
    fn default() -> Self {
        Self {
            key: String::new(),
            name: String::new(),
            description: None,
            kind: String::new(),
            assigned_to: Executor::Workflow,
            agent: None,
            assignee: None,
            role: None,
            content_source: None,
            trigger: Trigger::Immediate,
            when: None,
            due_in: None,
            config: None,
            result_schema: None,
            approval: None,
            retry: None,
            max_attempts: ATTEMPTS,
        }
    }
}

impl StepDef {
    /// What its work needs; null where nothing is said.
    pub fn settings(&self) -> &Value {
        self.config.as_ref().map_or(&Value::Null, |config| &config.0)
    }
}

fn attempts() -> i32 {
    ATTEMPTS
}

fn one() -> i32 {
    1
}

fn yes() -> bool {
    true
}

/// What it takes to let a step out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "ApprovalDefinition", input_name = "ApprovalDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct ApprovalDef {
    /// How many people must approve it.
    #[serde(default = "one")]
    #[graphql(default = 1)]
    pub needed: i32,
    /// Whether who submitted it may approve it, too.
    #[serde(default = "yes")]
    #[graphql(default = true)]
    pub self_approval: bool,
}

impl Default for ApprovalDef {
    fn default() -> Self {
        Self { needed: 1, self_approval: true }
    }
}

/// How a step is tried again: the pause doubles with each failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "RetryDefinition", input_name = "RetryDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct RetryDef {
    /// The pause after the first failure; null: as for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Span>,
    /// The longest pause; null: as for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<Span>,
    /// By how many of a hundred the pause varies either way; null: 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<i32>,
}

text_enum! {
    /// From which layer a part of a structure came.
    pub enum Layer {
        /// A template that is built in, or of the built-in org.
        Platform,
        /// A template of the org.
        Org,
        /// The campaign's own overrides.
        Campaign,
    }

    /// What an override does.
    pub enum OverrideOp {
        /// Puts a part, a list or a field in the place of what is there.
        Replace,
        /// Adds a part to a list; at its end, unless `before` says otherwise.
        Add,
        /// Takes a part or a field away.
        Remove,
    }
}

/// One change to a structure of the layer below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(input_name = "OverrideInput")]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// The part, by keys: `phases.in_flight.tasks`, `phases.in_flight.tasks.send.steps.send.maxAttempts`.
    pub path: String,
    /// What is done there.
    pub op: OverrideOp,
    /// What is put there; null for REMOVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json<Value>>,
    /// Of ADD: the key of the part before which it is put; null: at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// The changes of a layer, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Overrides(pub Vec<Override>);
