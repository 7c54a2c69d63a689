//! Makes jq programs that can be stopped: every definition, everything that `range` gives and every turn of
//! a `reduce` passes a tick that looks at stack and value, and at whether the result is still wanted.
//!
//! jaq has no way of its own to break off a program, and one that recurses too deep would take the whole
//! worker with it.

use std::cell::Cell;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::Part;
use jaq_json::Val;
use tokio_util::sync::CancellationToken;

/// The name of the native filter that calls [`Watch::tick`] and passes its input on.
/// No program can name it: `!` is not part of a word.
pub(super) const TICK: &str = "!tick";

/// Token and value are looked at once in so many ticks. A prime: where ticks alternate, each kind is seen.
const TICKS_PER_LOOK: u32 = 251;

/// A value nested deeper than the stack could not even be dropped.
const MAX_NESTING: usize = 10_000;

/// What a running program is watched for.
pub(super) struct Watch {
    cancellation: CancellationToken,
    ticks: Cell<u32>,
    stack_top: usize,
    stack_limit_bytes: usize,
}

/// Why a program was broken off; thrown past jaq as a panic's payload, so that no `try` can catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stopped {
    #[error("the jq program was given up: the step is cancelled")]
    Cancelled,
    #[error(
        "the jq program recurses too deep; let the recursive call be the last thing that a definition does"
    )]
    TooDeep,
    #[error("the jq program nests values more than {MAX_NESTING} levels deep")]
    TooNested,
}

impl Watch {
    /// Begins to watch the current thread, which has the stack to give.
    pub(super) fn new(cancellation: CancellationToken, stack_limit_bytes: usize) -> Self {
        Self {
            cancellation,
            ticks: Cell::new(0),
            stack_top: stack_position(),
            stack_limit_bytes,
        }
    }

    /// Unwinds with [`Stopped`] where the program has to end. `value` is what it works on.
    pub(super) fn tick(&self, value: &Val) {
        let stop = if stack_position().abs_diff(self.stack_top) > self.stack_limit_bytes {
            Some(Stopped::TooDeep)
        } else {
            let ticks = self.ticks.get().wrapping_add(1);
            self.ticks.set(ticks);
            match ticks % TICKS_PER_LOOK {
                0 if self.cancellation.is_cancelled() => Some(Stopped::Cancelled),
                0 if is_nested_deep(value) => Some(Stopped::TooNested),
                _ => None,
            }
        };
        if let Some(stop) = stop {
            // Not `panic!`: no message is printed, and `program` takes the payload out again.
            std::panic::resume_unwind(Box::new(stop));
        }
    }
}

/// About where the stack of this thread ends at present.
#[inline(never)]
fn stack_position() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// Follows one way down, which finds what grows by being put into something again and again.
fn is_nested_deep(value: &Val) -> bool {
    std::iter::successors(Some(value), |&value| inner(value))
        .nth(MAX_NESTING)
        .is_some()
}

fn inner(value: &Val) -> Option<&Val> {
    let (first, last) = match value {
        Val::Arr(values) => (values.first(), values.last()),
        Val::Obj(entries) => (entries.values().next(), entries.values().next_back()),
        _ => return None,
    };
    last.filter(|last| matches!(last, Val::Arr(_) | Val::Obj(_)))
        .or(first)
}

/// Puts a tick at the head of the definition and of all inside it.
pub(super) fn definition(mut def: Def<&str>) -> Def<&str> {
    visit(&mut def.body);
    def.body = Term::BinOp(Box::new(tick()), BinaryOp::Pipe(None), Box::new(def.body));
    def
}

/// Puts ticks into every definition and behind every `range` inside the term.
pub(super) fn term(mut term: Term<&str>) -> Term<&str> {
    visit(&mut term);
    term
}

fn tick<'s>() -> Term<&'s str> {
    Term::Call(TICK, Vec::new())
}

fn then_tick(term: &mut Term<&str>) {
    let first = std::mem::take(term);
    *term = Term::BinOp(Box::new(first), BinaryOp::Pipe(None), Box::new(tick()));
}

fn visit(term: &mut Term<&str>) {
    match term {
        Term::Id
        | Term::Recurse
        | Term::Num(_)
        | Term::Break(_)
        | Term::Var(_)
        | Term::Arr(None) => {}
        Term::Str(_, parts) => parts.iter_mut().for_each(|part| {
            if let StrPart::Term(term) = part {
                visit(term);
            }
        }),
        Term::Arr(Some(term)) | Term::Neg(term) | Term::Label(_, term) => visit(term),
        Term::Obj(entries) => entries.iter_mut().for_each(|(key, value)| {
            visit(key);
            value.iter_mut().for_each(visit);
        }),
        Term::BinOp(left, operator, right) => {
            visit(left);
            visit(right);
            if let BinaryOp::Pipe(Some(pattern)) = operator {
                visit_pattern(pattern);
            }
        }
        Term::Fold(_, source, pattern, terms) => {
            visit(source);
            visit_pattern(pattern);
            terms.iter_mut().for_each(visit);
            // Initial value, update, and what `foreach` makes of each.
            terms.iter_mut().skip(1).take(1).for_each(then_tick);
        }
        Term::TryCatch(term, catch) => {
            visit(term);
            catch.iter_mut().for_each(|term| visit(term));
        }
        Term::IfThenElse(branches, otherwise) => {
            for (condition, term) in branches {
                visit(condition);
                visit(term);
            }
            otherwise.iter_mut().for_each(|term| visit(term));
        }
        Term::Def(defs, term) => {
            for def in defs.iter_mut() {
                *def = definition(def.clone());
            }
            visit(term);
        }
        Term::Call(name, arguments) => {
            arguments.iter_mut().for_each(visit);
            if *name == "range" {
                then_tick(term);
            }
        }
        Term::Path(term, path) => {
            visit(term);
            path.0.iter_mut().for_each(|(part, _)| match part {
                Part::Index(index) => visit(index),
                Part::Range(from, to) => from.iter_mut().chain(to).for_each(visit),
            });
        }
    }
}

fn visit_pattern(pattern: &mut Pattern<&str>) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(patterns) => patterns.iter_mut().for_each(visit_pattern),
        Pattern::Obj(entries) => entries.iter_mut().for_each(|(key, pattern)| {
            visit(key);
            visit_pattern(pattern);
        }),
    }
}
