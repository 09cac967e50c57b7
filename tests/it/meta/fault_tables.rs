//! The tables of faults name only tests that exist.

use std::path::{Path, PathBuf};

/// The README of each folder of tests that has one.
fn tables() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("tests/it").unwrap() {
        let path = entry.unwrap().path().join("README.md");
        if let Ok(text) = std::fs::read_to_string(&path) {
            found.push((path, text));
        }
    }
    found.sort();
    found
}

/// The tests that a table names: each in backticks, with its modules.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |name: &&str| {
        name.contains("::")
            && !name.starts_with(":")
            && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_' || char == ':')
    };
    text.split('`').skip(1).step_by(2).filter(is_name)
}

/// True if there is such a test: its modules are files, and the last of them has the function.
fn exists(name: &str) -> bool {
    let mut parts: Vec<&str> = name.split("::").collect();
    if matches!(parts.last(), Some(&"sqlite" | &"postgres")) {
        parts.pop();
    }
    let Some(test) = parts.pop() else { return false };
    let file = Path::new("tests/it").join(parts.join("/")).with_extension("rs");
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // A macro generates tests from a list of names and texts.
    if lines.iter().any(|line| line.starts_with(&format!("{test}: \""))) {
        return true;
    }
    let is_declared = |line: &str| line.strip_prefix("async ").unwrap_or(line).starts_with(&format!("fn {test}("));
    // A test attribute or `both!` precedes it, and possibly comments.
    let is_test = |line: &&str| ["both!", "#[test]", "#[tokio::test"].iter().any(|begin| line.starts_with(begin));
    (0..lines.len())
        .filter(|at| is_declared(lines[*at]))
        .any(|at| lines[..at].iter().rev().take_while(|line| !line.is_empty()).any(is_test))
}

#[test]
fn tables_of_faults_name_tests_that_there_are() {
    let tables = tables();
    assert!(tables.iter().any(|(path, _)| path.ends_with("security/README.md")));
    for (path, text) in tables {
        assert!(names(&text).count() > 10, "{} names no tests", path.display());
        let missing: Vec<&str> = names(&text).filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "{} names tests that there are not: {missing:#?}", path.display());
    }
}

#[test]
fn every_fault_of_the_list_has_a_test() {
    let text = std::fs::read_to_string("tests/it/faults/README.md").unwrap();
    let rows = || text.lines().filter(|line| line.starts_with('|') && line[2..].starts_with(char::is_numeric));
    let numbers: Vec<&str> = rows().filter_map(|row| row[2..].split(' ').next()).collect();
    let wanted = (1..)
        .zip([6, 3, 8, 8, 8, 6, 14, 11])
        .flat_map(|(part, count)| (1..=count).map(move |nth| format!("{part}.{nth}")));
    assert_eq!(numbers, wanted.collect::<Vec<String>>());
    assert!(rows().all(|row| names(row).count() > 0));
}

#[test]
fn every_attack_of_the_list_has_a_test() {
    let text = std::fs::read_to_string("tests/it/security/README.md").unwrap();
    for number in 1..=21 {
        let row = text.lines().filter(|line| line.starts_with(&format!("| A{number} ")));
        assert!(row.clone().count() > 0 && row.clone().all(|line| names(line).count() > 0), "A{number}");
    }
}
