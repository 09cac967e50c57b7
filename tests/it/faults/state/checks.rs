//! 7.3 and similar: `sortie check` finds each violation of the state that is made by direct SQL.

use serde_json::json;

use crate::harness::{World, noon};

/// Violations that the checker finds, each with its examples.
async fn wrong(world: &World) -> Vec<(&'static str, String)> {
    let found = sortie::app::check::check(&world.db).await.unwrap();
    found.into_iter().filter(|one| one.wrong > 0).map(|one| (one.what, one.examples.join("; "))).collect()
}

both! {
    async fn each_fault_of_the_state_is_found(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        // A completed run, a cancelled one, one in progress; and guided work with a meeting and a
        // follow-up.
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        let cancelled = world.launch(&plan).await;
        world.tick(true).await;
        world.act("cancelRun", "run", json!({ "id": cancelled })).await;
        world.tick(true).await;
        world.ask("mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, cron: \"0 9 * * *\", timezone: \"UTC\" }) { run { id } } }", json!({ "id": plan.campaign })).await;
        let oak = world.create("record", json!({ "kind": "partnership", "name": "Oak", "email": "oak@p.example" })).await;
        let (_, steps) = world.own_run(&[("a", "custom", json!({}))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        let at = noon() + chrono::Duration::days(1);
        world.ask("mutation($s: ID!, $r: ID!, $at: DateTime!) { scheduleStepMeeting(input: { stepId: $s, title: \"M\", startsAt: $at, attendees: [{ recordId: $r }] }) { meeting { id } } }", json!({ "s": steps[0], "r": oak, "at": at })).await;
        world.ask("mutation($s: ID!) { createStepFollowUp(input: { stepId: $s, title: \"F\" }) { followUp { id } } }", json!({ "s": steps[0] })).await;
        world.tick(true).await;
        assert_eq!(wrong(&world).await, []);
        let (folds, open, derived) = ("folding the log", "nothing is open in a run", "the status of every task, phase and run");
        let of = |what: &str, status: &str| format!("WHERE run_id IN (SELECT id FROM run WHERE status = '{status}') AND status = '{what}'");
        for (table, from, to, filter, named, said) in [
            ("campaign", "ACTIVE", "FAILED", String::new(), folds, "campaign"),
            ("meeting", "BOOKED", "CANCELLED", String::new(), folds, "meeting"),
            ("follow_up", "OPEN", "DONE", String::new(), folds, "follow_up"),
            ("communication", "SENT", "FAILED", of("SENT", "COMPLETED"), folds, "communication"),
            ("phase", "SKIPPED", "ACTIVE", of("SKIPPED", "CANCELLED"), open, "CANCELLED: phases"),
            ("phase", "SKIPPED", "PENDING", of("SKIPPED", "CANCELLED"), open, "CANCELLED: phases"),
            ("phase", "COMPLETED", "ACTIVE", of("COMPLETED", "COMPLETED"), open, "COMPLETED: phases"),
            ("task", "COMPLETED", "IN_PROGRESS", of("COMPLETED", "COMPLETED"), open, "tasks"),
            ("task", "SKIPPED", "BLOCKED", of("SKIPPED", "CANCELLED"), open, "tasks"),
            ("task", "COMPLETED", "FAILED", of("COMPLETED", "COMPLETED"), derived, "task"),
            ("run", "COMPLETED", "IN_PROGRESS", "WHERE status = 'COMPLETED'".to_owned(), folds, "run"),
            ("step", "COMPLETED", "SKIPPED", of("COMPLETED", "COMPLETED"), folds, "step"),
        ] {
            world.force(&format!("CREATE TABLE kept AS SELECT id FROM {table} {filter}; UPDATE {table} SET status = '{to}' WHERE id IN (SELECT id FROM kept)")).await;
            let found = wrong(&world).await;
            let told = found.iter().any(|(what, examples)| what.starts_with(named) && examples.contains(said));
            assert!(told, "{table} {from} → {to}: {found:#?}");
            world.force(&format!("UPDATE {table} SET status = '{from}' WHERE id IN (SELECT id FROM kept); DROP TABLE kept")).await;
            assert_eq!(wrong(&world).await, [], "{table} {from} → {to} was taken back");
        }
        // A cancelled run with an open step without a lease.
        for (one, rest) in [("QUEUED", ("queued", "ACTIVE")), ("SKIPPED", ("skipped", "SKIPPED"))] {
            let (back, (count, phase)) = (one == "SKIPPED", rest);
            let other = if back { "queued" } else { "skipped" };
            let of = "SELECT s.id FROM step s JOIN run r ON r.id = s.run_id WHERE r.status = 'CANCELLED' ORDER BY s.id LIMIT 1";
            let place = |column: &str| format!("(SELECT {column} FROM step WHERE id IN ({of}))");
            world.force(&format!(
                "UPDATE step SET status = '{one}' WHERE id IN ({of}); UPDATE task SET {count} = {count} + 1, {other} = {other} - 1, status = '{}' WHERE id IN {}; UPDATE phase SET status = '{phase}' WHERE id IN {}",
                if back { "SKIPPED" } else { "IN_PROGRESS" }, place("task_id"), place("phase_id"),
            )).await;
            let found = wrong(&world).await;
            let told = found.iter().any(|(what, said)| what.starts_with(open) && said.contains("1 steps are open, 0 held"));
            assert_eq!((told, found.is_empty()), (!back, back), "{found:#?}");
        }
        // A change without its event.
        world.force("UPDATE event SET kind = 'note.moved' WHERE kind = 'phase.skipped'").await;
        let found = wrong(&world).await;
        assert!(found.iter().any(|(what, _)| what.starts_with(folds)), "{found:#?}");
        world.force("UPDATE event SET kind = 'phase.skipped' WHERE kind = 'note.moved'").await;
        assert_eq!(wrong(&world).await, []);
        world.end().await;
    }
}

both! {
    async fn columns_that_contradict_each_other_are_found(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        // A completed run and a cancelled one; guided work with a meeting and a follow-up; an
        // occurrence that a person cancelled.
        let run = world.launch(&plan).await;
        world.tick(true).await;
        world.act("approveStep", "step", json!({ "id": world.until_review(&run).await })).await;
        world.tick(true).await;
        let cancelled = world.launch(&plan).await;
        world.tick(true).await;
        world.act("cancelRun", "run", json!({ "id": cancelled })).await;
        world.tick(true).await;
        let scheduled = world.ask("mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, cron: \"0 9 * * *\", timezone: \"UTC\" }) { run { id } } }", json!({ "id": plan.campaign })).await;
        world.act("cancelRun", "run", json!({ "id": scheduled["scheduleCampaign"]["run"]["id"] })).await;
        let oak = world.create("record", json!({ "kind": "partnership", "name": "Oak", "email": "oak@p.example" })).await;
        let (_, steps) = world.own_run(&[("a", "custom", json!({}))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        let at = noon() + chrono::Duration::days(1);
        world.ask("mutation($s: ID!, $r: ID!, $at: DateTime!) { scheduleStepMeeting(input: { stepId: $s, title: \"M\", startsAt: $at, attendees: [{ recordId: $r }] }) { meeting { id } } }", json!({ "s": steps[0], "r": oak, "at": at })).await;
        world.ask("mutation($s: ID!) { createStepFollowUp(input: { stepId: $s, title: \"F\" }) { followUp { id } } }", json!({ "s": steps[0] })).await;
        world.tick(true).await;
        assert_eq!(wrong(&world).await, []);
        let completed = "run_id IN (SELECT id FROM run WHERE status = 'COMPLETED')";
        let (outcome, step, active, kinds) = ("the outcome of a recipient", "each step belongs", "an active campaign", "the kind of each event");
        let begun = "a campaign has the time at which it first became active";
        let broken = [
            ("UPDATE event SET kind = 'note.made' WHERE kind = 'follow_up.created'".to_owned(), "folding the log", "follow_up"),
            ("UPDATE event SET kind = 'note.made' WHERE kind = 'meeting.booked'".to_owned(), "folding the log", "meeting"),
            ("UPDATE event SET kind = 'note.made' WHERE kind = 'schedule.created'".to_owned(), "folding the log", "schedule"),
            (format!("UPDATE run_record SET outcome = 'FAILED', reason = 'WORK_FAILED' WHERE {completed}"), outcome, ""),
            (format!("UPDATE run_record SET outcome = 'SKIPPED', reason = NULL WHERE {completed}"), outcome, ""),
            (format!("UPDATE run_record SET outcome = 'SKIPPED', reason = 'PERSON' WHERE {completed}"), outcome, ""),
            ("UPDATE step SET record_id = (SELECT id FROM record WHERE record.id <> step.record_id LIMIT 1) WHERE kind = 'send_message'".to_owned(), step, ""),
            ("UPDATE step SET run_id = (SELECT id FROM run WHERE run.id <> step.run_id LIMIT 1) WHERE kind = 'summarise'".to_owned(), step, ""),
            ("UPDATE communication SET run_id = (SELECT id FROM run WHERE run.id <> communication.run_id LIMIT 1) WHERE status = 'SENT'".to_owned(), "each message belongs", "@"),
            ("UPDATE campaign SET approved_version = NULL WHERE status = 'ACTIVE'".to_owned(), active, ""),
            ("UPDATE campaign SET approved_version = 99 WHERE status = 'ACTIVE'".to_owned(), active, ""),
            ("UPDATE campaign SET started_at = NULL WHERE status = 'ACTIVE'".to_owned(), begun, ""),
            ("UPDATE campaign SET completed_at = updated_at WHERE status = 'ACTIVE'".to_owned(), begun, ""),
            ("UPDATE event SET kind = 'step.skipped' WHERE kind = 'step.completed'".to_owned(), kinds, "says COMPLETED"),
            ("UPDATE event SET kind = 'goal.held' WHERE kind = 'record.created'".to_owned(), kinds, "goal.held"),
            ("UPDATE communication SET sent_at = NULL WHERE status = 'SENT'".to_owned(), "a sent message has the time", "@"),
            ("UPDATE step SET reason = NULL WHERE status = 'SKIPPED'".to_owned(), "a skipped step", ""),
            ("UPDATE step SET reason = 'BLAH' WHERE status = 'SKIPPED'".to_owned(), "a skipped step", ""),
            ("UPDATE run SET audience_count = audience_count + 1 WHERE status = 'IN_PROGRESS'".to_owned(), "the audience of a run", ""),
            ("UPDATE run SET ended_at = NULL WHERE status = 'COMPLETED'".to_owned(), "a run has the time at which it ended", ""),
            ("UPDATE unfired SET count = count + 1".to_owned(), "occurrences that did not start are counted", ""),
            ("INSERT INTO import (id, org_id, kind, file, status, rows, created, updated, unchanged, bad, actor, created_at, alive_at) \
              SELECT id, org_id, 'lead', 'left.csv', 'RUNNING', 0, 0, 0, 0, 0, '{}', created_at, '2026-11-02T10:00:00+00:00' FROM goal LIMIT 1".to_owned(), "a running import", "left.csv"),
        ];
        for (sql, named, said) in broken {
            world.force(&sql).await;
            let found = wrong(&world).await;
            let told = found.iter().any(|(what, examples)| what.starts_with(named) && examples.contains(said));
            assert!(told, "{sql}: {found:#?}");
        }
        world.drop_unchecked().await;
    }
}

both! {
    async fn what_was_seeded_may_be_changed_and_what_was_told_of_may_be_deleted(kind) {
        let world = World::without_server(kind, None).await;
        let size = sortie::app::seed::Size { campaigns: 4, runs: 300, steps_per_run: 2 };
        sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
        assert_eq!(wrong(&world).await, []);
        let first = async |query: &str, of: &str| world.ask(query, json!({})).await[of]["nodes"][0]["id"].as_str().unwrap().to_owned();
        let run = first("{ runs(first: 1, filter: { statuses: [PAUSED] }) { nodes { id } } }", "runs").await;
        world.act("resumeRun", "run", json!({ "id": run })).await;
        let campaign = first("{ campaigns(first: 1, filter: { statuses: [ACTIVE] }) { nodes { id } } }", "campaigns").await;
        world.act("pauseCampaign", "campaign", json!({ "id": campaign })).await;
        assert_eq!(wrong(&world).await, []);
        // A campaign with events that is deleted.
        let plan = world.plan("EMAIL", 1).await;
        world.act("submitCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let reject = "mutation($id: ID!) { rejectCampaign(input: { id: $id, reason: \"no\" }) { campaign { status } } }";
        world.ask(reject, json!({ "id": plan.campaign })).await;
        world.ask("mutation($id: ID!) { deleteCampaign(input: { id: $id }) { deletedId } }", json!({ "id": plan.campaign })).await;
        assert_eq!(wrong(&world).await, []);
        // One that is gone without an event is found.
        let plan = world.plan("EMAIL", 0).await;
        world.act("submitCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.force("DELETE FROM campaign_version WHERE campaign_id IN (SELECT id FROM campaign WHERE status = 'PENDING_APPROVAL'); DELETE FROM campaign WHERE status = 'PENDING_APPROVAL'").await;
        let found = wrong(&world).await;
        assert!(found.iter().any(|(_, said)| said.contains("1 rows with events in the log are missing")), "{found:#?}");
        world.drop_unchecked().await;
    }
}
