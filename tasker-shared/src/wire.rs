//! The bodies of the REST API, in the wire format of the published client library: what a server and a worker
//! send and accept. A file a resource. The format's oddities (times without zone in some places, two names for a
//! step's id) live here and nowhere else. [`status`] holds what is derived from a task's step counts.

mod analytics;
mod circuit;
mod config;
mod dlq;
mod dlq_request;
mod error;
mod event;
mod graph;
mod health;
mod json;
mod log_level;
mod request;
pub mod status;
mod step;
mod summary;
mod task;
mod template;
pub mod time;
mod worker_health;
mod worker_metrics;
mod worker_template;

pub use analytics::{
    BottleneckAnalysis, PerformanceMetrics, ResourceUtilization, SlowStep, SlowTask,
    SystemHealthCounts,
};
pub use circuit::{CircuitClosed, CircuitResponse};
pub use config::{
    AuthConfig, CircuitBreakerConfig, ConfigEntry, ConfigMetadata, DatabasePoolConfig,
    MessagingConfig, OrchestrationConfigResponse, WorkerConfigResponse,
};
pub use dlq::{
    DlqEntry, DlqInvestigationQueueEntry, DlqReason, DlqResolution, DlqStats, DlqStep,
    StalenessHealth, StalenessMonitoring,
};
pub use dlq_request::{
    DlqAddRequest, DlqInvestigationUpdate, DlqRefused, DlqRequeueFilter, DlqRequeueRequest,
    DlqRequeued, DlqRequeuedMany, DlqUpdated,
};
pub use error::{ErrorBody, ErrorResponse, WorkerErrorResponse};
pub use event::{StepProgress, TaskProgress};
pub use graph::{GraphEdge, GraphNode, TaskGraphResponse};
pub use health::{
    ChannelStatus, CircuitBreakerStatus, DetailedHealthResponse, HealthCheck, HealthChecks,
    HealthInfo, HealthResponse, PoolDetail, PoolUtilization, ReadinessChecks, ReadinessResponse,
};
pub use json::RawJson;
pub use log_level::LogLevel;
pub use request::{TaskBatchItem, TaskBatchRequest, TaskBatchResponse, TaskRequest};
pub use step::{
    BlockedBy, BlockedKind, ManualCompletion, StepAuditResponse, StepErrorDetail, StepManualAction,
    StepResponse,
};
pub use summary::{
    SummaryDlq, SummaryLinks, SummaryStep, SummaryTask, SummaryTemplate, SummaryTemplateStep,
    TaskSummaryResponse,
};
pub use task::{Pagination, StepReadiness, TaskListResponse, TaskResponse};
pub use template::{
    NamespaceSummary, TemplateApplied, TemplateDetail, TemplateFault, TemplateListResponse,
    TemplateStepDetail, TemplateSummary,
};
pub use worker_health::{
    DistributedCacheInfo, WorkerBasicHealth, WorkerCheck, WorkerDetailedChecks,
    WorkerDetailedHealth, WorkerReadiness, WorkerReadinessChecks, WorkerSystemInfo,
};
pub use worker_metrics::{WorkerMetric, WorkerMetrics};
pub use worker_template::{
    CacheStats, HandlerMetadata, ResolvedTemplate, TemplateValidation, WireBatchConfig,
    WireDomainEvent, WireEnvironment, WireHandler, WireHandlerOverride, WireLifecycle,
    WireMetadata, WirePublishedEvent, WireRetry, WireStep, WireStepOverride,
    WireSystemDependencies, WireTemplate, WorkerTemplate, WorkerTemplateList,
};

#[cfg(test)]
mod tests;
