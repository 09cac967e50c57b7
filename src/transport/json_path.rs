//! The path of a position in a JSON text, for errors of the parser.

use crate::kernel::validate;

/// A value that is open at the position.
enum Open {
    Object(String),
    Array(usize),
}

/// The path of the value at a line and column, as the parser counts them: `input.lines[3].price`.
/// The text is JSON up to there.
pub(super) fn of(text: &[u8], line: usize, column: usize) -> String {
    let begin: usize = text.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let before = &text[..text.len().min(begin.saturating_add(column))];
    let (mut open, mut word): (Vec<Open>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut bytes = before.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                word.clear();
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    word.push(byte);
                    if byte == b'\\' {
                        word.extend(bytes.next());
                    }
                }
            }
            b':' | b',' => match open.last_mut() {
                Some(Open::Object(key)) if byte == b':' => *key = validate::printable(&String::from_utf8_lossy(&word)),
                Some(Open::Array(index)) => *index += 1,
                _ => {}
            },
            b'{' => open.push(Open::Object(String::new())),
            b'[' => open.push(Open::Array(0)),
            b'}' | b']' => drop(open.pop()),
            _ => {}
        }
    }
    let mut path = String::new();
    for part in open {
        match part {
            Open::Object(key) if path.is_empty() => path = key,
            Open::Object(key) => path = format!("{path}.{key}"),
            Open::Array(index) => path = format!("{path}[{index}]"),
        }
    }
    path.chars().take(crate::kernel::limits::ERROR_MESSAGE_CHARS).collect()
}
