//! `eraseRecord`: empties what is personal of a record, for good.

use async_graphql::{Context, ID, InputObject, Object, Result};
use entity::id::RecordId;

use super::{Record, RecordPayload, noun};
use crate::domain::run::erasure;
use crate::graphql::viewer;
use crate::kernel::validate;

/// Identifies the record to erase.
#[derive(InputObject)]
pub struct EraseRecordInput {
    /// Id of the record.
    id: ID,
    /// Reason, for example the person's request; stored in the audit alone. Do not name the person.
    reason: String,
    /// Expected revision: rejected with CONFLICT if the record has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result. Do not name the person.
    idempotency_key: Option<String>,
}

/// Mutation that erases a record.
#[derive(Default)]
pub struct RecordErasure;

#[Object]
impl RecordErasure {
    /// Erases a person: empties what is personal of a record in all tables, for good, and keeps ids,
    /// statuses, times and counts. When the mutation returns, the record is empty and opted out, its
    /// addresses are suppressed by one-way digests, its open steps are skipped, and its links are
    /// removed; messages, replies, activities, events and all else are emptied in the background until
    /// `erasureCompletedAt` is set. Rejected with NOT_FOUND or BAD_USER_INPUT, and with CONFLICT if the revision has changed
    /// or the record was erased before.
    async fn erase_record(&self, ctx: &Context<'_>, input: EraseRecordInput) -> Result<RecordPayload> {
        let id = validate::id::<RecordId>("id", &input.id)?;
        let erased = idempotent!(ctx, input.idempotency_key, |db| erasure::erase(
            db,
            viewer(ctx),
            id,
            &input.reason,
            input.expected_revision
        ));
        Ok(RecordPayload { record: Record(erased) })
    }
}
