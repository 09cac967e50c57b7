//! What there is to watch: a slow flight, one step every second and a half, and a flight that the visitor starts.
//!
//! Both have a step for each lead that an agent does, and the demo plays that agent: so that the pace is a worker's, a
//! paused or cancelled run stands still, and a demo that was stopped goes on where it was. When a slow flight is over the
//! next one begins, a few times for each start: a demo that is left alone comes to rest.

use std::time::Duration;

use entity::campaign::{self as plans, CampaignStatus};
use entity::id::*;
use entity::run::{self, RunStatus};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::domain::audience::record;
use crate::domain::manifest;
use crate::domain::plan::{agent, campaign, run_template};
use crate::domain::worker::claim::{self, ClaimRequest};
use crate::domain::worker::settle::{self, HeldStep, WorkerOutcome};
use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;

/// The name of the campaign, and of the runs, that fly by themselves.
pub const SLOW: &str = "Slow flight";
/// The name of the campaign that the visitor flies.
pub const OWN: &str = "Your own flight";
/// The number of slow flights that one start of the demo launches at most, after the first.
pub const AGAIN: usize = 5;

const PACE: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(30);
const DESK: &str = "demo-desk";
const PARTS: &str = include_str!("live.yaml");

/// The demo's campaign of a name; none where there is none, or the visitor has deleted it.
pub(super) async fn find(db: &Db, viewer: &Viewer, name: &str) -> Result<Option<plans::Model>> {
    let found = plans::Entity::find()
        .filter(plans::COLUMN.org_id.eq(viewer.org_id))
        .filter(plans::COLUMN.name.eq(name))
        .order_by_asc(plans::COLUMN.id);
    Ok(found.one(db.read()).await?)
}

/// Makes both campaigns, and launches the first slow flight.
pub(super) async fn seed(db: &Db, viewer: &Viewer) -> Result<()> {
    let applied = manifest::apply(db, viewer, PARTS, false).await?;
    if let Some(problem) = applied.problems.first() {
        return Err(Error::ours(format!("the demo's own manifest: {problem}")));
    }
    let slow = plan(db, viewer, SLOW, "demo-slow-flight", "Largest companies").await?;
    if latest(db, viewer, slow).await?.is_none() {
        super::fly(db, viewer, slow, SLOW).await?;
    }
    // Last of all: it tells that the demo is complete.
    plan(db, viewer, OWN, "demo-own-flight", "A few leads for your own flight").await?;
    Ok(())
}

async fn plan(db: &Db, viewer: &Viewer, name: &str, template: &str, audience: &str) -> Result<CampaignId> {
    let id = match find(db, viewer, name).await? {
        Some(found) => found.id,
        None => {
            let goal = entity::goal::Entity::find()
                .filter(entity::goal::COLUMN.org_id.eq(viewer.org_id))
                .filter(entity::goal::COLUMN.name.eq("Know who fits"));
            let segment = entity::segment::Entity::find()
                .filter(entity::segment::COLUMN.org_id.eq(viewer.org_id))
                .filter(entity::segment::COLUMN.name.eq(audience));
            let fields = campaign::Fields {
                name: Some(name.into()),
                description: Some("Made by `sortie demo`, which plays the agent `demo-desk`".into()),
                goal_id: Some(goal.one(db.read()).await?.map(|goal| goal.id)),
                segment_id: Some(segment.one(db.read()).await?.map(|segment| segment.id)),
                run_template_id: Some(run_template::by_key(db.read(), viewer, template).await?.map(|found| found.id)),
                ..Default::default()
            };
            campaign::create(db, viewer, &fields).await?.id
        }
    };
    super::bring(db, viewer, id, CampaignStatus::Active).await?;
    Ok(id)
}

async fn latest(db: &Db, viewer: &Viewer, campaign: CampaignId) -> Result<Option<run::Model>> {
    let runs = run::Entity::find()
        .filter(run::COLUMN.org_id.eq(viewer.org_id))
        .filter(run::COLUMN.campaign_id.eq(campaign))
        .order_by_desc(run::COLUMN.id);
    Ok(runs.one(db.read()).await?)
}

/// The agent that the demo plays.
#[derive(Debug, Default)]
pub struct Desk {
    held: Vec<(HeldStep, Value)>,
    launched: usize,
}

impl Desk {
    /// Works until the server stops, and brings back then what it holds.
    pub async fn stay(mut self, db: &Db, viewer: &Viewer, mut stop: watch::Receiver<bool>) -> Result<()> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                _ = stop.changed() => return self.put_down(db, viewer).await,
            }
            match self.tick(db, viewer).await {
                Ok(_) => {}
                // The visitor has taken away what it works with.
                Err(refused @ Error::Refused(_)) => return Err(refused),
                Err(err) => {
                    log_failure!(warn, err, "the demo's agent could not work; it tries again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Ends what was begun by the tick before, and begins one step of each run that is at work. When the last slow flight was
    /// completed, launches the next. Returns the number of steps that it holds now.
    pub async fn tick(&mut self, db: &Db, viewer: &Viewer) -> Result<usize> {
        self.put_down(db, viewer).await?;
        let Some(slow) = find(db, viewer, SLOW).await? else { return Ok(0) };
        let done = latest(db, viewer, slow.id).await?.is_some_and(|run| run.status == RunStatus::Completed);
        if done && slow.status == CampaignStatus::Active && self.launched < AGAIN {
            self.launched += 1;
            if let Err(err) = super::fly(db, viewer, slow.id, SLOW).await {
                // The visitor has changed it: from now on it is theirs to launch.
                self.launched = AGAIN;
                tracing::info!(reason = %err, "the slow flight is not repeated");
            }
        }
        let mut plans = vec![slow.id];
        plans.extend(find(db, viewer, OWN).await?.map(|own| own.id));
        let runs = run::Entity::find()
            .filter(run::COLUMN.org_id.eq(viewer.org_id))
            .filter(any_of(db.dialect(), run::COLUMN.campaign_id, plans))
            .filter(run::COLUMN.status.eq(RunStatus::InProgress))
            .order_by_asc(run::COLUMN.id)
            .all(db.read())
            .await?;
        let agent = agent::by_name(db.read(), viewer, DESK).await?;
        for run in runs {
            let wanted =
                ClaimRequest { worker: "demo".into(), types: None, runs: Some(vec![run.id]), limit: 1, lease: LEASE };
            for taken in claim::claim(db, &agent, &wanted).await? {
                let note = look(db, viewer, taken.step.record_id).await?;
                self.held.push((HeldStep { id: taken.step.id, token: taken.token }, note));
            }
        }
        Ok(self.held.len())
    }

    async fn put_down(&mut self, db: &Db, viewer: &Viewer) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Ok(());
        }
        let agent = agent::by_name(db.read(), viewer, DESK).await?;
        let ends: Vec<(HeldStep, WorkerOutcome)> =
            held.into_iter().map(|(held, note)| (held, WorkerOutcome::Done(note))).collect();
        // What was skipped or lost meanwhile is not ours any more.
        settle::settle(db, &agent, &ends).await?;
        Ok(())
    }
}

/// What the desk finds out about a lead.
async fn look(db: &Db, viewer: &Viewer, id: Option<RecordId>) -> Result<Value> {
    let lead = match id {
        Some(id) => record::find(db.read(), viewer, id).await?,
        None => None,
    };
    let Some(lead) = lead else { return Ok(json!({ "fit": 1, "note": "the lead is gone" })) };
    let employees = lead.attributes["employees"].as_i64().unwrap_or_default();
    let company = lead.attributes["company"].as_str().unwrap_or("The company");
    let days = lead.last_contacted_at.map(|at| (db.now() - at).num_days());
    let contact = days.map_or_else(|| "never spoken to".to_owned(), |days| format!("last spoken to {days} days ago"));
    Ok(json!({ "fit": 1 + employees % 5, "note": format!("{company} has {employees} people; {contact}") }))
}
