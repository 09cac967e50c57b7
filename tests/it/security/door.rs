//! Strangers: connections, bodies before credentials, failed logins, proxies.
