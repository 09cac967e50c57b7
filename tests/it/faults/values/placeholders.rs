//! Placeholders: the same names in everything that is rendered, and the error for an unknown name.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sortie::domain::content::templating::{self, Source};

use crate::harness::{World, outbox};

/// Renders a text in a message, and in the mail of an `email` step.
async fn rendered(text: &str) -> [Result<String, String>; 2] {
    let attributes = json!({ "First Name": "Ada", "Prénom": "Adèle", "companySize": 12, "city_name": "Bonn" });
    let variables = json!({ "offer": "a trial", "Big Offer": "two trials" });
    let (Value::Object(attributes), Value::Object(variables)) = (attributes, variables) else { unreachable!() };
    let mut record = attributes.clone();
    record.extend([("name".into(), json!("Ada B.")), ("email".into(), json!("ada@example.com"))]);
    let source = Source {
        subject: None,
        body: text.to_owned(),
        variables: variables.clone(),
        campaign: "Spring".into(),
        sender: "Duty".into(),
    };
    let message = templating::render_all(source, vec![record.clone()]).await.unwrap().remove(0);
    // As in the steps of a run.
    record.insert("attributes".into(), Value::Object(attributes));
    let values = json!({
        "record": record, "variables": variables, "results": {}, "run": { "id": "r", "name": "Run" },
        "campaign": { "id": "c", "name": "Spring" }, "sender": { "name": "Duty" },
    });
    let values: Map<String, Value> = values.as_object().unwrap().clone();
    let until = Instant::now() + Duration::from_secs(5);
    let letter = templating::render_mail("Hi", text, &values, until);
    [message.map(|message| message.body), letter.map(|message| message.body)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placeholder_has_the_same_names_in_messages_and_in_steps() {
    for (text, right) in [
        ("{{ first_name }}", "Ada"),
        ("{{ record.first_name }}", "Ada"),
        ("{{ record[\"First Name\"] }}", "Ada"),
        ("{{ attributes[\"First Name\"] }}", "Ada"),
        ("{{ attributes.first_name }}", "Ada"),
        ("{{ record.attributes[\"First Name\"] }}", "Ada"),
        ("{{ record.attributes.first_name }}", "Ada"),
        ("{{ prenom }}", "Adèle"),
        ("{{ companySize }}/{{ company_size }}", "12/12"),
        ("{{ name }} {{ record.email }}", "Ada B. ada@example.com"),
        ("{{ offer }}, {{ variables.offer }}, {{ big_offer }}", "a trial, a trial, two trials"),
        ("{{ campaign.name }} {{ sender.name }}", "Spring Duty"),
        ("{% if town %}{{ town }}{% else %}-{% endif %}", "-"),
        ("{% if not town %}-{% endif %}", "-"),
        ("{% if record.attributes.town %}x{% elif first_name %}y{% endif %}", "y"),
        ("{{ \"x\" if town else \"y\" }}", "y"),
        ("{{ town | default(\"there\") }}", "there"),
        ("{% if town is defined %}x{% else %}y{% endif %}", "y"),
    ] {
        for found in rendered(text).await {
            assert_eq!(found.as_deref(), Ok(right), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_there_is_told_with_those_that_are() {
    for (text, words, not) in [
        ("{{ first_nam }}", &["unknown placeholder first_nam", "`First Name` (write first_name)"][..], "city_name"),
        ("{{ record.attributes.city }}", &["unknown placeholder record.attributes.city", "city_name"], "offer"),
        ("{{ xyzzy }}", &["unknown placeholder xyzzy", "email", "offer"], "results"),
        ("{% if town %}{{ town }}{% endif %}{{ nowhere }}", &["unknown placeholder nowhere"], "town,"),
        ("{% if town %}{{ nowhere }}{% endif %}{{ town }}", &["unknown placeholder nowhere"], "INTERNAL"),
    ] {
        for found in rendered(text).await {
            let told = found.unwrap_err();
            assert!(words.iter().all(|word| told.contains(word)) && !told.contains(not), "{text}: {told}");
        }
    }
    let told = templating::check("body", "{{ First Name }}").unwrap_err().to_string();
    assert!(told.contains("`first_name`"), "{told}");
}

both! {
    async fn preflight_renders_the_mails_of_the_template_s_own_steps(kind) {
        let world = World::new(kind).await;
        for (id, attributes) in [("a", json!({ "Vorname": "Ada", "size": 10 })), ("b", json!({ "size": 1 }))] {
            let input = json!({ "kind": "lead", "externalId": id, "name": id, "email": format!("{id}@example.com"), "attributes": attributes });
            world.create("record", input).await;
        }
        let goal = world.create("goal", json!({ "name": "G" })).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "kind": { "eq": "lead" } } })).await;
        let step = |body: &str, when: Option<&str>| {
            let mut step = json!({ "key": "mail", "name": "Mail", "type": "email", "assignedTo": "WORKFLOW", "config": { "subject": "Hello", "body": body } });
            if let Some(when) = when {
                step["when"] = json!(when);
            }
            step
        };
        let mut last = String::new();
        for (at, (step, status, words)) in [
            (step("Dear {{ record.attributes.Vorname }}", None), "FAILED", "`mail` for b unknown placeholder record.attributes.Vorname"),
            (step("Dear {{ vorname }}", Some("record.attributes.size > 5")), "PASSED", ""),
            (step("Dear {{ vorname }}", Some("record.attributes.size < 5")), "FAILED", "`mail` for b"),
            (step("{{ results.look.sum }}", None), "NOT_APPLICABLE", ""),
            (step("{% if Vorname %}Dear {{ Vorname }}{% else %}Hello{% endif %} of {{ sender.name }}", None), "PASSED", ""),
        ].into_iter().enumerate() {
            let key = format!("own-{at}");
            let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [step] }] }]);
            world.apply(&json!({ "runTemplates": [{ "key": key, "name": key, "phases": phases }] }).to_string()).await;
            let template = world.id_of("runTemplates", "key", &key).await;
            last = world.create("campaign", json!({ "name": key, "runTemplateId": template, "goalId": goal, "segmentId": segment })).await;
            let query = "query($id: ID!) { preflight(campaignId: $id, action: RUN) { ready checks { code status message } } }";
            let report = world.ask(query, json!({ "id": last })).await["preflight"].clone();
            let checks = report["checks"].as_array().unwrap();
            let found = checks.iter().find(|check| check["code"] == "RENDERING").unwrap();
            let told = found["message"].as_str().unwrap();
            assert_eq!(found["status"], status, "{found}");
            assert!(words.split(' ').all(|word| told.contains(word)), "{told}");
        }
        // Accepted mail is sent, and has a MIME-Version header.
        for verb in ["submitCampaign", "approveCampaign"] {
            world.act(verb, "campaign", json!({ "id": last })).await;
        }
        let run = world.ask("mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } } }", json!({ "id": last })).await["runCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        world.until_run(&run, "COMPLETED").await;
        let mails: Vec<String> = outbox(&world.folder).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        assert_eq!(mails.len(), 2);
        for mail in &mails {
            assert_eq!(mail.matches("MIME-Version: 1.0\r\n").count(), 1, "{mail}");
        }
        assert!(mails.iter().any(|mail| mail.contains("Dear Ada of ")) && mails.iter().any(|mail| mail.contains("Hello of ")), "{mails:?}");
        world.end().await;
    }
}
