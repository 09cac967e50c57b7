//! Occurrences that were due before a schedule was changed are accounted for by the old pattern.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

impl World {
    async fn alter(&self, schedule: &str, more: Value) -> Value {
        let mut input = json!({ "id": schedule });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.change("updateSchedule", "UpdateScheduleInput", input).await
    }

    /// Number of a schedule's occurrences that are recorded as missed for a reason.
    async fn missed(&self, schedule: &str, reason: &str) -> i64 {
        let rows = self.shown(schedule).await["missed"]["nodes"].as_array().unwrap().clone();
        rows.iter().filter(|row| row["reason"] == reason).map(|row| row["count"].as_i64().unwrap()).sum()
    }
}

both! {
    async fn what_fell_due_before_a_change_starts_or_is_recorded(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let every = async |policy: &str| world.schedule(&plan, json!({ "cron": "* * * * *", "catchUp": policy })).await;
        let (all, last, none) = (every("ALL").await, every("LAST").await, every("NONE").await);
        let narrow = world.schedule(&plan, json!({ "cron": "* * * * *", "catchUp": "ALL", "catchUpWindowSeconds": 180 })).await;
        let half = every("ALL").await;
        let changed_too = every("ALL").await;
        let guided = "mutation($input: ScheduleGuidedRunInput!) { scheduleGuidedRun(input: $input) { schedule { id } } }";
        let input = json!({ "templateKey": "weekly-pipeline-review", "cron": "* * * * *", "timezone": "UTC", "catchUp": "ALL" });
        let guided = world.ask(guided, json!({ "input": input })).await["scheduleGuidedRun"]["schedule"]["id"].as_str().unwrap().to_owned();
        // Ten minutes of downtime; the catch-up has started.
        world.clock.set(noon() + Duration::minutes(10));
        let engine = sortie::kernel::viewer::Viewer::engine(world.viewer.org_id);
        for _ in 0..3 {
            assert!(sortie::domain::run::fire_schedule::fire(&world.db.write(), &engine, half.parse().unwrap()).await.unwrap());
        }
        // The pattern is changed, or only its zone, or its policy with it.
        for id in [&all, &last, &none, &half, &guided] {
            let now = world.alter(id, json!({ "cron": "0 9 * * *" })).await;
            assert_eq!(now["status"], "ACTIVE");
        }
        world.alter(&narrow, json!({ "timezone": "Asia/Kathmandu" })).await;
        world.alter(&changed_too, json!({ "cron": "0 9 * * *", "catchUp": "LAST" })).await;
        world.tick(false).await;
        for (id, started, missed) in [(&all, 10, 0), (&last, 1, 9), (&none, 2, 8), (&half, 10, 0), (&guided, 10, 0), (&narrow, 4, 6), (&changed_too, 2, 8)] {
            let (began, waiting) = world.started_and_waiting(id).await;
            assert_eq!((began.len(), world.missed(id, "LATE").await), (started, missed), "{id}: {began:?}");
            assert!(began.is_sorted(), "{began:?}");
            let next = if id == &narrow { "2026-11-02T12:11" } else { "2026-11-03T09:00" };
            assert_eq!(waiting, [next]);
            assert_eq!(world.shown(id).await["nextAt"], format!("{next}:00+00:00"));
        }
        world.end().await;
    }
}

both! {
    async fn a_gap_that_is_to_come_is_recorded_once_however_often_the_pattern_is_changed(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        world.clock.set("2027-03-13T12:00:00Z".parse().unwrap());
        let id = world.schedule(&plan, json!({ "cron": "*/15 2 * * *", "timezone": "America/New_York" })).await;
        for fold in ["BOTH", "ONCE", "BOTH"] {
            world.alter(&id, json!({ "fold": fold })).await;
        }
        assert_eq!(world.missed(&id, "NO_SUCH_LOCAL_TIME").await, 4);
        // The new pattern's further occurrences are recorded.
        world.alter(&id, json!({ "cron": "*/10 2 * * *" })).await;
        assert_eq!(world.missed(&id, "NO_SUCH_LOCAL_TIME").await, 4 + 4);
        world.clock.set("2027-03-15T12:00:00Z".parse().unwrap());
        world.tick(false).await;
        assert_eq!(world.missed(&id, "NO_SUCH_LOCAL_TIME").await, 4 + 4);
        world.end().await;
    }
}

both! {
    async fn a_run_that_was_renamed_with_its_schedule_is_found(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 9 * * *" })).await;
        world.alter(&id, json!({ "name": "Straße İ Ｗｅｅｋ" })).await;
        let search = "query($text: String) { runs(filter: { search: $text }) { totalCount } }";
        for text in ["Straße", "STRASSE", "strasse", "Ｗｅｅｋ", "week", "outreach"] {
            assert_eq!(world.ask(search, json!({ "text": text })).await["runs"]["totalCount"], 1, "{text}");
        }
        world.end().await;
    }
}

both! {
    async fn the_checker_looks_at_the_newest_of_many_and_at_single_times(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let once = world.schedule(&plan, json!({ "at": "2026-11-02T13:00:00Z" })).await;
        world.schedule(&plan, json!({ "cron": "* * * * *" })).await;
        // Two periods of downtime, the second of an hour: the checker reads only the newest of so
        // many occurrences.
        for minutes in [30 * 24 * 60, 30 * 24 * 60 + 60] {
            world.clock.set(noon() + Duration::minutes(minutes));
            world.tick(false).await;
        }
        let wrong = async || -> Vec<String> {
            let found = sortie::app::check::check(&world.db).await.unwrap();
            let due = found.into_iter().find(|one| one.what.starts_with("each due time of a schedule")).unwrap();
            due.examples
        };
        assert_eq!(wrong().await, Vec::<String>::new());
        world.force("CREATE TABLE kept AS SELECT id FROM unfired WHERE count < 100 AND count > 1; UPDATE unfired SET reason = 'NO_SUCH_LOCAL_TIME' WHERE id IN (SELECT id FROM kept)").await;
        assert!(!wrong().await.is_empty());
        world.force("UPDATE unfired SET reason = 'LATE' WHERE id IN (SELECT id FROM kept); DROP TABLE kept").await;
        assert_eq!(wrong().await, Vec::<String>::new());
        world.force("UPDATE run SET occurrence_at = '2026-11-02T13:30:00+00:00' WHERE occurrence_at = '2026-11-02T13:00:00+00:00' AND schedule_id IN (SELECT id FROM schedule WHERE cron IS NULL)").await;
        let examples = wrong().await;
        assert!(examples.len() == 1 && examples[0].starts_with(&format!("{once} at 2026-11-02T13:00")), "{examples:?}");
        world.drop_unchecked().await;
    }
}
