//! API keys: the credentials of programs.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::ApiKeyId;
use entity::member::Role;

use super::agent::Agent;
use super::loader::{load, must_load};
use super::member::Member;
use super::{Actor, viewer};
use crate::domain::people::api_key as noun;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// A credential for a program. Its secret is returned only once, by `createApiKey`.
pub struct ApiKey(pub entity::api_key::Model);

impl RowFields for ApiKey {}

/// A credential for a program. Its secret is returned only once, by `createApiKey`.
#[Object]
impl ApiKey {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Name that tells what the key is used for.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The key's role; its permissions never exceed those of its member.
    async fn role(&self) -> Role {
        self.0.role
    }

    /// The member on whose behalf the key makes requests.
    async fn member(&self, ctx: &Context<'_>) -> Result<Member> {
        Ok(Member(must_load(ctx, self.0.member_id).await?))
    }

    /// The agent that uses the key; null if the key is used for the member itself.
    async fn agent(&self, ctx: &Context<'_>) -> Result<Option<Agent>> {
        Ok(load(ctx, self.0.agent_id).await?.map(Agent))
    }

    /// The actor that created the key.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Expiry; null if the key does not expire.
    async fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.expires_at
    }

    /// Time of the last use, to the minute; null if it was never used.
    async fn last_used_at(&self) -> Option<DateTime<Utc>> {
        self.0.last_used_at
    }

    /// Time of revocation; null if it is not revoked.
    async fn revoked_at(&self) -> Option<DateTime<Utc>> {
        self.0.revoked_at
    }
}

definition!(ApiKeyQuery: api_key, api_keys of ApiKey, ApiKeyId, ApiKeys);

/// Fields of a new API key.
#[derive(InputObject)]
pub struct CreateApiKeyInput {
    /// Name that tells what the key is used for.
    name: String,
    /// The key's role; at most that of its member.
    role: Role,
    /// Id of the member on whose behalf the key makes requests; the viewer by default.
    member_id: Option<ID>,
    /// Id of the agent that uses the key; for the role WORKER, which needs an agent to claim steps.
    agent_id: Option<ID>,
    /// Expiry; by default the key does not expire.
    expires_at: Option<DateTime<Utc>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the API key to revoke.
#[derive(InputObject)]
pub struct RevokeApiKeyInput {
    /// Id of the API key.
    id: ID,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created API key, with its secret.
#[derive(SimpleObject)]
pub struct CreateApiKeyPayload {
    /// The created API key.
    api_key: ApiKey,
    /// The secret, to be sent as `Authorization: Bearer …`. Returned only this once; null if the
    /// request repeats an idempotency key.
    key: Option<String>,
}

/// The revoked API key.
#[derive(SimpleObject)]
pub struct RevokeApiKeyPayload {
    /// The API key after the revocation.
    api_key: ApiKey,
}

/// Mutations for API keys.
#[derive(Default)]
pub struct ApiKeyMutation;

#[Object]
impl ApiKeyMutation {
    /// Creates a key and returns its secret once. On a loopback address without keys the server
    /// stays in development mode until it restarts; requests with a credential are authenticated
    /// from now on. The first key must have the role ADMIN in the built-in org: any other is
    /// rejected, since nobody could create the next one. Rejected with BAD_USER_INPUT or NOT_FOUND.
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

    /// Revokes a key: it is invalid from now on, and open sockets and streams that use it are
    /// closed with 4403. Revoking it again has no effect. Rejected with NOT_FOUND, and with
    /// CONFLICT for the last key that lets an admin of the org authenticate: create another one
    /// first.
    async fn revoke_api_key(&self, ctx: &Context<'_>, input: RevokeApiKeyInput) -> Result<RevokeApiKeyPayload> {
        let id = validate::id("id", &input.id)?;
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::revoke(db, viewer(ctx), id, false));
        Ok(RevokeApiKeyPayload { api_key: ApiKey(row) })
    }
}
