//! Keys by which programs ask.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::ApiKeyId;
use entity::member::Role;

use super::agent::Agent;
use super::loader::{load, must_load};
use super::member::Member;
use super::{Actor, viewer};
use crate::domain::people::api_key as noun;
use crate::kernel::validate;

/// A key by which a program asks; its secret is shown once, when it is made.
pub struct ApiKey(pub entity::api_key::Model);

/// A key by which a program asks; its secret is shown once, when it is made.
#[Object]
impl ApiKey {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What it is for.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it may do, as far as its member may.
    async fn role(&self) -> Role {
        self.0.role
    }

    /// As whom it asks.
    async fn member(&self, ctx: &Context<'_>) -> Result<Member> {
        Ok(Member(must_load(ctx, self.0.member_id).await?))
    }

    /// The agent that asks by it; null where the member does.
    async fn agent(&self, ctx: &Context<'_>) -> Result<Option<Agent>> {
        Ok(load(ctx, self.0.agent_id).await?.map(Agent))
    }

    /// Who made it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// From when on it is worth nothing; null where it does not expire.
    async fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.expires_at
    }

    /// When it was last used, to the minute; null where it never was.
    async fn last_used_at(&self) -> Option<DateTime<Utc>> {
        self.0.last_used_at
    }

    /// When it was revoked; null where it was not.
    async fn revoked_at(&self) -> Option<DateTime<Utc>> {
        self.0.revoked_at
    }
}

definition!(ApiKeyQuery: api_key, api_keys of ApiKey, ApiKeyId, ApiKeys);

/// What is to be made.
#[derive(InputObject)]
pub struct CreateApiKeyInput {
    /// What it is for.
    name: String,
    /// What it may do; no more than its member may.
    role: Role,
    /// As whom it asks; who makes it, unless said.
    member_id: Option<ID>,
    /// The agent that asks by it; for the role WORKER, which needs one to take steps.
    agent_id: Option<ID>,
    /// From when on it is worth nothing; it does not expire unless said.
    expires_at: Option<DateTime<Utc>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Which key is to be revoked.
#[derive(InputObject)]
pub struct RevokeApiKeyInput {
    /// Which one.
    id: ID,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// The key that was made.
#[derive(SimpleObject)]
pub struct CreateApiKeyPayload {
    /// As it is now.
    api_key: ApiKey,
    /// The key itself, to be sent as `Authorization: Bearer …`. Shown this once; null when it is asked again under the same
    /// idempotency key.
    key: Option<String>,
}

/// The key that was revoked.
#[derive(SimpleObject)]
pub struct RevokeApiKeyPayload {
    /// As it is now.
    api_key: ApiKey,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct ApiKeyMutation;

#[Object]
impl ApiKeyMutation {
    /// Makes a key, and shows it once. On a loopback address without keys the server goes on in development mode until it is
    /// started again; requests that show a key are judged by it from now on. The first key must be an admin's (role ADMIN) of
    /// the built-in org: another one is refused, since nobody could make the next. Refused with BAD_USER_INPUT, NOT_FOUND.
    async fn create_api_key(&self, ctx: &Context<'_>, input: CreateApiKeyInput) -> Result<CreateApiKeyPayload> {
        let member_id = input.member_id.as_ref().map(|id| validate::id("memberId", id)).transpose()?;
        let agent_id = input.agent_id.as_ref().map(|id| validate::id("agentId", id)).transpose()?;
        let fields =
            noun::Fields { name: input.name, role: input.role, member_id, agent_id, expires_at: input.expires_at };
        let (row, key) = idempotent!(
            ctx,
            input.idempotency_key,
            |db| async { noun::create(db, viewer(ctx), &fields).await.map(|(row, key)| (row, Some(key))) },
            |id| async move { noun::must_find(super::db(ctx).read(), viewer(ctx), id).await.map(|row| (row, None)) }
        );
        Ok(CreateApiKeyPayload { api_key: ApiKey(row), key })
    }

    /// Revokes a key: it is worth nothing from now on, and sockets and streams that are open by it are ended with 4403.
    /// Twice is once. Refused with NOT_FOUND, and with CONFLICT for the last key by which an admin of the org can
    /// authenticate: make another one first.
    async fn revoke_api_key(&self, ctx: &Context<'_>, input: RevokeApiKeyInput) -> Result<RevokeApiKeyPayload> {
        let id = validate::id("id", &input.id)?;
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::revoke(db, viewer(ctx), id, false));
        Ok(RevokeApiKeyPayload { api_key: ApiKey(row) })
    }
}
