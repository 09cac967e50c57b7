//! The operations of operations.graphql, checked at compile time against the server's schema.

use graphql_client::GraphQLQuery;

type DateTime = String;

macro_rules! operations {
    ($($name:ident),*) => {$(
        #[derive(GraphQLQuery)]
        #[graphql(
            schema_path = "../../schema.graphql",
            query_path = "operations.graphql",
            variables_derives = "Default",
            response_derives = "Debug, PartialEq",
            skip_serializing_none
        )]
        pub struct $name;
    )*};
}

operations!(Find, Launch, Cancel, Changes, Log, Runs);
