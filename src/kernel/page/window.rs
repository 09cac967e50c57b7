//! Windows of many lists at once: what is below the nodes of a list, in one statement.

use std::hash::{Hash, Hasher};

use sea_orm::sea_query::{Asterisk, Expr, Func, IntoColumnRef, Query, SelectStatement, UnionType};
use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult, QueryResult, QueryTrait, Select};

use super::{Args, Order, Page, page, shown, window};
use crate::kernel::db::dialect::{self, Dialect};
use crate::kernel::error::{Error, Result};

/// A window of some rows, as it is asked for; two of the same order, filter and arguments are the same.
pub struct Window<E: EntityTrait> {
    /// The rows.
    pub select: Select<E>,
    /// Their order.
    pub order: Order<E>,
    /// What order and filter come to.
    pub fingerprint: String,
    /// Which of them.
    pub args: Args,
}

impl<E: EntityTrait> Clone for Window<E> {
    fn clone(&self) -> Self {
        let (select, fingerprint, args) = (self.select.clone(), self.fingerprint.clone(), self.args.clone());
        Self { select, order: self.order, fingerprint, args }
    }
}

impl<E: EntityTrait> PartialEq for Window<E> {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.args == other.args
    }
}

impl<E: EntityTrait> Eq for Window<E> {}

impl<E: EntityTrait> Hash for Window<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.fingerprint, &self.args).hash(state);
    }
}

/// Windows of one statement: SQLite takes no more than 500.
pub(crate) const AT_ONCE: usize = 250;

impl<E: EntityTrait> Window<E> {
    /// Reads it.
    pub async fn read(self, db: &impl ConnectionTrait) -> Result<Page<E::Model>> {
        page(db, self.select, &self.order, &self.fingerprint, &self.args).await
    }

    /// Reads many, in one statement: what is below the nodes of a list. What is wrong with one is told of that one.
    pub async fn read_all(db: &impl ConnectionTrait, all: &[Self]) -> Result<Vec<Result<Page<E::Model>>>> {
        let mut pages = Vec::with_capacity(all.len());
        for some in all.chunks(AT_ONCE) {
            let backend = db.get_database_backend();
            let cut = |one: &Self| window(one.select.clone(), &one.order, &one.fingerprint, &one.args, backend);
            let cut: Vec<_> = some.iter().map(cut).collect();
            let each = cut.iter().enumerate().filter_map(|(nth, cut)| {
                let (select, ..) = cut.as_ref().ok()?;
                let mut one = Query::select();
                one.expr_as(Expr::val(nth as i32), NTH).column(Asterisk);
                Some(one.from_subquery(select.clone().into_query(), "one").take())
            });
            let found = match union(db, each.collect()).await {
                Ok(found) => found,
                // One that the database refuses is told of that one.
                Err(err) if all.len() > 1 && is_of_statement(&err) => {
                    for one in some {
                        pages.push(one.clone().read(db).await);
                    }
                    continue;
                }
                Err(err) => return Err(err),
            };
            let mut rows: Vec<Vec<E::Model>> = some.iter().map(|_| Vec::new()).collect();
            for row in found {
                let nth = usize::try_from(row.try_get::<i32>("", NTH)?).unwrap_or_default();
                if let Some(rows) = rows.get_mut(nth) {
                    rows.push(E::Model::from_query_result(&row, "")?);
                }
            }
            for ((one, cut), rows) in some.iter().zip(cut).zip(rows) {
                pages.push(cut.and_then(|(_, count, backward)| {
                    shown(rows, count, backward, &one.order, &one.fingerprint, &one.args)
                }));
            }
        }
        Ok(pages)
    }

    /// How many rows there are on all pages of each, in one statement.
    pub async fn count_all(db: &impl ConnectionTrait, all: &[Self]) -> Result<Vec<Result<u64>>> {
        let counts = Self::count_all_by(db, all, None).await?;
        let sum = |counts: Vec<(String, u64)>| counts.into_iter().map(|(_, count)| count).sum();
        Ok(counts.into_iter().map(|counts| counts.map(sum)).collect())
    }

    /// The same, apart by the words of a column; words that there are none of are left out. What is wrong with one is told
    /// of that one.
    pub async fn count_all_by(
        db: &impl ConnectionTrait,
        all: &[Self],
        by: Option<E::Column>,
    ) -> Result<Vec<Result<Vec<(String, u64)>>>> {
        let mut counts = Vec::with_capacity(all.len());
        for some in all.chunks(AT_ONCE) {
            match Self::count_some(db, some, by).await {
                Ok(found) => counts.extend(found.into_iter().map(Ok)),
                Err(err) if all.len() > 1 && is_of_statement(&err) => {
                    for one in some {
                        let alone = Self::count_some(db, std::slice::from_ref(one), by).await;
                        counts.push(alone.map(|found| found.into_iter().flatten().collect()));
                    }
                }
                Err(err) => return Err(err),
            }
        }
        Ok(counts)
    }

    async fn count_some(
        db: &impl ConnectionTrait,
        some: &[Self],
        by: Option<E::Column>,
    ) -> Result<Vec<Vec<(String, u64)>>> {
        let mut counts: Vec<Vec<(String, u64)>> = some.iter().map(|_| Vec::new()).collect();
        let each = some.iter().enumerate().map(|(nth, one)| {
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

fn is_of_statement(err: &Error) -> bool {
    err.db().is_some_and(dialect::is_of_statement)
}

/// The column that tells which statement a row is of.
pub(crate) const NTH: &str = "nth";

/// The rows of several statements, each as a whole and in its order; none where there is no statement. Together they are one
/// statement, or more where one would have too many parameters.
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
