//! Windows of many lists in one statement, for the nodes of a list.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use entity::columns::{Columns, PartialModel};
use sea_orm::sea_query::{Asterisk, Expr, Func, IntoColumnRef, Query, SelectStatement, UnionType};
use sea_orm::{ConnectionTrait, EntityTrait, IdenStatic, QueryResult, QueryTrait, Select};

use super::alike::{number_of_each, rows_of_each};
use super::part::{Part, model};
use super::{Args, Order, Page, page, plan, to_page, window};
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::error_codes;
use crate::kernel::error::{Error, Result};

/// A requested window of rows; two with the same order, filter and arguments are equal.
pub struct Window<E: EntityTrait> {
    /// The rows to page through.
    pub select: Select<E>,
    /// Their order.
    pub order: Order<E>,
    /// Hash of order and filter.
    pub fingerprint: String,
    /// Pagination arguments.
    pub args: Args,
    /// The columns that are read; none: all. The fields of other columns are blank.
    pub part: Option<Part<E>>,
}

impl<E: EntityTrait> Clone for Window<E> {
    fn clone(&self) -> Self {
        let (select, fingerprint, args) = (self.select.clone(), self.fingerprint.clone(), self.args.clone());
        Self { select, order: self.order, fingerprint, args, part: self.part }
    }
}

impl<E: EntityTrait> PartialEq for Window<E> {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.args == other.args && self.columns() == other.columns()
    }
}

impl<E: EntityTrait> Eq for Window<E> {}

impl<E: EntityTrait> Hash for Window<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.fingerprint, &self.args, self.columns()).hash(state);
    }
}

/// Maximum number of windows per statement: SQLite takes no more than 500.
pub(crate) const AT_ONCE: usize = 250;

impl<E: EntityTrait> Window<E> {
    fn columns(&self) -> Option<Columns> {
        self.part.map(|part| part.columns)
    }

    /// Reads only these columns, and those of the order.
    pub fn only(self, columns: Columns) -> Self
    where
        E::Model: PartialModel<Entity = E>,
    {
        let by = self.order.by.as_ref().map_or(Columns::NONE, |(column, ..)| E::Model::column(*column));
        let columns = columns.and(by).and(E::Model::column(self.order.id));
        Self { part: Some(Part::new(columns)), ..self }
    }

    /// Reads the window with one statement.
    pub(super) async fn read_at_once(self, db: &impl ConnectionTrait) -> Result<Page<E::Model>> {
        let Some(part) = self.part else {
            return page(db, self.select, &self.order, &self.fingerprint, &self.args).await;
        };
        let backend = db.get_database_backend();
        let (select, count, backward) = window(self.select, &self.order, &self.fingerprint, &self.args, backend)?;
        let found = db.query_all_raw(part.narrow(select).build(backend)).await?;
        let rows: Result<Vec<_>> = found.iter().map(|row| model::<E>(row, Some(part), 0)).collect();
        to_page(rows?, count, backward, &self.order, &self.fingerprint, &self.args)
    }

    /// The plan of that statement.
    pub(super) async fn plan_at_once(self, db: &impl ConnectionTrait) -> Result<String> {
        plan(db, self.select, &self.order, &self.fingerprint, &self.args).await
    }

    /// Reads many windows in one statement for each order that they have, for the nodes of a list. An
    /// error in one is returned for that one.
    pub async fn read_all(db: &impl ConnectionTrait, all: &[Self]) -> Result<Vec<Result<Page<E::Model>>>> {
        // Statements in different orders share no text.
        let mut parts: BTreeMap<(Option<&str>, bool), Vec<usize>> = BTreeMap::new();
        for (at, one) in all.iter().enumerate() {
            parts.entry((one.sorted_by(), one.order.nulls_apart)).or_default().push(at);
        }
        if parts.len() <= 1 {
            return Self::read_alike(db, all).await;
        }
        let mut pages: Vec<Option<Result<Page<E::Model>>>> = all.iter().map(|_| None).collect();
        for part in parts.into_values() {
            let windows: Vec<Self> = part.iter().filter_map(|at| all.get(*at)).cloned().collect();
            for (at, page) in part.into_iter().zip(Self::read_alike(db, &windows).await?) {
                if let Some(place) = pages.get_mut(at) {
                    *place = Some(page);
                }
            }
        }
        Ok(pages.into_iter().flatten().collect())
    }

    /// The column that the rows are sorted by, before their ids.
    fn sorted_by(&self) -> Option<&str> {
        self.order.by.as_ref().map(|(column, ..)| column.as_str())
    }

    async fn read_alike(db: &impl ConnectionTrait, all: &[Self]) -> Result<Vec<Result<Page<E::Model>>>> {
        let mut pages = Vec::with_capacity(all.len());
        if all.iter().any(|one| one.order.nulls_apart) {
            return Self::read_apart(db, all).await;
        }
        for chunk in all.chunks(AT_ONCE) {
            let backend = db.get_database_backend();
            let statement = |one: &Self| {
                let (select, count, backward) =
                    window(one.select.clone(), &one.order, &one.fingerprint, &one.args, backend)?;
                Ok((one.part.map_or(select.clone(), |part| part.narrow(select)), count, backward))
            };
            let statements: Vec<_> = chunk.iter().map(statement).collect();
            let rows = match Self::rows(db, chunk, &statements).await {
                Ok(rows) => rows,
                // A single failing window is reported for that one.
                Err(err) if all.len() > 1 && is_of_statement(&err) => {
                    for one in chunk {
                        pages.push(one.clone().read(db).await);
                    }
                    continue;
                }
                Err(err) => return Err(err),
            };
            for ((one, statement), rows) in chunk.iter().zip(statements).zip(rows) {
                pages.push(statement.and_then(|(_, count, backward)| {
                    to_page(rows, count, backward, &one.order, &one.fingerprint, &one.args)
                }));
            }
        }
        Ok(pages)
    }

    /// The rows of each window, none where it has no statement.
    pub(super) async fn rows(
        db: &impl ConnectionTrait,
        windows: &[Self],
        statements: &[Result<(Select<E>, usize, bool)>],
    ) -> Result<Vec<Vec<E::Model>>> {
        let select =
            |statement: &Result<(Select<E>, usize, bool)>| Some(statement.as_ref().ok()?.0.clone().into_query());
        let selects: Vec<Option<SelectStatement>> = statements.iter().map(select).collect();
        if let Some(each) = selects.iter().cloned().collect::<Option<Vec<_>>>()
            && let part = windows.first().and_then(|one| one.part)
            && windows.iter().all(|one| one.columns() == part.map(|part| part.columns))
            && let Some(mut found) = rows_of_each::<E>(db, &each, part).await?
        {
            if !found.sorted {
                let orders = windows.iter().zip(statements).zip(&mut found.rows);
                orders.for_each(|((one, statement), rows)| {
                    one.order.sort(rows, statement.as_ref().is_ok_and(|(.., backward)| *backward));
                });
            }
            return Ok(found.rows);
        }
        let each = selects.into_iter().enumerate().filter_map(|(nth, select)| {
            let mut one = Query::select();
            one.expr_as(Expr::val(nth as i32), NTH).column(Asterisk);
            Some(one.from_subquery(select?, "one").take())
        });
        let mut rows: Vec<Vec<E::Model>> = windows.iter().map(|_| Vec::new()).collect();
        for row in union(db, each.collect()).await? {
            let nth = usize::try_from(row.try_get::<i32>("", NTH)?).unwrap_or_default();
            if let (Some(rows), Some(one)) = (rows.get_mut(nth), windows.get(nth)) {
                rows.push(model::<E>(&row, one.part, 1)?);
            }
        }
        Ok(rows)
    }

    /// Total number of rows of each window on all pages, in one statement.
    pub async fn count_all(db: &impl ConnectionTrait, all: &[Self]) -> Result<Vec<Result<u64>>> {
        let counts = Self::count_all_by(db, all, None).await?;
        let sum = |counts: Vec<(String, u64)>| counts.into_iter().map(|(_, count)| count).sum();
        Ok(counts.into_iter().map(|counts| counts.map(sum)).collect())
    }

    /// Total number of rows of each window, grouped by a column; values without rows are omitted.
    /// An error in one is returned for that one.
    pub async fn count_all_by(
        db: &impl ConnectionTrait,
        all: &[Self],
        by: Option<E::Column>,
    ) -> Result<Vec<Result<Vec<(String, u64)>>>> {
        let mut counts = Vec::with_capacity(all.len());
        for chunk in all.chunks(AT_ONCE) {
            match Self::count_chunk(db, chunk, by).await {
                Ok(found) => counts.extend(found.into_iter().map(Ok)),
                Err(err) if all.len() > 1 && is_of_statement(&err) => {
                    for one in chunk {
                        let alone = Self::count_chunk(db, std::slice::from_ref(one), by).await;
                        counts.push(alone.map(|found| found.into_iter().flatten().collect()));
                    }
                }
                Err(err) => return Err(err),
            }
        }
        Ok(counts)
    }

    async fn count_chunk(
        db: &impl ConnectionTrait,
        chunk: &[Self],
        by: Option<E::Column>,
    ) -> Result<Vec<Vec<(String, u64)>>> {
        if by.is_none() {
            let number = |one: &Self| {
                one.select.clone().into_query().clear_selects().expr(Func::count(Expr::col(Asterisk))).take()
            };
            let each: Vec<SelectStatement> = chunk.iter().map(number).collect();
            if let Some(numbers) = number_of_each(db, &each).await? {
                let count = |number: i64| vec![(String::new(), u64::try_from(number).unwrap_or_default())];
                return Ok(numbers.into_iter().map(count).collect());
            }
        }
        let mut counts: Vec<Vec<(String, u64)>> = chunk.iter().map(|_| Vec::new()).collect();
        let each = chunk.iter().enumerate().map(|(nth, one)| {
            let mut one = one.select.clone().into_query();
            one.clear_selects().expr_as(Expr::val(nth as i32), NTH);
            one.expr_as(Func::count(Expr::col(Asterisk)), "count");
            if let Some(by) = by {
                let by = Expr::col((E::default(), by).into_column_ref());
                one.expr_as(by.clone(), "word").add_group_by([by]);
            }
            one.take()
        });
        for row in union(db, each.collect()).await? {
            let nth = usize::try_from(row.try_get::<i32>("", NTH)?).unwrap_or_default();
            if let Some(counts) = counts.get_mut(nth) {
                let count = u64::try_from(row.try_get::<i64>("", "count")?).unwrap_or_default();
                let word = by.map(|_| row.try_get("", "word")).transpose()?.unwrap_or_default();
                counts.push((word, count));
            }
        }
        Ok(counts)
    }
}

pub(super) fn is_of_statement(err: &Error) -> bool {
    err.db().is_some_and(error_codes::is_of_statement)
}

/// The column with the index of the statement that a row belongs to.
pub(crate) const NTH: &str = "nth";

/// The rows of several statements, each in its order; none without statements. They are combined
/// into one statement, or more if one would have too many parameters.
pub(crate) async fn union(db: &impl ConnectionTrait, mut each: Vec<SelectStatement>) -> Result<Vec<QueryResult>> {
    let backend = db.get_database_backend();
    let Some(first) = each.first() else { return Ok(Vec::new()) };
    let mut all = first.clone();
    for one in &each[1..] {
        all.union(UnionType::All, one.clone());
    }
    let statement = backend.build(&all);
    let parameters = statement.values.as_ref().map_or(0, |values| values.0.len());
    if parameters <= Dialect::from(backend).parameters() || each.len() == 1 {
        return Ok(db.query_all_raw(statement).await?);
    }
    let second = each.split_off(each.len() / 2);
    let mut rows = Box::pin(union(db, each)).await?;
    rows.extend(Box::pin(union(db, second)).await?);
    Ok(rows)
}
