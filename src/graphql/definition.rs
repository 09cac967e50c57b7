//! What all definitions are asked for in the same way: one by its id, and all of the org.

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
                let id = $crate::input::id::<$id>("id", &id)?;
                let (db, viewer) = ($crate::graphql::db(ctx), $crate::graphql::viewer(ctx));
                Ok(noun::find(db.read(), viewer, id).await?.map($object))
            }

            /// All of the org, the newest first. `first` after a cursor, or `last` before one; 50 unless said, at most
            /// 500.
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
