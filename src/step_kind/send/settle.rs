//! Settles messages that were handed over: their rows, their events, and the time of their records'
//! last contact.

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run;
use entity::step::StepStatus;
use sea_orm::{ConnectionTrait, EntityTrait, Statement};
use serde_json::{Value, json};

use crate::channel::{Delivery, RefusalPeriod};
use crate::kernel::db::Tx;
use crate::kernel::db::dialect::{self, Type};
use crate::kernel::error::Result;
use crate::kernel::storable;
use crate::kernel::viewer::Viewer;

/// The row of a hand-over's outcome, for `settle`. A refused message is retried if its step is
/// queued.
pub(crate) fn row(id: CommunicationId, delivery: &Delivery, step: StepStatus, tx: &Tx) -> Value {
    // Counts temporary refusals of this message, not refusals of the channel as a whole.
    let more = i32::from(matches!(delivery, Delivery::Refused { term: RefusalPeriod::ForNow, .. }));
    let (status, error, sent_at) = match (delivery, step) {
        (Delivery::Accepted, _) => (CommunicationStatus::Sent, None, Some(dialect::time(tx.now()))),
        (Delivery::Unknown { why }, _) => (CommunicationStatus::Unknown, Some(why), None),
        (Delivery::Refused { why, .. }, StepStatus::Queued) => (CommunicationStatus::Approved, Some(why), None),
        (Delivery::Refused { why, .. }, _) => (CommunicationStatus::Failed, Some(why), None),
    };
    let error = error.map(|why| storable::reason(why));
    json!({
        "of_id": id.0.simple().to_string(), "to_status": status, "to_error": error, "to_sent_at": sent_at, "more": more,
    })
}

/// Writes the outcomes of messages that were in flight, with their events. Returns those that were
/// sent.
pub(crate) async fn settle(tx: &Tx, run: &run::Model, rows: Vec<Value>) -> Result<Vec<communication::Model>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let columns = [
        ("of_id", Type::Uuid),
        ("to_status", Type::Text),
        ("to_error", Type::Text),
        ("to_sent_at", Type::Time),
        ("more", Type::Int),
    ];
    let sql = format!(
        "UPDATE communication SET status = v.to_status, error = v.to_error, sent_at = v.to_sent_at, updated_at = $2, \
         refusals = CASE WHEN v.to_status = 'APPROVED' THEN refusals + v.more ELSE 0 END, \
         refused_since = CASE WHEN v.to_status = 'APPROVED' THEN COALESCE(refused_since, $2) END, \
         revision = revision + 1 FROM {} WHERE communication.id = v.of_id AND communication.status = 'SENDING' RETURNING *",
        tx.dialect().rows("$1", "v", &columns)
    );
    let values = [json!(rows).into(), tx.now().into()];
    let statement = Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values);
    let settled = communication::Entity::find().from_raw_sql(statement).all(tx.db()).await?;
    let engine = Viewer::engine(run.org_id);
    for row in &settled {
        let (channel, outcome) = (row.channel.to_string(), row.status.to_string());
        metrics::counter!("sortie_messages_total", "channel" => channel, "outcome" => outcome).increment(1);
        let kind = match row.status {
            CommunicationStatus::Sent => "communication.sent",
            CommunicationStatus::Failed => "communication.failed",
            CommunicationStatus::Unknown => "communication.unknown",
            _ => "communication.approved",
        };
        crate::domain::message::communication::emit(
            tx,
            &engine,
            run,
            kind,
            row,
            CommunicationStatus::Sending,
            row.error.as_deref(),
        );
    }
    Ok(settled.into_iter().filter(|row| row.status == CommunicationStatus::Sent).collect())
}

/// Sets the time of the last contact on the records of sent messages.
pub(crate) async fn contacted(tx: &Tx, sent: &[communication::Model]) -> Result<()> {
    let ids: Vec<RecordId> = sent.iter().filter_map(|row| row.record_id).collect();
    crate::domain::audience::record::set_last_contacted(tx, &ids).await
}
