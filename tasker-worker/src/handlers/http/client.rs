//! The HTTP clients of the `http` handler: made when first used, then shared by all its steps.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, ClientBuilder};

use crate::error::StepError;

const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
pub(super) struct Clients(Arc<Pair>);

#[derive(Default)]
struct Pair {
    safe: OnceLock<Client>,
    sending: OnceLock<Client>,
}

impl Clients {
    /// The client for requests that may be repeated elsewhere as they are (`safe`), or for those with a body.
    pub(super) fn get(&self, safe: bool) -> Result<Client, StepError> {
        let slot = if safe { &self.0.safe } else { &self.0.sending };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let client = make(safe).map_err(|error| {
            StepError::permanent("handler `http` has no HTTP client")
                .with_type("http_error")
                .with_source(&error)
        })?;
        Ok(slot.get_or_init(|| client).clone())
    }
}

fn make(safe: bool) -> reqwest::Result<Client> {
    // Fails where the process has installed one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder(safe).build().or_else(|error| {
        // A machine without any root certificates: plain HTTP has to work there all the same.
        tracing::warn!(%error, "no root certificates were found; the http handler will trust no https server");
        builder(safe).tls_certs_only([]).build()
    })
}

fn builder(safe: bool) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("tasker-worker/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::custom(move |attempt| redirect(attempt, safe)))
}

/// Never to another scheme, and with a body only where the answer asks to send the same again: after 301 to
/// 303 a body would be dropped and the method changed.
fn redirect(attempt: Attempt<'_>, safe: bool) -> Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("more than 10 redirects");
    }
    let scheme = attempt.previous().last().map(|url| url.scheme().to_owned());
    if scheme.is_some_and(|scheme| scheme != attempt.url().scheme()) {
        return attempt.error("a redirect to another scheme");
    }
    if safe || matches!(attempt.status().as_u16(), 307 | 308) {
        attempt.follow()
    } else {
        attempt.stop()
    }
}
