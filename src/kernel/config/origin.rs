//! Parses origins, as browsers send them.

use url::Url;

/// Normalizes an origin to the form that a browser sends. Rejects what cannot be a page's origin: a
/// wildcard, a path, a name without a scheme.
pub(super) fn origin(given: &str) -> Result<String, String> {
    let given = given.trim();
    let form = "write it like https://app.example.com, with a port where it is not the scheme's own";
    if given.contains('*') {
        return Err(format!("wildcards are not supported: list each origin; {form}"));
    }
    let url = Url::parse(given).map_err(|_| form.to_owned())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(form)?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("an origin has only a scheme, a host and a port; {form}"));
    }
    // Browsers and the parser both omit the scheme's default port.
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{}://{}{port}", url.scheme(), host.to_ascii_lowercase()))
}
