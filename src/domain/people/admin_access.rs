//! An admin's access to an org. Changes of members and of keys must leave an admin who can
//! authenticate: without one, nobody could create another key.

use chrono::{DateTime, Utc};
use entity::id::OrgId;
use entity::member::Role;
use entity::{api_key, member};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::kernel::db::Tx;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Returns true if an admin of an org can authenticate: by a valid key with the role ADMIN that
/// belongs to an admin or, if tokens are accepted, by a token with an admin's subject.
pub async fn admin_can_authenticate(
    db: &impl ConnectionTrait,
    org_id: OrgId,
    now: DateTime<Utc>,
    by_token: bool,
) -> Result<bool> {
    let admins = member::Entity::find()
        .filter(member::COLUMN.org_id.eq(org_id))
        .filter(member::COLUMN.role.eq(Role::Admin))
        .all(db)
        .await?;
    if by_token && admins.iter().any(|admin| admin.subject.is_some()) {
        return Ok(true);
    }
    let keys = api_key::Entity::find()
        .filter(api_key::COLUMN.org_id.eq(org_id))
        .filter(api_key::COLUMN.role.eq(Role::Admin))
        .filter(api_key::COLUMN.revoked_at.is_null())
        .filter(Condition::any().add(api_key::COLUMN.expires_at.is_null()).add(api_key::COLUMN.expires_at.gt(now)))
        .all(db)
        .await?;
    Ok(keys.iter().any(|key| admins.iter().any(|admin| admin.id == key.member_id)))
}

/// Returns the same as [`admin_can_authenticate`], and locks the admins' keys, so that changes
/// which may lock admins out are serialised.
pub(crate) async fn admin_can_authenticate_locked(tx: &Tx, viewer: &Viewer, by_token: bool) -> Result<bool> {
    let keys = api_key::Entity::find()
        .filter(api_key::COLUMN.org_id.eq(viewer.org_id))
        .filter(api_key::COLUMN.role.eq(Role::Admin));
    keys.order_by_asc(api_key::COLUMN.id).lock_exclusive().all(tx.db()).await?;
    admin_can_authenticate(tx.db(), viewer.org_id, tx.now(), by_token).await
}

/// Rejects a change after which no admin of the org can authenticate, if one could before. Errors:
/// CONFLICT.
pub(crate) async fn require_admin_access(tx: &Tx, viewer: &Viewer, could_before: bool, by_token: bool) -> Result<()> {
    if could_before && !admin_can_authenticate(tx.db(), viewer.org_id, tx.now(), by_token).await? {
        let why = format!("it is the last credential of an admin: nobody could create another key. {MAKE_ANOTHER}");
        return Err(Refusal::conflict(why).into());
    }
    Ok(())
}

/// The advice to create an admin's key first.
pub(super) const MAKE_ANOTHER: &str = "Create an admin's key first: `createApiKey(input: { name: \"admin\", role: ADMIN }) { key }`, \
                            or `sortie key create --name admin --role ADMIN` while the server is stopped";
