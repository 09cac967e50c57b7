//! Who is at the door: judged by where a request comes from and what it shows, and judged again while it stays.

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

/// Who asks, by what, and from where.
#[derive(Clone)]
pub struct Principal {
    /// Who.
    pub viewer: Viewer,
    /// From which address of the network.
    pub address: IpAddr,
    /// What was shown; none in development mode.
    shown: Option<Arc<str>>,
}

// What was shown is a secret.
impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("viewer", &self.viewer).field("address", &self.address).finish_non_exhaustive()
    }
}

impl Principal {
    /// Whether both are the same asker, by the same key.
    pub fn same(&self, other: &Self) -> bool {
        self.name() == other.name()
    }

    /// As what its open streams are counted.
    pub(super) fn name(&self) -> String {
        let viewer = &self.viewer;
        format!("{}/{:?}/{:?}", viewer.org_id, viewer.member_id(), viewer.api_key_id)
    }
}

/// How guests are told apart.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// In development mode everybody on this machine is this viewer, unless a key is shown.
    developer: Option<Viewer>,
    tokens: Option<Tokens>,
    origins: Vec<String>,
    proxies: Vec<IpAddr>,
    again: Duration,
    known: Cache<[u8; 32], Looked>,
    failures: Failures,
}

/// Who was found by what was shown, and when, and after how many changes of members and keys.
#[derive(Clone, Debug)]
struct Looked {
    known: Authenticated,
    at: Instant,
    changes: u64,
}

impl Authenticator {
    /// By configuration: development mode on a loopback address where there is no key and no issuer of tokens; elsewhere
    /// one of them is needed.
    pub async fn open(config: &Config, db: &Db, developer: Viewer) -> Ours<Self> {
        let tokens = Tokens::configured(config)?;
        let open = tokens.is_none() && !crate::domain::people::api_key::any(db).await?;
        if open && !config.listen.ip().is_loopback() {
            return Err(Error::ours(format!(
                "{} is not a loopback address, and nobody could be told apart there: make a key first \
                 (`sortie key create --name first --role ADMIN`), or configure tokens (`--jwt-issuer` …)",
                config.listen
            )));
        }
        Ok(Self(Arc::new(Inner {
            developer: open.then_some(developer),
            tokens,
            origins: config.origins(),
            proxies: config.trusted_proxies.clone(),
            again: config.recheck(),
            known: Cache::new(limits::GUESTS_KEPT),
            failures: Failures::default(),
        })))
    }

    /// Whether everybody on this machine is admin.
    pub fn development(&self) -> bool {
        self.0.developer.is_some()
    }

    /// Whether a page of this origin may ask.
    pub fn lets(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        let local = || origin.split_once("://").is_some_and(|(_, host)| is_local(host));
        self.0.origins.iter().any(|of| of == origin) || (self.development() && local())
    }

    /// Whether this address may speak for many: of this machine, or a trusted proxy.
    pub fn speaks_for_many(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.0.proxies.contains(&address)
    }

    /// From where somebody asks: the peer, or whom a proxy names that is trusted. What stands before the last name anybody
    /// may have written.
    pub fn address(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let ip = peer.0.ip().to_canonical();
        if !self.0.proxies.contains(&ip) {
            return ip;
        }
        let named = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
        named.and_then(|named| named.rsplit(',').next()?.trim().parse().ok()).unwrap_or(ip)
    }

    /// Tells the failed logins of a minute, once it is over.
    pub fn emit_failures(&self, now: chrono::DateTime<chrono::Utc>) {
        self.0.failures.roll(now);
    }

    /// Nobody is known by what an address showed: that is counted, and told to the org whose key it was.
    fn failed(&self, db: &Db, address: IpAddr, rejected: Rejected) -> RequestError {
        let Rejected { reason, key } = rejected;
        self.0.failures.count(db.now(), address, reason);
        if let Some(key) = key.filter(|key| self.0.failures.is_first(key.id)) {
            let db = db.clone();
            // Beside the request, which does not wait for the one writer.
            tokio::spawn(async move {
                if let Err(err) = audit::rejected(&db, &key, address.to_string(), reason.as_str()).await {
                    log_failure!(error, err, "the audit could not be written");
                }
            });
        }
        match reason {
            Reason::Missing => RequestError::unknown("show a key or a token: `Authorization: Bearer …`"),
            _ => RequestError::unknown("nobody is known by what you show: it may be wrong, revoked or expired"),
        }
    }

    /// Who shows something; from which address matters for what was not found good before, or not for long.
    async fn look(&self, db: &Db, shown: &str, address: Option<IpAddr>) -> Result<Authenticated, RequestError> {
        let fail = |rejected: Rejected| match address {
            Some(address) => self.failed(db, address, rejected),
            None => RequestError::unknown("what you showed is not valid any more"),
        };
        if shown.len() > limits::CREDENTIAL_BYTES {
            return Err(fail(Reason::Malformed.into()));
        }
        let digest: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
        let (now, changes) = (db.now(), db.door_changes());
        let worth = |known: &Authenticated| known.until.is_none_or(|until| until > now);
        let looked = self.0.known.get(&digest);
        if let Some(looked) = &looked
            && looked.at.elapsed() < limits::GUEST_KNOWN
            && looked.changes == changes
            && worth(&looked.known)
        {
            return Ok(looked.known.clone());
        }
        let (is_key, tokens) = (shown.starts_with(KEY_BEGINS), self.0.tokens.as_ref());
        if let (Some(address), None) = (address, &looked)
            && let Some(seconds) = self.0.failures.wait(now, address)
            // What the issuer signed is no guess.
            && (is_key || !tokens.is_some_and(|tokens| tokens.is_signed(shown)))
        {
            self.0.failures.count(now, address, Reason::Slowed);
            let told = format!("too many logins of your address failed: try again in {seconds} s");
            return Err(RequestError::busy(told).retry_after(seconds));
        }
        let found = match tokens {
            _ if is_key => db.unless_away(Viewer::of_key(db, shown)).await.map(Some),
            Some(tokens) => db.unless_away(tokens.check(db, shown)).await,
            None => Ok(Some(Err(Reason::Malformed.into()))),
        };
        match found {
            Ok(Some(Ok(known))) if worth(&known) => {
                self.0.known.insert(digest, Looked { known: known.clone(), at: Instant::now(), changes });
                Ok(known)
            }
            Ok(Some(rejected)) => {
                self.0.known.remove(&digest);
                Err(fail(rejected.err().unwrap_or_else(|| Reason::Expired.into())))
            }
            Ok(None) => Err(RequestError::away("the issuer of tokens can't be asked: try again in a moment", 5)),
            Err(err) if err.is_away() => Err(err.into()),
            Err(err) => Err(RequestError::ours(format_args!("who asks could not be found out: {err}"))),
        }
    }
}

impl App {
    /// Who sends a request, by its `Authorization`.
    pub async fn principal(&self, peer: Peer, headers: &HeaderMap) -> Result<Principal, RequestError> {
        self.guest_of(peer, headers, &Value::Null).await
    }

    /// Who opens a socket, by its `Authorization`, or by the payload of its `connection_init`, where browsers can say it.
    pub async fn guest_of(&self, peer: Peer, headers: &HeaderMap, payload: &Value) -> Result<Principal, RequestError> {
        self.from_here(headers)?;
        let address = self.authenticator.address(peer, headers);
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let said = || {
            let parts = payload.as_object()?;
            let named = |name: &str| ["authorization", "apikey", "token"].contains(&name.to_ascii_lowercase().as_str());
            parts.iter().find(|(name, _)| named(name)).and_then(|(_, value)| value.as_str())
        };
        let shown = header.or_else(said).map(bearer).filter(|shown| !shown.is_empty());
        // In development mode a key is tried out as it will be judged later; anything else is not looked at.
        if let Some(developer) = &self.authenticator.0.developer
            && !shown.is_some_and(|shown| shown.starts_with(KEY_BEGINS))
        {
            return Ok(Principal { viewer: developer.clone(), address, shown: None });
        }
        let Some(shown) = shown else {
            return Err(self.authenticator.failed(&self.db, address, Reason::Missing.into()));
        };
        let known = self.authenticator.look(&self.db, shown, Some(address)).await?;
        Ok(Principal { viewer: known.viewer, address, shown: Some(shown.into()) })
    }

    /// Comes back when the guest may stay no longer, with what to tell it: looked at again every so often, and at once when
    /// members or keys have changed here, or time has passed on a clock that a test sets.
    pub async fn revoked(&self, principal: &Principal) -> RequestError {
        let Some(shown) = &principal.shown else { return std::future::pending().await };
        let mut changed = self.db.door();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.authenticator.0.again) => {}
                _ = changed.changed() => {}
            }
            // On the heap: every open socket waits here.
            match Box::pin(self.authenticator.look(&self.db, shown, None)).await {
                Ok(known) if known.viewer == principal.viewer => {}
                Ok(_) => return RequestError::forbidden("your role has changed: connect again"),
                // That the database is away is no judgement on who asks.
                Err(told) if told.passes() => {}
                Err(told) => return told,
            }
        }
    }

    /// Takes a place among the guest's subscriptions, until the presence is dropped; one that holds many bytes counts as
    /// several.
    pub fn follows(&self, principal: &Principal, held: usize) -> Result<StreamPermit, RequestError> {
        // One socket may have all of its operations, however few sockets there may be.
        let most = self.streams_per_key.max(limits::SOCKET_STREAMS);
        let places = held.div_ceil(limits::SUBSCRIPTION_BYTES).max(1);
        let what = "subscriptions (one with a long document or long variables counts as several)";
        self.presences.enter(principal.name() + FOLLOWS, places, most, what)
    }

    /// Takes a place among the guest's open sockets and streams, until the presence is dropped.
    pub fn present(&self, principal: &Principal) -> Result<StreamPermit, RequestError> {
        self.presences.enter(principal.name(), 1, self.streams_per_key, "sockets and streams")
    }
}

fn bearer(said: &str) -> &str {
    match said.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer ") => rest.trim(),
        _ => said.trim(),
    }
}

/// Behind the name under which a guest's subscriptions are counted.
const FOLLOWS: &str = " follows";

/// How many sockets, streams and subscriptions each guest has open.
#[derive(Clone, Debug, Default)]
pub struct StreamQuotas(Arc<Mutex<HashMap<String, usize>>>);

/// One open socket or stream, or a subscription, with the places that it takes.
#[derive(Debug)]
pub struct StreamPermit(StreamQuotas, String, usize);

impl StreamQuotas {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many are open, all guests together.
    pub fn count(&self) -> usize {
        self.lock().iter().filter(|(name, _)| !name.ends_with(FOLLOWS)).map(|(_, count)| count).sum()
    }

    fn enter(&self, name: String, places: usize, most: usize, what: &str) -> Result<StreamPermit, RequestError> {
        let mut all = self.lock();
        let count = all.get(&name).copied().unwrap_or_default();
        if count.saturating_add(places) > most {
            return Err(RequestError::busy(format!("at most {most} {what} may be open by one key")));
        }
        all.insert(name.clone(), count + places);
        Ok(StreamPermit(self.clone(), name, places))
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
