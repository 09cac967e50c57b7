//! The database's address: what is malformed in it is told without the address, for a password may stand anywhere in it.

use url::Url;

use crate::kernel::error::{Error, Result};

/// Parameters of a Postgres address that are known; others would be logged with their values.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// Refuses an address that can't be read as it was meant.
pub(super) fn check(address: &str) -> Result<()> {
    let wrong = |why: &str| {
        Err(Error::ours(format!(
            "DATABASE_URL (--database-url) can't be read: {why}. Write postgres://user:password@host:5432/database, with \
             %40 for `@`, %3A for `:`, %2F for `/`, %3F for `?` and %23 for `#` in the user and the password; or \
             sqlite://FILE"
        )))
    };
    if let Some(path) = address.strip_prefix("sqlite:") {
        return match path.trim_start_matches('/') {
            _ if path.contains("://") => wrong("it has another address in it"),
            name if name.is_empty() || name.starts_with(":memory:") => {
                wrong("it names no file: what is in memory would be gone with the process")
            }
            _ => Ok(()),
        };
    }
    if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
        return wrong("it begins neither with postgres:// nor with sqlite://");
    }
    let url = match Url::parse(address) {
        Ok(url) => url,
        // As libpq writes sockets.
        Err(url::ParseError::EmptyHost) => {
            return wrong(
                "its host is empty (for a socket it is postgres://user@localhost/database?host=/run/postgresql)",
            );
        }
        Err(err) => return wrong(&err.to_string()),
    };
    // A password with one of `/?#` in it, bare: what is taken for the database's name is the rest of it.
    if url.path().contains('@') || url.query().is_some_and(|query| query.contains('@')) || url.fragment().is_some() {
        return wrong("there is an `@` or a `#` behind its host");
    }
    let known = |name: &str| PARAMETERS.contains(&name) || name == "options" || name.starts_with("options[");
    match url.query_pairs().find(|(name, _)| !known(name)) {
        Some((name, _)) => wrong(&format!("it has an unknown parameter, `{}`", crate::kernel::validate::shown(&name))),
        None => Ok(()),
    }
}
