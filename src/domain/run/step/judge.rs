//! Judges results by their schemas. People's results are judged before their transaction, as
//! workers' are: a schema may take its time, and the transaction locks the run.

use entity::definition::StepDef;
use entity::id::StepId;
use serde_json::Value;

use super::{Action, ActionInput, must_find};
use crate::domain::run as runs;
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, json_size, limits};

/// A verdict on a result, with the schema that it was judged by.
#[derive(Debug)]
pub(super) struct Judged {
    schema: Option<Value>,
    pub verdict: std::result::Result<(), Refusal>,
}

impl Judged {
    /// True if the result was judged by the schema of this declaration.
    pub(super) fn is_by(&self, declared: Option<&StepDef>) -> bool {
        self.schema.as_ref() == schema_of(declared)
    }
}

/// Judges the result that an action brings; `None` if it brings none. Errors: NOT_FOUND,
/// LIMIT_EXCEEDED.
pub(super) async fn judge(
    db: &Db,
    viewer: &Viewer,
    id: StepId,
    action: Action,
    input: &ActionInput,
) -> Result<Option<Judged>> {
    let Some(result) = input.result.clone().filter(|_| matches!(action, Action::Complete | Action::Submit)) else {
        return Ok(None);
    };
    let step = must_find(db.read(), viewer, id).await?;
    let run = runs::must_find(db.read(), viewer, step.run_id).await?;
    let snapshot = runs::snapshot::of(db.read(), &run).await?;
    let declared = snapshot.step(&step.key).map(|(_, declared)| declared.clone());
    let schema = schema_of(declared.as_ref()).cloned();
    let checked = match schema {
        None => check_result(None, None, &result),
        Some(_) => budget::run_here(move |_| check_result(declared.as_ref(), None, &result)).await?,
    };
    let verdict = match checked {
        Ok(()) => Ok(()),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(other) => return Err(other),
    };
    Ok(Some(Judged { schema, verdict }))
}

fn schema_of(declared: Option<&StepDef>) -> Option<&Value> {
    declared.and_then(|declared| declared.result_schema.as_ref()).map(|schema| &schema.0)
}

/// Rejects a result that is too large as a text, or would be when it is parsed.
pub(crate) fn check_size(result: &Value) -> std::result::Result<(), String> {
    if result.to_string().len() > limits::RESULT_BYTES {
        return Err(format!("at most {} bytes", limits::RESULT_BYTES));
    }
    if json_size::of(result) > limits::RESULT_PARSED_BYTES {
        let most = limits::RESULT_PARSED_BYTES;
        return Err(format!("takes more than {most} bytes of memory: send fewer objects, or larger ones"));
    }
    Ok(())
}

/// Rejects a result that does not match the step's schema, or the agent's; without a schema, one
/// that is not a flat object.
pub(crate) fn check_result(declared: Option<&StepDef>, agents: Option<&Value>, result: &Value) -> Result<()> {
    check_size(result).map_err(|why| Refusal::input("result", why))?;
    let schemas: Vec<&Value> = schema_of(declared).into_iter().chain(agents).collect();
    if schemas.is_empty() {
        crate::domain::audience::record::check_attributes("result", result)?;
        return Ok(());
    }
    let problems: Vec<String> = schemas
        .into_iter()
        .flat_map(|schema| crate::domain::content::result_schema::problems(schema, result))
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Refusal::input("result", problems.join("; ")).with("problems", serde_json::json!(problems)).into())
}
