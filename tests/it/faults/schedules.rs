//! Schedules (faults 6.1 to 6.6): cron patterns over clock changes, catch-up after downtime,
//! changes of schedules, their events.

mod acts;
mod bounds;
mod catch_up;
mod changed;
mod held;
mod kill;
mod life;
mod overlap;
mod past;
mod patterns;
mod random;
mod ranges;
mod times;

use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::plan::Plan;

const SCHEDULE: &str = "mutation($input: ScheduleCampaignInput!) { scheduleCampaign(input: $input) {
    schedule { id } run { id } preflight { ready checks { code status message field } } } }";
const SHOWN: &str =
    "query($id: ID!) { schedule(id: $id) { status at cron timezone gap fold name catchUp catchUpWindowSeconds note
    nextAt pausedAt endedAt endReason revision availableActions { action allowed }
    missed(first: 100) { totalCount nodes { reason count firstAt lastAt localTimes } } } }";
const RUNS: &str =
    "query($first: Int) { runs(first: $first, orderBy: { field: SCHEDULED_FOR, direction: ASC }) { nodes {
    id name status scheduledFor failure waitingFor { code } schedule { id } } } }";

impl World {
    /// Creates a schedule of a campaign; returns its id.
    async fn schedule(&self, plan: &Plan, mut input: Value) -> String {
        input["campaignId"] = json!(plan.campaign);
        let made = self.ask(SCHEDULE, json!({ "input": input })).await["scheduleCampaign"].clone();
        made["schedule"]["id"].as_str().unwrap_or_else(|| panic!("{made:#}")).to_owned()
    }

    async fn shown(&self, schedule: &str) -> Value {
        self.ask(SHOWN, json!({ "id": schedule })).await["schedule"].clone()
    }

    /// The runs of a schedule, the earliest first.
    async fn runs_of(&self, schedule: &str) -> Vec<Value> {
        let all = self.ask(RUNS, json!({ "first": 500 })).await["runs"]["nodes"].as_array().unwrap().clone();
        all.into_iter().filter(|run| run["schedule"]["id"] == schedule).collect()
    }

    /// Times of the started runs and of the pending ones, as text.
    async fn started_and_waiting(&self, schedule: &str) -> (Vec<String>, Vec<String>) {
        let (mut started, mut waiting) = (Vec::new(), Vec::new());
        for run in self.runs_of(schedule).await {
            let at = run["scheduledFor"].as_str().unwrap()[..16].to_owned();
            match run["status"].as_str().unwrap() {
                "SCHEDULED" => waiting.push(at),
                "CANCELLED" => {}
                _ => started.push(at),
            }
        }
        (started, waiting)
    }

    /// Pauses, resumes, ends or changes a schedule; returns its new state.
    async fn change(&self, mutation: &str, kind: &str, input: Value) -> Value {
        let query = format!(
            "mutation($input: {kind}!) {{ {mutation}(input: $input) {{ schedule {{ status nextAt cron timezone at name catchUp catchUpWindowSeconds revision }} }} }}"
        );
        self.ask(&query, json!({ "input": input })).await[mutation]["schedule"].clone()
    }

    /// The runs of a schedule with their occurrences, in the order of creation.
    async fn occurrences_of(&self, schedule: &str) -> Vec<Value> {
        let query = "{ runs(first: 500, orderBy: { field: CREATED_AT, direction: ASC }) { nodes { id status scheduledFor occurrenceAt failure waitingFor { code } schedule { id } } } }";
        let all = self.ask(query, json!({})).await["runs"]["nodes"].as_array().unwrap().clone();
        all.into_iter().filter(|run| run["schedule"]["id"] == schedule).collect()
    }

    /// Occurrences (hour and minute) and statuses of the runs of a schedule, in the order of their
    /// occurrences.
    async fn statuses_of(&self, schedule: &str) -> Vec<(String, String)> {
        let clock =
            |run: &Value| run["occurrenceAt"].as_str().map_or_else(|| "-".to_owned(), |at| at[11..16].to_owned());
        let runs = self.occurrences_of(schedule).await;
        let mut all: Vec<_> = runs.iter().map(|run| (clock(run), run["status"].as_str().unwrap().to_owned())).collect();
        all.sort();
        all
    }

    /// The reasons, counts and first times (hour and minute) of a schedule's missed occurrences,
    /// oldest first.
    async fn missed_of(&self, schedule: &str) -> Vec<(String, i64, String)> {
        let nodes = self.shown(schedule).await["missed"]["nodes"].as_array().unwrap().clone();
        let one = |row: &Value| {
            (
                row["reason"].as_str().unwrap().to_owned(),
                row["count"].as_i64().unwrap(),
                row["firstAt"].as_str().unwrap()[11..16].to_owned(),
            )
        };
        nodes.iter().rev().map(one).collect()
    }

    async fn pause(&self, schedule: &str) -> Value {
        self.change("pauseSchedule", "ScheduleActInput", json!({ "id": schedule })).await
    }

    async fn resume(&self, schedule: &str) -> Value {
        self.change("resumeSchedule", "ScheduleActInput", json!({ "id": schedule })).await
    }

    async fn events_of(&self, schedule: &str) -> Vec<Value> {
        self.ask_all_events().await.into_iter().filter(|event| event["payload"]["id"] == schedule).collect()
    }
}
