//! A saved view: a named filter, order and settings of a page of a front end.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One saved view.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "saved_view")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SavedViewId,
    /// The tenant.
    pub org_id: OrgId,
    /// The member whose view it is; null for a shared view whose owner was deleted.
    pub owner_id: Option<MemberId>,
    /// The page of the front end that it belongs to.
    pub page: String,
    /// Display name, unique among the owner's views of a page.
    pub name: String,
    /// The filter, in the form of the front end.
    pub filter: Option<Json>,
    /// The order, in the form of the front end.
    pub order_by: Option<Json>,
    /// Further settings of the front end, such as columns.
    pub settings: Option<Json>,
    /// True if the whole org sees it, false if only its owner does.
    pub shared: bool,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
