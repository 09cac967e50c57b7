//! Mail that a person sends from within a step, with the real binary killed at every named kill
//! point of the way: nobody gets it twice, all of it is sent, and every sent message is counted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::life::{Home, Life};
use crate::harness::sink::Sink;

const FEW: usize = 20;

/// Kill points: while the messages are enqueued, claimed, reserved, handed over, settled.
const PLACES: [&str; 9] = [
    "posting:1",
    "posted:1",
    "reserving:1",
    "reserved:1",
    "in_data:1",
    "in_data:9",
    "after_dot:1",
    "after_dot:7",
    "posting_settled:1",
];

const SEND: &str = "mutation($step: ID!, $ids: [ID!]!, $key: String!) { sendStepEmail(input: { stepId: $step, recordIds: $ids, idempotencyKey: $key }) { communications { id } } }";

/// Starts a run with one `email` step; returns the run and the step.
async fn begun(life: &Life, name: &str) -> (String, String) {
    let config = json!({ "subject": "Hello {{ name }}", "body": "How are you?" });
    let definition =
        json!({ "key": "write", "name": "Write", "type": "email", "assignedTo": "HUMAN", "config": config });
    let start = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id steps { nodes { id } } } } }";
    let input = json!({ "name": name, "steps": [{ "definition": definition }] });
    let run = life.ask(start, json!({ "input": input })).await.unwrap()["startGuidedRun"]["run"].clone();
    let step = run["steps"]["nodes"][0]["id"].as_str().unwrap().to_owned();
    let begin = "mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }";
    life.ask(begin, json!({ "id": step })).await.unwrap();
    (run["id"].as_str().unwrap().to_owned(), step)
}

/// True if no message is in flight, once a person has resolved the unknown ones.
async fn through(life: &Life, run: &str, sink: &Sink) -> bool {
    life.resolve(run, |to| sink.kept().iter().any(|mail| mail.run == run && mail.to == to)).await;
    let query = "query($id: ID!) { run(id: $id) { messagesOnWay } }";
    life.ask(query, json!({ "id": run })).await.unwrap()["run"]["messagesOnWay"] == 0
}

both! {
    async fn guided_mail_at_every_named_place(kind) {
        let sink = Sink::start().await;
        let home = Home::new(kind).await.with("SORTIE_SMTP_URL", sink.url());
        home.import(FEW);
        for place in PLACES {
            let life = home.begin();
            let ids = life.ask("{ records(first: 500) { nodes { id } } }", json!({})).await.unwrap();
            let ids: Vec<Value> = ids["records"]["nodes"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
            let (run, step) = begun(&life, place).await;
            life.kill();
            home.gone().await;

            let mut life = home.begin_at(Some(place)).unwrap();
            let asked = json!({ "step": step, "ids": ids, "key": place });
            let answered = life.ask(SEND, asked.clone()).await;
            // Before the commit there is no response; after it the process may exit before the
            // response is sent.
            assert!(answered.is_none() || place != "posting:1", "{place}");
            let deadline = Instant::now() + Duration::from_secs(60);
            while !life.is_over() {
                assert!(Instant::now() < deadline, "never came to {place}");
                tokio::task::yield_now().await;
            }
            home.gone().await;

            // A repeat with the same key, answered before or not, returns what was written, and
            // writes nothing.
            let life = home.begin();
            let again = life.ask(SEND, asked.clone()).await.unwrap();
            assert_eq!(again["sendStepEmail"]["communications"].as_array().unwrap().len(), FEW);
            assert!(answered.is_none_or(|before| before == again), "{place}");
            let deadline = Instant::now() + Duration::from_secs(120);
            while !through(&life, &run, &sink).await {
                assert!(Instant::now() < deadline, "{place}: still on their way");
                tokio::task::yield_now().await;
            }
            let mut got: Vec<String> = sink.kept().into_iter().filter(|mail| mail.run == run).map(|mail| mail.to).collect();
            got.sort();
            let all = got.len();
            got.dedup();
            assert_eq!((all, got.len()), (FEW, FEW), "{place}: somebody got two, or none");
            let end = "mutation($id: ID!) { completeStep(input: { id: $id }) { step { result } } }";
            let done = life.ask(end, json!({ "id": step })).await.unwrap();
            assert_eq!(done["completeStep"]["step"]["result"], json!({ "emailsSent": FEW }), "{place}");
            let end = "mutation($id: ID!) { completeRun(input: { id: $id }) { run { status summary { total { emailsSent } } } } }";
            let done = life.ask(end, json!({ "id": run })).await.unwrap();
            assert_eq!(done["completeRun"]["run"], json!({ "status": "COMPLETED", "summary": { "total": { "emailsSent": FEW } } }), "{place}");
            life.kill();
            home.gone().await;
        }
        assert_eq!(home.count("SELECT COUNT(*) FROM communication").await, (PLACES.len() * FEW) as i64);
        home.check();
        home.remove();
    }
}
