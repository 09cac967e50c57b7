//! The same act on many runs: those that a filter lets through are counted first, then each is done by itself, under its own
//! lock; one that is refused does not hold up the others.

use entity::id::RunId;
use sea_orm::{EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use super::list::RunFilter;
use super::{Action, list};
use crate::db::Db;
use crate::error::{Error, Refusal, Result};
use crate::limits;
use crate::viewer::Viewer;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// How many the filter lets through.
    pub matched: u64,
    /// Those that it was done to.
    pub done: Vec<RunId>,
    /// Those that it was refused for, with why.
    pub refused: Vec<(RunId, Refusal)>,
}

/// Calls off or retries what a filter lets through; dry, it only counts. Errors: LIMIT_EXCEEDED for more than a thousand.
pub async fn act(
    db: &Db,
    viewer: &Viewer,
    filter: &RunFilter,
    action: Action,
    reason: Option<&str>,
    dry: bool,
) -> Result<Done> {
    let all = entity::run::Entity::find().filter(list::condition(viewer, filter)?);
    let matched = all.clone().count(db.read()).await?;
    if dry {
        return Ok(Done { matched, ..Done::default() });
    }
    if matched > limits::BULK {
        return Err(
            Refusal::limit(format!("{matched} runs: at most {} at once; narrow the filter", limits::BULK)).into()
        );
    }
    let ids: Vec<RunId> = all
        .select_only()
        .column(entity::run::Column::Id)
        .order_by_asc(entity::run::Column::Id)
        .limit(limits::BULK)
        .into_tuple()
        .all(db.read())
        .await?;
    let mut done = Done { matched, ..Done::default() };
    for id in ids {
        let outcome = match action {
            Action::Cancel => super::cancel(db, viewer, id, None, reason).await,
            _ => super::retry::retry(db, viewer, id, None).await,
        };
        match outcome {
            Ok(run) => done.done.push(run.id),
            Err(Error::Refused(refusal)) => done.refused.push((id, refusal)),
            Err(err) => return Err(err),
        }
    }
    Ok(done)
}
