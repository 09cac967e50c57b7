//! The text that searches of communications look through: subject, recipient's name and address.

use entity::communication::{Column, Entity};
use sea_orm::sea_query::{BinOper, Expr, ExprTrait, Func, SimpleExpr};

use crate::kernel::storable;

/// The value of the column `search`: subject and recipient's name, folded; null where lower case alone
/// folds them. The address is apart, since it changes alone, and is always ASCII.
pub(crate) fn folded(subject: Option<&str>, to_name: &str) -> Option<String> {
    let text = format!("{} {to_name}", subject.unwrap_or_default());
    (!text.is_ascii()).then(|| storable::folded(&text))
}

/// The whole text, as SQL: lower case folds ASCII alike on both databases.
pub(super) fn searched() -> SimpleExpr {
    let column = |column: Column| Expr::col((Entity, column));
    let joined = |left: SimpleExpr, right: SimpleExpr| {
        left.binary(BinOper::Custom("||"), Expr::val(" ")).binary(BinOper::Custom("||"), right)
    };
    let subject = Func::coalesce([column(Column::Subject), Expr::val("")]);
    let plain = Func::lower(joined(subject.into(), column(Column::ToName)));
    let folded = Func::coalesce([column(Column::Search), plain.into()]);
    joined(folded.into(), Func::lower(column(Column::ToAddress)).into())
}
