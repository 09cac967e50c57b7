//! Files: columns, delimiters, encodings, types, bad fields, opt-outs.

use serde_json::{Value, json};
use sortie::record::import::{Problem, import};

use crate::harness::World;

async fn take(world: &World, bytes: &[u8]) -> (entity::import::Model, Vec<Problem>) {
    let mut all = Vec::new();
    let report =
        import(&world.db, &world.viewer, "lead", "file.csv", bytes, |_, problems| all.extend(problems.to_vec()));
    let report = report.await.unwrap();
    (report, all)
}

/// The one record of an external id, as the API shows it.
async fn record(world: &World, id: &str) -> Value {
    let query = "query($id: String!) { records(filter: { externalId: { eq: $id } }) { nodes { \
                 externalId name email phone timeZone stage lastContactedAt unsubscribedAt attributes revision } } }";
    world.ask(query, json!({ "id": id })).await["records"]["nodes"][0].clone()
}

both! {
    async fn a_column_that_is_not_in_the_file_changes_nothing(kind) {
        let world = World::still(kind, None).await;
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
        // A blank cell clears, attributes too; but never a contact that was made.
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
