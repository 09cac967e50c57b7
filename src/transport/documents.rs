//! Documents that clients name instead of sending them: by hash once they were sent (automatic persisted queries), or
//! registered by the operator, which may also be all that is executed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use super::error::{Kind, RequestError};
use super::request::GraphqlRequest;
use crate::graphql::document;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// What is known by name.
#[derive(Clone, Debug)]
pub struct Documents {
    registered: Option<Arc<HashMap<String, String>>>,
    sent: Arc<Cache<String, Arc<str>>>,
}

impl Documents {
    /// With a file, only the documents in it are executed: a JSON object, `{id: document}`.
    pub fn open(file: Option<&Path>) -> Result<Self> {
        let registered = file.map(registered).transpose()?.map(Arc::new);
        Ok(Self { registered, sent: Arc::new(Cache::new(limits::DOCUMENTS_KEPT)) })
    }

    /// The document that is asked for.
    pub fn of(&self, asked: &mut GraphqlRequest) -> std::result::Result<String, RequestError> {
        let hash = match asked.extensions.get("persistedQuery") {
            None => None,
            Some(said) => {
                let hash = said.get("sha256Hash").and_then(|hash| hash.as_str()).map(str::to_ascii_lowercase);
                let known = said.get("version").is_some_and(|version| version == 1);
                Some(hash.filter(|_| known).ok_or_else(|| {
                    RequestError::malformed("`extensions.persistedQuery` is {version: 1, sha256Hash: \"…\"}")
                })?)
            }
        };
        let query = asked.query.take();
        match &self.registered {
            Some(registered) => {
                let id = asked.document_id.take().or(hash).or_else(|| query.as_deref().map(digest));
                let found = id.and_then(|id| registered.get(&id));
                found.cloned().ok_or_else(|| RequestError::forbidden("only registered documents are executed here"))
            }
            None if asked.document_id.is_some() => Err(RequestError::document("no documents are registered here")),
            None => match (query, hash) {
                (Some(query), Some(hash)) if digest(&query) != hash => {
                    Err(RequestError::malformed("the document is not the one of its hash"))
                }
                (Some(query), Some(hash)) => {
                    if query.len() <= limits::DOCUMENT_BYTES {
                        self.sent.insert(hash, query.as_str().into());
                    }
                    Ok(query)
                }
                (Some(query), None) => Ok(query),
                (None, Some(hash)) => match self.sent.get(&hash) {
                    Some(query) => Ok(query.to_string()),
                    // As clients of automatic persisted queries expect it, word for word.
                    None => {
                        Err(RequestError::new(Kind::Document, "PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound"))
                    }
                },
                (None, None) => Err(RequestError::malformed("`query` is missing")),
            },
        }
    }
}

/// Each document is known by its id and by its hash.
fn registered(file: &Path) -> Result<HashMap<String, String>> {
    let wrong = |why: String| Error::ours(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|err| wrong(err.to_string()))?;
    let given: HashMap<String, String> =
        serde_json::from_str(&text).map_err(|err| wrong(format!("an object of documents by id is wanted: {err}")))?;
    let mut all = HashMap::new();
    for (id, document) in given {
        document::parse(&document).map_err(|err| wrong(format!("document `{id}`: {err}")))?;
        all.insert(digest(&document), document.clone());
        all.insert(id, document);
    }
    Ok(all)
}

fn digest(document: &str) -> String {
    Sha256::digest(document.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
