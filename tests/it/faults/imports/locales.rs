//! Files in the formats of other countries: separators in numbers, the order of dates, column
//! names, lists without ids.

use serde_json::json;
use sortie::domain::import::Options;

use super::{becomes, mapped, record, refused, take, take_with};
use crate::harness::World;

fn kind_of<'a>(report: &'a entity::import::Model, column: &str) -> &'a str {
    let found = report.columns.0.iter().find(|one| one.name == column);
    found.and_then(|one| one.kind.as_deref()).unwrap_or("-")
}

both! {
    async fn thousands_never_become_small_numbers(kind) {
        let world = World::without_server(kind, None).await;
        // Decimal commas elsewhere in the file: `1.200` is 1200.
        let text = "id;Name;Preis;Menge;Umsatz\nq1;A;12,50;1.000;1.234,56\nq2;B;3,20;2.500;-2.000.000\nq3;C;1;950;7\n";
        let (report, problems) = take(&world, text.as_bytes()).await;
        assert_eq!((report.created, problems), (3, vec![]));
        assert_eq!(record(&world, "q1").await["attributes"], json!({ "Preis": 12.5, "Menge": 1000, "Umsatz": 1234.56 }));
        assert_eq!(record(&world, "q2").await["attributes"], json!({ "Preis": 3.2, "Menge": 2500, "Umsatz": -2_000_000 }));
        assert_eq!(record(&world, "q3").await["attributes"]["Menge"], 950);
        let warned = report.warnings.0.join("\n");
        assert!(warned.contains("`1.000` in the column `Menge` is read as 1000"), "{warned}");
        // Decimal points elsewhere: `1,200` is 1200, too.
        let (_, problems) = take(&world, b"id,name,price,count\np1,A,12.50,\"1,200\"\np2,B,3.2,900\n").await;
        assert_eq!(problems, vec![]);
        assert_eq!(record(&world, "p1").await["attributes"], json!({ "price": 12.5, "count": 1200 }));
        // Ambiguous: text, and a warning that names the option; the option decides.
        for (cell, comma, point) in [("1.200", json!(1200), json!(1.2)), ("\"1,200\"", json!(1.2), json!(1200))] {
            let text = format!("id,name,count\na1,A,{cell}\na2,B,950\n");
            let (report, problems) = take(&world, text.as_bytes()).await;
            let warned = report.warnings.0.join("\n");
            assert_eq!((kind_of(&report, "count"), problems), ("text", vec![]), "{cell}");
            assert!(warned.contains("`count`") && warned.contains("--decimal ,"), "{warned}");
            assert_eq!(record(&world, "a1").await["attributes"]["count"], cell.trim_matches('"'));
            for (decimal, right) in [(",", comma), (".", point)] {
                let told = Options { decimal: Some(decimal.into()), ..Options::default() };
                let (report, _) = take_with(&world, &told, text.as_bytes()).await.unwrap();
                assert_eq!((kind_of(&report, "count"), &record(&world, "a1").await["attributes"]["count"]), ("number", &right), "{cell} {decimal}");
            }
            // A declared type does not make the importer guess either.
            let told = Options { types: vec!["count=number".into()], ..Options::default() };
            let (report, problems) = take_with(&world, &told, text.as_bytes()).await.unwrap();
            assert!(report.fields_left_out == 1 && problems[0].why.contains("decimal"), "{problems:?}");
        }
        // A format that the sample did not show is no number in later rows either.
        let mut text = String::from("id,name,count\n");
        (0..1_100).for_each(|i| text += &format!("f{i},N,{}\n", if i < 1_050 { "7" } else { "1.200" }));
        let (report, _) = take(&world, text.as_bytes()).await;
        assert_eq!(record(&world, "f1060").await["attributes"]["count"], "1.200");
        assert!(report.warnings.0.join("\n").contains("50 further values"), "{:?}", report.warnings);
        // With the option: groups of any kind; values in the other format are skipped.
        let told = Options { decimal: Some(",".into()), types: vec!["v=number".into()], ..Options::default() };
        for (at, (cell, right)) in [("1.234,56", Some(1234.56)), ("1 234,5", Some(1234.5)), ("1\u{202f}234", Some(1234.0)), ("0,5", Some(0.5)), ("12.50", None), ("1.23,4", None), ("abc", None)].into_iter().enumerate() {
            let (report, _) = take_with(&world, &told, format!("id;name;v\nt{at};A;{cell}\n").as_bytes()).await.unwrap();
            assert_eq!((record(&world, &format!("t{at}")).await["attributes"]["v"].as_f64(), report.fields_left_out), (right, i64::from(right.is_none())), "{cell}");
        }
        let wrong = Options { decimal: Some(";".into()), ..Options::default() };
        assert!(refused(&world, &wrong, b"id,name\na,A\n").await.contains("decimal"));
        world.end().await;
    }
}

both! {
    async fn texts_keep_their_lines_and_blanks(kind) {
        let world = World::without_server(kind, None).await;
        let note = "line 1\nline 2\n\n  indented   x\tand a tab, \u{a0}a hard blank";
        let text = format!("external_id,name,note\na1,\"Ada\n  Baker\",\"{note}\"\n");
        assert_eq!(take(&world, text.as_bytes()).await.0.created, 1);
        let found = record(&world, "a1").await;
        assert_eq!((&found["name"], &found["attributes"]["note"]), (&json!("Ada Baker"), &json!(note)));
        assert_eq!(take(&world, text.as_bytes()).await.0.unchanged, 1);
        world.end().await;
    }
}

both! {
    async fn opt_outs_are_heard_in_other_languages(kind) {
        let world = World::without_server(kind, None).await;
        for (at, (column, cell)) in [
            ("Abgemeldet", "ja"), ("Abgemeldet am", "24.12.2025"), ("Keine Werbung", "x"), ("Werbesperre", "ja"), ("E-Mail-Abmeldung", "24.12.2025"), ("Nicht kontaktieren", "wahr"),
            ("Désabonné", "oui"), ("Désinscrit", "vrai"), ("Ne pas contacter", "oui"), ("Date de désabonnement", "2025-12-24"), ("No contactar", "sí"), ("Dado de baja", "si"), ("Fecha de baja", "24.12.2025"),
            ("Disiscritto", "sì"), ("Non contattare", "vero"), ("unsub", "1"), ("Has Opted Out", "true"), ("Blacklisted", "yes"), ("Is Unsubscribed", "yes"),
        ].into_iter().enumerate() {
            let (report, problems) = take(&world, format!("id;Name;{column}\no{at};A;{cell}\nn{at};B;\n").as_bytes()).await;
            assert_eq!(problems, vec![], "{column}: {:?}", report.columns);
            assert!(!record(&world, &format!("o{at}")).await["unsubscribedAt"].is_null(), "{column}");
            assert!(record(&world, &format!("n{at}")).await["unsubscribedAt"].is_null(), "{column}");
        }
        // An uncertain opt-out is a warning, also beside another one.
        for column in ["Do Not Call", "DNC", "HasOptedOutOfFax", "Bounced", "Newsletter opt-out", "Widerspruch", "Gesperrt", "Liste noire", "Suppressed"] {
            for header in [format!("id,name,{column}"), format!("id,name,{column},Opted out")] {
                let (report, _) = take(&world, format!("{header}\n").as_bytes()).await;
                let warned = report.warnings.0.join("\n");
                assert!(warned.contains(&format!("`{column}=unsubscribed`")), "{header}: {warned}");
            }
        }
        // Words that only look like an opt-out.
        for column in ["Bewerbung", "Gewerbe", "Anmeldung", "Donation", "Titel"] {
            let (report, _) = take(&world, format!("id,name,{column}\n").as_bytes()).await;
            assert!(!report.warnings.0.join("\n").contains(column), "{column}: {:?}", report.warnings);
        }
        let (report, _) = take(&world, "id,name,Newsletter\n".as_bytes()).await;
        assert!(report.warnings.0.join("\n").contains("`Newsletter`"), "{:?}", report.warnings);
        world.end().await;
    }
}

both! {
    async fn people_are_named_in_other_languages(kind) {
        let world = World::without_server(kind, None).await;
        let de = Options { region: Some("DE".into()), ..Options::default() };
        for (at, header) in ["Vorname;Nachname;E-Mail-Adresse;Telefon", "Prénom;Nom de famille;Courriel;Numéro de téléphone", "Nombre;Apellidos;Correo electrónico;Teléfono", "Nome;Cognome;Indirizzo e-mail;Telefono"].into_iter().enumerate() {
            let text = format!("id;{header}\nv{at};Ada;Baker;ada{at}@example.com;030 123456\n");
            let (_, problems) = take_with(&world, &de, text.as_bytes()).await.unwrap();
            let found = record(&world, &format!("v{at}")).await;
            let right = (json!("Ada Baker"), json!(format!("ada{at}@example.com")), json!("+4930123456"));
            assert_eq!((problems, (found["name"].clone(), found["email"].clone(), found["phone"].clone())), (vec![], right), "{header}");
        }
        world.end().await;
    }
}

both! {
    async fn where_there_is_no_id_the_address_is_it(kind) {
        let world = World::without_server(kind, None).await;
        let (report, problems) = take(&world, b"Name,Email\nAda,Ada@example.com\nBo,bo@example.com\nCy,\nDi,nobody\nAda again,ada@example.com\n").await;
        let told: Vec<(u64, Option<&str>)> = problems.iter().map(|problem| (problem.line, problem.column.as_deref())).collect();
        assert_eq!((report.created, report.bad, told), (2, 3, vec![(4, Some("Email")), (5, Some("Email")), (6, Some("external_id"))]));
        assert!(report.warnings.0.join("\n").contains("identified by their address, in `Email`"), "{:?}", report.warnings);
        let ada = record(&world, "ada@example.com").await;
        assert_eq!((&ada["name"], &ada["email"]), (&json!("Ada"), &json!("Ada@example.com")));
        // The same file changes nothing; a record that has the address under another id is that record.
        assert_eq!(take(&world, b"Name,Email\nAda,Ada@example.com\nBo,bo@example.com\n").await.0.unchanged, 2);
        take(&world, b"external_id,name,email\nC-9,Eve,eve@example.com\n").await;
        let (report, _) = take(&world, b"Name,Email,city\nEve,eve@example.com,Bonn\n").await;
        assert_eq!((report.created, report.updated), (0, 1));
        assert_eq!(record(&world, "C-9").await["attributes"], json!({ "city": "Bonn" }));
        // An opt-out of somebody without a name counts.
        take(&world, b"Email,Unsubscribed\nbo@example.com,yes\n").await;
        assert!(!record(&world, "bo@example.com").await["unsubscribedAt"].is_null());
        let twice = refused(&world, &mapped(&["Email=external_id", "Email=email"]), b"Name,Email\nAda,a@example.com\n").await;
        assert!(twice.contains("`Email` is mapped twice"), "{twice}");
        assert_eq!(becomes(&take(&world, b"Email\nf@example.com\n").await.0), ["email"]);
        world.end().await;
    }
}

both! {
    async fn days_are_read_in_the_order_that_is_shown_or_told(kind) {
        let world = World::without_server(kind, None).await;
        let read = async |id: &str| record(&world, id).await["lastContactedAt"].as_str().map(|at| at[..10].to_owned());
        let none = Options::default();
        let told = |dates: &str| Options { dates: Some(dates.into()), ..Options::default() };
        for (at, (options, cells, right)) in [
            (&none, ["24.12.2025", "1.2.2026"], [Some("2025-12-24"), Some("2026-02-01")]),
            (&none, ["24/12/2025", "01/02/2026"], [Some("2025-12-24"), Some("2026-02-01")]),
            (&none, ["12/24/2025", "01/02/2026"], [Some("2025-12-24"), Some("2026-01-02")]),
            (&none, ["03/04/2025", "01/02/2026"], [None, None]),
            (&told("DMY"), ["03/04/2025", "01/02/2026 14:30"], [Some("2025-04-03"), Some("2026-02-01")]),
            (&told("mdy"), ["03/04/2025", "1/2/2026 2:30 PM"], [Some("2025-03-04"), Some("2026-01-02")]),
            (&told("YMD"), ["2025/03/04", "2026-01-02"], [Some("2025-03-04"), Some("2026-01-02")]),
            (&none, ["31.02.2025", "24.12.25"], [None, None]),
            // What can be only one day is that day; only the others need an order.
            (&none, ["30.10.2026", "10/30/2026"], [Some("2026-10-30"), Some("2026-10-30")]),
            (&none, ["24/12/2025", "12/24/2025"], [Some("2025-12-24"), Some("2025-12-24")]),
            (&none, ["02/02/2026", "03/04/2026"], [Some("2026-02-02"), None]),
            (&told("MDY"), ["30/10/2026", "03/04/2026"], [Some("2026-10-30"), Some("2026-03-04")]),
            (&told("YMD"), ["30.10.2026", "03/04/2026"], [Some("2026-10-30"), None]),
            (&told("DMY"), ["31/02/2026", "02/30/2026"], [None, None]),
            // With dots, the day is first, also where the month is first with slashes.
            (&none, ["12/24/2025", "03.04.2026"], [Some("2025-12-24"), Some("2026-04-03")]),
            (&none, ["2/25/2026", "03.25.2026"], [Some("2026-02-25"), None]),
            (&told("MDY"), ["03.04.2026 10:15", "03.25.2026"], [Some("2026-04-03"), None]),
            (&told("YMD"), ["2026.04.03", "03.25.2026"], [Some("2026-04-03"), None]),
        ].into_iter().enumerate() {
            let text = format!("id,name,Last contacted,since\nx{at},A,{},\ny{at},B,{},\n", cells[0], cells[1]);
            let (report, problems) = take_with(&world, options, text.as_bytes()).await.unwrap();
            let found = [read(&format!("x{at}")).await, read(&format!("y{at}")).await];
            assert_eq!(found.each_ref().map(|day| day.as_deref()), right, "{cells:?}: {problems:?}");
            assert_eq!(report.fields_left_out as usize, right.iter().filter(|day| day.is_none()).count());
            assert!(problems.iter().all(|problem| !problem.value.as_deref().unwrap_or_default().contains('/') || cells[0].starts_with("31/") || problem.why.contains("--dates DMY")), "{problems:?}");
        }
        let typed = Options { types: vec!["since=date".into()], ..Options::default() };
        take_with(&world, &typed, b"id,name,since\nd1,A,24.12.2025\nd2,B,24.12.2025 10:15\n").await.unwrap();
        assert_eq!(record(&world, "d1").await["attributes"]["since"], "2025-12-24");
        assert_eq!(record(&world, "d2").await["attributes"]["since"], "2025-12-24T10:15:00Z");
        assert!(refused(&world, &told("DYM"), b"id,name\na,A\n").await.contains("dates"));
        world.end().await;
    }
}
