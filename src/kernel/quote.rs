//! Quotes invalid values in messages: shortened, and so that they show as they are.

use crate::kernel::limits;

/// A value as quoted in a message: shortened, without control characters.
pub fn printable(value: &str) -> String {
    let mut text: String =
        value.chars().take(limits::SHOWN_CHARS).map(|c| if c.is_control() || reorders(c) { ' ' } else { c }).collect();
    if value.chars().nth(limits::SHOWN_CHARS).is_some() {
        text.push('…');
    }
    text
}

/// The first line of a text that is not blank, shortened to a summary.
pub(crate) fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let short: String = line.chars().take(limits::SUMMARY_CHARS).collect();
    if short.len() < line.len() { format!("{short}…") } else { short }
}

/// Maximum length of a message, in characters: a value with quotation marks of its own can't be told
/// from the text around it.
const LONGEST: usize = 2_000;

/// A message that quotes little of the input: words, and texts between quotation marks, are
/// shortened, and a message that is long even so is cut.
pub fn brief(message: String) -> String {
    if message.len() <= limits::QUOTED_CHARS {
        return message;
    }
    let mut text = String::with_capacity(message.len());
    for (mark, part) in quotations(&message) {
        text.extend(mark);
        if mark.is_some() && part.chars().nth(limits::QUOTED_CHARS).is_some() {
            text.push_str(&printable(part));
            continue;
        }
        for word in part.split_inclusive(char::is_whitespace) {
            if word.chars().nth(limits::QUOTED_CHARS).is_none() {
                text.push_str(word);
                continue;
            }
            text.push_str(&printable(word));
            // The space after the word.
            text.extend(word.chars().next_back().filter(|last| last.is_whitespace()));
        }
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Splits a message at quotation marks: each part with the mark that stands before it, if the part
/// ends with the same one.
fn quotations(message: &str) -> Vec<(Option<char>, &str)> {
    let (mut parts, mut rest) = (Vec::new(), message);
    while let Some(at) = rest.find(['`', '"']) {
        let (before, from) = rest.split_at(at);
        parts.push((None, before));
        let mark = if from.starts_with('`') { '`' } else { '"' };
        match from[1..].find(mark) {
            Some(end) => {
                parts.push((Some(mark), &from[1..=end]));
                // The closing mark is part of what follows, as text.
                parts.push((None, &from[end + 1..end + 2]));
                rest = &from[end + 2..];
            }
            None => {
                parts.push((None, &from[..1]));
                rest = &from[1..];
            }
        }
    }
    parts.push((None, rest));
    parts
}

/// True for characters that end a line, or show the text around them in another order than it has:
/// a name with one can look like another.
pub(crate) fn reorders(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
