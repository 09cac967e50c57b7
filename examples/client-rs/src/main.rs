//! Launches runs of a campaign, follows their statuses through a cut connection, and pages through
//! them.

mod operations;
mod sortie;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use operations::{Cancel, Find, Launch, Log, Runs, cancel, changes, find, launch, log, runs};
use sortie::{Failure, Sortie};
use uuid::Uuid;

/// The kinds of events that change a run's status.
const KINDS: [&str; 8] = [
    "run.scheduled",
    "run.queued",
    "run.started",
    "run.paused",
    "run.resumed",
    "run.completed",
    "run.failed",
    "run.cancelled",
];

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn expect(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Final(otherwise.to_owned())) }
}

fn new_key() -> String {
    Uuid::new_v4().to_string()
}

async fn launch(sortie: &Sortie, campaign: &str, key: String) -> Result<String, Failure> {
    let input = launch::RunCampaignInput {
        campaign_id: campaign.to_owned(),
        even_if_open: Some(true),
        idempotency_key: Some(key),
        ..Default::default()
    };
    let launched = sortie.request::<Launch>(launch::Variables { input }).await?.run_campaign;
    let checks = launched.preflight.checks.into_iter();
    let failed = checks.filter(|check| check.status == launch::CheckStatus::FAILED);
    let failed: Vec<_> = failed.map(|check| format!("{:?}: {}", check.code, check.message)).collect();
    let run = launched.run.ok_or_else(|| Failure::Final(format!("the preflight failed: {}", failed.join("; "))))?;
    Ok(run.id)
}

async fn cancel(sortie: &Sortie, run: &str) -> Result<(), Failure> {
    let input = cancel::RunActInput {
        id: run.to_owned(),
        reason: Some("an example's run".into()),
        idempotency_key: Some(new_key()),
        ..Default::default()
    };
    sortie.request::<Cancel>(cancel::Variables { input }).await.map(drop)
}

/// Launches runs and follows them through a cut; returns the runs, all cancelled.
async fn follow(sortie: &Sortie, campaign: &str, begin: String) -> Result<Vec<String>, Failure> {
    // The same key twice, as after a response that was lost: one run.
    let key = new_key();
    let first = launch(sortie, campaign, key.clone()).await?;
    expect(launch(sortie, campaign, key).await? == first, "the same idempotency key launched two runs")?;
    println!("launched {first} twice with one key: one run");

    let mut launched = vec![first.clone()];
    let (mut cancelled, mut seen) = (HashSet::new(), Vec::new());
    let mut followed = sortie.follow(campaign.to_owned(), begin.clone());
    while launched.len() < 3 || !launched.iter().all(|run| cancelled.contains(run)) {
        let change = followed.next().await?;
        let name = |status: &Option<changes::RunStatus>| {
            status.as_ref().map_or("-".to_owned(), |status| format!("{status:?}"))
        };
        let run = change.run_id.clone().unwrap_or_default();
        println!("{run} {} -> {}", name(&change.from), name(&change.to));
        seen.push(change.cursor);
        if run == first && change.to == Some(changes::RunStatus::IN_PROGRESS) {
            followed.cut();
            for _ in 0..2 {
                launched.push(launch(sortie, campaign, new_key()).await?);
            }
            for run in &launched {
                cancel(sortie, run).await?;
            }
            println!("cut the connection, launched two more, and cancelled all three meanwhile");
        }
        if change.to == Some(changes::RunStatus::CANCELLED) {
            cancelled.insert(run);
        }
    }

    // What the subscription delivered is what the log holds: no gap, no repeat, the same order.
    let filter = log::EventFilter {
        campaign_ids: Some(vec![campaign.to_owned()]),
        kinds: Some(KINDS.map(String::from).to_vec()),
        ..Default::default()
    };
    let log = sortie.request::<Log>(log::Variables { filter, after: begin }).await?.events.nodes;
    let log: Vec<_> = log.into_iter().take(seen.len()).map(|event| event.cursor).collect();
    expect(seen == log, "the subscription and the log differ")?;
    println!("resumed: {} changes, each once, in the order of the log", seen.len());
    Ok(launched)
}

/// Pages through the campaign's cancelled runs, newest first; returns their ids.
async fn page(sortie: &Sortie, campaign: &str) -> Result<Vec<String>, Failure> {
    let mut listed = Vec::new();
    let (mut after, mut total) = (None, None);
    loop {
        let filter = runs::RunFilter {
            campaign_ids: Some(vec![campaign.to_owned()]),
            statuses: Some(vec![runs::RunStatus::CANCELLED]),
            ..Default::default()
        };
        let page = sortie.request::<Runs>(runs::Variables { filter, after }).await?.runs;
        let count = page.nodes.len();
        let total = *total.get_or_insert(page.total_count);
        listed.extend(page.nodes.into_iter().map(|run| run.id));
        println!("page of {count}: {} of {} cancelled runs", listed.len(), page.total_count);
        if !page.page_info.has_next_page {
            let distinct: HashSet<_> = listed.iter().collect();
            expect(distinct.len() == listed.len(), "a run is on two pages")?;
            // Runs that others cancel meanwhile may come on top.
            expect(distinct.len() as i64 >= total, "a run is missing from the pages")?;
            return Ok(listed);
        }
        after = page.page_info.end_cursor;
    }
}

async fn work(sortie: &Sortie) -> Result<(), Failure> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "Your own flight".into());
    let found = sortie.request::<Find>(find::Variables { name: name.clone() }).await?;
    let campaign = found.campaigns.nodes.into_iter().find(|campaign| campaign.name == name);
    let missing = || Failure::Final(format!("there is no active campaign \"{name}\"; name one as the argument"));
    let campaign = campaign.ok_or_else(missing)?.id;
    println!("campaign {name}");
    let launched = follow(sortie, &campaign, found.viewer.cursor).await?;
    let listed = page(sortie, &campaign).await?;
    expect(launched.iter().all(|run| listed.contains(run)), "a cancelled run is on no page")?;
    println!("the typed client in Rust works");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let url = setting("SORTIE_URL").unwrap_or_else(|| "http://127.0.0.1:4000/graphql".into());
    let sortie = Sortie::new(url.clone(), setting("SORTIE_KEY"));
    let done = tokio::time::timeout(Duration::from_secs(120), work(&sortie)).await;
    let failure = match done {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.to_string(),
        Err(_) => "not done within two minutes".to_owned(),
    };
    eprintln!("{url}: {failure}");
    ExitCode::FAILURE
}
