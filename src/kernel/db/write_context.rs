//! The context of write transactions.
//!
//! `Db` reads; `transact!` takes a `WriteContext`, so that a function's signature says that it
//! writes, and on whose behalf.

use std::ops::Deref;
use std::sync::Arc;

use sea_orm::sea_query::UpdateStatement;

use super::Db;
use crate::kernel::audit::entry::Entry;
use crate::kernel::idempotency::IdempotentRequest;

/// The database, and what each transaction stores besides its own changes. Derefs to the database,
/// for reading.
#[derive(Clone, Debug)]
pub struct WriteContext {
    pub(super) db: Db,
    pub(super) yields_to_requests: bool,
    pub(super) request: RequestRecord,
}

/// The records of a request, or of work in the background, that are committed with its changes.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestRecord {
    pub idempotency: Option<Arc<IdempotentRequest>>,
    pub audit_entry: Option<Arc<Entry>>,
    /// The noun of the mutation's result, which its key and its audit entry refer to.
    pub result_noun: Option<&'static str>,
    /// Updates that are made first.
    pub claims: Arc<[UpdateStatement]>,
}

impl Db {
    /// Context of writes without an idempotency key and without an audit entry.
    pub fn write(&self) -> WriteContext {
        WriteContext { db: self.clone(), yields_to_requests: false, request: RequestRecord::default() }
    }

    /// Context of the engine's writes: on SQLite, requests' writes go first.
    pub fn write_in_background(&self) -> WriteContext {
        WriteContext { yields_to_requests: true, ..self.write() }
    }
}

impl WriteContext {
    /// Adds an idempotency key; each transaction claims it and stores its result.
    #[must_use]
    pub fn with_idempotency(mut self, request: IdempotentRequest) -> Self {
        self.request.idempotency = Some(Arc::new(request));
        self
    }

    /// Adds an audit entry; the first transaction that commits writes it.
    #[must_use]
    pub fn with_audit_entry(mut self, entry: Option<Arc<Entry>>) -> Self {
        self.request.audit_entry = entry;
        self
    }

    /// Adds the noun of the object that the mutation returns.
    #[must_use]
    pub fn with_result_noun(mut self, noun: &'static str) -> Self {
        self.request.result_noun = Some(noun);
        self
    }

    /// Adds updates that each transaction makes first. If one of them changes no row, the transaction is
    /// rejected with CONFLICT: others were faster, or the work is no longer wanted.
    #[must_use]
    pub fn with_claims(mut self, claims: Vec<UpdateStatement>) -> Self {
        self.request.claims = claims.into();
        self
    }

    /// The same writes without the request's records: neither its idempotency key nor its audit entry.
    #[must_use]
    pub fn without_request(&self) -> Self {
        Self { request: RequestRecord::default(), ..self.clone() }
    }

    /// The request with its idempotency key, if it has one.
    pub fn idempotency(&self) -> Option<&IdempotentRequest> {
        self.request.idempotency.as_deref()
    }
}

impl Deref for WriteContext {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}
