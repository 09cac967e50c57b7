//! What was wrong with one line of an import.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One problem; a line may have several.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_problem")]
pub struct Model {
    /// The import.
    #[sea_orm(primary_key, auto_increment = false)]
    pub import_id: ImportId,
    /// 1, 2, 3 … within the import.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// The tenant.
    pub org_id: OrgId,
    /// The line of the file, from 1; the header is line 1.
    pub line: i64,
    /// The column, where it is about one.
    pub column_name: Option<String>,
    /// The value as it stood there, shortened.
    pub value: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

impl ActiveModelBehavior for ActiveModel {}
