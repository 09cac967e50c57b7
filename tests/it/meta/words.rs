//! Wording rule: doc comments begin with a subject or a verb, not with a pronoun or a preposition.

use super::tidy::all;

/// First words of sentences whose subject comes only later.
const RIDDLES: [&str; 19] = [
    "who", "whom", "whose", "what", "which", "whether", "how", "when", "where", "why", "by", "of", "in", "from", "as",
    "those", "that", "it", "its",
];

/// Maximum share of doc comments that may begin so, in percent. crates.io has 2.
const MOST: usize = 3;

#[test]
fn doc_comments_begin_with_a_subject() {
    let (mut count, mut riddles) = (0, Vec::new());
    for (path, text) in all() {
        if path.starts_with("tests") {
            continue;
        }
        let mut within = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            if let Some(doc) = doc.filter(|_| !within) {
                count += 1;
                let first = doc.trim_start().split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
                if RIDDLES.contains(&first.to_lowercase().as_str()) {
                    riddles.push(format!("{}:{}: {}", path.display(), number + 1, doc.trim()));
                }
            }
            within = doc.is_some();
        }
    }
    assert!(count > 1_000, "{count} doc comments were found");
    let share = riddles.len() * 100 / count;
    assert!(riddles.len() * 100 <= MOST * count, "{share} % of {count} doc comments: {riddles:#?}");
}
