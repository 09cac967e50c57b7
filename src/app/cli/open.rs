//! Opens the database that a command works on.

use std::sync::Arc;

use crate::kernel::clock::Clock;
use crate::kernel::config::{Config, Org};
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Opens a database, and creates and migrates it if needed.
pub(super) async fn migrated(config: &Config) -> Result<(Arc<Db>, Viewer)> {
    ready(config, Db::connect(&config.database(), Clock::real()).await?).await
}

/// Opens an existing database: these commands create none.
pub(super) async fn existing(config: &Config) -> Result<(Arc<Db>, Viewer)> {
    config.must_exist()?;
    let db = Db::connect(&config.database(), Clock::real()).await?;
    db.must_have_schema().await?;
    ready(config, db).await
}

async fn ready(config: &Config, db: Db) -> Result<(Arc<Db>, Viewer)> {
    let db = Arc::new(db);
    db.migrate().await?;
    db.set_has_tokens(config.jwt_issuer.is_some());
    let viewer = Viewer::developer(&db).await?;
    crate::domain::plan::run_template::sync_built_in(&db.write()).await?;
    crate::domain::plan::campaign::approval::store_missing_approvals(&db.write()).await?;
    Ok((db, viewer))
}

/// Opens an existing database, as the admin of an org.
pub(super) async fn of_org(config: &Config, org: &Org) -> Result<(Arc<Db>, Viewer)> {
    let (db, _) = existing(config).await?;
    let viewer = crate::domain::people::org::admin(&db, org.org.as_deref()).await?;
    Ok((db, viewer))
}

/// Opens an existing database read-only, possibly beside a server.
pub(super) async fn read_only(config: &Config, org: &Org) -> Result<(Arc<Db>, Viewer)> {
    let db = Arc::new(Db::connect_read_only(&config.database(), Clock::real()).await?);
    db.must_match_schema().await?;
    let viewer = crate::domain::people::org::admin(&db, org.org.as_deref()).await?;
    Ok((db, viewer))
}
