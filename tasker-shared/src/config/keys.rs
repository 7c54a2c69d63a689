//! Every key, once: its type, default, range and meaning. The structs, the reference and the base file come from here.

use super::auth::{Algorithms, HeaderField, Origins, PublicKey};
use super::setting::{NotEmpty, Reader, Rule, text_settings};
use super::{Entry, Fault, HttpUrl, SecretUrl};
use crate::spelling;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

const MIB: usize = 1024 * 1024;
/// A JSON text above this does not fit into one PostgreSQL message with room to spare.
const LARGEST_TEXT_BYTES: usize = 256 * MIB;
const HOUR_MS: u64 = 60 * 60 * 1_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Where a collector on this machine listens by convention.
pub(crate) const DEFAULT_OTLP_ENDPOINT: &str = "http://localhost:4317";

macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $name:ident at $path:literal {
            $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr, $rule:expr;)*
        }
        $(with { $($(#[doc = $inner_doc:literal])+ $inner:ident: $inner_type:ty;)+ })?
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $type,)*
            $($($(#[doc = $inner_doc])+ pub $inner: $inner_type,)+)?
        }

        impl $name {
            pub(super) fn read(reader: &mut Reader) -> Self {
                const DOC: &[&str] = &[$($section_doc),+];
                Self {
                    $($key: reader.read(concat!($path, ".", stringify!($key)), (DOC, &[$($doc),+]), $default, &$rule),)*
                    $($($inner: <$inner_type>::read(reader),)+)?
                }
            }
        }
    };
}

macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant),+ }

        impl $name {
            const CHOICES: &[(&'static str, Self)] = &[$(($text, Self::$variant)),+];

            /// As written in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        text_settings! {
            $name, "text", |text| chosen(text, $name::CHOICES), |value| value.as_str().to_owned();
        }

        impl Rule<$name> for Listed {
            fn check(&self, _: &$name) -> Result<(), String> {
                Ok(())
            }

            fn describe(&self) -> String {
                [$(concat!("`", $text, "`")),+].join(", ")
            }
        }
    };
}

mod dead_letters;
mod resilience;
mod retention;

pub use dead_letters::DeadLetters;
pub use resilience::{
    Backpressure, BreakerKeys, CircuitBreakers, CircuitBreakersFfiCompletion, CircuitBreakersPgmq,
    CircuitBreakersTaskReadiness, CircuitBreakersWeb,
};
pub use retention::Retention;

/// The type's own list says what is allowed.
struct Listed;

fn chosen<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text.trim()) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let hint = spelling::hint(text, names.iter().copied());
    Err(format!(
        "must be one of {}, not {text:?}{hint}",
        names.join(", ")
    ))
}

choice! {
    /// How log lines look.
    LogFormat { Auto = "auto", Text = "text", Json = "json" }
}

choice! {
    /// The least severity that is logged.
    LogLevel { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" }
}

choice! {
    /// How telemetry is exported.
    OtlpProtocol { Grpc = "grpc", Http = "http" }
}

choice! {
    /// What becomes of correlation ids in metrics.
    Correlation { Window = "window", Exemplar = "exemplar", Off = "off" }
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub database: Database,
    pub server: Server,
    pub worker: Worker,
    pub auth: Auth,
    pub limits: Limits,
    pub channels: Channels,
    pub circuit_breakers: CircuitBreakers,
    pub backpressure: Backpressure,
    pub dead_letters: DeadLetters,
    pub retention: Retention,
    pub logging: Logging,
    pub telemetry: Telemetry,
}

impl Config {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            database: Database::read(reader),
            server: Server::read(reader),
            worker: Worker::read(reader),
            auth: Auth::read(reader),
            limits: Limits::read(reader),
            channels: Channels::read(reader),
            circuit_breakers: CircuitBreakers::read(reader),
            backpressure: Backpressure::read(reader),
            dead_letters: DeadLetters::read(reader),
            retention: Retention::read(reader),
            logging: Logging::read(reader),
            telemetry: Telemetry::read(reader),
        }
    }
}

section! {
    /// The PostgreSQL that holds everything.
    Database at "database" {
        /// Where it is; `DATABASE_URL` wins over it. `tasker dev` brings its own.
        url: Option<SecretUrl> = None, ();
        /// The same database without a pooler between, for migrations and for listening; `url` where absent.
        direct_url: Option<SecretUrl> = None, ();
        /// Connections of the general pool of one process; the few pinned ones come on top.
        max_connections: u32 = 10, 1..=1_000;
        /// How long to wait for a connection before a request or a pass gives up.
        connect_timeout_ms: u64 = 5_000, 100..=HOUR_MS;
        /// `url` leads to a pooler that gives out connections for a transaction (PgBouncer 1.21 or newer).
        pooler: bool = false, ();
        /// Be woken by notifications. Without, everything works by polling alone.
        listen: bool = true, ();
    }
}

section! {
    /// The orchestration server.
    Server at "server" {
        /// The address and port of the REST API.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), ();
        /// A directory whose templates are stored at start.
        templates: Option<PathBuf> = None, ();
        /// Connections that store submitted tasks, each for all the requests that wait.
        submit_connections: u32 = 2, 1..=64;
        /// Results taken up by one pass at most.
        advance_batch: u32 = 1_000, 1..=2_000;
        /// The longest a pass waits where no notification comes.
        poll_interval_ms: u64 = 250, 10..=60_000;
        /// How long a server that is to stop says that it is not ready, and serves on, before it closes its port: longer than
        /// whoever sends requests there takes to notice.
        drain_delay_ms: u64 = 1_000, 0..=HOUR_MS;
        /// How long running requests and passes get to end when the server stops.
        shutdown_timeout_ms: u64 = 10_000, 0..=HOUR_MS;
        /// How long a request that cancels, retries or changes a step waits until that is done.
        control_timeout_ms: u64 = 10_000, 100..=HOUR_MS;
        /// How long any request may take.
        request_timeout_ms: u64 = 30_000, 100..=HOUR_MS;
        /// Requests served at once; more are answered 503.
        max_concurrent_requests: u32 = 1_024, 1..=1_000_000;
        /// Connections open at once; a few more get health and metrics only. Each needs an open file (`ulimit -n`).
        max_connections: u32 = 4_096, 1..=1_000_000;
        /// Let everybody in on an address that is not this machine's own, where `auth.enabled` is false.
        allow_anonymous: bool = false, ();
        /// The origins whose pages may use the API from a browser, such as `https://ops.example`; `*` for any, none where empty.
        cors_origins: Vec<String> = Vec::new(), Origins;
    }
}

section! {
    /// The worker.
    Worker at "worker" {
        /// The address and port of the worker's health and configuration.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)), ();
        /// Steps run at once.
        concurrency: u32 = 256, 1..=100_000;
        /// The namespaces whose steps are run; every namespace where empty.
        namespaces: Vec<String> = Vec::new(), ();
        /// The longest a claim waits where no notification comes.
        poll_interval_ms: u64 = 250, 10..=60_000;
        /// How often the worker renews its lease: at most half of `lease_ms`.
        heartbeat_interval_ms: u64 = 5_000, 100..=HOUR_MS;
        /// How long after its last renewal a worker's steps go back to others.
        lease_ms: u64 = 12_000, 1_000..=DAY_MS;
        /// How long running steps get to end when the worker stops; then they are handed back.
        drain_timeout_ms: u64 = 30_000, 0..=DAY_MS;
        /// The timeout of steps whose template gives none.
        default_timeout_seconds: u32 = 300, 1..=30 * 24 * 60 * 60;
        /// How long any request to the worker may take.
        request_timeout_ms: u64 = 10_000, 100..=HOUR_MS;
        /// Requests served at once; more are answered 503.
        max_concurrent_requests: u32 = 64, 1..=1_000_000;
        /// Connections open at once; a few more get health and metrics only.
        max_connections: u32 = 256, 1..=1_000_000;
        /// Let everybody in on an address that is not this machine's own, where `auth.enabled` is false.
        allow_anonymous: bool = false, ();
    }
    with {
        /// Which built-in handlers there are.
        handlers: WorkerHandlers;
        /// When steps whose target is in trouble are held back.
        circuits: WorkerCircuits;
    }
}

section! {
    /// The circuits of what steps talk to: the host of an `http` step, or the name in `initialization.circuit`. While one
    /// is open its steps wait, without spending attempts, and one at a time goes out to see whether the target answers.
    WorkerCircuits at "worker.circuits" {
        /// Whether there are any.
        enabled: bool = true, ();
        /// Failed attempts in a row, at one worker, that open a circuit.
        failure_threshold: u32 = 5, 1..=10_000;
        /// Answers in a row that close it.
        success_threshold: u32 = 1, 1..=1_000;
        /// How long the first one waits that goes out; the next wait twice as long each.
        timeout_seconds: u32 = 5, 1..=24 * 60 * 60;
        /// The longest of these waits.
        max_timeout_seconds: u32 = 60, 1..=24 * 60 * 60;
        /// How often the same step may go out and fail without spending an attempt. After that it does, since it may be the trouble itself.
        free_probes: u32 = 200, 0..=1_000_000;
    }
}

section! {
    /// Which built-in handlers a worker has.
    WorkerHandlers at "worker.handlers" {
        /// Whether steps may run programs (`command`); where absent, only while `worker.listen` is a loopback address.
        command: Option<bool> = None, ();
    }
}

section! {
    /// Who may use the API of servers and workers. Off, everybody may do everything who can reach the address.
    Auth at "auth" {
        /// Ask callers who they are. Health, metrics and the description of the API stay open.
        enabled: bool = false, ();
        /// Accept API keys, which `tasker key create` makes.
        api_keys: bool = true, ();
        /// The header that keys come in; as bearer tokens they are accepted too.
        api_key_header: String = "X-API-Key".to_owned(), HeaderField;
        /// The public key (PEM: RSA, EC or Ed25519) that tokens (JWT) are verified with.
        jwt_public_key: Option<PublicKey> = None, ();
        /// A file with that key, read at start.
        jwt_public_key_file: Option<PathBuf> = None, ();
        /// Where the keys of tokens are published (JWKS), instead of one key.
        jwks_url: Option<HttpUrl> = None, ();
        /// How long published keys are used before they are fetched again; one that is missing is looked for at once.
        jwks_refresh_seconds: u64 = 300, 10..=86_400;
        /// The `iss` of tokens.
        jwt_issuer: String = "tasker-core".to_owned(), NotEmpty;
        /// The `aud` of tokens, or one of them.
        jwt_audience: String = "tasker-api".to_owned(), NotEmpty;
        /// By how much the clock of whoever makes tokens may differ.
        jwt_leeway_seconds: u32 = 30, 0..=600;
        /// What tokens may be signed by.
        allowed_algorithms: Vec<String> = vec!["RS256".to_owned()], Algorithms;
        /// Refuse tokens that name a permission which is not known; otherwise it permits nothing.
        strict_validation: bool = false, ();
        /// Refuse tokens that name no `worker_namespaces`; otherwise they reach every namespace, as those of the published
        /// tool do, which never name any.
        require_namespaces: bool = false, ();
    }
}

section! {
    /// What is refused for its size. Nothing is ever cut.
    Limits at "limits" {
        /// The body of one request.
        max_body_bytes: usize = 16 * MIB, 1_024..=LARGEST_TEXT_BYTES;
        /// The context of one task.
        max_context_bytes: usize = MIB, 2..=LARGEST_TEXT_BYTES;
        /// The result of one step.
        max_result_bytes: usize = MIB, 2..=LARGEST_TEXT_BYTES;
        /// Context and results of parents together, as one step gets them.
        max_input_bytes: usize = 16 * MIB, 1_024..=LARGEST_TEXT_BYTES;
        /// The steps of one template.
        max_steps_per_task: usize = 10_002, 1..=1_000_000;
        /// The tasks of one batch submission.
        max_batch_tasks: usize = 1_000, 1..=10_000;
        /// How often a step may lose its worker before it is given up.
        max_lost_leases: u32 = 3, 1..=1_000;
    }
}

section! {
    /// How much may wait inside a process. When a channel is full its sender waits or is refused; nothing is dropped.
    Channels at "channels" {
        /// Submissions that wait to be stored.
        submissions: usize = 4_096, 1..=1_000_000;
        /// Results that wait to be sent by a worker.
        results: usize = 4_096, 1..=1_000_000;
        /// Completions of handlers outside the process that wait to be taken up by a worker.
        completions: usize = 1_024, 1..=1_000_000;
    }
}

section! {
    /// What a process says about itself, on standard error.
    Logging at "logging" {
        /// `auto` is text on a terminal and JSON elsewhere.
        format: LogFormat = LogFormat::Auto, Listed;
        /// The least severity; `RUST_LOG` wins over it.
        level: LogLevel = LogLevel::Info, Listed;
    }
}

section! {
    /// Metrics and traces, and their export.
    Telemetry at "telemetry" {
        /// Record metrics and traces; without, nothing is recorded and `/metrics` is empty.
        enabled: bool = true, ();
        /// The name under which the process is known to whoever receives its telemetry.
        service_name: String = "tasker-core-dev".to_owned(), NotEmpty;
        /// The share of tasks whose spans are exported; those of a request whose `traceparent` is sampled always are.
        sample_rate: f64 = 1.0, 0.0..=1.0;
    }
    with {
        /// The export.
        opentelemetry: TelemetryOpentelemetry;
        /// What metrics show of correlation ids.
        metrics: TelemetryMetrics;
    }
}

section! {
    /// Export by OTLP. `OTEL_EXPORTER_OTLP_HEADERS` (`name=value,...`) adds headers to it.
    TelemetryOpentelemetry at "telemetry.opentelemetry" {
        /// Export; without, `/metrics` still serves.
        enabled: bool = true, ();
        /// Where to; for `http` the base that `/v1/metrics`, `/v1/traces` and `/v1/logs` are appended to.
        endpoint: HttpUrl = HttpUrl::fixed(DEFAULT_OTLP_ENDPOINT), ();
        /// `http` sends protobuf too, usually to port 4318.
        protocol: OtlpProtocol = OtlpProtocol::Grpc, Listed;
        /// How often metrics are exported.
        export_interval_seconds: u64 = 60, 1..=3_600;
        /// How long one export may take.
        timeout_ms: u64 = 10_000, 100..=600_000;
        /// Spans, and log lines, that wait to be exported; more are given up, and counted.
        queue: usize = 4_096, 1..=1_000_000;
        /// Export log lines too.
        logs: bool = false, ();
    }
}

section! {
    /// The `correlation_id` of metrics.
    TelemetryMetrics at "telemetry.metrics" {
        /// `window` gives some ids series of their own for a while, `exemplar` attaches ids to the series of all, `off` does neither.
        correlation: Correlation = Correlation::Window, Listed;
        /// An id's series are kept this long after its last record.
        correlation_window_seconds: u64 = 600, 1..=86_400;
        /// Ids with series of their own at once; others count under `correlation_id=""`.
        correlation_limit: usize = 500, 0..=100_000;
    }
}

/// The dotted names of all keys.
pub(super) fn known() -> Vec<String> {
    let mut reader = Reader::default();
    Config::read(&mut reader);
    reader
        .facts
        .into_iter()
        .map(|fact| fact.entry.key)
        .collect()
}

/// Values that are right by themselves and wrong together.
pub(super) fn contradictions(config: &Config, entries: &[Entry]) -> Vec<Fault> {
    let (server, worker, limits) = (&config.server, &config.worker, &config.limits);
    let otlp = &config.telemetry.opentelemetry;
    let auth = &config.auth;
    let token_keys = [
        auth.jwt_public_key.is_some(),
        auth.jwt_public_key_file.is_some(),
        auth.jwks_url.is_some(),
    ];
    let token_keys = token_keys.into_iter().filter(|is_set| *is_set).count();
    let is_direct = !config.database.pooler || config.database.direct_url.is_some();
    let rules = [
        (
            is_direct || !config.database.listen,
            "database.listen",
            "needs a connection without a pooler between: set `database.direct_url`, or `database.listen` to false",
        ),
        (
            is_direct || config.retention.keep_days.is_none(),
            "retention.keep_days",
            "needs a connection without a pooler between: set `database.direct_url`",
        ),
        (
            token_keys <= 1,
            "auth.enabled",
            "needs one way to verify tokens: set one of `auth.jwt_public_key`, `auth.jwt_public_key_file` and `auth.jwks_url`",
        ),
        (
            !auth.enabled || auth.api_keys || token_keys > 0,
            "auth.enabled",
            "would let nobody in: set `auth.api_keys`, `auth.jwt_public_key`, `auth.jwt_public_key_file` or `auth.jwks_url`",
        ),
        (
            worker.heartbeat_interval_ms.saturating_mul(2) <= worker.lease_ms,
            "worker.heartbeat_interval_ms",
            "must be at most half of `worker.lease_ms`, or one late heartbeat loses the lease",
        ),
        (
            server.control_timeout_ms <= server.request_timeout_ms,
            "server.control_timeout_ms",
            "must not be above `server.request_timeout_ms`",
        ),
        (
            limits.max_context_bytes <= limits.max_body_bytes,
            "limits.max_context_bytes",
            "must not be above `limits.max_body_bytes`, which is all that can arrive",
        ),
        (
            limits.max_result_bytes <= limits.max_input_bytes,
            "limits.max_result_bytes",
            "must not be above `limits.max_input_bytes`, or no step could take such a result",
        ),
        (
            limits.max_context_bytes <= limits.max_input_bytes,
            "limits.max_context_bytes",
            "must not be above `limits.max_input_bytes`, or no step could take such a context",
        ),
        (
            otlp.protocol == OtlpProtocol::Grpc || otlp.endpoint.as_str() != DEFAULT_OTLP_ENDPOINT,
            "telemetry.opentelemetry.endpoint",
            "must be set where `telemetry.opentelemetry.protocol` is http: its default is the port of grpc; http usually has 4318",
        ),
    ];
    let broken = rules
        .into_iter()
        .filter(|(holds, ..)| !holds)
        .filter_map(|(_, key, message)| {
            let entry = entries.iter().find(|entry| entry.key == key)?;
            Some(Fault {
                source: entry.source.clone(),
                key: key.to_owned(),
                message: message.to_owned(),
            })
        });
    broken.collect()
}
