//! Times and durations as people read them, in the machine's own time zone.

use chrono::{DateTime, Local, Utc};

/// The time of day: `12:00:01`.
pub(crate) fn of_day(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local).format("%H:%M:%S").to_string()
}

/// Day and time: `2025-01-02 03:04:05`.
pub(crate) fn full(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// How long something took, in the unit that suits: `8 ms`, `1.2 s`, `2 m 05 s`, `3 h 20 m`.
pub(crate) fn took(ms: i64) -> String {
    let ms = ms.max(0);
    let seconds = ms / 1_000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_the_unit_that_suits() {
        let cases = [
            (-5, "0 ms"),
            (8, "8 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (1_290, "1.2 s"),
            (59_999, "59.9 s"),
            (125_000, "2 m 05 s"),
            (12_000_000, "3 h 20 m"),
        ];
        for (ms, text) in cases {
            assert_eq!(took(ms), text, "{ms}");
        }
    }
}
