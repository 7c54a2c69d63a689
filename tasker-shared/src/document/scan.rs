//! The single pass over JSON text behind [`super::Document::parse`]: grammar, depth, duplicate keys, surrogates.
//! It allocates for the open levels and for keys written with escapes, and builds nothing else.

mod token;

use super::{Error, MAX_DEPTH};
use std::borrow::Cow;
use std::collections::HashSet;

/// Up to this many keys of an object are compared one by one; beyond, they go into a set.
const KEYS_COMPARED: usize = 16;

/// Whether the text is one JSON value that a document may hold.
pub(super) fn check(text: &str) -> Result<(), Error> {
    let mut scanner = Scanner {
        text,
        bytes: text.as_bytes(),
        at: 0,
        levels: Vec::with_capacity(8),
        keys: Vec::new(),
    };
    scanner.document()
}

/// One array or object that is open.
enum Level<'a> {
    Array {
        index: usize,
    },
    Object {
        first_key: usize,
        /// The key whose value is being read.
        key: Option<Cow<'a, str>>,
        seen: Option<HashSet<Cow<'a, str>>>,
    },
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    levels: Vec<Level<'a>>,
    /// The keys of the open objects that have few of them, those of inner objects behind those of outer ones.
    keys: Vec<Cow<'a, str>>,
}

/// What to read next.
enum Next {
    Value,
    /// Behind a value: a comma, or the end of the level.
    Separator,
}

impl<'a> Scanner<'a> {
    fn document(&mut self) -> Result<(), Error> {
        let mut next = Next::Value;
        loop {
            self.skip_blanks();
            next = match next {
                Next::Value => self.value()?,
                Next::Separator if self.levels.is_empty() => break,
                Next::Separator => self.separator()?,
            };
        }
        if self.at < self.bytes.len() {
            return Err(self.malformed("something follows the end of the value"));
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Next, Error> {
        match self.peek() {
            Some(b'{') => return self.open_object(),
            Some(b'[') => return self.open_array(),
            Some(b'"') => {
                self.string()?;
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            Some(_) => return Err(self.malformed("expected a value")),
            None => return Err(self.malformed("the text ends where a value is expected")),
        }
        Ok(Next::Separator)
    }

    fn open_array(&mut self) -> Result<Next, Error> {
        self.open(Level::Array { index: 0 })?;
        self.skip_blanks();
        if self.take(b']') {
            self.levels.pop();
            return Ok(Next::Separator);
        }
        Ok(Next::Value)
    }

    fn open_object(&mut self) -> Result<Next, Error> {
        self.open(Level::Object {
            first_key: self.keys.len(),
            key: None,
            seen: None,
        })?;
        self.skip_blanks();
        if self.take(b'}') {
            self.levels.pop();
            return Ok(Next::Separator);
        }
        self.key()
    }

    fn open(&mut self, level: Level<'a>) -> Result<(), Error> {
        if self.levels.len() == MAX_DEPTH {
            return Err(Error::TooDeep {
                pointer: self.pointer(),
            });
        }
        self.at += 1;
        self.levels.push(level);
        Ok(())
    }

    fn separator(&mut self) -> Result<Next, Error> {
        let byte = self.peek();
        match self.levels.last_mut() {
            Some(Level::Array { index }) => match byte {
                Some(b',') => {
                    *index += 1;
                    self.at += 1;
                    Ok(Next::Value)
                }
                Some(b']') => Ok(self.close()),
                _ => Err(self.malformed("expected `,` or `]`")),
            },
            _ => match byte {
                Some(b',') => {
                    self.at += 1;
                    self.skip_blanks();
                    self.key()
                }
                Some(b'}') => Ok(self.close()),
                _ => Err(self.malformed("expected `,` or `}`")),
            },
        }
    }

    fn close(&mut self) -> Next {
        self.at += 1;
        if let Some(Level::Object { first_key, .. }) = self.levels.pop() {
            self.keys.truncate(first_key);
        }
        Next::Separator
    }

    /// A key of the innermost object and the colon behind it.
    fn key(&mut self) -> Result<Next, Error> {
        if let Some(Level::Object { key, .. }) = self.levels.last_mut() {
            *key = None;
        }
        if self.peek() != Some(b'"') {
            return Err(self.malformed("expected a key in double quotes"));
        }
        let start = self.at;
        let escaped = self.string()?;
        let raw = &self.text[start..self.at];
        let key: Cow<'a, str> = if escaped {
            match serde_json::from_str::<String>(raw) {
                Ok(key) => Cow::Owned(key),
                Err(_) => return Err(self.malformed("expected a key in double quotes")),
            }
        } else {
            Cow::Borrowed(&raw[1..raw.len() - 1])
        };
        let is_new = self.remember(key.clone());
        if let Some(Level::Object { key: current, .. }) = self.levels.last_mut() {
            *current = Some(key.clone());
        }
        if !is_new {
            return Err(Error::DuplicateKey {
                key: key.into_owned(),
                pointer: self.pointer(),
            });
        }
        self.skip_blanks();
        if !self.take(b':') {
            return Err(self.malformed("expected `:`"));
        }
        Ok(Next::Value)
    }

    /// Adds a key to those of the innermost object; false where it is there already.
    fn remember(&mut self, key: Cow<'a, str>) -> bool {
        let Some(Level::Object {
            first_key, seen, ..
        }) = self.levels.last_mut()
        else {
            return true;
        };
        if let Some(seen) = seen {
            return seen.insert(key);
        }
        let known = &self.keys[*first_key..];
        if known.contains(&key) {
            return false;
        }
        if known.len() < KEYS_COMPARED {
            self.keys.push(key);
        } else {
            let mut set: HashSet<Cow<'a, str>> = self.keys.drain(*first_key..).collect();
            set.insert(key);
            *seen = Some(set);
        }
        true
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Error> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.malformed("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn malformed(&self, reason: &'static str) -> Error {
        let before = &self.bytes[..self.at.min(self.bytes.len())];
        let line_start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |newline| newline + 1);
        // Bytes that continue a character are no column of their own.
        let column = before[line_start..]
            .iter()
            .filter(|&&byte| byte & 0xC0 != 0x80)
            .count();
        Error::Malformed {
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            column: column + 1,
            pointer: self.pointer(),
            reason,
        }
    }

    /// The JSON pointer of the value being read.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for level in &self.levels {
            match level {
                Level::Array { index } => {
                    pointer.push('/');
                    pointer.push_str(&index.to_string());
                }
                Level::Object { key: Some(key), .. } => {
                    pointer.push('/');
                    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                }
                Level::Object { key: None, .. } => {}
            }
        }
        pointer
    }
}
