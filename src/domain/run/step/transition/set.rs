//! Transitions of sets of steps, each set in one statement. The state machine gives the new status
//! and the events' kind; the rows are guarded by the status that was read.

use entity::step::{COLUMN, Column, Entity, Model, StepStatus, StepTransition};
use entity::{StateMachine, step};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter, UpdateMany};

use super::event_kind;
use crate::domain::run::step::Change;
use crate::kernel::error::{Error, Result};

/// Transitions that steps of one status make one after the other, in one write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetTransition<'a> {
    from: StepStatus,
    transitions: &'a [StepTransition],
}

impl<'a> SetTransition<'a> {
    /// Builds the transitions of steps in a status.
    pub(crate) fn new(from: StepStatus, transitions: &'a [StepTransition]) -> Self {
        Self { from, transitions }
    }

    /// The statuses from the first to the last.
    fn path(self) -> Result<Vec<StepStatus>> {
        let mut path = vec![self.from];
        let mut status = self.from;
        for transition in self.transitions {
            let next = status.next(*transition);
            status = next.ok_or_else(|| Error::internal(format!("a step that is {status} can't {transition:?}")))?;
            path.push(status);
        }
        Ok(path)
    }

    /// Begins the statement, which changes only steps that still have the first status. The caller
    /// adds the selection and the columns that belong to its purpose.
    pub(crate) fn update(self) -> Result<UpdateMany<Entity>> {
        let path = self.path()?;
        let to = path.last().copied().unwrap_or(self.from);
        Ok(update_to(to).filter(COLUMN.status.eq(self.from)))
    }

    /// The changes of the steps that the statement returned, one per transition and step.
    pub(crate) fn changes(
        self,
        steps: impl IntoIterator<Item = Model>,
        reason: impl Fn(&Model) -> Option<String>,
    ) -> Result<Vec<Change>> {
        let path = self.path()?;
        let mut changes = Vec::new();
        for step in steps {
            for (statuses, transition) in path.windows(2).zip(self.transitions) {
                changes.push(Change {
                    reason: reason(&step),
                    step: step::Model { status: statuses[1], ..step.clone() },
                    from: Some(statuses[0]),
                    kind: event_kind(*transition),
                });
            }
        }
        Ok(changes)
    }
}

/// Begins a statement that skips steps, whatever their status, as long as they are open.
pub(crate) fn skip_open() -> UpdateMany<Entity> {
    update_to(StepStatus::Skipped).filter(COLUMN.status.is_in(StepStatus::OPEN))
}

fn update_to(status: StepStatus) -> UpdateMany<Entity> {
    Entity::update_many()
        .col_expr(Column::Status, Expr::value(status.to_value()))
        .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
}
