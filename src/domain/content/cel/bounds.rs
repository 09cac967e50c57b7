//! Bounds a condition before evaluation: scans its text before parsing, makes its loops consume
//! steps, and compiles its patterns.

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::parser::Expression;

use crate::kernel::budget::{self, Pattern};

/// The function that consumes a step of a loop, or fails if none is left. Users cannot write its
/// name in a condition.
pub(super) const TURN: &str = "@turn";
/// The function that matches a text against a compiled pattern, given by its number.
pub(super) const MATCHES: &str = "@matches";

/// Counts everything that the parser handles by recursion.
pub(super) fn scan(source: &str) -> Result<(), String> {
    let (mut rest, mut depth, mut chain) = (source.as_bytes(), 0usize, 0usize);
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'"' | b'\'' => rest = past_string(*first, after, raw(source.as_bytes(), rest.len())),
            b'/' if after.first() == Some(&b'/') => {
                rest = after.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &after[end..]);
            }
            b'(' | b'[' | b'{' => (depth, chain) = (depth + 1, chain + 1),
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            // Elements of lists, and arguments, do not nest.
            b',' | b'_' | b'`' => {}
            byte if byte.is_ascii_punctuation() => chain += 1,
            // The operator `in`.
            b'i' if after.first() == Some(&b'n') && !after.get(1).is_some_and(u8::is_ascii_alphanumeric) => chain += 1,
            _ => {}
        }
        if depth > budget::NESTING {
            return Err(format!("brackets can be nested at most {} deep", budget::NESTING));
        }
        if chain > budget::CHAIN {
            return Err(format!("at most {} operators, attributes and calls are allowed", budget::CHAIN));
        }
    }
    Ok(())
}

/// True if the string that begins before the last `left` bytes is raw, like `r"\d"`.
fn raw(source: &[u8], left: usize) -> bool {
    let quote = source.len() - left - 1;
    source[..quote]
        .iter()
        .rev()
        .take(2)
        .take_while(|byte| byte.is_ascii_alphabetic())
        .any(|byte| matches!(byte, b'r' | b'R'))
}

fn past_string(quote: u8, after: &[u8], raw: bool) -> &[u8] {
    let long = after.starts_with(&[quote, quote]);
    let mut rest = if long { &after[2..] } else { after };
    loop {
        rest = match rest {
            [] => return rest,
            [b'\\', _, after @ ..] if !raw => after,
            [first, after @ ..] if *first == quote && !long => return after,
            [first, second, third, after @ ..] if [*first, *second, *third] == [quote; 3] && long => return after,
            // A short string ends with its line.
            [b'\n', after @ ..] if !long => return after,
            [_, after @ ..] => after,
        }
    }
}

/// The compiled patterns of an expression, and the presence of loops.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub(super) patterns: Vec<Pattern>,
    pub(super) loops: bool,
}

/// Makes loops consume steps, and compiles the patterns.
pub(super) fn bind(expression: &mut Expression) -> Result<Bound, String> {
    let mut bound = Bound::default();
    bound.walk(expression, 0, 0)?;
    Ok(bound)
}

impl Bound {
    fn walk(&mut self, expression: &mut Expression, depth: usize, loops: usize) -> Result<(), String> {
        if depth > budget::TREE {
            return Err(format!("is nested deeper than {} levels", budget::TREE));
        }
        let below = depth + 1;
        match &mut expression.expr {
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Ok(()),
            Expr::Call(call) => {
                if let Some(target) = &mut call.target {
                    self.walk(target, below, loops)?;
                }
                call.args.iter_mut().try_for_each(|arg| self.walk(arg, below, loops))?;
                if call.func_name == "matches" { self.compile(call) } else { Ok(()) }
            }
            Expr::Comprehension(comprehension) => {
                if loops == budget::LOOPS {
                    return Err(format!(
                        "macros like all, exists and map can be nested at most {} deep",
                        budget::LOOPS
                    ));
                }
                self.loops = true;
                self.walk(&mut comprehension.iter_range, below, loops)?;
                self.walk(&mut comprehension.accu_init, below, loops)?;
                self.walk(&mut comprehension.loop_cond, below, loops + 1)?;
                self.walk(&mut comprehension.loop_step, below, loops + 1)?;
                self.walk(&mut comprehension.result, below, loops)?;
                take_turns(&mut comprehension.loop_step, &comprehension.accu_var);
                Ok(())
            }
            Expr::List(list) => list.elements.iter_mut().try_for_each(|item| self.walk(item, below, loops)),
            Expr::Select(select) => self.walk(&mut select.operand, below, loops),
            Expr::Map(map) => self.entries(&mut map.entries, below, loops),
            Expr::Struct(of) => self.entries(&mut of.entries, below, loops),
        }
    }

    fn entries(
        &mut self,
        entries: &mut [cel::common::ast::IdedEntryExpr],
        depth: usize,
        loops: usize,
    ) -> Result<(), String> {
        entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
            EntryExpr::StructField(field) => self.walk(&mut field.value, depth, loops),
            EntryExpr::MapEntry(entry) => {
                self.walk(&mut entry.key, depth, loops)?;
                self.walk(&mut entry.value, depth, loops)
            }
        })
    }

    /// Compiles the pattern of `text.matches("pattern")` or `matches(text, "pattern")`, once.
    fn compile(&mut self, call: &mut CallExpr) -> Result<(), String> {
        let arity = if call.target.is_some() { 1 } else { 2 };
        if call.args.len() != arity {
            return Ok(());
        }
        let Some(pattern) = call.args.pop() else { return Ok(()) };
        let Expr::Literal(LiteralValue::String(pattern)) = &pattern.expr else {
            return Err("the pattern of `matches` must be a literal, like matches(\"^[a-z]+$\")".into());
        };
        let pattern = Pattern::read(pattern.inner()).map_err(|why| format!("matches: {why}"))?;
        let which = i64::try_from(self.patterns.len()).map_err(|err| err.to_string())?;
        self.patterns.push(pattern);
        if let Some(target) = call.target.take() {
            call.args.push(*target);
        }
        call.args.push(expression(Expr::Literal(LiteralValue::Int(which.into()))));
        call.func_name = MATCHES.into();
        Ok(())
    }
}

fn expression(expr: Expr) -> Expression {
    Expression { id: 0, expr }
}

fn call_of(name: &str, args: Vec<Expression>) -> Expression {
    expression(Expr::Call(CallExpr { func_name: name.into(), target: None, args }))
}

/// Makes each iteration consume a step first: the predicate becomes `@turn() ? predicate : false`,
/// and an error of `@turn` ends the loop. The evaluator recognizes `all`, `exists` and `map` by the
/// shape of their steps, so these shapes are preserved.
fn take_turns(step: &mut Expression, accumulated: &str) {
    let turn = || call_of(TURN, Vec::new());
    let whole = match &mut step.expr {
        // `all`, `exists`: @result && predicate.
        Expr::Call(call)
            if call.args.len() == 2
                && (call.func_name == operators::LOGICAL_AND || call.func_name == operators::LOGICAL_OR) =>
        {
            let predicate = std::mem::take(&mut call.args[1]);
            let no = expression(Expr::Literal(LiteralValue::Boolean(false.into())));
            call.args[1] = call_of(operators::CONDITIONAL, vec![turn(), predicate, no]);
            None
        }
        // `filter`, `exists_one`, `map` with a condition: predicate ? … : @result.
        Expr::Call(call) if call.args.len() == 3 && call.func_name == operators::CONDITIONAL => {
            let predicate = std::mem::take(&mut call.args[0]);
            let no = expression(Expr::Literal(LiteralValue::Boolean(false.into())));
            call.args[0] = call_of(operators::CONDITIONAL, vec![turn(), predicate, no]);
            None
        }
        // `map`: @result + [element].
        _ => Some(std::mem::take(step)),
    };
    if let Some(whole) = whole {
        let unchanged = expression(Expr::Ident(accumulated.to_owned()));
        *step = call_of(operators::CONDITIONAL, vec![turn(), whole, unchanged]);
    }
}
