//! Validates everything that a manifest declares before its transaction, in slices on the threads
//! of the budget. The transaction blocks all other writers on SQLite; it finds every verdict
//! cached.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Declaration, Item};
use crate::domain::content::templating;
use crate::domain::plan::agent;
use crate::domain::plan::run_template::{self, Draft};
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, limits};

type Bases = HashMap<String, entity::run_template::Model>;

/// Validates all items. Problems are not reported here but, with their lines, when the manifest is
/// applied. Errors: LIMIT_EXCEEDED if there is no time for all of it.
pub(super) async fn judge(db: &Db, viewer: &Viewer, items: &Arc<Vec<Item>>) -> Result<()> {
    let bases = Arc::new(bases(db, viewer, items).await?);
    let (started, mut done) = (Instant::now(), 0);
    while done < items.len() {
        let (all, bases) = (items.clone(), bases.clone());
        let outcome = budget::run_here(move |until| {
            for (i, item) in all.iter().enumerate().skip(done) {
                if !validate_item(item, &all, &bases) {
                    return Err(item.path.clone());
                }
                if Instant::now() > until {
                    return Ok(i + 1);
                }
            }
            Ok(all.len())
        });
        match outcome.await? {
            Ok(next) if started.elapsed() < limits::MANIFEST_TIME || next == items.len() => done = next,
            Ok(next) => return Err(budget::late(&items[next].path).into()),
            Err(path) => return Err(budget::late(&path).into()),
        }
    }
    Ok(())
}

/// Returns the stored templates that declared ones have as their base.
async fn bases(db: &Db, viewer: &Viewer, items: &[Item]) -> Result<Bases> {
    let mut all = HashMap::new();
    for item in items {
        if let Declaration::RunTemplate(_, Some(key)) = &item.declaration
            && !all.contains_key(key)
            && declared(items, key).is_none()
            && let Some(found) = run_template::by_key(db.read(), viewer, key).await?
        {
            all.insert(key.clone(), found);
        }
    }
    Ok(all)
}

fn declared<'a>(items: &'a [Item], key: &str) -> Option<&'a run_template::Fields> {
    items.iter().find_map(|item| match &item.declaration {
        Declaration::RunTemplate(fields, None) if fields.key.as_deref() == Some(key) => Some(fields),
        _ => None,
    })
}

/// Validates one item; false if time ran out.
fn validate_item(item: &Item, items: &[Item], bases: &Bases) -> bool {
    let draft = match &item.declaration {
        Declaration::Goal(_) | Declaration::Reviewer(..) | Declaration::Segment(_) => return true,
        Declaration::Writer(fields) => {
            let body = fields.body.as_ref().and_then(Option::as_ref);
            drop(body.map(|body| templating::check("body", body)));
            return true;
        }
        Declaration::MessageTemplate(fields) => {
            for text in [&fields.subject, &fields.body].into_iter().flatten() {
                drop(templating::check("body", text));
            }
            return true;
        }
        Declaration::Agent(fields) => {
            drop(agent::judge(fields));
            return true;
        }
        Declaration::RunTemplate(fields, None) => Draft::of(None, None, fields),
        Declaration::RunTemplate(fields, Some(key)) => match (declared(items, key), bases.get(key)) {
            (Some(base), _) => Draft::of(None, None, base)
                .map(|base| Draft { overrides: fields.overrides.clone().unwrap_or_default(), ..base }),
            (None, Some(base)) => Draft::of(None, Some(base), fields),
            (None, None) => None,
        },
    };
    draft.is_none_or(|draft| run_template::check_not_late("", &draft.problems()).is_ok())
}
