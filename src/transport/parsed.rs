//! Caches parsed and validated documents, since clients send the same few again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_graphql::parser::types::ExecutableDocument;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::error::RequestError;
use super::guard;
use crate::graphql::document::Plan;
use crate::kernel::limits;

/// A document within all limits.
#[derive(Debug)]
pub struct Parsed {
    /// The document's text as sent.
    pub text: String,
    /// The parsed document, prepared for its execution.
    pub document: ExecutableDocument,
    /// The types of its arguments and variables, and the order of its answer's keys.
    pub plan: Plan,
    /// Approximate size of its introspection, in fields of the response.
    pub introspection: usize,
    /// True once the executor has found it valid: it is then not validated again.
    valid: AtomicBool,
}

/// Approximate memory of a document besides its text and its parts, in bytes.
const OVERHEAD: usize = 1024;

impl Parsed {
    /// Approximate memory of the document and its plan, in bytes; its text is kept twice.
    pub fn weight(&self) -> usize {
        OVERHEAD + 2 * self.text.len() + self.plan.weight()
    }

    /// Approximate memory that a request with this document adds, in bytes: the executor's copy, and
    /// the document itself unless it is in the cache, which is bounded on its own.
    pub fn weight_in_use(&self) -> usize {
        self.weight().saturating_mul(if self.is_cacheable() { 1 } else { 2 })
    }

    /// Approximate memory of an execution that lasts, in bytes: the document may leave the cache
    /// meanwhile.
    pub fn weight_in_stream(&self) -> usize {
        self.weight().saturating_mul(2)
    }

    /// True unless it is long: few clients send the same long document again.
    fn is_cacheable(&self) -> bool {
        self.text.len() <= limits::PARSED_LONGEST
    }

    /// True once the executor has found it valid.
    pub fn is_valid(&self) -> bool {
        self.valid.load(Ordering::Relaxed)
    }

    /// Marks it as found valid by the executor.
    pub fn mark_valid(&self) {
        self.valid.store(true, Ordering::Relaxed);
    }
}

/// The cache of documents by text, bounded in memory.
#[derive(Clone, Debug)]
pub struct Parsing(Arc<Cache<String, Arc<Parsed>, Bytes>>);

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<String, Arc<Parsed>> for Bytes {
    fn weight(&self, _: &String, parsed: &Arc<Parsed>) -> u64 {
        parsed.weight() as u64
    }
}

impl Default for Parsing {
    fn default() -> Self {
        Self(Arc::new(Cache::with_weighter(limits::PARSED_KEPT, limits::PARSED_BYTES, Bytes)))
    }
}

impl Parsing {
    /// Memory of the cached documents, in bytes.
    pub fn cached_bytes(&self) -> u64 {
        self.0.weight()
    }

    /// True if a document is in the cache.
    pub fn knows(&self, text: &str) -> bool {
        self.0.contains_key(text)
    }

    /// Parses a document, or takes it from the cache. A long one is not cached.
    pub fn of(&self, text: &str) -> Result<Arc<Parsed>, RequestError> {
        if let Some(parsed) = self.0.get(text) {
            return Ok(parsed);
        }
        let (mut document, introspection) = guard::parse_within_limits(text)?;
        let plan = Plan::of(&mut document);
        let parsed =
            Arc::new(Parsed { text: text.to_owned(), document, plan, introspection, valid: AtomicBool::new(false) });
        if parsed.is_cacheable() {
            self.0.insert(text.to_owned(), parsed.clone());
        }
        Ok(parsed)
    }
}
