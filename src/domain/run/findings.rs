//! Findings: explain why a run behaved as it did, from its rows and its campaign's.

mod grouped;

use async_graphql::{Enum, ID, SimpleObject};
use entity::communication::{self, CommunicationStatus};
use entity::id::RecordId;
use entity::run::Model;
use entity::run_record::Outcome;
use entity::{Channel, ReplyStatus, RunStatus, step};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};

use super::waiting::step_waits;
use crate::domain::message::reply;
use crate::domain::plan::campaign_snapshot::{CampaignParts, CampaignSnapshot};
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::stuck;
use crate::kernel::viewer::Viewer;
use grouped::ReasonGroup;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum FindingSeverity {
    /// Information.
    Info,
    /// Something deviated from the plan.
    Warning,
    /// Something failed.
    Error,
}

/// One explanation of a run's behaviour.
#[derive(Clone, Debug, SimpleObject)]
pub struct Finding {
    /// Machine-readable code: FAILURE (the cause of the run's failure), FAILED (recipients),
    /// STEPS_FAILED, CONDITION_UNREADABLE, SUPPRESSED, LEFT_OUT, UNKNOWN, STUCK, CHANNEL_PAUSED,
    /// REFUSED_FOR_NOW, SCHEDULED, LATE, QUEUED, DRIFT, REJECTED, EDITED, RETRIED, REPLIES,
    /// REPLIES_OPEN.
    pub code: &'static str,
    /// Severity.
    pub severity: FindingSeverity,
    /// Sentence for people.
    pub message: String,
    /// Number of recipients, steps, messages or replies concerned; null if the finding is about the
    /// run.
    pub count: Option<i64>,
    /// Up to five of the records concerned; empty if there are none.
    pub record_ids: Vec<ID>,
}

impl Finding {
    fn of_run(code: &'static str, severity: FindingSeverity, message: String) -> Self {
        Self { code, severity, message, count: None, record_ids: Vec::new() }
    }

    fn of_many(code: &'static str, severity: FindingSeverity, message: String, count: i64, ids: &[RecordId]) -> Self {
        let record_ids = ids.iter().map(|id| ID::from(id.to_string())).collect();
        Self { code, severity, message, count: Some(count), record_ids }
    }
}

/// Returns the findings about a run; empty if everything went as expected.
pub async fn findings(db: &Db, viewer: &Viewer, run: &Model) -> Result<Vec<Finding>> {
    use FindingSeverity::{Error, Info, Warning};
    let mut all = Vec::new();
    if let Some(why) = run.failure.as_ref().filter(|_| run.status == RunStatus::Failed) {
        all.push(Finding::of_run("FAILURE", Error, why.clone()));
    }
    for row in stuck::of_runs(db.read(), viewer.org_id, &[run.id]).await? {
        let message = format!(
            "its {} failed {} times in a row since {}: {}",
            row.work.to_string().to_lowercase(),
            row.failures,
            row.since.to_rfc3339(),
            row.error
        );
        all.push(Finding::of_run("STUCK", Error, message));
    }
    timing(run, &mut all);
    drift(db, viewer, run, &mut all).await?;
    recipients(db, run, &mut all).await?;
    sending(db, run, &mut all).await?;
    let messages = || {
        communication::Entity::find()
            .filter(communication::COLUMN.org_id.eq(viewer.org_id))
            .filter(communication::COLUMN.run_id.eq(run.id))
    };
    let of = |status| messages().filter(communication::COLUMN.status.eq(status)).count(db.read());
    let replies = |statuses| reply::Filter {
        run_ids: Some(vec![run.id.to_string().into()]),
        statuses,
        ..reply::Filter::default()
    };
    let open = replies(Some(vec![ReplyStatus::Open]));
    for (code, severity, count, description) in [
        ("REJECTED", Warning, of(CommunicationStatus::Rejected).await?, "drafts were rejected by the reviewer"),
        (
            "EDITED",
            Info,
            messages().filter(communication::Column::EditedBy.is_not_null()).count(db.read()).await?,
            "drafts were changed by hand",
        ),
        (
            "UNKNOWN",
            Warning,
            of(CommunicationStatus::Unknown).await?,
            "messages may or may not have been sent: resolve them",
        ),
        ("REPLIES", Info, reply::count(db, viewer, &replies(None)).await?, "replies were received"),
        ("REPLIES_OPEN", Warning, reply::count(db, viewer, &open).await?, "replies are not handled yet"),
        (
            "RETRIED",
            Info,
            step::Entity::find()
                .filter(step::COLUMN.org_id.eq(viewer.org_id))
                .filter(step::COLUMN.run_id.eq(run.id))
                .filter(step::COLUMN.failure_count.gt(0))
                .count(db.read())
                .await?,
            "steps failed at least once and were retried or given up",
        ),
    ] {
        if count > 0 {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            all.push(Finding::of_many(code, severity, format!("{count} {description}"), count, &[]));
        }
    }
    Ok(all)
}

async fn drift(db: &Db, viewer: &Viewer, run: &Model, all: &mut Vec<Finding>) -> Result<()> {
    let snapshot = super::snapshot::of(db.read(), run).await?;
    let campaign = super::campaign_of(db.read(), viewer, run).await?;
    let (Some(launched_with), Some(campaign)) = (&snapshot.instructions, campaign) else { return Ok(()) };
    let parts = CampaignParts::of(db.read(), viewer, campaign).await?;
    let drift = launched_with.drift(&CampaignSnapshot::of(&parts))?;
    let mut fields: Vec<String> = drift.into_iter().map(|(field, _, _)| field).collect();
    if snapshot.definition != parts.resolved.definition {
        fields.push("definition".into());
    }
    if !fields.is_empty() {
        let message = format!("the campaign has changed since: {}; the run still uses its snapshot", fields.join(", "));
        all.push(Finding::of_run("DRIFT", FindingSeverity::Info, message));
    }
    Ok(())
}

/// Adds recipients that were not reached, and failed steps: counts by reason, and some examples.
async fn recipients(db: &Db, run: &Model, all: &mut Vec<Finding>) -> Result<()> {
    let recipients = grouped::recipients(db, run.id).await?;
    for (outcome, code, severity, description) in [
        (Outcome::Failed, "FAILED", FindingSeverity::Error, "failed"),
        (Outcome::Suppressed, "SUPPRESSED", FindingSeverity::Warning, "suppressed"),
        (Outcome::Skipped, "LEFT_OUT", FindingSeverity::Warning, "skipped"),
    ] {
        let groups: Vec<&(Outcome, ReasonGroup)> = recipients.groups.iter().filter(|(of, _)| *of == outcome).collect();
        for (_, group) in &groups {
            let why = group.why.as_deref().unwrap_or("no reason recorded");
            all.push(Finding::of_many(
                code,
                severity,
                format!("{} {description}: {why}", group.count),
                group.count,
                &group.some,
            ));
        }
        let total = recipients.totals.iter().find(|(of, _)| *of == outcome).map_or(0, |(_, count)| *count);
        let others = total - groups.iter().map(|(_, group)| group.count).sum::<i64>();
        if others > 0 {
            let message = format!("{others} more {description}, for other reasons");
            all.push(Finding::of_many(code, severity, message, others, &[]));
        }
    }
    for (name, group) in grouped::unreadable_conditions(db, run.id).await? {
        let message =
            format!("{name}: {} skipped: {}", group.count, group.why.as_deref().unwrap_or("no reason recorded"));
        let code = "CONDITION_UNREADABLE";
        all.push(Finding::of_many(code, FindingSeverity::Warning, message, group.count, &group.some));
    }
    for (name, group) in grouped::failed_steps(db, run.id).await? {
        let message =
            format!("{name}: {} failed: {}", group.count, group.why.as_deref().unwrap_or("no reason recorded"));
        all.push(Finding::of_many("STEPS_FAILED", FindingSeverity::Error, message, group.count, &group.some));
    }
    Ok(())
}

/// Adds reasons that hold up the run's messages.
async fn sending(db: &Db, run: &Model, all: &mut Vec<Finding>) -> Result<()> {
    if !run.status.is_open() && run.in_flight == 0 {
        return Ok(());
    }
    let waiting = || {
        communication::Entity::find()
            .filter(communication::COLUMN.run_id.eq(run.id))
            .filter(communication::COLUMN.status.eq(CommunicationStatus::Approved))
    };
    let counted = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    if let Some((since, next, why)) = step_waits::channels(db).await?.remove(&Channel::Email).and_then(|one| one.paused)
    {
        let count = counted(waiting().count(db.read()).await?);
        if count > 0 {
            let message = format!(
                "{count} messages wait: the channel is paused since {}, the next is tried at {}: {why}",
                since.to_rfc3339(),
                next.to_rfc3339()
            );
            all.push(Finding::of_many("CHANNEL_PAUSED", FindingSeverity::Warning, message, count, &[]));
        }
    }
    let deferred = || waiting().filter(communication::COLUMN.refusals.gt(0));
    let count = counted(deferred().count(db.read()).await?);
    if count > 0 {
        let some = deferred().order_by_asc(communication::COLUMN.id).one(db.read()).await?;
        let why = some.as_ref().and_then(|row| row.error.clone()).unwrap_or_default();
        let ids: Vec<RecordId> = some.into_iter().filter_map(|row| row.record_id).collect();
        let message = format!("{count} messages were refused for now and are retried: {why}");
        all.push(Finding::of_many("REFUSED_FOR_NOW", FindingSeverity::Warning, message, count, &ids));
    }
    Ok(())
}

fn timing(run: &Model, all: &mut Vec<Finding>) {
    let mut add = |code, severity, message| all.push(Finding::of_run(code, severity, message));
    match (run.status, run.scheduled_for, run.queued_at) {
        (RunStatus::Scheduled, Some(at), _) => {
            let message = format!("it has not begun: it is scheduled for {}", at.to_rfc3339());
            add("SCHEDULED", FindingSeverity::Info, message);
        }
        (_, Some(at), Some(queued)) if queued - at > chrono::Duration::minutes(1) => {
            let message = format!("it was queued {} minutes after its time", (queued - at).num_minutes());
            add("LATE", FindingSeverity::Warning, message);
        }
        _ => {}
    }
    if run.status == RunStatus::Queued {
        add("QUEUED", FindingSeverity::Info, "it has not begun: it is queued".into());
    }
}
