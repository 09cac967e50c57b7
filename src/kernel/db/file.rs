//! The SQLite file: its options, the lock that admits one process, and errors about its folder.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use sea_orm::{ConnectOptions, sqlx::Connection as _};

use crate::kernel::error::{Error, Result};

pub(super) fn sqlite(url: &str, connections: u32, read_only: bool) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).sqlx_logging(false).map_sqlx_sqlite_opts(move |options| {
        options
            .create_if_missing(true)
            .pragma("journal_mode", "WAL")
            .pragma("synchronous", "FULL")
            .pragma("foreign_keys", "ON")
            .pragma("busy_timeout", "10000")
            .pragma("query_only", if read_only { "ON" } else { "OFF" })
    });
    // SQLite may roll a transaction back by itself on a full disk; the ROLLBACK that follows fails,
    // and sqlx believes forever after to be inside a transaction: later writes succeed and are
    // never committed (sqlx 0.9.0; observed). A connection that comes back like that is closed.
    options.map_sqlx_sqlite_pool_opts(|options| {
        options.after_release(|connection, _| {
            Box::pin(async move {
                // Waits for the rollback of a dropped transaction.
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
    });
    // A file connection can't be lost, so there is nothing to test.
    options.test_before_acquire(false);
    options
}

/// The error that another process has the database file open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileInUse(String);

impl std::fmt::Display for FileInUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "another process is using {}, most likely a server", self.0)
    }
}

impl std::error::Error for FileInUse {}

/// True if another process has the database file open.
pub fn is_in_use(err: &Error) -> bool {
    matches!(err, Error::Internal(fault) if fault.0.is::<FileInUse>())
}

/// The message that there is no database, with the remedy.
pub(crate) fn missing(path: &Path) -> String {
    let folder = path.parent().unwrap_or(Path::new(".")).display();
    let (shown, named) = (path.display(), path.file_name().is_some_and(|name| name == "sortie.db"));
    match named {
        true => format!(
            "there is no database at {shown}: name its folder with --data, or make one there with `sortie migrate --data \
             {folder}`"
        ),
        false => format!(
            "there is no database at {shown}: correct --database-url (DATABASE_URL), or make one there with `sortie \
             migrate --database-url sqlite://{shown}`"
        ),
    }
}

/// Checks that a database's file exists, can be read and is not empty: SQLite would create it.
pub(super) fn check_readable(path: &Path) -> Result<()> {
    let shown = path.display();
    let unreadable = |err: std::io::Error| Error::internal(format!("the database {shown} can't be read: {err}"));
    match std::fs::metadata(path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Err(Error::internal(missing(path))),
        Err(err) => Err(unreadable(err)),
        Ok(found) if found.is_dir() => Err(is_folder(path)),
        Ok(found) if found.len() == 0 => Err(Error::internal(format!(
            "{shown} is empty: `sortie migrate`, `sortie serve` or `sortie demo` makes the schema in it"
        ))),
        Ok(_) => std::fs::File::open(path).map(drop).map_err(unreadable),
    }
}

fn is_folder(path: &Path) -> Error {
    Error::internal(format!("{} is a folder, where the database's file should be", path.display()))
}

/// Creates the file's folder and locks the file against other processes.
pub(super) fn lock(path: &Path) -> Result<std::fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unusable = |err: std::io::Error| {
        let reason = match folder {
            folder if folder.is_file() => "it is a file, not a folder".to_owned(),
            _ => err.to_string(),
        };
        let problem = format!("the folder {} can't be used for the database: {reason}", folder.display());
        Error::internal(format!("{problem}. Name one that can be written to, with --data"))
    };
    private_folder(folder).map_err(unusable)?;
    if path.is_dir() {
        return Err(is_folder(path));
    }
    let file = private_file(&path.with_extension("lock")).map_err(unusable)?;
    // An empty file is an empty database; SQLite gives its log the same mode.
    drop(private_file(path).map_err(unusable)?);
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::internal(FileInUse(path.display().to_string()))),
        Err(std::fs::TryLockError::Error(err)) => Err(err.into()),
    }
}

/// Opens a file for writing, created for its owner only; the mode of an existing file is left as
/// the operator set it.
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Creates a folder and its parents for their owner only.
pub(crate) fn private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
