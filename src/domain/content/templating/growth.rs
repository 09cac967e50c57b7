//! How large a template's values can become, as a multiple of the values that it is given.
//!
//! A value of growth 3 holds at most three times what the largest value given holds (and a little for literals). Joining
//! adds the growths of both sides; a loop's variable has its list's; nothing else binds. So each value's bound is known from
//! the syntax tree, whatever the values turn out to be. `*` repeats texts and lists, so that it is taken only between
//! numbers, or with a small literal.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, Stmt, UnaryOpKind};

use crate::kernel::{budget, validate};

/// The bounds of a template.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// The greatest growth of a value in it.
    pub(super) growth: usize,
    /// True if it has a loop.
    pub(super) loops: bool,
    /// The names that it asks about, by `if`, `is defined` or `default`, so that they may be absent.
    pub(super) optional: BTreeSet<String>,
    /// The first filter, test or function in it that is not offered.
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

/// Measures a tree. The error is a sentence: a value could grow beyond the budget.
pub(super) fn measure(tree: &Stmt<'_>) -> Result<Measured, String> {
    let mut walk = Walk { measured: Measured::default(), scope: Vec::new(), loops: 0 };
    walk.statement(tree)?;
    Ok(walk.measured)
}

/// The name that an expression is, with dots: `record.attributes.city`.
fn path(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Var(name) => Some(name.id.to_owned()),
        Expr::GetAttr(node) => Some(format!("{}.{}", path(&node.expr)?, node.name)),
        _ => None,
    }
}

struct Walk<'a> {
    measured: Measured,
    /// The variables of the loops around, and their growths.
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
                self.asks(&node.expr);
                self.expr(&node.expr)?;
                self.all(&node.true_body)?;
                self.all(&node.false_body)
            }
            Stmt::ForLoop(node) => {
                if node.recursive {
                    return Err("a loop can't be recursive".into());
                }
                if self.loops == budget::LOOPS {
                    return Err(format!("at most {} loops within each other", budget::LOOPS));
                }
                self.measured.loops = true;
                // A literal holds little, but its loop may join it again and again.
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
            _ => Err("a statement that is not offered".into()),
        }
    }

    fn bind(&mut self, target: &'a Expr<'a>, growth: usize) -> Result<(), String> {
        match target {
            Expr::Var(name) if name.id == "loop" => Err("a loop's variable can't be called `loop`".into()),
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
            return Err(format!("joins too much: {growth} values in one, at most {most} (line {line})"));
        }
        self.measured.growth = self.measured.growth.max(growth);
        Ok(growth)
    }

    fn growth(&mut self, expr: &'a Expr<'a>) -> Result<usize, String> {
        match expr {
            Expr::Var(name) => {
                Ok(self.scope.iter().rev().find(|(known, _)| *known == name.id).map_or(1, |(_, growth)| *growth))
            }
            // Short ones fit within what is added to every bound.
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
                self.asks(&node.test_expr);
                self.expr(&node.test_expr)?;
                let other = node.false_expr.as_ref().map_or(Ok(0), |other| self.expr(other))?;
                Ok(self.expr(&node.true_expr)?.max(other))
            }
            Expr::Filter(node) => {
                self.offered("filter", &FILTERS, node.name, expr.span().start_line);
                if let ("default", Some(value)) = (node.name, &node.expr) {
                    self.asks(value);
                }
                let value = node.expr.as_ref().map_or(Ok(0), |value| self.expr(value))?;
                let given = self.args(&node.args)?;
                Ok(if NUMBERS.contains(&node.name) { 0 } else { value.max(given) })
            }
            Expr::Test(node) => {
                self.offered("test", &TESTS, node.name, expr.span().start_line);
                self.asks(&node.expr);
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
                    self.offered("function", &[], name.id, expr.span().start_line);
                }
                // `loop.cycle` gives one of its arguments.
                Ok(called.max(self.args(&node.args)?))
            }
            Expr::List(node) => self.sum(&node.items),
            Expr::Tuple(node) => self.sum(&node.items),
            Expr::Map(node) => Ok(self.sum(&node.keys)?.saturating_add(self.sum(&node.values)?)),
        }
    }

    /// Notes the names that a condition asks about.
    fn asks(&mut self, expr: &Expr<'_>) {
        match expr {
            Expr::UnaryOp(node) => self.asks(&node.expr),
            Expr::BinOp(node) => {
                self.asks(&node.left);
                self.asks(&node.right);
            }
            Expr::Compare(node) => self.asks(&node.expr),
            other => self.measured.optional.extend(path(other)),
        }
    }

    fn sum(&mut self, items: &'a [Expr<'a>]) -> Result<usize, String> {
        items.iter().try_fold(0usize, |sum, item| Ok(sum.saturating_add(self.expr(item)?)))
    }

    /// The greatest growth among arguments.
    fn args(&mut self, args: &'a [CallArg<'a>]) -> Result<usize, String> {
        args.iter().try_fold(0, |most, arg| match arg {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) | CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                Ok(most.max(self.expr(value)?))
            }
        })
    }

    fn offered(&mut self, what: &str, there: &[&str], name: &str, line: u16) {
        if !there.contains(&name) {
            let name = validate::shown(name);
            let told = || format!("unknown {what}: {what} {name} is unknown (line {line})");
            self.measured.unknown.get_or_insert_with(told);
        }
    }

    /// A product: of numbers, or a text that is repeated a few times.
    fn times(&self, left: &Expr<'_>, of_left: usize, right: &Expr<'_>, of_right: usize) -> Result<usize, String> {
        let literal = |expr: &Expr<'_>| if let Expr::Const(node) = expr { Some(node.value.clone()) } else { None };
        for (one, other, growth) in [(left, right, of_right), (right, left, of_left)] {
            let Some(value) = literal(one).filter(minijinja::Value::is_number) else { continue };
            match value.as_usize() {
                _ if self.number(other) => return Ok(0),
                // Neither a text nor a list is repeated by it.
                None => return Ok(0),
                Some(times) if times <= budget::GROWTH => return Ok(growth.max(1).saturating_mul(times)),
                Some(_) => {}
            }
        }
        if self.number(left) && self.number(right) {
            return Ok(0);
        }
        Err(format!(
            "`*` may multiply numbers only, for it repeats texts: write both sides as numbers, like price|float * count|int \
             (line {})",
            left.span().start_line
        ))
    }

    /// True if a value is a number whatever is given.
    fn number(&self, expr: &Expr<'_>) -> bool {
        match expr {
            Expr::Const(node) => node.value.is_number(),
            Expr::UnaryOp(node) => matches!(node.op, UnaryOpKind::Neg),
            Expr::Filter(node) => match node.name {
                // Given a default, it may be anything.
                "int" | "float" => node.args.is_empty(),
                name => NUMBERS.contains(&name),
            },
            Expr::BinOp(node) => match node.op {
                // These take numbers only.
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
