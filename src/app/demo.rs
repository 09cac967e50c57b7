//! Demo data: leads, a campaign that waits to be approved, and one that flies; partnerships, and guided work over them; and
//! a slow flight, which has something to watch for as long as somebody is likely to look.
//!
//! Each part is made where it is not there yet, so that a demo that was killed while it was made is completed by the next
//! start. Once all of it stands nothing is made again: what the visitor changed stays changed.

mod leads;
pub mod live;
mod partnerships;

use std::sync::Arc;

use entity::campaign::{CampaignStatus, CampaignTransition};
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{Channel, record};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};

use crate::domain::audience::record::filter::RecordFilter;
use crate::domain::audience::record::import;
use crate::domain::audience::segment;
use crate::domain::content::{goal, message_template, reviewer, writer};
use crate::domain::plan::campaign::preflight::{LaunchAction, LaunchInput};
use crate::domain::plan::campaign::transition::SeenState;
use crate::domain::plan::{campaign, run_template};
use crate::domain::run;
use crate::domain::run::launch::{Launch, launch};
use crate::domain::run::step::{Action, ActionInput};
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::transact;

pub use leads::leads;
pub use partnerships::OTHERS;

/// How many leads there are.
pub const LEADS: usize = 2_000;

const FLIGHT: &str = "First flight";

/// What the demo has begun, and goes on with while it is watched.
#[derive(Clone, Copy, Debug)]
pub struct RunningDemo {
    /// The flight that waits for its review.
    pub flight: RunId,
    /// The guided work whose letters are on their way.
    pub letters: RunId,
}

/// Finds or makes, by its name, one of the parts that a campaign is made of; its id.
macro_rules! named {
    ($db:expr, $viewer:expr, $noun:ident, $fields:expr) => {{
        let fields = $fields;
        let found = entity::$noun::Entity::find()
            .filter(entity::$noun::COLUMN.org_id.eq($viewer.org_id))
            .filter(entity::$noun::COLUMN.name.eq(fields.name.clone().unwrap_or_default()))
            .one($db.read())
            .await?;
        match found {
            Some(row) => row.id,
            None => $noun::create($db, $viewer, &fields).await?.id,
        }
    }};
}

/// With this the log says that all of the demo stands: names, by which its parts are found before, the visitor may change.
const MADE: &str = "sortie.demo_made";

async fn is_made(db: &Db, viewer: &Viewer) -> Result<bool> {
    let which = event::EventSelector { kinds: Some(vec![MADE.to_owned()]), ..Default::default() };
    Ok(!event::page(db, viewer, &which, 0, 1).await?.0.is_empty())
}

/// Returns true if the viewer's org holds something, and nothing of the demo's: demo data would get between it.
pub async fn is_foreign(db: &Db, viewer: &Viewer) -> Result<bool> {
    let held = [
        crate::domain::audience::record::count(db, viewer, &RecordFilter::default()).await?,
        campaign::count(db, viewer, &Default::default()).await?,
        entity::run::Entity::find().filter(entity::run::COLUMN.org_id.eq(viewer.org_id)).count(db.read()).await?,
    ];
    if held == [0; 3] || is_made(db, viewer).await? {
        return Ok(false);
    }
    let ours = record::Entity::find()
        .filter(record::COLUMN.org_id.eq(viewer.org_id))
        .filter(record::COLUMN.kind.eq("lead"))
        .filter(record::COLUMN.external_id.eq("DEMO-00000"));
    Ok(ours.one(db.read()).await?.is_none())
}

/// Makes the demo in the viewer's org, or what is missing of it. Returns what it goes on with; none where that is gone.
pub async fn seed(db: &Db, viewer: &Viewer) -> Result<Option<RunningDemo>> {
    if !is_made(db, viewer).await? && live::find(db, viewer, live::OWN).await?.is_none() {
        let csv = leads(LEADS, db.now());
        take(db, viewer, "lead", "demo leads", "employees=number", &csv).await?;
        partnerships::seed(db, viewer).await?;
        flights(db, viewer).await?;
        live::seed(db, viewer).await?;
        transact!(db, |tx| {
            event::append(tx, Event::new(viewer.org_id, MADE, &viewer.actor()));
            Ok(())
        })?;
    }
    let flight = run_named(db, viewer, FLIGHT).await?;
    let letters = run_named(db, viewer, partnerships::LETTERS).await?;
    Ok(flight.zip(letters).map(|(flight, letters)| RunningDemo { flight, letters }))
}

async fn flights(db: &Db, viewer: &Viewer) -> Result<()> {
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
    bring(db, viewer, waiting, CampaignStatus::PendingApproval).await?;
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
    bring(db, viewer, flying, CampaignStatus::Active).await?;
    if run_named(db, viewer, FLIGHT).await?.is_none() {
        fly(db, viewer, flying, FLIGHT).await?;
    }
    Ok(())
}

/// Has a draft submitted, and approved where it is to be active.
async fn bring(db: &Db, viewer: &Viewer, id: CampaignId, to: CampaignStatus) -> Result<()> {
    let mut status = campaign::must_find(db.read(), viewer, id).await?.status;
    if status == CampaignStatus::Draft {
        status = campaign::transition::pass(db, viewer, id, SeenState::default(), CampaignTransition::Submit)
            .await?
            .0
            .status;
    }
    if status == CampaignStatus::PendingApproval && to == CampaignStatus::Active {
        campaign::transition::pass(db, viewer, id, SeenState::default(), CampaignTransition::Approve).await?;
    }
    Ok(())
}

async fn fly(db: &Db, viewer: &Viewer, campaign_id: CampaignId, name: &str) -> Result<RunId> {
    let order = Launch {
        campaign_id,
        expected_revision: None,
        name: Some(name.into()),
        action: LaunchAction::Run,
        input: LaunchInput::default(),
        review: true,
        dry_run: false,
    };
    let launched = launch(db, viewer, &order).await?;
    let run = launched.run.map(|run| run.id);
    run.ok_or_else(|| Error::ours(format!("the demo may not fly: {}", launched.preflight.failures())))
}

/// The oldest run of a name.
async fn run_named(db: &Db, viewer: &Viewer, name: &str) -> Result<Option<RunId>> {
    let runs = entity::run::Entity::find()
        .filter(entity::run::COLUMN.org_id.eq(viewer.org_id))
        .filter(entity::run::COLUMN.name.eq(name))
        .order_by_asc(entity::run::COLUMN.id);
    Ok(runs.one(db.read()).await?.map(|run| run.id))
}

/// Imports records of the demo.
async fn take(db: &Db, viewer: &Viewer, kind: &str, file: &str, types: &str, csv: &str) -> Result<()> {
    let options = import::Options {
        kind: kind.into(),
        file: file.into(),
        types: vec![types.into()],
        ..import::Options::default()
    };
    import::import_with(db, viewer, &options, csv.as_bytes(), |_, _| {}).await?;
    Ok(())
}

/// Has partners answer their letters, and approves the flight's review, so that it flies before your eyes.
pub async fn go_on(db: Arc<Db>, viewer: Viewer, begun: RunningDemo) -> Result<()> {
    let answered = partnerships::answer(db.clone(), viewer.clone(), begun.letters);
    let flown = approve(db, viewer, begun.flight);
    let (answered, flown) = tokio::join!(answered, flown);
    answered.and(flown)
}

async fn approve(db: Arc<Db>, viewer: Viewer, run_id: RunId) -> Result<()> {
    let mut nudges = db.nudges();
    loop {
        nudges.mark_unchanged();
        if !run::must_find(db.read(), &viewer, run_id).await?.status.is_open() {
            return Ok(());
        }
        let reviews = step::Entity::find()
            .filter(step::COLUMN.org_id.eq(viewer.org_id))
            .filter(step::COLUMN.run_id.eq(run_id))
            .filter(step::Column::Kind.eq(run_template::REVIEW));
        match reviews.one(db.read()).await? {
            Some(step) if step.status == StepStatus::AwaitingApproval => {
                run::step::act(&db, &viewer, step.id, None, Action::Approve, &ActionInput::default()).await?;
                return Ok(());
            }
            Some(step) if step.status == StepStatus::Completed => return Ok(()),
            _ => {}
        }
        if nudges.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// A campaign with all its parts, in draft where it was not there yet.
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
        goal_id: Some(Some(named!(db, viewer, goal, goal))),
        writer_id: Some(Some(named!(db, viewer, writer, writer))),
        reviewer_id: Some(Some(named!(db, viewer, reviewer, reviewer))),
        message_template_id: Some(Some(named!(db, viewer, message_template, template))),
        segment_id: Some(Some(named!(db, viewer, segment, segment))),
        variables: Some(json!({ "offer": "a week's free trial" })),
        ..Default::default()
    };
    Ok(named!(db, viewer, campaign, fields))
}
