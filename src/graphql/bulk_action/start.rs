//! Mutations that start and stop bulk actions, and the dry run.

use async_graphql::{Context, ID, InputObject, InputType, MaybeUndefined, Object, Result, SimpleObject};
use entity::BulkVerb;
use entity::communication::Resolution;

use super::{BulkAction, target_id};
use crate::domain::bulk_action as noun;
use crate::domain::bulk_action::dry_run::{DryRun, dry_run};
use crate::domain::bulk_action::start::{BulkRequest, Selection, start};
use crate::domain::message::communication::Filter as CommunicationFilter;
use crate::domain::plan::campaign::list::Filter as CampaignFilter;
use crate::domain::run::list::RunFilter;
use crate::domain::run::step::StepFilter;
use crate::graphql::{db, idempotent, viewer};
use crate::kernel::error::{Error, Refusal};
use crate::kernel::validate;

/// A bulk action to start. The targets are given by `ids`, or by the filter of their noun.
#[derive(InputObject)]
pub struct StartBulkActionInput {
    /// The action on each target.
    verb: BulkVerb,
    /// Ids of the targets, at most 10,000. An id that does not exist gets the result REFUSED. Null: a
    /// filter is given.
    ids: Option<Vec<ID>>,
    /// Filter of the runs, for the verbs on runs; it needs a condition, and at most 100,000 runs may
    /// match. Null: `ids` or another filter is given.
    run_filter: Option<RunFilter>,
    /// Filter of the steps, for the verbs on steps; it needs a condition, and at most 100,000 steps
    /// may match. Null: `ids` or another filter is given.
    step_filter: Option<StepFilter>,
    /// Filter of the messages, for RESOLVE_COMMUNICATIONS; it needs a condition, and at most 100,000
    /// messages may match. Null: `ids` or another filter is given.
    communication_filter: Option<CommunicationFilter>,
    /// Filter of the campaigns, for ARCHIVE_CAMPAIGNS; it needs a condition, and at most 100,000
    /// campaigns may match. Null: `ids` or another filter is given.
    campaign_filter: Option<CampaignFilter>,
    /// Reason, used for each target as by the single mutation; required for REJECT_STEPS. Null: none.
    reason: Option<String>,
    /// Id of the member to assign steps to; null: anybody who may. Required for ASSIGN_STEPS, and
    /// refused for the other verbs unless null.
    assignee_id: MaybeUndefined<ID>,
    /// The outcome of the messages. Required for RESOLVE_COMMUNICATIONS, and refused for the other
    /// verbs unless null.
    resolution: Option<Resolution>,
    /// True to check the first 1,000 targets without changing or storing anything: only `dryRun` of
    /// the result is set. Null is the same as false.
    dry_run: Option<bool>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result. A dry run leaves it unused.
    idempotency_key: Option<String>,
}

impl StartBulkActionInput {
    fn request(&self) -> std::result::Result<BulkRequest, Error> {
        let (runs, steps) = (&self.run_filter, &self.step_filter);
        let (messages, campaigns) = (&self.communication_filter, &self.campaign_filter);
        let all = [
            self.ids.as_ref().map(|ids| (Selection::Ids(ids.clone()), None)),
            runs.as_ref().map(|of| (Selection::Runs(of.clone()), Some(of.to_value()))),
            steps.as_ref().map(|of| (Selection::Steps(of.clone()), Some(of.to_value()))),
            messages.as_ref().map(|of| (Selection::Communications(of.clone()), Some(of.to_value()))),
            campaigns.as_ref().map(|of| (Selection::Campaigns(Box::new(of.clone())), Some(of.to_value()))),
        ];
        let mut given = all.into_iter().flatten();
        let (Some((selection, filter)), None) = (given.next(), given.next()) else {
            return Err(Refusal::input("ids", "give exactly one of `ids` and the filters").into());
        };
        let filter = filter.map(|filter| filter.into_json().map(without_nulls)).transpose()?;
        let assignee = match &self.assignee_id {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(id) => Some(Some(validate::id("assigneeId", id)?)),
        };
        Ok(BulkRequest {
            verb: self.verb,
            selection,
            filter,
            reason: self.reason.clone(),
            assignee,
            resolution: self.resolution,
        })
    }
}

/// A filter as it was given: without the fields that were left out.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(parts) => {
            let given = parts.into_iter().filter(|(_, part)| !part.is_null());
            given.map(|(name, part)| (name, without_nulls(part))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        plain => plain,
    }
}

/// A target for which the action would be refused.
#[derive(SimpleObject)]
pub struct BulkRefusal {
    /// Id of the run, step, message or campaign.
    target_id: ID,
    /// Error code, as `extensions.code` of the single mutation.
    code: String,
    /// Error message.
    message: String,
}

/// The expected result of a bulk action.
#[derive(SimpleObject)]
pub struct BulkDryRun {
    /// Number of targets.
    matched: u64,
    /// Number of targets that were checked: all of them, or the first 1,000 in the order of their ids.
    checked: u64,
    /// Number of checked targets that the action would be applied to.
    would_do: u64,
    /// Number of checked targets for which the action would be refused.
    refused: u64,
    /// The first of the refused targets, at most 20, with the reasons.
    sample: Vec<BulkRefusal>,
}

impl BulkDryRun {
    fn of(found: DryRun, verb: BulkVerb) -> Self {
        let sample = found.sample.into_iter().map(|(id, refusal)| BulkRefusal {
            target_id: target_id(verb, id),
            code: refusal.code.as_str().into(),
            message: refusal.message,
        });
        let sample = sample.collect();
        let DryRun { matched, checked, would_do, refused, .. } = found;
        Self { matched, checked, would_do, refused, sample }
    }
}

/// The bulk action that was started, or the result of a dry run.
#[derive(SimpleObject)]
pub struct StartBulkActionPayload {
    /// The bulk action; null for a dry run.
    bulk_action: Option<BulkAction>,
    /// The result of a dry run; null if the bulk action was started.
    dry_run: Option<BulkDryRun>,
}

/// Identifies the bulk action to stop.
#[derive(InputObject)]
pub struct StopBulkActionInput {
    /// Id of the bulk action.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the bulk action has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The changed bulk action.
#[derive(SimpleObject)]
pub struct BulkActionPayload {
    /// The bulk action after the change.
    bulk_action: BulkAction,
}

/// Mutations for bulk actions.
#[derive(Default)]
pub struct BulkActionMutation;

#[Object]
impl BulkActionMutation {
    /// Starts an action on many runs, steps, messages or campaigns: the targets are fixed now, and the
    /// server applies the action to one after the other, as the viewer and with the permissions that
    /// the viewer has then.
    /// Rejected with FORBIDDEN if the viewer may not use the single mutation, with LIMIT_EXCEEDED for
    /// more than 100,000 targets, or while 100 bulk actions are open.
    async fn start_bulk_action(
        &self,
        ctx: &Context<'_>,
        input: StartBulkActionInput,
    ) -> Result<StartBulkActionPayload> {
        let request = input.request()?;
        if input.dry_run == Some(true) {
            let keyed = idempotent::keyed(ctx, input.idempotency_key.as_deref())?;
            idempotent::lookup(&keyed).await?;
            let found = Box::pin(dry_run(db(ctx), viewer(ctx), &request)).await?;
            return Ok(StartBulkActionPayload {
                bulk_action: None,
                dry_run: Some(BulkDryRun::of(found, request.verb)),
            });
        }
        let row = idempotent!(ctx, input.idempotency_key, |db| Box::pin(start(db, viewer(ctx), &request)));
        Ok(StartBulkActionPayload { bulk_action: Some(BulkAction(row)), dry_run: None })
    }

    /// Stops a bulk action: targets that have no result by now stay as they are. What was done is not
    /// undone.
    async fn stop_bulk_action(&self, ctx: &Context<'_>, input: StopBulkActionInput) -> Result<BulkActionPayload> {
        let (id, expected) = (validate::id("id", &input.id)?, input.expected_revision);
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::stop(db, viewer(ctx), id, expected));
        Ok(BulkActionPayload { bulk_action: BulkAction(row) })
    }
}
