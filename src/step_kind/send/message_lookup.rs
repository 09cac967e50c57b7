//! How a step finds its message.

use entity::communication;
use entity::id::*;
use entity::step;
use sea_orm::sea_query::Query;
use sea_orm::{ColumnTrait, Condition};
use uuid::Uuid;

use crate::domain::plan::run_template;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;

/// How a step finds its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageLookup {
    /// By the place of the audience: another step drafted it. Mixed: the run has messages of `email` steps, too.
    Place {
        /// Whether it has.
        mixed: bool,
    },
    /// It is the step's own.
    Step,
    /// By its id: a person let it out.
    Message,
}

impl MessageLookup {
    /// What step and message have in common.
    pub(in crate::step_kind) fn key(self, message: &communication::Model) -> Uuid {
        match self {
            Self::Place { .. } => message.run_record_id.0,
            Self::Step => message.step_id.0,
            Self::Message => message.id.0,
        }
    }

    /// The messages of some steps.
    pub(in crate::step_kind) fn of(self, dialect: Dialect, keys: &[Uuid]) -> Condition {
        match self {
            Self::Place { mixed: false } => {
                let places = keys.iter().map(|key| RunRecordId(*key));
                Condition::all().add(any_of(dialect, communication::COLUMN.run_record_id, places))
            }
            Self::Place { mixed: true } => {
                let places = || keys.iter().map(|key| RunRecordId(*key));
                let mut drafting = Query::select();
                drafting
                    .column(step::Column::Id)
                    .from(step::Entity)
                    .and_where(any_of(dialect, step::COLUMN.run_record_id, places()))
                    .and_where(step::Column::Kind.eq(run_template::DRAFT));
                Condition::all()
                    .add(any_of(dialect, communication::COLUMN.run_record_id, places()))
                    .add(communication::COLUMN.step_id.in_subquery(drafting))
            }
            Self::Step => Condition::all().add(any_of(
                dialect,
                communication::COLUMN.step_id,
                keys.iter().map(|key| StepId(*key)),
            )),
            Self::Message => Condition::all().add(any_of(
                dialect,
                communication::COLUMN.id,
                keys.iter().map(|key| CommunicationId(*key)),
            )),
        }
    }
}
