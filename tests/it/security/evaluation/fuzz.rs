//! Fuzzes every parser of user input: stored seeds (`fuzz/corpus/<target>/`), pieces of them, and
//! words of the input language in any order. The parser returns within its time limit, and neither
//! panics nor overflows.
//!
//! One second per target; `SORTIE_FUZZ_SECONDS` for longer. Inputs that found a fault are added to
//! the seeds.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use sortie::domain::content::cel::Condition;
use sortie::domain::content::{result_schema, templating, yaml};
use sortie::graphql;
use sortie::kernel::db::dialect::Dialect;
use sortie::kernel::storable;

use super::{conditions, documents, schemas, soon, templates};

fn seconds() -> Duration {
    let told = std::env::var("SORTIE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(told.unwrap_or(1))
}

/// Seeds first; then words of the language and pieces of seeds, some repeated many times.
pub(super) fn each(target: &str, more: Vec<String>, words: &[&str], read: impl Fn(&str)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let kept = std::fs::read_dir(&folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let seeds: Vec<String> = kept.chain(more).collect();
    seeds.iter().for_each(|seed| soon(seed, || read(seed)));
    let mut runner = TestRunner::deterministic();
    if std::env::var("SORTIE_FUZZ_SECONDS").is_ok() {
        runner = TestRunner::default();
    }
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let seed =
        (0..seeds.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(move |(i, from, to)| {
            let chars: Vec<char> = seeds[i].chars().take(4_000).collect();
            let (from, to) = (from.index(chars.len() + 1), to.index(chars.len() + 1));
            chars[from.min(to)..from.max(to)].iter().collect::<String>()
        });
    let part = prop_oneof![
        6 => prop::sample::select(words.clone()),
        2 => (prop::sample::select(words), 1..400usize).prop_map(|(word, times)| word.repeat(times)),
        1 => seed,
        1 => any::<String>(),
    ];
    let texts = prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat());
    let begun = Instant::now();
    while begun.elapsed() < seconds() {
        let text = texts.new_tree(&mut runner).unwrap().current();
        soon(&text, || read(&text));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_and_their_rendering() {
    const WORDS: &[&str] = &[
        "{{ ",
        " }}",
        "{% if ",
        "{% elif ",
        "{% else %}",
        "{% endif %}",
        "{% for b in ",
        "{% endfor %}",
        " %}",
        "a",
        "n",
        "list",
        "name",
        ".x",
        "|upper",
        "|int",
        "|default(",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "+",
        "*",
        "~",
        "-",
        "/",
        " in ",
        " not ",
        "\"s\"",
        "1",
        "100000000",
        "loop.index",
        " is defined",
        ",",
        ":",
        " ",
        "\n",
        "{#",
        "#}",
        " recursive",
    ];
    let runtime = tokio::runtime::Handle::current();
    let work = tokio::task::spawn_blocking(move || {
        each("template", templates::chains(300), WORDS, |text| {
            drop(templating::check("body", text));
            drop(runtime.block_on(templates::rendered(text)));
        });
    });
    work.await.unwrap();
}

#[test]
fn conditions_and_their_evaluation() {
    const WORDS: &[&str] = &[
        "record",
        ".many",
        ".name",
        ".text",
        "1",
        "'a'",
        "\"\"\"",
        "r'",
        " + ",
        " - ",
        " * ",
        " == ",
        " < ",
        " && ",
        " || ",
        "!",
        " ? ",
        " : ",
        " in ",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".map(x, ",
        ".all(x, ",
        ".exists(x, ",
        ".filter(x, ",
        "x",
        "y",
        ".matches('",
        "size(",
        "has(",
        "string(",
        "timestamp('",
        "duration('",
        "//",
        "\n",
        ".?",
        "9223372036854775807",
    ];
    each("cel", conditions::chains(150), WORDS, |text| {
        if let Ok(condition) = Condition::parse(text) {
            drop(condition.holds(&conditions::values()));
        }
    });
}

#[test]
fn schemas_and_what_they_judge() {
    const WORDS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"$ref\":\"#\"",
        "\"$ref\":\"#/$defs/a\"",
        "\"$defs\":{\"a\":",
        "\"allOf\":[",
        "\"anyOf\":[",
        "\"not\":{",
        "\"properties\":{\"a\":",
        "\"items\":",
        "\"unevaluatedProperties\":",
        "\"pattern\":\"",
        "(a+)+",
        "\"",
        "\"type\":\"string\"",
        "true",
        "false",
        "1",
        "\"if\":",
        "\"contains\":",
        "\"enum\":[",
        "\"$id\":\"x\"",
    ];
    let values =
        [serde_json::json!({ "a": { "a": ["aaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1, null] } }), serde_json::json!([[["a"]]])];
    each("schema", schemas::refused().iter().map(Value::to_string).collect(), WORDS, |text| {
        // Random words are seldom valid JSON: missing closing brackets are added.
        for text in [text.to_owned(), format!("{{{text}"), format!("{{\"allOf\":[{text}")] {
            let closed = text.trim_end_matches(',').to_owned() + &closing(&text);
            if let Ok(schema) = serde_json::from_str::<Value>(&closed) {
                drop(result_schema::check(&schema));
                values.iter().for_each(|value| drop(result_schema::problems(&schema, value)));
            }
        }
    });
}

fn closing(text: &str) -> String {
    let mut open = Vec::new();
    for byte in text.bytes() {
        match byte {
            b'{' => open.push('}'),
            b'[' => open.push(']'),
            b'}' | b']' => drop(open.pop()),
            _ => {}
        }
    }
    open.into_iter().rev().collect()
}

#[test]
fn yaml_and_json() {
    const WORDS: &[&str] = &[
        "a", ": ", "- ", "\n", "  ", "[", "]", "{", "}", ",", "&a ", "*a ", "!!str ", "|", ">", "'", "\"", "#", "---",
        "? ", "~", "1e999", "0x", "\t", "%YAML", "\\u0041", "<<", "null",
    ];
    each("yaml", documents::texts(2_000), WORDS, |text| {
        if let Ok(written) = yaml::read(text) {
            let _ = written.line(text);
            drop(yaml::write(&written.value));
        }
        if let Ok(value) = serde_json::from_str(text) {
            drop(storable::json(&value));
        }
    });
}

#[test]
fn documents_of_graphql() {
    const WORDS: &[&str] = &[
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "a",
        ":",
        "$a",
        "...",
        "on ",
        "@include(if: ",
        "query ",
        "fragment ",
        "\"",
        "\"\"\"",
        "\\u",
        "D83D",
        "#",
        "\n",
        "1",
        "-",
        "!",
        "=",
        ",",
        "\u{feff}",
        "\\",
    ];
    let deep = ["{a", "[", "(a:", "{a(b:[", "\"\"\"", "#", "...", "@a"].map(|link| link.repeat(5_000));
    each("document", deep.to_vec(), WORDS, |text| drop(graphql::document::parse(text)));
}

#[test]
fn patterns_of_schedules() {
    use entity::schedule::{FoldPolicy, GapPolicy};
    use sortie::domain::plan::schedule::Pattern;
    const WORDS: &[&str] = &[
        "*",
        "/",
        ",",
        "-",
        " ",
        "1",
        "59",
        "L",
        "#",
        "W",
        "?",
        "MON",
        "JAN",
        "@daily",
        "0",
        "99999999999",
        "31",
        "2",
    ];
    let now: DateTime<Utc> = crate::harness::noon();
    each("cron", vec!["*/1,".repeat(3_000) + "* * * * *", "0 0 30 2 *".into()], WORDS, |text| {
        if let Ok(cron) = Pattern::parse(text, "Europe/Berlin", GapPolicy::Shift, FoldPolicy::Once) {
            drop(cron.take(now, 3));
        }
    });
}

#[test]
fn filters_of_records() {
    const WORDS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"and\":[",
        "\"or\":[",
        "\"not\":{",
        "\"name\":{",
        "\"eq\":",
        "\"in\":[",
        "\"contains\":",
        "\"attributes\":[{\"name\":",
        "\"olderThan\":\"",
        "14d\"",
        "\"isNull\":true",
        "\"a\"",
        "1e308",
        "9007199254740993",
        "null",
        "\"all\":true",
        "\"ids\":[",
        "\"search\":",
        "\"\\u0000\"",
        "\"kind\":{",
        "\"lastContactedAt\":{",
    ];
    let seeds = ["{\"not\":", "{\"and\":[", "{\"or\":[{\"name\":{\"eq\":\"a\"}},"].map(|link| link.repeat(60));
    each("filter", seeds.to_vec(), WORDS, |text| {
        for text in [text.to_owned(), format!("{{{text}")] {
            let closed = text.trim_end_matches(',').to_owned() + &closing(&text);
            let Ok(value) = serde_json::from_str::<Value>(&closed) else { continue };
            let Ok(filter) = sortie::domain::audience::record::filter::RecordFilter::parse(value) else { continue };
            for dialect in [Dialect::Sqlite, Dialect::Postgres] {
                drop(sortie::domain::audience::record::filter::condition(&filter, dialect, crate::harness::noon()));
            }
        }
    });
}

#[test]
fn cursors_and_ids() {
    const WORDS: &[&str] =
        &["run_", "step_", "01h455vb4pex5vsknk084sn02q", "=", "e", "ZXZ", "/", "+", "_", "-", "0", "\u{feff}", "\0"];
    each(
        "cursor",
        vec!["a".repeat(100_000), sortie::kernel::event::cursor(entity::org::PLATFORM, i64::MAX)],
        WORDS,
        |text| {
            drop(sortie::kernel::event::cursor::position_of(entity::org::PLATFORM, "after", text));
            drop(text.parse::<entity::id::RunId>());
            drop(entity::id::prefix_of(text));
        },
    );
}
