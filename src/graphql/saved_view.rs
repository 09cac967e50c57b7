//! Saved views: the object, its queries and its mutations.

use async_graphql::{Context, ID, InputObject, Json, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::SavedViewId;
use serde_json::Value;

use super::definition::{DeleteInput, DeletePayload};
use super::list::{List, Totals, args, list};
use super::loader::{load, nested_page};
use super::member::Member;
use super::record::given;
use super::{db, viewer};
use crate::domain::people::saved_view as noun;
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::error::Error;
use crate::kernel::validate;

/// A saved view of a page of a front end: its filter, order and settings under a name. Private to its
/// owner, or shared with the org.
pub struct SavedView(pub entity::saved_view::Model);

impl RowFields for SavedView {}

/// A saved view of a page of a front end: its filter, order and settings under a name. Private to its
/// owner, or shared with the org.
#[Object]
impl SavedView {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The page of the front end that it belongs to, a name of the front end's choice.
    async fn page(&self) -> &str {
        &self.0.page
    }

    /// The name, unique among its owner's views of the page.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The filter as an object in the front end's own form, which the server does not interpret; null
    /// if none was saved.
    async fn filter(&self) -> Option<Counted<Json<Value>>> {
        self.0.filter.clone().map(Json).map(Counted)
    }

    /// The order in the front end's own form, which the server does not interpret; null if none was
    /// saved.
    async fn order_by(&self) -> Option<Counted<Json<Value>>> {
        self.0.order_by.clone().map(Json).map(Counted)
    }

    /// Further settings as an object in the front end's own form, such as columns; null if none were
    /// saved.
    async fn settings(&self) -> Option<Counted<Json<Value>>> {
        self.0.settings.clone().map(Json).map(Counted)
    }

    /// True if the whole org sees it, false if only its owner does.
    async fn shared(&self) -> bool {
        self.0.shared
    }

    /// The member whose view it is; null for a shared view whose owner was deleted.
    async fn owner(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        Ok(load(ctx, self.0.owner_id).await?.map(Member))
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// Query fields for saved views.
#[derive(Default)]
pub struct SavedViewQuery;

#[Object]
impl SavedViewQuery {
    /// Returns the saved view with this id; null if the org has none, and for the private view of
    /// another member.
    async fn saved_view(&self, ctx: &Context<'_>, id: ID) -> Result<Option<SavedView>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<SavedViewId>("id", &id)?).await?.map(SavedView))
    }

    /// The views that the org shares and the viewer's own, in the alphabetical order of their names.
    /// Page with `first` and `after`, or `last` and `before`; page size 50 by default, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    async fn saved_views(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only the views of this page of the front end; null: of all pages.")] page: Option<String>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<SavedView>> {
        let window = noun::window(viewer(ctx), page.as_deref(), args(first, after, last, before))?;
        let found = nested_page(ctx, window, true).await?;
        Ok(list(found, Totals::SavedViews(page), SavedView))
    }
}

/// A view to save: a new one, or with an `id` the changes to an existing one, whose omitted fields stay
/// as they are.
#[derive(InputObject)]
pub struct SaveViewInput {
    /// Id of the view to change; null creates one, which the viewer owns.
    id: Option<ID>,
    /// Page of the front end that the view belongs to, a name of the front end's choice. Required for a
    /// new view. It can't be changed: with an `id`, null or the view's page.
    page: Option<String>,
    /// The name, unique among the owner's views of the page. Required for a new view; null leaves it
    /// unchanged.
    name: Option<String>,
    /// The filter, a JSON object of at most 16 KiB in the front end's own form; null removes it.
    filter: MaybeUndefined<Json<Value>>,
    /// The order, JSON of at most 16 KiB in the front end's own form; null removes it.
    order_by: MaybeUndefined<Json<Value>>,
    /// Further settings such as columns, a JSON object of at most 16 KiB in the front end's own form;
    /// null removes them.
    settings: MaybeUndefined<Json<Value>>,
    /// True to show the view to the whole org, which requires the role MANAGER; false to make it
    /// private, which only its owner can do. Null: a new view is private, an existing one stays as it
    /// is.
    shared: Option<bool>,
    /// Expected revision: rejected with CONFLICT if the view has changed since. Null: not checked, as
    /// for a new view.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The saved view.
#[derive(SimpleObject)]
pub struct SaveViewPayload {
    /// The view after the change.
    saved_view: SavedView,
}

/// Mutations for saved views.
#[derive(Default)]
pub struct SavedViewMutation;

#[Object]
impl SavedViewMutation {
    /// Creates a view of the viewer, or changes one. Others see it only if it is shared; a shared view
    /// is changed by its owner, with the role MANAGER, and by admins. Rejected with NOT_FOUND, also for
    /// the private view of another member; with FORBIDDEN; with BAD_USER_INPUT, naming the field; with
    /// CONFLICT if the revision has changed, and if the owner has another view of this name on the
    /// page; with LIMIT_EXCEEDED for more than 1,000 views of a member or 20,000 of the org.
    async fn save_view(&self, ctx: &Context<'_>, input: SaveViewInput) -> Result<SaveViewPayload> {
        let id = input.id.as_ref().map(|id| validate::id::<SavedViewId>("id", id)).transpose()?;
        let json = |value: &MaybeUndefined<Json<Value>>| given(value).map(|value| value.map(|Json(value)| value));
        let fields = noun::Fields {
            filter: json(&input.filter),
            order_by: json(&input.order_by),
            settings: json(&input.settings),
            page: input.page,
            name: input.name,
            shared: input.shared,
        };
        let expected = input.expected_revision;
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::save(db, viewer(ctx), id, expected, &fields));
        Ok(SaveViewPayload { saved_view: SavedView(row) })
    }

    /// Deletes a view: the viewer's own, or as an admin a shared one. Rejected with NOT_FOUND, also for
    /// the private view of another member; with FORBIDDEN for the shared view of another member; with
    /// CONFLICT if the revision has changed.
    async fn delete_view(&self, ctx: &Context<'_>, input: DeleteInput) -> Result<DeletePayload> {
        let id = validate::id::<SavedViewId>("id", &input.id)?;
        let (viewer, expected) = (viewer(ctx), input.expected_revision);
        let deleted = idempotent!(
            ctx,
            input.idempotency_key,
            |db| async { noun::delete(db, viewer, id, expected).await.map(|was| was.id) },
            |again| std::future::ready(Ok::<SavedViewId, Error>(again))
        );
        Ok(DeletePayload { deleted_id: deleted.to_string().into() })
    }
}
