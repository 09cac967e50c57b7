//! Why a run behaved as it did: plain answers from its rows and its campaign's.

use async_graphql::SimpleObject;
use entity::communication::{self, CommunicationStatus};
use entity::run::Model;
use entity::run_record::{self, Outcome};
use entity::{RunStatus, step};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};

use crate::db::Db;
use crate::error::Result;
use crate::instructions::{Instructions, Parts};
use crate::viewer::Viewer;

/// One answer.
#[derive(Debug, SimpleObject)]
pub struct Finding {
    /// A word for programs: SCHEDULED, LATE, QUEUED, DRIFT, LEFT_OUT, REJECTED, EDITED, RETRIED, UNKNOWN, REPLIES.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// What there is to say; nothing, where all went as one would think.
pub async fn findings(db: &Db, viewer: &Viewer, run: &Model) -> Result<Vec<Finding>> {
    let mut all = Vec::new();
    let mut say = |code, message: String| all.push(Finding { code, message });
    timing(run, &mut say);
    let brief = super::brief::of(db.read(), run).await?;
    let campaign = super::campaign_of(db.read(), viewer, run).await?;
    if let (Some(told), Some(campaign)) = (&brief.instructions, campaign) {
        let parts = Parts::of(db.read(), viewer, campaign).await?;
        let drift = told.drift(&Instructions::of(&parts))?;
        let mut fields: Vec<String> = drift.into_iter().map(|(field, _, _)| field).collect();
        if brief.definition != parts.resolved.definition {
            fields.push("definition".into());
        }
        if !fields.is_empty() {
            say(
                "DRIFT",
                format!("the campaign has changed since: {}; the run kept what it was told", fields.join(", ")),
            );
        }
    }
    let left_out: Vec<(Option<String>, i64)> = run_record::Entity::find()
        .filter(run_record::COLUMN.org_id.eq(viewer.org_id))
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.eq(Outcome::Skipped))
        .select_only()
        .column(run_record::Column::Reason)
        .column_as(run_record::Column::Id.count(), "count")
        .group_by(run_record::Column::Reason)
        .into_tuple()
        .all(db.read())
        .await?;
    for (reason, count) in left_out {
        say("LEFT_OUT", format!("{count} left out: {}", reason.as_deref().unwrap_or("no reason was kept")));
    }
    let messages = || {
        communication::Entity::find()
            .filter(communication::COLUMN.org_id.eq(viewer.org_id))
            .filter(communication::COLUMN.run_id.eq(run.id))
    };
    let of = |status| messages().filter(communication::COLUMN.status.eq(status)).count(db.read());
    for (code, count, what) in [
        ("REJECTED", of(CommunicationStatus::Rejected).await?, "drafts were rejected by the reviewer"),
        (
            "EDITED",
            messages().filter(communication::Column::EditedBy.is_not_null()).count(db.read()).await?,
            "drafts were changed by hand",
        ),
        (
            "UNKNOWN",
            of(CommunicationStatus::Unknown).await?,
            "messages may or may not have gone out; somebody has to say",
        ),
        (
            "REPLIES",
            crate::reply::count(db, viewer, crate::reply::Filter { run_id: Some(run.id), ..Default::default() })
                .await?,
            "replies came back",
        ),
        (
            "RETRIED",
            step::Entity::find()
                .filter(step::COLUMN.org_id.eq(viewer.org_id))
                .filter(step::COLUMN.run_id.eq(run.id))
                .filter(step::COLUMN.failure_count.gt(0))
                .count(db.read())
                .await?,
            "steps failed at least once and were tried again or given up",
        ),
    ] {
        if count > 0 {
            say(code, format!("{count} {what}"));
        }
    }
    Ok(all)
}

fn timing(run: &Model, say: &mut impl FnMut(&'static str, String)) {
    match (run.status, run.scheduled_for, run.queued_at) {
        (RunStatus::Scheduled, Some(at), _) => {
            say("SCHEDULED", format!("it has not begun: it is scheduled for {}", at.to_rfc3339()))
        }
        (_, Some(at), Some(queued)) if queued - at > chrono::Duration::minutes(1) => {
            say("LATE", format!("it was queued {} minutes after its time", (queued - at).num_minutes()));
        }
        _ => {}
    }
    if run.status == RunStatus::Queued {
        say("QUEUED", "it has not begun: it is queued".into());
    }
}
