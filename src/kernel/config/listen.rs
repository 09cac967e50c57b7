//! Parses the address to listen on.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Parses an address and a port; resolves a name; a port alone is one of this machine.
pub(super) fn address(given: &str) -> Result<SocketAddr, String> {
    let given = given.trim();
    if let Ok(address) = given.parse() {
        return Ok(address);
    }
    let wrong = || "write it like 127.0.0.1:4000, localhost:4000 or [::1]:4000".to_owned();
    let (host, port) = given.rsplit_once(':').unwrap_or(("", given));
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    if host.contains([':', '[', '/']) {
        return Err(wrong());
    }
    let mut found: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|err| format!("the name {host} can't be resolved: {err}"))?.collect();
    // `localhost` is both; IPv4 first, as clients try it.
    found.sort_by_key(|address| !address.is_ipv4());
    found.first().copied().ok_or_else(|| format!("the name {host} has no address"))
}
