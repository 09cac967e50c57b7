//! What a schedule's runs are created from: its campaign, or the template of guided work.

use chrono::{DateTime, Utc};
use entity::run::{COLUMN, Column, Entity, Model};
use entity::schedule;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::launch::RunTimes;
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::domain::plan::schedule::Occurrence;
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Source of a schedule's runs.
pub(super) enum RunSource {
    /// Campaign.
    Planned(Box<CampaignParts>),
    /// Template of guided work, with the previous run's description.
    Guided(String),
}

impl RunSource {
    /// Reads the source of a schedule.
    pub(super) async fn of(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<Self> {
        if let Some(id) = schedule.campaign_id {
            let campaign = crate::domain::plan::campaign::must_find(tx.db(), viewer, id).await?;
            return Ok(Self::Planned(Box::new(CampaignParts::of(tx.db(), viewer, campaign).await?)));
        }
        let previous = Entity::find()
            .filter(COLUMN.schedule_id.eq(schedule.id))
            .filter(COLUMN.occurrence_at.is_not_null())
            .order_by_desc(Column::OccurrenceAt)
            .limit(1)
            .one(tx.db())
            .await?;
        Ok(Self::Guided(previous.map(|previous| previous.description).unwrap_or_default()))
    }

    /// Inserts the run of an occurrence.
    pub(super) async fn insert_occurrence(
        &self,
        tx: &Tx,
        viewer: &Viewer,
        schedule: &schedule::Model,
        found: &Occurrence,
    ) -> Result<Model> {
        self.insert(tx, viewer, schedule, &RunTimes::of(found)).await
    }

    /// Inserts a run outside of the pattern, which is due now. With `backfill_for` it makes up for
    /// that time.
    pub(super) async fn insert_extra(
        &self,
        tx: &Tx,
        viewer: &Viewer,
        schedule: &schedule::Model,
        buffered_at: Option<DateTime<Utc>>,
        backfill_for: Option<DateTime<Utc>>,
    ) -> Result<Model> {
        let times = RunTimes { occurrence_at: None, scheduled_for: tx.now(), buffered_at, backfill_for };
        self.insert(tx, viewer, schedule, &times).await
    }

    async fn insert(&self, tx: &Tx, viewer: &Viewer, schedule: &schedule::Model, times: &RunTimes) -> Result<Model> {
        match self {
            Self::Planned(parts) => super::launch::occurrence(tx, viewer, parts, schedule, times, None).await,
            Self::Guided(description) => {
                super::guided::start::next(tx, viewer, schedule, description.clone(), times).await
            }
        }
    }
}
