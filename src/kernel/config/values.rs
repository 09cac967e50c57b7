//! Parses values of settings that are neither numbers nor plain texts.

use clap::ValueEnum;

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable lines.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Parses the duration until something expires.
pub(super) fn lasts(given: &str) -> std::result::Result<std::time::Duration, String> {
    humantime::parse_duration(given).map_err(|err| format!("{err}; write it like 90d, 12h or 30min"))
}

/// Parses a region of telephone numbers.
pub(super) fn region(given: &str) -> std::result::Result<String, String> {
    crate::kernel::validate::region("region", given).map_err(|err| err.to_string())
}
