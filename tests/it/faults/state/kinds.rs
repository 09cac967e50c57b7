//! 7.4: no client can raise an event of a kind that Sortie writes itself.

use serde_json::json;
use sortie::kernel::event::kinds::{NOUNS, is_ours};

use crate::harness::World;

/// Every event kind in the source, a literal `noun.what_happened` given to `Event::new`.
#[test]
fn every_kind_in_the_source_is_reserved() {
    fn files(folder: &std::path::Path, all: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, all);
            } else if path.extension().is_some_and(|end| end == "rs") {
                all.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut all = Vec::new();
    files(std::path::Path::new("src"), &mut all);
    let mut known = 0;
    for text in &all {
        for part in text.split("Event::new(").skip(1) {
            let Some((_, kind)) = part.split(';').next().and_then(|call| call.split_once('"')) else { continue };
            let kind = kind.split('"').next().unwrap();
            if kind.contains('.') && !kind.contains(' ') {
                assert!(is_ours(kind), "{kind} can be raised by anybody");
                known += 1;
            }
        }
    }
    assert!(known >= 6, "{known}");
}

both! {
    async fn an_event_of_ours_can_not_be_raised(kind) {
        let world = World::without_server(kind, None).await;
        let record = world.create("record", json!({ "kind": "lead", "name": "L" })).await;
        let raise = "mutation($name: String!, $id: ID!) { raiseEvent(input: { name: $name, recordIds: [$id] }) { name } }";
        let mut wrong: Vec<String> = NOUNS.iter().map(|noun| format!("{noun}.begun")).collect();
        wrong.extend(["sweep.begun", "Sweep.begun", "SWEEP.BEGUN", " sweep.begun", "sweep.begun ", "sweep .begun", "sweep.begun\u{0}", "\u{0}", "sweep\u{200b}.begun", "ｓweep.begun", "sweep.", ".begun", "sweep", "", ".", "a.b.c", "a-b.c", "ß.b", "run.run.started"].map(str::to_owned));
        wrong.push(format!("a.{}", "b".repeat(79)));
        wrong.push(format!("{}.b", "a".repeat(100_000)));
        for name in wrong {
            let answer = world.post(raise, json!({ "name": name, "id": record })).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{name:?}: {answer:#}");
        }
        for name in ["payment.received".to_owned(), "sweeps.begun".to_owned(), "a.b".to_owned(), format!("a.{}", "b".repeat(78))] {
            assert_eq!(world.ask(raise, json!({ "name": name, "id": record })).await["raiseEvent"]["name"], name);
        }
        let foreign = world.ask_all_events().await.iter().filter(|event| !is_ours(event["kind"].as_str().unwrap())).count();
        assert_eq!(foreign, 4);
        world.end().await;
    }
}
