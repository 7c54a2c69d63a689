//! Templates as the server shows and takes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::RawJson;

/// Every template, or those of one namespace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateListResponse {
    pub namespaces: Vec<NamespaceSummary>,
    pub templates: Vec<TemplateSummary>,
    /// Before the filter.
    pub total_count: u64,
}

/// A namespace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NamespaceSummary {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub template_count: u64,
}

/// A template in a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateSummary {
    pub name: String,
    pub namespace: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub step_count: u64,
}

/// A template.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateDetail {
    pub name: String,
    pub namespace: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The whole definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub configuration: Option<RawJson>,
    pub steps: Vec<TemplateStepDetail>,
}

/// A step of a template.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateStepDetail {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub default_retryable: bool,
    pub default_max_attempts: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_schema: Option<serde_json::Value>,
    /// The callable.
    #[serde(default)]
    pub handler: String,
    #[serde(default)]
    pub dependencies: Vec<String>,
}

/// The answer to a template that was sent: 201 where it is new, 200 where the same was there.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateApplied {
    pub namespace: String,
    pub name: String,
    pub version: String,
    pub created: bool,
}

/// One fault of a template, inside the details of a 400.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateFault {
    pub line: u64,
    pub column: u64,
    pub message: String,
}
