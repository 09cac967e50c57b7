//! Writes a chunk of rows in one transaction: a select, an upsert, the problems, the counts.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entity::Channel;
use entity::id::RecordId;
use entity::import;
use entity::record::{self, ActiveModel, Model};
use entity::{import_problem, import_seen};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Func, OnConflict};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    Set,
};
use serde_json::{Value, json};

use super::Problem;
use super::addresses::{self, Contact};
use super::report;
use super::row::{OptOut, Row};
use crate::domain::audience::record as noun;
use crate::domain::audience::stage::{self, Pipeline};
use crate::domain::audience::suppression;
use crate::domain::run::{interrupt, record_change};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// Writes one chunk, and adds the problems found while writing. Errors: CONFLICT if the import was
/// taken for abandoned meanwhile.
pub(super) async fn chunk(
    db: &WriteContext,
    viewer: &Viewer,
    report: &import::Model,
    rows: &[Row],
    opted_out: &[Contact],
    problems: &mut Vec<Problem>,
) -> Result<import::Model> {
    let found = problems.clone();
    let (report, all) = transact!(db, |tx| {
        report::lock_running(tx, report).await?;
        let (mut report, mut problems) = (report.clone(), found.clone());
        let rows = known_by_address(tx, viewer, &report, rows).await?;
        let mut opted_out = opted_out.to_vec();
        let rows = without_duplicates(tx, &mut report, &rows, &mut opted_out, &mut problems).await?;
        let opted_out = suppression::unlisted(tx, viewer, &opted_out).await?;
        upsert(tx, viewer, &mut report, &rows, &opted_out, &mut problems).await?;
        // A record's own opt-out may have closed some of them meanwhile.
        let opted_out = suppression::unlisted(tx, viewer, &opted_out).await?;
        suppression::close(tx, viewer, &opted_out).await?;
        keep(tx, &report, &problems).await?;
        report.alive_at = Some(tx.now());
        let row = report.clone().into_active_model().reset_all();
        Ok((row.update(tx.db()).await?, problems))
    })?;
    *problems = all;
    problems.sort_by_key(|problem| problem.line);
    Ok(report)
}

/// Gives rows that are identified by their address the external id of the existing record with that
/// address, if there is one.
async fn known_by_address(tx: &Tx, viewer: &Viewer, report: &import::Model, rows: &[Row]) -> Result<Vec<Row>> {
    let of = |row: &Row| row.email.clone().flatten().filter(|_| row.by_address);
    let addresses: Vec<String> =
        rows.iter().filter_map(of).flat_map(|address| [address.to_lowercase(), address]).collect();
    if addresses.is_empty() {
        return Ok(rows.to_vec());
    }
    // The oldest record with an address comes last, and so wins in the map.
    let found: Vec<(Option<String>, Option<String>)> = record::Entity::find()
        .select_only()
        .columns([record::Column::Email, record::Column::ExternalId])
        .filter(record::COLUMN.org_id.eq(viewer.org_id))
        .filter(record::COLUMN.kind.eq(report.kind.clone()))
        .filter(record::COLUMN.external_id.is_not_null())
        .filter(any_of(tx.dialect(), record::COLUMN.email, addresses))
        .order_by_desc(record::COLUMN.id)
        .into_tuple()
        .all(tx.db())
        .await?;
    let ids: HashMap<String, String> =
        found.into_iter().filter_map(|(email, id)| Some((email?.to_lowercase(), id?))).collect();
    let known = |row: &Row| match of(row).and_then(|address| ids.get(&address.to_lowercase())) {
        Some(id) => Row { external_id: id.clone(), ..row.clone() },
        None => row.clone(),
    };
    Ok(rows.iter().map(known).collect())
}

/// Drops all but the first line of each external id. Seen ids are in the database, so that memory
/// is bounded for files of any size. An opt-out counts in whichever line it is, also for the addresses
/// of that line.
async fn without_duplicates(
    tx: &Tx,
    report: &mut import::Model,
    rows: &[Row],
    opted_out: &mut Vec<Contact>,
    problems: &mut Vec<Problem>,
) -> Result<Vec<Row>> {
    let ids: Vec<&str> = rows.iter().map(|row| row.external_id.as_str()).collect();
    let seen = import_seen::Entity::find()
        .filter(import_seen::COLUMN.import_id.eq(report.id))
        .filter(any_of(tx.dialect(), import_seen::COLUMN.external_id, ids))
        .all(tx.db())
        .await?;
    let mut first: HashMap<String, i64> = seen.into_iter().map(|row| (row.external_id, row.line)).collect();
    let (mut unique, mut new): (Vec<Row>, Vec<_>) = (Vec::new(), Vec::new());
    for row in rows {
        if let Some(line) = first.get(&row.external_id) {
            let mut why = format!("appears in line {line} already; the first one counts");
            if row.opt_out.is_some() {
                let of_row = if row.contacts.is_empty() {
                    "its opt-out counts, too".to_owned()
                } else {
                    addresses::outcome(&row.contacts)
                };
                why = format!("{why}; {of_row}");
                opted_out.extend(row.contacts.iter().cloned());
            }
            problems.push(Problem {
                line: row.line,
                column: Some("external_id".into()),
                value: Some(validate::printable(&row.external_id)),
                why,
            });
            match unique.iter_mut().find(|first| first.external_id == row.external_id) {
                Some(first) => {
                    first.opt_out = first.opt_out.or(row.opt_out);
                    report.bad += 1;
                }
                // The first line was written in an earlier chunk: only the opt-out of this one is
                // applied.
                None if row.opt_out.is_some() => {
                    report.fields_left_out += 1;
                    unique.push(Row {
                        line: row.line,
                        external_id: row.external_id.clone(),
                        opt_out: row.opt_out,
                        ..Row::default()
                    });
                }
                None => report.bad += 1,
            }
            continue;
        }
        first.insert(row.external_id.clone(), row.line as i64);
        new.push(import_seen::ActiveModel {
            import_id: Set(report.id),
            external_id: Set(row.external_id.clone()),
            line: Set(row.line as i64),
        });
        unique.push(row.clone());
    }
    if !new.is_empty() {
        crate::kernel::db::batch::insert_all(tx, new).await?;
    }
    Ok(unique)
}

async fn upsert(
    tx: &Tx,
    viewer: &Viewer,
    report: &mut import::Model,
    rows: &[Row],
    opted_out: &[Contact],
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let known = || {
        record::Entity::find()
            .filter(record::COLUMN.org_id.eq(viewer.org_id))
            .filter(record::COLUMN.kind.eq(report.kind.clone()))
            .order_by_asc(record::COLUMN.id)
    };
    let known = || {
        let ids = rows.iter().map(|row| row.external_id.clone());
        known().filter(any_of(tx.dialect(), record::COLUMN.external_id, ids))
    };
    // Lock order: runs before records. New opt-outs are skipped in their runs first, with all
    // records that have the same address.
    let existing: HashMap<String, Model> =
        known().all(tx.db()).await?.into_iter().filter_map(|row| Some((row.external_id.clone()?, row))).collect();
    let (mut changing, mut leaving) = (Vec::new(), Vec::new());
    for row in rows {
        let before = existing.get(&row.external_id);
        let after = merged(viewer, &report.kind, before, row, tx.now());
        changing.extend(before.filter(|before| **before != after).map(|before| before.id));
        if row.opt_out.is_some() && before.is_none_or(|before| before.unsubscribed_at.is_none()) {
            leaving.extend(before.cloned());
            leaving.push(after);
        }
    }
    // Addresses without a record: one with nothing but the address stands for each.
    leaving.extend(opted_out.iter().map(|(channel, address)| {
        let (address, mut row) = (Some(Some(address.clone())), Row::default());
        *(if *channel == Channel::Email { &mut row.email } else { &mut row.phone }) = address;
        merged(viewer, &report.kind, None, &row, tx.now())
    }));
    record_change::lock_runs(tx, viewer, &changing, &leaving, None).await?;
    interrupt::opted_out(tx, &Viewer::engine(viewer.org_id), &leaving).await?;
    noun::external_ids::lock(tx, viewer, &report.kind).await?;
    let found = known().lock_exclusive().all(tx.db()).await?;
    let found: HashMap<&str, &Model> =
        found.iter().filter_map(|row| Some((row.external_id.as_deref()?, row))).collect();
    let staged = rows.iter().any(|row| row.stage.as_ref().is_some_and(Option::is_some));
    let pipelines = if staged { stage::all(tx.db(), viewer).await? } else { Vec::new() };
    let mut changed = Vec::new();
    for row in rows {
        let before = found.get(row.external_id.as_str()).copied();
        let row = &without_unknown_stage(&pipelines, report, before, row, problems);
        let mut after = merged(viewer, &report.kind, before, row, tx.now());
        if serde_json::to_vec(&after.attributes)?.len() > limits::ATTRIBUTES_BYTES {
            problems.push(Problem {
                line: row.line,
                column: None,
                value: None,
                why: format!("the attributes take more than {} bytes: they are not changed", limits::ATTRIBUTES_BYTES),
            });
            report.fields_left_out += 1;
            let bare = Row { attributes: serde_json::Map::new(), ..row.clone() };
            after = merged(viewer, &report.kind, before, &bare, tx.now());
        }
        match before {
            Some(before) if *before == after => report.unchanged += 1,
            _ => changed.push(after),
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let rows: Vec<ActiveModel> = changed.iter().map(|row| row.clone().into_active_model().reset_all()).collect();
    // An opt-out from a concurrent transaction is kept.
    let opted_out = ["record", "excluded"].map(|table| Expr::col((Alias::new(table), record::Column::UnsubscribedAt)));
    let on_conflict = OnConflict::columns([record::Column::OrgId, record::Column::Kind, record::Column::ExternalId])
        .update_columns([
            record::Column::Name,
            record::Column::Email,
            record::Column::Phone,
            record::Column::TimeZone,
            record::Column::Stage,
            record::Column::LastContactedAt,
            record::Column::Priority,
            record::Column::Attributes,
            record::Column::Search,
            record::Column::UpdatedAt,
        ])
        .value(record::Column::UnsubscribedAt, Func::coalesce(opted_out))
        .value(record::Column::Revision, Expr::col((record::Entity, record::Column::Revision)).add(1))
        .to_owned();
    let written = crate::kernel::db::batch::insert_returning(tx, rows, Some(on_conflict)).await?;
    let before = |after: &Model| found.get(after.external_id.as_deref()?).copied();
    let former = written.iter().filter_map(|after| Some(suppression::as_before(before(after)?, after)));
    let closed: Vec<Model> = former.chain(written.iter().cloned()).collect();
    suppression::opt_out(tx, viewer, &closed).await?;
    suppression::erased::recall(tx, viewer, &written).await?;
    let mut changes = Vec::new();
    for after in &written {
        match before(after) {
            Some(before) => {
                report.updated += 1;
                changes.push((before, after));
            }
            None => {
                report.created += 1;
                noun::emit(tx, viewer, "record.created", after, json!({}));
            }
        }
    }
    record_change::announce(tx, viewer, &changes, None).await
}

/// Returns the row without a stage that its kind's pipeline does not have, and reports it.
fn without_unknown_stage(
    pipelines: &[Pipeline],
    report: &mut import::Model,
    before: Option<&Model>,
    row: &Row,
    problems: &mut Vec<Problem>,
) -> Row {
    let current = before.and_then(|before| before.stage.as_deref());
    let refused = row.stage.as_ref().and_then(|given| given.as_deref()).filter(|given| Some(*given) != current);
    let refused = refused.and_then(|given| {
        let why = stage::check(pipelines, "stage", &report.kind, given).err()?.to_string();
        Some((given, why.strip_prefix("stage: ").map_or(why.clone(), str::to_owned)))
    });
    let Some((given, why)) = refused else { return row.clone() };
    let value = Some(validate::printable(given));
    problems.push(Problem { line: row.line, column: Some("stage".into()), value, why });
    report.fields_left_out += 1;
    Row { stage: None, ..row.clone() }
}

/// Merges a row into its record: fields with a column come from the file, a blank cell clears, all
/// else stays as it is.
fn merged(viewer: &Viewer, kind: &str, before: Option<&Model>, row: &Row, now: DateTime<Utc>) -> Model {
    let mut attributes = before.and_then(|before| before.attributes.as_object().cloned()).unwrap_or_default();
    for (name, value) in &row.attributes {
        if value.is_null() {
            attributes.remove(name);
        } else {
            attributes.insert(name.clone(), value.clone());
        }
    }
    let attributes = noun::normalized(Value::Object(attributes));
    let given = |given: &Option<Option<String>>, current: fn(&Model) -> &Option<String>| match given {
        Some(given) => given.clone(),
        None => before.and_then(|before| current(before).clone()),
    };
    let name = match (&row.name, before) {
        (Some(name), _) => name.clone(),
        (None, Some(before)) => before.name.clone(),
        (None, None) => row.new_name(),
    };
    let email = given(&row.email, |before| &before.email);
    let contacted = row.last_contacted_at.flatten();
    let opted_out = row.opt_out.map(|opt_out| match opt_out {
        OptOut::Now => now,
        OptOut::Since(at) => Ord::min(at, now),
    });
    let after = Model {
        id: before.map_or_else(RecordId::new, |before| before.id),
        org_id: viewer.org_id,
        kind: kind.to_owned(),
        external_id: Some(row.external_id.clone()),
        search: noun::search(&name, email.as_deref(), Some(&row.external_id)),
        name,
        email,
        phone: given(&row.phone, |before| &before.phone),
        time_zone: given(&row.time_zone, |before| &before.time_zone),
        stage: given(&row.stage, |before| &before.stage),
        // The later contact wins, so one made here after the export survives, even with a blank
        // cell.
        last_contacted_at: Ord::max(before.and_then(|before| before.last_contacted_at), contacted),
        priority: noun::priority(&attributes),
        last_replied_at: before.and_then(|before| before.last_replied_at),
        // A file can opt a record out, but never back in.
        unsubscribed_at: before.and_then(|before| before.unsubscribed_at).or(opted_out),
        // An erased record has no external id, so that no row is merged into it.
        erased_at: None,
        erasure_completed_at: None,
        attributes,
        created_at: before.map_or(now, |before| before.created_at),
        updated_at: before.map_or(now, |before| before.updated_at),
        revision: before.map_or(1, |before| before.revision),
    };
    match before {
        Some(before) if after != *before => Model { updated_at: now, ..after },
        _ => after,
    }
}

/// Stores problems in the report, up to its limit.
pub(super) async fn keep(tx: &Tx, report: &import::Model, problems: &[Problem]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let stored = import_problem::Entity::find().filter(import_problem::COLUMN.import_id.eq(report.id));
    let stored = stored.count(tx.db()).await? as i64;
    let room = usize::try_from(limits::IMPORT_PROBLEMS - stored).unwrap_or(0);
    let mut problems: Vec<&Problem> = problems.iter().collect();
    problems.sort_by_key(|problem| problem.line);
    let rows: Vec<_> = problems
        .iter()
        .take(room)
        .zip(stored + 1..)
        .map(|(problem, number)| import_problem::ActiveModel {
            import_id: Set(report.id),
            number: Set(number),
            org_id: Set(report.org_id),
            line: Set(problem.line as i64),
            column_name: Set(problem.column.clone()),
            value: Set(problem.value.clone()),
            why: Set(problem.why.clone()),
        })
        .collect();
    crate::kernel::db::batch::insert_all(tx, rows).await
}
