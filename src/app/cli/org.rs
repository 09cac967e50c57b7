//! The orgs of a database: create, list.

use super::open;
use crate::kernel::clock::Clock;
use crate::kernel::config::OrgCommand;
use crate::kernel::db::Db;
use crate::kernel::error::Result;

/// Runs a command on orgs.
pub(super) async fn run(command: OrgCommand) -> Result<()> {
    match command {
        OrgCommand::Create { name, admin, email, config } => {
            let (db, _) = open::existing(&config).await?;
            let (org, _) = crate::domain::people::org::create(&db.write(), &name, &admin, &email).await?;
            println!("{}", org.id);
            db.close().await;
        }
        OrgCommand::List { config } => {
            let db = Db::connect_read_only(&config.database(), Clock::real()).await?;
            db.must_match_schema().await?;
            for org in crate::domain::people::org::all(&db).await? {
                println!("{}  {}", org.id, org.name);
            }
            db.close().await;
        }
    }
    Ok(())
}
