//! Checks the origin of requests: this machine, a proxy, or a page of another site. In development
//! mode everybody on this machine is an admin, so only requests that certainly come from here are
//! accepted.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, Request, Version, header};

use super::App;
use super::error::RequestError;

/// The remote address of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// True if the peer is on this machine, is not a proxy, and used a name of this machine as
    /// host. A page elsewhere that rebinds its own name to this machine (DNS rebinding) does not.
    pub fn is_local(self, headers: &HeaderMap) -> bool {
        self.0.ip().to_canonical().is_loopback() && !is_forwarded(headers) && host(headers).is_some_and(is_local)
    }
}

/// The header with the client's address, set by proxies.
pub(super) const FORWARDED_FOR: &str = "x-forwarded-for";

/// Headers that only proxies add, besides those that begin with `x-forwarded-`.
const PROXIES: [&str; 20] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-proxyuser-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "client-ip",
    "forwarded-for",
    "cf-ray",
    "cdn-loop",
    "x-azure-clientip",
    "x-vercel-forwarded-for",
    "x-envoy-external-address",
    "do-connecting-ip",
];

/// True if a request's headers show that it came through a proxy.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().map(HeaderName::as_str).any(|name| name.starts_with("x-forwarded") || PROXIES.contains(&name))
}

/// The requested host and port; `?` if they can't be read or are given several times.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().unwrap_or("?")),
        (Some(_), Some(_)) => Some("?"),
    }
}

/// Rejects a request with an invalid or ambiguous host. A proxy in front of this server that reads
/// another one of two hosts would decide about another request than the one that is answered here.
pub fn check_host<B>(request: &Request<B>) -> Result<(), RequestError> {
    let headers = request.headers();
    let mut all = headers.get_all(header::HOST).iter();
    let problem = match (all.next(), all.next()) {
        // HTTP/1.0 has none.
        (None, _) if request.version() == Version::HTTP_10 => None,
        (None, _) => Some("the `Host` header is missing"),
        (Some(_), Some(_)) => Some("the request has several `Host` headers"),
        (Some(host), None) => match host.to_str().ok().filter(|host| is_host(host)) {
            None => Some("`Host` must be a name or an address, with or without a port"),
            // A request with an absolute URL names the host twice.
            Some(host) => match request.uri().authority() {
                Some(other) if !other.as_str().eq_ignore_ascii_case(host) => {
                    Some("the host of the request's URL and the `Host` header differ")
                }
                _ => None,
            },
        },
    };
    problem.map_or(Ok(()), |why| Err(RequestError::malformed(why).of_field("Host")))
}

/// True if a text is a name, an IPv4 address, or an IPv6 address in brackets, with or without a
/// port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !name.is_empty() && name.len() <= 255 && name.bytes().all(fits)
        }
    };
    is_name && port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

/// True if a host, with or without a port, is a name of this machine.
pub fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl App {
    /// Rejects requests of pages of other origins than this server's and the configured ones. In
    /// development mode the host must be a name of this machine, and no proxy may have forwarded
    /// the request.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<(), RequestError> {
        let (development, host) = (self.authenticator.development(), host(headers));
        if development && !host.is_some_and(is_local) {
            return Err(RequestError::forbidden("in development mode only requests from this machine are allowed"));
        }
        if development && is_forwarded(headers) {
            let message = "in development mode no proxy is allowed: create a key first \
                           (`sortie key create --name first --role ADMIN`), and restart the server";
            return Err(RequestError::forbidden(message));
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            // Browsers fetch a page's images, scripts and links without an `Origin`, which a POST
            // has.
            let site = headers.get(FETCH_SITE).map(|site| site.as_bytes().to_ascii_lowercase());
            return match site.as_deref() {
                Some(b"cross-site") => {
                    Err(RequestError::forbidden("requests from pages of another site are not allowed"))
                }
                Some(b"same-site") if !development => {
                    Err(RequestError::forbidden("requests from pages of another host are not allowed"))
                }
                _ => Ok(()),
            };
        };
        let origin_host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, of)| of);
        if self.authenticator.allows_origin(origin) || (origin_host.is_some() && origin_host == host) {
            return Ok(());
        }
        Err(RequestError::forbidden("requests from pages of this origin are not allowed; see `--allow-origins`"))
    }
}
