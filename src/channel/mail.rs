//! Composes mail from a message: headers, text, and a Message-ID that never changes.

use entity::communication::Model;
use lettre::message::header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};

use crate::kernel::error::{Error, Result};

/// Parses the sender of all mail, `Name <address>`.
pub fn from(text: &str) -> Result<Mailbox> {
    text.parse().map_err(|err| {
        Error::internal(format!("--mail-from (SORTIE_MAIL_FROM): the sender `{text}` is not a valid address: {err}; write it like `Name <name@example.com>`"))
    })
}

/// Composes a message. The error says what is wrong with it.
pub fn compose(from: &Mailbox, message: &Model) -> std::result::Result<Message, String> {
    let address = message.to_address.parse().map_err(|err| format!("`{}`: {err}", message.to_address))?;
    // A line break would panic in lettre, and could smuggle headers elsewhere.
    let one_line = |text: &str| -> String { text.chars().map(|c| if ends_line(c) { ' ' } else { c }).collect() };
    let name = literal(&one_line(&message.to_name));
    let mark = if message.test { "[TEST] " } else { "" };
    let subject = format!("{mark}{}", literal(&one_line(message.subject.as_deref().unwrap_or("(no subject)"))));
    let mut builder = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(Some(name.trim().to_owned()).filter(|name| !name.is_empty()), address))
        .subject(subject)
        .message_id(Some(format!("<{}>", message.message_id)))
        .date(message.reserved_at.unwrap_or(message.created_at).into());
    if message.test {
        builder = builder.raw_header(header("X-Sortie-Test", "true"));
    }
    let builder = builder.raw_header(header("X-Sortie-Run", &message.run_id.to_string()));
    let composed = match &message.calendar {
        // lettre omits MIME-Version for a single part, and without it the body's encoding has no
        // meaning (RFC 2045, 4).
        None => builder.header(MIME_VERSION_1_0).header(ContentType::TEXT_PLAIN).body(message.body.clone()),
        Some(calendar) => builder.multipart(with_calendar(&message.body, calendar)?),
    };
    composed.map_err(|err| err.to_string())
}

/// True for control characters, and for the separators that some readers treat as line breaks.
fn ends_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A header's text that mail readers show literally. Something that looks like an encoded word (RFC
/// 2047, 2), `=?utf-8?q?…?=`, would be decoded by them into whatever its writer wanted shown;
/// separated by a zero-width space it is not.
fn literal(text: &str) -> String {
    text.replace("=?", "=\u{200B}?")
}

/// The text with a calendar part as its alternative (RFC 6047, 4).
fn with_calendar(body: &str, calendar: &str) -> std::result::Result<MultiPart, String> {
    let method = if calendar.contains("METHOD:CANCEL") { "CANCEL" } else { "REQUEST" };
    let kind = ContentType::parse(&format!("text/calendar; charset=utf-8; method={method}"));
    let kind = kind.map_err(|err| err.to_string())?;
    let part = SinglePart::builder().header(kind).body(calendar.to_owned());
    Ok(MultiPart::alternative().singlepart(SinglePart::plain(body.to_owned())).singlepart(part))
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}
