//! Import cycles within each folder: none except those of `graphql`, because an API is a graph.

use std::collections::{BTreeMap, BTreeSet};

use super::tidy::files;

type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_imports_go_in_a_circle() {
    let graph = imports();
    let mut found: Vec<Vec<String>> = Vec::new();
    for module in graph.keys() {
        let reached = reach(&graph, module);
        if !reached.contains(module) {
            continue;
        }
        // The modules that reach each other.
        let cycle: Vec<String> =
            reached.iter().filter(|other| reach(&graph, other).contains(module)).cloned().collect();
        if !found.contains(&cycle) {
            found.push(cycle);
        }
    }
    assert!(found.is_empty(), "imports go in a circle: {found:#?}");
}

fn reach(graph: &Graph, from: &str) -> BTreeSet<String> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = open.pop() {
        for next in graph.get(&module).into_iter().flatten() {
            if reached.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    reached
}

/// Modules and the modules that they import. Imports between a module and those below it don't count: a parent declares
/// its parts, and they use its types.
fn imports() -> Graph {
    let texts: BTreeMap<String, String> = files("src")
        .into_iter()
        .map(|(path, text)| (path.with_extension("").strip_prefix("src").unwrap().display().to_string(), text))
        .filter(|(module, _)| !["lib", "main"].contains(&module.as_str()) && !module.starts_with("graphql"))
        .map(|(module, text)| (module.replace('/', "::"), text))
        .collect();
    let mut graph = Graph::new();
    for (module, text) in &texts {
        for path in paths(text) {
            let Some(used) = resolve(&texts, module, &path) else { continue };
            let family =
                used == *module || used.starts_with(&format!("{module}::")) || module.starts_with(&format!("{used}::"));
            if !family && group(module) == group(&used) {
                graph.entry(module.clone()).or_default().insert(used);
            }
        }
    }
    graph
}

/// The folder of a module; below `domain` its noun, because the order of the nouns is declared.
fn group(module: &str) -> &str {
    let depth = if module.starts_with("domain::") { 2 } else { 1 };
    module.match_indices("::").nth(depth - 1).map_or(module, |(end, _)| &module[..end])
}

/// The module of a path: its longest prefix that is a module.
fn resolve(texts: &BTreeMap<String, String>, module: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = module.split("::").collect();
    match parts[0] {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
        }
        own if texts.contains_key(&format!("{module}::{own}")) => base.push(own),
        _ => return None,
    }
    parts.remove(0);
    for part in parts {
        if part == "super" {
            base.pop();
        } else {
            base.push(part);
        }
    }
    while !base.is_empty() {
        let found = base.join("::");
        if texts.contains_key(&found) {
            return Some(found);
        }
        base.pop();
    }
    None
}

/// The paths in a source text, with `use` groups expanded and without comments.
fn paths(text: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let mut all = Vec::new();
    let mut rest = String::new();
    for (nth, statement) in code.split("use ").enumerate() {
        match statement.split_once(';') {
            Some((tree, after)) if nth > 0 => {
                expand("", tree.trim(), &mut all);
                rest.push_str(after);
            }
            _ => rest.push_str(statement),
        }
    }
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = rest.split(|c: char| !in_path(c));
    all.extend(
        words
            .filter(|word| ["crate::", "self::", "super::"].iter().any(|begin| word.starts_with(begin)))
            .map(|word| word.trim_end_matches(':').to_owned()),
    );
    all
}

/// The paths of a `use` tree.
fn expand(prefix: &str, tree: &str, all: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return all.push(format!("{prefix}{path}"));
    };
    let prefix = format!("{prefix}{}", head.trim());
    let (mut depth, mut part) = (0, String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => expand(&prefix, std::mem::take(&mut part).trim(), all),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                part.push(c);
            }
        }
    }
    if !part.trim().is_empty() {
        expand(&prefix, part.trim(), all);
    }
}
