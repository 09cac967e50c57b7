//! Demo data: leads, a campaign that waits to be approved, and one that flies; partnerships, and guided work over them.

mod partnerships;

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use entity::Channel;
use entity::campaign::CampaignAct;
use entity::id::*;
use entity::step::{self, StepStatus};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use crate::campaign::preflight::{LaunchAction, LaunchInput};
use crate::db::Db;
use crate::error::{Error, Result};
use crate::record::filter::RecordFilter;
use crate::record::import;
use crate::run::launch::{Launch, launch};
use crate::run::step::{Action, Said};
use crate::viewer::Viewer;
use crate::{campaign, goal, message_template, reviewer, run, run_template, segment, writer};

pub use partnerships::OTHERS;

/// How many leads there are.
pub const LEADS: usize = 2_000;

/// What the demo has begun, and goes on with while it is watched.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// The flight that waits for its review.
    pub flight: RunId,
    /// The guided work whose letters are on their way.
    pub letters: RunId,
}

/// Seeds the viewer's org, once: where there are records already, nothing is done.
pub async fn seed(db: &Db, viewer: &Viewer) -> Result<Option<Begun>> {
    if crate::record::count(db, viewer, &RecordFilter::default()).await? > 0 {
        return Ok(None);
    }
    let csv = leads(LEADS, db.now());
    import::import(db, viewer, "lead", "demo leads", csv.as_bytes(), |_, _| {}).await?;
    let letters = partnerships::seed(db, viewer).await?;
    let waiting = campaign(
        db,
        viewer,
        "Win back quiet leads",
        json!({ "kind": { "eq": "lead" }, "attributes": [{ "name": "employees", "gte": 500 }], "lastContactedAt": { "olderThan": "14d" } }),
        "Larger companies we have not spoken to for two weeks",
        "Still thinking about it, {{ first_name }}?",
        "Hello {{ first_name }},\n\nwe have not heard from {{ company }} for a while. Is {{ offer }} still of interest?\n\nBest regards,\n{{ sender.name }}\n",
    )
    .await?;
    campaign::life::pass(db, viewer, waiting, None, CampaignAct::Submit).await?;
    let flying = campaign(
        db,
        viewer,
        "New Lead Outreach",
        json!({ "kind": { "eq": "lead" }, "stage": { "in": ["New", "Conversation Active"] } }),
        "New and active leads",
        "{{ first_name }}, an idea for {{ company }}",
        "Hello {{ first_name }},\n\nas {{ title }} at {{ company }} you may like {{ offer }}.\n{% if employees is defined and employees > 1000 %}For a company of your size we bring references.\n{% endif %}\nBest regards,\n{{ sender.name }}\n",
    )
    .await?;
    campaign::life::pass(db, viewer, flying, None, CampaignAct::Submit).await?;
    campaign::life::pass(db, viewer, flying, None, CampaignAct::Approve).await?;
    let order = Launch {
        campaign_id: flying,
        expected_revision: None,
        name: Some("First flight".into()),
        action: LaunchAction::Run,
        input: LaunchInput::default(),
        review: true,
        dry_run: false,
    };
    let launched = launch(db, viewer, &order).await?;
    match launched.run {
        Some(run) => Ok(Some(Begun { flight: run.id, letters })),
        None => Err(Error::ours(format!("the demo may not fly: {}", launched.preflight.failures()))),
    }
}

/// Has partners answer their letters, and approves the flight's review, so that it flies before your eyes.
pub async fn go_on(db: Arc<Db>, viewer: Viewer, begun: Begun) -> Result<()> {
    let answered = partnerships::answer(db.clone(), viewer.clone(), begun.letters);
    let flown = approve(db, viewer, begun.flight);
    let (answered, flown) = tokio::join!(answered, flown);
    answered.and(flown)
}

async fn approve(db: Arc<Db>, viewer: Viewer, run_id: RunId) -> Result<()> {
    let mut nudges = db.nudges();
    loop {
        nudges.mark_unchanged();
        let waiting = step::Entity::find()
            .filter(step::COLUMN.org_id.eq(viewer.org_id))
            .filter(step::COLUMN.run_id.eq(run_id))
            .filter(step::Column::Kind.eq(run_template::REVIEW))
            .filter(step::COLUMN.status.eq(StepStatus::AwaitingApproval))
            .one(db.read())
            .await?;
        if let Some(step) = waiting {
            run::step::act(&db, &viewer, step.id, None, Action::Approve, &Said::default()).await?;
            return Ok(());
        }
        if nudges.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// A campaign with all its parts, in draft.
pub(crate) async fn campaign(
    db: &Db,
    viewer: &Viewer,
    name: &str,
    filter: Value,
    audience: &str,
    subject: &str,
    body: &str,
) -> Result<CampaignId> {
    let text = |text: &str| Some(text.to_owned());
    let goal = goal::Fields { name: text("Book first calls"), description: text("A call with somebody who decides") };
    let writer = writer::Fields {
        name: text("House style"),
        instructions: text("Short, friendly, concrete"),
        ..Default::default()
    };
    let reviewer = reviewer::Fields { name: text("Duty reviewer"), ..Default::default() };
    let template = message_template::Fields {
        name: text(name),
        channel: Some(Channel::Email),
        subject: text(subject),
        body: text(body),
    };
    let filter: RecordFilter = serde_json::from_value(filter)?;
    let segment = segment::Fields { name: text(audience), filter: Some(filter), record_ids: None };
    let fields = campaign::Fields {
        name: text(name),
        description: text("Made by `sortie demo`"),
        goal_id: Some(Some(goal::create(db, viewer, &goal).await?.id)),
        writer_id: Some(Some(writer::create(db, viewer, &writer).await?.id)),
        reviewer_id: Some(Some(reviewer::create(db, viewer, &reviewer).await?.id)),
        message_template_id: Some(Some(message_template::create(db, viewer, &template).await?.id)),
        segment_id: Some(Some(segment::create(db, viewer, &segment).await?.id)),
        variables: Some(json!({ "offer": "a week's free trial" })),
        ..Default::default()
    };
    Ok(campaign::create(db, viewer, &fields).await?.id)
}

/// Leads as a CSV, like those that a team would bring: the same ones every time, but for the dates.
pub fn leads(count: usize, now: DateTime<Utc>) -> String {
    let mut random = StdRng::seed_from_u64(7);
    let mut csv = String::from(
        "external_id,name,first_name,last_name,email,phone,company,title,timezone,stage,last_contacted_at,source,employees\n",
    );
    for number in 0..count {
        let (first, last) = (pick(&mut random, FIRST), pick(&mut random, LAST));
        let company = format!("{} {}", pick(&mut random, LAST), pick(&mut random, COMPANY));
        let address = format!(
            "{}.{}.{number}@example.{}",
            first.to_lowercase(),
            last.to_lowercase(),
            pick(&mut random, &["com", "net", "org"])
        );
        let phone = if random.random_bool(0.8) {
            format!("+1555{:07}", random.random_range(1_000_000..9_999_999))
        } else {
            String::new()
        };
        let contacted = if random.random_bool(0.7) {
            (now - Duration::minutes(random.random_range(60..60_000))).format("%Y-%m-%dT%H:%M:%SZ").to_string()
        } else {
            String::new()
        };
        let (title, zone, stage) = (pick(&mut random, TITLE), pick(&mut random, ZONE), pick(&mut random, STAGE));
        let (source, employees) = (pick(&mut random, SOURCE), random.random_range(2..5_000));
        csv.push_str(&format!(
            "DEMO-{number:05},{first} {last},{first},{last},{address},{phone},{company},{title},{zone},{stage},{contacted},{source},{employees}\n"
        ));
    }
    csv
}

fn pick<'a>(random: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(random).copied().unwrap_or_default()
}

const FIRST: &[&str] = &[
    "Ada", "Bruno", "Chidi", "Dana", "Emil", "Fatou", "Grace", "Hugo", "Ines", "Jonas", "Keiko", "Lena", "Mario",
    "Nora", "Omar", "Petra", "Ravi", "Stacie", "Tomas", "Yara",
];
const LAST: &[&str] = &[
    "Axelsson",
    "Baker",
    "Cohen",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Garcia",
    "Hernandez",
    "Ito",
    "Jensen",
    "Kowalski",
    "Lopez",
    "Moreau",
    "Novak",
    "Okafor",
    "Patel",
    "Quinn",
    "Rossi",
    "Silva",
    "Walker",
];
const COMPANY: &[&str] = &["AB", "GmbH", "Group", "Inc", "Labs", "Logistics", "Ltd", "Partners", "Systems", "Works"];
const TITLE: &[&str] =
    &["Head of Operations", "Founder", "Purchasing Manager", "Platform Lead", "Office Manager", "CTO"];
const ZONE: &[&str] = &[
    "America/Chicago",
    "America/Los_Angeles",
    "America/New_York",
    "Asia/Tokyo",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Stockholm",
];
const STAGE: &[&str] = &["New", "Conversation Active", "MOU Sent", "Dormant"];
const SOURCE: &[&str] = &["event", "outbound", "partner", "referral", "website"];
