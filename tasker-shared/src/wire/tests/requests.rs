use crate::wire::{StepManualAction, StepReadiness, TaskRequest, TaskResponse};

/// The body as the published client sends it.
const FROM_THE_CLIENT: &str = r#"{"name":"process_order","namespace":"shop","version":"1.0.0",
    "context":{"total":1.10,"big":12345678901234567890123,"b":1,"a":[1e400]},"initiator":"system",
    "source_system":"tasker-core","reason":"Task requested","tags":[],"requested_at":"2025-01-02T03:04:05.678",
    "options":null,"priority":null,"correlation_id":"0199c3e0-ccdb-7581-87ab-3f67daeaa4a6","parent_correlation_id":null}"#;

#[test]
fn a_request_of_the_published_client_is_understood() {
    let request: TaskRequest = serde_json::from_str(FROM_THE_CLIENT).unwrap();
    assert_eq!(request.name, "process_order");
    assert_eq!(request.priority, None);
    assert!(request.options.is_none());
    assert_eq!(
        request.context.get(),
        r#"{"total":1.10,"big":12345678901234567890123,"b":1,"a":[1e400]}"#
    );
}

#[test]
fn the_smallest_request_has_a_name_a_namespace_and_a_context() {
    let request: TaskRequest =
        serde_json::from_str(r#"{"name":"n","namespace":"s","context":{}}"#).unwrap();
    assert!(request.tags.is_empty());
    assert_eq!(
        serde_json::to_string(&request).unwrap(),
        r#"{"name":"n","namespace":"s","context":{}}"#
    );
    for body in [
        r#"{"namespace":"s","context":{}}"#,
        r#"{"name":"n","context":{}}"#,
        r#"{"name":"n","namespace":"s"}"#,
        r#"{"name":null,"namespace":"s","context":{}}"#,
        r#"{"name":"n","namespace":"s","context":null}"#,
    ] {
        assert!(serde_json::from_str::<TaskRequest>(body).is_err(), "{body}");
    }
}

#[test]
fn explicit_nulls_count_as_absent() {
    let body = r#"{"name":"n","namespace":"s","context":1,"version":null,"initiator":null,"source_system":null,
        "reason":null,"tags":null,"priority":null,"correlation_id":null,"parent_correlation_id":null,
        "idempotency_key":null,"run_at":null,"requested_at":null,"options":null}"#;
    let request: TaskRequest = serde_json::from_str(body).unwrap();
    assert_eq!(
        serde_json::to_string(&request).unwrap(),
        r#"{"name":"n","namespace":"s","context":1}"#
    );
}

#[test]
fn keys_that_nobody_knows_wrong_types_and_repeated_keys_are_refused() {
    for extra in [
        r#""dry_run":true"#,
        r#""priority":5.0"#,
        r#""priority":"5""#,
        r#""priority":3000000000"#,
        r#""tags":"one""#,
        r#""correlation_id":"nonsense""#,
        r#""run_at":"2025-01-02T03:04:05""#,
        r#""run_at":"+200000-01-02T03:04:05Z""#,
        r#""run_at":"-20000-01-02T03:04:05Z""#,
        r#""name":"twice""#,
    ] {
        let body = format!(r#"{{"name":"n","namespace":"s","context":{{}},{extra}}}"#);
        assert!(
            serde_json::from_str::<TaskRequest>(&body).is_err(),
            "{extra}"
        );
    }
}

#[test]
fn every_manual_action_comes_back_as_it_was_sent() {
    for body in [
        r#"{"action_type":"reset_for_retry","reason":"r","reset_by":"me"}"#,
        r#"{"action_type":"resolve_manually","reason":"r","resolved_by":"me"}"#,
        r#"{"action_type":"complete_manually","completion_data":{"result":{"z":1.0,"a":1e999}},"reason":"r","completed_by":"me"}"#,
        r#"{"action_type":"complete_manually","completion_data":{"result":null,"metadata":[1]},"reason":"r","completed_by":"me"}"#,
    ] {
        let action: StepManualAction = serde_json::from_str(body).unwrap();
        assert_eq!(serde_json::to_string(&action).unwrap(), body);
    }
}

#[test]
fn a_manual_action_needs_its_own_keys_and_no_others() {
    for body in [
        r#"{"reason":"r","reset_by":"me"}"#,
        r#"{"action_type":"explode","reason":"r"}"#,
        r#"{"action_type":"reset_for_retry","reset_by":"me"}"#,
        r#"{"action_type":"reset_for_retry","reason":"r","resolved_by":"me"}"#,
        r#"{"action_type":"reset_for_retry","reason":"r","reset_by":"me","resolved_by":"me"}"#,
        r#"{"action_type":"resolve_manually","reason":"r","resolved_by":"me","force":true}"#,
        r#"{"action_type":"complete_manually","reason":"r","completed_by":"me"}"#,
        r#"{"action_type":"complete_manually","completion_data":{},"reason":"r","completed_by":"me"}"#,
    ] {
        assert!(
            serde_json::from_str::<StepManualAction>(body).is_err(),
            "{body}"
        );
    }
}

#[test]
fn the_smallest_task_of_the_reference_parses() {
    let body = r#"{"task_uuid":"0199c3e0-ccdb-7581-87ab-3f67daeaa4a5","name":"process_order","namespace":"shop","version":"1.0.0","status":"pending",
 "created_at":"2025-01-02T03:04:05.678Z","updated_at":"2025-01-02T03:04:05.678Z","context":{},"initiator":"unknown","source_system":"unknown",
 "reason":"unknown","correlation_id":"0199c3e0-ccdb-7581-87ab-3f67daeaa4a6","total_steps":1,"pending_steps":0,"in_progress_steps":0,
 "completed_steps":0,"failed_steps":0,"ready_steps":0,"execution_status":"processing","recommended_action":"wait_for_completion",
 "completion_percentage":0,"health_status":"healthy","steps":[]}"#;
    let task: TaskResponse = serde_json::from_str(body).unwrap();
    let again: serde_json::Value =
        serde_json::from_str(&serde_json::to_string(&task).unwrap()).unwrap();
    assert_eq!(again["created_at"], "2025-01-02T03:04:05.678000Z");
    assert!(again.get("completed_at").is_none());
}

#[test]
fn a_step_inside_a_task_writes_its_times_without_offset() {
    let body = r#"{"workflow_step_uuid":"0199c3e0-ccdb-7581-87ab-3f67daea0001","task_uuid":"0199c3e0-ccdb-7581-87ab-3f67daea0000",
        "named_step_uuid":"00000001-0000-8000-8000-000000000001","name":"a","current_state":"waiting_for_retry",
        "dependencies_satisfied":true,"retry_eligible":true,"ready_for_execution":false,"total_parents":0,"completed_parents":0,
        "attempts":1,"max_attempts":3,"last_failure_at":"2025-01-02T03:04:05.678901","next_retry_at":"2025-01-02T03:04:05","last_attempted_at":null}"#;
    let step: StepReadiness = serde_json::from_str(body).unwrap();
    let again = serde_json::to_value(&step).unwrap();
    assert_eq!(again["last_failure_at"], "2025-01-02T03:04:05.678901");
    assert_eq!(again["next_retry_at"], "2025-01-02T03:04:05.000000");
    assert!(again.get("last_attempted_at").is_none());
    let with_zone = body.replace("05.678901", "05.678901Z");
    assert!(serde_json::from_str::<StepReadiness>(&with_zone).is_err());
}
