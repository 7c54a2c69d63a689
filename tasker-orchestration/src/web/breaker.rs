//! The breaker around every route that needs the database: while it is open they are answered 503 at once, and
//! nothing is tried.

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use tasker_shared::metrics::resilience::request_rejected;
use tasker_shared::name::Name;

use super::App;
use super::error::{ApiError, DatabaseAway};

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

/// Lets requests through while the breaker does, and tells it what became of them. One whose caller goes away says
/// nothing.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let Some(route) = route.filter(|route| route.as_str().starts_with(GUARDED)) else {
        return next.run(request).await;
    };
    let call = match app.breakers.web.call() {
        Ok(call) => call,
        Err(open) => {
            request_rejected(Name::of(route.as_str()));
            return ApiError::breaker_open(&open).into_response();
        }
    };
    let response = next.run(request).await;
    match says(&response) {
        Says::Reached => call.succeeded(),
        Says::Away => call.failed(),
        Says::Nothing => drop(call),
    }
    response
}

fn says(response: &Response) -> Says {
    let status = response.status();
    if response.extensions().get::<DatabaseAway>().is_some()
        || status == StatusCode::REQUEST_TIMEOUT
    {
        return Says::Away;
    }
    match status {
        StatusCode::NOT_FOUND | StatusCode::CONFLICT => Says::Reached,
        _ if status.is_success() => Says::Reached,
        _ => Says::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_the_database_was_reached() {
        let table = [
            (StatusCode::CREATED, false, Says::Reached),
            (StatusCode::NOT_FOUND, false, Says::Reached),
            (StatusCode::CONFLICT, false, Says::Reached),
            (StatusCode::OK, true, Says::Away),
            (StatusCode::SERVICE_UNAVAILABLE, true, Says::Away),
            (StatusCode::REQUEST_TIMEOUT, false, Says::Away),
            (StatusCode::SERVICE_UNAVAILABLE, false, Says::Nothing),
            (StatusCode::BAD_REQUEST, false, Says::Nothing),
            (StatusCode::UNAUTHORIZED, false, Says::Nothing),
        ];
        for (status, away, expected) in table {
            let mut response = status.into_response();
            if away {
                response.extensions_mut().insert(DatabaseAway);
            }
            assert_eq!(says(&response), expected, "{status}");
        }
    }
}
