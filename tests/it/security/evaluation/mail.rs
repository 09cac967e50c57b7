//! Parsers of mail with hostile input: addresses, headers that refer to other mails, telephone
//! numbers, senders' names, and a mail server's responses.

use sortie::channel;
use sortie::domain::message::reply::message_ids;
use sortie::kernel::{limits, validate};

use super::fuzz::each;
use super::soon;

const WORDS: &[&str] = &[
    "a",
    "Ann",
    "@",
    "@b.example",
    "a@b.example",
    ".example",
    "<",
    ">",
    "<a@b.example>",
    "\"",
    "\\",
    "(",
    ")",
    ",",
    ";",
    ":",
    " ",
    "\t",
    "\r\n",
    "\r\n ",
    "[",
    "]",
    "IPv6:",
    "::1",
    "127.0.0.1",
    "=?utf-8?B?",
    "?=",
    "xn--",
    "b\u{fc}cher",
    "\u{202e}",
    "\u{0}",
    ".",
    "..",
    "-",
    "+",
    "00",
    "+49",
    "30123456",
    "ext. 7",
    "mailto:",
    "%",
    "!",
    "|",
    "/",
    "\u{1f600}",
    "0",
];

/// Parses a text by each parser of external mail data.
fn read(text: &str) {
    for id in message_ids::of_header(text) {
        assert!(
            id.contains('@') && !id.contains(['<', '>']) && !id.contains(char::is_whitespace),
            "{id:?} of {text:?}"
        );
    }
    if let Ok(address) = validate::email("email", text) {
        // An accepted address validates to itself, is valid in an envelope, and breaks no header.
        assert_eq!(validate::email("email", &address).ok().as_deref(), Some(address.as_str()), "{text:?}");
        assert!(address.is_ascii() && !address.contains(['<', '>', '"', ' ', '\r', '\n']), "{address:?} of {text:?}");
        let mailbox = channel::mail::from(&address);
        assert!(mailbox.is_ok_and(|mailbox| mailbox.email.to_string() == address), "{address:?} of {text:?}");
    }
    if let Ok(number) = validate::phone("phone", text) {
        assert!(
            number.strip_prefix('+').is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit())),
            "{number:?}"
        );
    }
    let _ = validate::phone_in("phone", text, Some("DE"));
    let _ = channel::mail::from(text);
    let _ = channel::mail::from(&format!("{text} <a@b.example>"));
}

#[test]
fn addresses_and_headers_of_mail() {
    let long = ["<a@b.example>".repeat(limits::HEADER_BYTES / 13), "<".repeat(limits::HEADER_BYTES), "@".repeat(9_000)];
    each("mail", long.to_vec(), WORDS, read);
}

#[test]
fn answers_of_mail_servers() {
    const WORDS: &[&str] = &[
        "250",
        "251",
        "354",
        "421",
        "450",
        "550",
        "5",
        "25",
        "999",
        " ",
        "-",
        "\r\n",
        "\n",
        "\r",
        "4.7.1 ",
        "ok",
        "SIZE 1",
        "AUTH PLAIN",
        "STARTTLS",
        "8BITMIME",
        "SMTPUTF8",
        "\u{fc}",
        "\u{0}",
        "x",
    ];
    each("reply", vec!["250-a\r\n".repeat(5_000)], WORDS, |text| {
        if let Ok(answer) = text.parse::<lettre::transport::smtp::response::Response>() {
            let told: String = answer.message().collect();
            soon(text, || drop(validate::printable(&told)));
        }
    });
}

#[test]
fn domains_are_labels() {
    let longest = format!("a@{}.example", "x".repeat(63));
    for fine in
        ["a@x.example", "A.b+c@sub-1.x.example", "a@xn--bcher-kva.example", "a@1.example", "a@x.example.", &longest]
    {
        assert!(validate::email("email", fine).is_ok(), "{fine}");
    }
    assert_eq!(validate::email("email", "a@b\u{fc}cher.example").unwrap(), "a@xn--bcher-kva.example");
    let long = format!("a@{}.example", "x".repeat(64));
    for wrong in [
        "a@x.example#f",
        "a@x.ex!mple",
        "a@x.ex%mple",
        "a@1.2.3.4",
        "a@x.example?subject=hi",
        "a@x_y.example",
        "a@-x.example",
        "a@x-.example",
        "a@x..example",
        "a@.example",
        "a@",
        "a@x.7",
        "a@x.example/b",
        "a@x.exa*ple",
        &long,
    ] {
        assert!(validate::email("email", wrong).is_err(), "{wrong}");
    }
}
