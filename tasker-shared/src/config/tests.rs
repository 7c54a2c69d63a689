#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use serde_json::json;
use std::fs;
use std::path::Path;

/// A directory with a `config/tasker` of the given files, and the variables of the process to be.
struct Setup {
    directory: tempfile::TempDir,
    inputs: Inputs,
}

impl Setup {
    fn new(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join("config/tasker").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let inputs = Inputs {
            variables: variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            arguments: Vec::new(),
            working_directory: directory.path().to_owned(),
        };
        Self { directory, inputs }
    }

    fn load(&self) -> Loaded {
        Config::load_from(&self.inputs).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The faults, the temporary directory left out of them.
    fn faults(&self) -> Vec<String> {
        let error = Config::load_from(&self.inputs).expect_err("faults");
        let prefix = format!("{}/", self.directory.path().display());
        error
            .0
            .iter()
            .map(|fault| fault.to_string().replace(&prefix, ""))
            .collect()
    }

    fn source(&self, loaded: &Loaded, key: &str) -> String {
        let prefix = format!("{}/", self.directory.path().display());
        entry(loaded, key).source.to_string().replace(&prefix, "")
    }
}

fn entry<'a>(loaded: &'a Loaded, key: &str) -> &'a Entry {
    loaded
        .entries()
        .iter()
        .find(|entry| entry.key == key)
        .expect("a known key")
}

#[test]
fn with_no_file_and_no_variable_everything_has_its_default() {
    let loaded = Setup::new(&[], &[]).load();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.environment, "development");
    assert_eq!(loaded.directory, None);
    assert!(
        loaded
            .entries()
            .iter()
            .all(|entry| entry.source == Source::Default)
    );
    assert_eq!(loaded.config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(loaded.config.worker.concurrency, 256);
    assert_eq!(loaded.config.limits.max_steps_per_task, 10_002);
    assert_eq!(loaded.config.worker.handlers.command, None);
}

#[test]
fn each_layer_wins_over_the_one_before_it_key_by_key() {
    let base = "[worker]\nconcurrency = 1\npoll_interval_ms = 11\nlease_ms = 60000\n[server]\nlisten = '127.0.0.1:1'\n";
    let setup = Setup::new(
        &[
            ("base/a.toml", base),
            ("base/b.toml", "worker.concurrency = 2\n"),
            ("base/notes.txt", "not read"),
            (
                "environments/test/worker.toml",
                "[worker]\npoll_interval_ms = 33\nnamespaces = ['a', 'b']\n",
            ),
            (
                "environments/production/worker.toml",
                "[worker]\nconcurrency = 999\n",
            ),
        ],
        &[
            ("TASKER_ENV", "test"),
            ("TASKER__SERVER__LISTEN", "127.0.0.1:3"),
            ("TASKER__WORKER__HANDLERS__COMMAND", "true"),
            ("TASKER__DATABASE__URL", "postgres://loser@h/d"),
            ("DATABASE_URL", "postgres://u:pw@h/d"),
            ("TASKER_URL", "http://other"),
        ],
    );
    let loaded = setup.load();
    assert_eq!(loaded.config.worker.concurrency, 2);
    assert_eq!(loaded.config.worker.poll_interval_ms, 33);
    assert_eq!(loaded.config.worker.lease_ms, 60_000);
    assert_eq!(loaded.config.worker.namespaces, ["a", "b"]);
    assert_eq!(loaded.config.worker.handlers.command, Some(true));
    assert_eq!(loaded.config.server.listen.to_string(), "127.0.0.1:3");
    assert_eq!(
        loaded.config.database.url.as_ref().unwrap().expose(),
        "postgres://u:pw@h/d"
    );
    let sources = [
        ("worker.concurrency", "config/tasker/base/b.toml"),
        ("worker.lease_ms", "config/tasker/base/a.toml"),
        (
            "worker.poll_interval_ms",
            "config/tasker/environments/test/worker.toml",
        ),
        ("server.listen", "TASKER__SERVER__LISTEN"),
        ("database.url", "DATABASE_URL"),
        ("limits.max_body_bytes", "default"),
    ];
    for (key, source) in sources {
        assert_eq!(setup.source(&loaded, key), source, "{key}");
    }
}

#[test]
fn the_command_line_wins_over_everything() {
    let mut setup = Setup::new(
        &[],
        &[
            ("TASKER__WORKER__CONCURRENCY", "5"),
            ("DATABASE_URL", "postgres://a/b"),
        ],
    );
    setup.inputs.arguments = vec![
        Argument::new("--concurrency", "worker.concurrency", "7"),
        Argument::new("--namespace", "worker.namespaces", "a,b"),
        Argument::new("--database-url", "database.url", "postgres://c/d"),
    ];
    let loaded = setup.load();
    assert_eq!(loaded.config.worker.concurrency, 7);
    assert_eq!(loaded.config.worker.namespaces, ["a", "b"]);
    assert_eq!(
        entry(&loaded, "database.url").value,
        json!("postgres://c/d")
    );
    assert_eq!(setup.source(&loaded, "worker.concurrency"), "--concurrency");
    setup.inputs.arguments = vec![Argument::new("--concurrency", "worker.concurrency", "0")];
    assert_eq!(
        setup.faults(),
        ["--concurrency: `worker.concurrency` must be from 1 to 100000, not 0"]
    );
}

#[test]
fn everything_wrong_is_reported_at_once_with_its_file_or_variable_and_key() {
    let base = "
[server]
lissten = '127.0.0.1:1'
listen = 'localhost'
advance_batch = 5000
max_concurrent_requests = '7'
[logging]
level = 'inf'
[nonsense]
a = 1
";
    let setup = Setup::new(
        &[
            ("base/tasker.toml", base),
            ("base/broken.toml", "a = = 1"),
            (
                "base/worker.toml",
                "worker = 5\nchannels.results = -1\nlimits.max_body_bytes.x = 1",
            ),
        ],
        &[
            ("TASKER__WORKER__CONCURENCY", "1"),
            ("TASKER__WORKER__LEASE_MS", "soon"),
            ("TASKER__DATABASE__LISTEN", "maybe"),
            ("DATABASE_URL", "mysql://u:pw@h/d"),
        ],
    );
    let (broken, mut faults): (Vec<_>, Vec<_>) = setup
        .faults()
        .into_iter()
        .partition(|fault| fault.contains("broken.toml"));
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(
        broken[0].starts_with("config/tasker/base/broken.toml: not valid TOML: "),
        "{broken:?}"
    );
    let mut expected = [
        "config/tasker/base/tasker.toml: `server.lissten` is not a known key (did you mean `server.listen`?)",
        "config/tasker/base/tasker.toml: `nonsense.a` is not a known key",
        "config/tasker/base/worker.toml: `worker` is a section, not a key",
        "config/tasker/base/worker.toml: `limits.max_body_bytes` must be a whole number, not a table",
        "TASKER__WORKER__CONCURENCY: `worker.concurency` is not a known key (did you mean `worker.concurrency`?)",
        "DATABASE_URL: `database.url` must begin with postgres:// or postgresql://",
        "TASKER__DATABASE__LISTEN: `database.listen` must be true or false, not \"maybe\"",
        "config/tasker/base/tasker.toml: `server.listen` must be an address and port such as 127.0.0.1:8080, not \"localhost\"",
        "config/tasker/base/tasker.toml: `server.advance_batch` must be from 1 to 2000, not 5000",
        "config/tasker/base/tasker.toml: `server.max_concurrent_requests` must be a whole number, not \"7\"",
        "TASKER__WORKER__LEASE_MS: `worker.lease_ms` must be a whole number from 0 to 18446744073709551615, not \"soon\"",
        "config/tasker/base/worker.toml: `channels.results` must be from 0 to 18446744073709551615, not -1",
        "config/tasker/base/tasker.toml: `logging.level` must be one of error, warn, info, debug, trace, not \"inf\" (did you mean `info`?)",
    ];
    expected.sort_unstable();
    faults.sort_unstable();
    assert_eq!(faults, expected);
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let cases = [
        (
            ("TASKER__WORKER__HEARTBEAT_INTERVAL_MS", "6001"),
            "TASKER__WORKER__HEARTBEAT_INTERVAL_MS: `worker.heartbeat_interval_ms` must be at most half of `worker.lease_ms`, or one late heartbeat loses the lease",
        ),
        (
            ("TASKER__WORKER__LEASE_MS", "9999"),
            "default: `worker.heartbeat_interval_ms` must be at most half of `worker.lease_ms`, or one late heartbeat loses the lease",
        ),
        (
            ("TASKER__SERVER__CONTROL_TIMEOUT_MS", "30001"),
            "TASKER__SERVER__CONTROL_TIMEOUT_MS: `server.control_timeout_ms` must not be above `server.request_timeout_ms`",
        ),
        (
            ("TASKER__LIMITS__MAX_RESULT_BYTES", "16777217"),
            "TASKER__LIMITS__MAX_RESULT_BYTES: `limits.max_result_bytes` must not be above `limits.max_input_bytes`, or no step could take such a result",
        ),
        (
            ("TASKER__TELEMETRY__OPENTELEMETRY__PROTOCOL", "http"),
            "default: `telemetry.opentelemetry.endpoint` must be set where `telemetry.opentelemetry.protocol` is http: its default is the port of grpc; http usually has 4318",
        ),
    ];
    for (variable, expected) in cases {
        assert_eq!(Setup::new(&[], &[variable]).faults(), [expected]);
    }
    let setup = Setup::new(&[], &[("TASKER__WORKER__HEARTBEAT_INTERVAL_MS", "6000")]);
    assert_eq!(setup.load().config.worker.heartbeat_interval_ms, 6_000);
}

#[test]
fn what_telemetry_needs_is_checked() {
    let cases = [
        ("SAMPLE_RATE", "1.5", "must be from 0 to 1, not 1.5"),
        ("SAMPLE_RATE", "NaN", "must be from 0 to 1, not NaN"),
        ("SAMPLE_RATE", "half", "must be a number, not \"half\""),
        ("SERVICE_NAME", " ", "must not be empty"),
        (
            "OPENTELEMETRY__ENDPOINT",
            "localhost:4317",
            "must begin with http:// or https://",
        ),
        (
            "OPENTELEMETRY__PROTOCOL",
            "htp",
            "must be one of grpc, http, not \"htp\" (did you mean `http`?)",
        ),
        (
            "METRICS__CORRELATION",
            "all",
            "must be one of window, exemplar, off, not \"all\"",
        ),
    ];
    for (key, value, expected) in cases {
        let variable = format!("TASKER__TELEMETRY__{key}");
        let dotted = key.to_ascii_lowercase().replace("__", ".");
        assert_eq!(
            Setup::new(&[], &[(&variable, value)]).faults(),
            [format!("{variable}: `telemetry.{dotted}` {expected}")]
        );
    }
    let file = "[telemetry]\nsample_rate = 0\nopentelemetry.protocol = 'http'\nopentelemetry.endpoint = 'https://otlp.example/a'\n";
    let telemetry = Setup::new(&[("base/a.toml", file)], &[])
        .load()
        .config
        .telemetry;
    assert_eq!(telemetry.sample_rate, 0.0);
    assert_eq!(
        telemetry.opentelemetry.endpoint.as_str(),
        "https://otlp.example/a"
    );
    let error = Setup::new(&[("base/a.toml", "telemetry.sample_rate = true")], &[]).faults();
    assert_eq!(
        error,
        ["config/tasker/base/a.toml: `telemetry.sample_rate` must be a number, not true"]
    );
}

#[test]
fn the_directory_and_the_environment_are_checked() {
    let setup = Setup::new(
        &[],
        &[
            ("TASKER_CONFIG_DIR", "nowhere"),
            ("TASKER_ENV", "../secrets"),
        ],
    );
    assert_eq!(
        setup.faults(),
        [
            "TASKER_CONFIG_DIR: there is no directory nowhere",
            "TASKER_ENV: an environment is named by letters, digits, `-` and `_`, not \"../secrets\"",
        ]
    );
    let setup = Setup::new(
        &[("base/a.toml", "worker.concurrency = 3")],
        &[
            ("TASKER_CONFIG_DIR", "config/tasker"),
            ("TASKER_ENV", ""),
            ("TASKER__DATABASE__URL", ""),
            ("DATABASE_URL", ""),
        ],
    );
    let loaded = setup.load();
    assert_eq!(loaded.config.worker.concurrency, 3);
    assert_eq!(loaded.environment, "development");
    assert_eq!(loaded.config.database.url, None);
}

#[test]
fn no_listing_shows_a_password() {
    let setup = Setup::new(
        &[(
            "base/a.toml",
            "database.direct_url = 'postgres://u:hunter2@h/d?password=hunter2'",
        )],
        &[("DATABASE_URL", "postgres://u:hunter2@h/d")],
    );
    let loaded = setup.load();
    let shown = [
        format!("{:?}", loaded),
        serde_json::to_string(loaded.entries()).unwrap(),
        loaded.to_json().to_string(),
        loaded.config.database.url.as_ref().unwrap().to_string(),
    ];
    for text in shown {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("postgres://u:****@h/d"), "{text}");
    }
}

#[test]
fn the_configuration_in_force_is_shown_as_sections() {
    let shown = Setup::new(&[], &[]).load().to_json();
    assert_eq!(shown["worker"]["handlers"], json!({"command": null}));
    assert_eq!(shown["worker"]["concurrency"], json!(256));
    assert_eq!(shown["logging"], json!({"format": "auto", "level": "info"}));
    assert_eq!(shown["database"]["url"], json!(null));
}

#[test]
fn every_key_can_be_set_in_a_file_and_read_back() {
    let text = base_file();
    let setup = Setup::new(&[("base/tasker.toml", &text)], &[]);
    let loaded = setup.load();
    assert_eq!(loaded.config, Config::default());
    for entry in loaded
        .entries()
        .iter()
        .filter(|entry| !entry.value.is_null())
    {
        assert_eq!(
            setup.source(&loaded, &entry.key),
            "config/tasker/base/tasker.toml",
            "{}",
            entry.key
        );
    }
}

#[test]
fn the_generated_documents_are_those_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, text) in [
        ("config/tasker/base/tasker.toml", base_file()),
        ("docs/reference/configuration.md", reference()),
    ] {
        let path = root.join(path);
        if std::env::var_os("TASKER_UPDATE_DOCS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{} is stale: run it with TASKER_UPDATE_DOCS=1",
            path.display()
        );
    }
}
