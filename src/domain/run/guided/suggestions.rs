//! What a step of guided work would do with each of its records: the draft of a mail, the next stage, a free slot, a
//! follow-up. Nothing is done; a person takes it up or not.

use chrono::{DateTime, Duration, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use entity::{MeetingStatus, meeting, message_template, record};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::Map;

use crate::domain::audience::stage;
use crate::domain::audience::stage::Pipeline;
use crate::domain::content::templating::{self, Source};
use crate::domain::plan::run_template::guided::{CREATE_TASK, EMAIL, GuidedConfig, SCHEDULE, UPDATE_STAGE};
use crate::kernel::budget::{self, EvaluationPool};
use crate::kernel::db::Db;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

/// A mail that could be sent.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where it would go; none: the record has no address.
    pub to: Option<String>,
    /// Its subject; empty where it can't be rendered.
    pub subject: String,
    /// Its text; empty where it can't be rendered.
    pub body: String,
    /// Why it can't go as it is; none where it can.
    pub problem: Option<String>,
}

/// What a step would do with a record.
#[derive(Clone, Debug, Default)]
pub struct Suggestion {
    /// Of `email`: the draft.
    pub mail: Option<Draft>,
    /// Of `update_stage`: the stage.
    pub stage: Option<String>,
    /// Of `schedule`: a time in which neither who asks nor the record has a meeting.
    pub slot: Option<(DateTime<Utc>, DateTime<Utc>, Tz)>,
    /// Of `schedule` and `create_task`: what it would be called.
    pub title: Option<String>,
    /// Of `create_task`: by when.
    pub due_at: Option<DateTime<Utc>>,
}

/// For each record, in order.
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
            for (one, draft) in all.iter_mut().zip(drafts(&source, records).await?) {
                one.mail = Some(draft);
            }
        }
        UPDATE_STAGE => {
            let pipelines = stage::all(db.read(), viewer).await?;
            for (one, record) in all.iter_mut().zip(records) {
                one.stage = next(&pipelines, guide, record);
            }
        }
        SCHEDULE => {
            let slots = slots(db, viewer, guide, records).await?;
            let titles = titles(guide, records).await?;
            for ((one, title), slot) in all.iter_mut().zip(titles).zip(slots) {
                (one.title, one.slot) = (Some(title), slot);
            }
        }
        CREATE_TASK => {
            for (one, title) in all.iter_mut().zip(titles(guide, records).await?) {
                one.title = Some(title);
                one.due_at = guide.due_in.map(|span| crate::kernel::storable::after(db.now(), span.chrono()));
            }
        }
        _ => {}
    }
    Ok(all)
}

/// What each would be called; by the record's name where the title does not render.
async fn titles(guide: &GuidedConfig, records: &[record::Model]) -> Result<Vec<String>> {
    let source = guide.title.clone().unwrap_or_else(|| "{{ name }}".into());
    let all: Vec<_> = records.iter().map(|record| (record.name.clone(), templating::values(Some(record)))).collect();
    budget::run(EvaluationPool::Asked, move |until| {
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

/// What a step writes from: subject and body, or the org's template that it names. Errors: NOT_FOUND.
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

/// A mail's sources, with who writes it.
pub(crate) fn text(viewer: &Viewer, subject: Option<String>, body: String) -> Source {
    Source { subject, body, variables: Map::new(), campaign: String::new(), sender: viewer.actor.name.clone() }
}

/// A message template of the org, by id or name. Errors: NOT_FOUND; CONFLICT for one that is not for mail.
pub(crate) async fn template(db: &Db, viewer: &Viewer, named: &str) -> Result<message_template::Model> {
    let all = message_template::Entity::find().filter(message_template::COLUMN.org_id.eq(viewer.org_id));
    let all = match named.parse::<entity::id::MessageTemplateId>() {
        Ok(id) => all.filter(message_template::COLUMN.id.eq(id)),
        Err(_) => all.filter(message_template::COLUMN.name.eq(named)).order_by_asc(message_template::COLUMN.id),
    };
    let found =
        all.one(db.read()).await?.ok_or_else(|| Refusal::not_found("message template", validate::shown(named)))?;
    if found.channel == entity::Channel::Email {
        Ok(found)
    } else {
        Err(Refusal::conflict(format!("the message template {} is for {}", found.name, found.channel)).into())
    }
}

/// What would be written to each record; rendered off the async threads, within a time.
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

/// A free time for each record, in working hours of the next days, none twice: neither in a meeting of who asks, nor in one
/// of the record's.
async fn slots(
    db: &Db,
    viewer: &Viewer,
    guide: &GuidedConfig,
    records: &[record::Model],
) -> Result<Vec<Option<(DateTime<Utc>, DateTime<Utc>, Tz)>>> {
    let zone =
        guide.timezone.as_deref().map(|zone| validate::time_zone("timezone", zone)).transpose()?.unwrap_or(Tz::UTC);
    let (from, until) = guide.hours().map_err(crate::kernel::error::Error::ours)?;
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
                let mine = meeting.member_id.is_some() && meeting.member_id == viewer.member_id();
                let theirs = meeting.attendees.0.iter().any(|one| one.record_id == Some(record.id));
                (mine || theirs) && meeting.starts_at < end && start < meeting.ends_at
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
    /// The next time that is free, which is given to nobody else then.
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
