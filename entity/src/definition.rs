//! The structure of a run as a template declares it: phases → tasks → steps, with their rules. The
//! same types serve the database, GraphQL (input and output) and YAML.

use async_graphql::{InputObject, Json, SimpleObject};
use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::member::Role;
pub use crate::rule::{FailWhen, Span, Trigger};
use crate::step::{ContentSource, Executor};

/// Default maximum number of attempts of a step.
pub const ATTEMPTS: i32 = 5;

/// The structure of a run: phases → tasks → steps, with their rules. A run keeps the definition
/// that it started with.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult, SimpleObject, InputObject,
)]
#[graphql(input_name = "DefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// Name of the template that it came from; empty if there is none.
    #[serde(default)]
    #[graphql(skip_input)]
    pub template: String,
    /// The phases, in the order in which they run.
    pub phases: Vec<PhaseDef>,
}

/// A phase of a run, with its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "PhaseDefinition", input_name = "PhaseDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct PhaseDef {
    /// Key; unique among the phases.
    pub key: String,
    /// Display name.
    pub name: String,
    /// Description for people; null if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// True if it completes without a person's action.
    #[graphql(default)]
    pub autonomous: bool,
    /// Names of the events about a record that stop the record's open work in this phase; empty:
    /// not interruptible.
    #[serde(default, alias = "interrupt_events")]
    #[graphql(default)]
    pub interrupt_events: Vec<String>,
    /// Period from the start of the phase during which steps that wait for an event keep it open;
    /// null: they do not keep it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_for: Option<Span>,
    /// The tasks; they run concurrently unless `dependsOn` says otherwise.
    pub tasks: Vec<TaskDef>,
}

/// A task: a unit of work within a phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "TaskDefinition", input_name = "TaskDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct TaskDef {
    /// Key; unique within the definition.
    pub key: String,
    /// Display name.
    pub name: String,
    /// Description for people; null if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// True if its steps are created once per record of the audience.
    #[serde(default, alias = "fan_out")]
    #[graphql(default)]
    pub fan_out: bool,
    /// Keys of tasks of the same phase that must be completed or skipped first.
    #[serde(default, alias = "depends_on")]
    #[graphql(default)]
    pub depends_on: Vec<String>,
    /// Rule that says which step failures fail the task; null: `ALL` for a fan-out, else `ANY`.
    #[serde(default, alias = "fail_when", skip_serializing_if = "Option::is_none")]
    pub fail_when: Option<FailWhen>,
    /// CEL condition over `record`, `variables` and `results`; if it is false, the task's steps are
    /// skipped. Null: no condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Time allowed from its start; null: no due time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_in: Option<Span>,
    /// The steps.
    pub steps: Vec<StepDef>,
}

impl TaskDef {
    /// Returns the failure rule in force, given or default.
    pub fn fail_rule(&self) -> FailWhen {
        self.fail_when.unwrap_or(if self.fan_out { FailWhen::All } else { FailWhen::Any })
    }

    /// Returns the positions of the steps that an event creates for a record: those that wait for
    /// it, and those that follow them.
    pub fn created_by(&self, event: &str) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        loop {
            let before = found.len();
            for (i, step) in self.steps.iter().enumerate() {
                let follows = match &step.trigger {
                    Trigger::Event(name) => name == event,
                    Trigger::After(key) => found.iter().any(|of| self.steps[*of].key == *key),
                    Trigger::Delay(_) => i > 0 && found.contains(&(i - 1)),
                    Trigger::Immediate | Trigger::Manual => false,
                };
                if follows && !found.contains(&i) {
                    found.push(i);
                }
            }
            if found.len() == before {
                found.sort_unstable();
                return found;
            }
        }
    }

    /// Returns true if its steps, per record, are created only when their events occur.
    pub fn on_event(&self) -> bool {
        self.fan_out && self.steps.iter().any(|step| matches!(step.trigger, Trigger::Event(_)))
    }
}

/// One step, or one per record in a fan-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "StepDefinition", input_name = "StepDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct StepDef {
    /// Key; unique within the definition.
    pub key: String,
    /// Display name.
    pub name: String,
    /// Description for people; null if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Type of work. For a workflow: `draft_message`, `send_message`, `email`, `api_call`, `wait`,
    /// `decision`, `update_record`, `summarise`, or a type that a function of the org performs. For
    /// people and agents: any word, but `draft_message`, `send_message` and `email` are for
    /// workflows, and `review_messages` for a person.
    #[serde(rename = "type", alias = "kind")]
    #[graphql(name = "type")]
    pub kind: String,
    /// The kind of worker that does the step.
    #[serde(alias = "assigned_to")]
    pub assigned_to: Executor,
    /// Name of the agent that does the step; null: any agent whose filter matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Mail address of the member that the step is assigned to; null: anybody with the required
    /// role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee: Option<String>,
    /// Role required to do or approve the step; null: OPERATOR to do it, REVIEWER to approve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Source of the step's content; null for steps without content.
    #[serde(default, alias = "content_source", skip_serializing_if = "Option::is_none")]
    pub content_source: Option<ContentSource>,
    /// Trigger that starts the step; default `immediate`.
    #[serde(default)]
    #[graphql(default)]
    pub trigger: Trigger,
    /// CEL condition over `record`, `variables` and `results`; if it is false, the step is skipped.
    /// Null: no condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Time allowed from when the step can be started; null: no due time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_in: Option<Span>,
    /// Settings of the step, which depend on its type; null if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Json<Value>>,
    /// JSON Schema that the result must satisfy; null: any flat object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_schema: Option<Json<Value>>,
    /// Approval required after the work is done; null: no approval. Not for the types that the
    /// engine performs itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalDef>,
    /// Retry settings; null: the server's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryDef>,
    /// Maximum number of attempts: with this many reported failures the step fails.
    #[serde(default = "default_max_attempts", alias = "max_attempts")]
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
    /// Returns the step's settings; JSON null if there are none.
    pub fn settings(&self) -> &Value {
        self.config.as_ref().map_or(&Value::Null, |config| &config.0)
    }
}

fn default_max_attempts() -> i32 {
    ATTEMPTS
}

fn default_approvals() -> i32 {
    1
}

fn default_self_approval() -> bool {
    true
}

/// The approval that a step requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "ApprovalDefinition", input_name = "ApprovalDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct ApprovalDef {
    /// Number of people who must approve the step.
    #[serde(default = "default_approvals")]
    #[graphql(default = 1)]
    pub needed: i32,
    /// True if the person who submitted the step may also approve it. An agent's result counts as
    /// submitted by the member whose key its worker uses.
    #[serde(default = "default_self_approval")]
    #[graphql(default = true)]
    pub self_approval: bool,
}

impl Default for ApprovalDef {
    fn default() -> Self {
        Self { needed: 1, self_approval: true }
    }
}

/// Retry settings of a step. The pause doubles with each failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(name = "RetryDefinition", input_name = "RetryDefinitionInput")]
#[serde(rename_all = "camelCase")]
pub struct RetryDef {
    /// Pause after the first failure; null: the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Span>,
    /// Longest pause before `jitter` is applied, which may lengthen it; null: the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<Span>,
    /// Random variation of the pause in either direction, in percent; null: 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<i32>,
}

text_enum! {
    /// The layer that a part of a definition came from.
    pub enum Layer {
        /// A built-in template, or one of the built-in org.
        Platform,
        /// A template of the org.
        Org,
        /// The campaign's own overrides.
        Campaign,
    }

    /// The operation of an override.
    pub enum OverrideOp {
        /// Replaces a part, a list or a field.
        Replace,
        /// Adds a part to a list, at the end unless `before` is given.
        Add,
        /// Removes a part or a field.
        Remove,
    }
}

/// One change to the definition of the layer below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[graphql(input_name = "OverrideInput")]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// Path to the part, made of keys: `phases.in_flight.tasks`,
    /// `phases.in_flight.tasks.send.steps.send.maxAttempts`.
    pub path: String,
    /// The operation.
    pub op: OverrideOp,
    /// The new value; null for REMOVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json<Value>>,
    /// Key of the part before which ADD inserts; null: at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// The changes of a layer, in the order in which they apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Overrides(pub Vec<Override>);
