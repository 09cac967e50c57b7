//! The migrated databases that each test's own is copied from. A migration takes longer than most tests.

use std::path::PathBuf;

use sortie::kernel::clock::Clock;
use sortie::kernel::db::Db;
use tokio::sync::OnceCell;

use super::{Kind, noon, place, postgres};

/// A file, or the name of a database.
static SQLITE: OnceCell<PathBuf> = OnceCell::const_new();
static POSTGRES: OnceCell<String> = OnceCell::const_new();

/// A new folder, and the URL of a fresh, migrated database.
pub async fn migrated(kind: Kind) -> (PathBuf, String) {
    let name = format!("sortie_test_{}", uuid::Uuid::now_v7().simple());
    let folder = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&folder).unwrap();
    let url = match kind {
        Kind::Sqlite => {
            let template = SQLITE.get_or_init(|| async { template(kind).await.0.join("sortie.db") }).await;
            let file = folder.join("sortie.db");
            std::fs::copy(template, &file).unwrap();
            format!("sqlite://{}", file.display())
        }
        Kind::Postgres => {
            let template = POSTGRES.get_or_init(|| async { template(kind).await.1 }).await;
            postgres::copy(template.rsplit('/').next().unwrap(), &name).await
        }
    };
    (folder, url)
}

/// Migrates a database and leaves it without a connection.
async fn template(kind: Kind) -> (PathBuf, String) {
    let (folder, url) = place(kind).await;
    let db = Db::connect(&url, Clock::set_to(noon())).await.unwrap();
    db.migrate().await.unwrap();
    db.close().await;
    (folder, url)
}
