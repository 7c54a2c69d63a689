//! Passwords taken out of what is shown.

const MASK: &str = "****";

/// The text with the passwords of a URL masked: those before the host, and query values whose name tells of a secret.
/// Text that is no URL is left as it is.
pub(super) fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (address, query) = match rest.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (rest, None),
    };
    let host_end = address.find('/').unwrap_or(address.len());
    let address = match (address[..host_end].rfind('@'), rest.rfind('@')) {
        (Some(at), _) => match address[..at].split_once(':') {
            Some((user, _)) => format!("{user}:{MASK}{}", &address[at..]),
            None => address.to_owned(),
        },
        // An `@` elsewhere may end a password that was not encoded; rather hide too much.
        (None, Some(at)) => return format!("{scheme}://{MASK}{}", &rest[at..]),
        (None, None) => address.to_owned(),
    };
    let query = query
        .map(|query| format!("?{}", mask_query(query)))
        .unwrap_or_default();
    format!("{scheme}://{address}{query}")
}

fn mask_query(query: &str) -> String {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "token", "passfile"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn no_password_is_shown() {
        let cases = [
            (
                "postgres://tasker:pw@db:5432/tasker",
                "postgres://tasker:****@db:5432/tasker",
            ),
            (
                "postgres://tasker:p:w@x@db/tasker",
                "postgres://tasker:****@db/tasker",
            ),
            ("postgres://tasker@db/tasker", "postgres://tasker@db/tasker"),
            (
                "postgres://db/tasker?user=a&password=pw&sslmode=require",
                "postgres://db/tasker?user=a&password=****&sslmode=require",
            ),
            (
                "postgres:///tasker?host=%2Ftmp%2Fpg",
                "postgres:///tasker?host=%2Ftmp%2Fpg",
            ),
            (
                "postgres://tasker:p/w@db/tasker",
                "postgres://****@db/tasker",
            ),
            (
                "postgres://tasker:p?w@db/tasker",
                "postgres://****@db/tasker",
            ),
            ("https://u:pw@host", "https://u:****@host"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(url(text), expected, "{text}");
        }
    }
}
