//! Requests: variables that are omitted, wrong scalars, headers, every argument of the schema under odd values.
