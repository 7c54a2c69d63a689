//! The three formats of a time in the client's wire format: with offset ([`ts`], [`ts_opt`]; also sent where
//! the client reads a plain string) and without ([`nts`], [`nts_opt`]). All are UTC, to the microsecond.

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

const NAIVE: &str = "%Y-%m-%dT%H:%M:%S%.6f";

/// `2025-01-02T03:04:05.678901Z`.
pub fn format(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// RFC 3339, whose years have four digits: whatever passes, PostgreSQL can store.
fn parse(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.with_timezone(&Utc))
        .map_err(|error| format!("{text:?} is not an RFC 3339 time: {error}"))
}

/// `2025-01-02T03:04:05.678901`: the client refuses an offset here.
pub fn format_naive(time: &DateTime<Utc>) -> String {
    time.format(NAIVE).to_string()
}

/// A time with offset.
pub mod ts {
    use super::*;

    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format(time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).map_err(D::Error::custom)
    }
}

/// A time with offset that may be absent.
pub mod ts_opt {
    use super::*;

    pub fn serialize<S: Serializer>(
        time: &Option<DateTime<Utc>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => ts::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| parse(&text).map_err(D::Error::custom))
            .transpose()
    }
}

/// A time without offset.
pub mod nts {
    use super::*;

    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_naive(time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(from)?;
        let naive = text.parse::<NaiveDateTime>().map_err(D::Error::custom)?;
        Ok(naive.and_utc())
    }
}

/// A time without offset that may be absent.
pub mod nts_opt {
    use super::*;

    pub fn serialize<S: Serializer>(
        time: &Option<DateTime<Utc>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_str(&format_naive(time)),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| {
            text.parse::<NaiveDateTime>()
                .map(|naive| naive.and_utc())
                .map_err(D::Error::custom)
        })
        .transpose()
    }
}
