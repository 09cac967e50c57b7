//! Benchmarks of Sortie over HTTP against the real binary: `cargo bench --bench speed -- [sections]
//! [options]`.
//!
//! Sections (default: all): `start`, `pages`, `detail`, `step`, `engine`, `claims`, `launch`,
//! `guided`, `live`, `windows`, `filters`. `--on URL` names a database to measure on and may be repeated; without it an
//! SQLite file and a private Postgres in a temporary folder are made. An empty database is seeded
//! first: `--runs N` (default 1,000,000). `--small` runs everything on few rows and compares
//! nothing: CI uses it to check that the benchmark itself works.
//!
//! CPU seconds are the kernel's count for the server's process, and beside it for all processes of
//! a Postgres on this machine. The client shares the same cores, so the times are those of a busy
//! machine.

// A program: printing is its purpose, and any error ends it.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "a benchmark prints its figures and ends where it fails"
)]

mod claims;
mod client;
mod detail;
mod engine;
mod filters;
mod guided;
#[path = "../../tests/it/harness/lists.rs"]
mod lists;
mod live;
mod pages;
#[path = "../../tests/it/harness/postgres.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod postgres;
mod server;
mod socket;
mod step;
mod windows;

use server::Server;

/// Row and request counts of the benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub campaigns: u32,
    pub runs: u32,
    /// Requests of one kind.
    pub requests: usize,
    /// Number of rows that precede a deep page.
    pub deep: usize,
    /// Number of records that the engine works on, and below, of those in a large launch.
    pub records: usize,
    pub large: usize,
    /// Steps that are pending for external workers, in the case of few open steps.
    pub few: usize,
    /// Numbers of subscribers.
    pub crowds: &'static [usize],
    /// Events published to the subscribers: in a burst, and one after the other.
    pub burst: usize,
    pub paced: usize,
    /// Clients of live lists, the seconds of changes, and changes a second.
    pub watchers: usize,
    pub seconds: usize,
    pub rate: usize,
    /// True if times are compared with limits.
    pub limits: bool,
}

const WHOLE: Size = Size {
    campaigns: 1_000,
    runs: 1_000_000,
    requests: 2_000,
    deep: 100_000,
    records: 20_000,
    large: 100_000,
    few: 1_000,
    crowds: &[1_000, 5_000],
    burst: 200,
    paced: 50,
    watchers: 1_000,
    seconds: 20,
    rate: 200,
    limits: true,
};

const SMALL: Size = Size {
    campaigns: 10,
    runs: 500,
    requests: 20,
    deep: 100,
    records: 100,
    large: 200,
    few: 50,
    crowds: &[20],
    burst: 10,
    paced: 3,
    watchers: 40,
    seconds: 2,
    rate: 20,
    limits: false,
};

const SECTIONS: [&str; 11] =
    ["start", "pages", "detail", "step", "engine", "claims", "launch", "guided", "live", "windows", "filters"];

#[tokio::main]
async fn main() {
    let (mut size, mut sections, mut places) = (WHOLE, Vec::new(), Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--small" => size = SMALL,
            "--runs" => size.runs = words.next().and_then(|runs| runs.parse().ok()).expect("--runs N"),
            "--on" => places.push(words.next().expect("--on URL")),
            // cargo passes this argument itself.
            "--bench" | "--test" => {}
            section if SECTIONS.contains(&section) => sections.push(section.to_owned()),
            other => panic!("`{other}`: sections are {SECTIONS:?}, options --small, --runs N, --on URL"),
        }
    }
    if sections.is_empty() {
        sections = SECTIONS.map(str::to_owned).to_vec();
    }
    let own = if places.is_empty() { postgres::Own::start() } else { None };
    if places.is_empty() {
        places.push("sqlite".to_owned());
        if let Some(own) = &own {
            own.create("speed").await;
            places.push(own.url("speed"));
        }
    }
    for place in places {
        measure(&place, size, &sections).await;
    }
}

async fn measure(place: &str, size: Size, sections: &[String]) {
    let home = server::Home::at(place);
    home.seed(size);
    let seeded = detail::long_runs(&home.url, 40.min(size.runs as usize / 10)).await;
    println!("\n## {}, {} runs\n", home.kind(), size.runs);
    if sections.iter().any(|section| section == "start") {
        server::start_up(&home).await;
    }
    let server = Server::start(&home).await;
    for section in sections {
        match section.as_str() {
            "pages" => pages::pages(&server, size).await,
            "detail" => detail::detail(&server, size, &seeded).await,
            "step" => step::steps(&server, size).await,
            "engine" => engine::engine(&server, size).await,
            "claims" => claims::claims(&server, size).await,
            "launch" => engine::launch(&server, size).await,
            "guided" => guided::guided(&server, size).await,
            "live" => live::live(&server, size).await,
            "windows" => windows::windows(&server, size).await,
            "filters" => filters::filters(&server, size).await,
            _ => {}
        }
    }
    server.stop();
}
