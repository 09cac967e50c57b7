//! Orders by a nullable column in which the rows without a value have a statement of their own.
//!
//! That statement reads them in the order of their ids, by the indexes that the filter has anyway.
//! One index of the rows with a value serves both directions, however many rows have none.

use std::collections::HashSet;

use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QuerySelect, QueryTrait, Select};
use uuid::Uuid;

use super::part::model;
use super::window::is_of_statement;
use super::{AT_ONCE, Args, Key, Order, Page, Window, count, explain, to_page, window};
use crate::kernel::error::{Refusal, Result};

impl<E: EntityTrait> Window<E> {
    /// Reads the window.
    pub async fn read(self, db: &impl ConnectionTrait) -> Result<Page<E::Model>> {
        if self.order.nulls_apart { read(db, self).await } else { self.read_at_once(db).await }
    }

    /// The database's query plan for the window. Tests use it to require an index.
    pub async fn plan(self, db: &impl ConnectionTrait) -> Result<String> {
        if self.order.nulls_apart { plan(db, &self).await } else { self.plan_at_once(db).await }
    }

    /// Reads many windows in such an order, in two statements for each `AT_ONCE` of them: of the rows
    /// with a value, and of those without one. An error in one is returned for that one.
    pub(super) async fn read_apart(db: &impl ConnectionTrait, all: &[Self]) -> Result<Vec<Result<Page<E::Model>>>> {
        let mut pages = Vec::with_capacity(all.len());
        for chunk in all.chunks(AT_ONCE) {
            match read_chunk(db, chunk).await {
                Ok(found) => pages.extend(found),
                // A single failing window is reported for that one.
                Err(err) if all.len() > 1 && is_of_statement(&err) => {
                    for one in chunk {
                        pages.push(one.clone().read(db).await);
                    }
                }
                Err(err) => return Err(err),
            }
        }
        Ok(pages)
    }
}

/// The rows of one window so far, its statements, and how many rows are read from which end.
struct Reading<E: EntityTrait> {
    statements: Vec<Select<E>>,
    rows: Vec<E::Model>,
    count: usize,
    backward: bool,
}

async fn read_chunk<E: EntityTrait>(
    db: &impl ConnectionTrait,
    chunk: &[Window<E>],
) -> Result<Vec<Result<Page<E::Model>>>> {
    let begun = chunk.iter().map(|one| {
        let (count, backward) = count(&one.args)?;
        Ok(Reading { statements: statements(one, db.get_database_backend())?, rows: Vec::new(), count, backward })
    });
    let mut begun: Vec<Result<Reading<E>>> = begun.collect();
    let Some(id_of) = chunk.first().map(|one| one.order.id_of) else { return Ok(Vec::new()) };
    for nth in 0..2 {
        let (mut windows, mut selects, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (one, reading)) in chunk.iter().zip(&begun).enumerate() {
            if let Ok(Reading { statements, rows, count, backward }) = reading
                && rows.len() <= *count
                && let Some(select) = statements.get(nth)
            {
                let select = one.part.map_or_else(|| select.clone(), |part| part.narrow(select.clone()));
                windows.push(one.clone());
                selects.push(Ok((select, *count, *backward)));
                places.push(place);
            }
        }
        if windows.is_empty() {
            continue;
        }
        for (place, found) in places.into_iter().zip(Window::rows(db, &windows, &selects).await?) {
            if let Some(Ok(reading)) = begun.get_mut(place) {
                add(&mut reading.rows, found, id_of);
            }
        }
    }
    let pages = begun.into_iter().zip(chunk).map(|(reading, one)| {
        let Reading { rows, count, backward, .. } = reading?;
        to_page(rows, count, backward, &one.order, &one.fingerprint, &one.args)
    });
    Ok(pages.collect())
}

/// Reads a window of such an order.
async fn read<E: EntityTrait>(db: &impl ConnectionTrait, of: Window<E>) -> Result<Page<E::Model>> {
    let backend = db.get_database_backend();
    let (count, backward) = count(&of.args)?;
    let mut rows: Vec<E::Model> = Vec::new();
    for select in statements(&of, backend)? {
        let Some(missing) = (count + 1).checked_sub(rows.len()).filter(|missing| *missing > 0) else { break };
        let select = select.limit(missing as u64);
        let found = match of.part {
            None => select.all(db).await?,
            Some(part) => {
                let found = db.query_all_raw(part.narrow(select).build(backend)).await?;
                found.iter().map(|row| model::<E>(row, Some(part), 0)).collect::<Result<Vec<_>>>()?
            }
        };
        add(&mut rows, found, of.order.id_of);
    }
    to_page(rows, count, backward, &of.order, &of.fingerprint, &of.args)
}

/// Adds the rows of a window's second statement. A row may have lost its value between the two. One that
/// got one is missing from this page, as a row that moves before the cursor is.
fn add<M>(rows: &mut Vec<M>, found: Vec<M>, id_of: fn(&M) -> Uuid) {
    let known: HashSet<Uuid> = rows.iter().map(id_of).collect();
    rows.extend(found.into_iter().filter(|row| !known.contains(&id_of(row))));
}

/// The database's query plans for the statements of a window.
async fn plan<E: EntityTrait>(db: &impl ConnectionTrait, of: &Window<E>) -> Result<String> {
    let mut plans = Vec::new();
    for select in statements(of, db.get_database_backend())? {
        plans.push(explain(db, select.into_query()).await?);
    }
    Ok(plans.join("\n"))
}

/// The statements of a window, in the order in which they are read: rows without a value come last.
/// A cursor may exclude one of them.
fn statements<E: EntityTrait>(of: &Window<E>, backend: DbBackend) -> Result<Vec<Select<E>>> {
    let (count, backward) = count(&of.args)?;
    let (after, before) = (has_value(of, "after", &of.args.after)?, has_value(of, "before", &of.args.before)?);
    let statement = |select: Select<E>, by, takes_after: bool, takes_before: bool| {
        let number = i32::try_from(count).ok();
        let args = Args {
            first: number.filter(|_| !backward),
            last: number.filter(|_| backward),
            after: of.args.after.clone().filter(|_| takes_after),
            before: of.args.before.clone().filter(|_| takes_before),
        };
        let order = Order { by, nulls_apart: false, ..of.order };
        Ok::<_, crate::kernel::error::Error>(window(select, &order, &of.fingerprint, &args, backend)?.0)
    };
    let select = || of.select.clone();
    let Some((column, key, _)) = of.order.by else { return Ok(vec![statement(select(), None, true, true)?]) };
    let mut all = Vec::with_capacity(2);
    if after != Some(false) {
        let by = Some((column, key, false));
        all.push(statement(select().filter(column.is_not_null()), by, true, before == Some(true))?);
    }
    if before != Some(true) {
        all.push(statement(select().filter(column.is_null()), None, after == Some(false), true)?);
    }
    if backward {
        all.reverse();
    }
    Ok(all)
}

/// True if the row of a cursor has a value; none without a cursor. Errors: BAD_USER_INPUT.
fn has_value<E: EntityTrait>(of: &Window<E>, field: &str, cursor: &Option<String>) -> Result<Option<bool>> {
    let Some(text) = cursor else { return Ok(None) };
    let cursor = super::read(field, text, &of.fingerprint)?;
    // Clients can forge cursors.
    if !of.order.has(&cursor.k) {
        return Err(Refusal::input(field, "not a cursor of this list").into());
    }
    Ok(Some(!matches!(cursor.k, Key::None)))
}
