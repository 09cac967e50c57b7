//! Reads mail addresses and telephone numbers from cells, and the opt-outs of rows that are not
//! imported: such an opt-out counts for every address that can be read in its row.

use entity::Channel;

use super::columns::{Column, Field, Target};
use super::lines::Line;
use super::types;
use crate::kernel::error::Error;
use crate::kernel::validate;

/// An address, and the way of sending that it is for.
pub(super) type Contact = (Channel, String);

/// Maximum number of addresses that a problem names.
const SHOWN: usize = 5;

/// The error's message without the leading field name.
pub(super) fn plain(err: Error) -> String {
    let message = err.to_string();
    message.split_once(": ").map_or_else(|| message.clone(), |(_, why)| why.to_owned())
}

/// Parses an address in address-book notation: `Anna <anna@example.com>`,
/// `mailto:anna@example.com?subject=Hello`.
pub(super) fn email(cell: &str) -> Result<String, String> {
    const SCHEME: &str = "mailto:";
    let text = cell.trim();
    let inner = match (text.rfind('<'), text.ends_with('>')) {
        (Some(at), true) => {
            let (name, inner) = (text[..at].trim().trim_matches(['"', '\'']), &text[at + 1..text.len() - 1]);
            // Another address in the place of the name: the cell has several.
            if name.contains('@') && !name.eq_ignore_ascii_case(inner) { text } else { inner }
        }
        _ => text,
    };
    let address = match inner.split_at_checked(SCHEME.len()) {
        // The parameters of a link are no part of the address.
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest.split('?').next().unwrap_or_default(),
        _ => inner,
    };
    validate::email("email", address).map_err(plain)
}

/// Returns the positions at which a column's cell may be. A row with too few or too many cells is
/// counted from both its ends, because nobody knows where the difference is; if its end is not known,
/// only from its begin.
fn positions(at: usize, columns: &[Column], line: &Line) -> impl Iterator<Item = usize> {
    let from_end = (at + line.len()).checked_sub(columns.len());
    [Some(at), from_end.filter(|from_end| *from_end != at && !line.is_cut)].into_iter().flatten()
}

/// Returns the cells of these fields.
fn cells<'a>(columns: &'a [Column], line: &'a Line, fields: [Field; 2]) -> Vec<(&'a Column, Field, &'a str)> {
    let cells: Vec<&[u8]> = line.cells().collect();
    let mut found = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let Target::Field(field) = column.target else { continue };
        for at in positions(at, columns, line).filter(|_| fields.contains(&field)) {
            let text = cells.get(at).and_then(|cell| std::str::from_utf8(cell).ok());
            found.extend(text.map(|text| (column, field, text)));
        }
    }
    found
}

/// Returns every address and number that can be read in a row, also from a cell with several.
pub(super) fn of_row(columns: &[Column], line: &Line, region: Option<&str>) -> Vec<Contact> {
    let mut found: Vec<Contact> = Vec::new();
    for (_, field, text) in cells(columns, line, [Field::Email, Field::Phone]) {
        if field == Field::Phone {
            let number = validate::phone_in("phone", text, region).ok().map(|(number, _)| number);
            let channels = [Channel::Phone, Channel::Sms];
            found.extend(number.into_iter().flat_map(|number| channels.map(|channel| (channel, number.clone()))));
            continue;
        }
        match email(text) {
            Ok(address) => found.push((Channel::Email, address)),
            Err(_) => {
                let parts = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '/' | '|'));
                found.extend(parts.filter_map(|part| Some((Channel::Email, email(part).ok()?))));
            }
        }
    }
    found
}

/// Fields with opt-outs.
const OPT_OUTS: [Field; 2] = [Field::Unsubscribed, Field::UnsubscribedAt];

/// True if a row that is skipped says that its person opted out. With too few or too many cells only
/// a clear value counts; else one that is neither yes nor no counts, too, as in other rows.
pub(super) fn opts_out(columns: &[Column], line: &Line) -> bool {
    let is_clear = |(column, field, text): (&Column, Field, &str)| {
        types::time(text, column.typed.order).is_some()
            || field == Field::Unsubscribed && types::yes_or_no(text) == Some(true)
    };
    let is_complete = line.len() == columns.len() && !line.is_cut;
    cells(columns, line, OPT_OUTS).into_iter().any(is_clear) || (is_complete && has_doubtful_opt_out(columns, line))
}

fn has_doubtful_opt_out(columns: &[Column], line: &Line) -> bool {
    columns.iter().zip(line.cells()).enumerate().any(|(at, (column, cell))| {
        let Target::Field(field) = column.target else { return false };
        let is_no = match std::str::from_utf8(cell) {
            Ok(text) if text.chars().all(|c| c.is_whitespace() || c.is_control()) => true,
            Ok(text) => field == Field::Unsubscribed && types::yes_or_no(text) == Some(false),
            Err(_) => false,
        };
        OPT_OUTS.contains(&field) && (line.is_dropped(at) || !is_no)
    })
}

/// True if an opt-out of a row may have been too long, or too far behind, to be kept.
pub(super) fn is_opt_out_dropped(columns: &[Column], line: &Line) -> bool {
    let is_opt_out = |column: &Column| matches!(column.target, Target::Field(field) if OPT_OUTS.contains(&field));
    (line.is_cut && columns.iter().any(is_opt_out)) || is_dropped(columns, line, OPT_OUTS)
}

/// True if a cell with addresses was too long to keep.
pub(super) fn is_address_dropped(columns: &[Column], line: &Line) -> bool {
    is_dropped(columns, line, [Field::Email, Field::Phone])
}

fn is_dropped(columns: &[Column], line: &Line, fields: [Field; 2]) -> bool {
    let mine =
        columns.iter().enumerate().filter(|(_, column)| fields.iter().any(|f| column.target == Target::Field(*f)));
    mine.map(|(at, _)| at).any(|at| positions(at, columns, line).any(|at| line.is_dropped(at)))
}

/// Says what became of the opt-out of a row, part of whose contents is not imported.
pub(super) fn outcome(contacts: &[Contact]) -> String {
    let mut shown: Vec<&str> = contacts.iter().map(|(_, address)| address.as_str()).collect();
    shown.dedup();
    match shown.as_slice() {
        [] => "its opt-out is not stored: no address can be read".to_owned(),
        [first] => format!("its opt-out counts: {first} gets no more messages"),
        several => {
            let more = several.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let shown = several.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
            format!("its opt-out counts: {shown}{more} get no more messages")
        }
    }
}
