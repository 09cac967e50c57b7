//! What is done to a condition before it may be evaluated: its text is scanned before it is parsed, its loops take steps,
//! and its patterns are compiled.

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::parser::Expression;

use crate::kernel::budget;

/// The function that takes a step of a loop, and fails where there is none. It can't be written in a condition.
pub(super) const TURN: &str = "@turn";
/// The function that a text is matched by, with the number of its pattern.
pub(super) const MATCHES: &str = "@matches";

/// Counts what the parser follows by recursion.
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
            // Elements of lists and arguments stand beside each other.
            b',' | b'_' | b'`' => {}
            byte if byte.is_ascii_punctuation() => chain += 1,
            // `in` is an operator that is a word.
            b'i' if after.first() == Some(&b'n') && !after.get(1).is_some_and(u8::is_ascii_alphanumeric) => chain += 1,
            _ => {}
        }
        if depth > budget::NESTING {
            return Err(format!("at most {} brackets within each other", budget::NESTING));
        }
        if chain > budget::CHAIN {
            return Err(format!("at most {} operators, attributes and calls", budget::CHAIN));
        }
    }
    Ok(())
}

/// True if the string that begins before the last so many bytes is written raw, like `r"\d"`.
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

/// What was bound in an expression.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub(super) patterns: Vec<regex::Regex>,
    pub(super) loops: bool,
}

/// Has loops take steps, and compiles the patterns. The error is a sentence.
pub(super) fn bind(expression: &mut Expression) -> Result<Bound, String> {
    let mut bound = Bound::default();
    bound.walk(expression, 0, 0)?;
    Ok(bound)
}

impl Bound {
    fn walk(&mut self, expression: &mut Expression, depth: usize, loops: usize) -> Result<(), String> {
        if depth > budget::TREE {
            return Err(format!("nests deeper than {} levels", budget::TREE));
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
                    return Err(format!("at most {} macros like all, exists, map within each other", budget::LOOPS));
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

    /// `text.matches("pattern")` and `matches(text, "pattern")`: the pattern is compiled once, here.
    fn compile(&mut self, call: &mut CallExpr) -> Result<(), String> {
        let wanted = if call.target.is_some() { 1 } else { 2 };
        if call.args.len() != wanted {
            return Ok(());
        }
        let Some(pattern) = call.args.pop() else { return Ok(()) };
        let Expr::Literal(LiteralValue::String(pattern)) = &pattern.expr else {
            return Err("the pattern of `matches` must be written out, like matches(\"^[a-z]+$\")".into());
        };
        let pattern = budget::pattern(pattern.inner()).map_err(|why| format!("matches: {why}"))?;
        let which = i64::try_from(self.patterns.len()).map_err(|err| err.to_string())?;
        self.patterns.push(pattern);
        if let Some(target) = call.target.take() {
            call.args.push(*target);
        }
        call.args.push(made(Expr::Literal(LiteralValue::Int(which.into()))));
        call.func_name = MATCHES.into();
        Ok(())
    }
}

fn made(expr: Expr) -> Expression {
    Expression { id: 0, expr }
}

fn called(name: &str, args: Vec<Expression>) -> Expression {
    made(Expr::Call(CallExpr { func_name: name.into(), target: None, args }))
}

/// Has each turn of a loop take a step first: what is judged becomes `@turn() ? it : false`, whose error ends it. The
/// evaluator knows `all`, `exists` and `map` by the shapes of their steps, so these are kept.
fn take_turns(step: &mut Expression, accumulated: &str) {
    let turn = || called(TURN, Vec::new());
    let whole = match &mut step.expr {
        // `all`, `exists`: @result && it.
        Expr::Call(call)
            if call.args.len() == 2
                && (call.func_name == operators::LOGICAL_AND || call.func_name == operators::LOGICAL_OR) =>
        {
            let judged = std::mem::take(&mut call.args[1]);
            let no = made(Expr::Literal(LiteralValue::Boolean(false.into())));
            call.args[1] = called(operators::CONDITIONAL, vec![turn(), judged, no]);
            None
        }
        // `filter`, `exists_one`, `map` with a condition: it ? … : @result.
        Expr::Call(call) if call.args.len() == 3 && call.func_name == operators::CONDITIONAL => {
            let judged = std::mem::take(&mut call.args[0]);
            let no = made(Expr::Literal(LiteralValue::Boolean(false.into())));
            call.args[0] = called(operators::CONDITIONAL, vec![turn(), judged, no]);
            None
        }
        // `map`: @result + [it].
        _ => Some(std::mem::take(step)),
    };
    if let Some(whole) = whole {
        let unchanged = made(Expr::Ident(accumulated.to_owned()));
        *step = called(operators::CONDITIONAL, vec![turn(), whole, unchanged]);
    }
}
