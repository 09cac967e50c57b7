//! A writer's history: each change with its actor and time.

use entity::id::{WriterId, WriterVersionId};
use entity::writer::Model;
use serde_json::{Value, json};

use crate::kernel::scoped::differences;

scoped!(writer_version, WriterVersionId, "writer version");
versioned!(writer_version, writer, writer_id: WriterId, WriterVersionId);

/// The differences between two versions.
pub(super) fn changes(before: &Model, after: &Model) -> Value {
    let fields = |row: &Model| {
        [
            ("name", json!(row.name)),
            ("kind", json!(row.kind)),
            ("instructions", json!(row.instructions)),
            ("body", json!(row.body)),
        ]
    };
    differences(fields(before), fields(after))
}
