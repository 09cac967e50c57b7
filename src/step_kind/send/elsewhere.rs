//! Messages whose recipients another run of the family has written to: a failed run keeps its queued
//! steps, a repeat reaches their recipients, and a retry of the failed run finds the steps as they were.

use std::collections::{HashMap, HashSet};

use entity::RunType;
use entity::communication;
use entity::id::*;
use entity::run;
use entity::step::{self, Column as Step};
use sea_orm::{EntityTrait, QueryFilter, QuerySelect};

use crate::domain::audience::suppression::key;
use crate::domain::run::unreached::Family;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// A message that another run of the family has sent, or may have sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Twin {
    /// The step is done: this run has sent from it to the same record.
    Done(RunId),
    /// The address was written to for another record.
    OfAnotherRecord,
}

/// Returns those of a batch's messages that have a twin.
pub(super) async fn written(
    tx: &Tx,
    running: &[run::Model],
    messages: &[communication::Model],
) -> Result<HashMap<CommunicationId, Twin>> {
    let mut found = HashMap::new();
    for run in with_repeats(tx, running).await? {
        // What a person wrote from within a step goes by that step's messages alone.
        let by_step = |message: &&communication::Model| message.action_number == 0 && !message.test;
        let mine = || messages.iter().filter(|message| message.run_id == run.id).filter(by_step);
        let addresses: Vec<String> = mine().map(|message| key(&message.to_address)).collect();
        let records: Vec<RecordId> = mine().filter_map(|message| message.record_id).collect();
        let family = Family::of(tx.db(), &Viewer::engine(run.org_id), run).await?;
        let others = family.written_by_others(tx.db(), run.id, &addresses, &records).await?;
        let keys =
            step_keys(tx, mine().map(|message| message.step_id).chain(others.iter().map(|other| other.2))).await?;
        for message in mine() {
            let is_same = |record_id: Option<RecordId>| record_id == message.record_id;
            let done = others.iter().find(|(_, record_id, step_id, _)| {
                is_same(*record_id) && keys.get(step_id) == keys.get(&message.step_id)
            });
            let has_address = |to: &str| key(to) == key(&message.to_address);
            if let Some((by, ..)) = done {
                found.insert(message.id, Twin::Done(*by));
            } else if others.iter().any(|(_, record_id, _, to)| !is_same(*record_id) && has_address(to)) {
                found.insert(message.id, Twin::OfAnotherRecord);
            }
        }
    }
    Ok(found)
}

/// Returns those runs of campaigns that others have repeated.
async fn with_repeats<'a>(tx: &Tx, running: &'a [run::Model]) -> Result<Vec<&'a run::Model>> {
    let of_campaigns = || running.iter().filter(|run| matches!(run.run_type, RunType::Run | RunType::Schedule));
    let repeated: Vec<Option<RunId>> = run::Entity::find()
        .select_only()
        .column(run::Column::ParentId)
        .filter(any_of(tx.dialect(), run::Column::ParentId, of_campaigns().map(|run| run.id)))
        .distinct()
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(of_campaigns().filter(|run| repeated.contains(&Some(run.id))).collect())
}

async fn step_keys(tx: &Tx, steps: impl Iterator<Item = StepId>) -> Result<HashMap<StepId, String>> {
    let steps: HashSet<StepId> = steps.collect();
    let found: Vec<(StepId, String)> = step::Entity::find()
        .select_only()
        .columns([Step::Id, Step::Key])
        .filter(any_of(tx.dialect(), step::COLUMN.id, steps))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(found.into_iter().collect())
}
