//! The rules of the house that no lint knows: headers, sizes, names, arrows, no naps.

use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<(PathBuf, String)> {
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

fn all() -> Vec<(PathBuf, String)> {
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
        if path.ends_with("src/db/batch.rs") {
            continue;
        }
        for line in text.lines() {
            assert!(
                !line.contains("insert_many("),
                "{}: db::batch::insert_all cuts by parameters: {line}",
                path.display()
            );
            // A few constants, written out, are no list of data.
            for given in ["is_in(", "is_not_in("].iter().flat_map(|name| line.split(name).skip(1)) {
                let constants = given.starts_with(|c: char| c == '[' || c.is_ascii_uppercase());
                assert!(constants, "{}: db::batch::any_of binds a list as one parameter: {line}", path.display());
            }
        }
    }
}

/// The layers, lowest first, as `lib.rs` lists them; a module may use those before it and those beside it.
#[test]
fn arrows_point_down() {
    let layers = layers();
    let rank = |module: &str| layers.iter().position(|layer| layer.iter().any(|name| name == module));
    for (path, text) in files("src") {
        let Some(of) = module_of(&path) else { continue };
        let Some(mine) = rank(&of) else { panic!("{} is in no layer of lib.rs", path.display()) };
        for used in text
            .split("crate::")
            .skip(1)
            .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
        {
            let Some(theirs) = rank(used) else { continue };
            assert!(theirs <= mine, "{} ({of}) uses {used}, which is above it", path.display());
        }
    }
    // They share tables and the log, nothing else.
    for (path, text) in files("src/graphql").into_iter().chain(files("src/engine")) {
        let other = if path.starts_with("src/graphql") { "crate::engine" } else { "crate::graphql" };
        assert!(!text.contains(other), "{} uses {other}", path.display());
    }
    // Only `config.rs` reads the environment, only `clock.rs` the time.
    for (path, text) in files("src") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name == "config.rs" || !text.contains("env::var"), "{} reads the environment", path.display());
        assert!(name == "clock.rs" || !text.contains("Utc::now"), "{} reads the time", path.display());
        // A plain `begin` is DEFERRED on SQLite, and the first write in it fails with BUSY. (As a lint it would hit the
        // code that sea-orm's own macro writes.)
        // The sequencer of the log is Postgres' alone and tells nothing of its own; the checker only reads.
        let own = ["db.rs", "number.rs", "check.rs"].contains(&name);
        assert!(own || !text.contains("TransactionTrait"), "{}: use transact!", path.display());
    }
}

fn layers() -> Vec<Vec<String>> {
    let map = std::fs::read_to_string("src/lib.rs").unwrap();
    let mut layers: Vec<Vec<String>> = Vec::new();
    for line in map.lines() {
        if line.starts_with("// ") {
            layers.push(Vec::new());
        }
        if let (Some(name), Some(layer)) =
            (line.strip_prefix("pub mod ").and_then(|name| name.strip_suffix(';')), layers.last_mut())
        {
            layer.push(name.to_owned());
        }
    }
    assert!(layers.len() >= 4, "{layers:?}");
    layers
}

fn module_of(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").unwrap().components().next().unwrap();
    let name = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned();
    (!["lib", "main", "scope"].contains(&name.as_str())).then_some(name)
}
