//! Bounds the size of a condition's values before evaluation.
//!
//! A size is a sum: a multiple of the given values, a multiple of each loop's element, and a
//! constant. Joining adds sizes. A loop that builds a list yields, for each use of its own element
//! in the body, the size of the whole list, and for anything else in the body, its size once per
//! element. That product must stay linear: a list that contains all values once per value is
//! rejected. So every value has a known bound, independent of the actual values.

use std::collections::HashSet;

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, LiteralValue, operators};
use cel::parser::Expression;

use crate::kernel::budget;

/// Maximum constant part of a size, in bytes.
const CONSTANT: usize = 256 * 1024;

/// Measures an expression and returns its free variables; rejects one that could grow too large.
pub(super) fn measure(expression: &Expression) -> Result<HashSet<String>, String> {
    let mut walk = Walk::default();
    walk.size(expression, 0)?;
    Ok(walk.names)
}

/// A size: `of[0]` is the factor of the given values, the others those of the enclosing loops'
/// elements.
#[derive(Clone, Debug, Default)]
struct Size {
    constant: usize,
    of: Vec<usize>,
}

impl Size {
    fn constant(constant: usize) -> Self {
        Self { constant, of: Vec::new() }
    }

    fn of(which: usize) -> Self {
        let mut of = vec![0; which + 1];
        of[which] = 1;
        Self { constant: 0, of }
    }

    fn both(self, other: &Self, join: impl Fn(usize, usize) -> usize) -> Self {
        let count = self.of.len().max(other.of.len());
        let at = |of: &[usize], i: usize| of.get(i).copied().unwrap_or_default();
        let of = (0..count).map(|i| join(at(&self.of, i), at(&other.of, i))).collect();
        Self { constant: join(self.constant, other.constant), of }
    }

    fn plus(self, other: &Self) -> Self {
        self.both(other, usize::saturating_add)
    }

    fn or(self, other: &Self) -> Self {
        self.both(other, usize::max)
    }

    fn times(&self, times: usize) -> Self {
        let of = self.of.iter().map(|count| count.saturating_mul(times)).collect();
        Self { constant: self.constant.saturating_mul(times), of }
    }

    fn is_constant(&self) -> bool {
        self.of.iter().all(|count| *count == 0)
    }
}

#[derive(Default)]
struct Walk {
    names: HashSet<String>,
    /// The loop variables in scope, with their sizes.
    scope: Vec<(String, Size)>,
    loops: usize,
}

const TYPES: [&str; 10] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "optional"];

impl Walk {
    fn size(&mut self, expression: &Expression, depth: usize) -> Result<Size, String> {
        // `bind` rejects this depth as well; here the recursion must not go any further.
        if depth > 4 * budget::CHAIN {
            return Err("is nested too deeply".into());
        }
        let size = self.sum(expression, depth + 1)?;
        if size.of.iter().fold(0usize, |sum, count| sum.saturating_add(*count)) > budget::GROWTH {
            return Err(format!("joins more than {} values into one", budget::GROWTH));
        }
        if size.constant > CONSTANT {
            return Err("multiplies its literals too often".into());
        }
        Ok(size)
    }

    fn sum(&mut self, expression: &Expression, depth: usize) -> Result<Size, String> {
        match &expression.expr {
            Expr::Unspecified => Ok(Size::default()),
            Expr::Literal(literal) => Ok(Size::constant(match literal {
                LiteralValue::String(text) => 16 + text.inner().len(),
                LiteralValue::Bytes(bytes) => 16 + bytes.inner().len(),
                _ => 16,
            })),
            Expr::Ident(name) => {
                if let Some((_, size)) = self.scope.iter().rev().find(|(known, _)| known == name) {
                    return Ok(size.clone());
                }
                if !TYPES.contains(&name.as_str()) && !name.starts_with('@') {
                    self.names.insert(name.clone());
                }
                Ok(Size::of(0))
            }
            Expr::Select(select) => {
                let size = self.size(&select.operand, depth)?;
                Ok(if select.test { Size::constant(16) } else { size })
            }
            Expr::List(list) => {
                let mut sum = Size::constant(16);
                for item in &list.elements {
                    sum = sum.plus(&self.size(item, depth)?);
                }
                Ok(sum)
            }
            Expr::Map(map) => self.entries(&map.entries, depth),
            Expr::Struct(of) => self.entries(&of.entries, depth),
            Expr::Call(call) => {
                // The step of `map` and `filter`: @result + [element].
                if let (operators::ADD, [into, added]) = (call.func_name.as_str(), call.args.as_slice())
                    && matches!(&into.expr, Expr::Ident(name) if name.starts_with('@'))
                    && let Expr::List(list) = &added.expr
                {
                    return list
                        .elements
                        .iter()
                        .try_fold(Size::default(), |sum, item| Ok(sum.plus(&self.size(item, depth)?)));
                }
                let mut parts = Vec::new();
                for part in call.target.as_deref().into_iter().chain(&call.args) {
                    parts.push(self.size(part, depth)?);
                }
                let sum = || parts.iter().fold(Size::constant(32), |sum, part| sum.plus(part));
                let one = Size::constant(16);
                Ok(match (call.func_name.as_str(), parts.as_slice()) {
                    (operators::CONDITIONAL, [_, yes, no]) => yes.clone().or(no),
                    (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [from, _]) => {
                        from.clone().plus(&one)
                    }
                    (
                        operators::LOGICAL_AND
                        | operators::LOGICAL_OR
                        | operators::LOGICAL_NOT
                        | operators::SUBSTRACT
                        | operators::MULTIPLY
                        | operators::DIVIDE
                        | operators::MODULO
                        | operators::EQUALS
                        | operators::NOT_EQUALS
                        | operators::GREATER_EQUALS
                        | operators::LESS_EQUALS
                        | operators::GREATER
                        | operators::LESS
                        | operators::NEGATE
                        | operators::IN
                        | operators::NOT_STRICTLY_FALSE
                        | "size"
                        | "contains"
                        | "startsWith"
                        | "endsWith"
                        | "matches"
                        | "int"
                        | "uint"
                        | "double"
                        | "timestamp"
                        | "duration"
                        | "type",
                        _,
                    ) => one,
                    // `+`, conversions and all others: none returns more than its arguments.
                    _ => sum(),
                })
            }
            Expr::Comprehension(of) => self.comprehension(of, depth),
        }
    }

    fn comprehension(&mut self, of: &ComprehensionExpr, depth: usize) -> Result<Size, String> {
        let range = self.size(&of.iter_range, depth)?;
        let initial = self.size(&of.accu_init, depth)?;
        let list = matches!(&of.accu_init.expr, Expr::List(_) | Expr::Map(_));
        let outside = self.scope.len();
        self.loops += 1;
        let element = self.loops;
        self.scope.push((of.iter_var.clone(), Size::of(element)));
        self.scope.extend(of.iter_var2.iter().map(|name| (name.clone(), Size::of(element))));
        // The accumulator is counted by the product below.
        self.scope.push((of.accu_var.clone(), Size::default()));
        self.size(&of.loop_cond, depth)?;
        let mut body = self.size(&of.loop_step, depth)?;
        self.size(&of.result, depth)?;
        self.scope.truncate(outside);
        self.loops -= 1;
        if !list {
            return Ok(Size::constant(16));
        }
        let of_element = body.of.get_mut(element).map(std::mem::take).unwrap_or_default();
        // An element counts at least 16 bytes.
        let rest = match (range.is_constant(), body.is_constant()) {
            (_, true) => range.times(body.constant.div_ceil(16)),
            (true, false) => body.times(range.constant / 16),
            (false, false) => return Err("builds lists of all values within a loop over values".into()),
        };
        Ok(initial.plus(&range.times(of_element)).plus(&rest))
    }

    fn entries(&mut self, entries: &[IdedEntryExpr], depth: usize) -> Result<Size, String> {
        let mut sum = Size::constant(16);
        for entry in entries {
            match &entry.expr {
                EntryExpr::StructField(field) => sum = sum.plus(&self.size(&field.value, depth)?),
                EntryExpr::MapEntry(entry) => {
                    sum = sum.plus(&self.size(&entry.key, depth)?).plus(&self.size(&entry.value, depth)?);
                }
            }
        }
        Ok(sum)
    }
}
