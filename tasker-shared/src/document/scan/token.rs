//! Strings and numbers: the parts of JSON that have an inside.

use super::{Error, Scanner};

impl Scanner<'_> {
    /// A string; true where it holds escapes.
    pub(super) fn string(&mut self) -> Result<bool, Error> {
        self.at += 1;
        let mut escaped = false;
        loop {
            let rest = &self.bytes[self.at..];
            let plain = rest
                .iter()
                .position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
            self.at += plain.unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.malformed("a control character must be escaped")),
                None => return Err(self.malformed("the text ends inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Error> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => self.unicode_escape(),
            Some(_) => Err(self.malformed("unknown escape")),
            None => Err(self.malformed("the text ends inside a string")),
        }
    }

    fn unicode_escape(&mut self) -> Result<(), Error> {
        match self.code_unit(self.at)? {
            0 => Err(Error::NulCharacter {
                pointer: self.pointer(),
            }),
            0xD800..=0xDBFF => {
                let low = self.at + 6;
                let paired = self.bytes[low..].starts_with(b"\\u")
                    && matches!(self.code_unit(low)?, 0xDC00..=0xDFFF);
                if !paired {
                    return Err(self.lone_surrogate());
                }
                self.at = low + 6;
                Ok(())
            }
            0xDC00..=0xDFFF => Err(self.lone_surrogate()),
            _ => {
                self.at += 6;
                Ok(())
            }
        }
    }

    /// The number in the `\uXXXX` that begins at `start`.
    fn code_unit(&self, start: usize) -> Result<u32, Error> {
        let mut unit = 0;
        for offset in 2..6 {
            let digit = self
                .bytes
                .get(start + offset)
                .and_then(|&byte| char::from(byte).to_digit(16));
            match digit {
                Some(digit) => unit = unit * 16 + digit,
                None => return Err(self.malformed("`\\u` needs four hexadecimal digits")),
            }
        }
        Ok(unit)
    }

    pub(super) fn number(&mut self) -> Result<(), Error> {
        self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            return Err(self.malformed("expected a digit"));
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.malformed("a number must not begin with 0"));
        }
        if self.take(b'.') && self.digits() == 0 {
            return Err(self.malformed("expected a digit"));
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            if self.digits() == 0 {
                return Err(self.malformed("expected a digit"));
            }
        }
        Ok(())
    }

    /// Passes over digits and says how many there were.
    fn digits(&mut self) -> usize {
        let rest = &self.bytes[self.at..];
        let count = rest
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(rest.len());
        self.at += count;
        count
    }

    fn lone_surrogate(&self) -> Error {
        Error::LoneSurrogate {
            pointer: self.pointer(),
        }
    }
}
