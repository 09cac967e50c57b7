//! A6 and A7: templates that overflow the parser's stack, or multiply their input.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sortie::domain::content::templating::{self, Message, Source};

use super::soon;
use crate::harness::World;

/// Templates that make a parser recurse, each with a given depth.
pub(in crate::security) fn chains(links: usize) -> Vec<String> {
    let tag = |before: &str, link: &str, after: &str| format!("{{{{ {before}{}{after} }}}}", link.repeat(links));
    vec![
        tag("", "-", "1"),
        tag("", "not ", "1"),
        tag("a", ".a", ""),
        tag("a", "|upper", ""),
        tag("a", " and a", ""),
        tag("a", " or a", ""),
        tag("a", "[0]", ""),
        tag("a", "()", ""),
        tag("a", "//1", ""),
        tag("a", "**1", ""),
        tag("a", "+1", ""),
        tag("a", "~1", ""),
        tag("a", "*1", ""),
        tag("a", "==1", ""),
        tag("a", " in a", ""),
        tag("a", " is defined", ""),
        tag("a", " if a else a", ""),
        tag("", "(", "1"),
        tag("", "[", "1"),
        tag("", "{1:", "1"),
        tag("a", "[a", "1"),
        tag("a", "(a", "1"),
        tag("a", "[:", "1"),
        tag("a", "|default(a", "1"),
        format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(links)),
        "{% if a %}".repeat(links),
        "{% for a in a %}".repeat(links),
        "{% if a %}{% else %}".repeat(links),
        format!("{{% for {}a in a %}}{{% endfor %}}", "(".repeat(links)),
        format!("{{% for {}a in a %}}{{% endfor %}}", "a,".repeat(links)),
        "{% raw %}".repeat(links),
        "{#".repeat(links),
        "{{".repeat(links),
        "\n".repeat(links * 8),
        format!("{}{{{{ nosuch ", "\n".repeat(links * 7)),
    ]
}

pub(super) fn values() -> Map<String, Value> {
    let text = "a".repeat(10_000);
    let list = vec!["b"; 2_000];
    let Value::Object(values) = json!({ "a": text, "n": 100_000_000, "list": list, "f": 100_000_000.0, "name": "Ann" })
    else {
        panic!()
    };
    values
}

pub(super) async fn rendered(body: &str) -> Result<Message, String> {
    let source = Source {
        subject: None,
        body: body.to_owned(),
        variables: Map::new(),
        campaign: "Spring".into(),
        sender: "Ann".into(),
    };
    templating::render_all(source, vec![values()]).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_chain_overflows_the_parser() {
    for links in [20, 190, 201, 2_000, 8_000] {
        for source in chains(links) {
            soon(&source, || drop(templating::check("body", &source)));
            drop(rendered(&source).await);
        }
    }
    // The longest accepted template is rendered.
    let chain = format!("{{{{ name{} }}}}", "|upper".repeat(90));
    templating::check("body", &chain).unwrap();
    assert_eq!(rendered(&chain).await.unwrap().body, "ANN");
    let refused = templating::check("body", &format!("{{{{ {}1 }}}}", "-".repeat(5_000))).unwrap_err();
    assert!(refused.to_string().contains("at most 200 names, values and operators"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_multiplies() {
    let nested = |inner: &str, levels: usize| {
        let begin: String = (0..levels)
            .map(|i| format!("{{% for v{} in [{}] %}}", i + 1, format!("v{i}~").repeat(8).trim_end_matches('~')))
            .collect();
        format!("{{% for v0 in [a] %}}{begin}{inner}{}{{% endfor %}}", "{% endfor %}".repeat(levels))
    };
    let refused = [
        "{% for b in [a~a~a~a~a~a~a~a] %}{% for c in [b~b~b~b~b~b~b~b] %}{{ c|length }}{% endfor %}{% endfor %}"
            .to_owned(),
        nested("{{ v1|length }}", 2),
        nested("x", 5),
        "{{ \"a\"*100000000 }}".into(),
        "{{ 100000000*\"a\" }}".into(),
        "{{ a * n }}".into(),
        "{{ n * a }}".into(),
        "{{ a * f }}".into(),
        "{{ a * 100000000.0 }}".into(),
        "{{ (a * 16) * 16 }}".into(),
        "{{ [a] * n }}".into(),
        "{{ (a|int(default=a)) * n }}".into(),
        "{{ (n if a else a) * n }}".into(),
        "{{ [a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a] }}".into(),
        "{% for x in [a] recursive %}{{ loop([x~x]) }}{% endfor %}".into(),
        "{% for loop in [a] %}{{ loop.index * n }}{% endfor %}".into(),
        "{{ loop.index * n }}".into(),
        "{% set b = a ~ a %}".into(),
        "{% with b = a ~ a %}{% endwith %}".into(),
        "{% filter upper %}{% endfilter %}".into(),
        "{% macro m() %}{{ m() }}{% endmacro %}".into(),
        "{% include 'x' %}".into(),
        "{% do a() %}".into(),
        "{{ a|replace('a', a) }}".into(),
        "{{ a|join(a) }}".into(),
        "{{ range(100000000) }}".into(),
        "{{ a|indent(1000000) }}".into(),
        "{{ a.nosuch() }}{{ dict(a=a)|items }}".into(),
    ];
    for source in &refused {
        let refusal = soon(source, || templating::check("body", source).unwrap_err());
        assert!(refusal.to_string().starts_with("body: "), "{source}: {refusal}");
    }
    // Templates stored before there was a budget terminate, whatever their content.
    for source in &refused {
        drop(rendered(source).await);
    }
    let spun = "{% for b in list %}{% for c in list %}{% if a in a ~ a %}{{ c }}{% endif %}{% endfor %}{% endfor %}";
    let why = rendered(spun).await.unwrap_err();
    assert!(why.contains("out of fuel") || why.contains("took too long") || why.contains("longer than"), "{why}");
}

/// Joins that are never written out need no loop to take long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_without_loops_end_too() {
    let joined = vec!["list"; 16].join("~");
    let once = format!("{{% if ({joined})==1 %}}{{% endif %}}");
    let many = once.repeat(64 * 1024 / once.len() - 1) + "end";
    templating::check("body", &many).unwrap();
    let why = soon("joins", || templating::text("body", &many, &values(), Instant::now() + Duration::from_secs(60)));
    let why = why.unwrap_err();
    assert!(why.contains("out of fuel"), "{why}");
    assert_eq!(rendered(&(once.repeat(2) + "end")).await.unwrap().body, "end");
    // After its deadline, a template gets no values and writes nothing.
    for late in [once.as_str(), "{{ name }}", "{% if name %}{% endif %}", "{% for b in list %}{% endfor %}"] {
        let why = templating::text("body", late, &values(), Instant::now()).unwrap_err();
        assert_eq!(why, "body: rendering took too long", "{late}");
    }
    let in_time = Instant::now() + Duration::from_secs(60);
    assert_eq!(templating::text("body", "{{ name }}", &values(), in_time).unwrap(), "Ann");
    // A template without loops joins as much as one with loops: its values are bounded, too.
    let Value::Object(large) = json!({ "results": { "a": vec!["x".repeat(60_000); 18] }, "name": "Ann" }) else {
        panic!()
    };
    let why = templating::text("body", "{{ name }}", &large, in_time).unwrap_err();
    assert!(why.contains("the values are too large"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mails_need_is_there() {
    for (source, wanted) in [
        ("Hello {{ name }}!", "Hello Ann!"),
        ("{{ name|upper ~ ', ' ~ name|lower ~ '.' }}", "ANN, ann."),
        ("{% for b in list[:3] %}{{ loop.index * 2 }}{{ b ~ '-' }}{% endfor %}", "2b-4b-6b-"),
        (
            "{{ n|int * 2 }} {{ n * 1.5 }} {{ '-' * 10 }} {{ 3 * (2 + n|int) }}",
            "200000000 150000000.0 ---------- 300000006",
        ),
        ("{% if name == 'Ben' %}B{% elif name %}A{% else %}-{% endif %}", "A"),
        ("{{ nosuch|default('there') }} {{ (name if name else 'x')|title }}", "there Ann"),
        ("{% for k in {'a': 1, 'b': 2} %}{{ k }}{% endfor %} {{ [1, 2, 3]|length + 1 }}", "ab 4"),
        ("{{ '1.5'|float * '2'|int }} {{ campaign.name }}", "3.0 Spring"),
    ] {
        templating::check("body", source).unwrap();
        assert_eq!(rendered(source).await.unwrap().body, wanted, "{source}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_leave_the_async_threads_free() {
    let spun = "{% for b in list %}{% for c in list %}{% if a == a ~ b %}-{% endif %}{% endfor %}{% endfor %}";
    let all: Vec<_> = (0..12).map(|_| tokio::spawn(rendered(spun))).collect();
    // Both threads of this runtime stay responsive meanwhile.
    for _ in 0..20 {
        let begun = std::time::Instant::now();
        tokio::join!(tokio::spawn(async {}), tokio::spawn(async {})).0.unwrap();
        assert!(begun.elapsed() < std::time::Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    for one in all {
        one.await.unwrap().unwrap_err();
    }
}

both! {
    async fn a_viewers_preview_ends_nobody(kind) {
        let world = World::without_server(kind, None).await;
        world.create("record", json!({ "kind": "partnership", "name": "Oak", "stage": "MOU Sent", "email": "oak@p.example" })).await;
        let run = world.guided("mou-sprint", json!({})).await;
        let review = world.guided_step(&run, "review_mous").await;
        world.step_act("skipStep", &review, json!({})).await;
        let step = world.guided_step(&run, "send_reminders").await;
        let oak = world.ask("{ records { nodes { id } } }", json!({})).await["records"]["nodes"][0]["id"].clone();
        let preview = "query($input: PreviewStepEmailInput!) { previewStepEmail(input: $input) { mail { body problem } } }";
        // A panic of the template crate is reported as an error of the template.
        for body in [
            "{% for a in [1,2] %}{{ loop.cycle() }}{% endfor %}", "{{ 'abc'[::(-9223372036854775807-1)] }}",
            "{{ 'abc'[-9223372036854775807:9223372036854775807:-1] }}", "{{ 9223372036854775807 + 1 }}",
            "{{ (-9223372036854775807 - 1) // -1 }}", "{{ 1 % 0 }}", "{{ range(9223372036854775807, 0, -1) }}",
            "{{ 'abc'|replace('', 'x') }}{{ [1,2]|batch(0)|list }}", "{{ [1,2]|slice(0)|list }}", "{{ 2 ** 9223372036854775807 }}",
        ] {
            let input = json!({ "stepId": step, "recordIds": [oak], "subject": "s", "body": body });
            let answer = world.post(preview, json!({ "input": input })).await;
            let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default();
            assert!(code.is_empty() || code == "BAD_USER_INPUT" || code == "LIMIT_EXCEEDED", "{body}: {answer}");
        }
        // Null counts as missing; true is written as everywhere else; unreadable values are
        // rejected.
        world.ask("mutation($id: ID!) { updateRecord(input: { id: $id, attributes: { city: null, active: true } }) { record { id } } }", json!({ "id": oak })).await;
        for (body, wanted) in [
            ("{{ record.attributes.city|default('there') }}", Some("there")),
            ("{{ record.attributes.active }}", Some("true")),
            ("{{ record.attributes.city }}", None),
            ("{{ 1e308 * 10 }}", None),
        ] {
            let input = json!({ "stepId": step, "recordIds": [oak], "subject": "s", "body": body });
            let answer = world.post(preview, json!({ "input": input })).await;
            let mail = &answer["data"]["previewStepEmail"][0]["mail"];
            match wanted {
                Some(wanted) => assert_eq!(mail["body"], wanted, "{body}: {answer}"),
                None => assert!(mail["problem"].is_string() || answer["errors"].is_array(), "{body}: {answer}"),
            }
        }
        let bodies = ["{{ ".to_owned() + &"-".repeat(4_900) + "1 }}", "{{ name".to_owned() + &".a".repeat(2_000) + " }}", "{{ 'a'*100000000 }}".into()];
        for body in bodies {
            let input = json!({ "stepId": step, "recordIds": [oak], "subject": "s", "body": body });
            let answer = world.post(preview, json!({ "input": input })).await;
            let error = &answer["errors"][0];
            assert_eq!((&error["extensions"]["code"], &error["extensions"]["field"]), (&json!("BAD_USER_INPUT"), &json!("body")), "{answer}");
        }
        let input = json!({ "stepId": step, "recordIds": [oak], "subject": "s", "body": "{{ name ~ '!' }}" });
        assert_eq!(world.ask(preview, json!({ "input": input })).await["previewStepEmail"][0]["mail"]["body"], "Oak!");
        world.end().await;
    }
}
