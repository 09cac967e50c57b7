//! Documents that clients refer to instead of sending them: by hash once they were sent (automatic
//! persisted queries), or by id if the operator registered them. With registered documents, no
//! others are executed.

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

/// The registered documents and the cache of persisted ones.
#[derive(Clone, Debug)]
pub struct Documents {
    registered: Option<Arc<HashMap<String, String>>>,
    sent: Arc<Cache<String, Arc<str>>>,
}

impl Documents {
    /// Opens the registered documents, a JSON object `{id: document}`. Without a file, clients may
    /// send any document.
    pub fn open(file: Option<&Path>) -> Result<Self> {
        let registered = file.map(registered).transpose()?.map(Arc::new);
        Ok(Self { registered, sent: Arc::new(Cache::new(limits::DOCUMENTS_KEPT)) })
    }

    /// Returns the document of a request.
    pub fn of(&self, request: &mut GraphqlRequest) -> std::result::Result<String, RequestError> {
        let hash = match request.extensions.get("persistedQuery") {
            None => None,
            Some(persisted) => {
                let hash = persisted.get("sha256Hash").and_then(|hash| hash.as_str()).map(str::to_ascii_lowercase);
                let is_supported = persisted.get("version").is_some_and(|version| version == 1);
                Some(hash.filter(|_| is_supported).ok_or_else(|| {
                    let message = "`extensions.persistedQuery` must be {version: 1, sha256Hash: \"…\"}";
                    RequestError::malformed(message).of_field("extensions.persistedQuery")
                })?)
            }
        };
        let query = request.query.take();
        match &self.registered {
            Some(registered) => {
                let id = request.document_id.take().or(hash).or_else(|| query.as_deref().map(digest));
                let found = id.and_then(|id| registered.get(&id));
                found.cloned().ok_or_else(|| RequestError::forbidden("only registered documents are executed here"))
            }
            None if request.document_id.is_some() => {
                Err(RequestError::document("`documentId`: no documents are registered here").of_field("documentId"))
            }
            None => match (query, hash) {
                (Some(query), Some(hash)) if digest(&query) != hash => {
                    let error = RequestError::malformed("`sha256Hash` is not the hash of the document");
                    Err(error.of_field("extensions.persistedQuery.sha256Hash"))
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
                    // Clients of automatic persisted queries expect exactly this text.
                    None => {
                        Err(RequestError::new(Kind::Document, "PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound"))
                    }
                },
                (None, None) => Err(RequestError::malformed("`query` is missing").of_field("query")),
            },
        }
    }
}

/// Reads the registered documents, each under its id and its hash.
fn registered(file: &Path) -> Result<HashMap<String, String>> {
    let invalid = |why: String| Error::internal(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|err| invalid(err.to_string()))?;
    let given: HashMap<String, String> = serde_json::from_str(&text)
        .map_err(|err| invalid(format!("must be a JSON object of documents by id: {err}")))?;
    let mut all = HashMap::new();
    for (id, document) in given {
        document::parse(&document).map_err(|err| invalid(format!("document `{id}`: {err}")))?;
        all.insert(digest(&document), document.clone());
        all.insert(id, document);
    }
    Ok(all)
}

fn digest(document: &str) -> String {
    Sha256::digest(document.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
