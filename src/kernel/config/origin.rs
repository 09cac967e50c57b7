//! Origins, as browsers write them.

use url::Url;

/// The origin in the form in which a browser sends it. What no page can have is refused: a wildcard, a path, a name without a
/// scheme.
pub(super) fn origin(given: &str) -> Result<String, String> {
    let given = given.trim();
    let form = "write it like https://app.example.com, with a port where it is not the scheme's own";
    if given.contains('*') {
        return Err(format!("wildcards are not understood: name each origin; {form}"));
    }
    let url = Url::parse(given).map_err(|_| form.to_owned())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(form)?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("an origin is a scheme, a host and a port alone; {form}"));
    }
    // The scheme's own port is left out by both.
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{}://{}{port}", url.scheme(), host.to_ascii_lowercase()))
}
