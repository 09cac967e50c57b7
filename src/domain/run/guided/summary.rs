//! Counts what was done in guided work, per step and in total. Based on activities, which are kept
//! when a step is reset.

use std::collections::{BTreeMap, HashMap};

use async_graphql::SimpleObject;
use entity::activity::{self, ActivityKind};
use entity::id::*;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Counts of completed activities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SimpleObject)]
#[graphql(name = "DoneCounts")]
pub struct Counts {
    /// Number of mails sent.
    pub emails_sent: i64,
    /// Number of stage changes of records.
    pub stages_changed: i64,
    /// Number of meetings booked, counted per invited record.
    pub meetings_booked: i64,
    /// Number of follow-ups created.
    pub follow_ups_created: i64,
    /// Number of follow-ups completed.
    pub follow_ups_done: i64,
    /// Number of notes, counted per record they are about.
    pub notes_added: i64,
    /// Number of records created.
    pub records_created: i64,
}

impl Counts {
    fn add(&mut self, kind: ActivityKind, count: i64) {
        match kind {
            ActivityKind::EmailSent => self.emails_sent += count,
            ActivityKind::StageChanged => self.stages_changed += count,
            ActivityKind::MeetingBooked => self.meetings_booked += count,
            ActivityKind::FollowUpCreated => self.follow_ups_created += count,
            ActivityKind::FollowUpDone => self.follow_ups_done += count,
            ActivityKind::Note => self.notes_added += count,
            ActivityKind::RecordCreated => self.records_created += count,
            // Calls are made in campaign runs.
            ActivityKind::MeetingMoved | ActivityKind::MeetingCancelled | ActivityKind::CallMade => {}
        }
    }
}

/// Counts of one run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Total.
    pub total: Counts,
    /// Counts per step with activities, in order of creation.
    pub steps: BTreeMap<StepId, Counts>,
}

/// Loads the counts of some runs in one statement.
pub async fn of_runs(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[RunId]) -> Result<HashMap<RunId, Summary>> {
    let rows: Vec<(RunId, StepId, ActivityKind, i64)> = activity::Entity::find()
        .select_only()
        .column(activity::Column::RunId)
        .column(activity::Column::StepId)
        .column(activity::Column::Kind)
        .column_as(activity::Column::Id.count(), "count")
        .filter(activity::COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), activity::COLUMN.run_id, runs.iter().copied()))
        .group_by(activity::Column::RunId)
        .group_by(activity::Column::StepId)
        .group_by(activity::Column::Kind)
        .into_tuple()
        .all(db)
        .await?;
    let mut all: HashMap<RunId, Summary> = runs.iter().map(|id| (*id, Summary::default())).collect();
    for (run, step, kind, count) in rows {
        let one = all.entry(run).or_default();
        one.total.add(kind, count);
        one.steps.entry(step).or_default().add(kind, count);
    }
    Ok(all)
}
