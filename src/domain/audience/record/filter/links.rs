//! Links with other records as conditions of a filter (`linkedFrom`, `linkedTo`).

use async_graphql::{ID, InputObject};
use entity::id::RecordId;
use entity::record::{Column, Entity};
use entity::record_link::{Column as Link, Entity as Links};
use sea_orm::ColumnTrait;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use serde::{Deserialize, Serialize};

use super::nothing::MaybeEmpty;
use crate::domain::audience::record::link::check_roles;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::Result;
use crate::kernel::validate;

/// Conditions on links with other records; one link must meet all given ones, and at least one is
/// required.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[graphql(name = "RecordLinkFilter")]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LinkFilter {
    /// The other record is one of these; at most 10,000 ids. Null: any record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_ids: Option<Vec<ID>>,
    /// The link has one of these roles. Null: any role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// False if there must be no such link, true or null if there must be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

impl MaybeEmpty for LinkFilter {
    fn has_value(&self) -> bool {
        *self != Self::default()
    }
}

impl LinkFilter {
    /// True if every record meets it: there is no condition, or no link to one of none is asked for.
    pub(super) fn admits_all(&self) -> bool {
        let is_of_none =
            self.record_ids.as_ref().is_some_and(Vec::is_empty) || self.roles.as_ref().is_some_and(Vec::is_empty);
        !self.has_value() || (self.exists == Some(false) && is_of_none)
    }

    /// Translates it to a condition on the table `record`, whose records stand at the end `own` of the
    /// links, and those of the filter at the end `other`. Errors: BAD_USER_INPUT, naming the path.
    pub(super) fn condition(&self, dialect: Dialect, (own, other): (Link, Link), path: &str) -> Result<Expr> {
        let mut links = Query::select();
        links.from(Links);
        if let Some(ids) = &self.record_ids {
            let field = format!("{path}.recordIds");
            let ids = ids.iter().map(|id| validate::id::<RecordId>(&field, id)).collect::<Result<Vec<_>>>()?;
            links.and_where(any_of(dialect, other, ids));
        }
        if let Some(roles) = &self.roles {
            links.and_where(any_of(dialect, Link::Role, check_roles(&format!("{path}.roles"), roles)?));
        }
        if self.record_ids.is_some() && self.exists != Some(false) {
            // SQLite looks up the records of a list, but would test each record for the existence.
            return Ok(Column::Id.in_subquery(links.column(own).take()));
        }
        links.expr(Expr::val(1)).and_where(Expr::col((Links, own)).equals((Entity, Column::Id)));
        let exists = Expr::exists(links);
        Ok(if self.exists == Some(false) { exists.not() } else { exists })
    }
}
