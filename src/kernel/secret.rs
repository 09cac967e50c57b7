//! Removes user names and passwords from URLs in errors and log lines.

/// A text without the users and passwords of the URLs in it. Everything between `://` and the
/// line's last `@` is removed, because in a malformed URL the end of a password is unknown.
pub fn hidden(text: &str) -> String {
    let line = |line: &str| match (line.find("://"), line.rfind('@')) {
        (Some(from), Some(to)) if from < to => format!("{}…{}", &line[..from + 3], &line[to..]),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A text without a URL, and without any part of it that may be a password.
pub fn without(text: &str, address: &str) -> String {
    let mut text = text.replace(address, "…");
    if let Some((_, rest)) = address.split_once(':') {
        let named = rest.trim_start_matches('/');
        let parts = named.split(['@', ':', '/', '?', '#', '&', '=']).filter(|part| part.chars().count() > 3);
        let secrets = named.rsplit_once('@').map(|(secret, _)| secret);
        // Without a user, a password can still be one of the parameters.
        let parameters = named.find('?').filter(|_| secrets.is_none()).map_or("", |from| &named[from..]);
        let values = parameters.split(['?', '&']).filter_map(|one| Some(one.split_once('=')?.1));
        for part in secrets.into_iter().chain(parts.filter(|_| secrets.is_some())).chain(values) {
            text = text.replace(part, "…");
        }
    }
    hidden(&text)
}
