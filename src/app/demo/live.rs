//! Live parts of the demo: a slow flight with one lead every 1.5 seconds, and a flight that the
//! visitor starts.
//!
//! Both have a step per lead for an agent, which the demo plays: the pace is a worker's, paused and
//! cancelled runs stand still, and a demo that was stopped resumes. When a slow flight completes,
//! the next one starts, a few times per start, so that an unattended demo comes to rest.

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
use crate::domain::worker::renew::HeldStep;
use crate::domain::worker::settle::{self, WorkerOutcome};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;

/// Name of the campaign that runs by itself, and of its runs.
pub const SLOW: &str = "Slow flight";
/// Name of the campaign for the visitor.
pub const OWN: &str = "Your own flight";
/// Maximum number of slow flights per start of the demo, after the first.
pub const AGAIN: usize = 5;

const PACE: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(30);
const DESK: &str = "demo-desk";
const MANIFEST: &str = include_str!("live.yaml");

/// Finds the demo's campaign by name; none if it does not exist or the visitor has deleted it.
pub(super) async fn find(db: &Db, viewer: &Viewer, name: &str) -> Result<Option<plans::Model>> {
    let found = plans::Entity::find()
        .filter(plans::COLUMN.org_id.eq(viewer.org_id))
        .filter(plans::COLUMN.name.eq(name))
        .order_by_asc(plans::COLUMN.id);
    Ok(found.one(db.read()).await?)
}

/// Creates both campaigns and launches the first slow flight.
pub(super) async fn seed(db: &WriteContext, viewer: &Viewer) -> Result<()> {
    let applied = manifest::apply(db, viewer, MANIFEST, false).await?;
    if let Some(problem) = applied.problems.first() {
        return Err(Error::internal(format!("the demo's manifest is invalid: {problem}")));
    }
    let slow = plan(db, viewer, SLOW, "demo-slow-flight", "Largest companies").await?;
    if latest(db, viewer, slow).await?.is_none() {
        super::launch_run(db, viewer, slow, SLOW).await?;
    }
    // Must be last: its existence marks the demo as complete.
    plan(db, viewer, OWN, "demo-own-flight", "A few leads for your own flight").await?;
    Ok(())
}

async fn plan(db: &WriteContext, viewer: &Viewer, name: &str, template: &str, audience: &str) -> Result<CampaignId> {
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
    super::advance(db, viewer, id, CampaignStatus::Active).await?;
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
pub struct DemoAgent {
    held: Vec<(HeldStep, Value)>,
    launched: usize,
}

impl DemoAgent {
    /// Works until the server stops, then settles the steps that it holds.
    pub async fn run_until_stopped(
        mut self,
        db: &WriteContext,
        viewer: &Viewer,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                _ = stop.changed() => return self.settle_held(db, viewer).await,
            }
            match self.tick(db, viewer).await {
                Ok(_) => {}
                // The visitor has removed something that the agent needs.
                Err(refused @ Error::Refused(_)) => return Err(refused),
                Err(err) => {
                    log_failure!(warn, err, "the demo's agent failed; it will retry");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Settles the steps of the previous tick and claims one step of each run in progress. If the
    /// last slow flight is completed, launches the next one. Returns the number of steps held.
    pub async fn tick(&mut self, db: &WriteContext, viewer: &Viewer) -> Result<usize> {
        self.settle_held(db, viewer).await?;
        let Some(slow) = find(db, viewer, SLOW).await? else { return Ok(0) };
        let done = latest(db, viewer, slow.id).await?.is_some_and(|run| run.status == RunStatus::Completed);
        if done && slow.status == CampaignStatus::Active && self.launched < AGAIN {
            self.launched += 1;
            if let Err(err) = super::launch_run(db, viewer, slow.id, SLOW).await {
                // The visitor has changed it: from now on only the visitor launches it.
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
            let request =
                ClaimRequest { worker: "demo".into(), types: None, runs: Some(vec![run.id]), limit: 1, lease: LEASE };
            for taken in claim::claim(db, &agent, &request).await? {
                let note = assess(db, viewer, taken.step.record_id).await?;
                self.held.push((HeldStep { id: taken.step.id, token: taken.token }, note));
            }
        }
        Ok(self.held.len())
    }

    async fn settle_held(&mut self, db: &WriteContext, viewer: &Viewer) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Ok(());
        }
        let agent = agent::by_name(db.read(), viewer, DESK).await?;
        let outcomes: Vec<(HeldStep, WorkerOutcome)> =
            held.into_iter().map(|(held, note)| (held, WorkerOutcome::Done(note))).collect();
        // Steps that were skipped or whose lease was lost are ignored.
        settle::settle(db, &agent, None, &outcomes).await?;
        Ok(())
    }
}

/// Returns the agent's result for a lead.
async fn assess(db: &Db, viewer: &Viewer, id: Option<RecordId>) -> Result<Value> {
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
