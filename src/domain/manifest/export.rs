//! Exports an org's definitions as a manifest.

use std::collections::HashMap;

use entity::{AgentKind, TemplateKind, agent, goal, message_template, reviewer, run_template, segment, writer};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{EntityTrait, Order, QueryFilter, QueryOrder};
use serde_json::{Map, Value, json};

use crate::domain::audience::record::filter::RecordFilter;
use crate::domain::content::yaml;
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;

/// Exports everything of the org that a manifest can declare, except fixed lists of records.
/// Applying the result changes nothing.
pub async fn export(db: &Db, viewer: &Viewer) -> Result<String> {
    let mut root = Map::new();
    let mut put = |section: &str, items: Vec<Value>| {
        if !items.is_empty() {
            root.insert(section.to_owned(), items.into_iter().map(without_empty_fields).collect());
        }
    };
    let goals = all::<goal::Entity>(db, viewer).await?;
    let each = |row: goal::Model| json!({ "name": row.name, "description": row.description });
    put("goals", with_nth(goals.into_iter().map(each)));
    let each = |row: writer::Model| json!({ "name": row.name, "kind": row.kind, "instructions": row.instructions, "body": row.body });
    put("writers", with_nth(all::<writer::Entity>(db, viewer).await?.into_iter().map(each)));
    let reviewers = all::<reviewer::Entity>(db, viewer).await?;
    let ids: Vec<_> = reviewers.iter().map(|row| row.member_id).collect();
    let members = crate::domain::people::member::find_all(db.read(), viewer, &ids).await?;
    // The built-in developer does not exist in other installations. Without a member, the reviewer
    // is the person who applies the manifest.
    let elsewhere = |email: &String| email != crate::kernel::viewer::DEVELOPER_EMAIL;
    let email = |row: &reviewer::Model| {
        let member = members.iter().find(|one| one.id == row.member_id);
        member.map(|one| one.email.clone()).filter(elsewhere)
    };
    let each = |row: &reviewer::Model| json!({ "name": row.name, "member": email(row), "policy": row.policy });
    put("reviewers", with_nth(reviewers.iter().map(each)));
    let each = |row: message_template::Model| json!({ "name": row.name, "channel": row.channel, "subject": row.subject, "body": row.body });
    put("messageTemplates", with_nth(all::<message_template::Entity>(db, viewer).await?.into_iter().map(each)));
    let mut rows = all::<segment::Entity>(db, viewer).await?;
    for filter in rows.iter_mut().filter_map(|row| row.filter.as_mut()) {
        let stored: RecordFilter = serde_json::from_value(std::mem::take(filter))?;
        *filter = serde_json::to_value(stored.explicit())?;
    }
    let each = |row: segment::Model| json!({ "name": row.name, "filter": row.filter });
    // Fixed lists are not counted, neither here nor when a manifest is applied.
    put("segments", with_nth(rows.into_iter().filter(|row| row.filter.is_some()).map(each)));
    let (functions, agents): (Vec<agent::Model>, Vec<agent::Model>) =
        all::<agent::Entity>(db, viewer).await?.into_iter().partition(|row| row.kind == AgentKind::Function);
    put("agents", agents.into_iter().map(worker).collect());
    put("functions", functions.into_iter().map(worker).collect());
    let mut templates = all::<run_template::Entity>(db, viewer).await?;
    templates.retain(|row| !row.built_in);
    let bases: Vec<_> = templates.iter().filter_map(|row| row.base_id).collect();
    let bases = crate::domain::plan::run_template::find_all(db.read(), viewer, &bases).await?;
    // A base comes before the templates that override it.
    templates.sort_by_key(|row| (row.base_id.is_some(), row.id));
    let each = templates.into_iter().map(|row| {
        let base = bases.iter().find(|base| Some(base.id) == row.base_id).map(|base| base.key.clone());
        let mut all = json!({ "key": row.key, "name": row.name, "description": row.description, "base": base });
        if row.kind == TemplateKind::Guided && row.base_id.is_none() {
            all["kind"] = json!(row.kind);
        }
        if let Some(definition) = &row.definition {
            all["phases"] = serde_json::to_value(&definition.phases).unwrap_or_default();
        }
        if !row.overrides.0.is_empty() {
            all["overrides"] = serde_json::to_value(&row.overrides).unwrap_or_default();
        }
        all
    });
    put("runTemplates", each.collect());
    yaml::write(&Value::Object(root)).map_err(Error::internal)
}

/// The rows of a table, by age.
async fn all<E: EntityTrait>(db: &Db, viewer: &Viewer) -> Result<Vec<E::Model>> {
    let column = |name| Expr::col((E::default(), name));
    let select = E::find().filter(column("org_id").eq(viewer.org_id)).order_by(column("id"), Order::Asc);
    Ok(select.all(db.read()).await?)
}

/// Adds `nth`, by age, to rows that share a name.
fn with_nth(rows: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut rows: Vec<Value> = rows.collect();
    let mut of_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        of_name.entry(row["name"].as_str().unwrap_or_default().to_owned()).or_default().push(at);
    }
    for places in of_name.into_values().filter(|places| places.len() > 1) {
        for (nth, at) in places.into_iter().enumerate() {
            rows[at]["nth"] = json!(nth + 1);
        }
    }
    rows
}

fn worker(row: agent::Model) -> Value {
    let mut all = json!({
        "name": row.name, "description": row.description, "filter": row.filter, "context": row.context,
        "outputSchema": row.output_schema, "instructions": row.instructions,
    });
    if row.kind == AgentKind::BuiltIn {
        all["kind"] = json!(row.kind);
    }
    all
}

/// Removes fields that are null or empty.
fn without_empty_fields(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let has_content = |value: &Value| !value.is_null() && value.as_str() != Some("");
    fields.into_iter().filter(|(_, value)| has_content(value)).collect::<Map<_, _>>().into()
}
