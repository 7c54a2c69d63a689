//! The payment provider of the example: a small HTTP service on this machine that authorises and charges.
//! It is busy the first time it is asked to charge an order, as real ones are now and then.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::failure::Failure;

/// A provider that listens and does not serve yet.
#[derive(Debug)]
pub(crate) struct Provider {
    listener: TcpListener,
    address: SocketAddr,
}

/// What it remembers.
#[derive(Debug, Default)]
struct Ledger {
    /// How often each order was to be charged.
    requests: HashMap<String, u32>,
    /// The charge of each order.
    charges: HashMap<String, String>,
}

type Shared = Arc<Mutex<Ledger>>;

/// The inputs of a step, as far as they matter here.
#[derive(Debug, Deserialize)]
struct Inputs {
    context: Order,
    dependencies: Dependencies,
}

#[derive(Debug, Deserialize)]
struct Order {
    order_id: String,
    currency: String,
}

#[derive(Debug, Deserialize)]
struct Dependencies {
    validate_order: Validated,
    authorise_payment: Option<Authorised>,
}

#[derive(Debug, Deserialize)]
struct Validated {
    total_cents: u64,
}

#[derive(Debug, Deserialize)]
struct Authorised {
    authorisation: String,
    total_cents: u64,
}

impl Provider {
    /// Takes the address.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Provider, Failure> {
        let cannot = |source| {
            Failure::setup(
                format!("the payment provider cannot listen on {address}"),
                source,
            )
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Provider { listener, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `end` completes.
    pub(crate) async fn serve(
        self,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Failure> {
        let routes = Router::new()
            .route("/authorisations", post(authorise))
            .route("/charges", post(charge))
            .with_state(Shared::default());
        axum::serve(self.listener, routes)
            .with_graceful_shutdown(end)
            .await
            .map_err(|source| Failure::local("the payment provider broke down", source))
    }
}

async fn authorise(Json(inputs): Json<Inputs>) -> Response {
    const LIMIT_CENTS: u64 = 10_000_000;
    let total_cents = inputs.dependencies.validate_order.total_cents;
    if total_cents > LIMIT_CENTS {
        let body = json!({ "declined": "the sum is above the card's limit" });
        return (StatusCode::PAYMENT_REQUIRED, Json(body)).into_response();
    }
    let body = json!({
        "authorisation": format!("auth-{}", inputs.context.order_id),
        "total_cents": total_cents,
        "currency": inputs.context.currency,
    });
    (StatusCode::CREATED, Json(body)).into_response()
}

async fn charge(State(ledger): State<Shared>, Json(inputs): Json<Inputs>) -> Response {
    let Inputs {
        context,
        dependencies,
    } = inputs;
    let total_cents = dependencies.validate_order.total_cents;
    let authorised = dependencies.authorise_payment.is_some_and(|given| {
        given.authorisation == format!("auth-{}", context.order_id)
            && given.total_cents >= total_cents
    });
    if !authorised {
        let body = json!({ "declined": "there is no authorisation for this sum" });
        return (StatusCode::PAYMENT_REQUIRED, Json(body)).into_response();
    }
    let (requests, charge) = ledger
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .request(&context.order_id);
    let Some(charge) = charge else {
        let busy = json!({ "busy": "try again in a second" });
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "1")],
            Json(busy),
        )
            .into_response();
    };
    let body = json!({ "charge": charge, "total_cents": total_cents, "requests": requests });
    (StatusCode::OK, Json(body)).into_response()
}

impl Ledger {
    /// Counts a request to charge an order. The first is in vain; the second charges; later ones find the
    /// charge that was made, however often they ask.
    fn request(&mut self, order: &str) -> (u32, Option<String>) {
        let requests = self.requests.entry(order.to_owned()).or_default();
        *requests += 1;
        if *requests == 1 {
            return (1, None);
        }
        let charge = self.charges.entry(order.to_owned());
        let charge = charge.or_insert_with(|| format!("ch-{order}"));
        (*requests, Some(charge.clone()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn inputs(total_cents: u64, authorised_cents: Option<u64>) -> Json<Inputs> {
        let mut dependencies = json!({ "validate_order": { "total_cents": total_cents } });
        if let Some(cents) = authorised_cents {
            dependencies["authorise_payment"] =
                json!({ "authorisation": "auth-o1", "total_cents": cents });
        }
        let inputs = json!({
            "context": { "order_id": "o1", "currency": "EUR" },
            "dependencies": dependencies,
            "initialization": {},
            "attempt": 1,
        });
        Json(serde_json::from_value(inputs).unwrap())
    }

    #[tokio::test]
    async fn an_order_is_charged_at_the_second_request_and_once() {
        let ledger = Shared::default();
        let ask = || charge(State(ledger.clone()), inputs(500, Some(500)));
        let first = ask().await;
        assert_eq!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(first.headers()[header::RETRY_AFTER], "1");
        assert_eq!(ask().await.status(), StatusCode::OK);
        assert_eq!(ask().await.status(), StatusCode::OK);
        let ledger = ledger.lock().unwrap();
        assert_eq!((ledger.requests["o1"], ledger.charges.len()), (3, 1));
    }

    #[tokio::test]
    async fn nothing_is_charged_beyond_what_was_authorised() {
        for authorised in [None, Some(499)] {
            let ledger = Shared::default();
            let reply = charge(State(ledger), inputs(500, authorised)).await;
            assert_eq!(reply.status(), StatusCode::PAYMENT_REQUIRED);
        }
    }

    #[tokio::test]
    async fn a_sum_above_the_limit_is_declined() {
        assert_eq!(
            authorise(inputs(500, None)).await.status(),
            StatusCode::CREATED
        );
        let reply = authorise(inputs(10_000_001, None)).await;
        assert_eq!(reply.status(), StatusCode::PAYMENT_REQUIRED);
    }
}
