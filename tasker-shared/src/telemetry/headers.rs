//! Headers that the environment adds to every export, as OpenTelemetry has it: credentials, mostly.

use http::{HeaderMap, HeaderName, HeaderValue};

const ALL: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// The variable is not understood. Its values are not shown, since they may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the environment variable {variable} must be name=value pairs, separated by commas; its pair {place} is none"
)]
pub struct Malformed {
    variable: String,
    place: usize,
}

/// The headers of a signal: those of its own variable, or of the one for all.
///
/// # Errors
/// There is one, and it is malformed.
pub(super) fn of_environment(signal: &str) -> Result<HeaderMap, Malformed> {
    let own = format!("OTEL_EXPORTER_OTLP_{signal}_HEADERS");
    for variable in [own.as_str(), ALL] {
        if let Ok(text) = std::env::var(variable) {
            return parse(&text).map_err(|place| Malformed {
                variable: variable.to_owned(),
                place,
            });
        }
    }
    Ok(HeaderMap::new())
}

/// Pairs with percent-encoded values. The error is the place of the pair that is none.
fn parse(text: &str) -> Result<HeaderMap, usize> {
    let pairs = text.split(',').map(str::trim).enumerate();
    let pairs = pairs.filter(|(_, pair)| !pair.is_empty());
    pairs.map(|(at, pair)| header(pair).ok_or(at + 1)).collect()
}

fn header(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let name = HeaderName::try_from(name.trim()).ok()?;
    let mut value = HeaderValue::from_bytes(&decoded(value.trim())?).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_headers_and_their_values_stay_secret() {
        let headers = parse("Authorization=Basic%20abc==, x-tenant = 7 ,,").unwrap();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["authorization"], "Basic abc==");
        assert_eq!(headers["x-tenant"], "7");
        assert!(!format!("{headers:?}").contains("abc"));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_pair_is_refused_by_its_place() {
        for (text, place) in [
            ("a", 1),
            ("a=1,b", 2),
            ("a=1,,=2", 3),
            ("a b=1", 1),
            ("a=%2", 1),
            ("a=%zz", 1),
            ("a=%0a", 1),
        ] {
            assert_eq!(parse(text).unwrap_err(), place, "{text}");
        }
    }
}
