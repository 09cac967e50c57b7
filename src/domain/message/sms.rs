//! The parts in which a short message is sent: its text in the GSM 7-bit alphabet, or else in UCS-2.

/// Characters of the GSM 7-bit default alphabet (3GPP TS 23.038) beside ASCII's letters and digits.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";

/// Characters of its extension table, which take two places.
const EXTENDED: &str = "\u{c}^{}\\[~]|€";

/// Places of a message in a single part, and of each part of several, where a header takes some.
const GSM: (usize, usize) = (160, 153);
const UCS2: (usize, usize) = (70, 67);

/// The number of parts of a text; 1 for an empty one. A character is never split between parts.
pub fn segments(text: &str) -> i32 {
    let gsm: Option<Vec<usize>> = text.chars().map(gsm_places).collect();
    let (places, (single, each)) = match gsm {
        Some(places) => (places, GSM),
        None => (text.chars().map(char::len_utf16).collect(), UCS2),
    };
    if places.iter().sum::<usize>() <= single {
        return 1;
    }
    let (mut parts, mut used) = (1, 0);
    for places in places {
        if used + places > each {
            (parts, used) = (parts + 1, 0);
        }
        used += places;
    }
    parts
}

/// The places that a character takes in the GSM alphabet; none if it is not in it.
fn gsm_places(c: char) -> Option<usize> {
    match c {
        _ if c.is_ascii_alphanumeric() || BASIC.contains(c) => Some(1),
        _ if EXTENDED.contains(c) => Some(2),
        _ => None,
    }
}
