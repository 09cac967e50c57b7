//! Demo data: leads, a campaign that is pending approval and one that runs; partnerships and guided
//! work on them; and a slow flight that can be watched for as long as a visitor is likely to stay.
//!
//! Each part is created if it does not exist, so that a demo that was killed while it was created
//! is completed by the next start. Once the demo is complete, nothing is created again: the
//! visitor's changes are kept.

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
use crate::domain::audience::segment;
use crate::domain::content::{goal, message_template, reviewer, writer};
use crate::domain::import;
use crate::domain::plan::campaign::preflight::{LaunchAction, LaunchInput};
use crate::domain::plan::campaign::transition::SeenState;
use crate::domain::plan::{campaign, run_template};
use crate::domain::run;
use crate::domain::run::launch::{Launch, launch};
use crate::domain::run::step::{Action, ActionInput};
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::transact;

pub use leads::leads;
pub use partnerships::OTHERS;

/// Number of leads.
pub const LEADS: usize = 2_000;

const FLIGHT: &str = "First flight";

/// Runs of the demo that continue while it is watched.
#[derive(Clone, Copy, Debug)]
pub struct RunningDemo {
    /// The run that waits for its review.
    pub flight: RunId,
    /// The guided work whose emails are in flight.
    pub letters: RunId,
}

/// Finds one of a campaign's parts by its name, or creates it; returns its id. It is a macro
/// because each noun has fields and a `create` of its own.
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

/// Event that marks the demo as complete: parts are found by name, and the visitor may change
/// names.
const COMPLETED: &str = "sortie.demo_made";

async fn is_complete(db: &Db, viewer: &Viewer) -> Result<bool> {
    let which = event::EventSelector { kinds: Some(vec![COMPLETED.to_owned()]), ..Default::default() };
    Ok(!event::page(db, viewer, &which, event::LogRange::first(1, 0)).await?.0.is_empty())
}

/// Returns true if the viewer's org has data, but none of the demo's: demo data would be mixed with
/// it.
pub async fn is_foreign(db: &Db, viewer: &Viewer) -> Result<bool> {
    let counts = [
        crate::domain::audience::record::count(db, viewer, &Default::default()).await?,
        campaign::list::count(db, viewer, &Default::default()).await?,
        entity::run::Entity::find().filter(entity::run::COLUMN.org_id.eq(viewer.org_id)).count(db.read()).await?,
    ];
    if counts == [0; 3] || is_complete(db, viewer).await? {
        return Ok(false);
    }
    let ours = record::Entity::find()
        .filter(record::COLUMN.org_id.eq(viewer.org_id))
        .filter(record::COLUMN.kind.eq("lead"))
        .filter(record::COLUMN.external_id.eq("DEMO-00000"));
    Ok(ours.one(db.read()).await?.is_none())
}

/// Creates the demo in the viewer's org, or its missing parts. Returns the runs that continue; none
/// if they no longer exist.
pub async fn seed(db: &Db, viewer: &Viewer) -> Result<Option<RunningDemo>> {
    let db = &db.write();
    if !is_complete(db, viewer).await? && live::find(db, viewer, live::OWN).await?.is_none() {
        let csv = leads(LEADS, db.now());
        import_records(db, viewer, "lead", "demo leads", "employees=number", &csv).await?;
        partnerships::seed(db, viewer).await?;
        seed_campaigns(db, viewer).await?;
        live::seed(db, viewer).await?;
        transact!(db, |tx| {
            event::append(tx, Event::new(viewer.org_id, COMPLETED, &viewer.actor()));
            Ok(())
        })?;
    }
    let flight = run_named(db, viewer, FLIGHT).await?;
    let letters = run_named(db, viewer, partnerships::LETTERS).await?;
    Ok(flight.zip(letters).map(|(flight, letters)| RunningDemo { flight, letters }))
}

async fn seed_campaigns(db: &WriteContext, viewer: &Viewer) -> Result<()> {
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
    advance(db, viewer, waiting, CampaignStatus::PendingApproval).await?;
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
    advance(db, viewer, flying, CampaignStatus::Active).await?;
    if run_named(db, viewer, FLIGHT).await?.is_none() {
        launch_run(db, viewer, flying, FLIGHT).await?;
    }
    Ok(())
}

/// Submits a draft, and approves it if it is to be active.
async fn advance(db: &WriteContext, viewer: &Viewer, id: CampaignId, to: CampaignStatus) -> Result<()> {
    let mut status = campaign::must_find(db.read(), viewer, id).await?.status;
    if status == CampaignStatus::Draft {
        status = campaign::transition::pass_with_preflight(
            db,
            viewer,
            id,
            SeenState::default(),
            CampaignTransition::Submit,
            None,
        )
        .await?
        .0
        .status;
    }
    if status == CampaignStatus::PendingApproval && to == CampaignStatus::Active {
        campaign::transition::pass_with_preflight(
            db,
            viewer,
            id,
            SeenState::default(),
            CampaignTransition::Approve,
            None,
        )
        .await?;
    }
    Ok(())
}

async fn launch_run(db: &WriteContext, viewer: &Viewer, campaign_id: CampaignId, name: &str) -> Result<RunId> {
    let request = Launch {
        campaign_id,
        expected_revision: None,
        name: Some(name.into()),
        action: LaunchAction::Run,
        input: LaunchInput::default(),
        review: true,
        dry_run: false,
    };
    let launched = launch(db, viewer, &request).await?;
    let run = launched.run.map(|run| run.id);
    run.ok_or_else(|| Error::internal(format!("launching the demo's run failed: {}", launched.preflight.failures())))
}

/// Finds the oldest run with a name.
async fn run_named(db: &Db, viewer: &Viewer, name: &str) -> Result<Option<RunId>> {
    let runs = entity::run::Entity::find()
        .filter(entity::run::COLUMN.org_id.eq(viewer.org_id))
        .filter(entity::run::COLUMN.name.eq(name))
        .order_by_asc(entity::run::COLUMN.id);
    Ok(runs.one(db.read()).await?.map(|run| run.id))
}

/// Imports the demo's records.
async fn import_records(
    db: &WriteContext,
    viewer: &Viewer,
    kind: &str,
    file: &str,
    types: &str,
    csv: &str,
) -> Result<()> {
    let options = import::Options {
        kind: kind.into(),
        file: file.into(),
        types: vec![types.into()],
        ..import::Options::default()
    };
    import::import_with(db, viewer, &options, csv.as_bytes(), |_, _| {}).await?;
    Ok(())
}

/// Records the partners' answers and approves the run's review, so that the run proceeds while it
/// is watched.
pub async fn continue_demo(db: Arc<Db>, viewer: Viewer, begun: RunningDemo) -> Result<()> {
    let answered = partnerships::answer(db.clone(), viewer.clone(), begun.letters);
    let approved = approve(db, viewer, begun.flight);
    let (answered, approved) = tokio::join!(answered, approved);
    answered.and(approved)
}

async fn approve(db: Arc<Db>, viewer: Viewer, run_id: RunId) -> Result<()> {
    let db = db.write();
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
                run::step::act::apply_action(&db, &viewer, step.id, None, Action::Approve, &ActionInput::default())
                    .await?;
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

/// Finds a campaign, or creates it as a draft with all its parts.
pub(crate) async fn campaign(
    db: &WriteContext,
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
