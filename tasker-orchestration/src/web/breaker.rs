//! The breaker around every route that needs the database: while it is open they are answered 503 at once, and
//! nothing is tried.

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use tasker_shared::metrics::resilience::request_rejected;
use tasker_shared::name::Name;
use tasker_shared::resilience::breaker::Call;

use super::App;
use super::error::{ApiError, Database};

/// What lies there needs the database. Health, metrics, configuration and descriptions do not.
const GUARDED: &str = "/v1/";

/// What an answer says of the database.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    Reached,
    Away,
    /// It was made without asking.
    Nothing,
}

/// Lets a request through while the breaker does. One whose caller goes away says nothing of the database.
pub(super) fn admit(app: &App, request: &Request) -> Result<Option<Call>, ApiError> {
    let route = request.extensions().get::<MatchedPath>();
    let Some(route) = route.filter(|route| route.as_str().starts_with(GUARDED)) else {
        return Ok(None);
    };
    app.breakers.web.call().map(Some).map_err(|open| {
        request_rejected(Name::of(route.as_str()));
        ApiError::breaker_open(&open)
    })
}

/// Tells the breaker what became of a request that it let through.
pub(super) fn settle(call: Option<Call>, response: &Response) {
    let Some(call) = call else { return };
    match says(response) {
        Says::Reached => call.succeeded(),
        Says::Away => call.failed(),
        Says::Nothing => drop(call),
    }
}

/// Whether an answer of this status is the database's, unless it says otherwise.
pub(super) fn is_asked_for(status: u16) -> bool {
    matches!(status, 200..=299 | 404 | 409)
}

fn says(response: &Response) -> Says {
    match (response.extensions().get::<Database>(), response.status()) {
        (Some(Database::Away), _) => Says::Away,
        (Some(Database::Unasked), _) => Says::Nothing,
        (None, status) if is_asked_for(status.as_u16()) => Says::Reached,
        // Also what took too long: a caller that sends its body slowly is no word of the database. One that does not
        // answer is found out by the server itself, which asks every two seconds.
        (None, _) => Says::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn an_answer_says_whether_the_database_was_reached() {
        let (away, unasked) = (Some(Database::Away), Some(Database::Unasked));
        let table = [
            (StatusCode::CREATED, None, Says::Reached),
            (StatusCode::NOT_FOUND, None, Says::Reached),
            (StatusCode::CONFLICT, None, Says::Reached),
            (StatusCode::OK, away, Says::Away),
            (StatusCode::SERVICE_UNAVAILABLE, away, Says::Away),
            (StatusCode::OK, unasked, Says::Nothing),
            (StatusCode::NOT_FOUND, unasked, Says::Nothing),
            (StatusCode::REQUEST_TIMEOUT, None, Says::Nothing),
            (StatusCode::INTERNAL_SERVER_ERROR, None, Says::Nothing),
            (StatusCode::SERVICE_UNAVAILABLE, None, Says::Nothing),
            (StatusCode::BAD_REQUEST, None, Says::Nothing),
            (StatusCode::UNAUTHORIZED, None, Says::Nothing),
        ];
        for (status, database, expected) in table {
            let mut response = status.into_response();
            if let Some(database) = database {
                response.extensions_mut().insert(database);
            }
            assert_eq!(says(&response), expected, "{status}");
        }
    }
}
