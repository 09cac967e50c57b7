//! The keys of an identity provider (JWKS), fetched in the background: no request has to fetch them, keys that were good
//! go on serving while the provider is away, and a failure is remembered.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::kernel::error::{Error, Result};
use crate::kernel::{limits, secret};

/// The keys, kept up to date for as long as this is there.
#[derive(Debug)]
pub(super) struct Jwks {
    shared: Arc<Shared>,
    _refresh: JoinSet<()>,
}

/// What is found of a key by its name.
pub(super) enum Found {
    /// The key.
    Key(DecodingKey),
    /// The provider has none of this name.
    None,
    /// That can't be known: the provider is away.
    Away,
}

struct Shared {
    source: String,
    algorithm: Algorithm,
    client: reqwest::Client,
    kept: Mutex<Kept>,
    /// Has the keys fetched before their time.
    wanted: Notify,
    /// The fetches that have ended.
    fetches: watch::Sender<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Kept {
    keys: Vec<(Option<String>, DecodingKey)>,
    /// When these keys were read.
    good: Option<Instant>,
    /// When the last fetch began, and whether it goes on still.
    begun: Option<Instant>,
    running: bool,
    failed: bool,
}

impl Jwks {
    /// Begins to keep the keys of an address or a file.
    pub(super) fn keep(source: String, algorithm: Algorithm) -> Result<Self> {
        crate::kernel::tls::begin();
        let client = reqwest::Client::builder().timeout(limits::JWKS_TIME).build().map_err(Error::ours)?;
        // Running from the start, so that the first requests wait for the first fetch.
        let kept = Mutex::new(Kept { running: true, begun: Some(Instant::now()), ..Kept::default() });
        let (wanted, fetches) = (Notify::new(), watch::Sender::new(0));
        let shared = Arc::new(Shared { source, algorithm, client, kept, wanted, fetches });
        let mut refresh = JoinSet::new();
        refresh.spawn(shared.clone().refresh());
        Ok(Self { shared, _refresh: refresh })
    }

    /// The key of a name, as far as it is there already.
    pub(super) fn kept(&self, name: Option<&str>) -> Option<DecodingKey> {
        self.shared.lock().key(name)
    }

    /// The key that a token names. A name that is not known has the keys fetched again, not too often; it is waited for
    /// until a time that counts from the fetch's beginning, so that nobody waits for a provider that is known to hang.
    pub(super) async fn key(&self, name: Option<&str>) -> Found {
        let mut fetches = self.shared.fetches.subscribe();
        let until = {
            let mut kept = self.shared.lock();
            if let Some(key) = kept.key(name) {
                return Found::Key(key);
            }
            kept.wait(&self.shared.wanted)
        };
        if let Some(until) = until {
            let _ = timeout_at(until, fetches.changed()).await;
        }
        let kept = self.shared.lock();
        match kept.key(name) {
            Some(key) => Found::Key(key),
            None if kept.failed || kept.running => Found::Away,
            None => Found::None,
        }
    }
}

impl Kept {
    fn key(&self, name: Option<&str>) -> Option<DecodingKey> {
        if self.good.is_none_or(|at| at.elapsed() > limits::JWKS_STALE) {
            return None;
        }
        let key = match name {
            Some(name) => self.keys.iter().find(|(of, _)| of.as_deref() == Some(name)),
            None if self.keys.len() == 1 => self.keys.first(),
            None => None,
        };
        key.map(|(_, key)| key.clone())
    }

    /// Until when to wait for a fetch; none where there is none under way, and none can be begun yet.
    fn wait(&mut self, wanted: &Notify) -> Option<Instant> {
        let now = Instant::now();
        if !self.running {
            // After a failure the next one has its time.
            if self.failed || self.begun.is_some_and(|at| at.elapsed() < limits::JWKS_AGAIN) {
                return None;
            }
            (self.running, self.begun) = (true, Some(now));
            wanted.notify_one();
        }
        self.begun.map(|at| at + limits::JWKS_WAIT).filter(|until| *until > now)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn refresh(self: Arc<Self>) {
        let mut failures = 0_u32;
        loop {
            {
                let mut kept = self.lock();
                (kept.running, kept.begun) = (true, Some(Instant::now()));
            }
            let fetched = match timeout(limits::JWKS_TIME, self.fetch()).await {
                Ok(fetched) => fetched,
                Err(_) => Err("it does not answer in time".to_owned()),
            };
            {
                let mut kept = self.lock();
                kept.running = false;
                kept.failed = fetched.is_err();
                match fetched {
                    Ok(keys) => {
                        (kept.keys, kept.good) = (keys, Some(Instant::now()));
                        failures = 0;
                    }
                    Err(why) => {
                        failures = failures.saturating_add(1);
                        let why = secret::hidden(&why);
                        let source = secret::hidden(&self.source);
                        tracing::warn!(source, why, failures, "the keys of the issuer of tokens could not be fetched");
                    }
                }
            }
            self.fetches.send_modify(|fetches| *fetches += 1);
            if failures == 0 {
                let _ = timeout(limits::JWKS_KEPT, self.wanted.notified()).await;
            } else {
                let pause = Duration::from_secs(1 << failures.min(6));
                sleep(pause.min(limits::JWKS_PAUSE_MOST)).await;
            }
        }
    }

    async fn fetch(&self) -> std::result::Result<Vec<(Option<String>, DecodingKey)>, String> {
        let text = if self.source.starts_with("https://") || self.source.starts_with("http://") {
            let told = |err: reqwest::Error| err.without_url().to_string();
            let response = self.client.get(&self.source).send().await.and_then(reqwest::Response::error_for_status);
            let mut response = response.map_err(told)?;
            let mut text = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(told)? {
                text.extend_from_slice(&chunk);
                if text.len() > limits::BODY_BYTES {
                    return Err("it is too long".into());
                }
            }
            text
        } else {
            tokio::fs::read(&self.source).await.map_err(|err| err.to_string())?
        };
        let set: Value = serde_json::from_slice(&text).map_err(|err| format!("it is no JSON: {err}"))?;
        let all = set["keys"].as_array().ok_or("it has no list `keys`")?;
        let keys: Vec<_> = all.iter().filter_map(|key| usable(key, self.algorithm)).collect();
        if keys.is_empty() {
            return Err(format!("it has no key that verifies {:?}", self.algorithm));
        }
        Ok(keys)
    }
}

/// A key with its name, if it is for verifying by this algorithm. One of another kind, or that can't be read, does no harm
/// to those beside it.
fn usable(key: &Value, algorithm: Algorithm) -> Option<(Option<String>, DecodingKey)> {
    let key: Jwk = serde_json::from_value(key.clone()).ok()?;
    let common = &key.common;
    let signs = common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let of = common.key_algorithm.as_ref().is_none_or(|of| of.to_string() == format!("{algorithm:?}"));
    if !(signs && verifies && of) {
        return None;
    }
    Some((common.key_id.clone(), DecodingKey::from_jwk(&key).ok()?))
}
