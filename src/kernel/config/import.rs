//! The options of `sortie import`.

use std::path::PathBuf;

use clap::Args;

use super::{Config, Org};

/// What is said at the end of `sortie import --help`.
pub(super) const COLUMNS: &str = "\
Columns (case, blanks, dashes and underscores do not count):
  external_id        the id by which a record is known again: also `id` or `Record ID`; without one the address is it
  name               also `Full Name`; without it a new record is called by first and last name, address or id
  email              also `E-mail`, `Mail`, `E-Mail Address`, `E-Mail-Adresse`, `Courriel`
  phone              also `Phone Number`, `Telephone`, `Telefon`; `Mobile` or `Handy` where there is no other
  time_zone          also `Timezone`, `TZ`: Europe/Berlin
  stage
  last_contacted_at  2026-10-30T14:39:18Z, 2026-10-30 or 30.10.2026 (see --dates); never set back
  unsubscribed       true or false, yes or no; also `Opt out`, `Do not contact`, `Abgemeldet`, `Keine Werbung`,
                     `Désabonné`. It only ever unsubscribes, and what is neither yes nor no, nor a time, counts as yes
  unsubscribed_at    a time
  anything else      an attribute of that name

A column that is not in the file changes nothing; a blank cell clears. A value that can't be used is left out and
reported, the rest of the row goes in, and a known record keeps the value that it has. Only a row without an external
id, with an external id that came before, or with too few or too many cells is left out.

Delimiter (, ; tab |) and encoding (UTF-8, or UTF-16 with a byte order mark) are detected. The types of attributes are
told by the first 1,000 rows: number, boolean, date, else text; never number for what has leading zeros or a +.
A column of numbers like `1.200` or `1,200` is text, and a warning, unless other numbers of the column or of the file show
which separator begins the decimals, or --decimal says so.

Exit codes: 0 every row and field went in; 3 rows or fields were left out, or the file was not read to its end;
1 nothing could be done; 2 wrong options.";

/// A file to import, and how it is read.
#[derive(Args, Clone, Debug)]
pub struct Import {
    /// The file, a CSV.
    pub file: PathBuf,
    /// What its records are: lead, contact, partnership, order, ticket …
    #[arg(long)]
    pub kind: String,
    /// What a column is: `Mail=email`, `Firma=company` (an attribute), `Notes=` (not read). May be repeated.
    #[arg(long, value_name = "COLUMN=FIELD")]
    pub map: Vec<String>,
    /// Types of attributes: `employees=number,active=boolean,since=date,zip=text`; the others are found by their values.
    #[arg(long, value_name = "COLUMN=TYPE,…")]
    pub types: Vec<String>,
    /// The delimiter, one character or `tab`; found by the header unless said.
    #[arg(long, allow_hyphen_values = true)]
    pub delimiter: Option<String>,
    /// The encoding, `windows-1252`; UTF-8 unless said, or what a byte order mark shows.
    #[arg(long)]
    pub encoding: Option<String>,
    /// The region of telephone numbers without a country code, `DE`; --phone-region unless said.
    #[arg(long)]
    pub region: Option<String>,
    /// The separator before the decimals, `,` or `.`: `1.234,56` is read with `,`. Found by the file's numbers unless said.
    #[arg(long)]
    pub decimal: Option<String>,
    /// The order of day, month and year in dates: DMY, MDY or YMD. Found by dots or by days above 12 unless said.
    #[arg(long)]
    pub dates: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub org: Org,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub config: Config,
}
