//! The keys of an org: create, list, revoke.

use async_graphql::connection::CursorType;
use entity::member::Role;
use serde_json::json;

use super::open;
use crate::app::cli;
use crate::domain::people::{admin_access, api_key};
use crate::kernel::config::KeyCommand;
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Error, Result};

/// The remedy if no admin has a valid key.
pub(super) const NEXT_KEY: &str =
    "Make an admin's key with the server stopped: `sortie key create --name admin --role ADMIN`";

/// Runs a command on keys.
pub(super) async fn run(command: KeyCommand) -> Result<()> {
    match command {
        KeyCommand::Create { name, role, member, agent, expires, org, config } => {
            let (db, viewer) = open::of_org(&config, &org).await?;
            let all = Role::all();
            let role = all.into_iter().find(|one| one.to_string() == role.to_uppercase());
            let role =
                role.ok_or_else(|| Error::internal("role: one of VIEWER, OPERATOR, REVIEWER, MANAGER, ADMIN, WORKER"))?;
            let member_id = match member {
                Some(email) => Some(crate::domain::people::member::by_email(&db, &viewer, &email).await?.id),
                None => None,
            };
            let expires_at = expires.map(|lasts| cli::expiry(db.now(), lasts)).transpose()?;
            let agent_id = match agent {
                Some(name) => Some(crate::domain::plan::agent::by_name(db.read(), &viewer, &name).await?.id),
                None => None,
            };
            let fields = api_key::Fields { name, role, member_id, agent_id, expires_at };
            let input = json!({ "name": fields.name, "role": role, "memberId": member_id, "agentId": agent_id });
            let make = async |db: WriteContext| api_key::create(&db, &viewer, &fields).await;
            let (row, key) = cli::audited(&db, &viewer, "createApiKey", &input, make).await?;
            eprintln!("{} with the role {}. It is shown this once:", row.id, row.role);
            println!("{key}");
            eprintln!(
                "Send it as `Authorization: Bearer …`. In GraphiQL, put it into the Headers of each tab as JSON:"
            );
            eprintln!("{{\"Authorization\": \"Bearer sortie_…\"}}");
            db.close().await;
        }
        KeyCommand::List { org, config } => {
            let (db, viewer) = open::read_only(&config, &org).await?;
            let mut args = crate::kernel::page::Args { first: Some(500), ..Default::default() };
            loop {
                let page = api_key::page(db.read(), &viewer, &args).await?;
                for (cursor, key) in page.rows {
                    let state = match (key.revoked_at, key.expires_at) {
                        (Some(at), _) => format!("revoked {}", at.format("%F %R")),
                        (None, Some(at)) if at <= db.now() => format!("expired {}", at.format("%F %R")),
                        (None, Some(at)) => format!("expires {}", at.format("%F %R")),
                        (None, None) => "does not expire".into(),
                    };
                    let used = key.last_used_at.map_or("never".into(), |at| at.format("%F %R").to_string());
                    println!("{}  {:8}  {state}, last used {used}: {}", key.id, key.role.to_string(), key.name);
                    args.after = Some(cursor.encode_cursor());
                }
                if !page.has_next {
                    break;
                }
            }
            db.close().await;
        }
        KeyCommand::Revoke { id, org, config } => {
            let (db, viewer) = open::of_org(&config, &org).await?;
            let id = id.parse().map_err(Error::internal)?;
            let revoke = async |db: WriteContext| api_key::revoke(&db, &viewer, id, true).await;
            let row = cli::audited(&db, &viewer, "revokeApiKey", &json!({ "id": id }), revoke).await?;
            println!("{} is revoked.", row.id);
            if !admin_access::admin_can_authenticate(db.read(), viewer.org_id, db.now(), db.has_tokens()).await? {
                eprintln!("No admin has a valid key any more. {NEXT_KEY}");
            }
            db.close().await;
        }
    }
    Ok(())
}
