//! Checks the log: no gaps; each change is a transition of its state machine and follows from the
//! one before it; folding the events gives the rows.

use std::collections::HashMap;

use entity::id::{Id, prefix_of};
use entity::schedule::ScheduleStatus;
use entity::{
    ActorKind, BulkStatus, CampaignStatus, CommunicationStatus, FollowUpStatus, MeetingStatus, PhaseStatus,
    ReplyStatus, RunStatus, StateMachine, StepStatus, TaskStatus, event, event_counter,
};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;
use uuid::Uuid;

use super::{CheckedSnapshot, Violations};
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::Result;
use crate::kernel::event::kinds;

/// A noun with a state machine, whose events carry its status.
struct Noun {
    /// Table name, and prefix of the event kinds.
    name: &'static str,
    /// The event's column of its id, as an index into `ids`, or the key in the payload.
    id_source: IdSource,
    /// Status of a row without events; empty if every row has some.
    initial: &'static str,
    /// True if its state machine has a transition between two statuses.
    is_transition: fn(&str, &str) -> bool,
    /// True for the name of one of its statuses.
    is_status: fn(&str) -> bool,
}

#[derive(Clone, Copy)]
enum IdSource {
    Column(usize),
    Payload(&'static str),
}

const NOUNS: [Noun; 11] = [
    Noun {
        name: "campaign",
        id_source: IdSource::Column(0),
        initial: "DRAFT",
        is_transition: is_transition::<CampaignStatus>,
        is_status: is_status::<CampaignStatus>,
    },
    Noun {
        name: "run",
        id_source: IdSource::Column(1),
        initial: "",
        is_transition: is_transition::<RunStatus>,
        is_status: is_status::<RunStatus>,
    },
    Noun {
        name: "phase",
        id_source: IdSource::Column(2),
        initial: "PENDING",
        is_transition: is_transition::<PhaseStatus>,
        is_status: is_status::<PhaseStatus>,
    },
    // Derived: any status may follow any other.
    Noun {
        name: "task",
        id_source: IdSource::Column(3),
        initial: "PENDING",
        is_transition: are_values::<TaskStatus>,
        is_status: is_status::<TaskStatus>,
    },
    Noun {
        name: "step",
        id_source: IdSource::Column(4),
        initial: "PENDING",
        is_transition: is_transition::<StepStatus>,
        is_status: is_status::<StepStatus>,
    },
    Noun {
        name: "communication",
        id_source: IdSource::Payload("communicationId"),
        initial: "",
        is_transition: is_transition::<CommunicationStatus>,
        is_status: is_status::<CommunicationStatus>,
    },
    Noun {
        name: "schedule",
        id_source: IdSource::Payload("scheduleId"),
        initial: "",
        is_transition: is_transition::<ScheduleStatus>,
        is_status: is_status::<ScheduleStatus>,
    },
    Noun {
        name: "meeting",
        id_source: IdSource::Payload("meetingId"),
        initial: "",
        is_transition: is_transition::<MeetingStatus>,
        is_status: is_status::<MeetingStatus>,
    },
    Noun {
        name: "follow_up",
        id_source: IdSource::Payload("followUpId"),
        initial: "",
        is_transition: is_transition::<FollowUpStatus>,
        is_status: is_status::<FollowUpStatus>,
    },
    Noun {
        name: "bulk_action",
        id_source: IdSource::Payload("bulkActionId"),
        initial: "",
        is_transition: is_transition::<BulkStatus>,
        is_status: is_status::<BulkStatus>,
    },
    Noun {
        name: "reply",
        id_source: IdSource::Payload("replyId"),
        initial: "OPEN",
        is_transition: is_transition::<ReplyStatus>,
        is_status: is_status::<ReplyStatus>,
    },
];

struct Fold {
    kinds: Violations,
    transitions: Violations,
    follows: Violations,
    after_cancel: Violations,
    status: HashMap<(usize, Uuid), String>,
    attempts: HashMap<Uuid, i64>,
    cancelled: std::collections::HashSet<Uuid>,
}

pub(super) async fn check(snapshot: &CheckedSnapshot) -> Result<Vec<Violations>> {
    let mut fold = Fold {
        kinds: Violations::new("the kind of each event is one that exists, and names the status that it says"),
        transitions: Violations::new("every change of status is a transition of its state machine"),
        follows: Violations::new("every change follows from the one before it"),
        after_cancel: Violations::new("no message is reserved after its run was cancelled"),
        status: HashMap::new(),
        attempts: HashMap::new(),
        cancelled: std::collections::HashSet::new(),
    };
    for org in event_counter::Entity::find().all(&snapshot.tx).await? {
        let mut after = 0;
        loop {
            let chunk = event::Entity::find()
                .filter(event::COLUMN.org_id.eq(org.org_id))
                .filter(event::COLUMN.position.gt(after))
                .order_by_asc(event::COLUMN.position)
                .limit(10_000)
                .all(&snapshot.tx)
                .await?;
            let Some(last) = chunk.last() else { break };
            after = last.position;
            chunk
                .iter()
                .filter(|event| !is_seeded(event))
                .for_each(|event| fold.take(snapshot, &event.kind, ids(event), &event.payload.value()));
        }
    }
    // On Postgres, events without a position come after those with one.
    if snapshot.dialect == Dialect::Postgres {
        let sql = "SELECT kind, campaign_id, run_id, phase_id, task_id, step_id, payload FROM event WHERE position IS NULL ORDER BY sequence";
        for row in snapshot.all(sql).await? {
            let mut found = [None; 5];
            for (i, id) in found.iter_mut().enumerate() {
                *id = row.try_get_by_index(i + 1)?;
            }
            fold.take(snapshot, &row.try_get_by_index::<String>(0)?, found, &row.try_get_by_index(6)?);
        }
    }
    let mut all = vec![gapless(snapshot).await?, fold.kinds.clone(), fold.transitions.clone(), fold.follows.clone()];
    all.push(fold.after_cancel.clone());
    all.push(fold.rows(snapshot).await?);
    all.push(fold.attempts(snapshot).await?);
    Ok(all)
}

fn is_seeded(event: &event::Model) -> bool {
    event.actor.kind == ActorKind::Engine && event.actor.name == crate::app::seed::ACTOR
}

fn ids(event: &event::Model) -> [Option<Uuid>; 5] {
    [
        event.campaign_id.map(Id::uuid),
        event.run_id.map(Id::uuid),
        event.phase_id.map(Id::uuid),
        event.task_id.map(Id::uuid),
        event.step_id.map(Id::uuid),
    ]
}

impl Fold {
    fn take(&mut self, snapshot: &CheckedSnapshot, kind: &str, ids: [Option<Uuid>; 5], payload: &Value) {
        let (noun, what) = kind.split_once('.').unwrap_or_default();
        self.kinds.record(kinds::may_come(kind), || format!("{kind} is no kind of event"));
        let Some(index) = NOUNS.iter().position(|known| known.name == noun) else { return };
        // Seeded rows are not checked: later changes to them follow from events that do not exist.
        let of = match noun {
            "campaign" => ids[0],
            "schedule" | "bulk_action" => None,
            _ => ids[1],
        };
        if of.is_some_and(|id| snapshot.seeded.contains(&id)) {
            return;
        }
        // The row was deleted with it.
        if what == "deleted" {
            if let Some((_, id)) = payload["id"].as_str().and_then(prefix_of) {
                self.status.remove(&(index, id));
            }
            return;
        }
        let Some(to) = payload["to"].as_str() else { return };
        let id = match NOUNS[index].id_source {
            IdSource::Column(column) => ids[column],
            IdSource::Payload(key) => payload[key].as_str().and_then(prefix_of).map(|(_, id)| id),
        };
        let Some(id) = id else { return };
        let named = what.to_uppercase();
        self.kinds
            .record(named == to || !(NOUNS[index].is_status)(&named), || format!("{kind} of {noun} {id} says {to}"));
        let from = payload["from"].as_str();
        self.transitions.record(from.is_none_or(|from| (NOUNS[index].is_transition)(from, to)), || {
            format!("{kind} of {noun} {id}: {} → {to}", from.unwrap_or("nothing"))
        });
        let before = self.status.insert((index, id), to.to_owned());
        if let Some(before) = before {
            self.follows.record(Some(before.as_str()) == from, || {
                format!("{kind} of {noun} {id}: from {from:?}, but it was {before}")
            });
        }
        match kind {
            "step.started" => *self.attempts.entry(id).or_default() += 1,
            "run.cancelled" => drop(self.cancelled.insert(id)),
            "communication.sending" => {
                let run = ids[1].unwrap_or_default();
                self.after_cancel.record(!self.cancelled.contains(&run), || format!("communication {id} of run {run}"));
            }
            _ => {}
        }
    }

    /// Compares the folded events with the rows, in both directions; a row without events has its
    /// initial status.
    async fn rows(&self, snapshot: &CheckedSnapshot) -> Result<Violations> {
        let mut found = Violations::new("folding the log gives the status of every row");
        let mut rows = 0;
        for (index, Noun { name: noun, initial, .. }) in NOUNS.iter().enumerate() {
            let of = if matches!(*noun, "campaign" | "run" | "schedule" | "bulk_action") { "id" } else { "run_id" };
            // Replies from before they had a status got theirs by a migration, without an event.
            let among = if *noun == "reply" { " WHERE status = 'OPEN' OR revision > 1" } else { "" };
            for row in snapshot.all(&format!("SELECT id, status, {of} FROM {noun}{among}")).await? {
                if snapshot.has_seeded(&row, 2)? {
                    continue;
                }
                let (id, status) = (row.try_get_by_index::<Uuid>(0)?, row.try_get_by_index::<String>(1)?);
                let folded = self.status.get(&(index, id));
                rows += usize::from(folded.is_some());
                let expected = folded.map_or(*initial, String::as_str);
                found.record(expected == status, || format!("{noun} {id} is {status}, its events say `{expected}`"));
            }
        }
        found.record(rows == self.status.len(), || {
            format!("{} rows with events in the log are missing", self.status.len() - rows)
        });
        Ok(found)
    }

    async fn attempts(&self, snapshot: &CheckedSnapshot) -> Result<Violations> {
        let mut found = Violations::new("attempts of a step are counted 1..k, one started for each");
        for row in snapshot.all("SELECT id, attempt_count, run_id FROM step").await? {
            if snapshot.has_seeded(&row, 2)? {
                continue;
            }
            let (id, count) = (row.try_get_by_index::<Uuid>(0)?, i64::from(row.try_get_by_index::<i32>(1)?));
            let started = self.attempts.get(&id).copied().unwrap_or(0);
            found.record(started == count, || format!("step {id}: {count} attempts, {started} started in the log"));
        }
        Ok(found)
    }
}

async fn gapless(snapshot: &CheckedSnapshot) -> Result<Violations> {
    let mut found = Violations::new("positions of each org run 1..n without a gap, n being its counter");
    let sql = "SELECT c.org_id, c.position, (SELECT COUNT(*) FROM event e WHERE e.org_id = c.org_id AND e.position IS NOT NULL), \
               (SELECT COALESCE(MAX(e.position), 0) FROM event e WHERE e.org_id = c.org_id), \
               (SELECT COUNT(DISTINCT e.position) FROM event e WHERE e.org_id = c.org_id) FROM event_counter c";
    for row in snapshot.all(sql).await? {
        let id: Uuid = row.try_get_by_index(0)?;
        let mut numbers = [0_i64; 4];
        for (i, number) in numbers.iter_mut().enumerate() {
            *number = row.try_get_by_index(i + 1)?;
        }
        let [counter, count, newest, distinct] = numbers;
        found.record(counter == count && count == newest && newest == distinct, || {
            format!("org {id}: counter {counter}, {count} events, newest {newest}, {distinct} distinct")
        });
        // Each event counts as one check.
        found.looked_at += u64::try_from(count).unwrap_or(0);
    }
    Ok(found)
}

/// True if both are values of a status.
fn are_values<L: ActiveEnum<Value = String>>(from: &str, to: &str) -> bool {
    is_status::<L>(from) && is_status::<L>(to)
}

/// True for a value of a status.
fn is_status<L: ActiveEnum<Value = String>>(word: &str) -> bool {
    L::try_from_value(&word.to_owned()).is_ok()
}

fn is_transition<L: StateMachine + ActiveEnum<Value = String>>(from: &str, to: &str) -> bool {
    // Drafting a message is recorded as a change from DRAFT to DRAFT, which is the transition of an
    // edit.
    match (L::try_from_value(&from.to_owned()), L::try_from_value(&to.to_owned())) {
        (Ok(from), Ok(to)) => L::TRANSITIONS.iter().any(|act| from.next(*act) == Some(to)),
        _ => false,
    }
}
