//! What a request asks for, as a digest: two requests with one idempotency key must have the same.

use sha2::{Digest, Sha256};
use tasker_shared::wire::TaskRequest;

/// The digest of everything but the ids of the call itself. `tasker.submit_task` computes the same in SQL.
pub fn digest(request: &TaskRequest, context: &str, options: Option<&str>) -> Vec<u8> {
    let priority = request.priority.unwrap_or(0).to_string();
    let run_at = request.run_at.map(|at| at.timestamp_millis().to_string());
    let tags = request.tags.join("\u{1e}");
    let parts = [
        request.version.as_deref().unwrap_or_default(),
        context,
        &priority,
        run_at.as_deref().unwrap_or_default(),
        &tags,
        request.initiator.as_deref().unwrap_or_default(),
        request.source_system.as_deref().unwrap_or_default(),
        request.reason.as_deref().unwrap_or_default(),
        options.unwrap_or_default(),
    ];
    Sha256::digest(parts.join("\u{1f}")).to_vec()
}
