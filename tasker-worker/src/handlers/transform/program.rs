//! A jq program: compiled once, run against the inputs of a step.

use std::fmt::{self, Write as _};
use std::panic::AssertUnwindSafe;

use jaq_core::box_iter::box_once;
use jaq_core::compile::Undefined;
use jaq_core::data::HasLut;
use jaq_core::load::lex::{Lexer, Token};
use jaq_core::load::parse::{Def, Parser, Term};
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Bind, Compiler, Ctx, DataT, Filter, Lut, Native, Vars};
use jaq_json::Val;

use super::guard::{self, Stopped, TICK, Watch};

/// A longer one is no program but data; and the parser recurses.
const MAX_PROGRAM_BYTES: usize = 64 * 1024;

/// The definition that holds the step's program; what is then run is a call of it.
const MAIN: &str = "tasker_program";

/// What would let a program see more than its inputs, or write where nobody reads.
const LEFT_OUT: [&str; 7] = [
    "debug",
    "debug_empty",
    "env",
    "halt",
    "halt_error",
    "stderr",
    "stderr_empty",
];

/// What the filters of a program work on, and who watches them.
struct Data;

impl DataT for Data {
    type V<'a> = Val;
    type Data<'a> = Running<'a>;
}

#[derive(Clone)]
struct Running<'a> {
    lut: &'a Lut<Data>,
    watch: &'a Watch,
}

impl<'a> HasLut<'a, Data> for Running<'a> {
    fn lut(&self) -> &'a Lut<Data> {
        self.lut
    }
}

pub(super) struct Program(Filter<Data>);

/// Why a program gave no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the jq program failed: {0}")]
    Failed(String),
    #[error(
        "the jq program gave no output; use `// null` or an else branch for what may be missing"
    )]
    NoOutput,
    #[error(
        "the jq program gave more than one output; put it into [...] to make one array of them"
    )]
    SeveralOutputs,
    #[error("the jq program's result is not JSON: it holds {0}")]
    NotJson(&'static str),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Program {
    /// Compiles the program's text; what is wrong with it is said with line and column.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PROGRAM_BYTES {
            return Err(format!(
                "it has {} bytes; at most {MAX_PROGRAM_BYTES} are taken",
                text.len()
            ));
        }
        let program = Def {
            name: MAIN,
            args: Vec::new(),
            body: guard::term(parse(text)?),
        };
        let library = jaq_core::defs()
            .chain(jaq_std::defs())
            .chain(jaq_json::defs());
        let kept = library.filter(|def| !LEFT_OUT.contains(&def.name));
        let definitions: Vec<Def<&str>> = kept
            .map(|def| guard::definition(def))
            .chain([program])
            .collect();
        let arena = Arena::default();
        let modules = Loader::new(definitions)
            .load(
                &arena,
                File {
                    code: MAIN,
                    path: (),
                },
            )
            .map_err(|_| "it cannot be loaded".to_owned())?;
        let natives = jaq_core::funs()
            .chain(jaq_std::funs())
            .chain(jaq_json::funs());
        let natives = natives
            .filter(|(name, ..)| !LEFT_OUT.contains(name))
            .chain([tick()]);
        let filter = Compiler::default().with_funs(natives).compile(modules);
        filter.map(Self).map_err(|files| {
            let undefined = files.into_iter().flat_map(|(_, undefined)| undefined);
            list(undefined.map(|(name, kind)| {
                let kind = match kind {
                    Undefined::Filter(arguments) => format!("filter {name}/{arguments}"),
                    kind => format!("{} {name}", kind.as_str()),
                };
                format!("there is no {kind} ({})", place(text, name))
            }))
        })
    }

    /// Runs the program on JSON text, on a thread with as much stack as the watch was told.
    pub(super) fn run(&self, inputs: &str, watch: &Watch) -> Result<String, Error> {
        std::panic::catch_unwind(AssertUnwindSafe(|| self.run_watched(inputs, watch)))
            .unwrap_or_else(|payload| match payload.downcast::<Stopped>() {
                Ok(stopped) => Err(Error::Stopped(*stopped)),
                Err(payload) => std::panic::resume_unwind(payload),
            })
    }

    fn run_watched(&self, inputs: &str, watch: &Watch) -> Result<String, Error> {
        let failed = |error: &dyn fmt::Display| Error::Failed(shortened(error));
        let input =
            jaq_json::read::parse_single(inputs.as_bytes()).map_err(|error| failed(&error))?;
        let running = Running {
            lut: &self.0.lut,
            watch,
        };
        let context = Ctx::<Data>::new(running, Vars::new([]));
        let mut outputs = self.0.id.run((context, input)).map(|output| {
            output.map_err(|exception| match exception.get_err() {
                Ok(error) => failed(&error),
                Err(_) => Error::Failed("it was broken off".to_owned()),
            })
        });
        let output = outputs.next().ok_or(Error::NoOutput)??;
        if let Some(next) = outputs.next() {
            return Err(next.map_or_else(|error| error, |_| Error::SeveralOutputs));
        }
        check(&output, 0)?;
        Ok(output.to_string())
    }
}

/// The watch's tick as a filter that gives its input, for reading, for paths and for updates.
fn tick() -> jaq_core::native::Fun<Data> {
    let native = Native::<Data>::new(|(context, value)| {
        context.data().watch.tick(&value);
        box_once(Ok(value))
    });
    let native = native.with_paths(|(context, value)| {
        context.data().watch.tick(&value.0);
        box_once(Ok(value))
    });
    let native = native.with_update(|(context, value), update| {
        context.data().watch.tick(&value);
        update(value)
    });
    (TICK, Box::<[Bind]>::default(), native)
}

fn parse(text: &str) -> Result<Term<&str>, String> {
    let tokens = Lexer::new(text).lex().map_err(|faults| {
        list(faults.into_iter().map(|(expected, found)| {
            format!("expected {} ({})", expected.as_str(), place(text, found))
        }))
    })?;
    Parser::new(&tokens)
        .parse(|parser| parser.term())
        .map_err(|faults| {
            list(faults.into_iter().map(|(expected, found)| {
                let found = Token::opt_as_str(found, text);
                format!("expected {} ({})", expected.as_str(), place(text, found))
            }))
        })
}

fn list(faults: impl Iterator<Item = String>) -> String {
    faults.collect::<Vec<_>>().join("; ")
}

/// Where `part`, a slice of `text`, begins.
fn place(text: &str, part: &str) -> String {
    let offset = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    let Some(before) = text.get(..offset) else {
        return "inside the library".to_owned();
    };
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |last| last.chars().count())
        + 1;
    format!("line {line}, column {column}")
}

/// jaq's values are more than JSON: what JSON cannot say is an error, not something similar.
fn check(value: &Val, depth: usize) -> Result<(), Error> {
    if depth > tasker_shared::document::MAX_DEPTH {
        return Err(Error::NotJson("more than 64 levels"));
    }
    match value {
        Val::Null | Val::Bool(_) => Ok(()),
        Val::Num(jaq_json::Num::Float(number)) if !number.is_finite() => {
            Err(Error::NotJson("a number that is infinite or none"))
        }
        Val::Num(_) => Ok(()),
        Val::BStr(_) => Err(Error::NotJson("a string of bytes")),
        Val::TStr(text) => match std::str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::NotJson("a string that is not UTF-8")),
        },
        Val::Arr(values) => values.iter().try_for_each(|value| check(value, depth + 1)),
        Val::Obj(entries) => entries.iter().try_for_each(|(key, value)| {
            if !matches!(key, Val::TStr(_)) {
                return Err(Error::NotJson("an object key that is no string"));
            }
            check(key, depth + 1)?;
            check(value, depth + 1)
        }),
    }
}

/// jaq puts whole values into its messages.
const MAX_MESSAGE_BYTES: usize = 500;

fn shortened(message: &dyn fmt::Display) -> String {
    let mut short = Shortened(String::new());
    if write!(short, "{message}").is_err() {
        short.0.push('…');
    }
    short.0
}

struct Shortened(String);

impl fmt::Write for Shortened {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_MESSAGE_BYTES.saturating_sub(self.0.len());
        let end = text.floor_char_boundary(room);
        self.0.push_str(&text[..end]);
        if end < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}
