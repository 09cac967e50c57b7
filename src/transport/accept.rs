//! Negotiates the media type of a response from `Accept` (RFC 9110, 12.5.1). Parameters without
//! meaning here and malformed elements are ignored.

use axum::http::{HeaderMap, HeaderValue, header};

/// A media type of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `application/graphql-response+json`: the status tells if the request was executed.
    Graphql,
    /// `application/json`: 200 for every well-formed GraphQL request.
    Json,
    /// `text/event-stream`: see `sse`.
    Events,
}

/// The types with their parts, in the order of preference for clients without one.
const OFFERED: [(Type, &str, &str); 3] = [
    (Type::Json, "application", "json"),
    (Type::Graphql, "application", "graphql-response+json"),
    (Type::Events, "text", "event-stream"),
];

/// An element of the header.
#[derive(Debug)]
struct Range<'a> {
    kind: &'a str,
    sub: &'a str,
    /// The weight `q` in thousandths, 0 to 1000.
    quality: u16,
}

impl Type {
    /// The offered type that the client accepts best; `None` if it accepts none of them. A header
    /// without a single valid element counts as absent.
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        let given = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range<'_>> = given.flat_map(elements).filter_map(range).collect();
        if ranges.is_empty() {
            return Some(Self::Json);
        }
        let offers = OFFERED.iter().enumerate().filter_map(|(order, (offered, kind, sub))| {
            let matching = ranges.iter().enumerate().filter_map(|(place, range)| {
                Some((range.specificity(kind, sub)?, std::cmp::Reverse(place), range.quality))
            });
            // The most specific element decides; among equals, the first.
            let (specificity, place, quality) = matching.max()?;
            (quality > 0).then_some((quality, specificity, place, std::cmp::Reverse(order), *offered))
        });
        offers
            .max_by_key(|(quality, specificity, place, order, _)| (*quality, *specificity, *place, *order))
            .map(|(.., offered)| offered)
    }

    /// The value of `Content-Type`.
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Graphql => "application/graphql-response+json; charset=utf-8",
            Self::Events => "text/event-stream; charset=utf-8",
        })
    }
}

impl Range<'_> {
    fn specificity(&self, kind: &str, sub: &str) -> Option<u8> {
        match (self.kind, self.sub) {
            ("*", "*") => Some(0),
            (of, "*") if of.eq_ignore_ascii_case(kind) => Some(1),
            (of, below) if of.eq_ignore_ascii_case(kind) && below.eq_ignore_ascii_case(sub) => Some(2),
            _ => None,
        }
    }
}

/// The elements of a header, separated by commas outside of quotes.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    parts(text, ',')
}

fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        let inside = quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == separator && !inside
    })
    .map(str::trim)
}

/// Parses an element; `None` if it is malformed. Parameters other than `q` are ignored.
fn range(element: &str) -> Option<Range<'_>> {
    let mut parts = parts(element, ';');
    let media = parts.next().filter(|media| !media.is_empty())?;
    // Some clients write `*` for `*/*`.
    let (kind, sub) = if media == "*" { ("*", "*") } else { media.split_once('/')? };
    let mut quality = 1000;
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        if name.trim().eq_ignore_ascii_case("q") {
            let value: f32 = value.trim().parse().ok().filter(|value| (0.0..=1.0).contains(value))?;
            quality = (value * 1000.0).round() as u16;
        }
    }
    let token = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '/');
    (token(kind) && token(sub)).then_some(Range { kind, sub, quality })
}
