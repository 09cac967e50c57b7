//! The imports that are under way: each has a thread, so that their number is bounded, for each key, each org and in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use entity::id::OrgId;

use super::auth::Principal;
use super::error::RequestError;
use crate::kernel::limits;

/// The imports under way, by who asked for them.
#[derive(Clone, Debug, Default)]
pub struct Uploads(Arc<Mutex<HashMap<(OrgId, String), usize>>>);

impl Uploads {
    /// Admits one more. Errors: LIMIT_EXCEEDED.
    pub(super) fn begin(&self, principal: &Principal) -> Result<UploadPermit, RequestError> {
        let mut open = self.lock();
        let of = (principal.viewer.org_id, principal.name());
        let org: usize = open.iter().filter(|((org, _), _)| *org == of.0).map(|(_, count)| count).sum();
        let all: usize = open.values().sum();
        let own = open.get(&of).copied().unwrap_or_default();
        for (there, most, whose) in [
            (own, limits::IMPORTS_OF_KEY, "yours"),
            (org, limits::IMPORTS_OF_ORG, "your organisation's"),
            (all, limits::IMPORTS, "all together"),
        ] {
            if there >= most {
                return Err(RequestError::busy(format!(
                    "{most} imports at once, {whose}: ask again when one has ended"
                )));
            }
        }
        *open.entry(of.clone()).or_default() += 1;
        Ok(UploadPermit { of, uploads: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(OrgId, String), usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one import; free when it is dropped.
#[derive(Debug)]
pub(super) struct UploadPermit {
    of: (OrgId, String),
    uploads: Uploads,
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        let mut open = self.uploads.lock();
        if let Some(count) = open.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.of);
            }
        }
    }
}
