//! Lookup of the messages that a batch of steps sends.

use entity::communication;
use entity::id::*;
use entity::step;
use sea_orm::sea_query::Query;
use sea_orm::{ColumnTrait, Condition};
use uuid::Uuid;

use crate::domain::plan::run_template;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;

/// The key by which a step finds its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageLookup {
    /// The recipient: another step drafted the message.
    Recipient {
        /// True if the run has messages of `email` steps, too.
        mixed: bool,
    },
    /// The step, which has a message of its own.
    Step,
    /// The message's id, for messages that a person has released.
    Message,
}

impl MessageLookup {
    /// A message's key.
    pub(in crate::step_kind) fn key(self, message: &communication::Model) -> Uuid {
        match self {
            Self::Recipient { .. } => message.run_record_id.0,
            Self::Step => message.step_id.0,
            Self::Message => message.id.0,
        }
    }

    /// The condition on messages with one of some keys.
    pub(in crate::step_kind) fn of(self, dialect: Dialect, keys: &[Uuid]) -> Condition {
        // The run may have messages to the same recipients that people wrote from within steps.
        let by_step = || Condition::all().add(communication::COLUMN.action_number.eq(0));
        match self {
            Self::Recipient { mixed: false } => {
                let recipients = keys.iter().map(|key| RunRecordId(*key));
                by_step().add(any_of(dialect, communication::COLUMN.run_record_id, recipients))
            }
            Self::Recipient { mixed: true } => {
                let recipients = || keys.iter().map(|key| RunRecordId(*key));
                let mut drafting = Query::select();
                drafting
                    .column(step::Column::Id)
                    .from(step::Entity)
                    .and_where(any_of(dialect, step::COLUMN.run_record_id, recipients()))
                    .and_where(step::Column::Kind.eq(run_template::DRAFT));
                by_step()
                    .add(any_of(dialect, communication::COLUMN.run_record_id, recipients()))
                    .add(communication::COLUMN.step_id.in_subquery(drafting))
            }
            Self::Step => {
                by_step().add(any_of(dialect, communication::COLUMN.step_id, keys.iter().map(|key| StepId(*key))))
            }
            Self::Message => Condition::all().add(any_of(
                dialect,
                communication::COLUMN.id,
                keys.iter().map(|key| CommunicationId(*key)),
            )),
        }
    }
}
