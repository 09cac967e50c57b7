//! The places of a run's audience: who was to be reached, where, and what came of it.

use async_graphql::InputObject;
use entity::id::RunRecordId;
use entity::run_record::{COLUMN, Column, Entity, Outcome};
use entity::{Channel, id::RunId, record, run_record};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::Serialize;

use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::page::{self, Args, Window};
use crate::kernel::viewer::Viewer;

scoped!(run_record, RunRecordId, "place in an audience");

/// Which places; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "RunRecordFilter")]
pub struct Filter {
    /// With one of these outcomes.
    pub outcomes: Option<Vec<Outcome>>,
    /// Whether something has come of it.
    pub closed: Option<bool>,
}

/// A window of a run's audience, in the order in which it was taken in.
pub fn window(db: &Db, viewer: &Viewer, run: RunId, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.descending = false;
    let fingerprint = page::fingerprint(&("run_record", run, filter))?;
    Ok(Window { select: select(db, viewer, run, filter), order, fingerprint, args })
}

fn select(db: &Db, viewer: &Viewer, run: RunId, filter: &Filter) -> sea_orm::Select<run_record::Entity> {
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.run_id.eq(run));
    if let Some(outcomes) = &filter.outcomes {
        select = select.filter(any_of(db.dialect(), Column::Outcome, outcomes.clone()));
    }
    match filter.closed {
        Some(true) => select.filter(Column::Outcome.is_not_null()),
        Some(false) => select.filter(Column::Outcome.is_null()),
        None => select,
    }
}

/// Shows a record as a test run does: with the test address in place of its own, and without its other one.
pub(crate) fn rehearse(record: &mut record::Model, channel: Channel, address: Option<String>) {
    (record.email, record.phone) = match channel {
        Channel::Email => (address, None),
        Channel::Sms | Channel::Phone => (None, address),
    };
}
