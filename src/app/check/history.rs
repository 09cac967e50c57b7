//! The log: without gaps; each change an edge of its law, following from the one before; folded, it gives the rows.

use std::collections::HashMap;

use entity::id::{Id, prefix_of};
use entity::schedule::ScheduleStatus;
use entity::{
    ActorKind, CampaignStatus, CommunicationStatus, FollowUpStatus, MeetingStatus, PhaseStatus, RunStatus,
    StateMachine, StepStatus, TaskStatus, event, event_counter,
};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;
use uuid::Uuid;

use super::{CheckedSnapshot, Violations};
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::Result;

/// A noun with a state machine, whose events tell its status.
struct Noun {
    /// Its table, and what its events' kinds begin with.
    name: &'static str,
    /// The column of an event that names it, counted in `ids`; or the key of the payload.
    named: Named,
    /// The status of one that was never told of; none: such ones are not judged, for there were no events of them once.
    made: Option<&'static str>,
    /// Whether its law has an edge.
    edge: fn(&str, &str) -> bool,
}

#[derive(Clone, Copy)]
enum Named {
    Column(usize),
    Payload(&'static str),
}

const NOUNS: [Noun; 9] = [
    Noun { name: "campaign", named: Named::Column(0), made: Some("DRAFT"), edge: edge::<CampaignStatus> },
    Noun { name: "run", named: Named::Column(1), made: Some(""), edge: edge::<RunStatus> },
    Noun { name: "phase", named: Named::Column(2), made: Some("PENDING"), edge: edge::<PhaseStatus> },
    // Derived: any may follow any.
    Noun { name: "task", named: Named::Column(3), made: Some("PENDING"), edge: words::<TaskStatus> },
    Noun { name: "step", named: Named::Column(4), made: Some("PENDING"), edge: edge::<StepStatus> },
    Noun {
        name: "communication",
        named: Named::Payload("communicationId"),
        made: Some(""),
        edge: edge::<CommunicationStatus>,
    },
    Noun { name: "schedule", named: Named::Payload("scheduleId"), made: None, edge: edge::<ScheduleStatus> },
    Noun { name: "meeting", named: Named::Payload("meetingId"), made: None, edge: edge::<MeetingStatus> },
    Noun { name: "follow_up", named: Named::Payload("followUpId"), made: None, edge: edge::<FollowUpStatus> },
];

struct Fold {
    lawful: Violations,
    follows: Violations,
    after_cancel: Violations,
    status: HashMap<(usize, Uuid), String>,
    attempts: HashMap<Uuid, i64>,
    cancelled: std::collections::HashSet<Uuid>,
}

pub(super) async fn check(look: &CheckedSnapshot) -> Result<Vec<Violations>> {
    let mut fold = Fold {
        lawful: Violations::new("every change of status is an edge of its law"),
        follows: Violations::new("every change follows from the one before it"),
        after_cancel: Violations::new("no message is reserved after its run was cancelled"),
        status: HashMap::new(),
        attempts: HashMap::new(),
        cancelled: std::collections::HashSet::new(),
    };
    for org in event_counter::Entity::find().all(&look.tx).await? {
        let mut after = 0;
        loop {
            let chunk = event::Entity::find()
                .filter(event::COLUMN.org_id.eq(org.org_id))
                .filter(event::COLUMN.position.gt(after))
                .order_by_asc(event::COLUMN.position)
                .limit(10_000)
                .all(&look.tx)
                .await?;
            let Some(last) = chunk.last() else { break };
            after = last.position;
            chunk
                .iter()
                .filter(|event| !is_seeded(event))
                .for_each(|event| fold.take(look, &event.kind, ids(event), &event.payload));
        }
    }
    // On Postgres those that have no position yet come after those that have.
    if look.dialect == Dialect::Postgres {
        let sql = "SELECT kind, campaign_id, run_id, phase_id, task_id, step_id, payload FROM event WHERE position IS NULL ORDER BY sequence";
        for row in look.all(sql).await? {
            let mut found = [None; 5];
            for (i, id) in found.iter_mut().enumerate() {
                *id = row.try_get_by_index(i + 1)?;
            }
            fold.take(look, &row.try_get_by_index::<String>(0)?, found, &row.try_get_by_index(6)?);
        }
    }
    let mut all = vec![gapless(look).await?, fold.lawful.clone(), fold.follows.clone(), fold.after_cancel.clone()];
    all.push(fold.rows(look).await?);
    all.push(fold.attempts(look).await?);
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
    fn take(&mut self, look: &CheckedSnapshot, kind: &str, ids: [Option<Uuid>; 5], payload: &Value) {
        let (noun, what) = kind.split_once('.').unwrap_or_default();
        let Some(index) = NOUNS.iter().position(|known| known.name == noun) else { return };
        // Rows of these are not judged either: what people do to them later follows on what was never told.
        let of = match noun {
            "campaign" => ids[0],
            "schedule" => None,
            _ => ids[1],
        };
        if of.is_some_and(|id| look.seeded.contains(&id)) {
            return;
        }
        // Its row went with it.
        if what == "deleted" {
            if let Some((_, id)) = payload["id"].as_str().and_then(prefix_of) {
                self.status.remove(&(index, id));
            }
            return;
        }
        let Some(to) = payload["to"].as_str() else { return };
        let id = match NOUNS[index].named {
            Named::Column(column) => ids[column],
            Named::Payload(key) => payload[key].as_str().and_then(prefix_of).map(|(_, id)| id),
        };
        let Some(id) = id else { return };
        let from = payload["from"].as_str();
        self.lawful.look(from.is_none_or(|from| (NOUNS[index].edge)(from, to)), || {
            format!("{kind} of {noun} {id}: {} → {to}", from.unwrap_or("nothing"))
        });
        let before = self.status.insert((index, id), to.to_owned());
        if let Some(before) = before {
            self.follows.look(Some(before.as_str()) == from, || {
                format!("{kind} of {noun} {id}: from {from:?}, but it was {before}")
            });
        }
        match kind {
            "step.started" => *self.attempts.entry(id).or_default() += 1,
            "run.cancelled" => drop(self.cancelled.insert(id)),
            "communication.sending" => {
                let run = ids[1].unwrap_or_default();
                self.after_cancel.look(!self.cancelled.contains(&run), || format!("communication {id} of run {run}"));
            }
            _ => {}
        }
    }

    /// Folding the events gives the rows, each way; what was never told is as it was made.
    async fn rows(&self, look: &CheckedSnapshot) -> Result<Violations> {
        let mut found = Violations::new("folding the log gives the status of every row");
        let mut rows = 0;
        for (index, Noun { name: noun, made, .. }) in NOUNS.iter().enumerate() {
            let of = if matches!(*noun, "campaign" | "run" | "schedule") { "id" } else { "run_id" };
            for row in look.all(&format!("SELECT id, status, {of} FROM {noun}")).await? {
                if look.has_seeded(&row, 2)? {
                    continue;
                }
                let (id, status) = (row.try_get_by_index::<Uuid>(0)?, row.try_get_by_index::<String>(1)?);
                let told = self.status.get(&(index, id));
                rows += usize::from(told.is_some());
                let Some(said) = told.map(String::as_str).or(*made) else { continue };
                found.look(said == status, || format!("{noun} {id} is {status}, its events say `{said}`"));
            }
        }
        found.look(rows == self.status.len(), || format!("{} told of in the log are gone", self.status.len() - rows));
        Ok(found)
    }

    async fn attempts(&self, look: &CheckedSnapshot) -> Result<Violations> {
        let mut found = Violations::new("attempts of a step are counted 1..k, one started for each");
        for row in look.all("SELECT id, attempt_count, run_id FROM step").await? {
            if look.has_seeded(&row, 2)? {
                continue;
            }
            let (id, count) = (row.try_get_by_index::<Uuid>(0)?, i64::from(row.try_get_by_index::<i32>(1)?));
            let told = self.attempts.get(&id).copied().unwrap_or(0);
            found.look(told == count, || format!("step {id}: {count} attempts, {told} started in the log"));
        }
        Ok(found)
    }
}

async fn gapless(look: &CheckedSnapshot) -> Result<Violations> {
    let mut found = Violations::new("positions of each org run 1..n without a gap, n being its counter");
    let sql = "SELECT c.org_id, c.position, (SELECT COUNT(*) FROM event e WHERE e.org_id = c.org_id AND e.position IS NOT NULL), \
               (SELECT COALESCE(MAX(e.position), 0) FROM event e WHERE e.org_id = c.org_id), \
               (SELECT COUNT(DISTINCT e.position) FROM event e WHERE e.org_id = c.org_id) FROM event_counter c";
    for row in look.all(sql).await? {
        let id: Uuid = row.try_get_by_index(0)?;
        let mut numbers = [0_i64; 4];
        for (i, number) in numbers.iter_mut().enumerate() {
            *number = row.try_get_by_index(i + 1)?;
        }
        let [counter, count, newest, different] = numbers;
        found.look(counter == count && count == newest && newest == different, || {
            format!("org {id}: counter {counter}, {count} events, the newest {newest}, {different} different")
        });
        // Each event counts as one that was looked at.
        found.looked_at += u64::try_from(count).unwrap_or(0);
    }
    Ok(found)
}

/// Whether both are words of a status.
fn words<L: ActiveEnum<Value = String>>(from: &str, to: &str) -> bool {
    [from, to].iter().all(|word| L::try_from_value(&(*word).to_owned()).is_ok())
}

fn edge<L: StateMachine + ActiveEnum<Value = String>>(from: &str, to: &str) -> bool {
    // A message that is drafted is told as a change from DRAFT to DRAFT, which is an edge: it is edited.
    match (L::try_from_value(&from.to_owned()), L::try_from_value(&to.to_owned())) {
        (Ok(from), Ok(to)) => L::TRANSITIONS.iter().any(|act| from.next(*act) == Some(to)),
        _ => false,
    }
}
