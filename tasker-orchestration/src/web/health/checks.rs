//! The checks.

use std::time::{Duration, Instant};

use tasker_shared::db::queue_views::COUNTED;
use tasker_shared::ids;
use tasker_shared::metrics::resilience::BreakerState;
use tasker_shared::resilience::channel::{self, Watch};
use tasker_shared::wire::{
    ChannelStatus, CircuitBreakerStatus, DetailedHealthResponse, HealthCheck, HealthChecks,
    HealthInfo, PoolDetail, PoolUtilization, ReadinessChecks, ReadinessResponse,
};

use super::super::App;
use super::OperationalState;

/// Connections of loops: submissions by SQL, results, shards, stale tasks, the pulse, and two for what is due.
const LOOPS: u32 = 7;
/// A pool or channel is degraded from this share of it in use.
const FULL_PERCENT: f64 = 90.0;
/// Results that wait longer than this for a server say that servers do not keep up.
const OLDEST_RESULT: Duration = Duration::from_secs(30);

/// What a check found.
#[derive(Debug)]
enum Found {
    Healthy(Option<String>),
    Degraded(String),
    Unhealthy(String),
    Unknown(String),
}

impl Found {
    fn check(self, began: Instant) -> HealthCheck {
        let (status, message) = match self {
            Found::Healthy(message) => ("healthy", message),
            Found::Degraded(message) => ("degraded", Some(message)),
            Found::Unhealthy(message) => ("unhealthy", Some(message)),
            Found::Unknown(message) => ("unknown", Some(message)),
        };
        HealthCheck {
            status: status.to_owned(),
            message,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl App {
    pub(super) async fn readiness(&self) -> ReadinessResponse {
        let checks = ReadinessChecks {
            web_database: self.web_database(),
            orchestration_database: self.orchestration_database(),
            circuit_breaker: self.circuit_breaker(),
            orchestration_system: self.orchestration_system(),
            command_processor: self.command_processor(),
        };
        // Loops that are late catch up; what is accepted meanwhile waits for them and is not lost.
        let is_ready = checks.web_database.status == "healthy"
            && checks.orchestration_system.status == "healthy"
            && self.breakers.web.is_closed();
        ReadinessResponse {
            status: if is_ready { "ready" } else { "not_ready" }.to_owned(),
            timestamp: self.clock.now(),
            checks,
            info: self.health_info(),
        }
    }

    pub(super) async fn detailed_health(&self) -> DetailedHealthResponse {
        let checks = HealthChecks {
            web_database: self.web_database(),
            orchestration_database: self.orchestration_database(),
            circuit_breaker: self.circuit_breaker(),
            orchestration_system: self.orchestration_system(),
            command_processor: self.command_processor(),
            pool_utilization: self.pool_utilization(),
            queue_depth: self.queue_depth().await,
            channel_saturation: self.channel_saturation(),
        };
        let HealthChecks {
            web_database,
            orchestration_database,
            circuit_breaker,
            orchestration_system,
            command_processor,
            pool_utilization,
            queue_depth,
            channel_saturation,
        } = &checks;
        let all = [
            web_database,
            orchestration_database,
            circuit_breaker,
            orchestration_system,
            command_processor,
            pool_utilization,
            queue_depth,
            channel_saturation,
        ];
        let is_healthy = all.iter().all(|check| check.status == "healthy");
        DetailedHealthResponse {
            status: if is_healthy { "healthy" } else { "degraded" }.to_owned(),
            timestamp: self.clock.now(),
            checks,
            info: self.health_info(),
            circuit_breakers: CircuitBreakerStatus::all(&self.breakers.all()),
            channels: ChannelStatus::all(),
        }
    }

    /// By the pulse, which asks all the time: however often the server is asked, the database is not.
    fn web_database(&self) -> HealthCheck {
        let began = Instant::now();
        let found = match self.answering.since() {
            Some(since) => {
                Found::Healthy(Some(format!("it has answered for {} s", since.as_secs())))
            }
            None => Found::Unhealthy("the database does not answer".to_owned()),
        };
        found.check(began)
    }

    /// The loops work on connections of their own: they come round only where the database answers them.
    fn orchestration_database(&self) -> HealthCheck {
        let began = Instant::now();
        let found = match (self.health.state(), self.health.late()) {
            (OperationalState::Startup, _) => {
                Found::Unknown("no pass has been completed yet".to_owned())
            }
            (_, Some(since)) => {
                Found::Unhealthy(format!("the last pass was {} s ago", since.as_secs()))
            }
            (_, None) => Found::Healthy(None),
        };
        found.check(began)
    }

    fn command_processor(&self) -> HealthCheck {
        let began = Instant::now();
        let owned = self.health.owned();
        let found = match self.health.late() {
            Some(since) => Found::Unhealthy(format!(
                "results have not been processed for {} s",
                since.as_secs()
            )),
            None => Found::Healthy(Some(format!(
                "{owned} of {} shards are this server's",
                ids::SHARDS
            ))),
        };
        found.check(began)
    }

    fn orchestration_system(&self) -> HealthCheck {
        let began = Instant::now();
        let state = self.health.state();
        let found = match state {
            OperationalState::Normal => Found::Healthy(None),
            _ => Found::Unhealthy(format!("the server is in {}", state.as_str())),
        };
        found.check(began)
    }

    /// By the worst breaker.
    fn circuit_breaker(&self) -> HealthCheck {
        let began = Instant::now();
        let views = self.breakers.all().map(|breaker| breaker.watch());
        let named = |state: BreakerState| {
            let of = views.iter().filter(|view| view.state == state);
            let names: Vec<&str> = of.map(|view| view.name.as_str()).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let found = if let Some(open) = named(BreakerState::Open) {
            Found::Unhealthy(format!("open: {open}"))
        } else if let Some(half_open) = named(BreakerState::HalfOpen) {
            Found::Degraded(format!("half-open: {half_open}"))
        } else {
            Found::Healthy(None)
        };
        found.check(began)
    }

    fn pool_utilization(&self) -> HealthCheck {
        let began = Instant::now();
        let pool = self.pool_detail();
        let message = format!(
            "{} of {} connections in use",
            pool.active_connections, pool.max_connections
        );
        let found = match pool.utilization_percent >= FULL_PERCENT {
            true => Found::Degraded(message),
            false => Found::Healthy(Some(message)),
        };
        found.check(began)
    }

    /// By the fullest channel.
    fn channel_saturation(&self) -> HealthCheck {
        let began = Instant::now();
        let channels = channel::all();
        let usages = channels.iter().map(Watch::usage);
        let found = match usages.max_by(|a, b| a.percent().total_cmp(&b.percent())) {
            Some(fullest) if fullest.percent() >= FULL_PERCENT => Found::Degraded(format!(
                "{} of {}: {} of {} taken",
                fullest.channel, fullest.component, fullest.used, fullest.capacity
            )),
            _ => Found::Healthy(None),
        };
        found.check(began)
    }

    async fn queue_depth(&self) -> HealthCheck {
        let began = Instant::now();
        let found = match self.depths.get().await {
            Some(depth) => {
                let count = |n: i64| {
                    if n >= COUNTED {
                        format!("{COUNTED} or more")
                    } else {
                        n.to_string()
                    }
                };
                let message = format!(
                    "ready {}, results {}, delayed {}",
                    count(depth.ready),
                    count(depth.results),
                    count(depth.delayed)
                );
                let waits = depth.oldest_result_at.map(|at| self.clock.now() - at);
                match waits.and_then(|waits| waits.to_std().ok()) {
                    Some(waits) if waits > OLDEST_RESULT => Found::Degraded(format!(
                        "{message}; the oldest result has waited {} s",
                        waits.as_secs()
                    )),
                    _ => Found::Healthy(Some(message)),
                }
            }
            None => Found::Unknown("the database does not answer".to_owned()),
        };
        found.check(began)
    }

    fn pool_detail(&self) -> PoolDetail {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        let max = self.loaded.config.database.max_connections;
        let active = self.pool.size().saturating_sub(idle);
        let acquires = self.pool.acquires();
        PoolDetail {
            active_connections: active,
            idle_connections: idle,
            max_connections: max,
            utilization_percent: percent(f64::from(active), f64::from(max)),
            total_acquires: acquires.total,
            slow_acquires: acquires.slow,
            acquire_errors: acquires.errors,
            average_acquire_time_ms: acquires.average().as_secs_f64() * 1e3,
            max_acquire_time_ms: acquires.longest.as_secs_f64() * 1e3,
        }
    }

    /// Connections that nothing else can use, and that nobody waits for: those of the loops, of stores and of listening.
    fn pinned(&self) -> u32 {
        let config = &self.loaded.config;
        config.server.submit_connections
            + LOOPS
            + u32::from(config.telemetry.enabled)
            + u32::from(config.database.listen)
    }

    fn health_info(&self) -> HealthInfo {
        let pinned = self.pinned();
        HealthInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: self.loaded.environment.clone(),
            operational_state: self.health.state().as_str().to_owned(),
            circuit_breaker_state: match self.breakers.web.state() {
                BreakerState::Closed => "Closed",
                BreakerState::HalfOpen => "HalfOpen",
                BreakerState::Open => "Open",
            }
            .to_owned(),
            web_database_pool_size: self.loaded.config.database.max_connections,
            orchestration_database_pool_size: pinned,
            pool_utilization: Some(PoolUtilization {
                tasker_pool: self.pool_detail(),
                pgmq_pool: PoolDetail {
                    active_connections: pinned,
                    max_connections: pinned,
                    utilization_percent: percent(f64::from(pinned), f64::from(pinned)),
                    ..PoolDetail::default()
                },
            }),
        }
    }
}

/// 0 of nothing.
fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        100.0 * part / whole
    } else {
        0.0
    }
}
