//! Adds the audience to a run: one recipient per record with its current address; those that can't
//! be contacted are added as skipped or suppressed, with the reason.

use std::collections::{HashMap, HashSet};

use entity::id::*;
use entity::run_record::{self, Outcome};
use entity::step::StepReason;
use entity::sweep::Model;
use entity::{record, run};
use sea_orm::sea_query::{Expr, ExprTrait, Query, UnionType};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set,
};

use crate::domain::audience::record::erasure::not_erased;
use crate::domain::audience::record::{filter, kept};
use crate::domain::audience::suppression;
use crate::domain::plan::campaign_snapshot::CampaignSnapshot;
use crate::domain::run::step::ReasonText;
use crate::domain::run::{carried_replies, snapshot, unreached};
use crate::kernel::db::batch::{any_of, insert_all};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Adds a chunk of the audience as recipients.
pub(super) async fn chunk(
    db: &Db,
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    sweep: &Model,
) -> Result<Option<uuid::Uuid>> {
    let snapshot = snapshot::of(tx.db(), run).await?;
    let instructions = snapshot.instructions.as_ref().ok_or_else(|| Error::internal("a run without instructions"))?;
    let family = repeated_family(tx, viewer, run, &snapshot).await?;
    let (recipients, last) = match &snapshot.test {
        Some(test) => (test_recipients(tx, viewer, run, test).await?, None),
        None => {
            let mut select =
                record::Entity::find().filter(condition(db, tx, run, instructions, family.as_ref()).await?);
            if let Some(key) = sweep.last_key {
                select = select.filter(record::COLUMN.id.gt(RecordId(key)));
            }
            let records = select.order_by_asc(record::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?;
            let full = records.len() as u64 == limits::CHUNK;
            let last = records.last().filter(|_| full).map(|record| record.id.0);
            if let Some(family) = &family {
                let ids: Vec<RecordId> = records.iter().map(|record| record.id).collect();
                carried_replies::before(tx, run, family, &ids).await?;
            }
            (recipients(tx, run, &records, snapshot.graph.silent, family.as_ref()).await?, last)
        }
    };
    let count = i64::try_from(recipients.len()).map_err(Error::internal)?;
    insert_all(tx, recipients).await?;
    let mut row = run.clone().into_active_model();
    row.audience_count = Set(run.audience_count + count);
    row.audience_done = Set(last.is_none());
    row.update(tx.db()).await?;
    Ok(last)
}

/// Condition for the records of the audience. For a run that repeats failed work, or that runs have
/// repeated before it was retried: records that its family has neither reached nor skipped.
async fn condition(
    db: &Db,
    tx: &Tx,
    run: &run::Model,
    instructions: &CampaignSnapshot,
    family: Option<&unreached::Family>,
) -> Result<Condition> {
    let Some(family) = family else { return full_audience(db, run, instructions) };
    if family.base().id == run.id {
        let left = record::COLUMN.id.not_in_subquery(family.closed());
        return Ok(full_audience(db, run, instructions)?.add(left));
    }
    let parent = run.parent_id.ok_or_else(|| Error::internal("a repeat without its parent run"))?;
    let viewer = Viewer::engine(run.org_id);
    let parent = crate::domain::run::must_find(tx.db(), &viewer, parent).await?;
    // The run's own recipients don't count as reached: they are added in chunks.
    let scope = Condition::all().add(record::COLUMN.org_id.eq(run.org_id)).add(not_erased(run.org_id));
    match family.audience_run(&parent)? {
        Some(meant) => Ok(scope.add(record::COLUMN.id.in_subquery(unreached::records(
            meant,
            family,
            unreached::ReachAgain::Repeat,
        )))),
        None => {
            let base = family.base();
            let snapshot = snapshot::of(tx.db(), base).await?;
            let instructions =
                snapshot.instructions.as_ref().ok_or_else(|| Error::internal("a run without instructions"))?;
            Ok(full_audience(db, base, instructions)?.add(record::COLUMN.id.not_in_subquery(family.closed())))
        }
    }
}

fn full_audience(db: &Db, run: &run::Model, instructions: &CampaignSnapshot) -> Result<Condition> {
    let mut scope = Condition::all().add(record::COLUMN.org_id.eq(run.org_id)).add(not_erased(run.org_id));
    if let Some(parent) = run.parent_id {
        // The parent run's records, whatever the segment contains now.
        let mut same = Query::select();
        same.column(entity::run_record::Column::RecordId)
            .from(entity::run_record::Entity)
            .and_where(run_record::COLUMN.run_id.eq(parent));
        scope = scope.add(record::COLUMN.id.in_subquery(same));
        return Ok(scope);
    }
    Ok(match (&instructions.segment, &instructions.segment_filter, instructions.record_id) {
        (Some(_), Some(stored), _) => {
            scope.add(filter::stored(stored, db.dialect(), run.queued_at.unwrap_or_else(|| db.now()))?)
        }
        (Some(segment), None, _) => {
            let mut listed = Query::select();
            listed
                .column(entity::segment_record::Column::RecordId)
                .from(entity::segment_record::Entity)
                .and_where(entity::segment_record::COLUMN.segment_id.eq(segment.id));
            // The list as it was at the launch: kept if it has changed since.
            listed.and_where(Expr::exists(kept::any(run.id.0)).not());
            listed.union(UnionType::All, kept::ids(run.id.0));
            scope.add(record::COLUMN.id.in_subquery(listed))
        }
        (None, _, Some(id)) => scope.add(record::COLUMN.id.eq(id)),
        (None, _, None) => scope.add(Expr::val(1).eq(0)),
    })
}

/// Adds the only record of a run about one record. Returns the updated run, and the recipient with
/// its record.
pub(in crate::domain::run) async fn take_one(
    tx: &Tx,
    viewer: &Viewer,
    run: run::Model,
    snapshot: &snapshot::RunSnapshot,
    id: RecordId,
) -> Result<(run::Model, Option<(RunRecordId, Option<RecordId>)>)> {
    let records = crate::domain::audience::record::find_all(tx.db(), viewer, &[id]).await?;
    let mut recipients = recipients(tx, &run, &records, snapshot.graph.silent, None).await?;
    let mut added = None;
    let count = i64::try_from(recipients.len()).map_err(Error::internal)?;
    if let Some(recipient) = recipients.pop() {
        let recipient = recipient.insert(tx.db()).await?;
        added = Some((recipient.id, recipient.record_id));
    }
    let mut row = run.into_active_model();
    row.audience_count = Set(count);
    row.audience_done = Set(true);
    Ok((row.update(tx.db()).await?, added))
}

/// The family of a run that repeats failed work, or whose failed work other runs have repeated: an
/// address reached by one of them counts as reached, whatever record has it now. A retry of a run
/// that sends nothing does everything again.
pub(super) async fn repeated_family(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    snapshot: &snapshot::RunSnapshot,
) -> Result<Option<unreached::Family>> {
    let only_failed = snapshot.instructions.as_ref().is_some_and(|instructions| instructions.only_failed);
    if snapshot.test.is_some() {
        return Ok(None);
    }
    let family = unreached::Family::of(tx.db(), viewer, run).await?;
    let repeats = run.parent_id.is_some() && only_failed;
    Ok(Some(family).filter(|family| repeats || (!family.is_single() && !snapshot.graph.silent)))
}

/// Builds recipients for records. A run that sends nothing has all of them, without addresses.
async fn recipients(
    tx: &Tx,
    run: &run::Model,
    records: &[record::Model],
    silent: bool,
    family: Option<&unreached::Family>,
) -> Result<Vec<run_record::ActiveModel>> {
    if silent {
        let each = records.iter().map(|record| run_record::ActiveModel {
            id: Set(RunRecordId::new()),
            org_id: Set(run.org_id),
            run_id: Set(run.id),
            record_id: Set(Some(record.id)),
            address: Set(None),
            address_key: Set(None),
            outcome: Set(None),
            reason: Set(None),
            linked: Set(false),
        });
        return Ok(each.collect());
    }
    let keys: Vec<String> = records
        .iter()
        .filter_map(|record| crate::domain::audience::record::address(record, run.channel))
        .map(|found| found.1)
        .collect();
    let taken: Vec<Option<String>> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::AddressKey)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), run_record::Column::AddressKey, keys.iter().cloned()))
        .into_tuple()
        .all(tx.db())
        .await?;
    let mut taken: HashSet<String> = taken.into_iter().flatten().collect();
    let reached = match family {
        Some(family) => family.reached(tx.db(), &keys).await?,
        None => HashMap::new(),
    };
    let suppressed = suppression::find_suppressed(tx.db(), run.org_id, run.channel, &keys).await?;
    let each = records.iter().map(|record| {
        let address = crate::domain::audience::record::address(record, run.channel);
        let excluded = match &address {
            None => Some((Outcome::Skipped, "NO_ADDRESS".to_owned())),
            Some(_) if record.unsubscribed_at.is_some() => {
                Some((Outcome::Suppressed, suppression::UNSUBSCRIBED.into()))
            }
            Some((_, key)) if suppressed.contains_key(key) => Some((Outcome::Suppressed, suppressed[key].clone())),
            Some((_, key)) if is_reached_by_another(&reached, record.id, key) || !taken.insert(key.clone()) => {
                Some((Outcome::Skipped, "DUPLICATE_ADDRESS".into()))
            }
            Some(_) => None,
        };
        let (address, key) = address.unzip();
        run_record::ActiveModel {
            id: Set(RunRecordId::new()),
            org_id: Set(run.org_id),
            run_id: Set(run.id),
            record_id: Set(Some(record.id)),
            address: Set(address),
            address_key: Set(key.filter(|_| excluded.is_none())),
            outcome: Set(excluded.as_ref().map(|(outcome, _)| *outcome)),
            reason: Set(excluded.map(|(_, reason)| reason)),
            linked: Set(false),
        }
    });
    Ok(each.collect())
}

/// Judges again the recipients that had no address, or a suppressed one, when they were added or
/// since then: those that can be reached now get their address, and no outcome. Returns the reasons
/// for the others. The recipients of a test keep the test's addresses, and are not judged.
pub(in crate::domain::run) async fn judge_again(
    tx: &Tx,
    run: &run::Model,
    snapshot: &snapshot::RunSnapshot,
    recipients: &[RunRecordId],
) -> Result<HashMap<RunRecordId, ReasonText>> {
    if snapshot.test.is_some() {
        return Ok(HashMap::new());
    }
    let no_address =
        run_record::COLUMN.outcome.eq(Outcome::Skipped).and(run_record::Column::Reason.starts_with("NO_ADDRESS"));
    let excluded = run_record::Entity::find()
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, recipients.iter().copied()))
        .filter(run_record::COLUMN.outcome.eq(Outcome::Suppressed).or(no_address))
        .all(tx.db())
        .await?;
    if excluded.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<RecordId> = excluded.iter().filter_map(|row| row.record_id).collect();
    let engine = Viewer::engine(run.org_id);
    let records = crate::domain::audience::record::find_all(tx.db(), &engine, &ids).await?;
    let address_of = |row: &run_record::Model| {
        let record = records.iter().find(|record| Some(record.id) == row.record_id)?;
        Some((record, crate::domain::audience::record::address(record, run.channel)?))
    };
    let keys: Vec<String> = excluded.iter().filter_map(address_of).map(|(_, (_, key))| key).collect();
    let suppressed = suppression::find_suppressed(tx.db(), run.org_id, run.channel, &keys).await?;
    let mut taken: HashMap<String, RunRecordId> = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), run_record::Column::AddressKey, keys.iter().cloned()))
        .all(tx.db())
        .await?
        .into_iter()
        .filter_map(|row| Some((row.address_key?, row.id)))
        .collect();
    let reached = match repeated_family(tx, &engine, run, snapshot).await? {
        Some(family) => family.reached(tx.db(), &keys).await?,
        None => HashMap::new(),
    };
    let mut reasons = HashMap::new();
    for row in excluded {
        let why = match address_of(&row) {
            None => ReasonText::new(StepReason::NoAddress, "its record has no address".to_owned()),
            Some((record, _)) if record.unsubscribed_at.is_some() => {
                ReasonText::new(StepReason::Suppressed, suppression::UNSUBSCRIBED.to_owned())
            }
            Some((_, (_, key))) if suppressed.contains_key(&key) => {
                ReasonText::new(StepReason::Suppressed, suppressed[&key].clone())
            }
            Some((record, (_, key))) if is_reached_by_another(&reached, record.id, &key) => {
                ReasonText::new(StepReason::DuplicateAddress, "an earlier run reached its address".to_owned())
            }
            Some((_, (address, key))) => {
                let by = *taken.entry(key.clone()).or_insert(row.id);
                if by == row.id {
                    let mut row = row.into_active_model();
                    (row.address, row.address_key) = (Set(Some(address)), Set(Some(key)));
                    (row.outcome, row.reason) = (Set(None), Set(None));
                    row.update(tx.db()).await?;
                    continue;
                }
                ReasonText::new(StepReason::DuplicateAddress, "another recipient has its address".to_owned())
            }
        };
        reasons.insert(row.id, why);
    }
    Ok(reasons)
}

/// True if an address was reached by another record's message.
fn is_reached_by_another(reached: &HashMap<String, HashSet<Option<RecordId>>>, record: RecordId, key: &str) -> bool {
    reached.get(key).is_some_and(|by| by.iter().any(|by| *by != Some(record)))
}

async fn test_recipients(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    test: &snapshot::Test,
) -> Result<Vec<run_record::ActiveModel>> {
    let records = crate::domain::audience::record::find_all(tx.db(), viewer, &test.sample).await?;
    let mut samples: Vec<Option<RecordId>> = records.iter().map(|record| Some(record.id)).collect();
    if samples.is_empty() {
        samples.push(None);
    }
    let each = test.recipients.iter().flat_map(|address| {
        samples.iter().map(move |record_id| run_record::ActiveModel {
            id: Set(RunRecordId::new()),
            org_id: Set(run.org_id),
            run_id: Set(run.id),
            record_id: Set(*record_id),
            address: Set(Some(address.clone())),
            address_key: Set(None),
            outcome: Set(None),
            reason: Set(None),
            linked: Set(false),
        })
    });
    Ok(each.collect())
}
