//! A record filter as SQL, on either database.

use chrono::{DateTime, Utc};
use entity::id::RecordId;
use entity::record::Column;
use sea_orm::sea_query::{BinOper, CaseStatement, Expr, ExprTrait, Func};
use sea_orm::{ColumnTrait, Condition};
use serde_json::Value;

use super::{AttributeFilter, RecordFilter, TextFilter, TimeFilter};
use crate::db::dialect::Dialect;
use crate::error::{Refusal, Result};
use crate::{input, limits};

/// The filter as a condition on the table `record`. Errors: BAD_USER_INPUT, naming the path.
pub fn condition(filter: &RecordFilter, dialect: Dialect, now: DateTime<Utc>) -> Result<Condition> {
    let mut reader = Reader { dialect, now, left: limits::FILTER_CONDITIONS };
    reader.filter(filter, "filter", 0)
}

struct Reader {
    dialect: Dialect,
    now: DateTime<Utc>,
    left: usize,
}

impl Reader {
    fn filter(&mut self, filter: &RecordFilter, path: &str, depth: usize) -> Result<Condition> {
        if depth > limits::FILTER_DEPTH {
            return Err(Refusal::limit(format!("{path}: nested deeper than {}", limits::FILTER_DEPTH)).into());
        }
        let mut all = Condition::all();
        if let Some(ids) = &filter.ids {
            self.count(path, ids.len())?;
            let ids = ids
                .iter()
                .map(|id| id.parse::<RecordId>().map_err(|err| Refusal::input(&format!("{path}.ids"), err)))
                .collect::<std::result::Result<Vec<_>, _>>()?;
            all = all.add(Column::Id.is_in(ids));
        }
        for (name, column, text) in [
            ("kind", Column::Kind, &filter.kind),
            ("externalId", Column::ExternalId, &filter.external_id),
            ("name", Column::Name, &filter.name),
            ("email", Column::Email, &filter.email),
            ("phone", Column::Phone, &filter.phone),
            ("timeZone", Column::TimeZone, &filter.time_zone),
            ("stage", Column::Stage, &filter.stage),
        ] {
            if let Some(text) = text {
                all = all.add(self.text(column, text, &format!("{path}.{name}"))?);
            }
        }
        for (name, column, time) in [
            ("lastContactedAt", Column::LastContactedAt, &filter.last_contacted_at),
            ("lastRepliedAt", Column::LastRepliedAt, &filter.last_replied_at),
            ("createdAt", Column::CreatedAt, &filter.created_at),
        ] {
            if let Some(time) = time {
                all = all.add(self.time(column, time, &format!("{path}.{name}"))?);
            }
        }
        if let Some(priority) = &filter.priority {
            self.count(path, 1)?;
            for (than, least) in [(priority.gte, true), (priority.lte, false)] {
                if let Some(than) = than {
                    all = all.add(if least { Column::Priority.gte(than) } else { Column::Priority.lte(than) });
                }
            }
        }
        if let Some(unsubscribed) = filter.unsubscribed {
            let column = Column::UnsubscribedAt;
            all = all.add(if unsubscribed { column.is_not_null() } else { column.is_null() });
        }
        for (i, attribute) in filter.attributes.iter().flatten().enumerate() {
            all = all.add(self.attribute(attribute, &format!("{path}.attributes[{i}]"))?);
        }
        if let Some(text) = &filter.search {
            self.count(path, 1)?;
            let text = input::search(&format!("{path}.search"), text)?;
            all = all.add(contains(self.dialect, column(Column::Search), &text.to_lowercase()));
        }
        for (i, inner) in filter.and.iter().flatten().enumerate() {
            all = all.add(self.filter(inner, &format!("{path}.and[{i}]"), depth + 1)?);
        }
        if let Some(or) = &filter.or {
            let mut any = Condition::any();
            for (i, inner) in or.iter().enumerate() {
                any = any.add(self.filter(inner, &format!("{path}.or[{i}]"), depth + 1)?);
            }
            if or.is_empty() {
                return Err(Refusal::input(&format!("{path}.or"), "must not be empty").into());
            }
            all = all.add(any);
        }
        if let Some(not) = &filter.not {
            // Unknown (a condition on an absent value) counts as not met, so its opposite is met.
            let inner: Expr = self.filter(not, &format!("{path}.not"), depth + 1)?.into();
            let met: Expr = CaseStatement::new().case(inner, Expr::val(1)).finally(Expr::val(0)).into();
            all = all.add(met.eq(0));
        }
        self.count(path, 1)?;
        Ok(all)
    }

    fn count(&mut self, path: &str, conditions: usize) -> Result<()> {
        let most = if conditions > 1 { limits::LIST_RECORDS } else { self.left };
        if conditions > most || self.left == 0 {
            return Err(Refusal::limit(format!("{path}: more than {} conditions", limits::FILTER_CONDITIONS)).into());
        }
        self.left -= 1;
        Ok(())
    }

    fn text(&mut self, of: Column, filter: &TextFilter, path: &str) -> Result<Condition> {
        self.count(path, 1)?;
        let mut all = Condition::all();
        if let Some(eq) = &filter.eq {
            all = all.add(of.eq(eq));
        }
        if let Some(ne) = &filter.ne {
            all = all.add(Condition::any().add(of.ne(ne)).add(of.is_null()));
        }
        if let Some(texts) = &filter.one_of {
            self.set(path, texts.len())?;
            all = all.add(of.is_in(texts));
        }
        if let Some(texts) = &filter.not_in {
            self.set(path, texts.len())?;
            all = all.add(Condition::any().add(of.is_not_in(texts)).add(of.is_null()));
        }
        if let Some(part) = &filter.contains {
            all = all.add(contains(self.dialect, column(of), part));
        }
        if let Some(absent) = filter.is_null {
            all = all.add(if absent { of.is_null() } else { of.is_not_null() });
        }
        Ok(all)
    }

    fn set(&self, path: &str, values: usize) -> Result<()> {
        if values > limits::LIST_RECORDS {
            return Err(Refusal::limit(format!("{path}: more than {} values", limits::LIST_RECORDS)).into());
        }
        Ok(())
    }

    fn time(&mut self, of: Column, filter: &TimeFilter, path: &str) -> Result<Condition> {
        self.count(path, 1)?;
        let mut all = Condition::all();
        let or_never = filter.or_never == Some(true);
        if or_never && filter.before.is_none() && filter.older_than.is_none() {
            return Err(Refusal::input(&format!("{path}.orNever"), "goes with `before` or `olderThan`").into());
        }
        let earlier = |than: DateTime<Utc>| {
            // As the index is: one range holds what was long ago and what never was.
            if or_never { before_all(self.dialect, column(of)).lt(than) } else { of.lt(than) }
        };
        if let Some(before) = filter.before {
            all = all.add(earlier(before));
        }
        if let Some(since) = filter.since {
            all = all.add(of.gte(since));
        }
        if let Some(age) = &filter.older_than {
            all = all.add(earlier(self.ago(&format!("{path}.olderThan"), age)?));
        }
        if let Some(age) = &filter.newer_than {
            all = all.add(of.gte(self.ago(&format!("{path}.newerThan"), age)?));
        }
        if let Some(absent) = filter.is_null {
            all = all.add(if absent { of.is_null() } else { of.is_not_null() });
        }
        Ok(all)
    }

    fn ago(&self, path: &str, age: &str) -> Result<DateTime<Utc>> {
        humantime::parse_duration(age)
            .ok()
            .and_then(|age| chrono::Duration::from_std(age).ok())
            .and_then(|age| self.now.checked_sub_signed(age))
            .ok_or_else(|| Refusal::input(path, format!("`{}` is not a duration like 14d", input::shown(age))).into())
    }

    fn attribute(&mut self, filter: &AttributeFilter, path: &str) -> Result<Condition> {
        self.count(path, 1)?;
        let name = &filter.name;
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.chars().count() > 64 || !name.chars().all(fits) {
            return Err(Refusal::input(&format!("{path}.name"), "letters, digits, _ - . only, at most 64").into());
        }
        let mut all = Condition::all();
        if let Some(value) = &filter.eq {
            all = all.add(self.equals(name, &value.0, &format!("{path}.eq"))?);
        }
        if let Some(values) = &filter.one_of {
            self.set(path, values.len())?;
            let mut any = Condition::any().add(Expr::val(1).eq(0));
            for (i, value) in values.iter().enumerate() {
                any = any.add(self.equals(name, &value.0, &format!("{path}.in[{i}]"))?);
            }
            all = all.add(any);
        }
        let number = || number(self.dialect, name);
        if let Some(than) = filter.gt {
            all = all.add(number().gt(than));
        }
        if let Some(than) = filter.gte {
            all = all.add(number().gte(than));
        }
        if let Some(than) = filter.lt {
            all = all.add(number().lt(than));
        }
        if let Some(than) = filter.lte {
            all = all.add(number().lte(than));
        }
        if let Some(part) = &filter.contains {
            all = all.add(contains(self.dialect, text(self.dialect, name), part));
        }
        if let Some(age) = &filter.older_than {
            let than = self.ago(&format!("{path}.olderThan"), age)?;
            let than = than.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            all = all.add(text(self.dialect, name).lt(than));
        }
        if let Some(absent) = filter.is_null {
            let any = any_text(self.dialect, name);
            all = all.add(if absent { any.is_null() } else { any.is_not_null() });
        }
        Ok(all)
    }

    fn equals(&self, name: &str, value: &Value, path: &str) -> Result<Expr> {
        match (value, self.dialect) {
            (Value::Object(_) | Value::Array(_) | Value::Null, _) => {
                Err(Refusal::input(path, "a text, a number or a truth value; for null there is isNull").into())
            }
            (value, Dialect::Postgres) => {
                let attribute = column(Column::Attributes).binary(BinOper::Custom("->"), Expr::val(name));
                Ok(attribute.eq(Expr::val(value.clone())))
            }
            (Value::Bool(value), Dialect::Sqlite) => {
                Ok(json(name, "json_type").eq(if *value { "true" } else { "false" }))
            }
            (Value::Number(_), Dialect::Sqlite) => {
                Ok(number(self.dialect, name).eq(value.as_f64().unwrap_or(f64::NAN)))
            }
            (Value::String(value), Dialect::Sqlite) => Ok(text(self.dialect, name).eq(value.as_str())),
        }
    }
}

/// A time, or one before all others where there is none. As a literal: planners compare it with the indexes' expressions.
pub(crate) fn before_all(dialect: Dialect, time: Expr) -> Expr {
    let literal = match dialect {
        Dialect::Postgres => "'-infinity'::timestamptz",
        Dialect::Sqlite => "''",
    };
    Func::coalesce([time, Expr::cust(literal)]).into()
}

fn column(of: Column) -> Expr {
    Expr::col((entity::record::Entity, of))
}

/// Contains, in any case of ASCII letters: the one folding that both databases agree on.
fn contains(dialect: Dialect, text: Expr, part: &str) -> Expr {
    let name = match dialect {
        Dialect::Sqlite => "instr",
        Dialect::Postgres => "strpos",
    };
    let lower = Func::cust("lower").arg(text);
    Expr::from(Func::cust(name).arg(lower).arg(Expr::val(part.to_ascii_lowercase()))).gt(0)
}

/// SQLite's `json_extract` or `json_type` of an attribute.
fn json(name: &str, function: &'static str) -> Expr {
    Expr::from(Func::cust(function).arg(column(Column::Attributes)).arg(Expr::val(format!("$.\"{name}\""))))
}

/// The attribute as text, whatever it is.
fn any_text(dialect: Dialect, name: &str) -> Expr {
    match dialect {
        Dialect::Sqlite => json(name, "json_extract"),
        Dialect::Postgres => column(Column::Attributes).binary(BinOper::Custom("->>"), Expr::val(name)),
    }
}

/// What kind of JSON the attribute is, in the database's words.
fn kind(dialect: Dialect, name: &str) -> Expr {
    match dialect {
        Dialect::Sqlite => json(name, "json_type"),
        Dialect::Postgres => {
            let attribute = column(Column::Attributes).binary(BinOper::Custom("->"), Expr::val(name));
            Expr::from(Func::cust("jsonb_typeof").arg(attribute))
        }
    }
}

/// The attribute, if it is a text.
fn text(dialect: Dialect, name: &str) -> Expr {
    let is = match dialect {
        Dialect::Sqlite => kind(dialect, name).eq("text"),
        Dialect::Postgres => kind(dialect, name).eq("string"),
    };
    CaseStatement::new().case(is, any_text(dialect, name)).into()
}

/// The attribute, if it is a number.
fn number(dialect: Dialect, name: &str) -> Expr {
    let (is, value) = match dialect {
        Dialect::Sqlite => (kind(dialect, name).is_in(["integer", "real"]), any_text(dialect, name)),
        Dialect::Postgres => (kind(dialect, name).eq("number"), any_text(dialect, name).cast_as("double precision")),
    };
    CaseStatement::new().case(is, value).into()
}
