//! Values of the command line: durations, times, a task's context.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use crate::failure::Failure;

/// `250ms`, `30s`, `5m`, `2h` and sums of them such as `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const WANTED: &str = "is no duration: write it as 250ms, 30s, 5m or 2h";
    let wrong = || format!("{text:?} {WANTED}");
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let ms = number.checked_mul(unit_ms).ok_or_else(wrong)?;
        sum = sum
            .checked_add(Duration::from_millis(ms))
            .ok_or_else(wrong)?;
        rest = behind;
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(sum)
    }
}

/// RFC 3339 with an offset.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.with_timezone(&Utc))
        .map_err(|_| format!("{text:?} is no time: write it as 2025-01-02T03:04:05Z"))
}

/// The moment that lies `ahead` of now.
pub(crate) fn moment_in(ahead: Duration) -> Result<DateTime<Utc>, Failure> {
    let ahead = chrono::Duration::from_std(ahead).ok();
    ahead
        .and_then(|ahead| Utc::now().checked_add_signed(ahead))
        .ok_or_else(|| Failure::Usage("--in is too far ahead".to_owned()))
}

/// The JSON of `--context`: itself, a file's after `@`, or standard input's for `-`. It is checked and kept
/// as it came.
pub(crate) fn context(argument: &str) -> Result<Box<RawValue>, Failure> {
    let (text, origin) = match argument {
        "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|source| {
                    Failure::setup("cannot read the context from standard input", source)
                })?;
            (text, "standard input".to_owned())
        }
        _ => match argument.strip_prefix('@') {
            Some(path) => (read(Path::new(path))?, path.to_owned()),
            None => (argument.to_owned(), "--context".to_owned()),
        },
    };
    RawValue::from_string(text.trim().to_owned())
        .map_err(|source| Failure::Usage(format!("the context of {origin} is no JSON: {source}")))
}

/// The text of a file that the command line names.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|source| Failure::setup(format!("cannot read {}", path.display()), source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let cases = [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("1h30m", Some(5_400_000)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("m", None),
            ("5 m", None),
            ("-5m", None),
            ("1.5h", None),
            ("5d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ];
        for (text, ms) in cases {
            assert_eq!(
                duration(text).ok(),
                ms.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }

    #[test]
    fn times_need_an_offset() {
        assert!(time("2025-01-02T03:04:05Z").is_ok());
        assert_eq!(
            time("2025-01-02T03:04:05+01:00").unwrap(),
            time("2025-01-02T02:04:05Z").unwrap()
        );
        for text in ["2025-01-02T03:04:05", "2025-01-02", "noon", ""] {
            assert!(time(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_context_is_kept_as_it_was_written() {
        let text = r#"{ "n": 1e400, "b": 1.10 , "a":1 }"#;
        assert_eq!(context(text).unwrap().get(), text);
        let told = context("{order: 7}").unwrap_err();
        assert_eq!(told.status(), 2);
        assert!(told.to_string().contains("line 1 column 2"), "{told}");
    }

    #[test]
    fn a_context_can_come_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("order.json");
        std::fs::write(&path, "{\"order_id\": 7}\n").unwrap();
        let argument = format!("@{}", path.display());
        assert_eq!(context(&argument).unwrap().get(), "{\"order_id\": 7}");
        let missing = context("@/nowhere/order.json").unwrap_err();
        assert_eq!(missing.status(), 2);
        assert!(missing.to_string().contains("/nowhere/order.json"));
    }

    #[test]
    fn no_moment_is_beyond_the_calendar() {
        assert!(moment_in(Duration::from_secs(60)).is_ok());
        assert!(moment_in(Duration::from_secs(u64::MAX)).is_err());
    }
}
