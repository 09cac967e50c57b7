//! From where a request comes: this machine, a proxy, a page of another place. In development mode everybody on this machine
//! is admin, so there only what was certainly sent from here is let in.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, Request, Version, header};

use super::App;
use super::error::RequestError;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// Whether it is on this machine, speaks for itself and not as a proxy for others, and asked for this machine by name:
    /// a page elsewhere that rebinds its own name to this machine does not.
    pub fn is_local(self, headers: &HeaderMap) -> bool {
        self.0.ip().to_canonical().is_loopback() && !is_forwarded(headers) && host(headers).is_some_and(is_local)
    }
}

/// By which proxies name whom they ask for.
pub(super) const FORWARDED_FOR: &str = "x-forwarded-for";

/// What only proxies add, beside all that begins with `x-forwarded-`.
const PROXIES: [&str; 12] = [
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
];

/// Whether a request came through a proxy, as far as its headers tell.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().map(HeaderName::as_str).any(|name| name.starts_with("x-forwarded") || PROXIES.contains(&name))
}

/// The host and port that were asked for; `?` where they can't be read, or there are several.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().unwrap_or("?")),
        (Some(_), Some(_)) => Some("?"),
    }
}

/// Refuses a request whose host can't be told, or may be told otherwise by whoever stands before us: a proxy that reads the
/// other one of two decides about another request than the one that is answered here.
pub fn check_host<B>(request: &Request<B>) -> Result<(), RequestError> {
    let headers = request.headers();
    let mut all = headers.get_all(header::HOST).iter();
    let told = match (all.next(), all.next()) {
        // HTTP/1.0 has none.
        (None, _) if request.version() == Version::HTTP_10 => None,
        (None, _) => Some("the request has no Host"),
        (Some(_), Some(_)) => Some("the request has several Hosts"),
        (Some(host), None) => match host.to_str().ok().filter(|host| is_host(host)) {
            None => Some("the request's Host is none: a name or an address, and perhaps a port"),
            // By a URL the host is named twice.
            Some(host) => match request.uri().authority() {
                Some(other) if !other.as_str().eq_ignore_ascii_case(host) => {
                    Some("the request's URL and its Host differ")
                }
                _ => None,
            },
        },
    };
    told.map_or(Ok(()), |why| Err(RequestError::malformed(why)))
}

/// True if a text is a name, an address, or an address of IPv6 in brackets, with or without a port.
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

/// Whether a host, with or without a port, is this machine by its name.
pub fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl App {
    /// Refuses pages of other places than this one and those that are configured. In development mode the name that was
    /// asked for must be this machine's, and no proxy may have passed the request on.
    pub fn from_here(&self, headers: &HeaderMap) -> Result<(), RequestError> {
        let (development, host) = (self.authenticator.development(), host(headers));
        if development && !host.is_some_and(is_local) {
            return Err(RequestError::forbidden("in development mode only this machine may ask"));
        }
        if development && is_forwarded(headers) {
            let told = "in development mode no proxy may ask: make a key first \
                        (`sortie key create --name first --role ADMIN`), and start again";
            return Err(RequestError::forbidden(told));
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            // A page has its images, scripts and links fetched without an `Origin`, which a POST would have.
            let site = headers.get(FETCH_SITE).map(|site| site.as_bytes());
            return match site {
                Some(b"cross-site") => Err(RequestError::forbidden("pages of another site may not ask here")),
                Some(b"same-site") if !development => {
                    Err(RequestError::forbidden("pages of another host may not ask here"))
                }
                _ => Ok(()),
            };
        };
        let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, of)| of);
        if self.authenticator.lets(origin) || (own.is_some() && own == host) {
            return Ok(());
        }
        Err(RequestError::forbidden("pages of this origin may not ask here"))
    }
}
