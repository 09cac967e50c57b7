//! Bounds the size of a template's values, as a multiple of the given values.
//!
//! A value of growth 3 has at most three times the size of the largest given value (plus a little
//! for literals). Joining adds the growths of both sides; a loop variable has the growth of its
//! list; nothing else binds names. So the syntax tree alone yields a bound for every value. `*`
//! repeats texts and lists, so it is allowed only between numbers, or with a small literal.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, Stmt, UnaryOpKind};

use crate::kernel::{budget, validate};

/// The bounds of a template.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// The greatest growth of any value.
    pub(super) growth: usize,
    /// True if the template has a loop.
    pub(super) loops: bool,
    /// Names that may be absent, because `if`, `is defined` or `default` tests for them.
    pub(super) optional: BTreeSet<String>,
    /// The first unknown filter, test or function.
    pub(super) unknown: Option<String>,
}

const FILTERS: [&str; 13] = [
    "upper",
    "lower",
    "title",
    "capitalize",
    "trim",
    "default",
    "length",
    "first",
    "last",
    "round",
    "int",
    "float",
    "abs",
];
const TESTS: [&str; 5] = ["defined", "undefined", "none", "number", "string"];
const NUMBERS: [&str; 5] = ["length", "round", "int", "float", "abs"];

/// Measures a syntax tree; rejects it if a value could grow beyond the budget.
pub(super) fn measure(tree: &Stmt<'_>) -> Result<Measured, String> {
    let mut walk = Walk { measured: Measured::default(), scope: Vec::new(), loops: 0 };
    walk.statement(tree)?;
    Ok(walk.measured)
}

/// Returns an expression as a dotted name: `record.attributes.city`.
fn path(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Var(name) => Some(name.id.to_owned()),
        Expr::GetAttr(node) => Some(format!("{}.{}", path(&node.expr)?, node.name)),
        _ => None,
    }
}

struct Walk<'a> {
    measured: Measured,
    /// The loop variables in scope, with their growths.
    scope: Vec<(&'a str, usize)>,
    loops: usize,
}

impl<'a> Walk<'a> {
    fn all(&mut self, statements: &'a [Stmt<'a>]) -> Result<(), String> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &'a Stmt<'a>) -> Result<(), String> {
        match statement {
            Stmt::Template(node) => self.all(&node.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(node) => self.expr(&node.expr).map(|_| ()),
            Stmt::IfCond(node) => {
                self.note_optional(&node.expr);
                self.expr(&node.expr)?;
                self.all(&node.true_body)?;
                self.all(&node.false_body)
            }
            Stmt::ForLoop(node) => {
                if node.recursive {
                    return Err("a loop can't be recursive".into());
                }
                if self.loops == budget::LOOPS {
                    return Err(format!("loops can be nested at most {} deep", budget::LOOPS));
                }
                self.measured.loops = true;
                // A literal is small, but its loop may join it repeatedly.
                let growth = self.expr(&node.iter)?.max(1);
                let outside = self.scope.len();
                self.bind(&node.target, growth)?;
                self.scope.push(("loop", growth));
                self.loops += 1;
                if let Some(filter) = &node.filter_expr {
                    self.expr(filter)?;
                }
                self.all(&node.body)?;
                self.loops -= 1;
                self.scope.truncate(outside);
                self.all(&node.else_body)
            }
            _ => Err("unknown statement".into()),
        }
    }

    fn bind(&mut self, target: &'a Expr<'a>, growth: usize) -> Result<(), String> {
        match target {
            Expr::Var(name) if name.id == "loop" => Err("a loop variable can't be named `loop`".into()),
            Expr::Var(name) => {
                self.scope.push((name.id, growth));
                Ok(())
            }
            Expr::List(list) => list.items.iter().try_for_each(|item| self.bind(item, growth)),
            Expr::Tuple(list) => list.items.iter().try_for_each(|item| self.bind(item, growth)),
            _ => Ok(()),
        }
    }

    fn expr(&mut self, expr: &'a Expr<'a>) -> Result<usize, String> {
        let growth = self.growth(expr)?;
        if growth > budget::GROWTH {
            let (most, line) = (budget::GROWTH, expr.span().start_line);
            return Err(format!("joins {growth} values into one: at most {most} are allowed (line {line})"));
        }
        self.measured.growth = self.measured.growth.max(growth);
        Ok(growth)
    }

    fn growth(&mut self, expr: &'a Expr<'a>) -> Result<usize, String> {
        match expr {
            Expr::Var(name) => {
                Ok(self.scope.iter().rev().find(|(known, _)| *known == name.id).map_or(1, |(_, growth)| *growth))
            }
            // Short literals are covered by the constant that is added to every bound.
            Expr::Const(node) => Ok(usize::from(node.value.as_str().is_some_and(|text| text.len() > 64))),
            Expr::Slice(node) => {
                for part in [&node.start, &node.stop, &node.step].into_iter().flatten() {
                    self.expr(part)?;
                }
                self.expr(&node.expr)
            }
            Expr::UnaryOp(node) => {
                self.expr(&node.expr)?;
                Ok(0)
            }
            Expr::BinOp(node) => {
                let (left, right) = (self.expr(&node.left)?, self.expr(&node.right)?);
                match node.op {
                    BinOpKind::ScAnd | BinOpKind::ScOr => Ok(left.max(right)),
                    BinOpKind::Concat => Ok(left.saturating_add(right)),
                    BinOpKind::Add if self.number(&node.left) && self.number(&node.right) => Ok(0),
                    BinOpKind::Add => Ok(left.saturating_add(right)),
                    BinOpKind::Mul => self.times(&node.left, left, &node.right, right),
                    _ => Ok(0),
                }
            }
            Expr::Compare(node) => {
                self.expr(&node.expr)?;
                node.ops.iter().try_for_each(|op| self.expr(&op.expr).map(|_| ()))?;
                Ok(0)
            }
            Expr::IfExpr(node) => {
                self.note_optional(&node.test_expr);
                self.expr(&node.test_expr)?;
                let other = node.false_expr.as_ref().map_or(Ok(0), |other| self.expr(other))?;
                Ok(self.expr(&node.true_expr)?.max(other))
            }
            Expr::Filter(node) => {
                self.check_known("filter", &FILTERS, node.name, expr.span().start_line);
                if let ("default", Some(value)) = (node.name, &node.expr) {
                    self.note_optional(value);
                }
                let value = node.expr.as_ref().map_or(Ok(0), |value| self.expr(value))?;
                let given = self.args(&node.args)?;
                Ok(if NUMBERS.contains(&node.name) { 0 } else { value.max(given) })
            }
            Expr::Test(node) => {
                self.check_known("test", &TESTS, node.name, expr.span().start_line);
                self.note_optional(&node.expr);
                self.expr(&node.expr)?;
                self.args(&node.args)?;
                Ok(0)
            }
            Expr::GetAttr(node) => self.expr(&node.expr),
            Expr::GetItem(node) => {
                self.expr(&node.subscript_expr)?;
                self.expr(&node.expr)
            }
            Expr::Call(node) => {
                let called = self.expr(&node.expr)?;
                if let Expr::Var(name) = &node.expr {
                    self.check_known("function", &[], name.id, expr.span().start_line);
                }
                // `loop.cycle` returns one of its arguments.
                Ok(called.max(self.args(&node.args)?))
            }
            Expr::List(node) => self.sum(&node.items),
            Expr::Tuple(node) => self.sum(&node.items),
            Expr::Map(node) => Ok(self.sum(&node.keys)?.saturating_add(self.sum(&node.values)?)),
        }
    }

    /// Records the names that a condition tests for.
    fn note_optional(&mut self, expr: &Expr<'_>) {
        match expr {
            Expr::UnaryOp(node) => self.note_optional(&node.expr),
            Expr::BinOp(node) => {
                self.note_optional(&node.left);
                self.note_optional(&node.right);
            }
            Expr::Compare(node) => self.note_optional(&node.expr),
            other => self.measured.optional.extend(path(other)),
        }
    }

    fn sum(&mut self, items: &'a [Expr<'a>]) -> Result<usize, String> {
        items.iter().try_fold(0usize, |sum, item| Ok(sum.saturating_add(self.expr(item)?)))
    }

    /// Returns the greatest growth among arguments.
    fn args(&mut self, args: &'a [CallArg<'a>]) -> Result<usize, String> {
        args.iter().try_fold(0, |most, arg| match arg {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) | CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                Ok(most.max(self.expr(value)?))
            }
        })
    }

    fn check_known(&mut self, what: &str, there: &[&str], name: &str, line: u16) {
        if !there.contains(&name) {
            let name = validate::printable(name);
            let message = || format!("unknown {what}: {what} {name} is unknown (line {line})");
            self.measured.unknown.get_or_insert_with(message);
        }
    }

    /// Returns the growth of a product: of numbers, or of a text repeated a few times.
    fn times(&self, left: &Expr<'_>, of_left: usize, right: &Expr<'_>, of_right: usize) -> Result<usize, String> {
        let literal = |expr: &Expr<'_>| if let Expr::Const(node) = expr { Some(node.value.clone()) } else { None };
        for (one, other, growth) in [(left, right, of_right), (right, left, of_left)] {
            let Some(value) = literal(one).filter(minijinja::Value::is_number) else { continue };
            match value.as_usize() {
                _ if self.number(other) => return Ok(0),
                // Such a number repeats neither a text nor a list.
                None => return Ok(0),
                Some(times) if times <= budget::GROWTH => return Ok(growth.max(1).saturating_mul(times)),
                Some(_) => {}
            }
        }
        if self.number(left) && self.number(right) {
            return Ok(0);
        }
        Err(format!(
            "`*` can multiply only numbers, as it repeats texts: write both sides as numbers, like \
             price|float * count|int (line {})",
            left.span().start_line
        ))
    }

    /// True if an expression is always a number.
    fn number(&self, expr: &Expr<'_>) -> bool {
        match expr {
            Expr::Const(node) => node.value.is_number(),
            Expr::UnaryOp(node) => matches!(node.op, UnaryOpKind::Neg),
            Expr::Filter(node) => match node.name {
                // A default may have any type.
                "int" | "float" => node.args.is_empty(),
                name => NUMBERS.contains(&name),
            },
            Expr::BinOp(node) => match node.op {
                // These operators accept only numbers.
                BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => true,
                BinOpKind::Add | BinOpKind::Mul => self.number(&node.left) && self.number(&node.right),
                _ => false,
            },
            Expr::IfExpr(node) => {
                self.number(&node.true_expr) && node.false_expr.as_ref().is_some_and(|other| self.number(other))
            }
            Expr::GetAttr(node) => {
                let of_loop = self.loops > 0 && matches!(&node.expr, Expr::Var(name) if name.id == "loop");
                of_loop && matches!(node.name, "index" | "index0" | "revindex" | "revindex0" | "length" | "depth")
            }
            _ => false,
        }
    }
}
