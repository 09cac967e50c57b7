//! The normal form of a document, by which like ones are found; and those that are about whoever asks.

/// Names in a document or its variables by which an answer may be about the one who asks.
pub const PERSONAL: [&str; 4] = ["availableActions", "preflight", "mine", "viewer"];

pub(super) fn is_personal(text: &str) -> bool {
    PERSONAL.iter().any(|name| text.contains(name))
}

/// A document without what means nothing: comments, commas, and spaces that part no words.
pub(super) fn normal(text: &str) -> String {
    let (mut out, mut rest, mut apart) = (String::with_capacity(text.len()), text, false);
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => {
                let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
                (apart, rest) = (true, &rest[end..]);
            }
            ' ' | '\t' | '\n' | '\r' | ',' | '\u{feff}' => (apart, rest) = (true, &rest[first.len_utf8()..]),
            _ => {
                let length = match first {
                    '"' => crate::graphql::document::text::string(rest),
                    _ => first.len_utf8(),
                };
                let word = |of: char| of.is_alphanumeric() || matches!(of, '_' | '"' | '-' | '.');
                if apart && word(first) && out.ends_with(word) {
                    out.push(' ');
                }
                out.push_str(&rest[..length]);
                (apart, rest) = (false, &rest[length..]);
            }
        }
    }
    out
}
