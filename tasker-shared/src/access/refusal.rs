//! Why a caller is not let in, and how that is answered.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::Permission;

/// Says in a word why a request was refused.
pub const REASON_HEADER: HeaderName = HeaderName::from_static("x-auth-failure-reason");
/// Says how much whoever watches should mind: `low`, `medium` or `high`.
pub const SEVERITY_HEADER: HeaderName = HeaderName::from_static("x-auth-failure-severity");

/// A request that is refused for who sent it. The texts go to the caller: they name no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "credentials are needed: send `Authorization: Bearer <token>`, or a key in `{api_key_header}`"
    )]
    Missing { api_key_header: String },
    #[error("the {0} has expired; get a new one")]
    Expired(&'static str),
    #[error("the {what} is not accepted: {why}")]
    Invalid { what: &'static str, why: String },
    #[error("the credentials cannot be read: {0}")]
    Malformed(&'static str),
    #[error("this needs the permission {}, which these credentials do not have", .0.as_str())]
    Forbidden(Permission),
    #[error("these credentials do not reach the namespace {0:?}")]
    OutsideNamespace(String),
    #[error("this path has no rule for who may use it, so nobody may")]
    NoRule,
    /// The database that has the API keys does not answer.
    #[error("credentials cannot be checked at present: {0}; try again")]
    Unavailable(&'static str),
    #[error(
        "tokens cannot be checked at present: the keys that verify them cannot be fetched; try again"
    )]
    NoPublishedKeys,
}

impl Refusal {
    /// What it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Missing { .. }
            | Refusal::Expired(_)
            | Refusal::Invalid { .. }
            | Refusal::Malformed(_) => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden(_) | Refusal::OutsideNamespace(_) | Refusal::NoRule => {
                StatusCode::FORBIDDEN
            }
            Refusal::Unavailable(_) | Refusal::NoPublishedKeys => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The error's code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Missing { .. } => "UNAUTHORIZED",
            Refusal::Expired(_) | Refusal::Invalid { .. } | Refusal::Malformed(_) => {
                "AUTHENTICATION_FAILED"
            }
            Refusal::Forbidden(_) => "FORBIDDEN",
            Refusal::OutsideNamespace(_) | Refusal::NoRule => "AUTHORIZATION_FAILED",
            Refusal::Unavailable(_) | Refusal::NoPublishedKeys => "SERVICE_UNAVAILABLE",
        }
    }

    /// `missing`, `expired`, `invalid`, `malformed` or `forbidden`; `None` where nothing was judged.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Refusal::Missing { .. } => Some("missing"),
            Refusal::Expired(_) => Some("expired"),
            Refusal::Invalid { .. } => Some("invalid"),
            Refusal::Malformed(_) => Some("malformed"),
            Refusal::Forbidden(_) | Refusal::OutsideNamespace(_) | Refusal::NoRule => {
                Some("forbidden")
            }
            Refusal::Unavailable(_) | Refusal::NoPublishedKeys => None,
        }
    }

    /// How much to mind: what anybody may forget is low; what only somebody who tries doors sends is high.
    #[must_use]
    pub fn severity(&self) -> &'static str {
        match self {
            Refusal::Missing { .. }
            | Refusal::Expired(_)
            | Refusal::Unavailable(_)
            | Refusal::NoPublishedKeys => "low",
            Refusal::Malformed(_)
            | Refusal::Forbidden(_)
            | Refusal::OutsideNamespace(_)
            | Refusal::NoRule => "medium",
            Refusal::Invalid { .. } => "high",
        }
    }

    /// The headers that go with the answer.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(reason) = self.reason() {
            headers.insert(REASON_HEADER, HeaderValue::from_static(reason));
            headers.insert(SEVERITY_HEADER, HeaderValue::from_static(self.severity()));
        }
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer realm=\"tasker\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_status_code_and_words() {
        let invalid = Refusal::Invalid {
            what: "key",
            why: "there is no such key".to_owned(),
        };
        let missing = Refusal::Missing {
            api_key_header: "X-API-Key".to_owned(),
        };
        let cases = [
            (missing, 401, "UNAUTHORIZED", "missing", "low"),
            (
                Refusal::Expired("key"),
                401,
                "AUTHENTICATION_FAILED",
                "expired",
                "low",
            ),
            (invalid, 401, "AUTHENTICATION_FAILED", "invalid", "high"),
            (
                Refusal::Malformed("x"),
                401,
                "AUTHENTICATION_FAILED",
                "malformed",
                "medium",
            ),
            (
                Refusal::Forbidden(Permission::DlqRead),
                403,
                "FORBIDDEN",
                "forbidden",
                "medium",
            ),
            (
                Refusal::OutsideNamespace("bank".to_owned()),
                403,
                "AUTHORIZATION_FAILED",
                "forbidden",
                "medium",
            ),
            (
                Refusal::NoRule,
                403,
                "AUTHORIZATION_FAILED",
                "forbidden",
                "medium",
            ),
        ];
        for (refusal, status, code, reason, severity) in cases {
            let headers = refusal.headers();
            assert_eq!((refusal.status().as_u16(), refusal.code()), (status, code));
            assert_eq!(headers[REASON_HEADER], reason);
            assert_eq!(headers[SEVERITY_HEADER], severity);
            assert_eq!(
                headers.contains_key(header::WWW_AUTHENTICATE),
                status == 401
            );
        }
        let away = Refusal::Unavailable("the database does not answer");
        assert_eq!(away.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(away.headers().contains_key(header::RETRY_AFTER));
        assert!(!away.headers().contains_key(REASON_HEADER));
    }
}
