//! Implements `updateRun`: the name and the description of a run, in any status. Both are words for
//! people; the run of a campaign keeps the name of its campaign beside them.

use entity::RunStatus;
use entity::id::*;
use entity::run::Model;
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};
use serde_json::json;

use super::{emit, must_lock};
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{storable, validate};
use crate::transact;

/// The changes to a run; only the given fields change.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The name.
    pub name: Option<String>,
    /// The description; `Some(None)` clears it.
    pub description: Option<Option<String>>,
}

/// Changes a run. Errors: NOT_FOUND; BAD_USER_INPUT; CONFLICT for the name of a run that is only
/// scheduled, which it has from its schedule.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: RunId,
    expected: Option<i32>,
    changes: &Changes,
) -> Result<Model> {
    let name = changes.name.as_deref().map(|name| validate::name("name", name)).transpose()?;
    let description = changes.description.as_ref().map(|text| text.as_deref().unwrap_or_default());
    let description = description.map(check_description).transpose()?;
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, id, expected).await?;
        tx.set_result(id);
        let search = name.as_ref().map(|name| match run.campaign_id {
            Some(_) => storable::folded(&format!("{name} {}", run.campaign_name)),
            None => storable::folded(name),
        });
        let mut row = run.clone().into_active_model();
        if let Some(name) = &name {
            row.name.set_if_not_equals(name.clone());
        }
        if let Some(description) = &description {
            row.description.set_if_not_equals(description.clone());
        }
        if row.name.is_set() && run.status == RunStatus::Scheduled {
            let why = "a run that is SCHEDULED gets its name from its schedule: rename that with updateSchedule, \
                       or the run once it is queued";
            return Err(Refusal::conflict(why).with("field", json!("name")).into());
        }
        if !row.is_changed() {
            return Ok(run);
        }
        if let Some(search) = search {
            row.search.set_if_not_equals(search);
        }
        row.updated_at = Set(tx.now());
        row.revision = Set(run.revision + 1);
        let former = run;
        let run = row.update(tx.db()).await?;
        let payload = json!({
            "formerName": Some(former.name).filter(|former| *former != run.name),
            "formerDescription": Some(former.description).filter(|former| *former != run.description),
        });
        emit(tx, viewer, "run.updated", &run, payload);
        Ok(run)
    })
}

fn check_description(text: &str) -> Result<String> {
    storable::text(text).map_err(|unfit| unfit.of("description"))?;
    validate::text("description", text)
}
