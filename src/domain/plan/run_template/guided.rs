//! Guided work: the kinds of its steps, the `config` of each kind, and the rules that its
//! structures must satisfy (docs/reference/guided-runs.txt, "Action Types").

use async_graphql::{Enum, ID};
use entity::definition::{Definition, Span, StepDef, Trigger};
use entity::id::RecordId;
use entity::step::Executor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::what;
use super::unreadable::Unreadable;
use super::{Problem, without_field};
use crate::domain::audience;
use crate::domain::audience::record::filter::{self, RecordFilter};
use crate::domain::content::templating;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::{limits, validate};

/// The person reviews data.
pub const REVIEW: &str = "review";
/// The person writes and sends mail.
pub const EMAIL: &str = super::EMAIL;
/// The person moves records to other stages.
pub const UPDATE_STAGE: &str = "update_stage";
/// The person books meetings.
pub const SCHEDULE: &str = "schedule";
/// The person creates follow-ups.
pub const CREATE_TASK: &str = "create_task";
/// The person writes a note.
pub const NOTE: &str = "note";
/// The template describes the work.
pub const CUSTOM: &str = "custom";

/// The kinds of steps of guided work.
pub const KINDS: [&str; 7] = [REVIEW, EMAIL, UPDATE_STAGE, SCHEDULE, CREATE_TASK, NOTE, CUSTOM];

/// The `config` of a step of guided work: the data it shows and the suggestions it makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GuidedConfig {
    /// The records that the step shows; `None` shows none.
    pub records: Option<Source>,
    /// The subject of an `email` step, with placeholders.
    pub subject: Option<String>,
    /// The text of an `email` step, with placeholders.
    pub body: Option<String>,
    /// The message template of an `email` step instead of `subject` and `body`, by id or name.
    pub message_template: Option<String>,
    /// The stage that an `update_stage` step suggests; default: the one after the record's own.
    pub to: Option<String>,
    /// The title of a `schedule` or `create_task` step, with placeholders.
    pub title: Option<String>,
    /// The length of a meeting of a `schedule` step, in minutes.
    pub minutes: Option<i64>,
    /// The earliest time of the day of a `schedule` step, `09:00`.
    pub from: Option<String>,
    /// The latest time of the day of a `schedule` step.
    pub until: Option<String>,
    /// The IANA time zone of `from` and `until`.
    pub timezone: Option<String>,
    /// The period after which the follow-up of a `create_task` step is due.
    pub due_in: Option<Span>,
    /// The kind of records that a `custom` step creates.
    pub create: Option<String>,
    /// The role of the links that lead to the records that a `custom` step creates, from those that
    /// they come from.
    pub link_role: Option<String>,
}

/// Selection of the records that a step shows: by ids, segment, filter, or link to the run. A
/// record must match everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Source {
    /// The ids of the records.
    pub ids: Option<Vec<ID>>,
    /// A segment, by id or name.
    pub segment: Option<String>,
    /// A filter over records.
    pub filter: Option<RecordFilter>,
    /// True to select the records that the run was started with; in a campaign's run, its audience.
    pub linked: bool,
    /// The order; default: the most urgent first.
    pub order_by: OrderBy,
    /// Maximum number of records; default 50.
    pub limit: Option<u64>,
}

/// The order of the records of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OrderBy {
    /// The sort key.
    pub field: SortBy,
    /// True if the greatest, latest or last comes first.
    pub descending: bool,
}

impl Default for OrderBy {
    fn default() -> Self {
        Self { field: SortBy::Priority, descending: true }
    }
}

/// The sort key of a step's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "StepRecordOrderField")]
pub enum SortBy {
    /// The record's priority.
    #[default]
    Priority,
    /// The time of the last contact; records never contacted come first.
    LastContactedAt,
    /// The time of the last reply.
    LastRepliedAt,
    /// The record's name.
    Name,
    /// The time of creation.
    CreatedAt,
}

impl GuidedConfig {
    /// Reads the `config` of a step. Errors: the field, and a message for the author of the template.
    pub fn of(step: &StepDef) -> Result<Self, Unreadable> {
        match step.settings() {
            Value::Null => Ok(Self::default()),
            settings => Self::read(settings),
        }
    }

    fn read(settings: &Value) -> Result<Self, Unreadable> {
        if !settings.is_object() {
            let why = format!("must be an object, not {}", what(settings));
            return Err(Unreadable { field: String::new(), why });
        }
        serde_json::from_value(settings.clone()).map_err(|err| {
            let filter = settings.get("records").and_then(|records| records.get("filter"));
            match filter.and_then(|filter| RecordFilter::parse(filter.clone()).err()) {
                Some(wrong) => Unreadable { field: "records.filter".into(), why: wrong.to_string() },
                None => Unreadable::of::<Self>(settings, &err),
            }
        })
    }

    /// Reads the `config` of a person's step in a campaign's run, where it may have other fields, too.
    /// Settings that can't be read count as none: only those beside `records` are checked.
    pub fn of_campaign(step: &StepDef) -> Self {
        Self::among(step.settings()).unwrap_or_default()
    }

    /// Reads the settings among the fields of a `config`. Errors: the field, and a message for the author.
    fn among(config: &Value) -> Result<Self, Unreadable> {
        let known: Vec<&str> = Self::default().settings_by_kind().iter().map(|(name, ..)| *name).collect();
        let is_setting = |name: &str| name == "records" || known.contains(&name);
        let fields = config.as_object().into_iter().flatten().filter(|(name, _)| is_setting(name));
        let fields: serde_json::Map<String, Value> =
            fields.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self::read(&Value::Object(fields))
    }

    /// Lists each setting: its name, true if it is set, and the kinds that it is for.
    fn settings_by_kind(&self) -> [(&'static str, bool, &'static [&'static str]); 12] {
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
            ("linkRole", self.link_role.is_some(), &[CUSTOM]),
        ]
    }

    /// Lists the settings that are not for a kind of step. Returns pairs of field and message.
    fn misplaced(&self, kind: &str) -> impl Iterator<Item = (String, String)> {
        let misplaced =
            self.settings_by_kind().into_iter().filter(move |(_, there, kinds)| *there && !kinds.contains(&kind));
        misplaced.map(|(field, _, kinds)| (field.to_owned(), format!("is for {} only", kinds.join(", "))))
    }

    /// Checks the settings of a step. Returns pairs of field and message.
    fn problems(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut push_problem = |field: &str, why: String| all.push((field.to_owned(), why));
        if self.message_template.is_some() && (self.subject.is_some() || self.body.is_some()) {
            push_problem("messageTemplate", "replaces `subject` and `body`: give one or the other".into());
        }
        if self.subject.is_some() != self.body.is_some() {
            push_problem("subject", "`subject` and `body` must be given together".into());
        }
        for (field, text) in [("subject", &self.subject), ("body", &self.body), ("title", &self.title)] {
            if let Some(Err(err)) = text.as_ref().map(|text| templating::check(field, text)) {
                push_problem(field, without_field(field, &err));
            }
        }
        if let Some(Err(err)) = self.to.as_ref().map(|to| validate::name("to", to)) {
            push_problem("to", without_field("to", &err));
        }
        if self.minutes.is_some_and(|minutes| !(1..=limits::MEETING_MINUTES).contains(&minutes)) {
            push_problem("minutes", format!("must be 1 to {}", limits::MEETING_MINUTES));
        }
        if let Err(why) = self.hours() {
            push_problem("from", why);
        }
        if let Some(Err(err)) = self.timezone.as_ref().map(|zone| validate::time_zone("timezone", zone)) {
            push_problem("timezone", without_field("timezone", &err));
        }
        if let Some(Err(err)) = self.create.as_ref().map(|kind| audience::kind::check("create", kind)) {
            push_problem("create", without_field("create", &err));
        }
        if let Some(Err(err)) = self.link_role.as_ref().map(|role| audience::record::link::check_role("linkRole", role))
        {
            push_problem("linkRole", without_field("linkRole", &err));
        }
        let Some(source) = &self.records else { return all };
        let mut push_problem = |field: &str, why: String| all.push((format!("records.{field}"), why));
        if source.ids.is_none() && source.segment.is_none() && source.filter.is_none() && !source.linked {
            push_problem("filter", "give at least one of `ids`, `segment`, `filter`, `linked`".into());
        }
        if source.limit.is_some_and(|limit| limit == 0 || limit > limits::PAGE_MAX as u64) {
            push_problem("limit", format!("must be 1 to {}", limits::PAGE_MAX));
        }
        if source.ids.as_ref().is_some_and(|ids| ids.len() > limits::PAGE_MAX) {
            push_problem("ids", format!("at most {}", limits::PAGE_MAX));
        }
        if let Some(wrong) = source.ids.iter().flatten().find(|id| id.parse::<RecordId>().is_err()) {
            push_problem("ids", format!("`{}` is not the id of a record", validate::printable(wrong)));
        }
        if let Some(filter) = &source.filter
            && let Err(err) = filter::condition(filter, Dialect::Sqlite, chrono::DateTime::UNIX_EPOCH)
                .and_then(|_| filter.require_condition())
        {
            push_problem("filter", without_field("filter", &err));
        }
        all
    }

    /// Returns the earliest and latest time of the day for suggested meetings.
    pub fn hours(&self) -> Result<(chrono::NaiveTime, chrono::NaiveTime), String> {
        let read = |text: &Option<String>, plain: &str| {
            let text = text.as_deref().unwrap_or(plain);
            chrono::NaiveTime::parse_from_str(text, "%H:%M")
                .map_err(|_| format!("`{}` is not a time of day: write it as 09:00", validate::printable(text)))
        };
        let (from, until) = (read(&self.from, "09:00")?, read(&self.until, "17:00")?);
        if from < until { Ok((from, until)) } else { Err("`from` must be before `until`".into()) }
    }
}

/// Checks the settings of people's steps in campaigns' runs that name records.
pub(super) fn campaign_problems(definition: &Definition) -> Vec<Problem> {
    let mut all = Vec::new();
    for (phase, task) in definition.phases.iter().flat_map(|phase| phase.tasks.iter().map(move |task| (phase, task))) {
        let of_people =
            |step: &&StepDef| step.assigned_to == Executor::Human && step.settings().get("records").is_some();
        for step in task.steps.iter().filter(of_people) {
            let at = format!("phases.{}.tasks.{}.steps.{}.config", phase.key, task.key, step.key);
            match GuidedConfig::among(step.settings()) {
                Ok(guide) => all.extend(
                    guide.problems().into_iter().map(|(field, why)| Problem::new(format!("{at}.{field}"), why)),
                ),
                Err(wrong) => all.push(Problem::new(wrong.below(&at), wrong.why)),
            }
        }
    }
    all
}

/// Checks the rules of guided work, in addition to the rules for every structure.
pub fn problems(definition: &Definition) -> Vec<Problem> {
    let mut all = Vec::new();
    if definition.phases.len() > 1 {
        all.push(Problem::new("phases", "guided work has a single phase: a person does its steps in any order"));
    }
    for phase in &definition.phases {
        let at = format!("phases.{}", phase.key);
        if phase.autonomous || phase.open_for.is_some() || !phase.interrupt_events.is_empty() {
            all.push(Problem::new(
                &at,
                "a phase of guided work must not set `autonomous`, `openFor` or `interruptEvents`",
            ));
        }
        for task in &phase.tasks {
            let at = format!("{at}.tasks.{}", task.key);
            if task.fan_out || task.when.is_some() || !task.depends_on.is_empty() {
                all.push(Problem::new(&at, "a task of guided work must not set `fanOut`, `when` or `dependsOn`"));
            }
            for step in &task.steps {
                step_problems(step, &format!("{at}.steps.{}", step.key), &mut all);
            }
        }
    }
    all
}

/// Checks a step of guided work that an agent does: its settings are for the agent alone.
fn agent_problems(step: &StepDef, mut push_problem: impl FnMut(&str, String)) {
    if step.kind != CUSTOM && KINDS.contains(&step.kind.as_str()) {
        push_problem("assignedTo", format!("must be HUMAN: agents do steps of the type {CUSTOM}"));
    }
    if step.trigger != Trigger::Immediate {
        push_problem("trigger", "must be `immediate`: an agent's step of guided work begins with its run".into());
    }
    if step.when.is_some() {
        push_problem("when", "not allowed in guided work: a person decides which steps are skipped".into());
    }
}

fn step_problems(step: &StepDef, at: &str, all: &mut Vec<Problem>) {
    let mut push_problem = |field: &str, why: String| all.push(Problem::new(format!("{at}.{field}"), why));
    if !KINDS.contains(&step.kind.as_str()) {
        push_problem("type", format!("must be one of {}", KINDS.join(", ")));
    }
    match step.assigned_to {
        Executor::Human => {}
        Executor::Agent => return agent_problems(step, push_problem),
        Executor::Workflow => {
            push_problem("assignedTo", "must be HUMAN or AGENT: people and agents do the steps of guided work".into());
        }
    }
    if !matches!(step.trigger, Trigger::Immediate | Trigger::Manual) {
        push_problem("trigger", "must be `manual` or `immediate`: a person starts the steps of guided work".into());
    }
    if step.when.is_some() {
        push_problem("when", "not allowed in guided work: a person decides which steps are skipped".into());
    }
    match GuidedConfig::of(step) {
        Ok(guide) => {
            for (field, why) in guide.misplaced(&step.kind).chain(guide.problems()) {
                push_problem(&format!("config.{field}"), why);
            }
        }
        Err(wrong) => push_problem(&wrong.below("config"), wrong.why),
    }
}
