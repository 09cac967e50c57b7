//! A writer's history: each change with its actor and time.

use entity::id::{WriterId, WriterVersionId};

scoped!(writer_version, WriterVersionId, "writer version");
versioned!(writer_version, writer, writer_id: WriterId, WriterVersionId);
changes!(writer: name as "name", kind as "kind", instructions as "instructions", body as "body");
