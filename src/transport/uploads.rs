//! Limits the imports in progress for each key, for each org and in total, since each has a thread.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use entity::id::OrgId;

use super::auth::Principal;
use super::error::RequestError;
use crate::kernel::limits;

/// The numbers of imports in progress, by principal.
#[derive(Clone, Debug, Default)]
pub struct ImportQuotas(Arc<Mutex<HashMap<(OrgId, String), usize>>>);

/// Seconds after which an import that was refused because of others is tried again.
const RETRY_SECONDS: u64 = 5;

impl ImportQuotas {
    /// Begins an import. Fails with LIMIT_EXCEEDED if there are too many.
    pub(super) fn begin(&self, principal: &Principal) -> Result<UploadPermit, RequestError> {
        let mut open = self.lock();
        let owner = (principal.viewer.org_id, principal.name());
        let org: usize = open.iter().filter(|((org, _), _)| *org == owner.0).map(|(_, count)| count).sum();
        let all: usize = open.values().sum();
        let own = open.get(&owner).copied().unwrap_or_default();
        for (running, most, scope) in [
            (own, limits::IMPORTS_OF_KEY, "per key"),
            (org, limits::IMPORTS_OF_ORG, "per organisation"),
            (all, limits::IMPORTS, "in total"),
        ] {
            if running >= most {
                let message = format!("at most {most} imports at once {scope}: retry when one has ended");
                return Err(RequestError::busy(message).retry_after(RETRY_SECONDS));
            }
        }
        *open.entry(owner.clone()).or_default() += 1;
        Ok(UploadPermit { owner, uploads: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(OrgId, String), usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit of an import, released on drop.
#[derive(Debug)]
pub(super) struct UploadPermit {
    owner: (OrgId, String),
    uploads: ImportQuotas,
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        let mut open = self.uploads.lock();
        if let Some(count) = open.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.owner);
            }
        }
    }
}
