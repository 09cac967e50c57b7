//! Postgres outages: requests fail promptly with a code of their own, and the log gets two lines.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::life::Home;
use crate::harness::{client, postgres};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_refused_at_once_while_postgres_is_away() {
    let Some(mut server) = postgres::Own::start() else { return };
    server.create("sortie_outage").await;
    let folder = std::env::temp_dir().join(format!("sortie_test_{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).unwrap();
    let home = Home::at(folder, server.url("sortie_outage")).logged();
    assert!(home.run(&["migrate"]).0);
    let (made, said) = home.run(&["key", "create", "--name", "first", "--role", "ADMIN"]);
    let key = said.split_whitespace().find(|word| word.starts_with("sortie_")).unwrap_or_else(|| panic!("{said}"));
    assert!(made);
    let life = home.begin();
    let post = async |key: &str, query: &str| {
        let begun = Instant::now();
        let url = format!("http://{}/graphql", life.address);
        let request = client().post(url).bearer_auth(key).json(&json!({ "query": query }));
        let answer = request.send().await.unwrap();
        let (status, after) = (answer.status().as_u16(), answer.headers().get("retry-after").is_some());
        (status, after, answer.json::<Value>().await.unwrap(), begun.elapsed())
    };
    let goal = "mutation { createGoal(input: { name: \"G\" }) { goal { id } } }";
    assert_eq!(post(key, goal).await.0, 200);
    server.kill();
    // The last request has an unknown key, which can't be verified during the outage.
    let unknown = format!("{}x", &key[..key.len() - 1]);
    for (key, query) in [
        (key, "{ viewer { role } }"),
        (key, "{ records { totalCount } }"),
        (key, goal),
        (unknown.as_str(), "{ viewer { role } }"),
    ] {
        let (status, after, told, took) = post(key, query).await;
        // The principal is cached briefly, and `viewer` reads nothing else.
        if query.contains("viewer") && status == 200 {
            continue;
        }
        assert_eq!((status, after), (503, true), "{query}: {told}");
        assert_eq!(told["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{query}: {told}");
        assert!(told["errors"][0]["extensions"]["retryAfterSeconds"].as_u64().is_some(), "{told}");
        assert!(took < Duration::from_secs(8), "{query} took {took:?}");
    }
    server.again();
    let deadline = Instant::now() + Duration::from_secs(60);
    while post(key, "{ records { totalCount } }").await.0 != 200 {
        assert!(Instant::now() < deadline, "it did not come back");
    }
    let log = home.log();
    assert!(log.matches("is unreachable since").count() == 1 && log.matches("is back").count() == 1, "{log}");
    let others = log.lines().filter(|line| line.contains("ERROR") && !line.contains("is unreachable since"));
    assert_eq!(others.count(), 0, "{log}");
    assert!(!log.contains("timed out"), "{log}");
    life.kill();
    home.check();
    home.remove();
}
