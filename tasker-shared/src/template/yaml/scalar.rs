//! What a plain scalar means: YAML 1.2's core schema, as far as JSON can say it.

use super::Kind;
use serde_json::Number;

/// A plain scalar's value; the error says why it has none.
pub(super) fn resolve(text: &str) -> Result<Kind, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Kind::Null),
        "true" | "True" | "TRUE" => return Ok(Kind::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Kind::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Err("JSON has no number for `.nan`"),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Err("JSON has no number for infinity");
    }
    Ok(match json_number(text, unsigned) {
        Some(number) => Kind::Number(number),
        None => Kind::Text(text.to_owned()),
    })
}

/// The number in JSON's spelling, digits kept as they are written.
fn json_number(text: &str, unsigned: &str) -> Option<Number> {
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().map(Number::from);
        }
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => unsigned.split_at(at),
        None => (unsigned, ""),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let point = if mantissa.contains('.') { "." } else { "" };
    let fraction = if fraction.is_empty() && !point.is_empty() {
        "0"
    } else {
        fraction
    };
    // What is left to judge is the exponent, and that is the same in both languages.
    serde_json::from_str(&format!("{sign}{whole}{point}{fraction}{exponent}")).ok()
}
