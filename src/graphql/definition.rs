//! Macros for the fields that all definitions share: one by its id, all of the org, and deletion.

use async_graphql::{ID, InputObject, SimpleObject};

/// Identifies the object to delete.
#[derive(InputObject)]
pub struct DeleteInput {
    /// Id of the object.
    pub id: ID,
    /// Expected revision: rejected with CONFLICT if it has changed since. Null: not checked.
    pub expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original id.
    pub idempotency_key: Option<String>,
}

/// The result of a deletion.
#[derive(SimpleObject)]
pub struct DeletePayload {
    /// Id of the deleted object.
    pub deleted_id: ID,
}

/// Declares an object's query fields: `$one(id)` and `$all(first, after, last, before)`. It is a
/// macro because `#[Object]` takes the fields' names from the functions.
macro_rules! definition {
    ($root:ident: $one:ident, $all:ident of $object:ident, $id:ty, $totals:ident) => {
        /// Query fields for one object by its id and for the list of all.
        #[derive(Default)]
        pub struct $root;

        #[async_graphql::Object]
        impl $root {
            /// Returns the object with this id; null if the org has none.
            async fn $one(
                &self,
                ctx: &async_graphql::Context<'_>,
                id: async_graphql::ID,
            ) -> async_graphql::Result<Option<$object>> {
                let id = $crate::kernel::validate::id::<$id>("id", &id)?;
                let (db, viewer) = ($crate::graphql::db(ctx), $crate::graphql::viewer(ctx));
                Ok(noun::find(db.read(), viewer, id).await?.map($object))
            }

            /// All of the org, newest first. Page with `first` and `after`, or `last` and `before`;
            /// page size 50 by default, at most 500.
            #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
            async fn $all(
                &self,
                ctx: &async_graphql::Context<'_>,
                first: Option<i32>,
                after: Option<String>,
                last: Option<i32>,
                before: Option<String>,
            ) -> async_graphql::Result<$crate::graphql::list::List<$object>> {
                use $crate::graphql::list::{Totals, args, list};
                let (db, viewer) = ($crate::graphql::db(ctx), $crate::graphql::viewer(ctx));
                let page = noun::page(db.read(), viewer, &args(first, after, last, before)).await?;
                Ok(list(page, Totals::$totals, $object))
            }
        }
    };
}

/// Declares the mutation that deletes an object.
macro_rules! deletion {
    ($root:ident: $delete:ident of $id:ty) => {
        /// Deletion of one object.
        #[derive(Default)]
        pub struct $root;

        #[async_graphql::Object]
        impl $root {
            /// Deletes the object. Rejected with NOT_FOUND; with CONFLICT if its revision has
            /// changed, or while it is in use: `usedBy` then names its users.
            async fn $delete(
                &self,
                ctx: &async_graphql::Context<'_>,
                input: $crate::graphql::definition::DeleteInput,
            ) -> async_graphql::Result<$crate::graphql::definition::DeletePayload> {
                let id = $crate::kernel::validate::id::<$id>("id", &input.id)?;
                let (viewer, expected) = ($crate::graphql::viewer(ctx), input.expected_revision);
                let deleted = idempotent!(
                    ctx,
                    input.idempotency_key,
                    |db| async { noun::delete(db, viewer, id, expected).await.map(|was| was.id) },
                    |again| std::future::ready(Ok::<$id, $crate::kernel::error::Error>(again))
                );
                Ok($crate::graphql::definition::DeletePayload { deleted_id: deleted.to_string().into() })
            }
        }
    };
}
