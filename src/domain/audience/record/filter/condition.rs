//! Translates record filters to SQL conditions, for both databases.

use std::collections::HashMap;

use async_graphql::ID;
use chrono::{DateTime, Utc};
use entity::id::{RecordId, SegmentId};
use entity::record::{Column, Entity};
use entity::record_link::Column as Link;
use entity::{segment, segment_record};
use sea_orm::sea_query::{Expr, ExprTrait, Func, Query};
use sea_orm::{ColumnTrait, Condition};
use serde_json::Value;

use super::attribute::{Attribute, column};
use super::nothing::{MaybeEmpty, NO_VALUE, NOT_ALONE, NOT_HERE};
use super::{AttributeFilter, LinkFilter, Number, RecordFilter, TextFilter, TimeFilter};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::{self, Dialect};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::{limits, page, storable, validate};

/// Translates a filter that names no segments to a condition on the table `record`. Errors:
/// BAD_USER_INPUT, naming the path.
pub fn condition(filter: &RecordFilter, dialect: Dialect, now: DateTime<Utc>) -> Result<Condition> {
    Reader::new(dialect, now, None).filter(filter, "filter", 0)
}

/// Translates a saved filter. A condition without a value matches everything, as it did when the
/// filter was saved.
pub fn of_stored(filter: &RecordFilter, dialect: Dialect, now: DateTime<Utc>) -> Result<Condition> {
    let mut reader = Reader { saved: true, ..Reader::new(dialect, now, None) };
    reader.filter(filter, "filter", 0)
}

/// Translates a saved filter from the JSON of its row.
pub fn stored(filter: &Value, dialect: Dialect, now: DateTime<Utc>) -> Result<Condition> {
    of_stored(&serde_json::from_value(filter.clone())?, dialect, now)
}

/// The condition that a record is in a segment: it is on the segment's list, or matches its filter.
pub fn in_segment(segment: &segment::Model, dialect: Dialect, now: DateTime<Utc>) -> Result<Condition> {
    if let Some(filter) = &segment.filter {
        return stored(filter, dialect, now);
    }
    let mut listed = Query::select();
    listed
        .column(segment_record::Column::RecordId)
        .from(segment_record::Entity)
        .and_where(segment_record::COLUMN.segment_id.eq(segment.id));
    Ok(Condition::all().add(Column::Id.in_subquery(listed)))
}

pub(super) struct Reader<'a> {
    dialect: Dialect,
    now: DateTime<Utc>,
    /// Remaining number of conditions.
    left: usize,
    /// Remaining number of segments.
    segments_left: usize,
    /// The segments that the filter may name; none where it may name no segment.
    segments: Option<&'a HashMap<SegmentId, segment::Model>>,
    /// True for a saved filter.
    saved: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        dialect: Dialect,
        now: DateTime<Utc>,
        segments: Option<&'a HashMap<SegmentId, segment::Model>>,
    ) -> Self {
        let (left, segments_left) = (limits::FILTER_CONDITIONS, limits::FILTER_SEGMENTS);
        Self { dialect, now, left, segments_left, segments, saved: false }
    }

    pub(super) fn filter(&mut self, filter: &RecordFilter, path: &str, depth: usize) -> Result<Condition> {
        if depth > limits::FILTER_DEPTH {
            let most = limits::FILTER_DEPTH;
            return Err(
                Refusal::limit_for_field(path, format!("filters may be nested {most} levels deep at most")).into()
            );
        }
        if filter.all == Some(true) && !self.saved {
            let others = RecordFilter { all: None, ..filter.clone() };
            if others.explicit() != (RecordFilter { all: Some(true), ..RecordFilter::default() }) {
                return Err(Refusal::input(&format!("{path}.all"), NOT_ALONE).into());
            }
        }
        let mut all = Condition::all();
        if let Some(ids) = &filter.ids {
            self.set(&format!("{path}.ids"), ids.len())?;
            let ids = ids
                .iter()
                .map(|id| id.parse::<RecordId>().map_err(|err| Refusal::input(&format!("{path}.ids"), err)))
                .collect::<std::result::Result<Vec<_>, _>>()?;
            all = all.add(any_of(self.dialect, Column::Id, ids));
        }
        if let Some(ids) = &filter.segment_ids {
            all = all.add(self.in_segments(ids, &format!("{path}.segmentIds"))?);
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
            self.count(path)?;
            self.require_value(priority, &format!("{path}.priority"))?;
            for (bound, is_lower) in [(priority.gte, true), (priority.lte, false)] {
                if let Some(bound) = bound {
                    all = all.add(if is_lower { Column::Priority.gte(bound) } else { Column::Priority.lte(bound) });
                }
            }
        }
        for (name, ends, links) in [
            ("linkedFrom", (Link::ToId, Link::FromId), &filter.linked_from),
            ("linkedTo", (Link::FromId, Link::ToId), &filter.linked_to),
        ] {
            if let Some(links) = links {
                all = all.add(self.links(links, ends, &format!("{path}.{name}"))?);
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
            self.count(path)?;
            all = all.add(dialect::search(column(Column::Search), &format!("{path}.search"), text)?);
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
            all = all.add(dialect::unmet(self.filter(not, &format!("{path}.not"), depth + 1)?));
        }
        self.count(path)?;
        Ok(all)
    }

    fn in_segments(&mut self, ids: &[ID], path: &str) -> Result<Condition> {
        let Some(segments) = self.segments else { return Err(Refusal::input(path, NOT_HERE).into()) };
        self.segments_left = self.segments_left.checked_sub(ids.len()).ok_or_else(|| {
            Refusal::limit_for_field(path, format!("at most {} segments in one filter", limits::FILTER_SEGMENTS))
        })?;
        // Never empty, so that no segment means no record.
        let mut any = Condition::any().add(Expr::cust("1 = 0"));
        for id in ids {
            if let Some(segment) = segments.get(&validate::id::<SegmentId>(path, id)?) {
                any = any.add(in_segment(segment, self.dialect, self.now)?);
            }
        }
        Ok(any)
    }

    fn links(&mut self, filter: &LinkFilter, ends: (Link, Link), path: &str) -> Result<Expr> {
        self.count(path)?;
        self.require_value(filter, path)?;
        self.set(&format!("{path}.recordIds"), filter.record_ids.as_ref().map_or(0, Vec::len))?;
        filter.condition(self.dialect, ends, path)
    }

    fn count(&mut self, path: &str) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            Refusal::limit_for_field(path, format!("at most {} conditions in one filter", limits::FILTER_CONDITIONS))
        })?;
        Ok(())
    }

    fn require_value(&self, condition: &impl MaybeEmpty, path: &str) -> Result<()> {
        if condition.has_value() || self.saved { Ok(()) } else { Err(Refusal::input(path, NO_VALUE).into()) }
    }

    fn text(&mut self, of: Column, filter: &TextFilter, path: &str) -> Result<Condition> {
        self.count(path)?;
        self.require_value(filter, path)?;
        let mut all = Condition::all();
        // Normalised as stored values are.
        let one = |text: &str| match of {
            Column::ExternalId => storable::key(text),
            _ => storable::nfc(text).into_owned(),
        };
        let each = |texts: &[String]| texts.iter().map(|text| one(text)).collect::<Vec<_>>();
        if let Some(eq) = &filter.eq {
            all = all.add(of.eq(one(eq)));
        }
        if let Some(ne) = &filter.ne {
            all = all.add(Condition::any().add(of.ne(one(ne))).add(of.is_null()));
        }
        if let Some(texts) = &filter.one_of {
            self.set(&format!("{path}.in"), texts.len())?;
            all = all.add(any_of(self.dialect, of, each(texts)));
        }
        if let Some(texts) = &filter.not_in {
            self.set(&format!("{path}.notIn"), texts.len())?;
            all = all.add(Condition::any().add(any_of(self.dialect, of, each(texts)).not()).add(of.is_null()));
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
            return Err(Refusal::limit_for_field(path, format!("at most {} values", limits::LIST_RECORDS)).into());
        }
        Ok(())
    }

    fn time(&mut self, of: Column, filter: &TimeFilter, path: &str) -> Result<Condition> {
        self.count(path)?;
        let mut all = Condition::all();
        let or_never = filter.or_never == Some(true);
        if or_never && filter.before.is_none() && filter.older_than.is_none() {
            return Err(Refusal::input(&format!("{path}.orNever"), "requires `before` or `olderThan`").into());
        }
        self.require_value(filter, path)?;
        // The sort key, in which a time that is not set comes before all others: indexes serve it.
        let key = || page::nullable_key::<Entity>(of, true, self.dialect);
        let earlier = |than: DateTime<Utc>| if or_never { key().lt(than) } else { of.lt(than) };
        let later = |than: DateTime<Utc>| match of {
            // The key has the index, and no time that is not set is later.
            Column::LastContactedAt => key().gte(than),
            _ => of.gte(than),
        };
        let admitted = |name: &str, time: DateTime<Utc>| {
            storable::time(time).map_err(|unfit| Error::from(unfit.of(&format!("{path}.{name}"))))
        };
        if let Some(before) = filter.before {
            all = all.add(earlier(admitted("before", before)?));
        }
        if let Some(since) = filter.since {
            all = all.add(later(admitted("since", since)?));
        }
        if let Some(age) = &filter.older_than {
            all = all.add(earlier(self.ago(&format!("{path}.olderThan"), age)?));
        }
        if let Some(age) = &filter.newer_than {
            all = all.add(later(self.ago(&format!("{path}.newerThan"), age)?));
        }
        if let Some(absent) = filter.is_null {
            all = all.add(if absent { of.is_null() } else { of.is_not_null() });
        }
        Ok(all)
    }

    /// The time that is `age` before now, bounded by the earliest storable time.
    fn ago(&self, path: &str, age: &str) -> Result<DateTime<Utc>> {
        let age = humantime::parse_duration(age)
            .map_err(|_| Refusal::input(path, format!("`{}` is not a duration like 14d", validate::printable(age))))?;
        let then = chrono::Duration::from_std(age).ok().and_then(|age| self.now.checked_sub_signed(age));
        Ok(then.filter(|then| storable::time(*then).is_ok()).unwrap_or(storable::FIRST))
    }

    fn attribute(&mut self, filter: &AttributeFilter, path: &str) -> Result<Condition> {
        self.count(path)?;
        let at = format!("{path}.name");
        storable::text(&filter.name).map_err(|unfit| unfit.of(&at))?;
        if filter.name.len() > limits::ATTRIBUTES_BYTES {
            return Err(Refusal::input(&at, format!("at most {} bytes", limits::ATTRIBUTES_BYTES)).into());
        }
        self.require_value(filter, path)?;
        let attribute = Attribute { dialect: self.dialect, name: &storable::nfc(&filter.name) };
        let mut all = Condition::all();
        if let Some(value) = &filter.eq {
            all = all.add(attribute.is_any(&with_numbers(vec![plain(&value.0, &format!("{path}.eq"))?])));
        }
        if let Some(values) = &filter.one_of {
            self.set(&format!("{path}.in"), values.len())?;
            let each = values.iter().enumerate().map(|(i, value)| plain(&value.0, &format!("{path}.in[{i}]")));
            all = all.add(attribute.is_any(&with_numbers(each.collect::<Result<_>>()?)));
        }
        for (name, than) in [("gt", &filter.gt), ("gte", &filter.gte), ("lt", &filter.lt), ("lte", &filter.lte)] {
            let Some(Number(than)) = than else { continue };
            storable::number(than).map_err(|unfit| unfit.of(&format!("{path}.{name}")))?;
            let (is, than) = (attribute.number(), attribute.exact(&storable::plain(than)));
            all = all.add(match name {
                "gt" => is.gt(than),
                "gte" => is.gte(than),
                "lt" => is.lt(than),
                _ => is.lte(than),
            });
        }
        if let Some(part) = &filter.contains {
            all = all.add(contains(self.dialect, attribute.text(), part));
        }
        if let Some(age) = &filter.older_than {
            let than = self.ago(&format!("{path}.olderThan"), age)?;
            // SQLite's times have millisecond precision.
            let than = Expr::val(than.timestamp_millis() as f64 / 1_000.0);
            all = all.add(attribute.seconds().lt(than));
        }
        if let Some(absent) = filter.is_null {
            let value = attribute.value();
            all = all.add(if absent { value.is_null() } else { value.is_not_null() });
        }
        Ok(all)
    }
}

/// The integer from which on clients with floating-point numbers can't represent every integer.
const WRITTEN_AS_TEXT: u64 = 1 << 53;

/// Adds the number for each string that is an integer beyond 2^53: clients with floating-point
/// numbers can't express it otherwise.
fn with_numbers(mut values: Vec<Value>) -> Vec<Value> {
    let number = |value: &Value| {
        let text = value.as_str()?;
        let number = text.parse::<i64>().ok().filter(|number| number.unsigned_abs() >= WRITTEN_AS_TEXT)?;
        // Only in canonical notation: an id with leading zeros is a string.
        (number.to_string() == text).then(|| Value::from(number))
    };
    let numbers: Vec<Value> = values.iter().filter_map(number).collect();
    values.extend(numbers);
    values
}

/// Validates an attribute's value and returns its stored form.
fn plain(value: &Value, path: &str) -> Result<Value> {
    if matches!(value, Value::Object(_) | Value::Array(_) | Value::Null) {
        return Err(Refusal::input(path, "must be a string, a number or a boolean; to match null, use isNull").into());
    }
    storable::json(value).map_err(|unfit| unfit.of(path))?;
    Ok(crate::domain::audience::record::normalized(value.clone()))
}

/// A substring condition that ignores the case of ASCII letters only: both databases fold those
/// alike.
fn contains(dialect: Dialect, text: Expr, part: &str) -> Expr {
    let name = match dialect {
        Dialect::Sqlite => "instr",
        Dialect::Postgres => "strpos",
    };
    let lower = Func::cust("lower").arg(text);
    Expr::from(Func::cust(name).arg(lower).arg(Expr::val(storable::nfc(part).to_ascii_lowercase()))).gt(0)
}
