//! The built-in templates for guided work (docs/reference/guided-runs.txt): a weekly review, a
//! sprint, an intake, a season's plan.

use async_graphql::Json;
use entity::TemplateKind;
use entity::definition::{Definition, PhaseDef, StepDef, TaskDef, Trigger};
use entity::step::Executor;
use serde_json::{Value, json};

use super::BuiltIn;
use crate::domain::plan::run_template::guided::{CREATE_TASK, CUSTOM, EMAIL, NOTE, REVIEW, SCHEDULE, UPDATE_STAGE};

/// Returns all built-in templates for guided work.
pub(super) fn all() -> Vec<BuiltIn> {
    vec![weekly_pipeline_review(), mou_sprint(), new_lead_intake(), seasonal_planning_check()]
}

fn weekly_pipeline_review() -> BuiltIn {
    template(
        "weekly-pipeline-review",
        "Weekly Pipeline Review",
        "Review partnerships, check MOU status, plan follow-ups.",
        vec![
            step(
                "review_at_risk",
                "Review at-risk partnerships",
                "Partnerships with no contact in 14 days or more, the longest silent first: note which need attention now.",
                REVIEW,
                json!({ "records": {
                    "filter": { "kind": { "eq": "partnership" }, "lastContactedAt": { "olderThan": "14d", "orNever": true } },
                    "orderBy": { "field": "LAST_CONTACTED_AT", "descending": false }, "limit": 50,
                } }),
            ),
            step(
                "check_mou_status",
                "Check MOU status",
                "All partnerships whose MOU is out: which have been viewed or signed, which need a follow-up?",
                REVIEW,
                json!({ "records": {
                    "filter": { "kind": { "eq": "partnership" }, "stage": { "eq": "MOU Sent" } }, "limit": 100,
                } }),
            ),
            step(
                "draft_follow_up_emails",
                "Draft follow-up emails",
                "The three most urgent partnerships that have heard nothing for a week: write to each of them.",
                EMAIL,
                json!({
                    "records": {
                        "filter": {
                            "kind": { "eq": "partnership" }, "email": { "isNull": false }, "unsubscribed": false,
                            "lastContactedAt": { "olderThan": "7d", "orNever": true },
                        },
                        "limit": 3,
                    },
                    "subject": "Following up with {{ name }}",
                    "body": "Hello {{ contact | default(\"there\") }},\n\nit has been a while since we last spoke, and I would like to know where \
                             things stand on your side. Is there anything that you need from us?\n\nBest regards\n{{ sender.name }}\n",
                }),
            ),
            step(
                "update_pipeline_stages",
                "Update pipeline stages",
                "Partnerships that have replied within a week and may have moved: set the stage that is true now.",
                UPDATE_STAGE,
                json!({ "records": {
                    "filter": {
                        "kind": { "eq": "partnership" }, "lastRepliedAt": { "newerThan": "7d" },
                        "stage": { "notIn": ["MOU Signed", "Active Partner"] },
                    },
                    "orderBy": { "field": "LAST_REPLIED_AT", "descending": true }, "limit": 50,
                } }),
            ),
            step(
                "schedule_weekly_calls",
                "Schedule weekly calls",
                "Partnerships under way that have not been spoken to this week: book a call with each of them.",
                SCHEDULE,
                json!({
                    "records": {
                        "filter": {
                            "kind": { "eq": "partnership" }, "stage": { "in": ["Conversation Active", "MOU Drafted", "MOU Sent"] },
                            "lastContactedAt": { "olderThan": "7d", "orNever": true },
                        },
                        "limit": 5,
                    },
                    "title": "Call with {{ name }}", "minutes": 30,
                }),
            ),
        ],
    )
}

fn mou_sprint() -> BuiltIn {
    let out = json!({ "kind": { "eq": "partnership" }, "stage": { "in": ["MOU Drafted", "MOU Sent"] } });
    template(
        "mou-sprint",
        "MOU Sprint",
        "Push all MOU-stage partnerships toward signed agreements.",
        vec![
            step(
                "review_mous",
                "Review open MOUs",
                "Every partnership with an MOU drafted or sent, the most urgent first.",
                REVIEW,
                json!({ "records": { "filter": out, "limit": 100 } }),
            ),
            step(
                "send_reminders",
                "Send signature reminders",
                "MOUs that have been out for five days without a word from us.",
                EMAIL,
                json!({
                    "records": {
                        "filter": {
                            "kind": { "eq": "partnership" }, "stage": { "eq": "MOU Sent" }, "email": { "isNull": false },
                            "unsubscribed": false, "lastContactedAt": { "olderThan": "5d", "orNever": true },
                        },
                        "limit": 25,
                    },
                    "subject": "Our MOU with {{ name }}",
                    "body": "Hello {{ contact | default(\"there\") }},\n\nour memorandum of understanding is with you for signature. Is anything \
                             in it still open? I am glad to go through it together.\n\nBest regards\n{{ sender.name }}\n",
                }),
            ),
            step(
                "schedule_signing_calls",
                "Schedule signing calls",
                "Partnerships whose MOU is out and where a call helps.",
                SCHEDULE,
                json!({
                    "records": { "filter": { "kind": { "eq": "partnership" }, "stage": { "eq": "MOU Sent" } }, "limit": 10 },
                    "title": "MOU with {{ name }}", "minutes": 30,
                }),
            ),
            step(
                "record_signatures",
                "Record signatures",
                "Those who have signed move on.",
                UPDATE_STAGE,
                json!({
                    "records": { "filter": { "kind": { "eq": "partnership" }, "stage": { "eq": "MOU Sent" } }, "limit": 100 },
                    "to": "MOU Signed",
                }),
            ),
            step(
                "set_follow_ups",
                "Set follow-up tasks",
                "What is still open gets a task with a date.",
                CREATE_TASK,
                json!({
                    "records": { "filter": out, "limit": 50 },
                    "title": "Ask {{ name }} about the MOU", "dueIn": "3d",
                }),
            ),
            step(
                "log_outcomes",
                "Log outcomes",
                "What the partners said about their MOUs.",
                NOTE,
                json!({ "records": { "filter": out } }),
            ),
        ],
    )
}

/// The role of the partnership that a lead became.
const PARTNERSHIP: &str = "partnership";
/// The role of the objective that takes another one's place.
const SUCCESSOR: &str = "successor";

fn new_lead_intake() -> BuiltIn {
    let fresh = json!({ "kind": { "eq": "lead" }, "createdAt": { "newerThan": "7d" } });
    let open = json!({
        "kind": { "eq": "lead" }, "createdAt": { "newerThan": "7d" }, "linkedTo": { "roles": [PARTNERSHIP], "exists": false },
    });
    template(
        "new-lead-intake",
        "New Lead Intake",
        "Process new introductions and create partnership records.",
        vec![
            step(
                "review_introductions",
                "Review new introductions",
                "The leads that came in within a week, the newest first.",
                REVIEW,
                json!({ "records": { "filter": fresh, "orderBy": { "field": "CREATED_AT", "descending": true }, "limit": 100 } }),
            ),
            step(
                "create_partnerships",
                "Create partnership records",
                "The new leads that have no partnership yet: one for each organisation that is worth it, linked from the leads \
                 that it comes from.",
                CUSTOM,
                json!({
                    "records": { "filter": open, "orderBy": { "field": "CREATED_AT", "descending": true }, "limit": 100 },
                    "create": "partnership", "linkRole": PARTNERSHIP,
                }),
            ),
            step(
                "welcome",
                "Write to new partners",
                "New partnerships that nobody has written to yet.",
                EMAIL,
                json!({
                    "records": {
                        "filter": {
                            "kind": { "eq": "partnership" }, "stage": { "eq": "New Lead" }, "email": { "isNull": false },
                            "unsubscribed": false, "lastContactedAt": { "isNull": true },
                        },
                        "limit": 25,
                    },
                    "subject": "Welcome, {{ name }}",
                    "body": "Hello {{ contact | default(\"there\") }},\n\nthank you for the introduction. I would like to hear what you have in mind: \
                             when would a first call suit you?\n\nBest regards\n{{ sender.name }}\n",
                }),
            ),
            step(
                "set_follow_ups",
                "Set follow-up tasks",
                "A first task for each new lead.",
                CREATE_TASK,
                json!({
                    "records": { "filter": { "kind": { "eq": "partnership" }, "stage": { "eq": "New Lead" } }, "limit": 50 },
                    "title": "First call with {{ name }}", "dueIn": "7d",
                }),
            ),
            step(
                "note_sources",
                "Note where they came from",
                "Who introduced whom, and what was promised.",
                NOTE,
                json!({}),
            ),
        ],
    )
}

fn seasonal_planning_check() -> BuiltIn {
    // Without those that were given up for others.
    let current = json!({ "kind": { "eq": "objective" }, "linkedTo": { "roles": [SUCCESSOR], "exists": false } });
    let mut open = current.clone();
    open["stage"] = json!({ "ne": "Achieved" });
    template(
        "seasonal-planning-check",
        "Seasonal Planning Check",
        "Review OKR progress and adjust priorities.",
        vec![
            step(
                "review_okrs",
                "Review OKR progress",
                "The objectives of the season, the most urgent first.",
                REVIEW,
                json!({ "records": { "filter": current, "limit": 50 } }),
            ),
            step(
                "update_okrs",
                "Update OKR status",
                "Where each objective stands now.",
                UPDATE_STAGE,
                json!({ "records": { "filter": open, "limit": 50 } }),
            ),
            step(
                "review_partnerships",
                "Review the portfolio",
                "All partnerships by priority: do they serve the objectives?",
                REVIEW,
                json!({ "records": { "filter": { "kind": { "eq": "partnership" } }, "limit": 100 } }),
            ),
            step(
                "adjust_priorities",
                "Adjust priorities",
                "New objectives for the season, each linked from those whose place it takes, and what is given up: records of kind \
                 `objective`, and a result in your own words.",
                CUSTOM,
                json!({ "records": { "filter": current, "limit": 50 }, "create": "objective", "linkRole": SUCCESSOR }),
            ),
            step(
                "set_tasks",
                "Set tasks for the season",
                "What follows from it, with a date and somebody to do it.",
                CREATE_TASK,
                json!({
                    "records": { "filter": open, "limit": 50 },
                    "title": "Next step for {{ name }}", "dueIn": "14d",
                }),
            ),
            step("write_down", "Write down the plan", "What was decided, and why.", NOTE, json!({})),
        ],
    )
}

fn template(key: &'static str, name: &str, description: &'static str, steps: Vec<StepDef>) -> BuiltIn {
    BuiltIn { key, description, kind: TemplateKind::Guided, definition: definition(name, steps) }
}

/// Wraps steps in a structure of one phase with one task.
pub fn definition(name: &str, steps: Vec<StepDef>) -> Definition {
    let task = TaskDef { key: "steps".into(), name: "Steps".into(), steps, ..TaskDef::default() };
    let phase = PhaseDef { key: "work".into(), name: "Work".into(), tasks: vec![task], ..PhaseDef::default() };
    Definition { template: name.to_owned(), phases: vec![phase] }
}

fn step(key: &str, name: &str, description: &str, kind: &str, config: Value) -> StepDef {
    StepDef {
        key: key.into(),
        name: name.into(),
        description: Some(description.into()),
        kind: kind.into(),
        assigned_to: Executor::Human,
        trigger: Trigger::Manual,
        config: (config != json!({})).then_some(Json(config)),
        ..StepDef::default()
    }
}
