//! Variables available to conditions and templates of a run's steps: the record, the campaign's
//! variables, results of earlier steps.
//!
//! Results are kept as texts, once for all steps of a batch, and parsed for one step at a time:
//! parsed, nested objects take a hundred times as much. Only the results that a step's texts name
//! are read.

pub mod mentions;

use std::collections::{BTreeSet, HashMap, HashSet};

use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{Channel, record, run, run_record};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Map, Value, json};

use super::snapshot::RunSnapshot;
use crate::domain::content::templating;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::kernel::{json_size, limits};
use mentions::Mentions;

/// A step that needs variables.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// The recipient.
    pub recipient: Option<RunRecordId>,
    /// The record.
    pub record: Option<RecordId>,
    /// The results that its texts refer to.
    pub mentions: Mentions,
}

impl Reader {
    /// Creates the reader of a step.
    pub fn of(step: &step::Model, mentions: Mentions) -> Self {
        Self { recipient: step.run_record_id, record: step.record_id, mentions }
    }
}

type Slot = Option<RunRecordId>;

/// A result, or its place if it was not read, because it is too large for every reader.
#[derive(Debug)]
struct Kept {
    id: StepId,
    text_bytes: usize,
    text: Option<String>,
    /// Number of bytes that the result takes when it is parsed.
    parsed_bytes: usize,
}

/// Variables for some steps of a run.
#[derive(Debug, Default)]
pub struct Values {
    base: Map<String, Value>,
    records: HashMap<RecordId, Value>,
    /// Results by recipient, none for single steps, and by key.
    results: HashMap<Slot, HashMap<String, Kept>>,
    /// The readers, from the first, whose results were read.
    covered: usize,
    /// Test runs only: the field of the channel's address, and each recipient's test address.
    test_addresses: Option<(&'static str, HashMap<RunRecordId, Option<String>>)>,
}

impl Values {
    /// Loads the variables for steps of a run; the number of statements does not depend on how many
    /// there are. Reads results up to about `most` bytes of text: [`Self::covered`] tells for how
    /// many of the readers, from the first, that sufficed, which is at least one.
    pub async fn read(
        db: &impl ConnectionTrait,
        run: &run::Model,
        snapshot: &RunSnapshot,
        readers: &[Reader],
        most: usize,
    ) -> Result<Self> {
        let readers = &readers[..readers.len().min(looked_up(snapshot, readers))];
        let recipients: Vec<RunRecordId> = readers.iter().filter_map(|reader| reader.recipient).collect();
        let records: Vec<RecordId> = readers.iter().filter_map(|reader| reader.record).collect();
        let instructions = snapshot.instructions.as_ref();
        let variables = instructions.map(|instructions| instructions.variables.clone()).unwrap_or_default();
        let mut values = Self::default();
        values.base.insert("variables".into(), Value::Object(variables));
        values.base.insert("run".into(), json!({ "id": run.id, "name": run.name, "type": run.run_type }));
        values.base.insert("campaign".into(), json!({ "id": run.campaign_id, "name": run.campaign_name }));
        values.base.insert("sender".into(), json!({ "name": run.created_by.name }));
        if !records.is_empty() {
            let rows = record::Entity::find().filter(record::COLUMN.org_id.eq(run.org_id)).filter(any_of(
                db.get_database_backend(),
                record::COLUMN.id,
                records,
            ));
            values.records = rows.all(db).await?.into_iter().map(|row| (row.id, templating::record(&row))).collect();
        }
        if snapshot.test.is_some() && !recipients.is_empty() {
            let field = if run.channel == Channel::Email { "email" } else { "phone" };
            let addresses = run_record::Entity::find().filter(any_of(
                db.get_database_backend(),
                run_record::COLUMN.id,
                recipients.iter().copied(),
            ));
            let addresses =
                addresses.all(db).await?.into_iter().map(|recipient| (recipient.id, recipient.address)).collect();
            values.test_addresses = Some((field, addresses));
        }
        if readers.iter().all(|reader| reader.mentions.is_empty()) {
            values.covered = readers.len();
        } else {
            values.find_results(db, run, snapshot, readers, recipients).await?;
            values.read_results(db, readers, most).await?;
        }
        Ok(values)
    }

    /// The number of readers, from the first, whose variables are complete.
    pub fn covered(&self) -> usize {
        self.covered
    }

    /// The size of the results in memory.
    pub fn results_bytes(&self) -> usize {
        let all = self.results.values().flat_map(HashMap::values);
        all.filter_map(|kept| kept.text.as_ref()).map(String::len).sum()
    }

    /// Finds the results that are mentioned, and their sizes.
    async fn find_results(
        &mut self,
        db: &impl ConnectionTrait,
        run: &run::Model,
        snapshot: &RunSnapshot,
        readers: &[Reader],
        recipients: Vec<RunRecordId>,
    ) -> Result<()> {
        // Uses the index on recipients and the few tasks that are not fan-outs: never scans all
        // steps of a run.
        let backend = db.get_database_backend();
        let tasks = super::task::of_runs(db, &Viewer::engine(run.org_id), &[run.id]).await?;
        let singles = tasks.iter().filter(|task| !task.fan_out).map(|task| task.id);
        let mut scope = Condition::any().add(any_of(backend, step::COLUMN.task_id, singles));
        if !recipients.is_empty() {
            scope = scope.add(any_of(backend, step::COLUMN.run_record_id, recipients));
        }
        let mut closed = step::Entity::find()
            .select_only()
            .columns([step::Column::Id, step::Column::Key, step::Column::RunRecordId])
            .expr_as(Expr::cust("CAST(octet_length(CAST(result AS TEXT)) AS BIGINT)"), "result_bytes")
            .filter(scope)
            .filter(step::COLUMN.status.is_in([StepStatus::Completed, StepStatus::Skipped]))
            .filter(step::Column::Result.is_not_null());
        if let Some(keys) = named(readers) {
            closed = closed.filter(any_of(backend, step::COLUMN.key, keys));
        }
        let rows: Vec<(StepId, String, Slot, i64)> = closed.into_tuple().all(db).await?;
        for (id, key, recipient, bytes) in rows {
            let slot = recipient.filter(|_| snapshot.graph.fan_out_keys.contains(&key));
            let kept = Kept { id, text_bytes: usize::try_from(bytes).unwrap_or(0), text: None, parsed_bytes: 0 };
            let of_slot = self.results.entry(slot).or_default();
            // An event may have created several steps of one key: the newest counts.
            if of_slot.get(&key).is_none_or(|other| other.id < id) {
                of_slot.insert(key, kept);
            }
        }
        Ok(())
    }

    /// Reads the results of as many readers as fit.
    async fn read_results(&mut self, db: &impl ConnectionTrait, readers: &[Reader], most: usize) -> Result<()> {
        let (mut wanted, mut total): (HashSet<StepId>, usize) = (HashSet::new(), 0);
        for reader in readers {
            let mentioned: Vec<&Kept> = self.mentioned(reader).map(|(_, kept)| kept).collect();
            // Those of a reader that mentions too much are not read, since it gets none.
            if mentioned.iter().map(|kept| kept.text_bytes).sum::<usize>() <= limits::RESULTS_PARSED_BYTES {
                let new: Vec<&Kept> = mentioned.into_iter().filter(|kept| !wanted.contains(&kept.id)).collect();
                let bytes: usize = new.iter().map(|kept| kept.text_bytes).sum();
                if self.covered > 0 && total + bytes > most {
                    break;
                }
                total += bytes;
                wanted.extend(new.iter().map(|kept| kept.id));
            }
            self.covered += 1;
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let texts = step::Entity::find()
            .select_only()
            .column(step::Column::Id)
            .expr_as(Expr::cust("CAST(result AS TEXT)"), "result_text")
            .filter(any_of(db.get_database_backend(), step::COLUMN.id, wanted))
            .filter(step::Column::Result.is_not_null());
        let texts: Vec<(StepId, String)> = texts.into_tuple().all(db).await?;
        let mut texts: HashMap<StepId, String> = texts.into_iter().collect();
        for kept in self.results.values_mut().flat_map(HashMap::values_mut) {
            kept.text = texts.remove(&kept.id);
            kept.parsed_bytes = kept.text.as_ref().map_or(0, |text| json_size::of_text(text.as_bytes()));
        }
        Ok(())
    }

    /// The results that a reader mentions, those of its own recipient first.
    fn mentioned<'a>(&'a self, reader: &'a Reader) -> impl Iterator<Item = (&'a str, &'a Kept)> {
        let own = reader.recipient.and_then(|recipient| self.results.get(&Some(recipient)));
        let slots = own.into_iter().chain(self.results.get(&None));
        slots.flat_map(|slot| {
            let (some, all) = match &reader.mentions {
                Mentions::Keys(keys) => (Some(keys), None),
                Mentions::All => (None, Some(slot)),
            };
            let some = some.into_iter().flatten().filter_map(|key| slot.get_key_value(key));
            some.chain(all.into_iter().flatten()).map(|(key, kept)| (key.as_str(), kept))
        })
    }

    /// A step's record; an empty object for none.
    pub fn record(&self, reader: &Reader) -> Value {
        let mut record = reader.record.and_then(|id| self.records.get(&id)).cloned().unwrap_or_else(|| json!({}));
        // A test run exposes its own address: a worker must not reach the real one.
        if let (Some((field, addresses)), Some(recipient)) = (&self.test_addresses, reader.recipient)
            && let Some(address) = addresses.get(&recipient)
        {
            record[*field] = json!(address);
        }
        record
    }

    /// Variables of one step, with the results that it mentions. The error says that those are too
    /// large.
    pub fn of(&self, reader: &Reader) -> std::result::Result<Map<String, Value>, String> {
        let mentioned: Vec<(&str, &Kept)> = self.mentioned(reader).collect();
        let bytes = mentioned.iter().map(|(_, kept)| kept.text_bytes.max(kept.parsed_bytes)).sum::<usize>();
        if bytes > limits::RESULTS_PARSED_BYTES {
            let most = limits::RESULTS_PARSED_BYTES;
            return Err(format!(
                "the results that it refers to are too large together: more than {most} bytes of memory; name those \
                 that are needed, like `results.key`"
            ));
        }
        let mut results = Map::new();
        for (key, kept) in mentioned {
            if let Some(text) = &kept.text {
                let value = serde_json::from_str(text).map_err(|err| format!("the result of {key}: {err}"))?;
                results.insert(key.to_owned(), value);
            }
        }
        let mut all = self.base.clone();
        all.insert("record".into(), self.record(reader));
        all.insert("results".into(), Value::Object(results));
        Ok(all)
    }
}

/// The keys that readers mention; `None` if any of them mentions all.
fn named(readers: &[Reader]) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for reader in readers {
        match &reader.mentions {
            Mentions::Keys(keys) => all.extend(keys.iter().cloned()),
            Mentions::All => return None,
        }
    }
    Some(all)
}

/// The number of readers whose results are looked up at once, so that these are so many at most.
fn looked_up(snapshot: &RunSnapshot, readers: &[Reader]) -> usize {
    let keys = named(readers).map_or(snapshot.graph.fan_out_keys.len(), |keys| keys.len());
    (limits::RESULTS_LOOKED_UP / keys.max(1)).max(1)
}
