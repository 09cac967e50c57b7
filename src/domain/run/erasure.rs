//! Erasure of a person: empties what is personal of a record everywhere, and keeps ids, statuses,
//! times and counts (docs/erasure.md).
//!
//! One transaction empties the record, stops the work on it and suppresses its addresses: that is in
//! effect when the mutation returns. All other tables follow in chunks, by a sweep, which holds the
//! texts to look for until it is finished. A step or message that is in somebody's hands at the end of
//! a pass may still bring something personal: the sweep is then held, and housekeeping has it pass
//! again.

mod parts;
mod scrub;
mod stop;
mod walk;

use std::collections::HashSet;

use entity::Channel;
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::meeting;
use entity::record::Model;
use entity::run_record;
use entity::step;
use entity::sweep::{self as sweeps, SweepKind};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
    Set, Statement,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{interrupt, record_change, sweep_queue};
use crate::domain::audience::record::{self, erasure as row, link};
use crate::domain::audience::suppression;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits, validate};
use crate::transact;
use parts::PARTS;
use scrub::Words;
use walk::Person;

/// The selection of the sweep, and its position.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    record: RecordId,
    /// Name, addresses and external id that the record had.
    words: Vec<String>,
    /// Index of the current part.
    part: usize,
    /// Keys of the last row of the part that was processed.
    after: Option<Vec<String>>,
    /// Number of chunks processed: the sweep's position.
    chunks: u64,
    /// Ids of the meetings that name the record; none before they were looked up in this pass.
    meetings: Option<HashSet<String>>,
}

/// Erases a record. Nothing is sent to it once this returns; other tables are emptied in chunks.
/// Errors: NOT_FOUND; BAD_USER_INPUT; CONFLICT if it has changed, or is erased already.
pub async fn erase(
    db: &WriteContext,
    viewer: &Viewer,
    id: RecordId,
    reason: &str,
    expected: Option<i32>,
) -> Result<Model> {
    // Only the audit keeps it, with the mutation's input.
    validate::name("reason", reason)?;
    let before = record::must_find(db.read(), viewer, id).await?;
    let (_, addresses) = known(db.read(), &before).await?;
    let shared = suppression::erased::shared(db.read(), viewer, id, &addresses).await?;
    transact!(db, |tx| {
        let current = record::must_find(tx.db(), viewer, id).await?;
        row::check_not_erased(&current)?;
        let all = [current];
        record_change::lock_runs(tx, viewer, &[], &all, None).await?;
        if all[0].unsubscribed_at.is_none() {
            interrupt::opted_out(tx, &Viewer::engine(viewer.org_id), &all).await?;
        }
        stop::stop(tx, viewer, &all[0]).await?;
        let before = record::must_lock(tx, viewer, id, expected).await?;
        row::check_not_erased(&before)?;
        let (words, addresses) = known(tx.db(), &before).await?;
        let erased = row::empty(tx, &before).await?;
        suppression::erased::close(tx, viewer, id, &addresses, &shared).await?;
        link::forget(tx, id).await?;
        begin(tx, viewer, Progress { record: id, words, part: 0, after: None, chunks: 0, meetings: None }).await?;
        if before.unsubscribed_at.is_none() {
            record::emit(tx, viewer, "record.unsubscribed", &erased, json!({}));
        }
        record::emit(tx, viewer, "record.erased", &erased, json!({}));
        Ok(erased)
    })
}

/// The texts by which a person is found, and the person's addresses: those of the record, and those
/// that messages and runs had for it before it was changed.
async fn known(db: &impl ConnectionTrait, before: &Model) -> Result<(Vec<String>, Vec<(Channel, String)>)> {
    let mut words = vec![before.name.clone()];
    words.extend(before.external_id.clone());
    let mut addresses: Vec<(Channel, String)> = Vec::new();
    addresses.extend(before.email.clone().map(|address| (Channel::Email, address)));
    addresses.extend(before.phone.clone().map(|address| (Channel::Phone, address)));
    // A test's messages go to the tester.
    let sql = format!(
        "SELECT to_address, to_name FROM communication WHERE record_id = $1 AND NOT test GROUP BY to_address, to_name \
         UNION SELECT p.address, '' FROM run_record p JOIN run r ON r.id = p.run_id \
         WHERE p.record_id = $1 AND p.address IS NOT NULL AND r.type <> 'TEST_RUN' \
         UNION SELECT address, '' FROM suppression WHERE record_id = $1 LIMIT {}",
        limits::ERASED_WORDS
    );
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [before.id.0.into()]);
    for found in db.query_all_raw(statement).await? {
        let (address, name): (String, String) = (found.try_get_by_index(0)?, found.try_get_by_index(1)?);
        words.push(name);
        let channel = if address.contains('@') { Channel::Email } else { Channel::Phone };
        if !address.is_empty() && address != suppression::erased::ERASED {
            addresses.push((channel, address));
        }
    }
    words.extend(addresses.iter().map(|(_, address)| address.clone()));
    words.retain(|word| !word.trim().is_empty());
    words.sort_unstable();
    words.dedup();
    addresses.sort_unstable_by(|one, other| one.1.cmp(&other.1));
    addresses.dedup_by(|one, other| suppression::key(&one.1) == suppression::key(&other.1));
    Ok((words, addresses))
}

async fn begin(tx: &Tx, viewer: &Viewer, progress: Progress) -> Result<()> {
    let row = sweeps::ActiveModel {
        id: Set(SweepId::new()),
        org_id: Set(viewer.org_id),
        run_id: Set(None),
        task_id: Set(None),
        kind: Set(SweepKind::Erase),
        last_key: Set(None),
        actor: Set(viewer.actor()),
        reason: Set(None),
        detail: Set(Some(serde_json::to_value(progress)?)),
        created_at: Set(tx.now()),
        held: Set(false),
    };
    row.insert(tx.db()).await?;
    Ok(())
}

/// Processes one chunk of an erasure.
pub(super) async fn chunk(db: &WriteContext, viewer: &Viewer, sweep: &sweeps::Model) -> Result<()> {
    transact!(db, |tx| {
        let Some(current) = sweep_queue::lock_unmoved(tx, sweep).await? else { return Ok(()) };
        let mut progress: Progress = serde_json::from_value(current.detail.clone().unwrap_or_default())?;
        let words = Words::new(progress.record, &progress.words)?;
        let meetings = match progress.meetings.take() {
            Some(known) => known,
            None => meetings(tx, current.org_id, progress.record).await?,
        };
        let person = Person { org_id: current.org_id, record_id: progress.record, words, meetings };
        progress.chunks += 1;
        // Rows of one table only are locked in a transaction, so that there is no order to keep.
        while let Some(part) = PARTS.get(progress.part) {
            let chunk = walk::chunk(tx, &person, part, progress.after.as_deref()).await?;
            progress.after = chunk.next;
            progress.part += usize::from(progress.after.is_none());
            if chunk.rows > 0 {
                break;
            }
        }
        failpoint::reach("erasing");
        let is_over = progress.part >= PARTS.len();
        let in_hand = is_over && is_in_hand(tx, &person, &current).await?;
        if is_over && !in_hand {
            sweep_queue::save_position(tx, current, None).await?;
            if let Some(done) = row::complete(tx, viewer, progress.record).await? {
                record::emit(tx, &Viewer::engine(viewer.org_id), "record.erasure_completed", &done, json!({}));
            }
            return Ok(());
        }
        if in_hand {
            (progress.part, progress.after) = (0, None);
        } else {
            progress.meetings = Some(person.meetings);
        }
        let mut row = current.into_active_model();
        row.last_key = Set(Some(uuid::Uuid::from_u128(u128::from(progress.chunks))));
        row.detail = Set(Some(serde_json::to_value(&progress)?));
        row.held = Set(in_hand);
        row.update(tx.db()).await?;
        Ok(())
    })
}

/// The ids of the meetings that name the record among their attendees.
async fn meetings(tx: &Tx, org_id: OrgId, record: RecordId) -> Result<HashSet<String>> {
    let (place, _) = tx.dialect().placeholders();
    let named = format!("CAST(meeting.attendees AS text) LIKE {place}");
    let named = Expr::cust_with_values(named, [format!("%\"{record}\"%")]);
    let ids: Vec<MeetingId> = meeting::Entity::find()
        .select_only()
        .column(meeting::Column::Id)
        .filter(meeting::COLUMN.org_id.eq(org_id))
        .filter(named)
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(ids.iter().map(ToString::to_string).collect())
}

fn meetings_of(person: &Person) -> Result<Vec<MeetingId>> {
    person.meetings.iter().map(|id| id.parse::<MeetingId>().map_err(Error::internal)).collect()
}

/// True if a worker or the engine has work in hand that may still write something about the person,
/// invitations to a meeting with the person wait, or earlier events have no position yet.
async fn is_in_hand(tx: &Tx, person: &Person, sweep: &sweeps::Model) -> Result<bool> {
    // A single step of a run with the person may bring something, too.
    let mut with_person = Query::select();
    with_person
        .column(run_record::Column::RunId)
        .from(run_record::Entity)
        .and_where(run_record::COLUMN.record_id.eq(person.record_id));
    let single = step::Column::RecordId.is_null().and(step::COLUMN.run_id.in_subquery(with_person));
    let leased = step::Entity::find()
        .filter(step::COLUMN.record_id.eq(person.record_id).or(single))
        .filter(step::COLUMN.lease_owner.is_not_null());
    let about = meetings_of(person)?;
    let sending = communication::Entity::find().filter(
        Condition::any()
            .add(
                communication::COLUMN
                    .record_id
                    .eq(person.record_id)
                    .and(communication::COLUMN.status.eq(CommunicationStatus::Sending)),
            )
            .add(Condition::all().add(any_of(tx.dialect(), communication::COLUMN.meeting_id, about)).add(
                communication::COLUMN.status.is_in([CommunicationStatus::Sending, CommunicationStatus::Approved]),
            )),
    );
    if leased.one(tx.db()).await?.is_some() || sending.one(tx.db()).await?.is_some() {
        return Ok(true);
    }
    if tx.dialect() == Dialect::Sqlite {
        return Ok(false);
    }
    let sql = "SELECT 1 FROM event WHERE position IS NULL AND org_id = $1 AND at < $2 LIMIT 1";
    let values = [person.org_id.0.into(), sweep.created_at.into()];
    let statement = Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values);
    Ok(tx.db().query_one_raw(statement).await?.is_some())
}

/// Lets the erasures that waited for work in hand pass again.
pub async fn resume(db: &WriteContext) -> Result<()> {
    transact!(db, |tx| {
        let waiting = sweeps::Entity::update_many()
            .col_expr(sweeps::Column::Held, Expr::value(false))
            .filter(sweeps::COLUMN.kind.eq(SweepKind::Erase))
            .filter(sweeps::COLUMN.held.eq(true));
        waiting.exec(tx.db()).await?;
        Ok(())
    })
}
