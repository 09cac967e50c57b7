//! A manifest: goals, writers, reviewers, message templates, segments, agents, functions and run templates, as they are to
//! be. What is there is known by its name (run templates by their key), and where several have one name, by `nth`, the
//! first being the oldest; applied twice it changes nothing.

mod export;
mod read;
mod validate;

use std::sync::{Arc, Mutex};

use async_graphql::{Enum, SimpleObject};
use entity::{agent, goal, message_template, reviewer, run_template, segment, writer};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

pub use export::export;

use crate::domain::content::yaml;
use crate::domain::content::yaml::YamlDocument;
use crate::kernel::db::{Db, Tx, dialect};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, limits};
use crate::transact;

/// What becomes of one of the things that a manifest declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "ManifestAction")]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is as it should be.
    Unchanged,
}

/// One line of the plan.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject)]
#[graphql(name = "ManifestChange")]
pub struct Change {
    /// What becomes of it.
    pub action: Action,
    /// What it is: `goal`, `run template` …
    pub noun: String,
    /// By which it is known.
    pub name: String,
    /// The fields that change; empty where it is made, or stays.
    pub fields: Vec<String>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject)]
#[graphql(name = "ManifestProblem")]
pub struct Problem {
    /// The line, from 1; null where it is about none.
    pub line: Option<i32>,
    /// The part, by keys: `runTemplates.order_fulfilment.phases.processing`.
    pub path: String,
    /// A sentence.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{line}: {}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// What a manifest does, or why it does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What becomes of each thing, in the order in which it is done.
    pub changes: Vec<Change>,
    /// All that is wrong; then nothing was done.
    pub problems: Vec<Problem>,
}

/// One of the things that are declared, read.
struct Item {
    path: String,
    /// The same path with its place in its section: `goals.0`.
    written_at: String,
    /// Its place among those of one name, from 1, by age; needed only where there are several.
    nth: Option<usize>,
    what: What,
}

enum What {
    Goal(crate::domain::content::goal::Fields),
    Writer(crate::domain::content::writer::Fields),
    Reviewer(crate::domain::content::reviewer::Fields, Option<String>),
    MessageTemplate(crate::domain::content::message_template::Fields),
    Segment(Box<crate::domain::audience::segment::Fields>),
    Agent(crate::domain::plan::agent::Fields),
    RunTemplate(crate::domain::plan::run_template::Fields, Option<String>),
}

/// Does what a manifest says, all of it or nothing, in one transaction; planned, it only finds out what that would be.
pub async fn apply(db: &Db, viewer: &Viewer, text: &str, planned: bool) -> Result<Applied> {
    let text = text.to_owned();
    let read = move |_| {
        yaml::read_up_to(&text, limits::MANIFEST_BYTES).map(|written| {
            let (items, problems) = read::items(&written);
            (written, items, problems)
        })
    };
    let (written, items, problems) = match budget::run_here(read).await? {
        Ok(read) => read,
        Err(yaml::YamlError { line, path, message }) => {
            let line = line.and_then(|line| i32::try_from(line).ok());
            let problem = Problem { line, path, message };
            return Ok(Applied { problems: vec![problem], ..Applied::default() });
        }
    };
    let items = Arc::new(items);
    validate::judge(db, viewer, &items).await?;
    let found = Mutex::new(Applied::default());
    // Whatever is wrong or only planned ends the transaction without a trace; what was found is kept outside.
    let outcome: Result<()> = transact!(db, |tx| {
        let mut applied = Applied { changes: Vec::new(), problems: problems.clone() };
        // Names of most nouns need not be unique: of two who apply the same at once, the second finds what the first made.
        dialect::hold(tx, &format!("manifests of {}", viewer.org_id)).await?;
        for item in items.iter() {
            match one(tx, viewer, &item.what, item.nth).await {
                Ok(change) => applied.changes.push(change),
                Err(Error::Refused(refusal)) => applied.problems.extend(told(&written, item, &refusal)),
                // The one before was refused by the database, which takes nothing more then.
                Err(err) if err.db().is_some_and(dialect::is_aborted) && !applied.problems.is_empty() => break,
                Err(err) => return Err(err),
            }
        }
        let stop = planned || !applied.problems.is_empty();
        if let Ok(mut found) = found.lock() {
            *found = applied;
        }
        if stop { Err(Refusal::conflict(STOPPED).into()) } else { Ok(()) }
    });
    match outcome {
        Ok(()) => {}
        Err(Error::Refused(refusal)) if refusal.message == STOPPED => {}
        Err(err) => return Err(err),
    }
    Ok(found.into_inner().unwrap_or_default())
}

const STOPPED: &str = "the manifest is not carried out";

/// A refusal as problems: each with the line of the part that it is about.
fn told(written: &YamlDocument, item: &Item, refusal: &Refusal) -> Vec<Problem> {
    let at = |below: &str| if below.is_empty() { item.path.clone() } else { format!("{}.{below}", item.path) };
    let written_at = |below: &str| Some(format!("{}.{below}", item.written_at));
    if let Some(problems) = refusal.details.get("problems").and_then(|problems| problems.as_array()) {
        let text = |problem: &serde_json::Value, name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        let each = problems.iter().map(|problem| {
            let path = text(problem, "path");
            placed(written, at(&path), written_at(&path), text(problem, "message"))
        });
        return each.collect();
    }
    let field = refusal.details.get("field").and_then(|field| field.as_str()).unwrap_or_default();
    let message = refusal.message.strip_prefix(&format!("{field}: ")).unwrap_or(&refusal.message).to_owned();
    vec![placed(written, at(field), written_at(field), message)]
}

/// With the line of the part, or of the nearest one above it that was written. `written_at` is the part's path as it is
/// written: lists by place, not by name.
fn placed(written: &YamlDocument, path: String, written_at: Option<String>, message: String) -> Problem {
    let exact = written_at.map(|path| path.replace('[', ".").replace(']', ""));
    // Below a list's item, by its place.
    let mut at = exact.as_deref().unwrap_or_default();
    while at.matches('.').count() > 1 {
        if let Some(line) = written.line(at) {
            return Problem { line: i32::try_from(line).ok(), path, message };
        }
        at = at.rsplit_once('.').map_or("", |(above, _)| above);
    }
    let mut at = path.as_str();
    let line = loop {
        if let Some(line) = written.line(at) {
            break i32::try_from(line).ok();
        }
        match at.rsplit_once('.') {
            Some((above, _)) => at = above,
            None => break None,
        }
    };
    Problem { line, path, message }
}

/// The place of the one that is meant among so many of one name.
fn meant(there: usize, nth: Option<usize>) -> Result<usize> {
    let refused = |field, told: String| Refusal::input(field, told);
    match nth {
        None if there > 1 => {
            let told =
                format!("there are {there} of this name: say which one, by age, with `nth: 1` to `nth: {there}`");
            Err(refused("name", told).into())
        }
        Some(nth) if nth > there + 1 => {
            let told = format!("there are only {there} of this name: the next is `nth: {}`", there + 1);
            Err(refused("nth", told).into())
        }
        nth => Ok(nth.unwrap_or(1) - 1),
    }
}

/// Returns the rows of one name that a manifest can declare, if there is any, else all of them.
fn declared<R>(rows: Vec<R>, can_be_declared: impl Fn(&R) -> bool) -> Vec<R> {
    if !rows.iter().any(&can_be_declared) {
        return rows;
    }
    rows.into_iter().filter(can_be_declared).collect()
}

/// The nouns by name, for the macro below: the rows have the same names.
mod nouns {
    pub(super) use crate::domain::audience::segment;
    pub(super) use crate::domain::content::{goal, message_template, reviewer, writer};
    pub(super) use crate::domain::plan::{agent, run_template};
}

macro_rules! kept {
    ($noun:literal, $module:ident, $tx:ident, $viewer:ident, $nth:ident, $fields:expr, $by:ident, $name:expr, [$($fields_shown:tt)*]) => {
        kept!($noun, $module, $tx, $viewer, $nth, $fields, $by, $name, [$($fields_shown)*], |_| true)
    };
    ($noun:literal, $module:ident, $tx:ident, $viewer:ident, $nth:ident, $fields:expr, $by:ident, $name:expr, [$($field:ident as $shown:literal),*], $declared:expr) => {{
        let fields = $fields;
        let name = $name.clone().unwrap_or_default();
        let there = $module::Entity::find()
            .filter($module::COLUMN.org_id.eq($viewer.org_id))
            .filter($module::COLUMN.$by.eq(&name))
            .order_by_asc($module::COLUMN.id)
            .all($tx.db())
            .await?;
        let there = declared(there, $declared);
        let place = meant(there.len(), $nth)?;
        let change = |action, fields| Change { action, noun: $noun.into(), name: name.clone(), fields };
        match there.into_iter().nth(place) {
            None => {
                nouns::$module::create_in($tx, $viewer, fields).await?;
                change(Action::Create, Vec::new())
            }
            Some(before) => {
                let after = nouns::$module::update_in($tx, $viewer, before.id, None, fields).await?;
                #[allow(unused_mut)]
                let mut changed: Vec<String> = Vec::new();
                $(if before.$field != after.$field { changed.push($shown.into()); })*
                let action = if changed.is_empty() { Action::Unchanged } else { Action::Update };
                change(action, changed)
            }
        }
    }};
}

/// Makes one thing so.
async fn one(tx: &Tx, viewer: &Viewer, what: &What, nth: Option<usize>) -> Result<Change> {
    Ok(match what {
        What::Goal(fields) => {
            kept!("goal", goal, tx, viewer, nth, fields, name, fields.name, [description as "description"])
        }
        What::Writer(fields) => kept!(
            "writer", writer, tx, viewer, nth, fields, name, fields.name,
            [kind as "kind", instructions as "instructions", body as "body"]
        ),
        What::Reviewer(fields, email) => {
            let mut fields = fields.clone();
            if let Some(email) = email {
                let found = crate::domain::people::member::by_emails(tx.db(), viewer, &[email.to_lowercase()]).await?;
                let member = found.into_iter().next();
                fields.member_id =
                    Some(member.ok_or_else(|| Refusal::input("member", format!("there is no member {email}")))?.id);
            }
            kept!("reviewer", reviewer, tx, viewer, nth, &fields, name, fields.name, [member_id as "member", policy as "policy"])
        }
        What::MessageTemplate(fields) => kept!(
            "message template", message_template, tx, viewer, nth, fields, name, fields.name,
            [channel as "channel", subject as "subject", body as "body"]
        ),
        What::Segment(fields) => {
            kept!("segment", segment, tx, viewer, nth, fields, name, fields.name, [filter as "filter"], |row: &entity::segment::Model| row.filter.is_some())
        }
        What::Agent(fields) => kept!(
            "agent", agent, tx, viewer, nth, fields, name, fields.name,
            [description as "description", filter as "filter", context as "context", output_schema as "outputSchema",
             instructions as "instructions"]
        ),
        What::RunTemplate(fields, base) => {
            let mut fields = fields.clone();
            if let Some(key) = base {
                let found = crate::domain::plan::run_template::by_key(tx.db(), viewer, key).await?;
                fields.base_id =
                    Some(found.ok_or_else(|| Refusal::input("base", format!("there is no run template `{key}`")))?.id);
            }
            kept!(
                "run template", run_template, tx, viewer, nth, &fields, key, fields.key,
                [name as "name", description as "description", definition as "definition", overrides as "overrides"]
            )
        }
    })
}
