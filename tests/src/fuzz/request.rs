//! Any bytes are a body of the API or an error with its place; a body that was read says the same when it is written
//! again, and what it carries as text is kept to the byte.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tasker_shared::wire::{
    DlqAddRequest, DlqInvestigationUpdate, DlqRequeueFilter, DlqRequeueRequest, LogLevel,
    StepManualAction, TaskBatchRequest, TaskRequest,
};

pub(super) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"context\":",
    "\"name\":\"n\"",
    "\"namespace\":\"s\"",
    "\"version\":\"1.0.0\"",
    "\"priority\":101",
    "\"tags\":[\"a\"]",
    "\"run_at\":\"2026-01-01T00:00:00Z\"",
    "\"run_at\":\"+275760-09-13T00:00:00Z\"",
    "\"correlation_id\":\"00000000-0000-0000-0000-000000000000\"",
    "\"idempotency_key\":\"k\"",
    "\"options\":{}",
    "\"action_type\":\"complete_manually\"",
    "\"completion_data\":{\"result\":null}",
    "\"reason\":\"r\"",
    "\"tasks\":[",
    "\"resolution_status\":\"ManuallyResolved\"",
];

/// Panics where `data` breaks a body's type or what it promises.
pub fn request(data: &[u8]) {
    if let Some(request) = body::<TaskRequest>(data) {
        let text = std::str::from_utf8(data).expect("JSON is UTF-8");
        assert!(text.contains(request.context.get()), "a context changed");
    }
    body::<TaskBatchRequest>(data);
    body::<LogLevel>(data);
    read::<StepManualAction>(data);
    read::<DlqAddRequest>(data);
    read::<DlqInvestigationUpdate>(data);
    read::<DlqRequeueFilter>(data);
    read::<DlqRequeueRequest>(data);
}

/// The body, or an error that says where.
fn read<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
    match serde_json::from_slice(data) {
        Ok(body) => Some(body),
        Err(error) => {
            let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert!(error.line() <= lines, "{error}");
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// The body, which is the same when it is written and read again.
fn body<T: DeserializeOwned + Serialize>(data: &[u8]) -> Option<T> {
    let body: T = read(data)?;
    let written = serde_json::to_string(&body).unwrap();
    let again: T = serde_json::from_str(&written)
        .unwrap_or_else(|error| panic!("{error} in {written}, which was written"));
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    let rewritten = serde_json::to_string(&again).unwrap();
    assert_eq!(value(&written), value(&rewritten));
    Some(body)
}
