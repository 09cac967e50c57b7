//! Stops the work of open runs on an erased record, in every phase: an opt-out stops messages alone,
//! except in the phases that it interrupts.

use entity::communication as ledger;
use entity::id::*;
use entity::record::Model;
use entity::run_record;
use entity::step::{self, StepStatus};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};

use crate::domain::message::{communication, send_queue};
use crate::domain::run::sweep::close;
use crate::domain::run::{advance, early_events, interrupt, skip};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// The event that skipped steps and recipients name as their reason.
const ERASED: &str = "record.erased";

/// Skips the record's open steps, and closes it as a recipient to whom nothing was sent. Steps with a
/// lease settle, and start nothing more. Requires the locks of the runs.
pub(super) async fn stop(tx: &Tx, viewer: &Viewer, record: &Model) -> Result<()> {
    let engine = Viewer::engine(viewer.org_id);
    let runs = interrupt::open_for_opt_out(tx, viewer, std::slice::from_ref(record)).await?;
    for run in interrupt::lock_in_order(tx, viewer, runs).await? {
        if !interrupt::AT_WORK.contains(&run.status) {
            continue;
        }
        // Mail and invitations that people released in a campaign's run: nothing else closes them.
        if run.in_flight > 0 {
            let theirs = Condition::all().add(ledger::COLUMN.record_id.eq(record.id));
            send_queue::withdraw(tx, &engine, &run, theirs, ERASED).await?;
        }
        let recipients: Vec<RunRecordId> = run_record::Entity::find()
            .select_only()
            .column(run_record::Column::Id)
            .filter(run_record::COLUMN.run_id.eq(run.id))
            .filter(run_record::COLUMN.record_id.eq(record.id))
            .into_tuple()
            .all(tx.db())
            .await?;
        let steps = step::Entity::find()
            .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().copied()))
            .all(tx.db())
            .await?;
        let (leased, open): (Vec<step::Model>, Vec<step::Model>) = steps
            .into_iter()
            .filter(|step| StepStatus::OPEN.contains(&step.status))
            // A person resolves a message with an unknown outcome.
            .filter(|step| step.status != StepStatus::AwaitingApproval || !interrupt::is_of_engine(step))
            .partition(|step| step.lease_owner.is_some());
        // Also one that has no step yet: nothing is done for it.
        if leased.is_empty() {
            close::interrupted(tx, &recipients, ERASED).await?;
        }
        if leased.is_empty() && open.is_empty() {
            continue;
        }
        if !leased.is_empty() {
            interrupt::mark_interrupted(tx, &leased, &early_events::interrupted_by(ERASED)).await?;
            let in_hand: Vec<RunRecordId> = leased.iter().filter_map(|step| step.run_record_id).collect();
            communication::cancel_unsent(tx, &engine, &run, &in_hand, ERASED).await?;
        }
        if !open.is_empty() {
            skip::interrupted(tx, &run, open, ERASED).await?;
        }
        advance::advance(tx, &engine, run).await?;
    }
    Ok(())
}
