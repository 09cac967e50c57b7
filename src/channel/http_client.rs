//! Calls to the outside: to public addresses only unless others are allowed, without redirects, bounded in time and size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use entity::id::OrgId;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Request, StatusCode};
use serde_json::{Map, Value};

use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// Who calls.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    allowed: Arc<[IpNet]>,
    secrets: Arc<Map<String, Value>>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outward")
    }
}

/// Secrets by their names, from a TOML file of texts. Errors name the file, never a value.
pub fn secrets(file: Option<&Path>) -> Result<Map<String, Value>> {
    let Some(file) = file else { return Ok(Map::new()) };
    let wrong = |why: &str| Error::ours(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|err| wrong(&err.to_string()))?;
    let table: toml::Table = text.parse().map_err(|_| wrong("is no TOML"))?;
    let each = table.into_iter().map(|(name, value)| match value {
        toml::Value::String(secret) => Ok((name, Value::String(secret))),
        _ => Err(wrong(&format!("`{name}` must be a text"))),
    });
    each.collect()
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// Why nothing did.
#[derive(Clone, Debug)]
pub struct Failed {
    /// A sentence.
    pub why: String,
    /// Whether it may succeed later.
    pub again: bool,
}

impl Failed {
    fn never(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: false }
    }
}

impl Answer {
    /// How long the other side asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds).min(limits::RETRY_AFTER_MOST))
    }
}

impl HttpClient {
    /// One that calls public addresses, and those of the private ones that are allowed.
    pub fn new(allowed: &[IpNet], secrets: Map<String, Value>) -> Result<Self> {
        crate::kernel::tls::begin();
        let allowed: Arc<[IpNet]> = allowed.into();
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would resolve names beyond our sight.
            .no_proxy()
            .user_agent(concat!("sortie/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Guarded { allowed: allowed.clone() })
            .build()
            .map_err(Error::ours)?;
        Ok(Self { client, allowed, secrets: Arc::new(secrets) })
    }

    /// What calls may show of an org: those of the built-in one, whose operator keeps them.
    pub fn secrets(&self, org: OrgId) -> Value {
        if org == entity::org::PLATFORM {
            Value::Object(self.secrets.as_ref().clone())
        } else {
            Value::Object(Map::new())
        }
    }

    /// To build requests with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Calls, within a time; the answer may have so many bytes.
    pub async fn call(&self, request: Request, time: Duration, bytes: usize) -> std::result::Result<Answer, Failed> {
        if let Some(address) = literal(&request)
            && !is_allowed(address, &self.allowed)
        {
            tracing::info!(%address, "a call to a private address was refused");
            return Err(Failed::never(REFUSED));
        }
        match tokio::time::timeout(time, self.whole(request, bytes)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed { why: format!("there was no answer within {time:?}"), again: true }),
        }
    }

    async fn whole(&self, request: Request, bytes: usize) -> std::result::Result<Answer, Failed> {
        let mut response = self.client.execute(request).await.map_err(|err| told(&err))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|err| told(&err))? {
            if body.len() + chunk.len() > bytes {
                return Err(Failed::never(format!("the answer is longer than {bytes} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }
}

/// Errors of this client carry the address; its query may hold what is secret.
fn told(err: &reqwest::Error) -> Failed {
    let mut at: Option<&dyn std::error::Error> = std::error::Error::source(err);
    let mut last = String::new();
    while let Some(inner) = at {
        last = inner.to_string();
        at = inner.source();
    }
    if last.contains(REFUSED) {
        return Failed { why: REFUSED.into(), again: true };
    }
    let what = if err.is_connect() { "can't be reached" } else { "the answer broke off" };
    Failed { why: if last.is_empty() { what.into() } else { format!("{what}: {last}") }, again: !err.is_builder() }
}

/// The one text for an address that is not called and for a name that leads to none that is: whoever may write URLs is not to
/// find out by them which names there are inside. The log says more.
const REFUSED: &str = "the host may not be called: there is no public address of that name";

/// The address, where the URL names one and no host.
fn literal(request: &Request) -> Option<IpAddr> {
    match request.url().host()? {
        url::Host::Ipv4(address) => Some(address.into()),
        url::Host::Ipv6(address) => Some(address.into()),
        url::Host::Domain(_) => None,
    }
}

struct Guarded {
    allowed: Arc<[IpNet]>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found = match tokio::net::lookup_host((name.as_str(), 0)).await {
                Ok(found) => found,
                Err(err) => {
                    tracing::info!(name = name.as_str(), error = %err, "a name that is to be called was not found");
                    return Err(REFUSED.into());
                }
            };
            let public: Vec<SocketAddr> = found.filter(|found| is_allowed(found.ip(), &allowed)).collect();
            if public.is_empty() {
                tracing::info!(name = name.as_str(), "a name that is to be called has private addresses only");
                return Err(REFUSED.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address may be called.
pub fn is_allowed(address: IpAddr, allowed: &[IpNet]) -> bool {
    is_public(address) || allowed.iter().any(|net| net.contains(&address))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let special = (a == 192 && b == 0 && c == 0) || (a == 198 && (b == 18 || b == 19)) || a == 0 || a >= 224;
    // Relays to networks of the other kind, which are gone.
    let relay = a == 192 && b == 88 && c == 99;
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || shared
        || relay
        || special)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Addresses that stand for one of the other kind are judged as that.
    if let Some(mapped) = address.to_ipv4() {
        return is_public_v4(mapped);
    }
    // Only 2000::/3 is given out for the internet (IANA); of it, these are for something else: protocols' own (2001::/23, with
    // Teredo), documentation, and 6to4.
    let [first, second, ..] = address.segments();
    let given_out = first & 0xe000 == 0x2000;
    let protocols = first == 0x2001 && second < 0x200;
    let documentation = (first == 0x2001 && second == 0xdb8) || (first == 0x3fff && second < 0x1000);
    let transition = first == 0x2002;
    given_out && !(protocols || documentation || transition)
}
