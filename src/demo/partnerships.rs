//! Demo data for guided work: partnerships in all stages, the season's objectives, and this week's review, begun.

use chrono::{DateTime, Duration, Utc};
use entity::id::*;
use entity::step;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::db::Db;
use crate::error::{Error, Result};
use crate::record::import;
use crate::run::guided::{self, Start};
use crate::run::step::{self as steps, Action, Said};
use crate::viewer::Viewer;

/// How many partnerships and objectives there are.
pub const OTHERS: usize = PARTNERSHIPS.len() + OBJECTIVES.len();

/// Name, contact, stage, priority, days since the last contact; below zero: never.
type Partnership = (&'static str, &'static str, &'static str, u8, i64);

const PARTNERSHIPS: [Partnership; 14] = [
    ("Harbour Trust", "Ines Moreau", "Conversation Active", 9, 20),
    ("Mill & Sons", "Tomas Novak", "MOU Sent", 8, 16),
    ("Riverside College", "Grace Okafor", "MOU Sent", 4, 3),
    ("Northern Grid", "Emil Jensen", "MOU Drafted", 7, 9),
    ("Open Orchards", "Lena Fischer", "New Lead", 5, -1),
    ("City Library", "Keiko Ito", "Active Partner", 3, 41),
    ("Cedar Clinic", "Ravi Patel", "MOU Signed", 6, 12),
    ("Tidewater Foods", "Mario Rossi", "New Lead", 2, 1),
    ("Blue Bicycle", "Dana Cohen", "Conversation Active", 6, 15),
    ("Stone Bridge Bank", "Nora Eriksen", "MOU Sent", 10, 30),
    ("Lighthouse Radio", "Yara Silva", "Conversation Active", 1, 5),
    ("Green Roofs", "Hugo Garcia", "MOU Drafted", 5, 22),
    ("Old Mint Theatre", "Petra Kowalski", "Active Partner", 2, 6),
    ("Sunfield Energy", "Omar Baker", "New Lead", 8, -1),
];

const OBJECTIVES: [(&str, &str, u8); 3] = [
    ("Ten signed MOUs this season", "At Risk", 9),
    ("Partners in two new regions", "On Track", 6),
    ("Every partner spoken to each month", "Planned", 4),
];

/// Imports them, begins the Weekly Pipeline Review and starts its first step.
pub(super) async fn seed(db: &Db, viewer: &Viewer) -> Result<RunId> {
    import::import(db, viewer, "partnership", "demo partnerships", partnerships(db.now()).as_bytes(), |_, _| {})
        .await?;
    let objectives: String = OBJECTIVES
        .iter()
        .zip(1..)
        .map(|((name, stage, priority), i)| format!("OKR-{i},{name},{stage},{priority}\n"))
        .collect();
    let objectives = format!("external_id,name,stage,priority\n{objectives}");
    import::import(db, viewer, "objective", "demo objectives", objectives.as_bytes(), |_, _| {}).await?;
    let begun = Start {
        template_key: Some("weekly-pipeline-review".into()),
        name: Some("This week's review".into()),
        ..Start::default()
    };
    let run = guided::start(db, viewer, &begun).await?;
    let first = step::Entity::find()
        .filter(step::COLUMN.run_id.eq(run.id))
        .order_by_asc(step::COLUMN.sequence)
        .one(db.read())
        .await?
        .ok_or_else(|| Error::ours("the weekly review has steps"))?;
    steps::act(db, viewer, first.id, None, Action::Start, &Said::default()).await?;
    Ok(run.id)
}

fn partnerships(now: DateTime<Utc>) -> String {
    let mut csv = String::from("external_id,name,contact,email,stage,priority,last_contacted_at\n");
    for ((name, contact, stage, priority, ago), i) in PARTNERSHIPS.iter().zip(1..) {
        let contacted = match ago {
            ..0 => String::new(),
            days => (now - Duration::days(*days)).format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        };
        let address = contact.to_lowercase().replace(' ', ".");
        csv += &format!("PARTNER-{i},{name},{contact},{address}@partners.example,{stage},{priority},{contacted}\n");
    }
    csv
}
