//! Repository rules that no lint knows: headers, file sizes, names, dependency directions, no
//! sleeps.

use std::path::{Path, PathBuf};

pub(super) fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

pub(super) fn all() -> Vec<(PathBuf, String)> {
    ["src", "entity/src", "migration/src", "tests"].into_iter().flat_map(files).collect()
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in all() {
        assert!(text.starts_with("//! "), "{} does not begin with `//! `", path.display());
        assert_ne!(path.file_name().unwrap(), "mod.rs", "{}", path.display());
    }
}

#[test]
fn files_stay_below_the_wall() {
    for (path, text) in files("src").into_iter().chain(files("entity/src")) {
        let lines = text.lines().count();
        assert!(lines <= 400, "{} has {lines} lines; 400 is the wall", path.display());
    }
}

#[test]
fn no_banned_names() {
    // Spelled in two parts, so that this file does not name what it bans.
    let banned = ["Ser|vice", "Man|ager", "Hand|ler", "Hel|per", "D|to", "Ut|il"].map(|word| word.replace('|', ""));
    for (path, text) in files("src").into_iter().chain(files("entity/src")) {
        for line in text
            .lines()
            .filter(|line| ["struct ", "enum ", "trait ", "mod ", "fn "].iter().any(|word| line.contains(word)))
        {
            let name = line.split(['(', '<', '{', ';']).next().unwrap_or_default();
            assert!(!banned.iter().any(|word| name.contains(word.as_str())), "{}: {line}", path.display());
        }
    }
}

#[test]
fn tests_do_not_nap() {
    for (path, text) in files("tests") {
        let naps = text.matches(concat!("tokio::time::", "sleep(")).count();
        assert_eq!(naps, 0, "{} sleeps; wait on a condition", path.display());
    }
    for (path, text) in all() {
        for banned in
            [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[ig", "nore"), concat!("dbg", "!(")]
        {
            assert!(!text.contains(banned), "{}: {banned}", path.display());
        }
    }
}

#[test]
fn lists_of_data_go_through_one_place() {
    for (path, text) in files("src") {
        if path.ends_with("src/kernel/db/batch.rs") {
            continue;
        }
        for line in text.lines() {
            assert!(
                !line.contains("insert_many("),
                "{}: db::batch::insert_all cuts by parameters: {line}",
                path.display()
            );
            // A literal list of constants is not a list of data.
            for given in ["is_in(", "is_not_in("].iter().flat_map(|name| line.split(name).skip(1)) {
                let constants = given.starts_with(|c: char| c == '[' || c.is_ascii_uppercase());
                assert!(constants, "{}: db::batch::any_of binds a list as one parameter: {line}", path.display());
            }
        }
    }
}

/// The folders below `src`, lowest first; those in one row don't use each other, except as listed
/// in `BESIDE`.
const FOLDERS: [&[&str]; 6] =
    [&["kernel"], &["domain"], &["channel"], &["step_kind"], &["engine", "graphql"], &["transport", "app"]];

/// Pairs of folders in one row of which the first may use the second.
const BESIDE: [(&str, &str); 1] = [("app", "transport")];

/// The modules of `domain`, lowest first.
const NOUNS: [&str; 12] = [
    "people",
    "audience",
    "content",
    "plan",
    "message",
    "run",
    "bulk_action",
    "import",
    "worker",
    "meeting",
    "follow_up",
    "manifest",
];

#[test]
fn folders_depend_downwards() {
    let rank = |folder: &str| FOLDERS.iter().position(|line| line.contains(&folder));
    for (path, text) in files("src") {
        let Some(of) = segment(&path, 0) else { continue };
        let mine = rank(&of).unwrap_or_else(|| panic!("{} is in no folder of the map", path.display()));
        for used in uses(&text, "crate::") {
            let Some(theirs) = rank(&used) else { continue };
            let beside = theirs == mine && used != of && !BESIDE.contains(&(of.as_str(), used.as_str()));
            assert!(theirs <= mine && !beside, "{} uses {used}, which is not below it", path.display());
        }
    }
}

#[test]
fn nouns_use_those_declared_before_them() {
    let map = std::fs::read_to_string("src/domain.rs").unwrap();
    let declared: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, NOUNS, "domain.rs declares its modules in their order");
    let rank = |noun: &str| NOUNS.iter().position(|name| *name == noun);
    for (path, text) in files("src/domain") {
        let Some(mine) = segment(&path, 1).and_then(|noun| rank(&noun)) else { continue };
        for used in uses(&text, "crate::domain::") {
            let is_below = rank(&used).is_none_or(|theirs| theirs <= mine);
            assert!(is_below, "{} uses {used}, which is declared after it", path.display());
        }
    }
}

/// The modules that a text names after a prefix.
fn uses(text: &str, prefix: &str) -> Vec<String> {
    let name = |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
    let mut all: Vec<String> = text.split(prefix).skip(1).filter_map(name).collect();
    // The parts of a group.
    for group in text.split(&format!("{prefix}{{")).skip(1) {
        let (mut depth, mut part) = (0, String::new());
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => all.extend(name(std::mem::take(&mut part).trim())),
                _ => part.push(c),
            }
        }
        all.extend(name(part.trim()));
    }
    all
}

/// The module or folder at a depth of a path below `src`; none for `lib.rs` and `main.rs`, and if
/// the path is shorter.
fn segment(path: &Path, depth: usize) -> Option<String> {
    let part = path.strip_prefix("src").unwrap().components().nth(depth)?;
    let name = Path::new(part.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned();
    (!["lib", "main"].contains(&name.as_str())).then_some(name)
}

#[test]
fn what_only_one_place_does() {
    // `graphql` and `engine` share tables and the log, nothing else.
    for (path, text) in files("src/graphql").into_iter().chain(files("src/engine")) {
        let other = if path.starts_with("src/graphql") { "crate::engine" } else { "crate::graphql" };
        assert!(!text.contains(other), "{} uses {other}", path.display());
    }
    // Only `config.rs` reads the environment, only `clock.rs` the time.
    for (path, text) in files("src") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name == "config.rs" || !text.contains("env::var"), "{} reads the environment", path.display());
        assert!(name == "clock.rs" || !text.contains("Utc::now"), "{} reads the time", path.display());
        // A plain `begin` is DEFERRED on SQLite, and the first write in it fails with BUSY. (As a
        // lint it would hit the code that sea-orm's own macro writes.) The log's sequencer exists
        // only on Postgres and emits no events of its own; the checker only reads.
        let own = ["transaction.rs", "sequencer.rs", "check.rs"].contains(&name);
        assert!(own || !text.contains("TransactionTrait"), "{}: use transact!", path.display());
    }
}
