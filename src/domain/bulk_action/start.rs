//! Starts bulk actions: checks the request, and fixes the targets in the transaction that creates the
//! bulk action.

use async_graphql::ID;
use entity::bulk_action::{COLUMN, Entity, Model};
use entity::communication::Resolution;
use entity::id::*;
use entity::{BulkNoun, BulkResultStatus, BulkStatus, BulkVerb, bulk_result, campaign, communication, run, step};
use sea_orm::sea_query::{Asterisk, Expr, Func, Query, SelectStatement};
use sea_orm::{
    ActiveEnum, ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QuerySelect, QueryTrait, Set,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{check_role, emit};
use crate::domain::message::communication as messages;
use crate::domain::people::member;
use crate::domain::plan::campaign::list as campaigns;
use crate::domain::run::list::{self, RunFilter};
use crate::domain::run::step::{self as steps, StepFilter};
use crate::kernel::db::batch::insert_all;
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// A request for a bulk action.
#[derive(Clone, Debug)]
pub struct BulkRequest {
    /// The action on each target.
    pub verb: BulkVerb,
    /// The selection of the targets.
    pub selection: Selection,
    /// The filter as it was given, for readers; none if the targets' ids were given.
    pub filter: Option<Value>,
    /// Reason that each target's action is given.
    pub reason: Option<String>,
    /// The member to assign steps to, or nobody; none if it was not given.
    pub assignee: Option<Option<MemberId>>,
    /// The outcome of the messages to resolve.
    pub resolution: Option<Resolution>,
}

/// The selection of a bulk action's targets.
#[derive(Clone, Debug)]
pub enum Selection {
    /// Targets by their ids.
    Ids(Vec<ID>),
    /// Runs that match a filter.
    Runs(RunFilter),
    /// Steps that match a filter.
    Steps(StepFilter),
    /// Messages that match a filter.
    Communications(messages::Filter),
    /// Campaigns that match a filter.
    Campaigns(Box<campaigns::Filter>),
}

impl Selection {
    /// The input field of the filter, and the noun that it selects; none for ids.
    fn filter(&self) -> Option<(&'static str, BulkNoun)> {
        match self {
            Self::Ids(_) => None,
            Self::Runs(_) => Some(filter_of(BulkNoun::Runs)),
            Self::Steps(_) => Some(filter_of(BulkNoun::Steps)),
            Self::Communications(_) => Some(filter_of(BulkNoun::Communications)),
            Self::Campaigns(_) => Some(filter_of(BulkNoun::Campaigns)),
        }
    }
}

/// The input field with the filter of a noun.
fn filter_of(noun: BulkNoun) -> (&'static str, BulkNoun) {
    let field = match noun {
        BulkNoun::Runs => "runFilter",
        BulkNoun::Steps => "stepFilter",
        BulkNoun::Communications => "communicationFilter",
        BulkNoun::Campaigns => "campaignFilter",
    };
    (field, noun)
}

/// The targets of a request that was checked.
#[derive(Clone, Debug)]
pub(super) enum Targets {
    /// Ids in their order, without repetition.
    Ids(Vec<Uuid>),
    /// The statement that selects their ids.
    Query(Box<SelectStatement>),
}

/// Starts a bulk action over the targets that the selection has now. Errors: FORBIDDEN if the role
/// does not permit the verb; BAD_USER_INPUT; NOT_FOUND for an unknown assignee; LIMIT_EXCEEDED for
/// more targets than are allowed, or too many open bulk actions.
pub async fn start(db: &WriteContext, viewer: &Viewer, request: &BulkRequest) -> Result<Model> {
    let targets = check(db, viewer, request).await?;
    let filter = request.filter.as_ref();
    transact!(db, |tx| {
        let open = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.status.is_in(BulkStatus::OPEN));
        if open.count(tx.db()).await? >= limits::BULK_OPEN {
            let message = format!("{} bulk actions are open: wait until one of them has ended", limits::BULK_OPEN);
            return Err(Refusal::limit(message).into());
        }
        let row = Model {
            id: BulkActionId::new(),
            org_id: viewer.org_id,
            verb: request.verb,
            status: BulkStatus::Pending,
            filter: filter.cloned(),
            reason: request.reason.clone(),
            assignee_id: request.assignee.flatten(),
            resolution: request.resolution,
            matched: 0,
            done: 0,
            refused: 0,
            failed: 0,
            created_by: viewer.actor(),
            role: viewer.role,
            lease_owner: None,
            lease_expires_at: None,
            taken_at: tx.now(),
            created_at: tx.now(),
            started_at: None,
            ended_at: None,
            revision: 1,
        };
        let row = row.into_active_model().reset_all().insert(tx.db()).await?;
        let matched = insert(tx, &row, &targets).await?;
        let mut row = row.into_active_model();
        row.matched = Set(i32::try_from(matched).map_err(|_| too_many())?);
        let row = row.update(tx.db()).await?;
        emit(tx, &viewer.actor(), "bulk_action.created", &row, json!({ "to": row.status }));
        tx.set_result(row.id);
        Ok(row)
    })
}

/// Checks a request; returns its targets.
pub(super) async fn check(db: &Db, viewer: &Viewer, request: &BulkRequest) -> Result<Targets> {
    let verb = request.verb;
    check_role(viewer, verb)?;
    let reason = request.reason.as_deref().map(|reason| validate::text("reason", reason)).transpose()?;
    if verb == BulkVerb::RejectSteps && reason.as_deref().is_none_or(validate::is_blank) {
        return Err(Refusal::input("reason", "is required: give the reason").into());
    }
    match (verb, request.assignee) {
        (BulkVerb::AssignSteps, None) => {
            return Err(
                Refusal::input("assigneeId", "is required; pass null to assign the steps to anybody who may").into()
            );
        }
        (BulkVerb::AssignSteps, Some(Some(id))) => drop(member::must_find(db.read(), viewer, id).await?),
        (BulkVerb::AssignSteps, Some(None)) | (_, None | Some(None)) => {}
        (_, Some(Some(_))) => return Err(Refusal::input("assigneeId", format!("{verb} takes no assignee")).into()),
    }
    match (verb, request.resolution) {
        (BulkVerb::ResolveCommunications, None) => {
            return Err(Refusal::input("resolution", "is required: give the outcome of the messages").into());
        }
        (BulkVerb::ResolveCommunications, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err(Refusal::input("resolution", format!("{verb} takes no resolution")).into()),
    }
    if let Some((given, noun)) = request.selection.filter()
        && noun != verb.noun()
    {
        let (field, noun) = filter_of(verb.noun());
        let noun = format!("{noun:?}").to_lowercase();
        return Err(Refusal::input(given, format!("{verb} acts on {noun}: give `{field}` or `ids`")).into());
    }
    Ok(match &request.selection {
        Selection::Ids(given) => Targets::Ids(parse(verb, given)?),
        Selection::Runs(filter) => {
            filter.require("runFilter")?;
            let met = list::condition_at(db.dialect(), viewer, filter, "runFilter")?;
            let selected = run::Entity::find().filter(met).select_only().column(run::Column::Id);
            Targets::Query(Box::new(selected.into_query()))
        }
        Selection::Steps(filter) => {
            filter.require("stepFilter")?;
            let met = steps::list::select(db, viewer, filter, db.now(), "stepFilter")?;
            Targets::Query(Box::new(met.select_only().column(step::Column::Id).into_query()))
        }
        Selection::Communications(filter) => {
            filter.require("communicationFilter")?;
            let met = messages::select_at(db, viewer, filter, "communicationFilter")?;
            Targets::Query(Box::new(met.select_only().column(communication::Column::Id).into_query()))
        }
        Selection::Campaigns(filter) => {
            filter.require("campaignFilter")?;
            let met = campaigns::select_at(db.dialect(), viewer, filter, "campaignFilter")?;
            Targets::Query(Box::new(met.select_only().column(campaign::Column::Id).into_query()))
        }
    })
}

/// Parses the ids of targets.
fn parse(verb: BulkVerb, given: &[ID]) -> Result<Vec<Uuid>> {
    if given.len() > limits::LIST_ITEMS {
        return Err(Refusal::limit_for_field("ids", format!("at most {}", limits::LIST_ITEMS)).into());
    }
    let each = given.iter().map(|id| match verb.noun() {
        BulkNoun::Runs => validate::id::<RunId>("ids", id).map(Id::uuid),
        BulkNoun::Steps => validate::id::<StepId>("ids", id).map(Id::uuid),
        BulkNoun::Communications => validate::id::<CommunicationId>("ids", id).map(Id::uuid),
        BulkNoun::Campaigns => validate::id::<CampaignId>("ids", id).map(Id::uuid),
    });
    let mut ids = each.collect::<Result<Vec<Uuid>>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Number of the targets now. Errors: LIMIT_EXCEEDED.
pub(super) async fn count(db: &Db, targets: &Targets) -> Result<u64> {
    let found = match targets {
        Targets::Ids(ids) => ids.len() as u64,
        Targets::Query(query) => {
            let mut number = Query::select();
            number.expr(Func::count(Expr::col(Asterisk))).from_subquery(bounded(query), "target");
            let row = db.read().query_one(&number).await?;
            let found = row.map(|row| row.try_get_by_index::<i64>(0)).transpose()?;
            found.unwrap_or_default().unsigned_abs()
        }
    };
    if found > limits::BULK_TARGETS { Err(too_many().into()) } else { Ok(found) }
}

/// The statement that selects targets, at most one more than are allowed.
fn bounded(query: &SelectStatement) -> SelectStatement {
    query.clone().limit(limits::BULK_TARGETS + 1).take()
}

fn too_many() -> Refusal {
    Refusal::limit(format!("more than {} targets: narrow the filter", limits::BULK_TARGETS))
}

/// Inserts a result for each target; returns their number.
async fn insert(tx: &Tx, action: &Model, targets: &Targets) -> Result<u64> {
    let query = match targets {
        Targets::Ids(ids) => {
            let row = |(sequence, id): (i32, &Uuid)| bulk_result::ActiveModel {
                bulk_action_id: Set(action.id),
                sequence: Set(sequence),
                org_id: Set(action.org_id),
                target_id: Set(*id),
                status: Set(BulkResultStatus::Pending),
                code: Set(None),
                message: Set(None),
            };
            insert_all(tx, (1..).zip(ids).map(row)).await?;
            return Ok(ids.len() as u64);
        }
        Targets::Query(query) => query,
    };
    let mut numbered = Query::select();
    numbered
        .expr(Expr::val(action.id.0))
        .expr(Expr::cust(r#"ROW_NUMBER() OVER (ORDER BY "target"."id")"#))
        .expr(Expr::val(action.org_id.0))
        .expr(Expr::col(("target", run::Column::Id)))
        .expr(Expr::val(BulkResultStatus::Pending.to_value()))
        .from_subquery(bounded(query), "target");
    let mut insert = Query::insert();
    insert.into_table(bulk_result::Entity).columns([
        bulk_result::Column::BulkActionId,
        bulk_result::Column::Sequence,
        bulk_result::Column::OrgId,
        bulk_result::Column::TargetId,
        bulk_result::Column::Status,
    ]);
    insert.select_from(numbered).map_err(crate::kernel::error::Error::internal)?;
    let inserted = tx.db().execute(&insert).await?.rows_affected();
    if inserted > limits::BULK_TARGETS { Err(too_many().into()) } else { Ok(inserted) }
}
