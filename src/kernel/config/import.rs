//! The options of `sortie import`.

use std::path::PathBuf;

use clap::Args;

use super::{Config, Org};

/// Text at the end of `sortie import --help`.
pub(super) const COLUMNS: &str = "\
Columns (case, blanks, dashes and underscores do not count):
  external_id        the id by which a record is recognized: also `id` or `Record ID`; without one the address is used
  name               also `Full Name`; without it a new record is named by first and last name, address or id
  email              also `E-mail`, `Mail`, `E-Mail Address`, `E-Mail-Adresse`, `Courriel`
  phone              also `Phone Number`, `Telephone`, `Telefon`; `Mobile` or `Handy` where there is no other
  time_zone          also `Timezone`, `TZ`: Europe/Berlin
  stage
  last_contacted_at  2026-10-30T14:39:18Z, 2026-10-30 or 30.10.2026 (see --dates); never set back
  unsubscribed       true or false, yes or no; also `Opt out`, `Do not contact`, `Abgemeldet`, `Keine Werbung`,
                     `Désabonné`. It only ever unsubscribes, and what is neither yes nor no, nor a time, counts as yes
  unsubscribed_at    a time
  anything else      an attribute of that name

A column that is not in the file changes nothing; a blank cell clears. An invalid value is skipped and reported,
the rest of the row is imported, and an existing record keeps its value. Only a row without an external id, with an
external id that came before, or with too few or too many cells is skipped.

Delimiter (, ; tab |) and encoding (UTF-8, or UTF-16 with a byte order mark) are detected. The types of attributes are
inferred from the first 1,000 rows: number, boolean, date, else text; never number if there are leading zeros or a +.
A column of numbers like `1.200` or `1,200` is text, and a warning, unless other numbers of the column or of the file show
which separator begins the decimals, or --decimal says so.

Exit codes: 0 every row and field was imported; 3 rows or fields were skipped, or the file was not read to its end;
1 nothing was imported; 2 invalid options.";

/// A file to import, and its format.
#[derive(Args, Clone, Debug)]
pub struct Import {
    /// The file, a CSV.
    pub file: PathBuf,
    /// Kind of the records: lead, contact, partnership, order, ticket …
    #[arg(long)]
    pub kind: String,
    /// Field of a column: `Mail=email`, `Firma=company` (an attribute), `Notes=` (skipped). May be
    /// repeated.
    #[arg(long, value_name = "COLUMN=FIELD")]
    pub map: Vec<String>,
    /// Types of attributes: `employees=number,active=boolean,since=date,zip=text`; others are
    /// inferred from their values.
    #[arg(long, value_name = "COLUMN=TYPE,…")]
    pub types: Vec<String>,
    /// The delimiter, one character or `tab`; by default detected from the header.
    #[arg(long, allow_hyphen_values = true)]
    pub delimiter: Option<String>,
    /// The encoding, `windows-1252`; by default UTF-8, or that of a byte order mark.
    #[arg(long)]
    pub encoding: Option<String>,
    /// The region of telephone numbers without a country code, `DE`; by default --phone-region.
    #[arg(long)]
    pub region: Option<String>,
    /// The decimal separator, `,` or `.`: `1.234,56` is read with `,`. By default detected from the
    /// file's numbers.
    #[arg(long)]
    pub decimal: Option<String>,
    /// The order of day, month and year in dates: DMY, MDY or YMD. By default detected from
    /// days above 12. With dots, the day is first.
    #[arg(long)]
    pub dates: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its help is that of the flattened fields")]
    pub org: Org,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its help is that of the flattened fields")]
    pub config: Config,
}
