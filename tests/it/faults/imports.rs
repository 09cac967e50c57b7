//! Files: columns, delimiters, encodings, types, bad fields, opt-outs.

mod locales;
mod opt_outs;
mod shell;
mod together;

use serde_json::{Value, json};
use sortie::domain::import::{Options, Problem, import, import_with};
use sortie::kernel::error::Error;

use crate::harness::World;

/// The same, with options for the file.
async fn take_with(
    world: &World,
    options: &Options,
    bytes: &[u8],
) -> Result<(entity::import::Model, Vec<Problem>), Error> {
    let mut all = Vec::new();
    let options = Options { kind: "lead".into(), file: "file.csv".into(), ..options.clone() };
    let db = world.db.write();
    let report = import_with(&db, &world.viewer, &options, bytes, |_, problems| all.extend(problems.to_vec()));
    let report = report.await?;
    assert_eq!(report.rows, report.created + report.updated + report.unchanged + report.bad, "{report:?}");
    Ok((report, all))
}

/// Returns the reason for which a file is rejected as a whole.
async fn refused(world: &World, options: &Options, bytes: &[u8]) -> String {
    match take_with(world, options, bytes).await {
        Err(Error::Refused(refusal)) => refusal.message,
        other => panic!("{} was not refused: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

fn mapped(map: &[&str]) -> Options {
    Options { map: map.iter().map(|map| (*map).to_owned()).collect(), ..Options::default() }
}

fn becomes(report: &entity::import::Model) -> Vec<&str> {
    report.columns.0.iter().map(|column| column.becomes.as_deref().unwrap_or("-")).collect()
}

async fn take(world: &World, bytes: &[u8]) -> (entity::import::Model, Vec<Problem>) {
    let mut all = Vec::new();
    let db = world.db.write();
    let report = import(&db, &world.viewer, "lead", "file.csv", bytes, |_, problems| all.extend(problems.to_vec()));
    let report = report.await.unwrap();
    (report, all)
}

/// The only record with an external id, as returned by the API.
async fn record(world: &World, id: &str) -> Value {
    let query = "query($id: String!) { records(filter: { externalId: { eq: $id } }) { nodes { \
                 externalId name email phone timeZone stage lastContactedAt unsubscribedAt attributes revision } } }";
    world.ask(query, json!({ "id": id })).await["records"]["nodes"][0].clone()
}

both! {
    async fn a_column_that_is_not_in_the_file_changes_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let full = "external_id,name,email,phone,timezone,stage,last_contacted_at,company,city\n\
                    L-1,Ada,ada@example.com,+4930123456,Europe/Berlin,New,2026-10-01T09:00:00Z,Acme,Bonn\n";
        assert_eq!(take(&world, full.as_bytes()).await.0.created, 1);
        let before = record(&world, "L-1").await;
        let (report, _) = take(&world, b"external_id,name\nL-1,Ada\n").await;
        assert_eq!((report.updated, report.unchanged), (0, 1));
        assert_eq!(record(&world, "L-1").await, before);
        let (report, _) = take(&world, b"external_id,name,company\nL-1,Ada Baker,Bolt\nL-2,Bruno,\n").await;
        assert_eq!((report.updated, report.created), (1, 1));
        let after = record(&world, "L-1").await;
        for field in ["email", "phone", "timeZone", "stage", "lastContactedAt"] {
            assert_eq!(after[field], before[field], "{field}");
            assert_eq!(record(&world, "L-2").await[field], Value::Null, "{field}");
        }
        assert_eq!((&after["name"], &after["attributes"]), (&json!("Ada Baker"), &json!({ "company": "Bolt", "city": "Bonn" })));
        // A blank cell clears a field, attributes too; but never the time of a past contact.
        let blank = "external_id,name,email,phone,timezone,stage,last_contacted_at,company\nL-1,Ada Baker,,,,,, \n";
        assert_eq!(take(&world, blank.as_bytes()).await.0.updated, 1);
        let after = record(&world, "L-1").await;
        for field in ["email", "phone", "timeZone", "stage"] {
            assert_eq!(after[field], Value::Null, "{field}");
        }
        assert_eq!((&after["lastContactedAt"], &after["attributes"]), (&before["lastContactedAt"], &json!({ "city": "Bonn" })));
        world.end().await;
    }
}

both! {
    async fn columns_are_recognised_as_people_write_them(kind) {
        let world = World::without_server(kind, None).await;
        let none = Options::default();
        for (header, fields) in [
            ("External ID,Name,E-Mail Address,Phone Number,Time zone,Last contacted at,Stage", "external_id name email phone time_zone last_contacted_at stage"),
            ("EXTERNAL-ID,Full Name,Mail,Telephone,TimeZone,Last Contacted,STAGE", "external_id name email phone time_zone last_contacted_at stage"),
            (" external_id , name ,E-mail, Tel. ,TZ,last-contact,pipeline stage", "external_id name email phone time_zone last_contacted_at stage"),
            ("Record ID,First Name,Last Name,Email,Mobile,Unsubscribed from all email,UNSUB_TIME", "external_id attributes.First Name attributes.Last Name email phone unsubscribed unsubscribed_at"),
            ("Lead Id,Name,Phone,Mobile Phone,Work,$,a[0]", "external_id name phone attributes.Mobile Phone attributes.Work attributes.$ attributes.a[0]"),
        ] {
            let (report, problems) = take_with(&world, &none, format!("{header}\n").as_bytes()).await.unwrap();
            assert_eq!((becomes(&report).join(" ").as_str(), problems.len()), (fields, 0), "{header}");
        }
        // A name close to a known column is a warning; one that only sounds similar is not.
        for (column, warned) in [
            ("Emial", Some("email")), ("e_mali", None), ("Phnoe", Some("phone")), ("Work Email", Some("email")), ("Stge", Some("stage")),
            ("State", None), ("Title", None), ("Company", None), ("subscribed", Some("unsubscribed")), ("Employees", None), ("Unsubscribd", Some("unsubscribed")),
        ] {
            let (report, _) = take_with(&world, &none, format!("external_id,name,{column}\nL-1,Ada,x\n").as_bytes()).await.unwrap();
            let warned_of = report.warnings.0.join(" ");
            assert_eq!(warned_of.contains(column) && warned_of.contains(warned.unwrap_or("?")), warned.is_some(), "{column}: {warned_of}");
        }
        // Two columns for one field, a duplicate column, a missing external id: the message has
        // both names.
        for (header, words) in [
            ("external_id,name,Email,E-mail", "Email E-mail email"),
            ("external_id,name,Mail,e_mail_address", "Mail e_mail_address email"),
            ("External Id,external_id,name", "External Id external_id"),
            ("external_id,name,city,city", "city twice 3 4"),
            ("id,Record ID,name", "id Record ID external_id"),
            ("name,phone", "external_id missing name phone"),
            ("eksternal,name", "external_id missing eksternal"),
        ] {
            let told = refused(&world, &none, format!("{header}\n").as_bytes()).await;
            assert!(words.split(' ').all(|word| told.contains(word)), "{header}: {told}");
        }
        // `map` assigns columns to fields, renames attributes, and skips columns.
        let file = "Key;Naam;Mail;E-Mail;Firma;Notiz\nL-7;Ada;a@example.com;b@example.com;Acme;psst\n";
        let map = mapped(&["Key=external_id", "Naam=name", "E-Mail=-", "firma=company", "Notiz="]);
        let (report, problems) = take_with(&world, &map, file.as_bytes()).await.unwrap();
        assert_eq!((becomes(&report).join(" ").as_str(), problems), ("external_id name email - attributes.company -", vec![]));
        let lead = record(&world, "L-7").await;
        assert_eq!((&lead["name"], &lead["email"], &lead["attributes"]), (&json!("Ada"), &json!("a@example.com"), &json!({ "company": "Acme" })));
        for (map, words) in [("Nme=name", "Nme Naam"), ("Naam=nmae", "nmae name"), ("Naam", "Column=field"), ("=email", "no column")] {
            let told = refused(&world, &mapped(&[map]), file.as_bytes()).await;
            assert!(words.split(' ').all(|word| told.contains(word)), "{map}: {told}");
        }
        world.end().await;
    }
}

both! {
    async fn delimiters_and_encodings_are_detected_or_told(kind) {
        let world = World::without_server(kind, None).await;
        let none = Options::default();
        let rows = "external_id,name,city\nL-1,Jürgen,Köln\nL-2,山田,東京\n";
        let wide = |text: &str, little: bool| -> Vec<u8> {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(|unit: u16| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
        };
        let files: Vec<Vec<u8>> = vec![
            rows.into(),
            rows.replace(',', ";").into(),
            rows.replace(',', "\t").into(),
            rows.replace(',', "|").into(),
            format!("sep=;\r\n{}", rows.replace(',', ";").replace('\n', "\r\n")).into(),
            format!("\u{feff}{rows}").into(),
            format!("\u{feff}sep=,\n{rows}").into(),
            rows.replace('\n', "\r").into(),
            rows.trim_end().into(),
            format!("\n\n{rows}\n,,\n\n").into(),
            wide(rows, true),
            wide(&rows.replace(',', "\t"), false),
        ];
        for (at, file) in files.iter().enumerate() {
            let (report, problems) = take_with(&world, &none, file).await.unwrap();
            assert_eq!((report.rows, report.created, report.unchanged, &problems), (2, if at == 0 { 2 } else { 0 }, if at == 0 { 0 } else { 2 }, &vec![]), "file {at}");
        }
        assert_eq!(record(&world, "L-2").await["attributes"], json!({ "city": "東京" }));
        // The Windows encoding can be given as an option; otherwise the field is skipped and
        // reported by line, and the record is imported.
        let latin = b"external_id,name,city\nL-3,J\xfcrgen,Bonn\n";
        let (report, problems) = take_with(&world, &none, latin).await.unwrap();
        assert_eq!((report.created, report.fields_left_out, problems[0].line, problems[0].column.as_deref()), (1, 1, 2, Some("name")));
        assert!(problems[0].why.contains("windows-1252"), "{problems:?}");
        assert_eq!(record(&world, "L-3").await["name"], "L-3");
        let told = Options { encoding: Some("windows-1252".into()), ..Options::default() };
        assert_eq!(take_with(&world, &told, latin).await.unwrap().0.updated, 1);
        assert_eq!(record(&world, "L-3").await["name"], "Jürgen");
        let told = Options { delimiter: Some("^".into()), ..Options::default() };
        assert_eq!(take_with(&world, &told, b"external_id^name\nL-4^Ada, Bo; Cy\n").await.unwrap().0.created, 1);
        // A file of another format is named as such.
        for (bytes, words) in [
            (b"PK\x03\x04....[Content_Types].xml....xl/workbook.xml".as_slice(), "Excel xlsx CSV"),
            (b"PK\x03\x04....mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "OpenDocument ods"),
            (b"PK\x03\x04....leads.csv", "ZIP"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "Excel xls"),
            (b"%PDF-1.7", "PDF"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"<!DOCTYPE html><html>", "HTML"),
            (b"{\"records\": []}", "JSON"),
            (b"[{\"a\": 1}]", "JSON"),
            (b"e\0x\0t\0e\0r\0n\0a\0l\0", "UTF-16"),
            (b"", "empty external_id"),
            (b"\xef\xbb\xbf", "empty"),
            (b"\n\n  \n", "empty"),
            (b"\"external_id,name\nL-1,Ada\n", "quote line 1"),
        ] {
            let told = refused(&world, &none, bytes).await;
            assert!(words.split(' ').all(|word| told.contains(word)), "{words}: {told}");
        }
        for (options, words) in [
            (Options { encoding: Some("klingon".into()), ..Options::default() }, "encoding klingon"),
            (Options { delimiter: Some(";;".into()), ..Options::default() }, "delimiter"),
            (Options { region: Some("Mars".into()), ..Options::default() }, "region Mars"),
            (Options { types: vec!["city=colour".into()], ..Options::default() }, "types number boolean"),
            (Options { types: vec!["town=text".into()], ..Options::default() }, "types town"),
            (Options { types: vec!["name=text".into()], ..Options::default() }, "types name attribute"),
        ] {
            let told = refused(&world, &options, rows.as_bytes()).await;
            assert!(words.split(' ').all(|word| told.contains(word)), "{words}: {told}");
        }
        // A header alone, blank header cells: reported, but no failure.
        let (report, _) = take_with(&world, &none, b"external_id,name\n").await.unwrap();
        assert_eq!((report.rows, report.warnings.0.join(" ").contains("no rows")), (0, true));
        let (report, problems) = take_with(&world, &none, b"external_id,name,,\nL-5,Ada,,\nL-6,Bo,x,\n").await.unwrap();
        assert_eq!((report.created, problems.len(), report.warnings.0.iter().filter(|told| told.contains("no name")).count()), (2, 0, 2));
        world.end().await;
    }
}

both! {
    async fn an_open_quote_is_found_and_nothing_is_swallowed(kind) {
        let world = World::without_server(kind, None).await;
        let none = Options::default();
        let row = |i: usize| format!("Q-{i},Person {i},p{i}@example.com,Company {i}\n");
        let file = |open: usize, rows: usize, more: &dyn Fn(usize) -> Option<String>| -> String {
            let each = (2..rows + 2).map(|line| match more(line) {
                Some(other) => other,
                None if line == open => format!("Q-{line},\"Person {line},p{line}@example.com,Company\n"),
                None => row(line),
            });
            format!("external_id,name,email,company\n{}", each.collect::<String>())
        };
        let quoted = |line: usize| Some(format!("\"Q-{line}\",\"Person, {line}\",\"p{line}@example.com\",\"\"\"C\"\" {line}\"\n"));
        for (what, rows, text) in [
            ("of 300 rows", 99, file(101, 300, &|_| None)),
            ("of 5,000 rows", 99, file(101, 5_000, &|_| None)),
            ("before a quoted row", 99, file(101, 500, &|line| (line > 150).then(|| quoted(line)).flatten())),
            ("among quoted rows", 99, file(101, 500, &|line| (line != 101).then(|| quoted(line)).flatten())),
            ("closed by a quote at a value's end", 99, file(101, 500, &|line| (line == 160).then(|| format!("Q-{line},Person,p@example.com,12\"\n")))),
            ("in the last row", 399, file(401, 400, &|_| None)),
        ] {
            let (report, problems) = take_with(&world, &none, text.as_bytes()).await.unwrap();
            let line = report.failure.clone().unwrap_or_default();
            assert_eq!((report.status, report.rows, report.bad), (entity::import::ImportStatus::Failed, rows + 1, 1), "{what}: {problems:?}");
            let opened = if what == "in the last row" { 401 } else { 101 };
            let told = format!("the quote opened in line {opened} is not closed: the rest was not read");
            assert_eq!((line.as_str(), problems.last().map(|problem| (problem.line, problem.why.as_str()))), (told.as_str(), Some((opened, told.as_str()))), "{what}");
        }
        // Values of several lines, quotes inside a value, and too long lines are not mistaken for
        // that.
        let long = "x".repeat(70_000);
        let text = format!(
            "external_id,name,email,company\nS-1,Ada,,\"Acme,\nFirst floor, left,\nBonn\"\nS-2,\"Ada \"\"Ace\"\" Baker\",, 5\" pipe\nS-3,Bo \"B\" Cy,, \"quoted, after a blank\" \n\
             S-4,\"{long}\",,\nS-5,{long},,\nS-6,Cy,,\"Two\n\nlines\"\r\nS-7,Di,,\"\"\n"
        );
        let (report, problems) = take_with(&world, &none, text.as_bytes()).await.unwrap();
        let told: Vec<(u64, &str)> = problems.iter().map(|problem| (problem.line, problem.why.as_str())).collect();
        assert_eq!(told, [(7, "is longer than 65536 bytes"), (8, "is longer than 65536 bytes")]);
        assert_eq!((report.created, report.bad, report.failure), (5, 2, None));
        assert_eq!(record(&world, "S-3").await["attributes"]["company"], "quoted, after a blank");
        assert_eq!(record(&world, "S-2").await["name"], "Ada \"Ace\" Baker");
        world.end().await;
    }
}

both! {
    async fn a_bad_field_costs_the_field_and_not_the_person(kind) {
        let world = World::without_server(kind, None).await;
        let us = Options { region: Some("us".into()), ..Options::default() };
        let de = Options { region: Some("DE".into()), ..Options::default() };
        let none = Options::default();
        let phones = [
            (&none, "+49 (0)30 123456", "+4930123456"), (&none, "0049 30 123456", "+4930123456"), (&none, "+49-30-123456", "+4930123456"), (&none, "tel:+49-30-123456", "+4930123456"),
            (&none, "＋４９ ３０ １２３４５６", "+4930123456"), (&none, "+1 (212) 555-1234", "+12125551234"), (&none, "+15551234567", "+15551234567"), (&none, "+39 06 1234567", "+39061234567"),
            (&us, "(212) 555-1234", "+12125551234"), (&us, "212.555.1234", "+12125551234"), (&us, "1-212-555-1234", "+12125551234"), (&us, "+49 30 123456", "+4930123456"), (&us, "011 49 30 123456", "+4930123456"),
            (&de, "030 / 123456", "+4930123456"), (&de, "030/123456", "+4930123456"), (&de, "0049 30 123456", "+4930123456"), (&de, "0171 1234567", "+491711234567"), (&de, "+44 (0) 20 7946 0958", "+442079460958"),
        ];
        for (options, written, right) in phones {
            let (report, problems) = take_with(&world, options, format!("external_id,name,phone\nP-1,Ada,{written}\n").as_bytes()).await.unwrap();
            assert_eq!((report.bad, problems), (0, vec![]), "{written}");
            assert_eq!(record(&world, "P-1").await["phone"], right, "{written}");
        }
        // A bad value does not clear a good one.
        for (written, why) in [
            ("call me", "not a telephone number"), ("(212) 555-1234", "country code"), ("+49", "not a telephone number"), ("+999 123456789", "not a telephone number"), ("4.93012E+11", "not a telephone number"),
            ("+49 30 1234567 / +49 171 1234567", "more than one"), ("+4917012345678901234", "not a telephone number"), ("0", "not a telephone number"), ("\u{0}", "U+0000"), (" ", ""),
        ] {
            let text = "external_id,name,phone,city\nP-2,Ada,+4930123456,Bonn\n";
            take_with(&world, &none, text.as_bytes()).await.unwrap();
            let (report, problems) = take_with(&world, &none, format!("external_id,name,phone,city\nP-2,Ada,\"{written}\",Rome\n").as_bytes()).await.unwrap();
            assert_eq!((report.updated, report.bad), (1, 0), "{written}");
            let lead = record(&world, "P-2").await;
            assert_eq!(lead["attributes"]["city"], "Rome");
            if why.is_empty() {
                assert_eq!((problems, &lead["phone"]), (vec![], &Value::Null), "{written}");
                continue;
            }
            assert_eq!((lead["phone"].as_str(), report.fields_left_out, problems[0].column.as_deref()), (Some("+4930123456"), 1, Some("phone")), "{written}");
            assert!(problems[0].why.contains(why), "{written}: {problems:?}");
        }
        let (report, problems) = take_with(&world, &none, b"external_id,name,phone\nP-3,Ada,+1 212 555 1234 ext. 5\n").await.unwrap();
        assert!(report.fields_left_out == 1 && problems[0].why.contains("extension 5"), "{problems:?}");
        assert_eq!(record(&world, "P-3").await["phone"], "+12125551234");
        for (written, right) in [
            ("a@example.com", "a@example.com"), (" a@example.com ", "a@example.com"), ("Anna <a@example.com>", "a@example.com"), ("\"Anna, M.\" <a@example.com>", "a@example.com"), ("mailto:a@example.com", "a@example.com"),
            ("a@example.com.", "a@example.com"), ("a@bücher.example", "a@xn--bcher-kva.example"), ("a@BU\u{308}CHER.example", "a@xn--bcher-kva.example"), ("a@例え.テスト", "a@xn--r8jz45g.xn--zckzah"),
        ] {
            let cell = written.replace('"', "\"\"");
            let (_, problems) = take_with(&world, &none, format!("external_id,name,email\nE-1,Ada,\"{cell}\"\n").as_bytes()).await.unwrap();
            assert_eq!((problems, record(&world, "E-1").await["email"].as_str()), (vec![], Some(right)), "{written}");
        }
        for (written, why) in [
            ("not-an-email", "not a mail address"), ("jürgen@example.com", "before the @"), ("a@example.com; b@example.com", "more than one"), ("a@example.com,b@example.com", "more than one"),
            ("a@", "not a mail address"), ("@example.com", "not a mail address"), ("a b@example.com", "not a mail address"), ("a@exa mple.com", "not a mail address"), ("a@-ü-.example", "mail address"), ("a@b@c.example", "mail address"),
        ] {
            let (report, problems) = take_with(&world, &none, format!("external_id,name,email\nE-1,Ada,\"{written}\"\nE-2,Bo,\"{written}\"\n").as_bytes()).await.unwrap();
            assert_eq!((report.bad, report.fields_left_out, problems.len()), (0, 2, 2), "{written}");
            assert!(problems[0].why.contains(why), "{written}: {problems:?}");
            assert_eq!(record(&world, "E-1").await["email"], "a@xn--r8jz45g.xn--zckzah", "{written}");
        }
        // A row is skipped only if it has no external id, or the wrong number of cells.
        let text = "external_id,name,timezone,last_contacted_at\nR-1,,Mars/Base,soon\n,Nobody,,\nR-3,Cy\nR-4,Di,,\nR-4,Di,,\nR-5,Ed,Europe/Berlin,2026-10-30 14:39\n";
        let (report, problems) = take_with(&world, &none, text.as_bytes()).await.unwrap();
        let told: Vec<(u64, &str)> = problems.iter().map(|problem| (problem.line, problem.column.as_deref().unwrap_or("-"))).collect();
        assert_eq!(told, [(2, "name"), (2, "timezone"), (2, "last_contacted_at"), (3, "external_id"), (4, "-"), (6, "external_id")]);
        assert_eq!((report.created, report.bad, report.fields_left_out), (3, 3, 3));
        assert_eq!((record(&world, "R-1").await["name"].as_str(), record(&world, "R-5").await["lastContactedAt"].as_str()), (Some("R-1"), Some("2026-10-30T14:39:00+00:00")));
        // A stage that is not in the pipeline is skipped; a known record keeps its own.
        let partnership = Options { kind: "partnership".into(), ..Options::default() };
        for (stage, right, left) in [("MOU Sent", "MOU Sent", 0), ("mou sent", "MOU Sent", 1), ("MOU Signed", "MOU Signed", 0)] {
            let text = format!("external_id,name,stage\nS-1,Ada,{stage}\n");
            let mut told = Vec::new();
            let report = import_with(&world.db.write(), &world.viewer, &partnership, text.as_bytes(), |_, found| told.extend(found.to_vec())).await.unwrap();
            assert_eq!((report.fields_left_out, report.bad, told.len(), record(&world, "S-1").await["stage"].as_str()), (left, 0, left as usize, Some(right)), "{stage}: {told:?}");
        }
        // Texts are normalised; a new record without a name is named after its other values.
        let text = "external_id,First Name,Last Name,email\nJose\u{301},Jose\u{301},Díaz,\nN-2,,,n2@example.com\nN-3,,,\nJosé,twice,,\n";
        let (report, problems) = take_with(&world, &none, text.as_bytes()).await.unwrap();
        assert_eq!((report.created, report.bad, problems[0].line), (3, 1, 5));
        for (id, name) in [("José", "José Díaz"), ("N-2", "n2@example.com"), ("N-3", "N-3")] {
            assert!(record(&world, id).await["name"].as_str().is_some_and(|found| found.starts_with(name.chars().next().unwrap()) && found.len() >= name.len()), "{id}");
        }
        take_with(&world, &none, b"external_id,First Name\nN-2,Nora\n").await.unwrap();
        assert_eq!(record(&world, "N-2").await["name"], "n2@example.com", "a known record keeps its name");
        world.end().await;
    }
}

both! {
    async fn types_are_told_or_found_and_reported(kind) {
        let world = World::without_server(kind, None).await;
        let none = Options::default();
        let kinds = |report: &entity::import::Model| -> Vec<String> { report.columns.0.iter().filter_map(|column| column.kind.clone()).collect() };
        let text = "external_id,name,employees,rate,zip,plain,active,since,crm_id,mixed,plus,big,blank,huge\n\
                    T-1,Ada,353,12.5,10115,007,true,2026-01-31,12,1,+1,999999999999999,,9007199254740993\n\
                    T-2,Bo,-4,0.25,01067,12,FALSE,2026-02-01,13,x,2,1,,1\nT-3,Cy,,3,1,3,,,,,3,,,\n";
        let (report, problems) = take_with(&world, &none, text.as_bytes()).await.unwrap();
        assert_eq!((report.created, problems), (3, vec![]));
        assert_eq!(kinds(&report).join(" "), "number number text text boolean date text text text number text text");
        assert_eq!(record(&world, "T-1").await["attributes"], json!({
            "employees": 353, "rate": 12.5, "zip": "10115", "plain": "007", "active": true, "since": "2026-01-31", "crm_id": "12", "mixed": "1", "plus": "+1", "big": 999_999_999_999_999_i64, "huge": "9007199254740993",
        }));
        assert_eq!(take_with(&world, &none, text.as_bytes()).await.unwrap().0.unchanged, 3);
        // Declared types take precedence; values that don't fit are skipped.
        let told = Options { types: vec!["employees=number,active=boolean".into(), "Since = date".into(), "zip=number".into(), "code=text".into(), "huge=number".into()], ..Options::default() };
        let text = "external_id,name,employees,active,since,zip,code,huge\nU-1,Ada,many,ja,2026-01-31T10:00:00+01:00,01067,12,9007199254740993\nU-2,Bo,12,maybe,31st of January,1,13,9223372036854775808\n";
        let (report, problems) = take_with(&world, &told, text.as_bytes()).await.unwrap();
        let left: Vec<(u64, &str)> = problems.iter().map(|problem| (problem.line, problem.column.as_deref().unwrap())).collect();
        assert_eq!((report.created, left), (2, vec![(2, "employees"), (3, "active"), (3, "since"), (3, "huge")]));
        assert_eq!(record(&world, "U-1").await["attributes"], json!({ "active": true, "since": "2026-01-31T09:00:00Z", "zip": 1067, "code": "12", "huge": 9_007_199_254_740_993_i64 }));
        // Whole numbers with a fraction of zeros are exact, whatever their size; others are within 2^53.
        let told = Options { types: vec!["huge=number".into()], ..Options::default() };
        let text = "external_id,name,huge\nX-1,Ada,9007199254740993.0\nX-2,Bo,9007199254740993.5\nX-3,Cy,-9223372036854775808.00\nX-4,Di,1e17\nX-5,Ed,0.5\n";
        let (report, problems) = take_with(&world, &told, text.as_bytes()).await.unwrap();
        let left: Vec<(u64, &str)> = problems.iter().map(|problem| (problem.line, problem.column.as_deref().unwrap())).collect();
        assert_eq!((report.created, left), (5, vec![(3, "huge"), (5, "huge")]));
        assert!(problems.iter().all(|problem| problem.why.ends_with("with a fraction or an exponent they are not exact")), "{problems:?}");
        for (id, wanted) in [("X-1", json!(9_007_199_254_740_993_i64)), ("X-2", json!(null)), ("X-3", json!(i64::MIN)), ("X-4", json!(null)), ("X-5", json!(0.5))] {
            assert_eq!(record(&world, id).await["attributes"]["huge"], wanted, "{id}");
        }
        // A value that doesn't fit the type of the first rows stays text, with a warning.
        let mut text = String::from("external_id,name,score\n");
        (0..1_501).for_each(|i| text += &format!("V-{i},N,{}\n", if i < 1_200 { i.to_string() } else { format!("n/a {i}") }));
        let (report, problems) = take_with(&world, &none, text.as_bytes()).await.unwrap();
        assert_eq!((report.created, problems), (1_501, vec![]));
        let warned = report.warnings.0.join("\n");
        assert!(warned.contains("score") && warned.contains("301 further values") && warned.contains("line 1202"), "{warned}");
        assert_eq!((record(&world, "V-7").await["attributes"]["score"].clone(), record(&world, "V-1300").await["attributes"]["score"].clone()), (json!(7), json!("n/a 1300")));
        world.end().await;
    }
}

both! {
    async fn an_opt_out_in_a_file_is_honoured_and_never_lifted(kind) {
        let world = World::without_server(kind, None).await;
        let none = Options::default();
        let gone = async |id: &str| !record(&world, id).await["unsubscribedAt"].is_null();
        for (at, (cell, out, clear)) in [
            ("true", true, true), ("YES", true, true), ("1", true, true), ("ja", true, true), ("x", true, true), ("false", false, true), ("no", false, true), ("0", false, true), ("", false, true), ("nein", false, true),
            ("maybe", true, false), ("2", true, false), ("null", true, false),
        ].into_iter().enumerate() {
            let (report, problems) = take_with(&world, &none, format!("external_id,name,Unsubscribed\nO-{at},Ada,{cell}\n").as_bytes()).await.unwrap();
            assert_eq!((report.created, gone(&format!("O-{at}")).await, problems.is_empty()), (1, out, clear), "{cell}");
            assert_eq!(record(&world, &format!("O-{at}")).await["attributes"], json!({}));
        }
        // Known records are opted out; neither `false`, nor a blank, nor a file without the column
        // reverts that.
        let events = async || world.ask_all_events().await.iter().filter(|event| event["kind"] == "record.unsubscribed").count();
        let before = events().await;
        take_with(&world, &none, b"external_id,name,opt-out\nO-5,Ada,yes\nO-6,Ada,no\n").await.unwrap();
        assert_eq!((gone("O-5").await, gone("O-6").await, events().await - before), (true, false, 1));
        let since = record(&world, "O-5").await["unsubscribedAt"].clone();
        for file in ["external_id,name,unsubscribed,city\nO-5,Ada,false,a\n", "external_id,name,unsubscribed,unsubscribed_at,city\nO-5,Ada,,,b\n", "external_id,name,city\nO-5,Ada,c\n", "external_id,name,unsubscribed_at,city\nO-5,Ada,2020-01-01,d\n"] {
            assert_eq!(take_with(&world, &none, file.as_bytes()).await.unwrap().0.updated, 1, "{file}");
            assert_eq!(record(&world, "O-5").await["unsubscribedAt"], since, "{file}");
        }
        // A past time is stored; a future or unreadable one counts as now.
        let text = "external_id,name,unsubscribed_at,Do Not Contact\nO-20,Ada,2024-05-01T10:00:00Z,\nO-21,Bo,2099-01-01,no\nO-22,Cy,sometime,\nO-23,Di,2024-05-02,yes\nO-24,Ed,,yes\n";
        let (report, problems) = take_with(&world, &none, text.as_bytes()).await.unwrap();
        assert_eq!((report.created, problems.len(), problems[0].line), (5, 1, 4));
        let now = json!("2026-11-02T12:00:00+00:00");
        for (id, at) in [("O-20", json!("2024-05-01T10:00:00+00:00")), ("O-21", now.clone()), ("O-22", now.clone()), ("O-23", json!("2024-05-02T00:00:00+00:00")), ("O-24", now)] {
            assert_eq!(record(&world, id).await["unsubscribedAt"], at, "{id}");
        }
        world.end().await;
    }
}

both! {
    async fn an_opt_out_in_a_file_takes_the_address_out_of_a_run_that_waits(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 5).await;
        let gone = json!({ "kind": "contact", "externalId": "C-1", "name": "Gone", "email": "gone@example.com" });
        let gone = world.create("record", gone).await;
        world.ask("mutation($id: ID!) { updateRecord(input: { id: $id, unsubscribed: true }) { record { id } } }", json!({ "id": gone })).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        // Opted out by the record itself; by an ambiguous value; by a new record, and one that
        // opted out earlier, with the same address.
        take_with(&world, &Options::default(), b"external_id,name,unsubscribed\nL-0,Lead 0,yes\nL-2,Lead 2,perhaps\n").await.unwrap();
        let contacts = Options { kind: "contact".into(), ..Options::default() };
        let text = "external_id,name,email,opted out\nC-1,Gone,LEAD3@example.com,\nC-2,New,Lead1@Example.com,true\n";
        let report = import_with(&world.db.write(), &world.viewer, &contacts, text.as_bytes(), |_, _| {}).await.unwrap();
        assert_eq!((report.created, report.updated), (1, 1));
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "1 of 5 sent, 0 failed, 0 skipped, 4 suppressed");
        assert_eq!(world.outbox().len(), 1);
        assert!(std::fs::read_to_string(&world.outbox()[0]).unwrap().contains("lead4@example.com"));
        world.end().await;
    }
}
