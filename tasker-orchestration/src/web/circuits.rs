//! Circuits of what steps talk to: which are open, and closing one by hand.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use tasker_shared::db::circuits::{self, Circuit};
use tasker_shared::wire::{CircuitClosed, CircuitResponse, ErrorResponse};

use super::App;
use super::access::By;
use super::error::ApiError;

/// Circuits listed; more are open at once only where everything is in trouble.
const MOST: i64 = 1_000;
/// A circuit is everybody's who talks to its target.
const EVERY: &str = "*";

/// Lists the circuits that are not closed, the longest open first: those of what steps talk to in the namespaces that the
/// caller reaches.
#[utoipa::path(
    get, operation_id = "list_circuits", path = "/v1/circuits", tag = "circuits",
    responses((status = 200, body = [CircuitResponse]))
)]
pub(super) async fn list(
    State(app): State<App>,
    By(caller): By,
) -> Result<Json<Vec<CircuitResponse>>, ApiError> {
    let circuits = circuits::list(&app.pool, MOST, caller.namespaces()).await?;
    Ok(Json(circuits.into_iter().map(response).collect()))
}

/// Closes a circuit by hand: its steps run again at once. They are those of all namespaces, so a caller who is limited to
/// some may not.
#[utoipa::path(
    delete, operation_id = "close_circuit", path = "/v1/circuits/{target}", tag = "circuits",
    params(("target" = String, Path, description = "As the list has it")),
    responses(
        (status = 200, body = CircuitClosed),
        (status = 403, description = "The credentials are limited to namespaces", body = ErrorResponse),
        (status = 404, description = "No open circuit has this target", body = ErrorResponse)
    )
)]
pub(super) async fn close(
    State(app): State<App>,
    by: By,
    target: Result<Path<String>, PathRejection>,
) -> Result<Json<CircuitClosed>, ApiError> {
    by.reaches(EVERY)?;
    let Path(target) = target.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let absent = || ApiError::not_found(format!("no open circuit has the target {target:?}"));
    if target.contains('\0') || !circuits::close(&app.pool, &target).await? {
        return Err(absent());
    }
    tracing::info!(circuit = target, "circuit closed by hand");
    Ok(Json(CircuitClosed {
        message: "closed; it opens again where the target still fails".to_owned(),
        target,
    }))
}

fn response(circuit: Circuit) -> CircuitResponse {
    let state = if circuit.probing { "half_open" } else { "open" };
    CircuitResponse {
        target: circuit.target,
        state: state.to_owned(),
        reason: circuit.reason,
        opened_at: circuit.opened_at,
        retry_at: circuit.retry_at,
        failed_probes: circuit.failures,
    }
}
