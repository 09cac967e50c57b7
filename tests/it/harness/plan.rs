//! Fixtures of a world: leads, a campaign that is ready to launch, and its run.

use serde_json::{Value, json};

use super::World;

/// The ids of a launchable campaign and of its parts.
pub struct Plan {
    pub campaign: String,
    pub template: String,
    pub segment: String,
    pub records: Vec<String>,
}

impl World {
    pub async fn create(&self, noun: &str, input: Value) -> String {
        let upper = noun[..1].to_uppercase() + &noun[1..];
        let query =
            format!("mutation($input: Create{upper}Input!) {{ create{upper}(input: $input) {{ {noun} {{ id }} }} }}");
        let data = self.ask(&query, json!({ "input": input })).await;
        data[format!("create{upper}")][noun]["id"].as_str().unwrap().to_owned()
    }

    pub async fn leads(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for i in 0..count {
            let input = json!({
                "kind": "lead", "externalId": format!("L-{i}"), "name": format!("Lead {i}"),
                "email": format!("lead{i}@example.com"), "phone": format!("+1555000{i:04}"), "stage": "New",
                "attributes": { "first_name": format!("First{i}"), "company": "Acme", "employees": i * 10 },
            });
            ids.push(self.create("record", input).await);
        }
        ids
    }

    /// Creates a draft campaign over a number of leads.
    pub async fn plan(&self, channel: &str, leads: usize) -> Plan {
        let records = self.leads(leads).await;
        let goal = self.create("goal", json!({ "name": "Book calls" })).await;
        let writer =
            self.create("writer", json!({ "name": "House", "body": "Call {{ first_name }} about {{ offer }}" })).await;
        let reviewer = self.create("reviewer", json!({ "name": "Duty" })).await;
        let template = if channel == "EMAIL" {
            let input = json!({ "name": "Hello", "subject": "Hi {{ first_name }}", "body": "Dear {{ first_name }},\n{{ offer }} for {{ company }}.\n" });
            self.create("messageTemplate", input).await
        } else {
            String::new()
        };
        let segment =
            self.create("segment", json!({ "name": "All leads", "filter": { "kind": { "eq": "lead" } } })).await;
        let mut input = json!({
            "name": "Outreach", "channel": channel, "goalId": goal, "writerId": writer, "reviewerId": reviewer,
            "segmentId": segment, "variables": { "offer": "a trial" },
        });
        if channel == "EMAIL" {
            input["messageTemplateId"] = json!(template);
        }
        let campaign = self.create("campaign", input).await;
        Plan { campaign, template, segment, records }
    }

    pub async fn act(&self, mutation: &str, noun: &str, input: Value) -> Value {
        let kind = match noun {
            "campaign" => match mutation {
                "archiveCampaign" | "unarchiveCampaign" => "ArchiveCampaignInput",
                _ => "CampaignActInput",
            },
            "run" => match mutation {
                "retryRun" => "RetryRunInput",
                "repeatRun" => "RepeatRunInput",
                "completeRun" => "CompleteRunInput",
                _ => "RunActInput",
            },
            "reply" => match mutation {
                "assignReply" => "AssignReplyInput",
                "reopenReply" => "ReopenReplyInput",
                _ => "HandleReplyInput",
            },
            "followUp" => "FollowUpActInput",
            _ => "StepActInput",
        };
        let query = format!("mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {noun} {{ id status }} }} }}");
        self.ask(&query, json!({ "input": input })).await[mutation][noun].clone()
    }

    /// Submits and approves the campaign.
    pub async fn activate(&self, plan: &Plan) {
        self.act("submitCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let campaign = self.act("approveCampaign", "campaign", json!({ "id": plan.campaign })).await;
        assert_eq!(campaign["status"], "ACTIVE");
    }

    /// Launches the campaign even if it has another open run; returns the run's id.
    pub async fn launch(&self, plan: &Plan) -> String {
        let query = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } preflight { checks { status message } } } }";
        let data = self.ask(query, json!({ "id": plan.campaign })).await;
        data["runCampaign"]["run"]["id"].as_str().unwrap_or_else(|| panic!("{data:#}")).to_owned()
    }
}
