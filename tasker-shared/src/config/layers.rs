//! The layers and what each says: files, variables, arguments, later ones over earlier ones.

use super::setting::Raw;
use super::{Fault, Source};
use crate::spelling;
use config::{FileFormat, Source as _, Value, ValueKind};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "config/tasker";
const DIRECTORY_VARIABLE: &str = "TASKER_CONFIG_DIR";
const ENVIRONMENT: &str = "development";
const ENVIRONMENT_VARIABLE: &str = "TASKER_ENV";
const PREFIX: &str = "TASKER__";
const URL_VARIABLE: &str = "DATABASE_URL";
const URL_KEY: &str = "database.url";

/// Everything a configuration is made from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Environment variables; others than the ones named here are passed over.
    pub variables: Vec<(OsString, OsString)>,
    /// What the command line says.
    pub arguments: Vec<Argument>,
    /// Where `config/tasker` is looked for unless `TASKER_CONFIG_DIR` says otherwise; the working directory if empty.
    pub working_directory: PathBuf,
}

/// A value from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// As in `--listen`.
    pub flag: String,
    /// As in `server.listen`.
    pub key: String,
    /// Written as in a variable: lists by commas.
    pub value: String,
}

impl Argument {
    #[must_use]
    pub fn new(flag: &str, key: &str, value: &str) -> Self {
        Self {
            flag: flag.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }
}

/// For each key the value that wins.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) values: BTreeMap<String, (Raw, Source)>,
    pub(super) environment: String,
    pub(super) directory: Option<PathBuf>,
}

impl Inputs {
    /// Variables and working directory of this process, without arguments.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            ..Self::default()
        }
    }

    /// The value of a variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<&OsString> {
        let found = self.variables.iter().find(|(variable, _)| variable == name);
        found
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    pub(super) fn merge(&self, known: &[String], faults: &mut Vec<Fault>) -> Layers {
        let mut merge = Merge {
            known,
            faults,
            layers: Layers::default(),
        };
        merge.environment(self.variable(ENVIRONMENT_VARIABLE));
        merge.directory(self);
        merge.files();
        merge.variables(&self.variables);
        if let Some(url) = self.variable(URL_VARIABLE) {
            merge.text(URL_KEY, url, Source::Variable(URL_VARIABLE.to_owned()));
        }
        for argument in &self.arguments {
            let source = Source::Argument(argument.flag.clone());
            merge.text(&argument.key, &argument.value.clone().into(), source);
        }
        merge.layers
    }
}

struct Merge<'a> {
    known: &'a [String],
    faults: &'a mut Vec<Fault>,
    layers: Layers,
}

impl Merge<'_> {
    fn fault(&mut self, source: Source, key: &str, message: impl Into<String>) {
        self.faults.push(Fault {
            source,
            key: key.to_owned(),
            message: message.into(),
        });
    }

    fn environment(&mut self, name: Option<&OsString>) {
        let name = name.map_or(ENVIRONMENT.into(), |name| name.to_string_lossy());
        // The name becomes part of a path.
        if name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            self.layers.environment = name.into_owned();
        } else {
            let source = Source::Variable(ENVIRONMENT_VARIABLE.to_owned());
            self.fault(
                source,
                "",
                format!("an environment is named by letters, digits, `-` and `_`, not {name:?}"),
            );
        }
    }

    fn directory(&mut self, inputs: &Inputs) {
        let given = inputs.variable(DIRECTORY_VARIABLE).map(PathBuf::from);
        let directory = inputs
            .working_directory
            .join(given.clone().unwrap_or_else(|| DIRECTORY.into()));
        if directory.is_dir() {
            self.layers.directory = Some(directory);
        } else if given.is_some() {
            let source = Source::Variable(DIRECTORY_VARIABLE.to_owned());
            self.fault(
                source,
                "",
                format!("there is no directory {}", directory.display()),
            );
        }
    }

    fn files(&mut self) {
        let Some(directory) = self.layers.directory.clone() else {
            return;
        };
        let environment = directory
            .join("environments")
            .join(&self.layers.environment);
        for layer in [directory.join("base"), environment] {
            for path in self.toml_files(&layer) {
                self.file(&path);
            }
        }
    }

    /// The `.toml` files of a directory by name; none where there is no such directory.
    fn toml_files(&mut self, directory: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.fault(
                    Source::File(directory.to_owned()),
                    "",
                    format!("cannot be read: {error}"),
                );
                return Vec::new();
            }
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "toml")
            })
            .collect();
        paths.sort();
        paths
    }

    fn file(&mut self, path: &Path) {
        let source = Source::File(path.to_owned());
        // Read here and not by the library, which takes a path without its extension for several files.
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.fault(source, "", format!("cannot be read: {error}")),
        };
        match config::File::from_str(&text, FileFormat::Toml).collect() {
            Ok(table) => {
                for (key, value) in table {
                    self.table(&key, value, &source);
                }
            }
            Err(error) => self.fault(
                source,
                "",
                format!("not valid TOML: {}", error.to_string().trim()),
            ),
        }
    }

    fn table(&mut self, key: &str, value: Value, source: &Source) {
        match value.kind {
            ValueKind::Table(table) if !self.is_known(key) => {
                for (inner, value) in table {
                    self.table(&format!("{key}.{inner}"), value, source);
                }
            }
            _ => self.put(key, Raw::Toml(value), source.clone()),
        }
    }

    fn variables(&mut self, variables: &[(OsString, OsString)]) {
        for (name, value) in variables {
            let path = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            // Deployments pass on variables they have no value for.
            let Some(path) = path.filter(|_| !value.is_empty()) else {
                continue;
            };
            let key = path.replace("__", ".").to_ascii_lowercase();
            let source = Source::Variable(name.to_string_lossy().into_owned());
            self.text(&key, value, source);
        }
    }

    fn text(&mut self, key: &str, value: &OsString, source: Source) {
        match value.to_str() {
            Some(text) => self.put(key, Raw::Text(text.to_owned()), source),
            None => self.fault(source, key, "is not valid UTF-8"),
        }
    }

    fn put(&mut self, key: &str, value: Raw, source: Source) {
        if self.is_known(key) {
            self.layers.values.insert(key.to_owned(), (value, source));
            return;
        }
        let inside = format!("{key}.");
        if self.known.iter().any(|known| known.starts_with(&inside)) {
            return self.fault(source, key, "is a section, not a key");
        }
        let hint = spelling::hint(key, self.known.iter().map(String::as_str));
        self.fault(source, key, format!("is not a known key{hint}"));
    }

    fn is_known(&self, key: &str) -> bool {
        self.known.iter().any(|known| known == key)
    }
}
