//! HTTP client for calls to external systems. It connects to public addresses only, unless others
//! are allowed, follows no redirects, and bounds each call in time and size.

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

/// HTTP client with the allowed private networks and the secrets for calls.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    allowed: Arc<[IpNet]>,
    secrets: Arc<Map<String, Value>>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpClient")
    }
}

/// Reads secrets by name from a TOML file of strings. Errors name the file, never a value.
pub fn secrets(file: Option<&Path>) -> Result<Map<String, Value>> {
    let Some(file) = file else { return Ok(Map::new()) };
    let invalid = |why: &str| Error::internal(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|err| invalid(&err.to_string()))?;
    let table: toml::Table = text.parse().map_err(|_| invalid("is not valid TOML"))?;
    let each = table.into_iter().map(|(name, value)| match value {
        toml::Value::String(secret) => Ok((name, Value::String(secret))),
        _ => Err(invalid(&format!("`{name}` must be a string"))),
    });
    each.collect()
}

/// The response to a call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The complete body.
    pub body: Vec<u8>,
}

/// The failure of a call that got no complete response.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The reason.
    pub why: String,
    /// True if a retry may succeed.
    pub retryable: bool,
}

impl Failed {
    fn permanent(why: impl Into<String>) -> Self {
        Self { why: why.into(), retryable: false }
    }
}

impl Answer {
    /// The delay that the `Retry-After` header asks for, in seconds, up to a limit.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds).min(limits::RETRY_AFTER_MOST))
    }
}

impl HttpClient {
    /// A client for public addresses and the allowed private networks.
    pub fn new(allowed: &[IpNet], secrets: Map<String, Value>) -> Result<Self> {
        crate::kernel::tls::begin();
        let allowed: Arc<[IpNet]> = allowed.into();
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would resolve names itself, past the check of their addresses.
            .no_proxy()
            .user_agent(concat!("sortie/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Guarded { allowed: allowed.clone() })
            .build()
            .map_err(Error::internal)?;
        Ok(Self { client, allowed, secrets: Arc::new(secrets) })
    }

    /// The secrets that an org's calls may use: all for the built-in org, whose operator provides
    /// them, and none for others.
    pub fn secrets(&self, org: OrgId) -> Value {
        if org == entity::org::PLATFORM {
            Value::Object(self.secrets.as_ref().clone())
        } else {
            Value::Object(Map::new())
        }
    }

    /// The client to build requests with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request. Fails if the response takes longer than `time` or exceeds `bytes`.
    pub async fn call(&self, request: Request, time: Duration, bytes: usize) -> std::result::Result<Answer, Failed> {
        if let Some(address) = literal(&request)
            && !is_allowed(address, &self.allowed)
        {
            tracing::info!(%address, "a call to a private address was refused");
            return Err(Failed::permanent(REFUSED));
        }
        match tokio::time::timeout(time, self.whole(request, bytes)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed { why: format!("there was no response within {time:?}"), retryable: true }),
        }
    }

    async fn whole(&self, request: Request, bytes: usize) -> std::result::Result<Answer, Failed> {
        let mut response = self.client.execute(request).await.map_err(|err| failure(&err))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|err| failure(&err))? {
            if body.len() + chunk.len() > bytes {
                return Err(Failed::permanent(format!("the response is longer than {bytes} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }
}

/// Describes an error by its last cause only: its own text has the URL, whose query may hold a
/// secret.
fn failure(err: &reqwest::Error) -> Failed {
    let mut source: Option<&dyn std::error::Error> = std::error::Error::source(err);
    let mut last = String::new();
    while let Some(inner) = source {
        last = inner.to_string();
        source = inner.source();
    }
    if last.contains(REFUSED) {
        return Failed { why: REFUSED.into(), retryable: true };
    }
    let what = if err.is_connect() { "can't be reached" } else { "the response broke off" };
    Failed { why: if last.is_empty() { what.into() } else { format!("{what}: {last}") }, retryable: !err.is_builder() }
}

/// The error for an address that may not be called, and for a name without an allowed address. Both
/// have the same text, so that whoever may write URLs can't probe for internal names. The log says
/// more.
const REFUSED: &str = "the host may not be called: there is no public address of that name";

/// The IP address in the URL, if its host is one and not a name.
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
                    tracing::info!(name = name.as_str(), error = %err, "the host name of a call was not found");
                    return Err(REFUSED.into());
                }
            };
            let public: Vec<SocketAddr> = found.filter(|found| is_allowed(found.ip(), &allowed)).collect();
            if public.is_empty() {
                tracing::info!(name = name.as_str(), "the host name of a call has private addresses only");
                return Err(REFUSED.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// True if an address may be called.
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
    // 6to4 relays, which are deprecated.
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
    // An IPv4 address mapped into IPv6 is checked as the IPv4 address.
    if let Some(mapped) = address.to_ipv4() {
        return is_public_v4(mapped);
    }
    // Only 2000::/3 is allocated for the internet (IANA). Of it, these are for something else:
    // protocol assignments (2001::/23, with Teredo), documentation, and 6to4.
    let [first, second, ..] = address.segments();
    let allocated = first & 0xe000 == 0x2000;
    let protocols = first == 0x2001 && second < 0x200;
    let documentation = (first == 0x2001 && second == 0xdb8) || (first == 0x3fff && second < 0x1000);
    let transition = first == 0x2002;
    allocated && !(protocols || documentation || transition)
}
