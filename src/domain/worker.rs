//! The worker protocol, for external workers and built-in agents: claim steps, renew leases,
//! settle.

pub mod claim;
pub mod renew;
pub mod settle;

use entity::api_key;
use entity::id::MemberId;
use sea_orm::{ConnectionTrait, EntityTrait};
use serde_json::json;

use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// The refusal of a step that the worker does not hold, or not any more.
pub(crate) fn lost(why: &str) -> Refusal {
    Refusal::conflict(format!("you do not hold this step any more: {why}")).with("reason", json!("LEASE_LOST"))
}

/// The member whose credential a worker uses: for an agent's key, the member that the key belongs to.
/// None for Sortie's own workers, which have no viewer.
async fn member_of(db: &impl ConnectionTrait, viewer: Option<&Viewer>) -> Result<Option<MemberId>> {
    let Some(viewer) = viewer else { return Ok(None) };
    match (viewer.member_id(), viewer.api_key_id) {
        (None, Some(id)) => Ok(api_key::Entity::find_by_id(id).one(db).await?.map(|key| key.member_id)),
        (member_id, _) => Ok(member_id),
    }
}
