//! Links between records: the object, its list on a record, and the mutations.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::{RecordId, RecordLinkId};

use super::Record;
use crate::domain::audience::record::link::{self as noun, LinksOf};
use crate::graphql::definition::DeletePayload;
use crate::graphql::list::{List, Totals, list};
use crate::graphql::loader::{must_load, nested_page};
use crate::graphql::selection::RowFields;
use crate::graphql::{Actor, db, viewer};
use crate::kernel::error::Error;
use crate::kernel::page::Args;
use crate::kernel::validate;

/// A link from one record to another, with a role: lead → partnership.
pub struct RecordLink(pub entity::record_link::Model);

impl RowFields for RecordLink {}

/// A link from one record to another, with a role: lead → partnership.
#[Object]
impl RecordLink {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The record that the link goes from.
    async fn from(&self, ctx: &Context<'_>) -> Result<Record> {
        Ok(Record(must_load(ctx, self.0.from_id).await?))
    }

    /// The record that the link leads to.
    async fn to(&self, ctx: &Context<'_>) -> Result<Record> {
        Ok(Record(must_load(ctx, self.0.to_id).await?))
    }

    /// Role of the record that the link leads to, for the other: `partnership`, `successor` …
    async fn role(&self) -> &str {
        &self.0.role
    }

    /// The actor that created it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

/// Returns one page of a record's links.
pub(super) async fn links(ctx: &Context<'_>, of: LinksOf, args: Args) -> Result<List<RecordLink>> {
    let page = nested_page(ctx, noun::window(db(ctx).dialect(), viewer(ctx), &of, args)?, false).await?;
    Ok(list(page, Totals::RecordLinks(of), RecordLink))
}

/// Query fields for links between records.
#[derive(Default)]
pub struct RecordLinkQuery;

#[Object]
impl RecordLinkQuery {
    /// Returns the link with this id; null if the org has none.
    async fn record_link(&self, ctx: &Context<'_>, id: ID) -> Result<Option<RecordLink>> {
        let id = validate::id::<RecordLinkId>("id", &id)?;
        Ok(noun::find(db(ctx).read(), viewer(ctx), id).await?.map(RecordLink))
    }
}

/// The records to link.
#[derive(InputObject)]
pub struct LinkRecordsInput {
    /// Id of the record that the link goes from.
    from_id: ID,
    /// Id of the record that the link leads to; another one.
    to_id: ID,
    /// Role of the second record for the first, for example `partnership`: 1 to 40 lower-case letters
    /// or `_`, the first a letter.
    role: String,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The link to remove, by its records and its role.
#[derive(InputObject)]
pub struct UnlinkRecordsInput {
    /// Id of the record that the link goes from.
    from_id: ID,
    /// Id of the record that the link leads to.
    to_id: ID,
    /// Role of the link.
    role: String,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original id.
    idempotency_key: Option<String>,
}

/// The link.
#[derive(SimpleObject)]
pub struct RecordLinkPayload {
    /// The new link, or the one that was there already.
    record_link: RecordLink,
}

/// Mutations for links between records.
#[derive(Default)]
pub struct RecordLinkMutation;

#[Object]
impl RecordLinkMutation {
    /// Links a record to another one, with a role. Records may be linked with several roles, and in
    /// both directions; linked again with the same role, the mutation returns the existing link and
    /// changes nothing. Rejected with NOT_FOUND; with BAD_USER_INPUT, naming the field; with CONFLICT
    /// for an erased record; with LIMIT_EXCEEDED for more than 2,000 links from one record, or to one.
    async fn link_records(&self, ctx: &Context<'_>, input: LinkRecordsInput) -> Result<RecordLinkPayload> {
        let (from, to) = ends(&input.from_id, &input.to_id)?;
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::link(db, viewer(ctx), from, to, &input.role));
        Ok(RecordLinkPayload { record_link: RecordLink(row) })
    }

    /// Removes the link with a role between two records. Rejected with BAD_USER_INPUT, and with
    /// NOT_FOUND if they are not linked so.
    async fn unlink_records(&self, ctx: &Context<'_>, input: UnlinkRecordsInput) -> Result<DeletePayload> {
        let (from, to) = ends(&input.from_id, &input.to_id)?;
        let viewer = viewer(ctx);
        let deleted = idempotent!(
            ctx,
            input.idempotency_key,
            |db| async { noun::unlink(db, viewer, from, to, &input.role).await.map(|was| was.id) },
            |again| std::future::ready(Ok::<RecordLinkId, Error>(again))
        );
        Ok(DeletePayload { deleted_id: deleted.to_string().into() })
    }
}

fn ends(from: &ID, to: &ID) -> Result<(RecordId, RecordId)> {
    Ok((validate::id("fromId", from)?, validate::id("toId", to)?))
}
