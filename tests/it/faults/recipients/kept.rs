//! Processes keep what they were begun with: the records of a bulk opt-out, the list of a run.

use serde_json::json;

use crate::harness::World;

const OPT_OUT: &str = "mutation { unsubscribeRecords(input: { filter: { name: { eq: \"Lead 0\" } } }) { count } }";

both! {
    async fn a_bulk_opt_out_holds_for_those_whom_it_counted(kind) {
        let world = World::without_server(kind, None).await;
        world.leads(3).await;
        assert_eq!(world.ask(OPT_OUT, json!({})).await["unsubscribeRecords"]["count"], 1);
        // Before the sweep comes, that one meets the filter no more, and another does.
        world.force("UPDATE record SET name = 'Gone' WHERE external_id = 'L-0'").await;
        world.force("UPDATE record SET name = 'Lead 0' WHERE external_id = 'L-1'").await;
        world.tick(false).await;
        let out = "SELECT external_id FROM record WHERE unsubscribed_at IS NOT NULL";
        assert_eq!(world.sql(out).await, [["L-0"]]);
        assert_eq!(world.number("SELECT COUNT(*) FROM kept_record").await, 0);
        // Nobody is left to opt out again.
        world.force("UPDATE record SET name = 'Lead 0' WHERE external_id = 'L-0'").await;
        world.force("UPDATE record SET name = 'Lead 1' WHERE external_id = 'L-1'").await;
        assert_eq!(world.ask(OPT_OUT, json!({})).await["unsubscribeRecords"]["count"], 0);
        assert_eq!(world.number("SELECT COUNT(*) FROM sweep").await, 0);
        world.end().await;
    }
}

both! {
    async fn a_run_keeps_the_fixed_list_that_it_was_launched_with(kind) {
        let world = World::without_server(kind, None).await;
        let ids = world.leads(4).await;
        let look = json!({ "key": "look", "type": "look", "assignedTo": "HUMAN" });
        let phases = json!([{ "key": "p", "tasks": [{ "key": "t", "fanOut": true, "steps": [look] }] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "looks", "name": "Looks", "phases": phases }] }).to_string()).await;
        let segment = world.create("segment", json!({ "name": "Listed", "recordIds": ids[..3] })).await;
        let run = world.fly("looks", json!({ "segmentId": segment })).await;
        let update = "mutation($id: ID!, $to: [ID!]) { updateSegment(input: { id: $id, recordIds: $to }) { segment { id } } }";
        let delete = "mutation($id: ID!) { deleteSegment(input: { id: $id }) { deletedId } }";
        world.ask(update, json!({ "id": segment, "to": [ids[3]] })).await;
        world.ask(update, json!({ "id": segment, "to": [] })).await;
        // The campaign has another audience, and the segment is deleted.
        let other = world.create("segment", json!({ "name": "Other", "recordIds": [ids[3]] })).await;
        world.force("UPDATE campaign SET segment_id = (SELECT id FROM segment WHERE name = 'Other')").await;
        world.ask(delete, json!({ "id": segment })).await;
        world.tick(false).await;
        let reached = "SELECT r.external_id FROM run_record p JOIN record r ON r.id = p.record_id ORDER BY r.external_id";
        assert_eq!(world.sql(reached).await, [["L-0"], ["L-1"], ["L-2"]]);
        assert_eq!(world.number("SELECT COUNT(*) FROM kept_record").await, 0);
        assert!(other.starts_with("segment_") && run.starts_with("run_"));
        world.end().await;
    }
}
