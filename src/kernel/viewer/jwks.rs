//! Keeps the signing keys of an identity provider (JWKS), fetched in the background.
//!
//! No request has to fetch them, valid keys continue to serve while the provider is unreachable,
//! and a failure is remembered.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::kernel::error::{Error, Result};
use crate::kernel::{limits, secret};

/// The key set, refreshed until this is dropped.
#[derive(Debug)]
pub(super) struct Jwks {
    shared: Arc<Shared>,
    _refresh: JoinSet<()>,
}

/// The result of looking up keys by their id.
pub(super) enum KeyLookup {
    /// The keys with this id: an issuer may publish several under one, such as of two curves.
    Keys(Vec<DecodingKey>),
    /// The provider has no key with this id.
    None,
    /// Unknown: the provider is unreachable.
    Unreachable,
}

struct Shared {
    source: String,
    algorithm: Algorithm,
    client: reqwest::Client,
    key_set: Mutex<KeySet>,
    /// Requests an early refresh.
    refresh_requested: Notify,
    /// Number of completed fetches.
    fetches: watch::Sender<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct KeySet {
    keys: Vec<(Option<String>, DecodingKey)>,
    /// Time of the last successful fetch.
    fetched_at: Option<Instant>,
    /// Start of the last fetch; `running` is set while it is in progress.
    begun: Option<Instant>,
    running: bool,
    failed: bool,
}

impl Jwks {
    /// Starts to refresh the keys of a URL or a file.
    pub(super) fn keep(source: String, algorithm: Algorithm) -> Result<Self> {
        crate::kernel::tls::begin();
        let client = reqwest::Client::builder().timeout(limits::JWKS_TIME).build().map_err(Error::internal)?;
        // Marked as running from the start, so that the first requests wait for the first fetch.
        let key_set = Mutex::new(KeySet { running: true, begun: Some(Instant::now()), ..KeySet::default() });
        let (refresh_requested, fetches) = (Notify::new(), watch::Sender::new(0));
        let shared = Arc::new(Shared { source, algorithm, client, key_set, refresh_requested, fetches });
        let mut refresh = JoinSet::new();
        refresh.spawn(shared.clone().refresh());
        Ok(Self { shared, _refresh: refresh })
    }

    /// The cached keys with this id.
    pub(super) fn cached_keys(&self, name: Option<&str>) -> Vec<DecodingKey> {
        self.shared.lock().keys(name)
    }

    /// The keys that a token names. An unknown id triggers a refresh, rate-limited. The deadline
    /// counts from the start of the fetch, so that requests don't wait for a provider that is known
    /// to hang.
    pub(super) async fn keys(&self, name: Option<&str>) -> KeyLookup {
        let mut fetches = self.shared.fetches.subscribe();
        let until = {
            let mut key_set = self.shared.lock();
            let keys = key_set.keys(name);
            if !keys.is_empty() {
                return KeyLookup::Keys(keys);
            }
            key_set.wait(&self.shared.refresh_requested)
        };
        if let Some(until) = until {
            let _ = timeout_at(until, fetches.changed()).await;
        }
        let key_set = self.shared.lock();
        let keys = key_set.keys(name);
        match keys.is_empty() {
            false => KeyLookup::Keys(keys),
            true if key_set.failed || key_set.running => KeyLookup::Unreachable,
            true => KeyLookup::None,
        }
    }
}

impl KeySet {
    /// The keys with this id, or the only key of all.
    fn keys(&self, name: Option<&str>) -> Vec<DecodingKey> {
        if self.fetched_at.is_none_or(|at| at.elapsed() > limits::JWKS_STALE) {
            return Vec::new();
        }
        let is_wanted = |of: &Option<String>| match name {
            Some(_) => of.as_deref() == name,
            None => self.keys.len() == 1,
        };
        let found = self.keys.iter().filter(|(of, _)| is_wanted(of)).take(limits::JWKS_SAME_ID);
        found.map(|(_, key)| key.clone()).collect()
    }

    /// The deadline for waiting on a fetch; none if no fetch is in progress and none may start yet.
    fn wait(&mut self, refresh_requested: &Notify) -> Option<Instant> {
        let now = Instant::now();
        if !self.running {
            // After a failure the next fetch keeps to the backoff.
            if self.failed || self.begun.is_some_and(|at| at.elapsed() < limits::JWKS_MIN_INTERVAL) {
                return None;
            }
            (self.running, self.begun) = (true, Some(now));
            refresh_requested.notify_one();
        }
        self.begun.map(|at| at + limits::JWKS_WAIT).filter(|until| *until > now)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, KeySet> {
        self.key_set.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn refresh(self: Arc<Self>) {
        let mut failures = 0_u32;
        loop {
            {
                let mut key_set = self.lock();
                (key_set.running, key_set.begun) = (true, Some(Instant::now()));
            }
            let fetched = match timeout(limits::JWKS_TIME, self.fetch()).await {
                Ok(fetched) => fetched,
                Err(_) => Err("no response in time".to_owned()),
            };
            {
                let mut key_set = self.lock();
                key_set.running = false;
                key_set.failed = fetched.is_err();
                match fetched {
                    Ok(keys) => {
                        (key_set.keys, key_set.fetched_at) = (keys, Some(Instant::now()));
                        failures = 0;
                    }
                    Err(reason) => {
                        failures = failures.saturating_add(1);
                        let reason = secret::hidden(&reason);
                        let source = secret::hidden(&self.source);
                        tracing::warn!(source, reason, failures, "the token issuer's keys could not be fetched");
                    }
                }
            }
            self.fetches.send_modify(|fetches| *fetches += 1);
            if failures == 0 {
                let _ = timeout(limits::JWKS_KEPT, self.refresh_requested.notified()).await;
            } else {
                let pause = Duration::from_secs(1 << failures.min(6));
                sleep(pause.min(limits::JWKS_PAUSE_MOST)).await;
            }
        }
    }

    async fn fetch(&self) -> std::result::Result<Vec<(Option<String>, DecodingKey)>, String> {
        let text = if self.source.starts_with("https://") || self.source.starts_with("http://") {
            let describe = |err: reqwest::Error| err.without_url().to_string();
            let response = self.client.get(&self.source).send().await.and_then(reqwest::Response::error_for_status);
            let mut response = response.map_err(describe)?;
            let mut text = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(describe)? {
                text.extend_from_slice(&chunk);
                if text.len() > limits::BODY_BYTES {
                    return Err("the key set is too long".into());
                }
            }
            text
        } else {
            tokio::fs::read(&self.source).await.map_err(|err| err.to_string())?
        };
        let set: Value =
            serde_json::from_slice(&text).map_err(|err| format!("the key set is not valid JSON: {err}"))?;
        let all = set["keys"].as_array().ok_or("the key set has no list `keys`")?;
        let keys: Vec<_> = all.iter().filter_map(|key| usable(key, self.algorithm)).collect();
        if keys.is_empty() {
            return Err(format!("the key set has no key for verifying {:?}", self.algorithm));
        }
        Ok(keys)
    }
}

/// A key with its id, if it is meant for verifying with this algorithm. Unsupported or malformed
/// keys are ignored, so that they don't affect the others.
fn usable(key: &Value, algorithm: Algorithm) -> Option<(Option<String>, DecodingKey)> {
    let key: Jwk = serde_json::from_value(key.clone()).ok()?;
    let common = &key.common;
    let signs = common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let of = common.key_algorithm.as_ref().is_none_or(|of| of.to_string() == format!("{algorithm:?}"));
    let fits = matches!(
        (&key.algorithm, algorithm),
        (AlgorithmParameters::EllipticCurve(_), Algorithm::ES256 | Algorithm::ES384)
            | (AlgorithmParameters::OctetKeyPair(_), Algorithm::EdDSA)
            | (
                AlgorithmParameters::RSA(_),
                Algorithm::RS256
                    | Algorithm::RS384
                    | Algorithm::RS512
                    | Algorithm::PS256
                    | Algorithm::PS384
                    | Algorithm::PS512
            )
    );
    if !(signs && verifies && of && fits) {
        return None;
    }
    Some((common.key_id.clone(), DecodingKey::from_jwk(&key).ok()?))
}
