//! Segments as a condition of a filter (`segmentIds`). Their rows are read before the filter is
//! translated, so that the translation needs no database and lists below lists read them together.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entity::id::SegmentId;
use entity::segment;
use sea_orm::Condition;

use super::RecordFilter;
use super::condition::Reader;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::Result;
use crate::kernel::limits;

/// A filter with the segments that it names. Segments that are not in the viewer's org are missing,
/// and match no record.
#[derive(Clone, Debug, Default)]
pub struct ResolvedFilter {
    /// The filter.
    pub filter: RecordFilter,
    segments: HashMap<SegmentId, segment::Model>,
}

impl ResolvedFilter {
    /// Joins a filter and the rows of the segments that it names.
    pub fn new(filter: RecordFilter, segments: impl IntoIterator<Item = segment::Model>) -> Self {
        Self { filter, segments: segments.into_iter().map(|row| (row.id, row)).collect() }
    }

    /// Translates the filter to a condition on the table `record`. Errors: BAD_USER_INPUT, naming
    /// the path; LIMIT_EXCEEDED.
    pub fn condition(&self, dialect: Dialect, now: DateTime<Utc>) -> Result<Condition> {
        Reader::new(dialect, now, Some(&self.segments)).filter(&self.filter, "filter", 0)
    }
}

impl RecordFilter {
    /// The segments that the filter names, each once; at most as many as a filter may name. Ids
    /// that can't be read are left out, since the translation rejects them.
    pub fn named_segments(&self) -> Vec<SegmentId> {
        let mut ids = Vec::new();
        self.collect_segments(&mut ids, 0);
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(limits::FILTER_SEGMENTS);
        ids
    }

    fn collect_segments(&self, ids: &mut Vec<SegmentId>, depth: usize) {
        if depth > limits::FILTER_DEPTH {
            return;
        }
        ids.extend(self.segment_ids.iter().flatten().filter_map(|id| id.parse::<SegmentId>().ok()));
        for inner in self.and.iter().chain(&self.or).flatten().chain(self.not.as_deref()) {
            inner.collect_segments(ids, depth + 1);
        }
    }
}
