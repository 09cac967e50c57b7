//! Reserves messages immediately before their hand-over, in a transaction of its own that checks
//! once more if a message may be sent: its run, its approval, the suppression list, the channel's
//! pause and rate (docs/architecture.md, "Where a message is refused because of an opt-out").

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use entity::Channel;
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run_record::RecipientReason;
use entity::step::{self, StepReason};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::elsewhere::{self, Twin};
use super::{LeasedMessage, MessageLookup, lease, meeting_turns, readdress};
use crate::channel::{Mail, pause};
use crate::domain::audience::record::unsubscribe;
use crate::domain::audience::suppression;
use crate::domain::run::recipients;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// The result of a reservation.
pub(super) struct Reservation {
    /// The keys of messages whose leases are held.
    pub(super) held: HashSet<Uuid>,
    /// All messages with these keys, as they are now. Those that are `SENDING` are reserved.
    pub(super) all: Vec<communication::Model>,
    /// The reasons of suppressed messages, by their key.
    pub(super) suppressed: HashMap<Uuid, String>,
    /// The runs that have sent messages in place of this one, by the messages' keys, in words.
    pub(super) carried: HashMap<Uuid, String>,
    /// The time of the next try for messages that are postponed.
    pub(super) again_at: DateTime<Utc>,
    /// True if the channel has refused something since it last accepted a message.
    pub(super) refusing: bool,
    /// Messages that are tried for the last time.
    pub(super) last_time: HashSet<CommunicationId>,
    /// Messages that wait for an earlier one about the same meeting, with the time of the next try.
    pub(super) behind: HashMap<CommunicationId, DateTime<Utc>>,
}

/// Reserves messages, with retries while the database is unavailable. If a commit succeeded without
/// its answer arriving, the retry finds the messages `SENDING`; while their leases are held, no other
/// process has reserved them.
pub(super) async fn reserve(
    db: &WriteContext,
    mail: &Mail,
    runs: &[RunId],
    by: MessageLookup,
    messages: &[LeasedMessage],
) -> Result<Reservation> {
    let mut tries = 0;
    loop {
        match transact!(db, |tx| reserve_in(tx, mail, runs, by, messages).await) {
            Err(err) if err.is_transient() && tries < 6 => {
                log_failure!(warn, err, "messages could not be reserved; trying again");
                tokio::time::sleep(std::time::Duration::from_millis(50 << tries)).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Reserves approved messages of runs that may send now, to addresses that are not suppressed.
async fn reserve_in(
    tx: &Tx,
    mail: &Mail,
    runs: &[RunId],
    by: MessageLookup,
    messages: &[LeasedMessage],
) -> Result<Reservation> {
    // Locks the runs, so that their messages do not change after they are read.
    let running = match by {
        // A message that a person has released is sent even if its run has ended since: a meeting may
        // still be moved.
        MessageLookup::Message => crate::domain::run::list_sending(tx, runs).await?,
        MessageLookup::Recipient { .. } | MessageLookup::Step => crate::domain::run::list_running(tx, runs).await?,
    };
    let held = lease::held(tx, by, messages).await?;
    let keys: Vec<Uuid> = messages.iter().filter_map(|message| message.key).filter(|key| held.contains(key)).collect();
    let all = communication::Entity::find()
        .filter(by.of(tx.dialect(), &keys))
        .order_by_asc(communication::COLUMN.id)
        .all(tx.db())
        .await?;
    // One message per lease. Structures with several drafts for a recipient are refused now; a run may
    // have begun with one before.
    let mut first = HashSet::new();
    let mut may_go = |message: &communication::Model| {
        message.status == CommunicationStatus::Approved
            && running.iter().any(|run| run.id == message.run_id)
            && first.insert(by.key(message))
    };
    let (waiting, mut all): (Vec<_>, Vec<_>) = all.into_iter().partition(&mut may_go);
    // Messages whose record's address has changed since `readdress` ran: retried at once.
    let moved: Vec<CommunicationId> = communication::Entity::find()
        .select_only()
        .column(communication::Column::Id)
        .filter(any_of(tx.dialect(), communication::COLUMN.id, waiting.iter().map(|message| message.id)))
        .filter(readdress::has_moved())
        .into_tuple()
        .all(tx.db())
        .await?;
    let (moved, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|message| moved.contains(&message.id));
    all.extend(moved);
    let stopped = if by == MessageLookup::Step { interrupted(tx, &waiting).await? } else { HashSet::new() };
    let (stopped, waiting): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|message| stopped.contains(&message.step_id));
    all.extend(stopped);
    let twins = Box::pin(elsewhere::written(tx, &running, &waiting)).await?;
    let (stopped, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|message| twins.contains_key(&message.id));
    let mut carried = HashMap::new();
    for run in running.iter().filter(|_| !stopped.is_empty()) {
        let mut cancelled = Vec::new();
        for message in stopped.iter().filter(|message| message.run_id == run.id) {
            if let Some(Twin::Done(other)) = twins.get(&message.id) {
                carried.insert(by.key(message), format!("done in {other}"));
                cancelled.push((message, RecipientReason::Other, "another run of the same audience has sent it"));
            } else {
                let why = "another run of the same audience has written to its address";
                cancelled.push((message, RecipientReason::DuplicateAddress, why));
            }
        }
        all.extend(Box::pin(readdress::cancel(tx, run, &cancelled)).await?);
    }
    // An address that is added to the suppression list from here on counts as added after the
    // hand-over.
    for org_id in waiting.iter().map(|message| message.org_id).collect::<BTreeSet<_>>() {
        suppression::lock_shared(tx, org_id).await?;
    }
    let reasons = suppressed(tx, &waiting).await?;
    let behind = meeting_turns::behind(tx, &waiting).await?;
    let (never, go): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|message| reasons.contains_key(&message.id));
    let never = change(tx, &running, &never, CommunicationStatus::Suppressed, &reasons).await?;
    let (later, mut go): (Vec<_>, Vec<_>) = go.into_iter().partition(|message| behind.contains_key(&message.id));
    all.extend(later);
    let taken = pause::take(tx, Channel::Email, mail.retry_period, go).await?;
    all.extend(taken.held);
    let (refusing, last_time) = (taken.refusing, taken.last_time);
    go = taken.ready;
    let (mut again_at, mut room) = (taken.until.unwrap_or_else(|| tx.now()), u64::MAX);
    if let Some(rate) = mail.rate
        && !go.is_empty()
    {
        let taken = rate.take(tx, go.len() as u64).await?;
        (again_at, room) = (Ord::max(again_at, taken.next_at), taken.count);
    }
    let held_back = go.split_off(usize::try_from(room).unwrap_or(usize::MAX).min(go.len()));
    let sending = change(tx, &running, &go, CommunicationStatus::Sending, &HashMap::new()).await?;
    if by == MessageLookup::Step {
        recipients::clear_unreached(tx, sending.iter().map(|message| message.run_record_id)).await?;
    }
    all.extend(sending);
    all.extend(held_back);
    let suppressed =
        never.into_iter().filter_map(|row| reasons.get(&row.id).cloned().map(|why| (by.key(&row), why))).collect();
    Ok(Reservation { held, all, suppressed, carried, again_at, refusing, last_time, behind })
}

/// Steps that an event interrupted after they were claimed: a message drafted since then is not
/// sent.
async fn interrupted(tx: &Tx, waiting: &[communication::Model]) -> Result<HashSet<StepId>> {
    let found: Vec<StepId> = step::Entity::find()
        .select_only()
        .column(step::Column::Id)
        .filter(any_of(tx.dialect(), step::COLUMN.id, waiting.iter().map(|message| message.step_id)))
        .filter(step::COLUMN.reason.eq(StepReason::Interrupted))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(found.into_iter().collect())
}

/// Messages to suppressed addresses or unsubscribed records, with the reason. A record's own
/// opt-out does not stop a test, which goes to a test address.
async fn suppressed(tx: &Tx, waiting: &[communication::Model]) -> Result<HashMap<CommunicationId, String>> {
    let mut found = HashMap::new();
    let groups: HashSet<_> = waiting.iter().map(|message| (message.org_id, message.channel)).collect();
    for (org_id, channel) in groups {
        let group: Vec<&communication::Model> =
            waiting.iter().filter(|message| message.org_id == org_id && message.channel == channel).collect();
        let keys: Vec<String> = group.iter().map(|message| suppression::key(&message.to_address)).collect();
        let suppressed = suppression::find_suppressed(tx.db(), org_id, channel, &keys).await?;
        let awaited = unsubscribe::pending_addresses(tx, org_id, channel, &keys).await?;
        let records: Vec<RecordId> =
            group.iter().filter(|message| !message.test).filter_map(|message| message.record_id).collect();
        let unsubscribed = unsubscribe::among(tx, org_id, &records).await?;
        for (message, key) in group.iter().zip(&keys) {
            let record = message.record_id.filter(|id| !message.test && unsubscribed.contains(id));
            if record.is_some() || awaited.contains(key) {
                found.insert(message.id, suppression::UNSUBSCRIBED.to_owned());
            } else if let Some(why) = suppressed.get(key) {
                found.insert(message.id, why.clone());
            }
        }
    }
    Ok(found)
}

/// Moves approved messages to sending or suppressed, with an event each.
async fn change(
    tx: &Tx,
    running: &[entity::run::Model],
    messages: &[communication::Model],
    to: CommunicationStatus,
    reasons: &HashMap<CommunicationId, String>,
) -> Result<Vec<communication::Model>> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let mut update = communication::Entity::update_many()
        .col_expr(communication::Column::Status, Expr::value(to.to_value()))
        .col_expr(communication::Column::UpdatedAt, Expr::value(tx.now()));
    let kind = if to == CommunicationStatus::Sending {
        update = update.col_expr(communication::Column::ReservedAt, Expr::value(tx.now()));
        "communication.sending"
    } else {
        update = update.col_expr(communication::Column::Revision, Expr::col(communication::Column::Revision).add(1));
        "communication.suppressed"
    };
    let rows = update
        .filter(any_of(tx.dialect(), communication::COLUMN.id, messages.iter().map(|message| message.id)))
        .filter(communication::COLUMN.status.eq(CommunicationStatus::Approved))
        .exec_with_returning(tx.db())
        .await?;
    for row in &rows {
        if let Some(run) = running.iter().find(|run| run.id == row.run_id) {
            let (engine, why) = (Viewer::engine(run.org_id), reasons.get(&row.id));
            crate::domain::message::communication::emit(
                tx,
                &engine,
                run,
                kind,
                row,
                CommunicationStatus::Approved,
                why.map(String::as_str),
            );
        }
    }
    Ok(rows)
}
