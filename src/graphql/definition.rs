//! What all definitions are asked for in the same way: one by its id, all of the org; to be deleted.

use async_graphql::{ID, InputObject, SimpleObject};

/// What is to be deleted.
#[derive(InputObject)]
pub struct DeleteInput {
    /// Which one.
    pub id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    pub expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same id.
    pub idempotency_key: Option<String>,
}

/// What was deleted.
#[derive(SimpleObject)]
pub struct DeletePayload {
    /// The id that it had.
    pub deleted_id: ID,
}

/// Declares a noun's query root: `$one(id)` and `$all(first, after, last, before)`.
macro_rules! definition {
    ($root:ident: $one:ident, $all:ident of $object:ident, $id:ty, $totals:ident) => {
        /// The noun's part of the query root.
        #[derive(Default)]
        pub struct $root;

        #[async_graphql::Object]
        impl $root {
            /// One by its id; null where the org has none with it.
            async fn $one(
                &self,
                ctx: &async_graphql::Context<'_>,
                id: async_graphql::ID,
            ) -> async_graphql::Result<Option<$object>> {
                let id = $crate::kernel::validate::id::<$id>("id", &id)?;
                let (db, viewer) = ($crate::graphql::db(ctx), $crate::graphql::viewer(ctx));
                Ok(noun::find(db.read(), viewer, id).await?.map($object))
            }

            /// All of the org, the newest first. `first` after a cursor, or `last` before one; 50 unless said, at most
            /// 500.
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

/// Declares the mutation that deletes one of a noun.
macro_rules! deletion {
    ($root:ident: $delete:ident of $id:ty) => {
        /// The noun's deletion.
        #[derive(Default)]
        pub struct $root;

        #[async_graphql::Object]
        impl $root {
            /// Deletes one. Refused with NOT_FOUND; with CONFLICT while it is in use, where `usedBy` names by what, or when
            /// its revision has moved on.
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
