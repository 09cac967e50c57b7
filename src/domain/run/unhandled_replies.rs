//! Creates follow-ups for open replies whose step is closed before anybody handled them, so that no
//! reply is lost.

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{ReplyStatus, RunType, communication, reply, run};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::domain::message::reply::{ON_REPLY, follow_up};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Creates follow-ups for open replies received since the skipped ones of these steps were created.
/// Requires the run's lock.
pub(crate) async fn follow_up<'a>(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    steps: impl Iterator<Item = &'a step::Model>,
) -> Result<()> {
    let skipped: Vec<&step::Model> =
        steps.filter(|step| step.status == StepStatus::Skipped && step.trigger == ON_REPLY).collect();
    if skipped.is_empty() || run.campaign_id.is_none() || run.run_type == RunType::TestRun {
        return Ok(());
    }
    let mut messages = communication::Entity::find().filter(communication::COLUMN.run_id.eq(run.id));
    // A single step handles replies to any message of the run.
    if skipped.iter().all(|step| step.run_record_id.is_some()) {
        let recipients = skipped.iter().filter_map(|step| step.run_record_id);
        messages = messages.filter(any_of(tx.dialect(), communication::COLUMN.run_record_id, recipients));
    }
    let messages = messages.all(tx.db()).await?;
    let since = |recipient: RunRecordId| -> Option<DateTime<Utc>> {
        let matching = skipped.iter().filter(|step| step.run_record_id.is_none_or(|of| of == recipient));
        matching.map(|step| step.created_at).min()
    };
    let replies = reply::Entity::find()
        .filter(reply::COLUMN.run_id.eq(run.id))
        .filter(reply::COLUMN.status.eq(ReplyStatus::Open))
        .filter(reply::COLUMN.follow_up_id.is_null())
        .filter(any_of(tx.dialect(), reply::COLUMN.communication_id, messages.iter().map(|message| message.id)))
        .order_by_asc(reply::COLUMN.id)
        .all(tx.db())
        .await?;
    for reply in replies {
        let Some(message) = messages.iter().find(|message| message.id == reply.communication_id) else { continue };
        if since(message.run_record_id).is_some_and(|since| since <= reply.created_at) {
            follow_up::create(tx, viewer, run, message, reply).await?;
        }
    }
    Ok(())
}
