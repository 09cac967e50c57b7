//! Demo data for guided work: partnerships in all stages, some of which answer their emails; the
//! season's objectives; and this week's review, in progress.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::{RunStatus, record, step};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::json;

use crate::domain::run::guided;
use crate::domain::run::guided::mail::{self, GuidedMail};
use crate::domain::run::guided::start::{self, Start};
use crate::domain::run::guided::structure::GuidedStepDraft;
use crate::domain::run::incoming_reply::{self, IncomingReply};
use crate::domain::run::step::{self as steps, Action, ActionInput};
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;

/// Number of partnerships and objectives.
pub const OTHERS: usize = PARTNERSHIPS.len() + OBJECTIVES.len();

/// Name, contact, stage, priority, days since the last contact; negative: never contacted.
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

/// Partners who are written to before the review, and their answers.
const WRITTEN_TO: [(&str, Option<&str>); 3] = [
    ("Riverside College", Some("The board has signed today. The papers are in the post.")),
    ("Tidewater Foods", Some("Yes, that sounds right for us. Shall we talk on Tuesday?")),
    ("Lighthouse Radio", None),
];

/// Name of the guided work that writes to partners.
pub(super) const LETTERS: &str = "Letters before the review";
const REVIEW: &str = "This week's review";

/// Imports the records, writes to some, starts the Weekly Pipeline Review and its first step;
/// existing parts are left as they are.
pub(super) async fn seed(db: &WriteContext, viewer: &Viewer) -> Result<()> {
    if super::run_named(db, viewer, REVIEW).await?.is_some() {
        return Ok(());
    }
    super::import_records(db, viewer, "partnership", "demo partnerships", "priority=text", &partnerships(db.now()))
        .await?;
    let objectives: String = OBJECTIVES
        .iter()
        .zip(1..)
        .map(|((name, stage, priority), i)| format!("OKR-{i},{name},{stage},{priority}\n"))
        .collect();
    let objectives = format!("external_id,name,stage,priority\n{objectives}");
    super::import_records(db, viewer, "objective", "demo objectives", "priority=text", &objectives).await?;
    if super::run_named(db, viewer, LETTERS).await?.is_none() {
        send_letters(db, viewer).await?;
    }
    let start =
        Start { template_key: Some("weekly-pipeline-review".into()), name: Some(REVIEW.into()), ..Start::default() };
    let run = start::start(db, viewer, &start).await?;
    let step = first_step(db, viewer, run.id).await?;
    steps::act::apply_action(db, viewer, step.id, None, Action::Start, &ActionInput::default()).await?;
    Ok(())
}

/// Sends three emails, as a person would.
async fn send_letters(db: &WriteContext, viewer: &Viewer) -> Result<()> {
    let step = json!({
        "key": "write", "name": "Write to those we know", "type": "email", "assignedTo": "HUMAN",
        "config": { "records": { "filter": { "kind": { "eq": "partnership" }, "lastContactedAt": { "newerThan": "7d" } } } },
    });
    let start = Start {
        name: Some(LETTERS.into()),
        steps: Some(vec![GuidedStepDraft::Own(serde_json::from_value(step)?)]),
        ..Start::default()
    };
    let run = start::start(db, viewer, &start).await?;
    let step = first_step(db, viewer, run.id).await?;
    steps::act::apply_action(db, viewer, step.id, None, Action::Start, &ActionInput::default()).await?;
    let written_to = record::Entity::find()
        .filter(record::COLUMN.org_id.eq(viewer.org_id))
        .filter(record::COLUMN.name.is_in(WRITTEN_TO.map(|(name, _)| name)))
        .all(db.read())
        .await?;
    let letter = GuidedMail {
        step_id: step.id,
        record_ids: written_to.iter().map(|record| record.id).collect(),
        subject: Some("Where we are, {{ name }}".into()),
        body: Some(
            "Hello {{ contact }},\n\nhow do things look on your side?\n\nBest regards\n{{ sender.name }}\n".into(),
        ),
        message_template: None,
        is_repeat: false,
    };
    mail::send(db, viewer, &letter).await?;
    Ok(())
}

/// Once the outcome of the emails is known, records answers to some of them and completes the work.
pub(super) async fn answer(db: Arc<Db>, viewer: Viewer, letters: RunId) -> Result<()> {
    let db = db.write();
    let mut nudges = db.nudges();
    loop {
        nudges.mark_unchanged();
        let run = crate::domain::run::must_find(db.read(), &viewer, letters).await?;
        // If the visitor has ended or paused it, it is theirs.
        if run.status != RunStatus::InProgress {
            return Ok(());
        }
        if run.in_flight == 0 {
            break;
        }
        if nudges.changed().await.is_err() {
            return Ok(());
        }
    }
    let sent = communication::Entity::find()
        .filter(communication::COLUMN.org_id.eq(viewer.org_id))
        .filter(communication::COLUMN.run_id.eq(letters))
        .filter(communication::COLUMN.status.eq(CommunicationStatus::Sent))
        .all(db.read())
        .await?;
    let mut answered = 0;
    for letter in &sent {
        let replies = entity::reply::Entity::find()
            .filter(entity::reply::COLUMN.org_id.eq(viewer.org_id))
            .filter(entity::reply::COLUMN.communication_id.eq(letter.id));
        if replies.one(db.read()).await?.is_some() {
            answered += 1;
            continue;
        }
        let Some((_, Some(text))) = WRITTEN_TO.iter().find(|(name, _)| *name == letter.to_name) else { continue };
        let incoming = IncomingReply {
            communication_id: Some(letter.id),
            message_id: None,
            references: None,
            external_id: None,
            subject: letter.subject.as_ref().map(|subject| format!("Re: {subject}")),
            body: (*text).into(),
            received_at: None,
        };
        incoming_reply::record(&db, &viewer, &incoming).await?;
        answered += 1;
    }
    let step = first_step(&db, &viewer, letters).await?;
    if step.status == step::StepStatus::InProgress {
        steps::act::apply_action(&db, &viewer, step.id, None, Action::Complete, &ActionInput::default()).await?;
    }
    let outcome = format!("{answered} of {} have answered", sent.len());
    guided::complete(&db, &viewer, letters, None, Some(&outcome)).await?;
    Ok(())
}

async fn first_step(db: &Db, viewer: &Viewer, run: RunId) -> Result<step::Model> {
    let steps = step::Entity::find()
        .filter(step::COLUMN.org_id.eq(viewer.org_id))
        .filter(step::COLUMN.run_id.eq(run))
        .order_by_asc(step::COLUMN.sequence);
    steps.one(db.read()).await?.ok_or_else(|| Error::internal("guided work has no steps"))
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
