//! Idempotency keys: a client gives a mutation a key, and repeating the request has no further
//! effect (docs/architecture.md).
//!
//! A key is unique per org, principal and mutation, and kept for seven days. Its row is the first
//! write of the transaction that it belongs to, so that a concurrent duplicate waits for the
//! outcome; a transaction that creates nothing (a rejection, a failed preflight) leaves no key
//! behind.

pub mod expiry;

use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use entity::id::{Id, OrgId};
use entity::idempotency_key::Entity;
use sea_orm::{ConnectionTrait, EntityTrait, Statement};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// The ids that a transaction created or changed, in the order of their registration.
#[derive(Debug, Default)]
pub(crate) struct ResultIds(Vec<(&'static str, Uuid, String)>);

impl ResultIds {
    /// Adds the id of an object.
    pub(crate) fn add<I: Id>(&mut self, id: I) {
        self.0.push((I::PREFIX, id.uuid(), id.to_string()));
    }

    /// The object that a mutation returns: the first of its noun, or the first of all if it may be
    /// of any noun (""). Outside of such a mutation, the created object, if there is exactly one.
    pub(crate) fn answer(self, noun: Option<&'static str>) -> Option<(Uuid, String)> {
        let mut all = self.0.into_iter();
        let found = match noun {
            Some("") => all.next(),
            Some(noun) => all.find(|(of, _, _)| *of == noun),
            None => all.next().filter(|first| all.all(|other| other.1 == first.1)),
        };
        found.map(|(_, id, shown)| (id, shown))
    }
}

/// One request with its idempotency key.
#[derive(Debug)]
pub struct IdempotentRequest {
    org_id: OrgId,
    principal: String,
    mutation: String,
    key: String,
    input: String,
    result: OnceLock<Uuid>,
    detail: OnceLock<Value>,
}

impl IdempotentRequest {
    /// Creates the request. `input` is the whole input without the key. Errors: BAD_USER_INPUT if
    /// the key is empty or too long.
    pub fn new(viewer: &Viewer, mutation: &str, key: &str, input: &Value) -> Result<Self> {
        if key.trim().is_empty() || key.chars().nth(limits::NAME_CHARS).is_some() {
            let most = limits::NAME_CHARS;
            return Err(Refusal::input("idempotencyKey", format!("must have 1 to {most} characters")).into());
        }
        let actor = viewer.actor();
        let hash = Sha256::digest(serde_json::to_vec(input)?);
        Ok(Self {
            org_id: viewer.org_id,
            principal: actor.member_id.map_or(actor.name, |id| id.to_string()),
            mutation: mutation.to_owned(),
            key: crate::kernel::storable::nfc(key).into_owned(),
            input: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            result: OnceLock::new(),
            detail: OnceLock::new(),
        })
    }

    /// The result of an earlier request with this key, if there was one. Errors: BAD_USER_INPUT if
    /// its input was different.
    pub async fn lookup(&self, db: &impl ConnectionTrait) -> Result<Option<Uuid>> {
        let id = (self.org_id, self.principal.clone(), self.mutation.clone(), self.key.clone());
        let Some(row) = Entity::find_by_id(id).one(db).await? else { return Ok(None) };
        if row.input != self.input {
            let message = format!("was used before, at {}, with another input", row.created_at.to_rfc3339());
            return Err(Refusal::input("idempotencyKey", message).into());
        }
        if let Some(detail) = row.detail {
            let _ = self.detail.set(detail);
        }
        if let Some(result) = row.result {
            let _ = self.result.set(result);
        }
        Ok(row.result)
    }

    /// The result of an earlier request, known after `lookup` or after a transaction that failed
    /// because of it.
    pub fn repeat(&self) -> Option<Uuid> {
        self.result.get().copied()
    }

    /// The detail that the earlier request stored with its result, known with `repeat`.
    pub fn detail(&self) -> Option<&Value> {
        self.detail.get()
    }

    /// The transaction's first statement: waits for a concurrent duplicate. Errors: CONFLICT if the
    /// duplicate was first.
    pub(crate) async fn claim(&self, db: &impl ConnectionTrait, at: DateTime<Utc>) -> Result<()> {
        let sql = "INSERT INTO idempotency_key (org_id, asker, mutation, key, input, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        let values = [
            self.org_id.into(),
            self.principal.as_str().into(),
            self.mutation.as_str().into(),
            self.key.as_str().into(),
            self.input.as_str().into(),
            at.into(),
        ];
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        if db.execute_raw(statement).await?.rows_affected() == 0 {
            self.lookup(db).await?;
            return Err(completed());
        }
        Ok(())
    }

    /// Checks that no duplicate has completed since the request began, for an answer without a
    /// transaction: what it says may be the duplicate's own doing. Errors: CONFLICT.
    pub(crate) async fn check_unused(&self, db: &impl ConnectionTrait) -> Result<()> {
        match self.lookup(db).await? {
            Some(_) => Err(completed()),
            None => Ok(()),
        }
    }

    /// The transaction's last statement: stores the result with the key, or deletes the key if
    /// there is none.
    pub(crate) async fn store_result(
        &self,
        db: &impl ConnectionTrait,
        result: Option<Uuid>,
        detail: Option<Value>,
    ) -> Result<()> {
        let sql = match result {
            Some(_) => {
                "UPDATE idempotency_key SET made = $5, detail = $6 \
                 WHERE org_id = $1 AND asker = $2 AND mutation = $3 AND key = $4"
            }
            None => "DELETE FROM idempotency_key WHERE org_id = $1 AND asker = $2 AND mutation = $3 AND key = $4",
        };
        let mut values = vec![
            self.org_id.into(),
            self.principal.as_str().into(),
            self.mutation.as_str().into(),
            self.key.as_str().into(),
        ];
        if let Some(result) = result {
            values.extend([result.into(), detail.into()]);
        }
        db.execute_raw(Statement::from_sql_and_values(db.get_database_backend(), sql, values)).await?;
        Ok(())
    }
}

fn completed() -> Error {
    Refusal::conflict("a request with this idempotencyKey was completed already").into()
}
