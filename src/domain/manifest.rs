//! Applies a manifest: the desired state of goals, writers, reviewers, message templates, segments,
//! agents, functions and run templates. Existing objects are identified by name (run templates by
//! key) and, if several share a name, by `nth`, 1 being the oldest. Applying a manifest a second
//! time changes nothing.

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
use crate::kernel::db::{Tx, WriteContext, dialect, error_codes};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, limits};
use crate::transact;

/// The effect of a manifest on one declared object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "ManifestAction")]
pub enum Action {
    /// The object is created.
    Create,
    /// The object is updated.
    Update,
    /// The object already matches.
    Unchanged,
}

/// The change to one declared object.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject)]
#[graphql(name = "ManifestChange")]
pub struct Change {
    /// The effect on the object.
    pub action: Action,
    /// The type of the object: `goal`, `run template` …
    pub noun: String,
    /// The identifying name; the key for a run template.
    pub name: String,
    /// The fields that change; empty unless the action is `UPDATE`.
    pub fields: Vec<String>,
}

/// A problem in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject)]
#[graphql(name = "ManifestProblem")]
pub struct Problem {
    /// Line number, starting at 1; null if the problem belongs to no particular line.
    pub line: Option<i32>,
    /// Path of the part, by keys: `runTemplates.order_fulfilment.phases.processing`.
    pub path: String,
    /// Description of the problem.
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

/// The result of applying a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The change to each object, in the order of application.
    pub changes: Vec<Change>,
    /// All problems; if there is any, nothing was applied.
    pub problems: Vec<Problem>,
}

/// One declared object, parsed.
struct Item {
    path: String,
    /// The same path by index in its section: `goals.0`.
    index_path: String,
    /// The number among objects of the same name, from 1, oldest first; needed only for several.
    nth: Option<usize>,
    declaration: Declaration,
}

enum Declaration {
    Goal(crate::domain::content::goal::Fields),
    Writer(crate::domain::content::writer::Fields),
    Reviewer(crate::domain::content::reviewer::Fields, Option<String>),
    MessageTemplate(crate::domain::content::message_template::Fields),
    Segment(Box<crate::domain::audience::segment::Fields>),
    Agent(crate::domain::plan::agent::Fields),
    RunTemplate(crate::domain::plan::run_template::Fields, Option<String>),
}

/// Applies a manifest in one transaction, entirely or not at all. With `planned`, only computes the
/// changes.
pub async fn apply(db: &WriteContext, viewer: &Viewer, text: &str, planned: bool) -> Result<Applied> {
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
    let found = Mutex::new((Vec::new(), Vec::new()));
    // Problems, or a mere plan, roll the transaction back; the findings are kept outside of it.
    let outcome: Result<()> = transact!(db, |tx| {
        let (mut changes, mut found_here) = (Vec::new(), problems.clone());
        // Most names need not be unique. The lock lets the second of two concurrent applications of
        // the same manifest see the objects that the first created.
        dialect::lock_name(tx, &format!("manifests of {}", viewer.org_id)).await?;
        for item in items.iter() {
            match apply_one(tx, viewer, &item.declaration, item.nth).await {
                Ok(change) => changes.push(change),
                Err(Error::Refused(refusal)) => found_here.extend(problems_of(item, &refusal)),
                // A previous item failed in the database, which rejects further statements of the
                // transaction.
                Err(err) if err.db().is_some_and(error_codes::is_aborted) && !found_here.is_empty() => break,
                Err(err) => return Err(err),
            }
        }
        let stop = planned || !found_here.is_empty();
        if let Ok(mut found) = found.lock() {
            *found = (changes, found_here);
        }
        if stop { Err(Refusal::conflict(STOPPED).into()) } else { Ok(()) }
    });
    match outcome {
        Ok(()) => {}
        Err(Error::Refused(refusal)) if refusal.message == STOPPED => {}
        Err(err) => return Err(err),
    }
    let (changes, found) = found.into_inner().unwrap_or_default();
    let problems = match found.is_empty() {
        true => Vec::new(),
        // No writer waits for the lines: the transaction has ended.
        false => {
            let locate = move |_| found.into_iter().map(|one: Found| one.located(&written)).collect();
            budget::run_here(locate).await?
        }
    };
    Ok(Applied { changes, problems })
}

const STOPPED: &str = "the manifest was not applied";

/// A problem whose line is still to be found.
#[derive(Clone, Debug)]
struct Found {
    path: String,
    /// The same path with list items by index, not by name.
    written_at: Option<String>,
    message: String,
}

impl Found {
    /// Adds the line of the part, or of its nearest written ancestor.
    fn located(self, written: &YamlDocument) -> Problem {
        let Self { path, written_at, message } = self;
        let exact = written_at.map(|path| path.replace('[', ".").replace(']', ""));
        // First by index, down to the item of a list.
        let by_index = exact.as_deref().map(|path| written.nearest(path));
        let by_index = by_index.filter(|(_, found)| found.matches('.').count() > 1);
        let by_name = || Some(written.nearest(&path)).filter(|(_, found)| !found.is_empty() || path.is_empty());
        let line = by_index.or_else(by_name).and_then(|(line, _)| i32::try_from(line).ok());
        Problem { line, path, message }
    }
}

/// Turns a rejection into problems. Their lines are found after the transaction.
fn problems_of(item: &Item, refusal: &Refusal) -> Vec<Found> {
    let at = |below: &str| if below.is_empty() { item.path.clone() } else { format!("{}.{below}", item.path) };
    let written_at = |below: &str| Some(format!("{}.{below}", item.index_path));
    if let Some(problems) = refusal.details.get("problems").and_then(|problems| problems.as_array()) {
        let text = |problem: &serde_json::Value, name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        let each = problems.iter().map(|problem| {
            let path = text(problem, "path");
            Found { path: at(&path), written_at: written_at(&path), message: text(problem, "message") }
        });
        return each.collect();
    }
    let field = refusal.details.get("field").and_then(|field| field.as_str()).unwrap_or_default();
    let message = refusal.message.strip_prefix(&format!("{field}: ")).unwrap_or(&refusal.message).to_owned();
    vec![Found { path: at(field), written_at: written_at(field), message }]
}

/// Returns the index of the referenced object among `there` objects of the same name.
fn index_of(there: usize, nth: Option<usize>) -> Result<usize> {
    let refused = |field, message: String| Refusal::input(field, message);
    match nth {
        None if there > 1 => {
            let message =
                format!("there are {there} of this name: select one by age, with `nth: 1` (oldest) to `nth: {there}`");
            Err(refused("name", message).into())
        }
        Some(nth) if nth > there + 1 => {
            let message = format!("there are only {there} of this name: the next one is `nth: {}`", there + 1);
            Err(refused("nth", message).into())
        }
        nth => Ok(nth.unwrap_or(1) - 1),
    }
}

/// Returns the rows that a manifest can declare, if there is any, else all rows.
fn declarable<R>(rows: Vec<R>, can_be_declared: impl Fn(&R) -> bool) -> Vec<R> {
    if !rows.iter().any(&can_be_declared) {
        return rows;
    }
    rows.into_iter().filter(can_be_declared).collect()
}

/// The domain modules by name, for the macro below: entity modules have the same names.
mod nouns {
    pub(super) use crate::domain::audience::segment;
    pub(super) use crate::domain::content::{goal, message_template, reviewer, writer};
    pub(super) use crate::domain::plan::{agent, run_template};
}

// A macro because each noun has fields, a `create_in` and an `update_in` of its own.
macro_rules! apply_item {
    ($noun:literal, $module:ident, $tx:ident, $viewer:ident, $nth:ident, $fields:expr, $by:ident, $name:expr, [$($fields_shown:tt)*]) => {
        apply_item!($noun, $module, $tx, $viewer, $nth, $fields, $by, $name, [$($fields_shown)*], |_| true)
    };
    ($noun:literal, $module:ident, $tx:ident, $viewer:ident, $nth:ident, $fields:expr, $by:ident, $name:expr, [$($field:ident as $shown:literal),*], $declarable:expr) => {{
        let fields = $fields;
        let name = $name.clone().unwrap_or_default();
        let there = $module::Entity::find()
            .filter($module::COLUMN.org_id.eq($viewer.org_id))
            .filter($module::COLUMN.$by.eq(&name))
            .order_by_asc($module::COLUMN.id)
            .all($tx.db())
            .await?;
        let there = declarable(there, $declarable);
        let place = index_of(there.len(), $nth)?;
        let change = |action, fields| Change { action, noun: $noun.into(), name: name.clone(), fields };
        match there.into_iter().nth(place) {
            None => {
                nouns::$module::create_in($tx, $viewer, fields).await?;
                change(Action::Create, Vec::new())
            }
            Some(before) => {
                let after = nouns::$module::update_in($tx, $viewer, before.id, None, fields).await?;
                #[allow(unused_mut, reason = "not every noun has fields to compare")]
                let mut changed: Vec<String> = Vec::new();
                $(if before.$field != after.$field { changed.push($shown.into()); })*
                let action = if changed.is_empty() { Action::Unchanged } else { Action::Update };
                change(action, changed)
            }
        }
    }};
}

/// Creates or updates one object.
async fn apply_one(tx: &Tx, viewer: &Viewer, what: &Declaration, nth: Option<usize>) -> Result<Change> {
    Ok(match what {
        Declaration::Goal(fields) => {
            apply_item!("goal", goal, tx, viewer, nth, fields, name, fields.name, [description as "description"])
        }
        Declaration::Writer(fields) => apply_item!(
            "writer", writer, tx, viewer, nth, fields, name, fields.name,
            [kind as "kind", instructions as "instructions", body as "body"]
        ),
        Declaration::Reviewer(fields, email) => {
            let mut fields = fields.clone();
            if let Some(email) = email {
                let found = crate::domain::people::member::by_emails(tx.db(), viewer, &[email.to_lowercase()]).await?;
                let member = found.into_iter().next();
                fields.member_id =
                    Some(member.ok_or_else(|| Refusal::input("member", format!("there is no member {email}")))?.id);
            }
            apply_item!("reviewer", reviewer, tx, viewer, nth, &fields, name, fields.name, [member_id as "member", policy as "policy"])
        }
        Declaration::MessageTemplate(fields) => apply_item!(
            "message template", message_template, tx, viewer, nth, fields, name, fields.name,
            [channel as "channel", subject as "subject", body as "body"]
        ),
        Declaration::Segment(fields) => {
            apply_item!("segment", segment, tx, viewer, nth, fields, name, fields.name, [filter as "filter"], |row: &entity::segment::Model| row.filter.is_some())
        }
        Declaration::Agent(fields) => apply_item!(
            "agent", agent, tx, viewer, nth, fields, name, fields.name,
            [description as "description", filter as "filter", context as "context", output_schema as "outputSchema",
             instructions as "instructions"]
        ),
        Declaration::RunTemplate(fields, base) => {
            let mut fields = fields.clone();
            if let Some(key) = base {
                let found = crate::domain::plan::run_template::by_key(tx.db(), viewer, key).await?;
                fields.base_id =
                    Some(found.ok_or_else(|| Refusal::input("base", format!("there is no run template `{key}`")))?.id);
            }
            apply_item!(
                "run template", run_template, tx, viewer, nth, &fields, key, fields.key,
                [name as "name", description as "description", definition as "definition", overrides as "overrides"]
            )
        }
    })
}
