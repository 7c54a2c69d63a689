//! The server itself under made-up requests: whatever comes, through the real extractors and the real database, is
//! answered, in the API's own shape, and never by a fault of the server.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tasker_tests::fuzz::{Mutator, TARGETS};
use tasker_tests::{Setup, Stack};

const FLOW: &str = include_str!("../../fuzz/seeds/template/flow.yaml");
/// Some seconds without optimisation; `TASKER_FUZZ_RUNS` is for more, `TASKER_FUZZ_SEED` for others.
const RUNS: usize = 2_000;

/// A proper request of these has to be answered well now and then: what comes behind reading a body is reached too.
const REACHED: [&str; 4] = [
    "create_task",
    "create_tasks",
    "apply_template",
    "set_log_level",
];

/// A route of the description, with the names of its parameters in the query.
struct Route {
    operation: String,
    method: Method,
    path: String,
    query: Vec<String>,
}

/// The body of a request, and what it says that it is.
struct Body {
    kind: &'static str,
    bytes: Vec<u8>,
}

/// Seeds of bodies by route, and of anything.
struct Bodies {
    by_operation: BTreeMap<&'static str, Vec<Vec<u8>>>,
    all: Vec<Vec<u8>>,
    words: Vec<&'static str>,
}

impl Bodies {
    fn new() -> Bodies {
        let seeds = |name| {
            let target = TARGETS.iter().find(|t| t.name == name).unwrap();
            target.seeds()
        };
        let one = |text: &str| vec![text.as_bytes().to_vec()];
        let task =
            r#"{"name":"flow","namespace":"fuzz","context":{"n":1.50},"tags":["a"],"priority":7}"#;
        let resolution =
            r#"{"resolution_status":"ManuallyResolved","resolution_notes":"n","resolved_by":"me"}"#;
        let by_operation = BTreeMap::from([
            ("create_task", one(task)),
            (
                "create_tasks",
                one(&format!(r#"{{"tasks":[{task},{task}]}}"#)),
            ),
            ("apply_template", seeds("template")),
            ("set_log_level", one(r#"{"level":"info,sqlx=warn"}"#)),
            (
                "change_step",
                one(r#"{"action_type":"reset_for_retry","reason":"mended","reset_by":"me"}"#),
            ),
            ("update_dead_letter", one(resolution)),
        ]);
        Bodies {
            by_operation,
            all: TARGETS.iter().flat_map(|t| t.seeds()).collect(),
            words: TARGETS.iter().flat_map(|t| t.words).copied().collect(),
        }
    }

    /// In one of two cases one that the route is for, and every other of those as it must be; otherwise anything.
    fn next(&self, route: &Route, mutator: &mut Mutator) -> Body {
        let seeds = self.by_operation.get(route.operation.as_str());
        let Some(seeds) = seeds.filter(|_| mutator.below(2) == 0) else {
            let kinds = ["application/json", "application/yaml", "text/plain"];
            return Body {
                kind: mutator.pick(&kinds).copied().unwrap(),
                bytes: mutator.next(&self.all, &self.words),
            };
        };
        let kind = match route.operation.as_str() {
            "apply_template" => "application/yaml",
            _ => "application/json",
        };
        let bytes = match mutator.below(2) {
            0 => mutator.pick(seeds).unwrap().clone(),
            _ => mutator.next(seeds, &self.words),
        };
        Body { kind, bytes }
    }
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

async fn routes(stack: &Stack) -> Vec<Route> {
    let api = stack.get("/api-docs/openapi.json").await;
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        // It never ends for a task that goes on.
        if path.ends_with("/events") {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else {
                continue;
            };
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let query = parameters.filter(|p| p["in"] == "query");
            routes.push(Route {
                operation: operation["operationId"].as_str().unwrap().to_owned(),
                method,
                path: path.clone(),
                query: query
                    .map(|p| p["name"].as_str().unwrap().to_owned())
                    .collect(),
            });
        }
    }
    routes
}

/// Bytes as a part of a URL.
fn escaped(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: &u8| match plain(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    bytes.iter().map(one).collect()
}

/// The path and query of a request: now and then what is there, otherwise anything.
fn address(
    route: &Route,
    known: &[(&str, String)],
    values: &[Vec<u8>],
    mutator: &mut Mutator,
) -> String {
    let mut address = String::new();
    for part in route.path.split('/').skip(1) {
        address.push('/');
        let Some(name) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) else {
            address.push_str(part);
            continue;
        };
        let there = known.iter().find(|(known, _)| *known == name);
        match there.filter(|_| mutator.below(3) > 0) {
            Some((_, value)) => address.push_str(value),
            None => address.push_str(&escaped(&mutator.next(values, &[]))),
        }
    }
    for (place, name) in route.query.iter().enumerate() {
        if mutator.below(3) == 0 {
            let mark = if place == 0 { '?' } else { '&' };
            let value = escaped(&mutator.next(values, &[name]));
            address.push_str(&format!("{mark}{name}={value}"));
        }
    }
    address
}

#[tokio::test]
async fn no_request_is_answered_by_a_fault_of_the_server() {
    let mut stack = Setup {
        templates: vec![FLOW.to_owned()],
        ..Setup::default()
    }
    .start()
    .await;
    let routes = routes(&stack).await;
    let request = serde_json::json!({"name": "flow", "namespace": "fuzz", "context": {}});
    let task = stack.submit(request).await;
    let step = stack.steps(task).await["a"]["step_uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let known = [
        ("task_uuid", task.to_string()),
        ("step_uuid", step),
        ("namespace", "fuzz".to_owned()),
        ("name", "flow".to_owned()),
        ("version", "0.0.1".to_owned()),
    ];
    let bodies = Bodies::new();
    let values = [
        &b"1"[..],
        b"2026-01-01T00:00:00Z",
        b"complete",
        b"",
        b"0199a6c0-0000-7000-8000-000000000001",
    ];
    let values = values.map(<[u8]>::to_vec);
    let mut mutator = Mutator::new(number("TASKER_FUZZ_SEED").unwrap_or(1) as u64);
    let mut answers = BTreeMap::<StatusCode, usize>::new();
    let mut reached = BTreeMap::<&str, usize>::new();
    for run in 0..number("TASKER_FUZZ_RUNS").unwrap_or(RUNS) {
        let route = mutator.pick(&routes).unwrap();
        let address = address(route, &known, &values, &mut mutator);
        let body = bodies.next(route, &mut mutator);
        let mut request = stack
            .client()
            .request(route.method.clone(), stack.url(&address));
        if route.method != Method::GET {
            request = request
                .header("content-type", body.kind)
                .body(body.bytes.clone());
        }
        let reply = request.send().await.unwrap();
        let status = reply.status();
        let text = reply.text().await.unwrap();
        let said = || {
            format!(
                "run {run}: {} {address} {:?}\n{status} {text}",
                route.method,
                String::from_utf8_lossy(&body.bytes)
            )
        };
        assert!(!status.is_server_error(), "{}", said());
        if status.is_client_error() {
            let error: Value = serde_json::from_str(&text).unwrap_or_default();
            assert!(error["error"]["code"].is_string(), "{}", said());
        }
        if status.is_success() {
            *reached.entry(route.operation.as_str()).or_default() += 1;
        }
        *answers.entry(status).or_default() += 1;
    }
    for operation in REACHED {
        assert!(reached.contains_key(operation), "{operation}: {reached:?}");
    }
    assert!(
        answers.keys().any(StatusCode::is_client_error),
        "{answers:?}"
    );
    println!("{answers:?} {reached:?}");
    assert!(stack.server().is_running(), "the server is gone");
}
