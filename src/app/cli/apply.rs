//! `sortie apply`: plans and applies manifests.

use std::path::PathBuf;

use serde_json::json;

use crate::domain::manifest::{self, Action};
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::terminal::out;
use crate::kernel::viewer::Viewer;

/// Prints the plan of each manifest, then applies it. With `plan`, only a readable database is
/// needed.
pub async fn apply(db: &Db, viewer: &Viewer, files: &[PathBuf], plan: bool) -> Result<()> {
    let mut problem_count = 0;
    if plan {
        db.allow_dry_run().await?;
    }
    for file in files {
        let shown = file.display();
        let read = match file.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(file),
        };
        let text = read.map_err(|err| Error::internal(format!("{shown}: {err}")))?;
        let mut found = manifest::apply(&db.write(), viewer, &text, true).await?;
        for problem in &found.problems {
            out(format_args!("{shown}:{problem}\n"));
        }
        problem_count += found.problems.len();
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
            let make = async |db: WriteContext| manifest::apply(&db, viewer, &text, false).await;
            found = super::audited(db, viewer, "applyManifest", &input, make).await?;
            if !found.problems.is_empty() {
                return Err(Error::internal(
                    "the declared objects have changed since the plan was made; nothing was applied",
                ));
            }
        }
        let count = |action| found.changes.iter().filter(|change| change.action == action).count();
        let (created, updated, unchanged) = (count(Action::Create), count(Action::Update), count(Action::Unchanged));
        let would = if plan { "would be " } else { "" };
        out(format_args!("{shown}: {created} {would}created, {updated} {would}updated, {unchanged} unchanged.\n"));
    }
    match problem_count {
        0 => Ok(()),
        count => {
            let problems = if count == 1 { "problem" } else { "problems" };
            Err(Error::internal(format!("{count} {problems}; manifests with problems are not applied")))
        }
    }
}
