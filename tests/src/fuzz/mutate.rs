//! Changing bytes at random, the same way for the same number.

/// What numbers and sizes go wrong at.
const EDGES: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1e999",
    "2147483648",
    "9223372036854775808",
    "18446744073709551616",
    "0.1e-400",
    "null",
    "true",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "\u{feff}",
    "é😀",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
];

/// A source of changes.
#[derive(Debug, Clone)]
pub struct Mutator(u64);

impl Mutator {
    /// The same changes for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds are far apart after this, and none is the zero at which the sequence would stay.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number below `end`, which is at least 1 (xorshift).
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(usize::MAX) % end.max(1)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// One of the seeds with up to eight changes, made of the seeds and the words.
    pub fn next(&mut self, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut bytes = self.pick(seeds).cloned().unwrap_or_default();
        for _ in 0..=self.below(8) {
            self.change(&mut bytes, seeds, words);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(24)).min(bytes.len());
        match self.below(8) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(end..end, part);
            }
            3 => {
                let other = self.pick(seeds).cloned().unwrap_or_default();
                let from = self.below(other.len() + 1);
                let to = (from + self.below(64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            4 => {
                let edge = self.pick(EDGES).copied().unwrap_or_default();
                bytes.splice(at..end, edge.bytes());
            }
            5 => {
                let to = self.below(bytes.len() + 1);
                if at < bytes.len() && to < bytes.len() {
                    bytes.swap(at, to);
                }
            }
            _ => {
                let word = self.pick(words).copied().unwrap_or_default();
                bytes.splice(at..at, word.bytes());
            }
        }
    }
}
