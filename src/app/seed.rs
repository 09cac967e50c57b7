//! Rows for performance measurements: campaigns, runs, steps and their events by the million,
//! created by the database itself. They resemble months of use; the log has only a few changes per
//! run, so `sortie check` recognises them by their actor, reports their number, and checks all
//! other rows.

use entity::Channel;
use sea_orm::{ConnectionTrait, Statement};

use crate::app::demo;
use crate::domain::plan::campaign_snapshot::{CampaignParts, CampaignSnapshot};
use crate::domain::plan::{campaign, run_template};
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Numbers of rows.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Campaigns.
    pub campaigns: u32,
    /// Runs, spread evenly over them.
    pub runs: u32,
    /// Steps per run.
    pub steps_per_run: u32,
}

/// Runs per transaction.
const CHUNK: u32 = 20_000;
/// Creation time of the first run in milliseconds of Unix time, 2026-01-01, and the interval
/// between runs.
const BEGIN: i64 = 1_767_225_600_000;
const EVERY: i64 = 20_000;

/// Creates the rows in the viewer's org; `progress` is called with the number of runs created.
/// Rejected if the org has campaigns, records, goals or keys.
pub async fn seed(db: &Db, viewer: &Viewer, size: Size, mut progress: impl FnMut(u32)) -> Result<()> {
    let db = &db.write();
    require_empty(db, viewer).await?;
    let expressions = Expressions { dialect: db.dialect() };
    let first =
        demo::campaign(db, viewer, "Pattern", serde_json::json!({ "all": true }), "Everybody", "Hello", "Hello")
            .await?;
    let parts = CampaignParts::of(db.read(), viewer, campaign::must_find(db.read(), viewer, first).await?).await?;
    let instructions = serde_json::to_string(&CampaignSnapshot::of(&parts))?;
    let definition = serde_json::to_string(&run_template::standard_outreach(Channel::Email))?;
    let pattern = Pattern {
        campaign: expressions.uuid(first.0),
        instructions: expressions.json(&instructions),
        definition: expressions.json(&definition),
    };
    transact!(db, |tx| run(tx, &expressions.campaigns(&pattern, size)).await)?;
    let mut from = 0;
    while from < size.runs {
        let to = size.runs.min(from + CHUNK);
        transact!(db, |tx| {
            let events = i64::from(to - from) * EVENTS.len() as i64;
            let position = reserve_positions(tx, viewer, events).await?;
            for sql in expressions.runs(&pattern, size, from, to, position) {
                run(tx, &sql).await?;
            }
            Ok(())
        })?;
        from = to;
        progress(from);
    }
    // The planner's statistics date from when the tables were empty.
    db.analyze().await
}

/// Rejects an org with rows of a person's own, among which seeded ones would be lost.
async fn require_empty(db: &Db, viewer: &Viewer) -> Result<()> {
    for (table, noun) in [("campaign", "campaigns"), ("record", "records"), ("goal", "goals"), ("api_key", "keys")] {
        let sql = format!("SELECT 1 FROM {table} WHERE org_id = $1 LIMIT 1");
        let backend = db.read().get_database_backend();
        let found = Statement::from_sql_and_values(backend, sql, [viewer.org_id.into()]);
        if db.read().query_one_raw(found).await?.is_some() {
            return Err(Error::internal(format!("the org has {noun}: seed an empty database")));
        }
    }
    Ok(())
}

async fn run(tx: &Tx, sql: &str) -> Result<()> {
    tx.db().execute_unprepared(sql).await?;
    Ok(())
}

/// Reserves positions of the log; returns the last one before them.
async fn reserve_positions(tx: &Tx, viewer: &Viewer, count: i64) -> Result<i64> {
    let sql = "UPDATE event_counter SET position = position + $1 WHERE org_id = $2 RETURNING position";
    let values = [count.into(), viewer.org_id.into()];
    let statement = Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values);
    let row = tx.db().query_one_raw(statement).await?.ok_or_else(|| Error::internal("the org has no event counter"))?;
    Ok(row.try_get_by_index::<i64>(0)? - count)
}

/// Values that all rows copy from one campaign created through the domain, as SQL.
struct Pattern {
    campaign: String,
    instructions: String,
    definition: String,
}

/// Kinds of ids.
#[derive(Clone, Copy)]
enum Kind {
    Campaign = 1,
    Run = 2,
    Phase = 3,
    Task = 4,
    Step = 5,
}

/// Events per run: the kind, and the change in the payload.
const EVENTS: [(&str, &str); 5] = [
    ("run.created", "\"to\":\"QUEUED\""),
    ("run.started", "\"from\":\"QUEUED\",\"to\":\"IN_PROGRESS\""),
    ("phase.started", "\"from\":\"PENDING\",\"to\":\"ACTIVE\""),
    ("phase.completed", "\"from\":\"ACTIVE\",\"to\":\"COMPLETED\""),
    ("run.completed", "\"from\":\"IN_PROGRESS\",\"to\":\"COMPLETED\""),
];

/// Actor name of these rows, by which the checker recognises them.
pub(crate) const ACTOR: &str = "sortie seed";
const ENGINE: &str = r#"{"kind":"ENGINE","member_id":null,"name":"sortie seed"}"#;

/// Expressions that differ by database.
struct Expressions {
    dialect: Dialect,
}

impl Expressions {
    fn uuid(&self, id: uuid::Uuid) -> String {
        match self.dialect {
            Dialect::Postgres => format!("'{id}'::uuid"),
            Dialect::Sqlite => format!("x'{}'", id.simple()),
        }
    }

    fn json(&self, text: &str) -> String {
        let text = text.replace('\'', "''");
        match self.dialect {
            Dialect::Postgres => format!("'{text}'::jsonb"),
            Dialect::Sqlite => format!("'{text}'"),
        }
    }

    /// The n-th id of a kind: a UUIDv7 with the creation time of the n-th row.
    fn id(&self, kind: Kind, n: &str, nth: &str) -> String {
        let (kind, time) = (kind as u8, format!("{BEGIN} + ({n}) * {EVERY}"));
        match self.dialect {
            Dialect::Postgres => format!(
                "(lpad(to_hex(({time})::bigint), 12, '0') || '7{kind:03x}8' || lpad(to_hex(({nth})::bigint), 15, '0'))::uuid"
            ),
            Dialect::Sqlite => format!("unhex(printf('%012x7{kind:03x}8%015x', {time}, {nth}))"),
        }
    }

    /// Time in seconds after the creation of the n-th row.
    fn at(&self, n: &str, seconds: u32) -> String {
        let time = format!("({BEGIN} + ({n}) * {EVERY}) / 1000 + {seconds}");
        match self.dialect {
            Dialect::Postgres => format!("to_timestamp({time})"),
            Dialect::Sqlite => format!("strftime('%Y-%m-%dT%H:%M:%S+00:00', {time}, 'unixepoch')"),
        }
    }

    /// A number with leading zeros.
    fn digits(&self, n: &str, width: usize) -> String {
        match self.dialect {
            Dialect::Postgres => format!("lpad(({n})::text, {width}, '0')"),
            Dialect::Sqlite => format!("printf('%0{width}d', {n})"),
        }
    }

    /// The numbers of a half-open range, as a table `n(i)`.
    fn numbers(&self, from: u32, to: u32) -> String {
        match self.dialect {
            Dialect::Postgres => format!("(SELECT i::bigint FROM generate_series({from}, {to} - 1) AS i) AS n"),
            Dialect::Sqlite => format!(
                "(WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to} - 1) SELECT i FROM n) AS n"
            ),
        }
    }

    fn campaigns(&self, pattern: &Pattern, size: Size) -> String {
        let (id, at, name) =
            (self.id(Kind::Campaign, "n.i - 100000", "n.i"), self.at("n.i - 100000", 0), self.digits("n.i", 5));
        format!(
            "INSERT INTO campaign (id, org_id, name, description, channel, status, goal_id, writer_id, reviewer_id, \
             message_template_id, segment_id, instructions, variables, version, started_at, created_by, search, created_at, updated_at, revision) \
             SELECT {id}, c.org_id, 'Campaign ' || {name}, c.description, c.channel, 'ACTIVE', c.goal_id, c.writer_id, c.reviewer_id, \
             c.message_template_id, c.segment_id, c.instructions, c.variables, 1, {at}, {}, 'campaign ' || {name}, {at}, {at}, 1 \
             FROM campaign c CROSS JOIN {} WHERE c.id = {}",
            self.json(ENGINE),
            self.numbers(0, size.campaigns),
            pattern.campaign
        )
    }

    /// Statements that create a range of runs with everything below them. Of a hundred runs, ninety
    /// are completed, four failed, three cancelled, two paused and one scheduled.
    fn runs(&self, pattern: &Pattern, size: Size, from: u32, to: u32, position: i64) -> Vec<String> {
        let n = self.numbers(from, to);
        let of = format!("n.i % {}", size.campaigns);
        let (run, phase, task) =
            (self.id(Kind::Run, "n.i", "n.i"), self.id(Kind::Phase, "n.i", "n.i"), self.id(Kind::Task, "n.i", "n.i"));
        let campaign = self.id(Kind::Campaign, &format!("{of} - 100000"), &of);
        let (made, ended, name, title) =
            (self.at("n.i", 0), self.at("n.i", 15), self.digits("n.i", 7), self.digits(&of, 5));
        let status = "CASE WHEN n.i % 100 < 90 THEN 'COMPLETED' WHEN n.i % 100 < 94 THEN 'FAILED' WHEN n.i % 100 < 97 THEN 'CANCELLED' \
                      WHEN n.i % 100 < 99 THEN 'PAUSED' ELSE 'SCHEDULED' END";
        let channel = "CASE WHEN n.i % 10 < 7 THEN 'EMAIL' WHEN n.i % 10 < 9 THEN 'SMS' ELSE 'PHONE' END";
        let kind = "CASE WHEN n.i % 20 < 16 THEN 'RUN' WHEN n.i % 20 < 19 THEN 'SCHEDULE' ELSE 'TEST_RUN' END";
        let (engine, nothing, steps) = (self.json(ENGINE), self.json("[]"), size.steps_per_run);
        let fail = self.json("\"ALL\"");
        let mut all = vec![
            format!(
                "INSERT INTO run (id, org_id, campaign_id, goal_id, campaign_version, campaign_name, name, type, status, channel, scheduled_for, \
                 queued_at, started_at, ended_at, audience_count, audience_done, outcome, created_by, search, \
                 created_at, updated_at, revision) \
                 SELECT {run}, c.org_id, {campaign}, c.goal_id, 1, 'Campaign ' || {title}, 'Run ' || {name}, {kind}, {status}, {channel}, \
                 CASE WHEN n.i % 100 = 99 THEN TIME_FAR END, {made}, {made}, CASE WHEN n.i % 100 < 97 THEN {ended} END, \
                 {steps}, TRUE, CASE WHEN n.i % 100 < 90 THEN '{steps} of {steps} sent, 0 failed, 0 skipped' END, {engine}, \
                 'run ' || {name} || ' campaign ' || {title}, {made}, {ended}, 2 FROM campaign c CROSS JOIN {n} WHERE c.id = {}",
                pattern.campaign
            )
            .replace("TIME_FAR", &self.at("n.i + 100000000", 0)),
            format!(
                "INSERT INTO brief (run_id, org_id, definition, instructions) SELECT {run}, c.org_id, {}, {} \
                 FROM campaign c CROSS JOIN {n} WHERE c.id = {}",
                pattern.definition, pattern.instructions, pattern.campaign
            ),
            format!(
                "INSERT INTO phase (id, org_id, run_id, key, name, sequence, status, autonomous, interrupt_events, started_at, \
                 completed_at, revision) SELECT {phase}, c.org_id, {run}, 'in_flight', 'In-Flight', 0, 'COMPLETED', TRUE, {nothing}, \
                 {made}, {ended}, 2 FROM campaign c CROSS JOIN {n} WHERE c.id = {}",
                pattern.campaign
            ),
            format!(
                "INSERT INTO task (id, org_id, run_id, phase_id, key, name, sequence, status, fan_out, fan_out_begun, fan_out_done, \
                 fail_when, depends_on, pending, queued, in_progress, awaiting_approval, completed, skipped, failed, started_at, \
                 completed_at) SELECT {task}, c.org_id, {run}, {phase}, 'send', 'Send', 0, 'COMPLETED', TRUE, TRUE, TRUE, \
                 {fail}, {nothing}, 0, 0, 0, 0, {steps}, 0, 0, {made}, {ended} FROM campaign c CROSS JOIN {n} WHERE c.id = {}",
                pattern.campaign
            ),
            format!(
                "INSERT INTO step (id, org_id, run_id, phase_id, task_id, key, name, kind, sequence, status, trigger, content_source, \
                 assigned_to, available_at, attempt_count, failure_count, max_attempts, lapse_count, started_at, completed_at, \
                 completed_by, created_at, revision) SELECT {}, c.org_id, {run}, {phase}, {task}, 'send_' || s.i, 'Send a message', \
                 'send_message', s.i, 'COMPLETED', 'immediate', 'TEMPLATE_SOURCED', 'WORKFLOW', {made}, 1, 0, 5, 0, {made}, {ended}, \
                 {engine}, {made}, 3 FROM campaign c CROSS JOIN {n} CROSS JOIN {} WHERE c.id = {}",
                self.id(Kind::Step, "n.i", &format!("n.i * {steps} + s.i")),
                self.numbers(0, steps).trim_end_matches('n').to_owned() + "s",
                pattern.campaign
            ),
        ];
        let text = if self.dialect == Dialect::Postgres { "::jsonb" } else { "" };
        for (nth, (kind_of, change)) in EVENTS.iter().enumerate() {
            let phase = if kind_of.starts_with("phase") { phase.as_str() } else { "NULL" };
            let payload = format!(
                "('{{{change},\"name\":\"Run ' || {name} || '\",\"campaignName\":\"Campaign ' || {title} || '\",\"type\":\"' || {kind} || \
                 '\",\"channel\":\"' || {channel} || '\"}}'){text}"
            );
            all.push(format!(
                "INSERT INTO event (org_id, position, kind, campaign_id, run_id, phase_id, actor, payload, at) \
                 SELECT c.org_id, {position} + (n.i - {from}) * {} + {nth} + 1, '{kind_of}', {campaign}, {run}, {phase}, {engine}, {payload}, \
                 {} FROM campaign c CROSS JOIN {n} WHERE c.id = {}",
                EVENTS.len(),
                self.at("n.i", nth as u32 * 3),
                pattern.campaign
            ));
        }
        all
    }
}
