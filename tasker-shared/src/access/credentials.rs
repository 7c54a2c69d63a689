//! Credentials as a request carries them.

use http::{HeaderMap, HeaderName, header};

use super::{ApiKey, Refusal};

/// Tokens longer than this are not looked at.
const LONGEST_TOKEN_BYTES: usize = 16 * 1024;

/// What a request says of who sent it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials<'a> {
    None,
    Key(ApiKey),
    Token(&'a str),
}

/// The credentials in `headers`: a token wins over a key, and a key may be sent as a bearer token too.
pub(super) fn read<'a>(
    headers: &'a HeaderMap,
    api_key_header: &HeaderName,
) -> Result<Credentials<'a>, Refusal> {
    if let Some(value) = only(headers, &header::AUTHORIZATION)? {
        let (scheme, text) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::Malformed(
                "`Authorization` has another scheme than Bearer",
            ));
        }
        return match text.trim() {
            "" => Err(Refusal::Malformed("there is no token behind `Bearer`")),
            text if ApiKey::is_meant(text) => key(text),
            text if text.len() > LONGEST_TOKEN_BYTES => {
                Err(Refusal::Malformed("the token is longer than 16 KiB"))
            }
            text => Ok(Credentials::Token(text)),
        };
    }
    match only(headers, api_key_header)? {
        Some(text) => key(text.trim()),
        None => Ok(Credentials::None),
    }
}

fn key(text: &str) -> Result<Credentials<'static>, Refusal> {
    let key = ApiKey::read(text).ok_or(Refusal::Malformed(
        "a key is `tsk_` and 64 hexadecimal digits",
    ))?;
    Ok(Credentials::Key(key))
}

/// The value of a header that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Malformed("their header is there more than once"));
    }
    let text = value.to_str();
    text.map(Some)
        .map_err(|_| Refusal::Malformed("their header holds more than visible ASCII"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_one_token_or_one_key() {
        let key = ApiKey::random();
        let sent = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let bearer = |value: &str| sent("authorization", &format!("Bearer {value}"));
        let malformed = |text| Err(Refusal::Malformed(text));
        let cases = [
            (vec![], Ok(Credentials::None)),
            (vec![bearer("a.b.c")], Ok(Credentials::Token("a.b.c"))),
            (
                vec![sent("authorization", "bEARER  a.b.c ")],
                Ok(Credentials::Token("a.b.c")),
            ),
            (
                vec![sent("x-api-key", key.expose())],
                Ok(Credentials::Key(key.clone())),
            ),
            (
                vec![bearer(key.expose())],
                Ok(Credentials::Key(key.clone())),
            ),
            (
                vec![bearer("a.b.c"), sent("x-api-key", key.expose())],
                Ok(Credentials::Token("a.b.c")),
            ),
            (
                vec![sent("authorization", "Basic eDp5")],
                malformed("`Authorization` has another scheme than Bearer"),
            ),
            (
                vec![sent("authorization", "Bearer")],
                malformed("there is no token behind `Bearer`"),
            ),
            (
                vec![bearer("a"), bearer("b")],
                malformed("their header is there more than once"),
            ),
            (
                vec![sent("x-api-key", "hunter2")],
                malformed("a key is `tsk_` and 64 hexadecimal digits"),
            ),
            (
                vec![sent("x-api-key", "")],
                malformed("a key is `tsk_` and 64 hexadecimal digits"),
            ),
            (
                vec![bearer("ü")],
                malformed("their header holds more than visible ASCII"),
            ),
            (
                vec![bearer(&"x".repeat(20_000))],
                malformed("the token is longer than 16 KiB"),
            ),
        ];
        for (sent, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in &sent {
                let name: HeaderName = name.parse().unwrap();
                headers.append(
                    name,
                    http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                );
            }
            let name = HeaderName::from_static("x-api-key");
            assert_eq!(read(&headers, &name), expected, "{sent:?}");
        }
    }
}
