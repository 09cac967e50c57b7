//! Findings: explain why runs behaved as they did, from their rows and their campaigns'. The number of
//! statements does not depend on the number of runs.

mod counts;
mod drift;
mod finding;
mod grouped;
mod query;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entity::id::{RecordId, RunId};
use entity::run::Model;
use entity::run_record::Outcome;
use entity::{Channel, RunStatus, StepStatus, stuck_work};

use super::waiting::step_waits;
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::stuck;
use crate::kernel::viewer::Viewer;
use counts::Counts;
use finding::FindingList;
pub use finding::{Finding, FindingCode, FindingSeverity};
use grouped::{ReasonGroup, ReasonsOf};

/// Returns the findings about runs of the viewer's org, by run; empty for a run in which everything
/// went as expected.
pub async fn of_runs(db: &Db, viewer: &Viewer, ids: &[RunId]) -> Result<HashMap<RunId, Vec<Finding>>> {
    let runs = super::find_all(db.read(), viewer, ids).await?;
    let facts = Facts::of(db, viewer, &runs).await?;
    Ok(runs.iter().map(|run| (run.id, facts.findings(run))).collect())
}

/// Facts that the findings about some runs are derived from, next to their rows.
struct Facts {
    stuck: HashMap<RunId, Vec<stuck_work::Model>>,
    changed: HashMap<RunId, Vec<String>>,
    recipients: ReasonsOf<Outcome>,
    steps: ReasonsOf<StepStatus>,
    /// Start of the channel's pause, time of the next attempt, and the error.
    pause: Option<(DateTime<Utc>, DateTime<Utc>, String)>,
    counts: HashMap<RunId, Counts>,
}

impl Facts {
    async fn of(db: &Db, viewer: &Viewer, runs: &[Model]) -> Result<Self> {
        let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
        let mut stuck: HashMap<RunId, Vec<stuck_work::Model>> = HashMap::new();
        for row in stuck::of_runs(db.read(), viewer.org_id, &ids).await? {
            if let Some(run) = row.run_id {
                stuck.entry(run).or_default().push(row);
            }
        }
        Ok(Self {
            stuck,
            changed: drift::of_runs(db, viewer, runs).await?,
            recipients: grouped::recipients(db, &ids).await?,
            steps: grouped::steps(db, &ids).await?,
            pause: step_waits::channels(db).await?.remove(&Channel::Email).and_then(|one| one.paused),
            counts: counts::of_runs(db, &ids).await?,
        })
    }

    fn findings(&self, run: &Model) -> Vec<Finding> {
        let mut list = FindingList::new(run);
        if let Some(why) = run.failure.as_ref().filter(|_| run.status == RunStatus::Failed) {
            list.add(FindingCode::Failure, why.clone());
        }
        for row in self.stuck.get(&run.id).into_iter().flatten() {
            let message = format!(
                "its {} failed {} times in a row since {}: {}",
                row.work.to_string().to_lowercase(),
                row.failures,
                row.since.to_rfc3339(),
                row.error
            );
            list.add(FindingCode::Stuck, message);
        }
        timing(run, &mut list);
        if let Some(fields) = self.changed.get(&run.id) {
            let fields = fields.join(", ");
            let message = format!("the campaign has changed since: {fields}; the run still uses its snapshot");
            list.add(FindingCode::Drift, message);
        }
        self.recipients(run, &mut list);
        self.steps(run, &mut list);
        if let Some(counts) = self.counts.get(&run.id) {
            if run.status.is_open() || run.in_flight > 0 {
                self.sending(counts, &mut list);
            }
            numbers(counts, &mut list);
        }
        list.into_all()
    }

    /// Adds recipients that were not reached: counts by reason, and some examples.
    fn recipients(&self, run: &Model, list: &mut FindingList<'_>) {
        for (outcome, code, description) in [
            (Outcome::Failed, FindingCode::Failed, "failed"),
            (Outcome::Suppressed, FindingCode::Suppressed, "suppressed"),
            (Outcome::Skipped, FindingCode::LeftOut, "skipped"),
        ] {
            let Some(reasons) = self.recipients.get(&(run.id, outcome)) else { continue };
            for group in &reasons.groups {
                let message = format!("{} {description}: {}", group.count, why(group));
                list.add_count(code, group.count, message, &group.some);
            }
            if reasons.others > 0 {
                let message = format!("{} more {description}, for other reasons", reasons.others);
                list.add_count(code, reasons.others, message, &[]);
            }
        }
    }

    /// Adds steps that failed, or whose condition could not be evaluated.
    fn steps(&self, run: &Model, list: &mut FindingList<'_>) {
        for (status, code, description) in [
            (StepStatus::Skipped, FindingCode::ConditionUnreadable, "skipped"),
            (StepStatus::Failed, FindingCode::StepsFailed, "failed"),
        ] {
            for group in self.steps.get(&(run.id, status)).into_iter().flat_map(|reasons| &reasons.groups) {
                let message = format!("{}: {} {description}: {}", group.name, group.count, why(group));
                list.add_count(code, group.count, message, &group.some);
            }
        }
    }

    /// Adds reasons that hold up the run's messages.
    fn sending(&self, counts: &Counts, list: &mut FindingList<'_>) {
        if let Some((since, next, why)) = self.pause.as_ref().filter(|_| counts.approved > 0) {
            let message = format!(
                "{} messages wait: the channel is paused since {}, the next is tried at {}: {why}",
                counts.approved,
                since.to_rfc3339(),
                next.to_rfc3339()
            );
            list.add_count(FindingCode::ChannelPaused, counts.approved, message, &[]);
        }
        let refused = &counts.refused;
        if refused.count > 0 {
            let some: Vec<RecordId> = refused.record.into_iter().collect();
            let why = refused.why.as_deref().unwrap_or_default();
            let message = format!("{} messages were refused for now and are retried: {why}", refused.count);
            list.add_count(FindingCode::RefusedForNow, refused.count, message, &some);
        }
    }
}

fn why(group: &ReasonGroup) -> &str {
    group.why.as_deref().unwrap_or("no reason recorded")
}

fn timing(run: &Model, list: &mut FindingList<'_>) {
    match (run.status, run.scheduled_for, run.queued_at) {
        (RunStatus::Scheduled, Some(at), _) => {
            let message = format!("it has not begun: it is scheduled for {}", at.to_rfc3339());
            list.add(FindingCode::Scheduled, message);
        }
        (_, Some(at), Some(queued)) if queued - at > chrono::Duration::minutes(1) => {
            let message = format!("it was queued {} minutes after its time", (queued - at).num_minutes());
            list.add(FindingCode::Late, message);
        }
        _ => {}
    }
    if run.status == RunStatus::Queued {
        list.add(FindingCode::Queued, "it has not begun: it is queued");
    }
}

/// Adds what happened to the run's drafts, messages, replies and steps.
fn numbers(counts: &Counts, list: &mut FindingList<'_>) {
    for (code, count, description) in [
        (FindingCode::Rejected, counts.rejected, "drafts were rejected by the reviewer"),
        (FindingCode::Edited, counts.edited, "drafts were changed by hand"),
        (FindingCode::Unknown, counts.unknown, "messages may or may not have been sent: resolve them"),
        (FindingCode::Replies, counts.replies, "replies were received"),
        (FindingCode::RepliesOpen, counts.open_replies, "replies are not handled yet"),
        (FindingCode::Retried, counts.retried, "steps failed at least once and were retried or given up"),
    ] {
        if count > 0 {
            list.add_count(code, count, format!("{count} {description}"), &[]);
        }
    }
}
