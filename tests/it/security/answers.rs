//! Answers keep the types of the schema, whatever is asked.
