//! Bulk actions: one verb applied to many objects of a noun. `start` fixes the targets; the engine applies
//! the verb to one after the other (`apply`), each in a transaction of its own that also stores the
//! target's result.

pub mod apply;
pub mod dry_run;
pub mod expiry;
pub mod start;

use async_graphql::Enum;
use entity::bulk_action::{ActiveModel, BulkTransition, COLUMN, Entity, Model};
use entity::id::*;
use entity::member::Role;
use entity::{Actor, BulkResultStatus, BulkStatus, BulkVerb, StateMachine, bulk_result};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::{Value, json};

use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Code, Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{self, Args, Key, Order, Window};
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(bulk_action, BulkActionId, "bulk action");
locked!(bulk_action, BulkActionId, "bulk action");

/// A window of the org's bulk actions, newest first.
pub fn window(
    dialect: Dialect,
    viewer: &Viewer,
    statuses: Option<&[BulkStatus]>,
    args: Args,
) -> Result<Window<Entity>> {
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    if let Some(statuses) = statuses {
        select = select.filter(any_of(dialect, COLUMN.status, statuses.iter().copied()));
    }
    let fingerprint = page::fingerprint(&("bulk_action", statuses))?;
    Ok(Window { select, order: NEWEST_FIRST, fingerprint, args, part: None })
}

/// A window of the results of one bulk action, in the order of its targets.
pub fn results(
    dialect: Dialect,
    viewer: &Viewer,
    id: BulkActionId,
    statuses: Option<&[BulkResultStatus]>,
    args: Args,
) -> Result<Window<bulk_result::Entity>> {
    let mut select = bulk_result::Entity::find()
        .filter(bulk_result::COLUMN.org_id.eq(viewer.org_id))
        .filter(bulk_result::COLUMN.bulk_action_id.eq(id));
    if let Some(statuses) = statuses {
        select = select.filter(any_of(dialect, bulk_result::COLUMN.status, statuses.iter().copied()));
    }
    let order = Order {
        by: Some((bulk_result::Column::Sequence, |row: &bulk_result::Model| Key::Count(row.sequence), false)),
        id: bulk_result::Column::TargetId,
        id_of: |row: &bulk_result::Model| row.target_id,
        descending: false,
        nulls_apart: false,
    };
    let fingerprint = page::fingerprint(&("bulk_result", id, statuses))?;
    Ok(Window { select, order, fingerprint, args, part: None })
}

/// An action on a bulk action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "BulkActionAction")]
pub enum Action {
    /// Stops it.
    Stop,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 1] = [Self::Stop];

    fn transition(self) -> BulkTransition {
        match self {
            Self::Stop => BulkTransition::Stop,
        }
    }
}

/// Checks if an action is allowed now; the error says why not. The mutations use the same check.
pub fn check_allowed(found: &Model, action: Action) -> Result<()> {
    next_status(found, action.transition()).map(drop)
}

/// Stops a bulk action. The target that is being dealt with gets its result first; none after it is
/// begun. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION.
pub async fn stop(db: &WriteContext, viewer: &Viewer, id: BulkActionId, expected: Option<i32>) -> Result<Model> {
    transact!(db, |tx| {
        // Waits for the transaction of a target, which holds the row.
        let found = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&found, Action::Stop)?;
        tx.set_result(id);
        apply_transition(tx, &viewer.actor(), found, BulkTransition::Stop, |row| {
            row.ended_at = Set(Some(tx.now()));
            row.lease_owner = Set(None);
            row.lease_expires_at = Set(None);
        })
        .await
    })
}

/// The least role that may apply a verb: that of the single mutation.
pub fn needed_role(verb: BulkVerb) -> Role {
    match verb {
        BulkVerb::CancelRuns
        | BulkVerb::RetryRuns
        | BulkVerb::PauseRuns
        | BulkVerb::ResumeRuns
        | BulkVerb::AssignSteps
        | BulkVerb::SkipSteps
        | BulkVerb::ResolveCommunications => Role::Operator,
        BulkVerb::ApproveSteps | BulkVerb::RejectSteps => Role::Reviewer,
        BulkVerb::ArchiveCampaigns => Role::Manager,
    }
}

/// Checks that the viewer's role permits a verb. Errors: FORBIDDEN.
fn check_role(viewer: &Viewer, verb: BulkVerb) -> Result<()> {
    let needed = needed_role(verb);
    if viewer.role.covers(needed) {
        return Ok(());
    }
    let message = format!("{verb} requires the role {needed}; the role of {} is {}", viewer.actor.name, viewer.role);
    Err(Refusal::new(Code::Forbidden, message).with("role", json!(viewer.role)).with("needed", json!(needed)).into())
}

fn next_status(row: &Model, transition: BulkTransition) -> Result<BulkStatus> {
    Ok(row.status.next(transition).ok_or_else(|| Refusal::transition("bulk action", row.status, transition))?)
}

/// Applies a transition, with its event; `more` sets further columns.
async fn apply_transition(
    tx: &Tx,
    actor: &Actor,
    row: Model,
    transition: BulkTransition,
    more: impl FnOnce(&mut ActiveModel),
) -> Result<Model> {
    let to = next_status(&row, transition)?;
    let (from, revision) = (row.status, row.revision);
    let mut row = row.into_active_model();
    row.status = Set(to);
    row.revision = Set(revision + 1);
    more(&mut row);
    let row = row.update(tx.db()).await?;
    let kind = match transition {
        BulkTransition::Start => "bulk_action.started",
        BulkTransition::Complete => "bulk_action.completed",
        BulkTransition::Stop => "bulk_action.stopped",
    };
    emit(tx, actor, kind, &row, json!({ "from": from, "to": to }));
    Ok(row)
}

/// Emits an event about a bulk action, with its counts.
fn emit(tx: &Tx, actor: &Actor, kind: &str, row: &Model, mut payload: Value) {
    if let Some(payload) = payload.as_object_mut() {
        payload.insert("bulkActionId".into(), json!(row.id));
        payload.insert("verb".into(), json!(row.verb));
        payload.insert("reason".into(), json!(row.reason));
        for (name, count) in
            [("matched", row.matched), ("done", row.done), ("refused", row.refused), ("failed", row.failed)]
        {
            payload.insert(name.into(), json!(count));
        }
    }
    event::append(tx, Event::new(row.org_id, kind, actor).payload(payload));
}
