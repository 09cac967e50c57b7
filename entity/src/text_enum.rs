//! Declares enums that use the same word in the database, in GraphQL and in JSON.

/// Declares enums whose variants are stored, shown and parsed as SCREAMING_SNAKE_CASE words.
macro_rules! text_enum {
    ($($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, sea_orm::EnumIter, sea_orm::DeriveActiveEnum,
            async_graphql::Enum, serde::Serialize, serde::Deserialize,
        )]
        #[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum $name { $($(#[$vmeta])* $variant),* }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&sea_orm::ActiveEnum::to_value(self))
            }
        }

        impl crate::columns::Blank for $name {
            fn blank() -> Self {
                [$(Self::$variant),*][0]
            }
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub fn all() -> Vec<Self> {
                <Self as sea_orm::Iterable>::iter().collect()
            }
        }
    )*};
}
