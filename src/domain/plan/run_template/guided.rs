//! Guided work: the kinds of its steps, what each needs in its `config`, and the rules that its structures keep to.
//! (docs/reference/guided-runs.txt, "Action Types".)

use async_graphql::{Enum, ID};
use entity::definition::{Definition, Span, StepDef, Trigger};
use entity::step::Executor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Problem;
use crate::domain::audience::record;
use crate::domain::audience::record::filter::{self, RecordFilter};
use crate::domain::content::templating;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::{limits, validate};

/// Looks at data.
pub const REVIEW: &str = "review";
/// Writes and sends mail.
pub const EMAIL: &str = super::EMAIL;
/// Moves records to other stages.
pub const UPDATE_STAGE: &str = "update_stage";
/// Books meetings.
pub const SCHEDULE: &str = "schedule";
/// Sets follow-ups.
pub const CREATE_TASK: &str = "create_task";
/// Writes something down.
pub const NOTE: &str = "note";
/// What the template says.
pub const CUSTOM: &str = "custom";

/// The kinds of steps of guided work.
pub const KINDS: [&str; 7] = [REVIEW, EMAIL, UPDATE_STAGE, SCHEDULE, CREATE_TASK, NOTE, CUSTOM];

/// What a step of guided work shows and offers: its `config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GuidedConfig {
    /// The records that it is about; none: none.
    pub records: Option<Source>,
    /// The subject of an `email` step, with placeholders.
    pub subject: Option<String>,
    /// The text of an `email` step, with placeholders.
    pub body: Option<String>,
    /// The message template of an `email` step in place of both, by id or name.
    pub message_template: Option<String>,
    /// The stage that an `update_stage` step suggests; none: the one behind the record's own.
    pub to: Option<String>,
    /// The title of a `schedule` or `create_task` step, with placeholders.
    pub title: Option<String>,
    /// The length of a meeting of a `schedule` step, in minutes.
    pub minutes: Option<i64>,
    /// The earliest time of the day of a `schedule` step, `09:00`.
    pub from: Option<String>,
    /// The latest time of the day of a `schedule` step.
    pub until: Option<String>,
    /// The IANA zone of those times.
    pub timezone: Option<String>,
    /// The time within which a `create_task` step's task is due.
    pub due_in: Option<Span>,
    /// Of `custom`: the kind of records that it makes.
    pub create: Option<String>,
}

/// Which records a step shows: by ids, by segment, by filter, or those that the run was begun with; all that is given must
/// hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Source {
    /// These.
    pub ids: Option<Vec<ID>>,
    /// Those of a segment, by id or name.
    pub segment: Option<String>,
    /// Those that a filter lets through.
    pub filter: Option<RecordFilter>,
    /// Those that the run was begun with.
    pub linked: bool,
    /// In which order; the most urgent first unless said.
    pub order_by: OrderBy,
    /// At most so many; 50 unless said.
    pub limit: Option<u64>,
}

/// In which order records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OrderBy {
    /// By what.
    pub field: SortBy,
    /// Whether the greatest, latest or last comes first.
    pub descending: bool,
}

impl Default for OrderBy {
    fn default() -> Self {
        Self { field: SortBy::Priority, descending: true }
    }
}

/// By what a step sorts its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "StepRecordOrderField")]
pub enum SortBy {
    /// How urgent they are.
    #[default]
    Priority,
    /// When they were last contacted; those who never were come before all.
    LastContactedAt,
    /// When they last replied.
    LastRepliedAt,
    /// Their name.
    Name,
    /// When they were made.
    CreatedAt,
}

impl GuidedConfig {
    /// What a step says. Errors: a sentence.
    pub fn of(step: &StepDef) -> Result<Self, String> {
        match step.settings() {
            Value::Null => Ok(Self::default()),
            settings => serde_json::from_value(settings.clone()).map_err(|err| {
                let filter = settings.get("records").and_then(|records| records.get("filter"));
                let wrong = filter.and_then(|filter| RecordFilter::written(filter.clone()).err());
                wrong.map_or_else(|| err.to_string(), |wrong| format!("records.filter: {wrong}"))
            }),
        }
    }

    /// What is there, and to which kinds it belongs.
    fn said(&self) -> [(&'static str, bool, &'static [&'static str]); 11] {
        [
            ("subject", self.subject.is_some(), &[EMAIL]),
            ("body", self.body.is_some(), &[EMAIL]),
            ("messageTemplate", self.message_template.is_some(), &[EMAIL]),
            ("to", self.to.is_some(), &[UPDATE_STAGE]),
            ("title", self.title.is_some(), &[SCHEDULE, CREATE_TASK]),
            ("minutes", self.minutes.is_some(), &[SCHEDULE]),
            ("from", self.from.is_some(), &[SCHEDULE]),
            ("until", self.until.is_some(), &[SCHEDULE]),
            ("timezone", self.timezone.is_some(), &[SCHEDULE]),
            ("dueIn", self.due_in.is_some(), &[CREATE_TASK]),
            ("create", self.create.is_some(), &[CUSTOM]),
        ]
    }

    /// What is wrong with it, for a kind of step: the field, and why.
    fn problems(&self, kind: &str) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut say = |field: &str, why: String| all.push((field.to_owned(), why));
        for (field, there, kinds) in self.said() {
            if there && !kinds.contains(&kind) {
                say(field, format!("is for {} only", kinds.join(", ")));
            }
        }
        if self.message_template.is_some() && (self.subject.is_some() || self.body.is_some()) {
            say("messageTemplate", "stands in place of `subject` and `body`".into());
        }
        if self.subject.is_some() != self.body.is_some() {
            say("subject", "subject and body go together".into());
        }
        for (field, text) in [("subject", &self.subject), ("body", &self.body), ("title", &self.title)] {
            if let Some(Err(err)) = text.as_ref().map(|text| templating::check(field, text)) {
                say(field, err.to_string());
            }
        }
        if let Some(Err(err)) = self.to.as_ref().map(|to| validate::name("to", to)) {
            say("to", err.to_string());
        }
        if self.minutes.is_some_and(|minutes| !(1..=limits::MEETING_MINUTES).contains(&minutes)) {
            say("minutes", format!("1 to {}", limits::MEETING_MINUTES));
        }
        if let Err(why) = self.hours() {
            say("from", why);
        }
        if let Some(Err(err)) = self.timezone.as_ref().map(|zone| validate::time_zone("timezone", zone)) {
            say("timezone", err.to_string());
        }
        if let Some(Err(err)) = self.create.as_ref().map(|kind| record::check_kind("create", kind)) {
            say("create", err.to_string());
        }
        let Some(source) = &self.records else { return all };
        let mut say = |field: &str, why: String| all.push((format!("records.{field}"), why));
        if source.ids.is_none() && source.segment.is_none() && source.filter.is_none() && !source.linked {
            say("filter", "say which: `ids`, `segment`, `filter`, `linked`".into());
        }
        if source.limit.is_some_and(|limit| limit == 0 || limit > limits::PAGE_MAX as u64) {
            say("limit", format!("1 to {}", limits::PAGE_MAX));
        }
        if source.ids.as_ref().is_some_and(|ids| ids.len() > limits::PAGE_MAX) {
            say("ids", format!("at most {}", limits::PAGE_MAX));
        }
        if let Some(filter) = &source.filter
            && let Err(err) = filter::condition(filter, Dialect::Sqlite, chrono::DateTime::UNIX_EPOCH)
                .and_then(|_| filter.require_condition())
        {
            say("filter", err.to_string());
        }
        all
    }

    /// Between which times of the day meetings are suggested.
    pub fn hours(&self) -> Result<(chrono::NaiveTime, chrono::NaiveTime), String> {
        let read = |text: &Option<String>, plain: &str| {
            let text = text.as_deref().unwrap_or(plain);
            chrono::NaiveTime::parse_from_str(text, "%H:%M")
                .map_err(|_| format!("`{}`: write 09:00", validate::shown(text)))
        };
        let (from, until) = (read(&self.from, "09:00")?, read(&self.until, "17:00")?);
        if from < until { Ok((from, until)) } else { Err("`from` lies before `until`".into()) }
    }
}

/// What is wrong with a structure of guided work, besides what every structure keeps to.
pub fn problems(definition: &Definition) -> Vec<Problem> {
    let mut all = Vec::new();
    if definition.phases.len() > 1 {
        all.push(Problem::new("phases", "guided work has one phase: a person goes through its steps in any order"));
    }
    for phase in &definition.phases {
        let at = format!("phases.{}", phase.key);
        if phase.autonomous || phase.open_for.is_some() || !phase.interrupt_events.is_empty() {
            all.push(Problem::new(&at, "guided work is neither autonomous nor interrupted"));
        }
        for task in &phase.tasks {
            let at = format!("{at}.tasks.{}", task.key);
            if task.fan_out || task.when.is_some() || !task.depends_on.is_empty() {
                all.push(Problem::new(&at, "of guided work no task fans out, depends on another, or has a condition"));
            }
            for step in &task.steps {
                step_problems(step, &format!("{at}.steps.{}", step.key), &mut all);
            }
        }
    }
    all
}

fn step_problems(step: &StepDef, at: &str, all: &mut Vec<Problem>) {
    let mut say = |field: &str, why: String| all.push(Problem::new(format!("{at}.{field}"), why));
    if !KINDS.contains(&step.kind.as_str()) {
        say("type", format!("there is {}", KINDS.join(", ")));
    }
    if step.assigned_to != Executor::Human {
        say("assignedTo", "guided work is done by people".into());
    }
    if !matches!(step.trigger, Trigger::Immediate | Trigger::Manual) {
        say("trigger", "a person starts it: manual".into());
    }
    if step.when.is_some() {
        say("when", "a person decides what is skipped".into());
    }
    match GuidedConfig::of(step) {
        Ok(guide) => {
            for (field, why) in guide.problems(&step.kind) {
                say(&format!("config.{field}"), why);
            }
        }
        Err(why) => say("config", why),
    }
}
