//! Checks the database's URL. Errors never quote the URL, because a password may be anywhere in it.

use url::Url;

use crate::kernel::error::{Error, Result};

/// The known parameters of a Postgres URL; sqlx would log others with their values.
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

/// Rejects a URL that would not be read as intended.
pub(super) fn check(address: &str) -> Result<()> {
    let wrong = |problem: &str| {
        Err(Error::internal(format!(
            "DATABASE_URL (--database-url) can't be read: {problem}. Write postgres://user:password@host:5432/database, with \
             %40 for `@`, %3A for `:`, %2F for `/`, %3F for `?` and %23 for `#` in the user and the password; or \
             sqlite://FILE"
        )))
    };
    if let Some(path) = address.strip_prefix("sqlite:") {
        return match path.trim_start_matches('/') {
            _ if path.contains("://") => wrong("it contains another URL"),
            name if name.is_empty() || name.starts_with(":memory:") => {
                wrong("it names no file: an in-memory database would be lost when the process ends")
            }
            _ => Ok(()),
        };
    }
    if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
        return wrong("it must begin with postgres:// or sqlite://");
    }
    let url = match Url::parse(address) {
        Ok(url) => url,
        // The form in which libpq writes sockets.
        Err(url::ParseError::EmptyHost) => {
            return wrong(
                "its host is empty (for a socket it is postgres://user@localhost/database?host=/run/postgresql)",
            );
        }
        Err(err) => return wrong(&err.to_string()),
    };
    // An unescaped `/`, `?` or `#` in a password: the rest of it would be taken for the database's
    // name.
    if url.path().contains('@') || url.query().is_some_and(|query| query.contains('@')) || url.fragment().is_some() {
        return wrong("there is an `@` or a `#` after its host");
    }
    let known = |name: &str| PARAMETERS.contains(&name) || name == "options" || name.starts_with("options[");
    match url.query_pairs().find(|(name, _)| !known(name)) {
        Some((name, _)) => {
            wrong(&format!("it has an unknown parameter, `{}`", crate::kernel::validate::printable(&name)))
        }
        None => Ok(()),
    }
}
