//! The `tracestate` of W3C trace context: what other tracing systems add on the way. It is passed on as it came, and
//! cut by whole entries where it is long.

/// What is passed on at most, in characters.
const LONGEST: usize = 512;
/// An entry that is longer goes first.
const LONG_ENTRY: usize = 128;
const MOST_ENTRIES: usize = 32;
const LONGEST_KEY: usize = 256;
const LONGEST_VALUE: usize = 256;

/// Entries of tracing systems, the latest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceState(String);

impl TraceState {
    /// Takes what a header says. All of it is dropped where one entry is malformed, as the standard has it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let entries: Vec<&str> = text
            .split(',')
            .map(|entry| entry.trim_matches([' ', '\t']))
            .filter(|entry| !entry.is_empty())
            .collect();
        if entries.len() > MOST_ENTRIES || !entries.iter().all(|entry| is_entry(entry)) {
            return Self::default();
        }
        Self(shortened(entries).join(","))
    }

    /// As the header has it; `None` where there is nothing.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }
}

/// The standard's order of giving up: long entries from the end, then whatever is last.
fn shortened(mut entries: Vec<&str>) -> Vec<&str> {
    let too_long = |entries: &[&str]| {
        let commas = entries.len().saturating_sub(1);
        entries.iter().map(|entry| entry.len()).sum::<usize>() + commas > LONGEST
    };
    while too_long(&entries) {
        let long = entries.iter().rposition(|entry| entry.len() > LONG_ENTRY);
        entries.remove(long.unwrap_or(entries.len() - 1));
    }
    entries
}

fn is_entry(entry: &str) -> bool {
    let Some((key, value)) = entry.split_once('=') else {
        return false;
    };
    let is_key = key.len() <= LONGEST_KEY
        && key.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && key.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte)
        });
    let is_value = (1..=LONGEST_VALUE).contains(&value.len())
        && value
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    is_key && is_value
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_passed_on() {
        for (text, expected) in [
            ("congo=t61rcWkgMzE", Some("congo=t61rcWkgMzE")),
            (
                "rojo=00f067aa0ba902b7,congo=t61",
                Some("rojo=00f067aa0ba902b7,congo=t61"),
            ),
            (" a=1 ,\t, b@c=2 ,", Some("a=1,b@c=2")),
            ("a=with space inside", Some("a=with space inside")),
            ("", None),
            (" , ", None),
        ] {
            assert_eq!(TraceState::parse(text).as_str(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_dropped_as_a_whole() {
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        for text in [
            "a=1,b",
            "A=1",
            "=1",
            "a=",
            "a=b=c",
            "a=é",
            "a=1\u{7f}",
            "-a=1",
            &many.join(","),
            &format!("a={}", "x".repeat(257)),
            &format!("{}=1", "x".repeat(257)),
        ] {
            assert_eq!(TraceState::parse(text).as_str(), None, "{text}");
        }
    }

    #[test]
    fn what_is_long_is_cut_by_whole_entries_long_ones_first() {
        let long = format!("long={}", "x".repeat(200));
        let text = format!("first=1,{long},second=2,{long},third={}", "y".repeat(120));
        let kept = TraceState::parse(&text);
        assert_eq!(
            kept.as_str().unwrap(),
            format!("first=1,{long},second=2,third={}", "y".repeat(120))
        );
        let short: Vec<String> = (10..42)
            .map(|n| format!("k{n}={}", "v".repeat(20)))
            .collect();
        let kept = TraceState::parse(&short.join(","));
        let kept = kept.as_str().unwrap();
        assert_eq!(kept.len(), 20 * 24 + 19);
        assert!(short.join(",").starts_with(kept));
    }
}
