//! A task's graph with the states of its steps, for programs that draw it themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Steps and edges of a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskGraphResponse {
    pub task_uuid: Uuid,
    pub namespace: String,
    pub name: String,
    pub version: String,
    pub status: String,
    /// In the template's order.
    pub nodes: Vec<GraphNode>,
    pub edges: Vec<GraphEdge>,
}

/// A step.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GraphNode {
    pub step_uuid: Uuid,
    pub name: String,
    pub handler: String,
    pub current_state: String,
    pub attempts: i32,
    pub max_attempts: i32,
    /// How many steps the longest way to it has: 0 for a root.
    pub layer: u32,
}

/// An edge: `to` waits for `from`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GraphEdge {
    pub from: String,
    pub to: String,
}
