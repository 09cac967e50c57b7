//! Assigns a person's step to a member.

use entity::id::*;
use entity::step::{Executor, Model, StepStatus};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use super::must_find;
use super::transition::lock_run;
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Assigns a person's step to a member; `None` lets anybody with the required role do it. Errors:
/// NOT_FOUND; CONFLICT for a step that is closed or not done by a person.
pub async fn assign(
    db: &WriteContext,
    viewer: &Viewer,
    id: StepId,
    expected: Option<i32>,
    member: Option<MemberId>,
) -> Result<Model> {
    transact!(db, |tx| {
        let run = lock_run(tx, viewer, id).await?;
        let step = must_find(tx.db(), viewer, id).await?;
        validate::expect("step", step.revision, expected)?;
        check_assignable(&step)?;
        let name = match member {
            // Locked, so that the member can't be deleted meanwhile.
            Some(id) => Some(crate::domain::people::member::must_lock(tx, viewer, id, None).await?.name),
            None => None,
        };
        tx.set_result(id);
        let (before, revision) = (step.assignee_id, step.revision);
        if before == member.map(|id| id.0) {
            return Ok(step);
        }
        let mut row = step.into_active_model();
        row.assignee_id = Set(member.map(|id| id.0));
        row.revision = Set(revision + 1);
        let step = row.update(tx.db()).await?;
        let payload = serde_json::json!({ "key": step.key, "name": step.name, "memberId": member, "memberName": name });
        event::append(
            tx,
            Event::new(run.org_id, "step.assigned", &viewer.actor()).run(&run).step(&step).payload(payload),
        );
        Ok(step)
    })
}

/// Checks that a step can be assigned to a member. Errors: CONFLICT.
pub(crate) fn check_assignable(step: &Model) -> Result<()> {
    if step.assigned_to != Executor::Human {
        return Err(Refusal::conflict("this step is done by a worker, not by a person").into());
    }
    if !StepStatus::OPEN.contains(&step.status) {
        return Err(Refusal::conflict(format!("it has closed: it is {}", step.status)).into());
    }
    Ok(())
}
