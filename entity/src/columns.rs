//! Rows read in part: a list that shows a few columns of its table reads only those.

use chrono::DateTime;
use sea_orm::entity::prelude::{DateTimeUtc, Json};
use sea_orm::{DbErr, EntityTrait, Iterable, ModelTrait, QueryResult, QuerySelect, Select, TryGetable};

use crate::definition::Overrides;
use crate::event::Payload;

/// Some columns of a table of at most 64, each by its place in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Columns(u64);

impl Columns {
    /// No column.
    pub const NONE: Self = Self(0);

    /// Returns the columns of both sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the set of one column, given its place in the model.
    #[doc(hidden)]
    pub fn nth(place: u32) -> Self {
        Self(1_u64.checked_shl(place).unwrap_or_default())
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A model that can be read from some of its columns.
pub trait PartialModel: ModelTrait {
    /// Returns the set of one column.
    fn column(column: <Self::Entity as EntityTrait>::Column) -> Columns;

    /// Reads a row whose `select`ed columns begin at `first`. The other fields are blank: do not use
    /// them.
    fn read(row: &QueryResult, columns: Columns, first: usize) -> Result<Self, DbErr>;

    /// Returns the set of several columns.
    fn columns(columns: &[<Self::Entity as EntityTrait>::Column]) -> Columns
    where
        <Self::Entity as EntityTrait>::Column: Copy,
    {
        columns.iter().fold(Columns::NONE, |all, column| all.and(Self::column(*column)))
    }

    /// Narrows a statement to some columns, in the order in which `read` expects them.
    fn select(select: Select<Self::Entity>, columns: Columns) -> Select<Self::Entity>
    where
        <Self::Entity as EntityTrait>::Column: Copy,
    {
        let wanted = <Self::Entity as EntityTrait>::Column::iter().filter(|column| columns.has(Self::column(*column)));
        select.select_only().columns(wanted)
    }
}

/// A value for a field whose column is not read.
#[doc(hidden)]
pub trait Blank {
    fn blank() -> Self;
}

impl<T> Blank for Option<T> {
    fn blank() -> Self {
        None
    }
}

impl Blank for DateTimeUtc {
    fn blank() -> Self {
        DateTime::UNIX_EPOCH
    }
}

macro_rules! blank_by_default {
    ($($of:ty),*) => {$(
        impl Blank for $of {
            fn blank() -> Self {
                Self::default()
            }
        }
    )*};
}

blank_by_default!(String, i32, i64, bool, f64, Json, Overrides, Payload);

/// Reads the fields of a row one after the other.
#[doc(hidden)]
pub struct Fields<'a> {
    row: &'a QueryResult,
    columns: Columns,
    place: u32,
    index: usize,
}

impl<'a> Fields<'a> {
    pub fn new(row: &'a QueryResult, columns: Columns, first: usize) -> Self {
        Self { row, columns, place: 0, index: first }
    }

    pub fn read<T: TryGetable + Blank>(&mut self) -> Result<T, DbErr> {
        let wanted = self.columns.has(Columns::nth(self.place));
        self.place += 1;
        if !wanted {
            return Ok(T::blank());
        }
        self.index += 1;
        self.row.try_get_by_index(self.index - 1)
    }
}

/// Makes a module's model readable in part; its fields are given in their order in the model.
macro_rules! partial_model {
    ($($field:ident),* $(,)?) => {
        impl crate::columns::PartialModel for Model {
            fn column(column: Column) -> crate::columns::Columns {
                crate::columns::Columns::nth(column as u32)
            }

            fn read(
                row: &sea_orm::QueryResult,
                columns: crate::columns::Columns,
                first: usize,
            ) -> Result<Self, sea_orm::DbErr> {
                let mut fields = crate::columns::Fields::new(row, columns, first);
                Ok(Self { $($field: fields.read()?),* })
            }
        }
    };
}
