//! Configuration by layers: the defaults in the program, the files of `base/`, those of `environments/<TASKER_ENV>/`,
//! `TASKER__SECTION__KEY` variables and `DATABASE_URL`, and last what the command line says. Every key with its
//! default, range and meaning stands once, in `keys`.

mod auth;
mod keys;
mod layers;
mod mask;
mod reference;
mod setting;
mod url;

pub use auth::PublicKey;
pub(crate) use keys::DEFAULT_OTLP_ENDPOINT;
pub use keys::{
    Auth, Backpressure, BreakerKeys, Channels, CircuitBreakers, CircuitBreakersFfiCompletion,
    CircuitBreakersPgmq, CircuitBreakersTaskReadiness, CircuitBreakersWeb, Config, Correlation,
    Database, DeadLetters, Limits, LogFormat, LogLevel, Logging, OtlpProtocol, Retention, Server,
    Telemetry, TelemetryMetrics, TelemetryOpentelemetry, Worker, WorkerCircuits, WorkerHandlers,
};
pub use layers::{Argument, Inputs};
pub use reference::{base_file, reference};
pub use url::{HttpUrl, SecretUrl};

use setting::Reader;
use std::fmt;
use std::path::PathBuf;

/// The configuration in force, and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// Which files of `environments/` were read: `TASKER_ENV`, or `development`.
    pub environment: String,
    /// The directory the files were read from, where there is one.
    pub directory: Option<PathBuf>,
    entries: Vec<Entry>,
}

/// One key of the configuration in force.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Entry {
    /// Dotted, as in `server.listen`.
    pub key: String,
    /// Passwords masked; null where the key has no value.
    pub value: serde_json::Value,
    pub source: Source,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The program.
    Default,
    File(PathBuf),
    /// An environment variable, by name.
    Variable(String),
    /// A flag of the command line.
    Argument(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) | Self::Argument(name) => f.write_str(name),
        }
    }
}

impl serde::Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub source: Source,
    /// Empty where the fault is of a whole file.
    pub key: String,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.source, self.message);
        }
        write!(f, "{}: `{}` {}", self.source, self.key, self.message)
    }
}

/// Everything wrong with the configuration, one fault a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Error(pub Vec<Fault>);

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl Config {
    /// The configuration of this process: files, variables and nothing from the command line.
    ///
    /// # Errors
    /// Every unknown key, wrong type, value out of range and contradiction found, with file or variable and key.
    pub fn load() -> Result<Loaded, Error> {
        Self::load_with(&[])
    }

    /// [`Config::load`] with what the command line says, which wins over everything.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(arguments: &[Argument]) -> Result<Loaded, Error> {
        let mut inputs = Inputs::of_process();
        inputs.arguments = arguments.to_vec();
        Self::load_from(&inputs)
    }

    /// The configuration made of the given inputs alone.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(inputs: &Inputs) -> Result<Loaded, Error> {
        let mut faults = Vec::new();
        let layers = inputs.merge(&keys::known(), &mut faults);
        let mut reader = Reader::new(layers.values);
        let config = Self::read(&mut reader);
        let entries: Vec<Entry> = reader.facts.into_iter().map(|fact| fact.entry).collect();
        faults.append(&mut reader.faults);
        // Contradictions between values that are wrong by themselves would say nothing new.
        if faults.is_empty() {
            faults = keys::contradictions(&config, &entries);
        }
        if !faults.is_empty() {
            faults.sort_by_cached_key(ToString::to_string);
            return Err(Error(faults));
        }
        Ok(Loaded {
            config,
            environment: layers.environment,
            directory: layers.directory,
            entries,
        })
    }
}

impl Default for Config {
    /// The defaults in the program, whatever files and variables there are.
    fn default() -> Self {
        Self::read(&mut Reader::default())
    }
}

impl Loaded {
    /// Every key in the order of the reference, passwords masked.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The values in force as one object of sections, passwords masked.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut root = serde_json::Value::Object(serde_json::Map::new());
        for entry in &self.entries {
            // Indexing an object by a key that it lacks makes an object there.
            let place = entry
                .key
                .split('.')
                .fold(&mut root, |section, part| &mut section[part]);
            *place = entry.value.clone();
        }
        root
    }
}

#[cfg(test)]
mod tests;
