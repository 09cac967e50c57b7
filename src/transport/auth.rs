//! Authenticates requests by origin and credential, and re-authenticates open streams.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};
use quick_cache::sync::Cache;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::App;
use super::error::RequestError;
use super::failed_logins::Failures;
use super::origin::{FORWARDED_FOR, Peer, is_local};
use crate::kernel::config::Config;
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result as Ours};
use crate::kernel::viewer::token::Tokens;
use crate::kernel::viewer::{Authenticated, KEY_BEGINS, Reason, Rejected, Viewer};
use crate::kernel::{audit, limits};

/// The authenticated sender of a request, with its credential and address.
#[derive(Clone)]
pub struct Principal {
    /// The viewer to execute requests as.
    pub viewer: Viewer,
    /// The client's network address.
    pub address: IpAddr,
    /// The credential; `None` in development mode.
    credential: Option<Arc<str>>,
}

// Without the credential, which is a secret.
impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Principal")
            .field("viewer", &self.viewer)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Principal {
    /// True if both are the same member with the same key.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name() == other.name()
    }

    /// The name under which its open streams are counted.
    pub(super) fn name(&self) -> String {
        let viewer = &self.viewer;
        format!("{}/{:?}/{:?}", viewer.org_id, viewer.member_id(), viewer.api_key_id)
    }
}

/// Authenticates requests. Clones share their caches.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The viewer of every request without a key in development mode.
    developer: Option<Viewer>,
    tokens: Option<Tokens>,
    origins: Vec<String>,
    proxies: Vec<IpAddr>,
    recheck_interval: Duration,
    known: Cache<[u8; 32], CachedLogin>,
    failures: Failures,
}

/// A cached login: the principal, the time, and the number of changes of members and keys then.
#[derive(Clone, Debug)]
struct CachedLogin {
    known: Authenticated,
    at: Instant,
    changes: u64,
}

impl Authenticator {
    /// Opens the authenticator that is configured. Without any key and token issuer it runs in
    /// development mode, which requires a loopback address; on other addresses it fails.
    pub async fn open(config: &Config, db: &Db, developer: Viewer) -> Ours<Self> {
        let tokens = Tokens::configured(config)?;
        let open = tokens.is_none() && !crate::domain::people::api_key::exists(db).await?;
        if open && !config.listen.ip().is_loopback() {
            return Err(Error::internal(format!(
                "{} is not a loopback address and requires authentication: create a key first \
                 (`sortie key create --name first --role ADMIN`), or configure tokens (`--jwt-issuer` …)",
                config.listen
            )));
        }
        Ok(Self(Arc::new(Inner {
            developer: open.then_some(developer),
            tokens,
            origins: config.origins(),
            proxies: config.trusted_proxies.clone(),
            recheck_interval: config.recheck(),
            known: Cache::new(limits::AUTH_CACHE_SIZE),
            failures: Failures::default(),
        })))
    }

    /// True in development mode, where everybody on this machine is an admin.
    pub fn development(&self) -> bool {
        self.0.developer.is_some()
    }

    /// True if pages of this origin may send requests.
    pub fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        let local = || origin.split_once("://").is_some_and(|(_, host)| is_local(host));
        self.0.origins.iter().any(|of| of == origin) || (self.development() && local())
    }

    /// True if this address may stand for many clients: it is on this machine, or a trusted proxy.
    pub fn is_shared_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.0.proxies.contains(&address)
    }

    /// The client's address: the peer's, or the one that a trusted proxy forwards. Only the last
    /// entry of the header counts, since clients may have written the others.
    pub fn address(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let ip = peer.0.ip().to_canonical();
        if !self.0.proxies.contains(&ip) {
            return ip;
        }
        let named = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
        named.and_then(|named| named.rsplit(',').next()?.trim().parse().ok()).unwrap_or(ip)
    }

    /// Logs the failed logins of a minute, once it is over.
    pub fn log_failures(&self, now: chrono::DateTime<chrono::Utc>) {
        self.0.failures.roll(now);
    }

    /// Counts a failed login, and writes it to the audit log of the org whose key it was.
    fn failed(&self, db: &Db, address: IpAddr, rejected: Rejected) -> RequestError {
        let Rejected { reason, key } = rejected;
        self.0.failures.count(db.now(), address, reason);
        if let Some(key) = key.filter(|key| self.0.failures.is_first(key.id)) {
            let db = db.clone();
            // Written in the background: the request does not wait for the single writer.
            tokio::spawn(async move {
                if let Err(err) = audit::rejected(&db, &key, address.to_string(), reason.as_str()).await {
                    log_failure!(error, err, "the audit log could not be written");
                }
            });
        }
        match reason {
            Reason::Missing => RequestError::unauthenticated(
                "credentials are missing: send a key or a token as `Authorization: Bearer …`",
            ),
            _ => RequestError::unauthenticated("invalid credentials: they may be wrong, revoked or expired"),
        }
    }

    /// Authenticates a credential. The address limits failed logins; it matters only for
    /// credentials that are not cached as valid. `None` re-authenticates an open stream.
    async fn authenticate(
        &self,
        db: &Db,
        credential: &str,
        address: Option<IpAddr>,
    ) -> Result<Authenticated, RequestError> {
        let fail = |rejected: Rejected| match address {
            Some(address) => self.failed(db, address, rejected),
            None => RequestError::unauthenticated("the credentials are no longer valid"),
        };
        if credential.len() > limits::CREDENTIAL_BYTES {
            return Err(fail(Reason::Malformed.into()));
        }
        let digest: [u8; 32] = Sha256::digest(credential.as_bytes()).into();
        let (now, changes) = (db.now(), db.credential_change_count());
        let is_current = |known: &Authenticated| known.until.is_none_or(|until| until > now);
        let cached = self.0.known.get(&digest);
        if let Some(cached) = &cached
            && cached.at.elapsed() < limits::AUTH_CACHE_TIME
            && cached.changes == changes
            && is_current(&cached.known)
        {
            return Ok(cached.known.clone());
        }
        let (is_key, tokens) = (credential.starts_with(KEY_BEGINS), self.0.tokens.as_ref());
        if let (Some(address), None) = (address, &cached)
            && let Some(seconds) = self.0.failures.wait(now, address)
            // A token that the issuer signed is not a guess.
            && (is_key || !tokens.is_some_and(|tokens| tokens.is_signed(credential)))
        {
            self.0.failures.count(now, address, Reason::Slowed);
            let message = format!("too many failed logins from your address: retry in {seconds} s");
            return Err(RequestError::busy(message).retry_after(seconds));
        }
        let found = match tokens {
            _ if is_key => db.unless_unreachable(Viewer::of_key(db, credential)).await.map(Some),
            Some(tokens) => db.unless_unreachable(tokens.check(db, credential)).await,
            None => Ok(Some(Err(Reason::Malformed.into()))),
        };
        match found {
            Ok(Some(Ok(known))) if is_current(&known) => {
                self.0.known.insert(digest, CachedLogin { known: known.clone(), at: Instant::now(), changes });
                Ok(known)
            }
            Ok(Some(rejected)) => {
                self.0.known.remove(&digest);
                Err(fail(rejected.err().unwrap_or_else(|| Reason::Expired.into())))
            }
            Ok(None) => Err(RequestError::unavailable("the token issuer can't be reached: retry in a moment", 5)),
            Err(err) if err.is_unreachable() => Err(err.into()),
            Err(err) => Err(RequestError::internal(format_args!("a request could not be authenticated: {err}"))),
        }
    }
}

impl App {
    /// Authenticates a request by its `Authorization` header.
    pub async fn principal(&self, peer: Peer, headers: &HeaderMap) -> Result<Principal, RequestError> {
        self.socket_principal(peer, headers, &Value::Null).await
    }

    /// Authenticates a socket by its `Authorization` header, or by the payload of
    /// `connection_init`, since browsers can't set headers on sockets.
    pub async fn socket_principal(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        payload: &Value,
    ) -> Result<Principal, RequestError> {
        self.check_origin(headers)?;
        // A proxy in front of this server might read the other one.
        if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
            let error = RequestError::malformed("the request has several `Authorization` headers");
            return Err(error.of_field("Authorization"));
        }
        let address = self.authenticator.address(peer, headers);
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let in_payload = || {
            let parts = payload.as_object()?;
            let named = |name: &str| ["authorization", "apikey", "token"].contains(&name.to_ascii_lowercase().as_str());
            parts.iter().find(|(name, _)| named(name)).and_then(|(_, value)| value.as_str())
        };
        let credential = header.or_else(in_payload).map(bearer).filter(|credential| !credential.is_empty());
        // Development mode checks a key as production does, so that keys can be tried out. It
        // ignores other credentials.
        if let Some(developer) = &self.authenticator.0.developer
            && !credential.is_some_and(|credential| credential.starts_with(KEY_BEGINS))
        {
            return Ok(Principal { viewer: developer.clone(), address, credential: None });
        }
        let Some(credential) = credential else {
            return Err(self.authenticator.failed(&self.db, address, Reason::Missing.into()));
        };
        let known = self.authenticator.authenticate(&self.db, credential, Some(address)).await?;
        Ok(Principal { viewer: known.viewer, address, credential: Some(credential.into()) })
    }

    /// Waits until the principal's access is revoked, and returns the error to send.
    /// Re-authenticates at an interval, and at once when members or keys have changed here, or time
    /// has passed on a clock that a test sets.
    pub async fn revoked(&self, principal: &Principal) -> RequestError {
        let Some(credential) = &principal.credential else { return std::future::pending().await };
        let mut changed = self.db.credential_changes();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.authenticator.0.recheck_interval) => {}
                _ = changed.changed() => {}
            }
            // Boxed, since every open socket waits here.
            match Box::pin(self.authenticator.authenticate(&self.db, credential, None)).await {
                Ok(known) if known.viewer == principal.viewer => {}
                Ok(_) => return RequestError::forbidden("your role has changed: reconnect"),
                // An unavailable database says nothing about the credential.
                Err(error) if error.is_temporary() => {}
                Err(error) => return error,
            }
        }
    }

    /// Counts a subscription towards the principal's quota until the permit is dropped. One that
    /// uses much memory counts as several.
    pub fn permit_subscription(&self, principal: &Principal, held: usize) -> Result<StreamPermit, RequestError> {
        // Allows at least the operations of one socket, however few sockets are allowed.
        let most = self.streams_per_key.max(limits::SOCKET_STREAMS);
        let count = held.div_ceil(limits::SUBSCRIPTION_BYTES).max(1);
        let what = "subscriptions (one with a long document or long variables counts as several)";
        self.stream_quotas.enter(principal.name() + FOLLOWS, count, most, what)
    }

    /// Counts a socket or stream towards the principal's quota until the permit is dropped.
    pub fn permit_stream(&self, principal: &Principal) -> Result<StreamPermit, RequestError> {
        self.stream_quotas.enter(principal.name(), 1, self.streams_per_key, "sockets and streams")
    }
}

fn bearer(authorization: &str) -> &str {
    match authorization.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer ") => rest.trim(),
        _ => authorization.trim(),
    }
}

/// Suffix of the name under which a principal's subscriptions are counted.
const FOLLOWS: &str = " follows";

/// The numbers of open sockets, streams and subscriptions, by principal.
#[derive(Clone, Debug, Default)]
pub struct StreamQuotas(Arc<Mutex<HashMap<String, usize>>>);

/// The permit of an open socket, stream or subscription, with the number that it counts as.
#[derive(Debug)]
pub struct StreamPermit(StreamQuotas, String, usize);

impl StreamQuotas {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Number of open sockets and streams of all principals.
    pub fn count(&self) -> usize {
        self.lock().iter().filter(|(name, _)| !name.ends_with(FOLLOWS)).map(|(_, count)| count).sum()
    }

    fn enter(&self, name: String, added: usize, most: usize, what: &str) -> Result<StreamPermit, RequestError> {
        let mut all = self.lock();
        let count = all.get(&name).copied().unwrap_or_default();
        if count.saturating_add(added) > most {
            return Err(RequestError::busy(format!("at most {most} {what} may be open per key")));
        }
        all.insert(name.clone(), count + added);
        Ok(StreamPermit(self.clone(), name, added))
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut all = self.0.lock();
        if let Some(count) = all.get_mut(&self.1) {
            *count -= self.2;
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}
