//! Concurrent imports, an interrupted one, quotes that are never closed in narrow files, and bytes
//! that are not text.

use entity::import::ImportStatus;
use serde_json::json;
use sortie::domain::import::{Options, import_with};
use sortie::kernel::error::{Code, Error};

use super::take;
use crate::harness::life::Home;
use crate::harness::{Kind, World};

both! {
    async fn two_imports_at_once_lose_nothing_and_tell_everything_once(kind) {
        let world = World::without_server(kind, None).await;
        let count = 1_200;
        let file = |header: &str, cell: &str| {
            (0..count).fold(format!("external_id,name,{header}\n"), |all, i| all + &format!("R-{i},N {i},{cell}{i}\n"))
        };
        let (first, second) = (file("email", "a@example.com").replace("a@example.com", "a"), file("job", "job"));
        let first = first.lines().map(|line| if line.ends_with("email") { line.into() } else { format!("{line}@example.com") }).collect::<Vec<String>>().join("\n");
        let options = Options { kind: "race".into(), file: "race.csv".into(), ..Options::default() };
        let db = world.db.write();
        let (one, two) = tokio::join!(
            import_with(&db, &world.viewer, &options, first.as_bytes(), |_, _| ()),
            import_with(&db, &world.viewer, &options, second.as_bytes(), |_, _| ()),
        );
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!((one.bad + two.bad, one.created + two.created), (0, count), "{one:?} {two:?}");
        assert_eq!(one.created + one.updated + one.unchanged + two.created + two.updated + two.unchanged, 2 * count);
        // Each record has the values of both files, and one creation event.
        let whole = "SELECT COUNT(*) FROM record WHERE kind = 'race' AND email IS NOT NULL AND CAST(attributes AS text) LIKE '%job%'";
        assert_eq!(world.number(whole).await, count);
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'record.created'").await, count);
        // The same with a person who creates a record of that id by hand.
        let create = "mutation { createRecord(input: { kind: \"race\", externalId: \"BY-HAND\", name: \"By hand\", phone: \"+493012345\" }) { record { id } } }";
        let csv = "external_id,name\nBY-HAND,From a file\n";
        let (made, came) = tokio::join!(world.post(create, json!({})), import_with(&db, &world.viewer, &options, csv.as_bytes(), |_, _| ()));
        let came = came.unwrap();
        let by_hand = "SELECT COUNT(*) FROM record WHERE external_id = 'BY-HAND'";
        assert_eq!(world.number(by_hand).await, 1);
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'record.created'").await, count + 1);
        if made["errors"].is_null() {
            assert_eq!((came.created, came.updated), (0, 1), "{came:?}");
            assert_eq!(world.number(&format!("{by_hand} AND phone = '+493012345' AND name = 'From a file'")).await, 1);
        }
        world.end().await;
    }
}

both! {
    async fn an_import_that_was_cut_off_is_ended(kind) {
        let world = World::without_server(kind, None).await;
        take(&world, b"external_id,name\nA-1,Ada\n").await;
        // The state that a kill leaves.
        world.force("UPDATE import SET status = 'RUNNING', ended_at = NULL").await;
        let now = world.clock.now();
        world.clock.set(now + chrono::Duration::minutes(9));
        world.forget().await;
        let imports = "{ imports { nodes { status failure endedAt } } }";
        let found = world.ask(imports, json!({})).await["imports"]["nodes"][0].clone();
        assert_eq!(found["status"], "RUNNING", "it may be slow: {found}");
        world.clock.set(now + chrono::Duration::minutes(11));
        world.forget().await;
        let found = world.ask(imports, json!({})).await["imports"]["nodes"][0].clone();
        assert_eq!(found["status"], "FAILED");
        assert!(found["failure"].as_str().unwrap().contains("interrupted") && found["endedAt"].is_string(), "{found}");
        world.end().await;
    }
}

both! {
    async fn an_import_that_was_given_up_does_not_come_back(kind) {
        let world = World::without_server(kind, None).await;
        let text = (0..1_200).fold("external_id,name\n".to_owned(), |all, i| all + &format!("S-{i},N {i}\n"));
        let (reached, first_chunk) = tokio::sync::oneshot::channel();
        let (go_on, stalled) = std::sync::mpsc::channel::<()>();
        let (ended, outcome) = tokio::sync::oneshot::channel();
        let (db, viewer, runtime) = (world.db.write(), world.viewer.clone(), tokio::runtime::Handle::current());
        let import = std::thread::spawn(move || {
            let options = Options { kind: "lead".into(), file: "slow.csv".into(), ..Options::default() };
            let mut reached = Some(reached);
            // The upload stalls after its first chunk.
            let stall = |_: &entity::import::Model, _: &[_]| {
                if let Some(reached) = reached.take() {
                    reached.send(()).unwrap();
                    stalled.recv().unwrap();
                }
            };
            let done = runtime.block_on(import_with(&db, &viewer, &options, text.as_bytes(), stall));
            assert!(ended.send(done).is_ok());
        });
        first_chunk.await.unwrap();
        let now = world.clock.now();
        world.clock.set(now + chrono::Duration::minutes(11));
        world.forget().await;
        let imports = "{ imports { nodes { status failure endedAt rows } } }";
        let given_up = world.ask(imports, json!({})).await["imports"]["nodes"][0].clone();
        assert_eq!(given_up["status"], "FAILED", "{given_up}");
        go_on.send(()).unwrap();
        match outcome.await.unwrap() {
            Err(Error::Refused(refusal)) => {
                assert!(matches!(refusal.code, Code::Conflict), "{refusal:?}");
                assert!(refusal.message.contains("import the file again"), "{}", refusal.message);
            }
            other => panic!("the import went on: {other:?}"),
        }
        import.join().unwrap();
        // Nothing was written after its end.
        assert_eq!(world.ask(imports, json!({})).await["imports"]["nodes"][0], given_up);
        assert_eq!(json!(world.number("SELECT COUNT(*) FROM record").await), given_up["rows"]);
        assert_eq!(world.number("SELECT COUNT(*) FROM import_seen").await, 0);
        world.end().await;
    }
}

both! {
    async fn open_quotes_are_found_in_narrow_files(kind) {
        let world = World::without_server(kind, None).await;
        let rows = |name: &str, count: usize| (0..count).fold(String::new(), |all, i| all + &format!("{name}-{i},x\n"));
        for between in [0, 1, 5, 300] {
            for end in ["rz,5\" pipe\n", "rz,12\"\n", "rz-1,\"closed\"\n"] {
                for (delimiter, header) in [(",", "external_id,note"), (";", "external_id;name")] {
                    let text = format!("{header}\n{}rq-1,\"open\n{}{end}{}", rows("ra", 10), rows("rb", between), rows("rc", 10));
                    let text = text.replace(',', delimiter);
                    let (report, problems) = take(&world, text.as_bytes()).await;
                    let what = format!("{between} rows, {end:?}, {delimiter}: {report:?} {problems:?}");
                    if between == 0 && end == "rz,12\"\n" {
                        // Nothing in the file distinguishes a row from a text of two lines.
                        continue;
                    }
                    assert_eq!(report.status, ImportStatus::Failed, "{what}");
                    assert!(report.failure.as_deref().unwrap().contains("opened in line 12 is not closed"), "{what}");
                    assert_eq!(report.created + report.unchanged + report.updated, 10, "{what}");
                }
            }
        }
        // The first row; ids that are mere words, or one column only.
        for text in ["external_id,note\nL-1,\"open\nL-2,x\nL-3,y\"\n", "external_id\n\"L-1\nL-2\nL-3\"\nL-4\n", "external_id,note\nada,\"x\nbob,x\ncleo,x\ndan,x\neve,y\"\n"] {
            let (report, _) = take(&world, text.as_bytes()).await;
            assert_eq!(report.status, ImportStatus::Failed, "{text}: {report:?}");
        }
        // Texts of several lines are unchanged.
        let text = "external_id,note\nL-1,\"Dear Ada,\nthanks, and bye\nBest,Bo\"\nL-2,\"2026-01-02,called\n2026-01-03,mailed\" \nada,\"Call,maybe\nBest,Ada\"\n";
        let (report, problems) = take(&world, text.as_bytes()).await;
        assert_eq!((report.status, report.rows, report.bad), (ImportStatus::Completed, 3, 0), "{problems:?}");
        let text = "external_id,name,note\nL-1,Ada,\"Call of Monday:\nwants blue, red, green\nasked for price, terms, delivery\nrings back\"\n";
        let (report, problems) = take(&world, text.as_bytes()).await;
        assert_eq!((report.status, report.bad), (ImportStatus::Completed, 0), "{problems:?}");
        world.end().await;
    }
}

both! {
    async fn what_is_no_text_is_named(kind) {
        let world = World::without_server(kind, None).await;
        let (report, problems) = take(&world, b"external_id,city\nN-1,a\0b\nN-2,Bonn\n").await;
        assert_eq!((report.created, report.fields_left_out), (2, 1));
        assert!(problems[0].why.contains("U+0000") && problems[0].column.as_deref() == Some("city"), "{problems:?}");
        let wide = |unit: fn(u16) -> Vec<u8>| "external_id,name\nW-1,Ada\nW-2,Bo\n".encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        let four = "external_id,name\nW-1,Ada\n".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect::<Vec<u8>>();
        for (bytes, right) in [
            (b"external_id,na\0me\nN-3,Ada\n".to_vec(), "the name of column 2 must not contain the character U+0000"),
            (wide(|unit| unit.to_be_bytes().to_vec()), "utf-16be"),
            (wide(|unit| unit.to_le_bytes().to_vec()), "utf-16le"),
            ([b"\0\0\xfe\xff".to_vec(), four.clone()].concat(), "UTF-32"),
            (four, "UTF-32"),
        ] {
            let options = Options { kind: "lead".into(), file: "file.csv".into(), ..Options::default() };
            match import_with(&world.db.write(), &world.viewer, &options, bytes.as_slice(), |_, _| ()).await {
                Err(Error::Refused(refusal)) => assert!(refusal.message.contains(right), "{}", refusal.message),
                other => panic!("{right}: {other:?}"),
            }
        }
        // An opt-out is honoured also if it is unreadable, or in a row that is skipped.
        let odd = [b"external_id,unsubscribed_at\nO-1,1. M".to_vec(), vec![0xe4], b"rz 2026\n".to_vec()].concat();
        take(&world, &odd).await;
        let many: String = (0..600).map(|i| format!("F-{i},no\n")).collect();
        take(&world, format!("external_id,unsubscribed\nO-2,no\nO-2,yes\n{many}F-3,yes\n").as_bytes()).await;
        let out = "SELECT external_id FROM record WHERE unsubscribed_at IS NOT NULL ORDER BY external_id";
        assert_eq!(world.sql(out).await, [["F-3"], ["O-1"], ["O-2"]]);
        let csv = "external_id,status,gdpr_ok,email_optin\nS-1,Unsubscribed,yes,0\nS-2,active,no,1\n";
        let (report, _) = take(&world, csv.as_bytes()).await;
        for right in ["values such as `Unsubscribed`", "`gdpr_ok` is kept as an attribute: a `no`", "`email_optin` is kept as an attribute: a `no`"] {
            assert!(report.warnings.0.iter().any(|warning| warning.contains(right)), "{right}: {:?}", report.warnings);
        }
        world.end().await;
    }
}

both! {
    /// Two concurrent applies of the same manifest create it once; the second finds it.
    async fn one_manifest_applied_by_several_at_once(kind) {
        let world = World::without_server(kind, None).await;
        let yaml = "goals: [{ name: G }]\nwriters: [{ name: W, kind: TEMPLATED, body: x }]\nsegments: [{ name: S, filter: { kind: { eq: lead } } }]\n\
                    agents: [{ name: ag }]\nrunTemplates:\n  - key: t\n    name: T\n    phases: [{ key: p, tasks: [{ key: t, steps: [{ key: s, type: look, assignedTo: HUMAN }] }] }]\n";
        let apply = "mutation($y: String!) { applyManifest(input: { yaml: $y }) { applied changes { action } problems { message } } }";
        let all = futures_util::future::join_all((0..6).map(|_| world.ask(apply, json!({ "y": yaml })))).await;
        for one in &all {
            assert_eq!(one["applyManifest"]["applied"], true, "{one}");
        }
        for table in ["goal", "writer", "segment", "agent"] {
            let name = if table == "agent" { "ag".to_owned() } else { table[..1].to_uppercase() };
            assert_eq!(world.number(&format!("SELECT COUNT(*) FROM {table} WHERE name = '{name}'")).await, 1, "{table}");
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_quote_holds_no_upload_in_memory() {
    let home = Home::new(Kind::Sqlite).await;
    let life = home.begin();
    // 96 MiB after a quote that is never closed: far more than is buffered of a file at once.
    let head = "external_id,name\nL-1,Ada\nL-2,\"Bo\n".to_owned();
    let piece = "L-3,Cy and more of them\n".repeat(43_691);
    let pieces = std::iter::once(head).chain(std::iter::repeat_n(piece, 96)).map(Ok::<_, std::io::Error>);
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let before = life.memory();
    let url = format!("http://{}/import/records?kind=lead", life.address);
    let upload = crate::harness::client().post(url).header("content-type", "text/csv").body(body).send();
    let mut most = before;
    let upload = tokio::spawn(upload);
    while !upload.is_finished() {
        most = most.max(life.memory());
        tokio::task::yield_now().await;
    }
    let answer = upload.await.unwrap().unwrap().text().await.unwrap();
    assert!(answer.contains("the quote opened in line 3 is not closed"), "{answer}");
    assert!(most - before < 64 * 1024, "it took {} KiB more", most - before);
    assert_eq!(home.count("SELECT COUNT(*) FROM record").await, 1);
    life.kill();
    home.remove();
}
