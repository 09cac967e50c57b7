//! `createStepRecords`: new records from within a person's step, linked from those that they come from.

use async_graphql::{Context, ID, InputObject, Json, Object, Result};
use entity::id::{RecordId, StepId};

use super::act::{StepRecordsPayload, step};
use crate::domain::audience::record;
use crate::domain::run::guided::notes::{self, NewRecord};
use crate::graphql::record::Record;
use crate::graphql::viewer;
use crate::kernel::validate;

/// A record to create.
#[derive(InputObject)]
pub struct StepRecordInput {
    /// `lead`, `partnership` …; the kind that the step creates by default.
    kind: Option<String>,
    /// Id in the source system; unique per kind.
    external_id: Option<String>,
    /// The name.
    name: String,
    /// The email address.
    email: Option<String>,
    /// The telephone number, E.164.
    phone: Option<String>,
    /// The IANA time zone.
    time_zone: Option<String>,
    /// Stage in its pipeline.
    stage: Option<String>,
    /// Custom attributes, a flat object.
    attributes: Option<Json<serde_json::Value>>,
    /// Ids of the records that it comes from, such as the leads of a partnership, at most 500 in all
    /// records; links from them lead to it. Null: if links have a role, from the step's own record, or
    /// the only one that the run was started with; an empty list: none.
    from_ids: Option<Vec<ID>>,
}

impl StepRecordInput {
    fn read(self, i: usize) -> Result<NewRecord> {
        let from = self.from_ids.map(|ids| validate::ids(&ids, &format!("records[{i}]"), "fromIds")).transpose()?;
        let fields = record::Fields {
            kind: self.kind,
            external_id: self.external_id,
            name: Some(self.name),
            email: self.email.map(Some),
            phone: self.phone.map(Some),
            time_zone: self.time_zone.map(Some),
            stage: self.stage.map(Some),
            attributes: self.attributes.map(|attributes| attributes.0),
            ..record::Fields::default()
        };
        Ok(NewRecord { fields, from: from.map(|ids: Vec<RecordId>| ids.into_iter().collect()) })
    }
}

/// The records to create.
#[derive(InputObject)]
pub struct CreateStepRecordsInput {
    /// Id of the step, which is of type `custom` and in progress.
    step_id: ID,
    /// The records, at most 100.
    records: Vec<StepRecordInput>,
    /// Role of the links that lead to the records: 1 to 40 lower-case letters or `_`, the first a
    /// letter. Null: the `linkRole` of the step's `config`; without any there are no links, and
    /// `fromIds` is rejected.
    link_role: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Mutation that creates records within people's steps.
#[derive(Default)]
pub struct StepRecordsMutation;

#[Object]
impl StepRecordsMutation {
    /// Creates records within a step of type `custom`, and links them from those that they come from.
    /// All or none. Rejected with NOT_FOUND; CONFLICT if the step is not in progress or not `custom`, if
    /// a record exists, or if one of `fromIds` was erased; LIMIT_EXCEEDED; BAD_USER_INPUT naming the
    /// record and the field.
    async fn create_step_records(
        &self,
        ctx: &Context<'_>,
        input: CreateStepRecordsInput,
    ) -> Result<StepRecordsPayload> {
        let id = validate::id::<StepId>("stepId", &input.step_id)?;
        let new = input.records.into_iter().enumerate().map(|(i, given)| given.read(i));
        let (new, role) = (new.collect::<Result<Vec<_>>>()?, input.link_role.as_deref());
        let records = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(notes::create(db, viewer(ctx), id, &new, role)),
            |id| Box::pin(notes::created(db, viewer(ctx), id))
        );
        Ok(StepRecordsPayload { step: step(ctx, id).await?, records: records.into_iter().map(Record).collect() })
    }
}
