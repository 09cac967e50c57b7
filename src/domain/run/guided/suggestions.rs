//! Suggestions of a guided step for each of its records: a mail draft, the next stage, a free slot,
//! a follow-up. Nothing is changed; a person accepts a suggestion or not.

use chrono::{DateTime, Duration, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use entity::{MeetingStatus, meeting, message_template, record};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::Map;

use crate::domain::audience::stage;
use crate::domain::audience::stage::Pipeline;
use crate::domain::content::templating::{self, Source};
use crate::domain::plan::run_template::guided::{CREATE_TASK, EMAIL, GuidedConfig, SCHEDULE, UPDATE_STAGE};
use crate::kernel::budget;
use crate::kernel::db::Db;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

/// Mail draft.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Recipient address; none if the record has none.
    pub to: Option<String>,
    /// Subject; empty if it can't be rendered.
    pub subject: String,
    /// Body; empty if it can't be rendered.
    pub body: String,
    /// Problem that prevents sending; none if there is none.
    pub problem: Option<String>,
}

/// Suggestion for one record.
#[derive(Clone, Debug, Default)]
pub struct Suggestion {
    /// Mail draft; `email` steps only.
    pub mail: Option<Draft>,
    /// Stage; `update_stage` steps only.
    pub stage: Option<String>,
    /// Slot in which neither the viewer nor the record has a meeting; `schedule` steps only.
    pub slot: Option<(DateTime<Utc>, DateTime<Utc>, Tz)>,
    /// Title; `schedule` and `create_task` steps only.
    pub title: Option<String>,
    /// Due time; `create_task` steps only.
    pub due_at: Option<DateTime<Utc>>,
}

/// Returns the suggestions for the records, in their order.
pub async fn of(
    db: &Db,
    viewer: &Viewer,
    kind: &str,
    guide: &GuidedConfig,
    records: &[record::Model],
) -> Result<Vec<Suggestion>> {
    let mut all = vec![Suggestion::default(); records.len()];
    match kind {
        EMAIL => {
            let source = source(db, viewer, guide).await?;
            for (suggestion, draft) in all.iter_mut().zip(drafts(&source, records).await?) {
                suggestion.mail = Some(draft);
            }
        }
        UPDATE_STAGE => {
            let pipelines = stage::all(db.read(), viewer).await?;
            for (suggestion, record) in all.iter_mut().zip(records) {
                suggestion.stage = next(&pipelines, guide, record);
            }
        }
        SCHEDULE => {
            let slots = slots(db, viewer, guide, records).await?;
            let titles = titles(guide, records).await?;
            for ((suggestion, title), slot) in all.iter_mut().zip(titles).zip(slots) {
                (suggestion.title, suggestion.slot) = (Some(title), slot);
            }
        }
        CREATE_TASK => {
            for (suggestion, title) in all.iter_mut().zip(titles(guide, records).await?) {
                suggestion.title = Some(title);
                suggestion.due_at = guide.due_in.map(|span| crate::kernel::storable::after(db.now(), span.chrono()));
            }
        }
        _ => {}
    }
    Ok(all)
}

/// Renders the titles; falls back to the record's name.
async fn titles(guide: &GuidedConfig, records: &[record::Model]) -> Result<Vec<String>> {
    let source = guide.title.clone().unwrap_or_else(|| "{{ name }}".into());
    let all: Vec<_> = records.iter().map(|record| (record.name.clone(), templating::values(Some(record)))).collect();
    budget::run_here(move |until| {
        let title = |(name, values): (String, Map<String, serde_json::Value>)| {
            templating::text("title", &source, &values, until).unwrap_or(name)
        };
        all.into_iter().map(title).collect()
    })
    .await
}

fn next(pipelines: &[Pipeline], guide: &GuidedConfig, record: &record::Model) -> Option<String> {
    let to = match &guide.to {
        Some(to) => Some(to.clone()),
        None => {
            let pipeline = pipelines.iter().find(|pipeline| pipeline.kind == record.kind)?;
            pipeline.next(record.stage.as_deref()).map(str::to_owned)
        }
    };
    to.filter(|to| record.stage.as_ref() != Some(to))
}

/// Mail source of a step: its subject and body, or the org's template that it names. Errors:
/// NOT_FOUND.
pub(crate) async fn source(db: &Db, viewer: &Viewer, guide: &GuidedConfig) -> Result<Source> {
    let template = match &guide.message_template {
        Some(named) => Some(template(db, viewer, named).await?),
        None => None,
    };
    let (subject, body) = match template {
        Some(template) => (template.subject, template.body),
        None => (guide.subject.clone(), guide.body.clone().unwrap_or_default()),
    };
    Ok(text(viewer, subject, body))
}

/// Builds a mail source, with the viewer as the sender.
pub(crate) fn text(viewer: &Viewer, subject: Option<String>, body: String) -> Source {
    Source { subject, body, variables: Map::new(), campaign: String::new(), sender: viewer.actor.name.clone() }
}

/// Finds a message template of the org by id or name. Errors: NOT_FOUND; CONFLICT for one that is
/// not for mail.
pub(crate) async fn template(db: &Db, viewer: &Viewer, named: &str) -> Result<message_template::Model> {
    let all = message_template::Entity::find().filter(message_template::COLUMN.org_id.eq(viewer.org_id));
    let all = match named.parse::<entity::id::MessageTemplateId>() {
        Ok(id) => all.filter(message_template::COLUMN.id.eq(id)),
        Err(_) => all.filter(message_template::COLUMN.name.eq(named)).order_by_asc(message_template::COLUMN.id),
    };
    let found =
        all.one(db.read()).await?.ok_or_else(|| Refusal::not_found("message template", validate::printable(named)))?;
    if found.channel == entity::Channel::Email {
        Ok(found)
    } else {
        Err(Refusal::conflict(format!("the message template {} is for {}", found.name, found.channel)).into())
    }
}

/// Renders the mails to some records, on a blocking thread and within a time limit.
pub(crate) async fn drafts(source: &Source, records: &[record::Model]) -> Result<Vec<Draft>> {
    let values = records.iter().map(|record| templating::values(Some(record))).collect();
    let rendered = templating::render_all(source.clone(), values).await?;
    let each = records.iter().zip(rendered).map(|(record, message)| {
        let to = record.email.clone();
        let mut problem = to.is_none().then(|| "it has no mail address".to_owned());
        let message = match message {
            Ok(message) => message,
            Err(why) => {
                problem.get_or_insert(why);
                templating::Message { subject: None, body: String::new() }
            }
        };
        if problem.is_none() && message.subject.is_none() {
            problem = Some("it has no subject".into());
        }
        Draft { to, subject: message.subject.unwrap_or_default(), body: message.body, problem }
    });
    Ok(each.collect())
}

/// Finds a free slot for each record within working hours of the next days, none twice, with no
/// meeting of the viewer or the record.
async fn slots(
    db: &Db,
    viewer: &Viewer,
    guide: &GuidedConfig,
    records: &[record::Model],
) -> Result<Vec<Option<(DateTime<Utc>, DateTime<Utc>, Tz)>>> {
    let zone =
        guide.timezone.as_deref().map(|zone| validate::time_zone("timezone", zone)).transpose()?.unwrap_or(Tz::UTC);
    let (from, until) = guide.hours().map_err(crate::kernel::error::Error::internal)?;
    let length = Duration::minutes(guide.minutes.unwrap_or(30));
    let booked = meeting::Entity::find()
        .filter(meeting::COLUMN.org_id.eq(viewer.org_id))
        .filter(meeting::COLUMN.status.eq(MeetingStatus::Booked))
        .filter(meeting::COLUMN.starts_at.gte(db.now() - Duration::minutes(limits::MEETING_MINUTES)))
        .filter(meeting::COLUMN.starts_at.lt(db.now() + Duration::days(limits::SLOT_DAYS)))
        .all(db.read())
        .await?;
    let mut free = Free { zone, from, until, length, now: db.now(), given: Vec::new() };
    let each = records.iter().map(|record| {
        let busy = |start: DateTime<Utc>, end: DateTime<Utc>| {
            booked.iter().any(|meeting| {
                let is_viewers = meeting.member_id.is_some() && meeting.member_id == viewer.member_id();
                let is_attendee = meeting.attendees.0.iter().any(|one| one.record_id == Some(record.id));
                (is_viewers || is_attendee) && meeting.starts_at < end && start < meeting.ends_at
            })
        };
        free.next(busy).map(|(start, end)| (start, end, zone))
    });
    Ok(each.collect())
}

struct Free {
    zone: Tz,
    from: NaiveTime,
    until: NaiveTime,
    length: Duration,
    now: DateTime<Utc>,
    given: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

impl Free {
    /// Returns the next free slot and reserves it.
    fn next(&mut self, busy: impl Fn(DateTime<Utc>, DateTime<Utc>) -> bool) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let today = self.now.with_timezone(&self.zone).date_naive();
        for ahead in 0..limits::SLOT_DAYS {
            let day = today + Duration::days(ahead);
            let weekend = matches!(chrono::Datelike::weekday(&day), chrono::Weekday::Sat | chrono::Weekday::Sun);
            if weekend {
                continue;
            }
            let mut wall = day.and_time(self.from);
            while wall + self.length <= day.and_time(self.until) {
                let start = self.zone.from_local_datetime(&wall).earliest().map(|at| at.to_utc());
                wall += Duration::minutes(30);
                let Some(start) = start.filter(|start| *start > self.now) else { continue };
                let end = start + self.length;
                let taken = self.given.iter().any(|(from, to)| *from < end && start < *to);
                if !taken && !busy(start, end) {
                    self.given.push((start, end));
                    return Some((start, end));
                }
            }
        }
        None
    }
}
