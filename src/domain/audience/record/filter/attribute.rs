//! SQL expressions for one attribute of a record: its JSON type, and its value as a string, number
//! or time, with the same results on both databases.
//!
//! Any name that a record can hold is accepted. On SQLite a JSON path is fastest for plain names; a
//! name that would need an escape in a path is looked up among the keys instead.

use entity::record::Column;
use sea_orm::Condition;
use sea_orm::sea_query::{BinOper, CaseStatement, Expr, ExprTrait, Func};
use serde_json::{Number, Value, json};

use crate::kernel::db::dialect::Dialect;

/// An attribute, by its name.
pub(super) struct Attribute<'a> {
    pub dialect: Dialect,
    pub name: &'a str,
}

/// A pattern of ISO 8601 dates and date-times that matches only days which exist, because casts in
/// Postgres fail on invalid ones.
const ISO: &str = r"^(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?(?:[Zz]|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?)?$";

impl Attribute<'_> {
    /// On SQLite, `function` of the attribute's path, or the column `listed` of `json_each` for
    /// names that need an escape.
    fn part(&self, function: &'static str, listed: &'static str) -> Expr {
        let escaped = |c: char| matches!(c, '"' | '\\') || c.is_control();
        if self.name.is_empty() || self.name.contains(escaped) {
            let sql = format!("(SELECT {listed} FROM json_each(?) WHERE key = ?)");
            return Expr::cust_with_exprs(sql, [column(Column::Attributes), Expr::val(self.name)]);
        }
        Func::cust(function).arg(column(Column::Attributes)).arg(Expr::val(format!("$.\"{}\"", self.name))).into()
    }

    /// The value as JSON, on Postgres.
    fn json(&self) -> Expr {
        column(Column::Attributes).binary(BinOper::Custom("->"), Expr::val(self.name))
    }

    /// The value of any type; null if it is absent or null.
    pub(super) fn value(&self) -> Expr {
        match self.dialect {
            Dialect::Sqlite => self.part("json_extract", "value"),
            // Compared bytewise, as the columns are.
            Dialect::Postgres => {
                let text = column(Column::Attributes).binary(BinOper::Custom("->>"), Expr::val(self.name));
                Expr::cust_with_exprs("($1 COLLATE \"C\")", [text])
            }
        }
    }

    /// The JSON type, as the database names it.
    fn kind(&self) -> Expr {
        match self.dialect {
            Dialect::Sqlite => self.part("json_type", "type"),
            Dialect::Postgres => Func::cust("jsonb_typeof").arg(self.json()).into(),
        }
    }

    /// The value if it is a string, else null.
    pub(super) fn text(&self) -> Expr {
        let string = match self.dialect {
            Dialect::Sqlite => "text",
            Dialect::Postgres => "string",
        };
        CaseStatement::new().case(self.kind().eq(string), self.value()).into()
    }

    /// The value if it is a number, exact as in the JSON, else null.
    pub(super) fn number(&self) -> Expr {
        let (is, value) = match self.dialect {
            Dialect::Sqlite => (self.kind().is_in(["integer", "real"]), self.value()),
            Dialect::Postgres => (self.kind().eq("number"), self.value().cast_as("numeric")),
        };
        CaseStatement::new().case(is, value).into()
    }

    /// A literal to compare with `number()`.
    pub(super) fn exact(&self, number: &Number) -> Expr {
        match (self.dialect, number.as_i64(), number.as_f64()) {
            (_, Some(integer), _) => Expr::val(integer),
            (Dialect::Sqlite, None, Some(fraction)) => Expr::val(fraction),
            // In decimal notation, so that the rounding of binary fractions does not matter.
            _ => Expr::val(number.to_string()).cast_as("numeric"),
        }
    }

    /// Seconds since 1970 if the value is a string with an ISO 8601 date or date-time within the
    /// years 1 to 9999 in UTC, else null. A value without an offset is UTC; a date is its midnight.
    pub(super) fn seconds(&self) -> Expr {
        match self.dialect {
            Dialect::Sqlite => {
                // SQLite's functions accept more, such as `now` and Julian day numbers, and carry
                // the 30th of February over into March.
                let sql = "(SELECT CASE WHEN t GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' \
                    AND date(substr(t, 1, 10)) = substr(t, 1, 10) \
                    AND (length(t) = 10 OR (substr(t, 11) GLOB '[T ][0-2][0-9]:[0-5][0-9]*' AND substr(t, 12, 2) < '24' \
                    AND substr(t, 12) NOT GLOB '*[^-0-9:.Zz+]*')) \
                    AND unixepoch(t) >= -62135596800 THEN unixepoch(t, 'subsec') END FROM (SELECT ? AS t))";
                Expr::cust_with_exprs(sql, [self.text()])
            }
            Dialect::Postgres => {
                let sql = "(SELECT CASE WHEN s >= -62135596800 AND s < 253402300800 THEN s END FROM (SELECT CASE \
                    WHEN t ~ $2 THEN extract(epoch FROM CAST(CASE WHEN length(t) = 10 THEN t || 'T00:00Z' \
                    WHEN substr(t, 12) ~ '[Zz+-]' THEN t ELSE t || 'Z' END AS timestamptz)) END AS s \
                    FROM (SELECT $1 AS t) AS a) AS b)";
                Expr::cust_with_exprs(sql, [self.text(), Expr::val(ISO)])
            }
        }
    }

    /// A condition: equal to this string, number or boolean.
    pub(super) fn is(&self, value: &Value) -> Expr {
        match (self.dialect, value) {
            (Dialect::Postgres, value) => self.json().eq(Expr::val(value.clone())),
            (Dialect::Sqlite, Value::Bool(value)) => self.kind().eq(value.to_string()),
            (Dialect::Sqlite, Value::Number(number)) => self.number().eq(self.exact(number)),
            (Dialect::Sqlite, Value::String(text)) => self.text().eq(text.as_str()),
            (Dialect::Sqlite, _) => Expr::val(1).eq(0),
        }
    }

    /// A condition: equal to one of these, of any number.
    pub(super) fn is_any(&self, values: &[Value]) -> Condition {
        if let [value] = values {
            return Condition::all().add(self.is(value));
        }
        if self.dialect == Dialect::Postgres {
            let sql = "$1 IN (SELECT jsonb_array_elements($2))";
            return Condition::all().add(Expr::cust_with_exprs(sql, [self.json(), Expr::val(json!(values))]));
        }
        let mut any = Condition::any().add(Expr::val(1).eq(0));
        let listed = |predicate: fn(&&Value) -> bool| values.iter().filter(predicate).collect::<Vec<_>>();
        for (of, values) in
            [(self.text(), listed(|value| value.is_string())), (self.number(), listed(|value| value.is_number()))]
        {
            if !values.is_empty() {
                let sql = "? IN (SELECT value FROM json_each(?))";
                any = any.add(Expr::cust_with_exprs(sql, [of, Expr::val(json!(values).to_string())]));
            }
        }
        for value in [true, false].map(Value::Bool) {
            if values.contains(&value) {
                any = any.add(self.is(&value));
            }
        }
        any
    }
}

pub(super) fn column(of: Column) -> Expr {
    Expr::col((entity::record::Entity, of))
}
