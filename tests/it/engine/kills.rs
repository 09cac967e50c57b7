//! The real binary, killed at random moments, in the middle of hand-overs, and at named kill
//! points: every run completes, nobody gets two messages, and only messages in flight at a kill
//! become unknown.
//!
//! `SORTIE_KILLS` is the number of kills per database and mail transport (default 30);
//! `SORTIE_SEED` chooses other moments.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::harness::life::{Home, Life};
use crate::harness::sink::{Sink, Stage};
use crate::harness::{Kind, outbox};

const LEADS: usize = 500;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|said| said.parse().ok()).unwrap_or(otherwise)
}

/// Reservations that are not settled; a message that is sent again is reserved again.
const SENDING: &str =
    "SELECT message_id || ' ' || CAST(reserved_at AS text) FROM communication WHERE status = 'SENDING'";

/// Leased send steps.
fn held(kind: Kind) -> String {
    let id = if kind == Kind::Sqlite { "hex(id)" } else { "CAST(id AS text)" };
    format!("SELECT {id} || ' ' || attempt_count FROM step WHERE kind = 'send_message' AND lease_owner IS NOT NULL")
}

/// Open steps that have been claimed at three ends of the server, or more, since they last came to a
/// result.
const BLAMED: &str = "SELECT COUNT(*) FROM step WHERE lapse_count >= 3 AND status IN ('QUEUED', 'IN_PROGRESS')";

/// Totals of one long test.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    in_hand_over: usize,
    /// Reservations that were not settled at a kill.
    in_hand: HashSet<String>,
    /// Leases of sends, as step and attempt, that were active at a kill.
    held: HashSet<String>,
    unknown: usize,
    runs: usize,
}

/// Messages for each run and address.
type Messages = HashMap<(String, String), usize>;

fn in_outbox(home: &Home) -> Messages {
    let mut messages = Messages::new();
    for file in outbox(home.folder()) {
        let raw = std::fs::read(&file).unwrap();
        let mail = mail_parser::MessageParser::default().parse(&raw).unwrap();
        let run = mail.header("X-Sortie-Run").unwrap().as_text().unwrap().to_owned();
        let to = mail.to().unwrap().first().unwrap().address().unwrap().to_owned();
        *messages.entry((run, to)).or_default() += 1;
    }
    messages
}

fn in_sink(sink: &Sink) -> Messages {
    let mut messages = Messages::new();
    for mail in sink.kept() {
        *messages.entry((mail.run, mail.to)).or_default() += 1;
    }
    messages
}

/// True if the mail server has kept a message of the run for the address.
fn went_out(sink: Option<&Sink>, run: &str, to: &str) -> bool {
    sink.is_some_and(|sink| sink.kept().iter().any(|mail| mail.run == run && mail.to == to))
}

/// Returns what the database says of the addresses that a run has not written to.
async fn unsent(home: &Home, written: &[(&(String, String), &usize)]) -> Vec<String> {
    let said = "SELECT CAST(r.email AS text) || ' ' || COALESCE(c.status, '-') || ' ' || COALESCE(c.error, '') || ' ' || COALESCE(CAST(c.sent_at AS text), '') || ' ' || COALESCE(c.message_id, '') FROM record r LEFT JOIN communication c ON c.to_address = r.email";
    let all = home.texts(said).await;
    all.into_iter().filter(|line| !written.iter().any(|((_, to), _)| line.starts_with(&format!("{to} ")))).collect()
}

/// Pushes a run to its end and checks all its results.
async fn finish(home: &Home, life: Life, run: &str, sink: Option<&Sink>, leads: usize, tally: &mut Tally) -> Life {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let status = life.push(run).await.unwrap();
        if status == "COMPLETED" {
            break;
        }
        assert!(["QUEUED", "IN_PROGRESS"].contains(&status.as_str()), "{status}: {tally:?}");
        tally.unknown += life.resolve(run, |to| went_out(sink, run, to)).await;
        assert!(Instant::now() < deadline, "the run did not complete: {tally:?}");
        tokio::task::yield_now().await;
    }
    tally.runs += 1;
    let messages = sink.map_or_else(|| in_outbox(home), in_sink);
    let mine: Vec<_> = messages.iter().filter(|((of, _), _)| of == run).collect();
    assert_eq!(mine.len(), leads, "{tally:?}; {:#?}", unsent(home, &mine).await);
    assert!(mine.iter().all(|(_, count)| **count == 1), "somebody got two: {tally:?}");
    let query = "query($id: ID!) { run(id: $id) { outcome records(filter: { outcomes: [SENT] }) { totalCount } progress { counts { total completed } } } }";
    let data = life.ask(query, json!({ "id": run })).await.unwrap();
    assert_eq!(data["run"]["outcome"], format!("{leads} of {leads} sent, 0 failed, 0 skipped"));
    assert_eq!(data["run"]["records"]["totalCount"], leads);
    assert_eq!(data["run"]["progress"]["counts"], json!({ "total": 2 * leads + 2, "completed": 2 * leads + 2 }));
    life
}

/// Pushes the run until each step that was claimed at several ends of the server has come to a result.
async fn spare(home: &Home, life: &Life, run: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while home.count(BLAMED).await > 0 {
        let status = life.push(run).await.unwrap();
        assert!(["QUEUED", "IN_PROGRESS"].contains(&status.as_str()), "{status}");
        assert!(Instant::now() < deadline, "a step comes to no result");
        tokio::task::yield_now().await;
    }
}

const LAPSES: &str = "SELECT CAST(COALESCE(SUM(lapse_count), 0) AS bigint) FROM step WHERE kind = 'send_message'";

async fn random(kind: Kind, sink: Option<Sink>) {
    let mut home = Home::new(kind).await;
    if let Some(sink) = &sink {
        home = home.with("SORTIE_SMTP_URL", sink.url());
    }
    home.import(LEADS);
    let (kills, seed) = (setting("SORTIE_KILLS", 30) as usize, setting("SORTIE_SEED", 42));
    let mut random = StdRng::seed_from_u64(seed);
    let mut life = home.begin();
    let campaign = life.campaign().await;
    let mut tally = Tally::default();
    // At least ten kills must hit a hand-over; because the moments are random, a few more may be
    // needed.
    let enough = |tally: &Tally| {
        tally.kills >= kills && (sink.is_none() || tally.in_hand_over >= 10.min(kills) || tally.kills >= 2 * kills)
    };
    while !enough(&tally) {
        let run = life.launch(&campaign, &format!("run-{}", tally.runs)).await.unwrap();
        // Until the run or the planned kills are over.
        let so_far = tally.kills;
        while !enough(&tally) && tally.kills < so_far + 30 {
            let stage = [Stage::Data, Stage::Dot, Stage::Half, Stage::Replied][random.random_range(0..4)];
            let trap = sink.as_ref().filter(|_| random.random_bool(0.6));
            let mut trap = trap.map(|sink| sink.trap(stage, random.random_range(1..60)));
            let until = Instant::now() + Duration::from_millis(random.random_range(20..400));
            let (mut status, mut caught) = (String::new(), false);
            loop {
                caught |= trap.as_mut().is_some_and(|trap| trap.try_recv().is_ok());
                if caught || status == "COMPLETED" || (trap.is_none() && Instant::now() > until) {
                    break;
                }
                status = life.push(&run).await.unwrap();
                // With a trap, unknown messages would keep the run open for ever.
                if trap.is_some() && Instant::now() > until + Duration::from_secs(5) {
                    trap = None;
                }
                tokio::task::yield_now().await;
            }
            if status == "COMPLETED" {
                break;
            }
            // A step that the server's end hits five times in a row is set aside for a person, with
            // POISONED: it is left in peace before that, and another moment is chosen.
            if home.count(BLAMED).await > 0 {
                if let Some(sink) = &sink {
                    sink.untrap();
                    if caught {
                        sink.let_go(true);
                    }
                }
                spare(&home, &life, &run).await;
                continue;
            }
            let seen = sink.as_ref().map(|sink| sink.in_hand() > 0);
            life.kill();
            sink.iter().for_each(Sink::untrap);
            tally.kills += 1;
            home.gone().await;
            let before = tally.in_hand.len();
            tally.in_hand.extend(home.texts(SENDING).await);
            tally.held.extend(home.texts(&held(kind)).await);
            tally.in_hand_over += usize::from(seen.unwrap_or(tally.in_hand.len() > before));
            life = home.begin();
            // A person resolves the messages unknown so far, so that there is something to send
            // again.
            tally.unknown += life.resolve(&run, |to| went_out(sink.as_ref(), &run, to)).await;
        }
        life = finish(&home, life, &run, sink.as_ref(), LEADS, &mut tally).await;
    }
    let Tally { kills, in_hand_over, unknown, runs, .. } = tally;
    let (way, in_hand) = (if sink.is_some() { "SMTP" } else { "outbox" }, tally.in_hand.len());
    println!(
        "{kind:?}, {way}, seed {seed}: {kills} kills, {in_hand_over} of them in a hand-over, over {runs} runs of {LEADS}; {in_hand} messages in hand, {unknown} unknown"
    );
    match sink {
        Some(_) => {
            assert!(in_hand_over >= 10.min(kills), "too few kills fell into a hand-over");
            // A machine that stalls for longer than a lease also makes leases expire: those are not
            // due to a kill.
            let lapses = home.count(LAPSES).await;
            let stood_still = usize::try_from(lapses).unwrap().saturating_sub(tally.held.len());
            assert!(unknown <= in_hand + stood_still, "{in_hand} in hand, {stood_still} lapses without a kill");
        }
        None => assert_eq!(unknown, 0),
    }
    life.kill();
    home.check();
    home.remove();
}

both! {
    async fn at_random_moments_with_the_outbox(kind) {
        random(kind, None).await;
    }
}

both! {
    async fn at_random_moments_with_a_mail_server(kind) {
        random(kind, Some(Sink::start().await)).await;
    }
}

both! {
    async fn at_every_named_place(kind) {
        const FEW: usize = 20;
        let sink = Sink::start().await;
        let home = Home::new(kind).await.with("SORTIE_SMTP_URL", sink.url());
        // Killed in the middle of the migrations, again and again; then they complete.
        for statement in [1, 9, 30, 61] {
            let died = home.command().args(["migrate", "--data"]).arg(home.folder()).env("SORTIE_FAILPOINT", format!("migrating:{statement}")).output().unwrap();
            assert!(!died.status.success(), "statement {statement}");
        }
        assert!(home.run(&["migrate"]).0);
        home.import(FEW);
        let life = home.begin();
        let campaign = life.campaign().await;
        life.kill();
        let mut tally = Tally::default();
        let places = [
            "launching:1", "claimed:1", "claimed:3", "settling:1", "settling:3", "settled:1", "settled:2", "sweeping:1", "sweeping:2",
            "sweeping:3", "reserving:1", "reserving:2", "reserved:1", "reserved:2", "in_data:1", "in_data:5", "after_dot:1", "after_dot:7",
        ];
        for place in places {
            let mut life = home.begin_at(Some(place)).unwrap();
            // A client without a response retries with the same key.
            let mut run = life.launch(&campaign, place).await;
            let deadline = Instant::now() + Duration::from_secs(60);
            while !life.is_over() {
                if let Some(run) = &run {
                    life.push(run).await;
                }
                assert!(Instant::now() < deadline, "never came to {place}");
                tokio::task::yield_now().await;
            }
            tally.kills += 1;
            home.gone().await;
            let in_hand = home.texts(SENDING).await.len();
            let (before, lapses, held) = (tally.unknown, home.count(LAPSES).await, home.texts(&held(kind)).await.len());
            let life = home.begin();
            if run.is_none() {
                assert_eq!(place, "launching:1");
            }
            let again = life.launch(&campaign, place).await;
            assert!(run.is_none() || run == again, "{place}");
            run = again;
            finish(&home, life, run.as_deref().unwrap(), Some(&sink), FEW, &mut tally).await.kill();
            let unknown = tally.unknown - before;
            let lapsed = home.texts("SELECT DISTINCT COALESCE(c.error, '-') || ' ' || s.lapse_count || ' ' || COALESCE(s.error, '') FROM step s JOIN communication c ON c.run_record_id = s.run_record_id WHERE s.lapse_count > 0 AND s.kind = 'send_message'").await;
            // As above: expired leases that no kill explains are those of a stalled machine.
            let stood_still = usize::try_from(home.count(LAPSES).await - lapses).unwrap().saturating_sub(held);
            assert!(unknown <= in_hand + stood_still, "{place}: {unknown} unknown, {in_hand} in hand, {stood_still} lapses without a kill; {lapsed:?}");
        }
        assert_eq!(home.count("SELECT COUNT(*) FROM run").await, places.len() as i64);
        // An occurrence of a schedule starts.
        let life = home.begin_at(Some("firing:1")).unwrap();
        let at = (std::time::SystemTime::now() + Duration::from_secs(2)).duration_since(std::time::UNIX_EPOCH).unwrap();
        let at = chrono::DateTime::from_timestamp(at.as_secs() as i64, 0).unwrap().to_rfc3339();
        let schedule = "mutation($id: ID!, $at: DateTime!) { scheduleCampaign(input: { campaignId: $id, at: $at }) { run { id } } }";
        let run = life.ask(schedule, json!({ "id": campaign, "at": at })).await.unwrap()["scheduleCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        let (mut life, deadline) = (life, Instant::now() + Duration::from_secs(60));
        while !life.is_over() {
            life.push(&run).await;
            assert!(Instant::now() < deadline, "the schedule never fired");
        }
        let life = home.begin();
        let deadline = Instant::now() + Duration::from_secs(60);
        while life.push(&run).await.as_deref() == Some("SCHEDULED") || life.push(&run).await.as_deref() == Some("QUEUED") {
            assert!(Instant::now() < deadline, "the schedule did not fire again");
        }
        finish(&home, life, &run, Some(&sink), FEW, &mut tally).await.kill();
        assert_eq!(home.count("SELECT COUNT(*) FROM event WHERE kind = 'schedule.fired'").await, 1);
        home.check();
        home.remove();
    }
}
