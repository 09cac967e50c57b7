//! Computes the maximum cost of a schema before it is compiled.
//!
//! A schema is a graph: its parts apply to the same value (`allOf`, `not`, `$ref` …) or to a part
//! of it (`properties`, `items` …). Without cycles, a part is applied to each piece of a value once
//! per path from the root; the number of these paths is the cost, and bounded. A cycle must lead
//! deeper into the value and reach each piece only once: then it costs at most the number of
//! pieces. Validating a value therefore takes at most `cost` × its size. The positions of patterns
//! are summed up along the same paths: matching takes at most these × the bytes of its texts.

use std::collections::HashMap;
use std::ptr::from_ref;

use serde_json::{Map, Value};

use crate::kernel::budget;

/// Maximum number of times that a pattern of `patternProperties` is matched against a name.
const PATTERN_PROPERTIES_TIMES: usize = 4;

/// The bounds of a schema.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Maximum number of checks of one piece of a value.
    pub(super) cost: usize,
    /// Maximum number of positions of patterns that are matched against one text.
    pub(super) positions: usize,
    /// True if the schema refers to itself.
    pub(super) recursive: bool,
    /// The number of its patterns.
    pub(super) patterns: usize,
}

/// Measures a schema; rejects one that exceeds a bound.
pub(super) fn measure(schema: &Value) -> Result<Measured, String> {
    let mut graph =
        Graph { root: schema, nodes: Vec::new(), known: HashMap::new(), refs: 0, patterns: 0, unevaluated: 0 };
    graph.visit(schema, 0)?;
    if graph.unevaluated > 0 && graph.refs > 0 {
        return Err("unevaluatedProperties and unevaluatedItems can't be used together with $ref".into());
    }
    let patterns = graph.patterns;
    let graph = graph.nodes;
    in_place_is_finite(&graph)?;
    let reached = reached(&graph);
    let recursive: Vec<bool> = (0..graph.len()).map(|node| reached[node][node]).collect();
    for node in (0..graph.len()).filter(|node| recursive[*node]) {
        each_piece_once(&graph, &reached, node)?;
    }
    let costs = |weigh| Costs { graph: &graph, reached: &reached, weigh, known: vec![None; graph.len()] };
    let cost = costs(|node: &Node| node.weight).of(0);
    if cost > budget::SCHEMA_COST {
        return Err(format!("checks one value in {cost} ways: at most {} are allowed", budget::SCHEMA_COST));
    }
    let positions = costs(|node: &Node| node.positions).of(0);
    Ok(Measured { cost, positions, recursive: recursive.contains(&true), patterns })
}

#[derive(Default)]
struct Node {
    weight: usize,
    /// The positions of its patterns.
    positions: usize,
    /// Parts that apply to the same value.
    same: Vec<usize>,
    /// Parts that apply to pieces of the value.
    pieces: Vec<(Piece, usize)>,
}

/// The pieces that a part applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Field(String),
    OtherFields,
    AnyFields,
    Item(usize),
    OtherItems,
    AnyItems,
}

impl Piece {
    /// True if both may apply to the same piece. Within one schema, `Other…` excludes the named
    /// pieces.
    fn meets(&self, other: &Self, within_one: bool) -> bool {
        use Piece::{AnyFields, AnyItems, Field, Item, OtherFields, OtherItems};
        match (self, other) {
            (Field(one), Field(other)) => one == other,
            (Item(one), Item(other)) => one == other,
            (Field(_), OtherFields) | (OtherFields, Field(_)) | (Item(_), OtherItems) | (OtherItems, Item(_)) => {
                !within_one
            }
            (Field(_) | OtherFields | AnyFields, Field(_) | OtherFields | AnyFields) => true,
            (Item(_) | OtherItems | AnyItems, Item(_) | OtherItems | AnyItems) => true,
            _ => false,
        }
    }
}

struct Graph<'a> {
    root: &'a Value,
    nodes: Vec<Node>,
    /// Nodes by the address of their schema within the whole.
    known: HashMap<usize, usize>,
    refs: usize,
    patterns: usize,
    unevaluated: usize,
}

impl<'a> Graph<'a> {
    fn visit(&mut self, schema: &'a Value, depth: usize) -> Result<usize, String> {
        let address = from_ref(schema) as usize;
        if let Some(known) = self.known.get(&address) {
            return Ok(*known);
        }
        if depth > budget::SCHEMA_DEPTH {
            return Err(format!("is nested deeper than {} schemas, including references", budget::SCHEMA_DEPTH));
        }
        if self.nodes.len() == budget::SCHEMA_PARTS {
            return Err(format!("has more than {} parts", budget::SCHEMA_PARTS));
        }
        let node = self.nodes.len();
        self.nodes.push(Node { weight: 1, ..Node::default() });
        self.known.insert(address, node);
        if let Value::Object(fields) = schema {
            self.object(node, fields, depth)?;
        }
        Ok(node)
    }

    fn object(&mut self, node: usize, fields: &'a Map<String, Value>, depth: usize) -> Result<(), String> {
        for (keyword, value) in fields {
            match keyword.as_str() {
                "$ref" => {
                    self.refs += 1;
                    let target = self.target(value)?;
                    self.same(node, target, depth)?;
                }
                "$dynamicRef" | "$recursiveRef" => return Err(format!("{keyword} is not supported: use $ref")),
                "$id" | "id" if depth > 0 && value.is_string() => {
                    return Err(format!("{keyword} is allowed only at the top level"));
                }
                "not" | "if" | "then" | "else" => self.same(node, value, depth)?,
                "allOf" | "anyOf" | "oneOf" => {
                    for one in value.as_array().into_iter().flatten() {
                        self.same(node, one, depth)?;
                    }
                }
                "dependentSchemas" | "dependencies" => {
                    for one in value.as_object().into_iter().flatten().map(|(_, one)| one).filter(|one| !one.is_array())
                    {
                        self.same(node, one, depth)?;
                    }
                }
                "properties" => {
                    for (name, one) in value.as_object().into_iter().flatten() {
                        self.piece(node, Piece::Field(name.clone()), one, depth)?;
                    }
                }
                "patternProperties" => {
                    for (pattern, one) in value.as_object().into_iter().flatten() {
                        // `additionalProperties` and its like match each name again.
                        self.pattern(node, pattern, PATTERN_PROPERTIES_TIMES)?;
                        self.piece(node, Piece::AnyFields, one, depth)?;
                    }
                }
                "pattern" => self.pattern(node, value.as_str().unwrap_or_default(), 1)?,
                "additionalProperties" => self.piece(node, Piece::OtherFields, value, depth)?,
                "propertyNames" => self.piece(node, Piece::AnyFields, value, depth)?,
                "items" | "prefixItems" if value.is_array() => {
                    for (i, one) in value.as_array().into_iter().flatten().enumerate() {
                        self.piece(node, Piece::Item(i), one, depth)?;
                    }
                }
                "items" | "additionalItems" => self.piece(node, Piece::OtherItems, value, depth)?,
                "contains" => self.piece(node, Piece::AnyItems, value, depth)?,
                "unevaluatedProperties" | "unevaluatedItems" => {
                    self.unevaluated += 1;
                    if self.unevaluated > budget::SCHEMA_UNEVALUATED {
                        let most = budget::SCHEMA_UNEVALUATED;
                        return Err(format!(
                            "at most {most} of unevaluatedProperties and unevaluatedItems are allowed"
                        ));
                    }
                    let piece = if keyword == "unevaluatedItems" { Piece::AnyItems } else { Piece::AnyFields };
                    self.piece(node, piece, value, depth)?;
                }
                "enum" => self.nodes[node].weight += value.as_array().map_or(0, Vec::len) / 16,
                _ => {}
            }
        }
        Ok(())
    }

    fn same(&mut self, node: usize, value: &'a Value, depth: usize) -> Result<(), String> {
        let to = self.visit(value, depth + 1)?;
        self.nodes[node].same.push(to);
        Ok(())
    }

    fn piece(&mut self, node: usize, piece: Piece, value: &'a Value, depth: usize) -> Result<(), String> {
        let to = self.visit(value, depth + 1)?;
        self.nodes[node].pieces.push((piece, to));
        Ok(())
    }

    fn pattern(&mut self, node: usize, pattern: &str, times: usize) -> Result<(), String> {
        self.patterns += 1;
        if self.patterns > budget::SCHEMA_PATTERNS || pattern.len() > budget::PATTERN_BYTES {
            let (most, bytes) = (budget::SCHEMA_PATTERNS, budget::PATTERN_BYTES);
            return Err(format!("at most {most} patterns are allowed, of at most {bytes} bytes each"));
        }
        let positions = budget::schema_positions(pattern).map_err(|why| {
            let pattern = crate::kernel::validate::printable(pattern);
            format!("pattern {pattern}: {why}")
        })?;
        self.nodes[node].weight += budget::SCHEMA_PATTERN_COST;
        self.nodes[node].positions += positions * times;
        Ok(())
    }

    /// Resolves a reference: `#`, `#/$defs/name`, `#anchor`.
    fn target(&self, reference: &'a Value) -> Result<&'a Value, String> {
        let text = reference.as_str().unwrap_or_default();
        let message = || {
            format!(
                "$ref: {} is not a part of this schema, such as #/$defs/name",
                crate::kernel::validate::printable(text)
            )
        };
        let fragment = text.strip_prefix('#').ok_or_else(message)?;
        let fragment = percent_encoding::percent_decode_str(fragment).decode_utf8().map_err(|_| message())?;
        let found = if fragment.is_empty() || fragment.starts_with('/') {
            self.root.pointer(&fragment)
        } else {
            anchored(self.root, &fragment)
        };
        found.filter(|found| found.is_object() || found.is_boolean()).ok_or_else(message)
    }
}

fn anchored<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) if fields.get("$anchor").and_then(Value::as_str) == Some(name) => Some(value),
        Value::Object(fields) => fields.values().find_map(|value| anchored(value, name)),
        Value::Array(items) => items.iter().find_map(|value| anchored(value, name)),
        _ => None,
    }
}

/// Rejects a cycle that stays at the same value: it would never end.
fn in_place_is_finite(graph: &[Node]) -> Result<(), String> {
    // 1: on the current path; 2: done.
    fn walk(graph: &[Node], node: usize, seen: &mut [u8]) -> Result<(), String> {
        match seen[node] {
            2 => return Ok(()),
            1 => return Err("refers to itself without going into properties or items".into()),
            _ => seen[node] = 1,
        }
        graph[node].same.iter().try_for_each(|to| walk(graph, *to, seen))?;
        seen[node] = 2;
        Ok(())
    }
    let mut seen = vec![0; graph.len()];
    (0..graph.len()).try_for_each(|node| walk(graph, node, &mut seen))
}

/// Returns the nodes reachable from each node.
fn reached(graph: &[Node]) -> Vec<Vec<bool>> {
    let from = |node: usize| {
        let mut reached = vec![false; graph.len()];
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            for to in graph[node].same.iter().copied().chain(graph[node].pieces.iter().map(|(_, to)| *to)) {
                if !std::mem::replace(&mut reached[to], true) {
                    open.push(to);
                }
            }
        }
        reached
    };
    (0..graph.len()).map(from).collect()
}

/// Rejects a cycle through a node that reaches one piece of a value twice: the cost would double
/// with each level of the value.
fn each_piece_once(graph: &[Node], reached: &[Vec<bool>], node: usize) -> Result<(), String> {
    let message = "refers to itself in more than one way for the same part of a value";
    // Visits all paths, not all nodes: a node on two paths is applied twice.
    let (mut open, mut ways, mut found) = (vec![node], 0, Vec::new());
    while let Some(at) = open.pop() {
        ways += 1;
        if ways > budget::SCHEMA_COST {
            return Err(message.into());
        }
        open.extend(&graph[at].same);
        found.extend(graph[at].pieces.iter().filter(|(_, to)| reached[*to][node]).map(|(piece, _)| (piece, at)));
    }
    if found.len() > budget::SCHEMA_CYCLE {
        return Err(message.into());
    }
    for (i, (piece, at)) in found.iter().enumerate() {
        if found[..i].iter().any(|(other, there)| piece.meets(other, at == there)) {
            return Err(message.into());
        }
    }
    Ok(())
}

struct Costs<'a> {
    graph: &'a [Node],
    reached: &'a [Vec<bool>],
    weigh: fn(&Node) -> usize,
    known: Vec<Option<usize>>,
}

impl Costs<'_> {
    /// Sums the weights on the paths from a node to all others. A cycle counts once, and the nodes that it leads
    /// to count at each level of a value.
    fn of(&mut self, node: usize) -> usize {
        if let Some(known) = self.known[node] {
            return known;
        }
        let all = 0..self.graph.len();
        let cycle: Vec<usize> = if self.reached[node][node] {
            all.filter(|other| self.reached[node][*other] && self.reached[*other][node]).collect()
        } else {
            vec![node]
        };
        let mut cost = 0usize;
        for member in &cycle {
            let of = &self.graph[*member];
            cost = cost.saturating_add((self.weigh)(of));
            for to in of.same.iter().copied().chain(of.pieces.iter().map(|(_, to)| *to)) {
                if cycle.len() > 1 && cycle.contains(&to) || to == node && self.reached[node][node] {
                    continue;
                }
                let below = self.of(to);
                let again = cycle.len() > 1 || self.reached[node][node];
                let levels = if again && self.leads_to_cycle(to) { crate::kernel::limits::GATE_JSON_DEPTH } else { 1 };
                cost = cost.saturating_add(below.saturating_mul(levels));
            }
        }
        for member in cycle {
            self.known[member] = Some(cost);
        }
        cost
    }

    fn leads_to_cycle(&self, node: usize) -> bool {
        (0..self.graph.len()).any(|other| self.reached[other][other] && (node == other || self.reached[node][other]))
    }
}
