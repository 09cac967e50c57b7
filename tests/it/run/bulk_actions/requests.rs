//! Requests that are refused, each with its field.

use super::*;

both! {
    async fn a_wrong_request_names_its_field(kind) {
        let world = World::without_server(kind, None).await;
        let (runs, _) = sessions(&world, 1).await;
        let member = "member_01h455vb4pex5vsknk084sn02q";
        for (input, code, field) in [
            (json!({ "verb": "CANCEL_RUNS" }), "BAD_USER_INPUT", "ids: give exactly one"),
            (json!({ "verb": "CANCEL_RUNS", "ids": runs, "runFilter": { "all": true } }), "BAD_USER_INPUT", "ids: give exactly one"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": {} }), "BAD_USER_INPUT", "runFilter: has no condition"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": { "or": [{}] } }), "BAD_USER_INPUT", "runFilter: has no condition"),
            // What selects everything is no condition either.
            (json!({ "verb": "CANCEL_RUNS", "runFilter": { "not": { "ids": [] } } }), "BAD_USER_INPUT", "runFilter: has no condition"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": { "or": [{ "ids": runs }, { "not": { "statuses": [] } }] } }), "BAD_USER_INPUT", "runFilter.or[1]: has no condition"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": { "search": "a", "or": [{ "not": { "or": [{ "ids": [] }, { "types": [] }] } }] } }), "BAD_USER_INPUT", "runFilter.or[0]: has no condition"),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "not": { "ids": [] } } }), "BAD_USER_INPUT", "campaignFilter: has no condition"),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "not": { "tags": [], "search": "a" } } }), "BAD_USER_INPUT", "campaignFilter: has no condition"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": { "search": "a", "not": {} } }), "BAD_USER_INPUT", "runFilter.not: has no condition"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": { "campaignIds": ["x"] } }), "BAD_USER_INPUT", "runFilter.campaignIds: "),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": {} }), "BAD_USER_INPUT", "stepFilter: has no condition"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "mine": false } }), "BAD_USER_INPUT", "stepFilter: has no condition"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "search": " ", "ready": null } }), "BAD_USER_INPUT", "stepFilter: has no condition"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "ready": true, "dueAt": {} } }), "BAD_USER_INPUT", "stepFilter.dueAt: has no value"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "campaignIds": ["x"] } }), "BAD_USER_INPUT", "stepFilter.campaignIds: "),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "assigneeIds": ["x"] } }), "BAD_USER_INPUT", "stepFilter.assigneeIds: "),
            (json!({ "verb": "CANCEL_RUNS", "stepFilter": { "overdue": true } }), "BAD_USER_INPUT", "stepFilter: CANCEL_RUNS acts on runs"),
            (json!({ "verb": "SKIP_STEPS", "runFilter": { "all": true } }), "BAD_USER_INPUT", "runFilter: SKIP_STEPS acts on steps"),
            (json!({ "verb": "SKIP_STEPS", "ids": runs }), "BAD_USER_INPUT", "ids: "),
            (json!({ "verb": "REJECT_STEPS", "stepFilter": { "overdue": true }, "reason": " " }), "BAD_USER_INPUT", "reason: is required"),
            (json!({ "verb": "ASSIGN_STEPS", "stepFilter": { "overdue": true } }), "BAD_USER_INPUT", "assigneeId: is required"),
            (json!({ "verb": "ASSIGN_STEPS", "stepFilter": { "overdue": true }, "assigneeId": member }), "NOT_FOUND", "there is no member"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "overdue": true }, "assigneeId": world.viewer.member_id().unwrap().to_string() }), "BAD_USER_INPUT", "assigneeId: SKIP_STEPS takes no assignee"),
            (json!({ "verb": "RESOLVE_COMMUNICATIONS", "communicationFilter": { "statuses": ["UNKNOWN"] } }), "BAD_USER_INPUT", "resolution: is required"),
            (json!({ "verb": "RESOLVE_COMMUNICATIONS", "resolution": "SENT", "communicationFilter": {} }), "BAD_USER_INPUT", "communicationFilter: has no condition"),
            (json!({ "verb": "RESOLVE_COMMUNICATIONS", "resolution": "SENT", "communicationFilter": { "runIds": ["x"] } }), "BAD_USER_INPUT", "communicationFilter.runIds: "),
            (json!({ "verb": "RESOLVE_COMMUNICATIONS", "resolution": "SENT", "runFilter": { "all": true } }), "BAD_USER_INPUT", "runFilter: RESOLVE_COMMUNICATIONS acts on communications: give `communicationFilter`"),
            (json!({ "verb": "CANCEL_RUNS", "resolution": "SENT", "runFilter": { "all": true } }), "BAD_USER_INPUT", "resolution: CANCEL_RUNS takes no resolution"),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": {} }), "BAD_USER_INPUT", "campaignFilter: has no condition"),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "or": [{ "archived": false }, {}] } }), "BAD_USER_INPUT", "campaignFilter.or[1]: has no condition"),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "statuses": ["DRAFT"], "createdAt": {} } }), "BAD_USER_INPUT", "campaignFilter.createdAt: "),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "tags": ["a"] }, "ids": [] }), "BAD_USER_INPUT", "ids: give exactly one"),
            (json!({ "verb": "CANCEL_RUNS", "ids": vec![&runs[0]; 10_001] }), "BAD_USER_INPUT", "ids: at most 10000"),
        ] {
            for dry_run in [false, true] {
                let mut input = input.clone();
                input["dryRun"] = json!(dry_run);
                let (found, message) = world.refused(START, json!({ "input": input })).await;
                assert!(found == code && message.starts_with(field), "{input}: {found} {message}");
            }
        }
        // At most a hundred are open at a time.
        for _ in 0..100 {
            start(&world, json!({ "verb": "PAUSE_RUNS", "ids": runs })).await;
        }
        let (code, message) = world.refused(START, json!({ "input": { "verb": "PAUSE_RUNS", "ids": runs } })).await;
        assert!(code == "LIMIT_EXCEEDED" && message.contains("100 bulk actions are open"), "{message}");
        world.tick(false).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM bulk_action WHERE status = 'COMPLETED' AND done + refused = 1").await, 100);
        assert_eq!(world.number("SELECT COUNT(*) FROM bulk_action WHERE done = 1").await, 1);
        world.end().await;
    }
}
