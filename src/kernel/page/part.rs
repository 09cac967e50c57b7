//! Reads some columns of a table: a list reads those that its nodes' selection depends on.

use entity::columns::{Columns, PartialModel};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryResult, QueryTrait, Select};

use crate::kernel::error::Result;

/// Reads the rows of a statement: the given columns, or all.
pub async fn rows<E>(db: &impl ConnectionTrait, select: Select<E>, columns: Option<Columns>) -> Result<Vec<E::Model>>
where
    E: EntityTrait,
    E::Model: PartialModel<Entity = E>,
{
    let Some(columns) = columns else { return Ok(select.all(db).await?) };
    let found = db.query_all_raw(E::Model::select(select, columns).build(db.get_database_backend())).await?;
    Ok(found.iter().map(|row| E::Model::read(row, columns, 0)).collect::<std::result::Result<_, _>>()?)
}

/// Some columns of a table, and how a row is read from them.
pub struct Part<E: EntityTrait> {
    pub(super) columns: Columns,
    pub(super) narrow: fn(Select<E>, Columns) -> Select<E>,
    pub(super) read: fn(&QueryResult, Columns, usize) -> std::result::Result<E::Model, DbErr>,
}

impl<E: EntityTrait> Clone for Part<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: EntityTrait> Copy for Part<E> {}

impl<E: EntityTrait> Part<E> {
    /// Builds the part with these columns.
    pub(crate) fn new(columns: Columns) -> Self
    where
        E::Model: PartialModel<Entity = E>,
    {
        Self { columns, narrow: E::Model::select, read: E::Model::read }
    }

    /// The part with the columns of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { columns: self.columns.and(other.columns), ..self }
    }

    /// The columns.
    pub(crate) fn columns(&self) -> Columns {
        self.columns
    }

    /// Narrows a statement to the columns.
    pub(crate) fn narrow(&self, select: Select<E>) -> Select<E> {
        (self.narrow)(select, self.columns)
    }
}

/// Reads an entire row, or the given part of one whose columns begin at `first`.
pub(crate) fn model<E: EntityTrait>(row: &QueryResult, part: Option<Part<E>>, first: usize) -> Result<E::Model> {
    Ok(match part {
        Some(part) => (part.read)(row, part.columns, first)?,
        None => E::Model::from_query_result(row, "")?,
    })
}
