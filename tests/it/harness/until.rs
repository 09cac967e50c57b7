//! Waiting on a response that meets a condition, never for a fixed time.

use std::time::Duration;

use serde_json::{Value, json};

use super::World;

impl World {
    /// Waits until a response meets a condition, repeating the query after every commit.
    pub async fn until(&self, what: &str, query: &str, variables: Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut nudges = self.db.nudges();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        loop {
            nudges.mark_unchanged();
            let found = self.ask(query, variables.clone()).await;
            if wanted(&found) {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}; last seen: {found:#}");
            let _ = tokio::time::timeout(Duration::from_millis(500), nudges.changed()).await;
        }
    }

    /// Waits until the log has a number of followers. A subscription has one once it is
    /// established, shortly after its request, whatever its socket receives meanwhile.
    pub async fn followed_by(&self, followers: usize) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.db.followers() != followers {
            assert!(tokio::time::Instant::now() < deadline, "the log has {} followers", self.db.followers());
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a run has a status.
    pub async fn until_run(&self, id: &str, status: &str) -> Value {
        let query = "query($id: ID!) { run(id: $id) { id status failure outcome waitingFor { code } } }";
        let what = format!("run {id} to be {status}");
        self.until(&what, query, json!({ "id": id }), |data| data["run"]["status"] == status).await["run"].clone()
    }

    /// Waits until a run's review is pending; returns its step's id.
    pub async fn until_review(&self, run: &str) -> String {
        let query = "query($id: ID!) { run(id: $id) { status steps(filter: { types: [\"review_messages\"] }) { nodes { id status } } } }";
        let found = self
            .until("the review", query, json!({ "id": run }), |data| {
                data["run"]["steps"]["nodes"][0]["status"] == "AWAITING_APPROVAL"
            })
            .await;
        found["run"]["steps"]["nodes"][0]["id"].as_str().unwrap().to_owned()
    }
}
