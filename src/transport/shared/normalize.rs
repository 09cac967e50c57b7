//! Normalises documents, so that equal ones share an execution, and detects those whose result
//! depends on the viewer.

/// Names in a document or its variables that may make a response depend on the viewer.
pub const PERSONAL: [&str; 5] = ["availableActions", "preflight", "mine", "suggestions", "viewer"];

pub(super) fn is_personal(text: &str) -> bool {
    PERSONAL.iter().any(|name| text.contains(name))
}

/// A document without comments, commas, and spaces that separate no words.
pub(super) fn normal(text: &str) -> String {
    let (mut out, mut rest, mut separated) = (String::with_capacity(text.len()), text, false);
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => {
                let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
                (separated, rest) = (true, &rest[end..]);
            }
            ' ' | '\t' | '\n' | '\r' | ',' | '\u{feff}' => (separated, rest) = (true, &rest[first.len_utf8()..]),
            _ => {
                let length = match first {
                    '"' => crate::graphql::document::text::string_length(rest),
                    _ => first.len_utf8(),
                };
                let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | '-' | '.');
                if separated && is_word(first) && out.ends_with(is_word) {
                    out.push(' ');
                }
                out.push_str(&rest[..length]);
                (separated, rest) = (false, &rest[length..]);
            }
        }
    }
    out
}
