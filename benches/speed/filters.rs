//! The time of every root list of the schema with each of its filters, in every order, from both
//! ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Size;
use crate::client::{Client, body, percentile};
use crate::lists::Lists;
use crate::server::Server;
use crate::step::calls;

pub async fn filters(server: &Server, size: Size) {
    let limit = Duration::from_millis(if server.postgres { 20 } else { 50 });
    let mut client = Client::connect(server.address).await;
    // Seeded runs have no records.
    calls(server, size.records).await;
    let lists = Lists::read(async |query| client.ask(&query, json!({})).await).await;
    println!("| list: each filter, order and end, 50 rows | documents | refused | p50 | slowest | above {limit:?} |");
    println!("|---|---|---|---|---|---|");
    let mut notes = String::new();
    for list in &lists.all {
        let (mut each, mut refused) = (Vec::new(), BTreeMap::new());
        // With `--small`, some of them: it is a test of the section itself.
        let all = lists.documents(list);
        let each_nth = if size.limits { 1 } else { all.len() / 20 + 1 };
        let documents: Vec<String> = all.into_iter().step_by(each_nth).collect();
        for document in &documents {
            let (mut took, errors) = time(&mut client, document).await;
            if let Some(error) = errors.get(0) {
                let why = format!("{}: {}", error["extensions"]["code"], error["message"]);
                refused.entry(why).or_insert((0, document)).0 += 1;
                continue;
            }
            if size.limits && took > limit {
                let mut again = [took; 5];
                for again in &mut again[1..] {
                    *again = time(&mut client, document).await.0;
                }
                again.sort();
                took = again[2];
                if took > limit {
                    notes += &format!("- {took:.1?}: `{document}`\n");
                }
            }
            each.push(took);
        }
        for (why, (times, document)) in refused {
            notes += &format!("- refused {times} times, {why}: `{document}`\n");
        }
        each.sort();
        let (all, refused) = (documents.len(), documents.len() - each.len());
        let at = |percent| if each.is_empty() { 0.0 } else { percentile(&each, percent) };
        let slow = each.iter().filter(|took| **took > limit).count();
        let above = if size.limits { slow.to_string() } else { "–".to_owned() };
        println!("| {} | {all} | {refused} | {:.1} ms | {:.1} ms | {above} |", list.name, at(50), at(100));
    }
    println!("\n{notes}");
}

/// The time of a response, and its errors.
async fn time(client: &mut Client, document: &str) -> (Duration, Value) {
    let asked = body(document, &Value::Null);
    let begun = Instant::now();
    let answer = client.post("/graphql", "application/json", &asked).await;
    let took = begun.elapsed();
    let mut answer: Value = serde_json::from_slice(answer).unwrap();
    (took, answer["errors"].take())
}
