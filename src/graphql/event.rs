//! Events: pages of the durable log, with the same cursors as the subscriptions.

use std::collections::HashMap;

use async_graphql::{Context, ID, InputObject, Json, Object, Result, SimpleObject, Value};
use chrono::{DateTime, Utc};

use super::batch_loader::Loader;
use super::campaign::Campaign;
use super::connection::Connection;
use super::list::args;
use super::loader::{EventsOf, Rows, must_load};
use super::record::Record;
use super::run::Run;
use super::step::Step;
use super::{Actor, db, shared_rows, viewer};
use crate::graphql::counted::{Counted, Node};
use crate::graphql::selection::{self, Row, text};
use crate::kernel::event::{self as noun, EventSelector, Filter, LogRange};
use crate::kernel::page::{self, Args};
use crate::kernel::{error, validate};

/// One entry of the durable log.
pub struct Event(pub entity::event::Model);

row_fields! {
    Event, entity::event, |row: 0|
    "cursor" [OrgId, Position] => noun::cursor(row.org_id, row.position).into(),
    "kind" [Kind] => row.kind.to_value(),
    "campaignId" [CampaignId] => row.campaign_id.map_or(Value::Null, text),
    "runId" [RunId] => row.run_id.map_or(Value::Null, text),
    "phaseId" [PhaseId] => row.phase_id.map_or(Value::Null, text),
    "taskId" [TaskId] => row.task_id.map_or(Value::Null, text),
    "stepId" [StepId] => row.step_id.map_or(Value::Null, text),
    "recordId" [RecordId] => row.record_id.map_or(Value::Null, text),
    "at" [At] => row.at.to_value(),
    "payload" [Payload] => serde_json::from_str(row.payload.text()).unwrap_or_default(),
    resolved from:
    "campaign" [CampaignId],
    "run" [RunId],
    "step" [StepId],
    "record" [RecordId],
    "actor" [Actor],
    large: "payload"
}

/// One entry of the durable log.
#[Object]
impl Event {
    /// Position in the log; pass it as `after` to continue after this event.
    async fn cursor(&self) -> String {
        noun::cursor(self.0.org_id, self.0.position)
    }

    /// The kind of event, as `noun.what_happened`, e.g. `step.completed`.
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Id of the campaign concerned; null if there is none.
    async fn campaign_id(&self) -> Option<ID> {
        self.0.campaign_id.map(|id| id.to_string().into())
    }

    /// Id of the run concerned; null if there is none.
    async fn run_id(&self) -> Option<ID> {
        self.0.run_id.map(|id| id.to_string().into())
    }

    /// Id of the phase concerned; null if there is none.
    async fn phase_id(&self) -> Option<ID> {
        self.0.phase_id.map(|id| id.to_string().into())
    }

    /// Id of the task concerned; null if there is none.
    async fn task_id(&self) -> Option<ID> {
        self.0.task_id.map(|id| id.to_string().into())
    }

    /// Id of the step concerned; null if there is none.
    async fn step_id(&self) -> Option<ID> {
        self.0.step_id.map(|id| id.to_string().into())
    }

    /// Id of the record concerned; null if there is none.
    async fn record_id(&self) -> Option<ID> {
        self.0.record_id.map(|id| id.to_string().into())
    }

    /// The campaign concerned; null if there is none, or it has been deleted.
    async fn campaign(&self, ctx: &Context<'_>) -> Result<Option<Row<Campaign>>> {
        Ok(shared_rows::load(ctx, self.0.campaign_id).await?.map(Campaign::from).map(Row))
    }

    /// The run concerned; null if there is none.
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Row<Run>>> {
        Ok(shared_rows::load(ctx, self.0.run_id).await?.map(Run::from).map(Row))
    }

    /// The step concerned; null if there is none.
    async fn step(&self, ctx: &Context<'_>) -> Result<Option<Row<Step>>> {
        Ok(shared_rows::load(ctx, self.0.step_id).await?.map(Step).map(Row))
    }

    /// The record concerned; null if there is none, or it has been deleted.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Row<Record>>> {
        Ok(shared_rows::load(ctx, self.0.record_id).await?.map(Record).map(Row))
    }

    /// The actor that caused it.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Further data, depending on the kind: `from`, `to`, reason, names.
    async fn payload(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(self.0.payload.value()))
    }

    /// Time of the event.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// The events that the total of a page of the log is counted over.
pub struct EventTotals(EventSelector);

#[Object]
impl EventTotals {
    /// Total number on all pages; computed only when selected. Each event that matches is counted:
    /// without a filter that is the whole log.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(must_load(ctx, EventCount(self.0.clone())).await?)
    }
}

/// Loader key for the number of events that a selector matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EventCount(EventSelector);

impl Loader<EventCount> for Rows {
    type Value = u64;

    async fn load(&self, of: &[EventCount]) -> error::Result<HashMap<EventCount, u64>> {
        let selectors: Vec<&EventSelector> = of.iter().map(|of| &of.0).collect();
        let counts = noun::counts(&self.db, &self.viewer, &selectors).await?;
        Ok(of.iter().cloned().zip(counts).collect())
    }
}

/// A page of the log.
pub type Events = Connection<String, Node<Event>, EventTotals>;

/// Returns one page, oldest first.
pub(super) async fn events(ctx: &Context<'_>, which: EventSelector, args: Args, alone: bool) -> Result<Events> {
    let (count, from_end) = page::count(&args)?;
    let position = async |field: &'static str, cursor: &Option<String>| match cursor {
        Some(cursor) => Box::pin(noun::cursor::resume(db(ctx), viewer(ctx), field, cursor)).await.map(Some),
        None => Ok(None),
    };
    let (after, before) = (position("after", &args.after).await?, position("before", &args.before).await?);
    let columns = selection::columns::<Event>(&super::list::nodes(ctx));
    let range = LogRange { after: after.unwrap_or(0), before, count, from_end, columns };
    let totals = EventTotals(which.clone());
    let (events, more) = if alone {
        Box::pin(noun::page(db(ctx), viewer(ctx), &which, range)).await?
    } else {
        must_load(ctx, EventsOf { which, range }).await?.as_ref().clone()
    };
    let (is_behind, is_before) = if from_end { (more, before.is_some()) } else { (after.is_some(), more) };
    let rows = events.into_iter().map(|event| (noun::cursor(event.org_id, event.position), Node(Event(event))));
    Ok(Connection { rows: rows.collect(), has_previous: is_behind, has_next: is_before, totals })
}

/// Query fields for events.
#[derive(Default)]
pub struct EventQuery;

#[Object]
impl EventQuery {
    /// The events of the durable log in commit order, oldest first. Page with `first` and `after`, or
    /// from the newest backwards with `last` and `before`; page size 50 by default, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn events(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Events> {
        let which = EventSelector::of(&filter.unwrap_or_default())?;
        Box::pin(events(ctx, which, args(first, after, last, before), true)).await
    }
}

/// An event in an external system.
#[derive(InputObject)]
pub struct RaiseEventInput {
    /// The event's name, a noun and what happened, e.g. `payment.received`. Names of Sortie's own
    /// events are not allowed.
    name: String,
    /// Ids of the records that it is about, at most 100.
    record_ids: Option<Vec<ID>>,
    /// Id of the run that it is about. Null: every active run with these records.
    run_id: Option<ID>,
    /// Further data, as a flat object: at most 16 KiB, and 256 KiB for all records together.
    payload: Option<Json<serde_json::Value>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The event that was raised.
#[derive(SimpleObject)]
pub struct RaiseEventPayload {
    /// The event's name.
    name: String,
}

/// Mutations for events.
#[derive(Default)]
pub struct EventMutation;

#[Object]
impl EventMutation {
    /// Adds an event to the log. It starts the steps that wait for it (trigger `event:NAME`) and
    /// interrupts the phases that list it in `interruptEvents`. Rejected with BAD_USER_INPUT,
    /// NOT_FOUND or LIMIT_EXCEEDED.
    async fn raise_event(&self, ctx: &Context<'_>, input: RaiseEventInput) -> Result<RaiseEventPayload> {
        let run = input.run_id.as_ref().map(|id| validate::id("runId", id)).transpose()?;
        let records = validate::ids(input.record_ids.as_deref().unwrap_or_default(), "input", "recordIds")?;
        let payload = input.payload.map_or_else(|| serde_json::json!({}), |payload| payload.0);
        let name = &input.name;
        idempotent!(
            ctx,
            input.idempotency_key,
            |db| crate::domain::run::interrupt::raise(db, viewer(ctx), name, run, &records, payload),
            |id| async {
                let _: super::idempotent::AnyResultId = id;
                Ok::<_, crate::kernel::error::Error>(())
            }
        );
        Ok(RaiseEventPayload { name: input.name })
    }
}
