//! `sortie apply`: what manifests declare, shown and done.

use std::path::PathBuf;

use serde_json::json;

use crate::domain::manifest::{self, Action};
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result};
use crate::kernel::terminal::out;
use crate::kernel::viewer::Viewer;

/// Shows the plan of each manifest, then does it. A plan needs a database only to look at.
pub async fn apply(db: &Db, viewer: &Viewer, files: &[PathBuf], plan: bool) -> Result<()> {
    let mut wrong = 0;
    if plan {
        db.may_try().await?;
    }
    for file in files {
        let shown = file.display();
        let read = match file.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(file),
        };
        let text = read.map_err(|err| Error::ours(format!("{shown}: {err}")))?;
        let mut found = manifest::apply(db, viewer, &text, true).await?;
        for problem in &found.problems {
            out(format_args!("{shown}:{problem}\n"));
        }
        wrong += found.problems.len();
        if !found.problems.is_empty() {
            continue;
        }
        for change in &found.changes {
            let mark = match change.action {
                Action::Create => "create    ",
                Action::Update => "update    ",
                Action::Unchanged => "unchanged ",
            };
            let fields =
                if change.fields.is_empty() { String::new() } else { format!(": {}", change.fields.join(", ")) };
            out(format_args!("{mark} {} {}{fields}\n", change.noun, change.name));
        }
        if !plan {
            let input = json!({ "file": shown.to_string() });
            let make = async |db: Db| manifest::apply(&db, viewer, &text, false).await;
            found = super::noted(db, viewer, "applyManifest", &input, make).await?;
            if !found.problems.is_empty() {
                return Err(Error::ours("what stands has changed meanwhile; nothing was done"));
            }
        }
        let count = |action| found.changes.iter().filter(|change| change.action == action).count();
        let (made, changed, same) = (count(Action::Create), count(Action::Update), count(Action::Unchanged));
        let would = if plan { "would be " } else { "" };
        out(format_args!("{shown}: {made} {would}created, {changed} {would}updated, {same} unchanged.\n"));
    }
    match wrong {
        0 => Ok(()),
        wrong => {
            let problems = if wrong == 1 { "problem" } else { "problems" };
            Err(Error::ours(format!("{wrong} {problems}; of such a manifest nothing is done")))
        }
    }
}
