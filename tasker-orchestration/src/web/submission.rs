//! The body of a submission: where its size is known, room for it is taken before it is read, and it keeps that until
//! its tasks are stored.

use axum::body::HttpBody;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::App;
use super::error::ApiError;
use super::extract::{expect_type, parse, read, read_on};
use crate::lifecycle::pressure::Share;

/// A JSON body, and the room that it takes.
#[derive(Debug)]
pub(super) struct Submission<T> {
    pub(super) asked: T,
    pub(super) share: Share,
}

impl<T: DeserializeOwned> FromRequest<App> for Submission<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        expect_type(request.headers(), &["application/json"])?;
        let limit = app.loaded.config.limits.max_body_bytes;
        let pressure = app.initializer.pressure();
        let body = request.into_body();
        let known = body.size_hint().exact();
        let known = known.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX).min(limit));
        let share = match known.map(|bytes| pressure.hold(bytes)).transpose() {
            Ok(share) => share,
            Err(busy) => {
                read_on(body.into_data_stream(), limit).await;
                return Err(busy.into());
            }
        };
        let bytes = read(body, limit).await?;
        let share = match share {
            Some(share) => share,
            None => pressure.hold(bytes.len())?,
        };
        let asked = parse(&bytes, "")?;
        Ok(Submission { asked, share })
    }
}
