//! Circuits of what steps talk to: while a target is in trouble its steps wait without spending attempts, one
//! at a time finds out whether it answers, and all flow again when it does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tasker_tests::{Setup, Stack, until};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
/// Attempts in a row that open the circuit in these tests.
const THRESHOLD: usize = 3;

/// An outside service that can be in trouble.
#[derive(Debug, Clone, Default)]
struct Bank(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_well: AtomicBool,
    asked: AtomicUsize,
    asking: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Bank {
    async fn start() -> (Bank, SocketAddr) {
        let bank = Bank::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let at_work = bank.clone();
        let answer = move || {
            let bank = at_work.clone();
            async move { bank.answer().await }
        };
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        (bank, address)
    }

    async fn answer(&self) -> StatusCode {
        let at_once = 1 + self.0.asking.fetch_add(1, Ordering::SeqCst);
        self.0.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        // Long enough for two at once to be seen as such.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
        match self.0.is_well.load(Ordering::SeqCst) {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn recover(&self) {
        self.0.is_well.store(true, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Forgets how many asked at once until now.
    fn forget(&self) {
        self.0.most_at_once.store(0, Ordering::SeqCst);
    }

    fn most_at_once(&self) -> usize {
        self.0.most_at_once.load(Ordering::SeqCst)
    }
}

fn setup(workers: usize, bank: SocketAddr) -> Setup {
    let template = format!(
        "name: pay
namespace_name: circuits
version: 1.0.0
steps:
  - name: charge
    handler: {{ callable: http, initialization: {{ url: 'http://{bank}/charge' }} }}
    retry: {{ max_attempts: 4, backoff: none }}
  - {{ name: note, handler: {{ callable: echo }} }}
"
    );
    Setup {
        workers,
        templates: vec![template],
        ..Setup::default()
    }
    .configure("worker.circuits.failure_threshold", THRESHOLD)
    .configure("worker.circuits.timeout_seconds", 1)
    .configure("worker.circuits.max_timeout_seconds", 1)
}

fn request() -> Value {
    json!({"name": "pay", "namespace": "circuits", "context": {}})
}

async fn charge(stack: &Stack, task: Uuid) -> Value {
    stack.steps(task).await["charge"].clone()
}

/// Opens the circuit by tasks that fail until it is, and answers them.
async fn open(stack: &Stack) -> Vec<Uuid> {
    let tasks = stack.submit_all(&vec![request(); THRESHOLD]).await;
    until(PATIENCE, async || {
        let open = "SELECT count(*) FROM tasker.circuits WHERE $1 <> ''";
        match stack.count(open, "any").await {
            1 => Ok(()),
            n => Err(format!("{n} circuits are open")),
        }
    })
    .await;
    tasks
}

#[tokio::test]
async fn steps_of_a_target_in_trouble_wait_without_spending_attempts_and_flow_when_it_answers() {
    let (bank, address) = Bank::start().await;
    let stack = setup(2, address).start().await;
    let first = open(&stack).await;
    // Every worker looks its lanes up every two seconds, whether it hears of the circuit or not.
    tokio::time::sleep(Duration::from_secs(3)).await;
    bank.forget();
    let later = stack.submit_all(&vec![request(); 30]).await;
    let parked = until(PATIENCE, async || {
        let step = charge(&stack, later[29]).await;
        match step["blocked_by"]["kind"].as_str() {
            Some("circuit_open") => Ok(step),
            _ => Err(step["blocked_by"].to_string()),
        }
    })
    .await;
    let detail = &parked["blocked_by"]["detail"];
    assert_eq!(detail["target"], address.to_string());
    assert!(
        detail["reason"].as_str().unwrap().contains("503"),
        "{detail}"
    );
    until(PATIENCE, async || {
        let other = stack.steps(later[29]).await["note"]["current_state"].clone();
        match other.as_str() {
            Some("complete") => Ok(()),
            _ => Err(format!("the step of no target is {other}")),
        }
    })
    .await;
    let asked = bank.asked();
    until(PATIENCE, async || match bank.asked() - asked {
        n if n >= 3 => Ok(()),
        n => Err(format!("{n} probes")),
    })
    .await;
    assert_eq!(bank.most_at_once(), 1, "one probe at a time");
    for task in &later {
        // The one that is out now counts as an attempt until it is back.
        let ended = stack.outcomes(&charge(&stack, *task).await).await;
        assert!(
            ended.iter().all(|outcome| outcome == "released"),
            "a probe costs no attempt: {ended:?}"
        );
    }

    bank.recover();
    let all: Vec<Uuid> = first.into_iter().chain(later).collect();
    let ended = stack.wait_all_final(&all, PATIENCE).await;
    assert_eq!(ended.get("complete"), Some(&all.len()), "{ended:?}");
    let open = "SELECT count(*) FROM tasker.circuits WHERE $1 <> ''";
    assert_eq!(stack.count(open, "any").await, 0);
}

#[tokio::test]
async fn a_worker_that_dies_with_the_probe_does_not_keep_the_others_from_sending_one() {
    let (bank, address) = Bank::start().await;
    let mut stack = setup(1, address)
        .configure("worker.lease_ms", 2_000)
        .configure("worker.heartbeat_interval_ms", 500)
        .start()
        .await;
    let tasks = open(&stack).await;
    until(PATIENCE, async || {
        let probing = "SELECT count(*) FROM tasker.circuits WHERE probe IS NOT NULL AND $1 <> ''";
        match stack.count(probing, "any").await {
            1 => Ok(()),
            _ => Err("no probe is out".to_owned()),
        }
    })
    .await;
    stack.worker().kill_9().await;
    bank.recover();
    stack.add_worker(&[]).await;
    let ended = stack.wait_all_final(&tasks, PATIENCE).await;
    assert_eq!(ended.get("complete"), Some(&tasks.len()), "{ended:?}");
}

#[tokio::test]
async fn a_named_circuit_is_shared_by_all_steps_that_name_it_and_a_refusal_is_an_answer() {
    let template = "name: mail
namespace_name: circuits
version: 1.0.0
steps:
  - name: send
    handler: { callable: fail, initialization: { kind: retryable, circuit: post } }
    retry: { max_attempts: 3, backoff: none }
";
    let refused = template
        .replace("name: mail", "name: refused")
        .replace("kind: retryable", "kind: permanent");
    let (_, address) = Bank::start().await;
    let mut setup = setup(1, address);
    setup.templates.extend([template.to_owned(), refused]);
    let stack = setup.start().await;
    let of = |name: &str| json!({"name": name, "namespace": "circuits", "context": {}});
    let refusals = stack.submit_all(&vec![of("refused"); 2 * THRESHOLD]).await;
    let ended = stack.wait_all_final(&refusals, PATIENCE).await;
    assert_eq!(ended.get("error"), Some(&refusals.len()), "{ended:?}");
    let open = "SELECT count(*) FROM tasker.circuits WHERE target = $1";
    assert_eq!(stack.count(open, "post").await, 0, "a refusal is an answer");
    stack.submit_all(&vec![of("mail"); 2 * THRESHOLD]).await;
    until(PATIENCE, async || match stack.count(open, "post").await {
        1 => Ok(()),
        n => Err(format!("{n} circuits are open")),
    })
    .await;
    let task = stack.submit(of("refused")).await;
    until(PATIENCE, async || {
        let step = stack.steps(task).await["send"].clone();
        match step["blocked_by"]["kind"].as_str() {
            Some("circuit_open") => Ok(()),
            _ => Err(step.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_target_that_is_well_costs_no_statement() {
    let named = |name: &str, handler: &str| {
        format!(
            "name: {name}
namespace_name: circuits
version: 1.0.0
steps:
  - {{ name: send, handler: {{ callable: {handler}, initialization: {{ circuit: post }} }}, retry: {{ max_attempts: 1 }} }}
"
        )
    };
    let (_, address) = Bank::start().await;
    let mut setup = setup(2, address)
        .configure("worker.circuits.timeout_seconds", 3_600)
        .configure("worker.circuits.max_timeout_seconds", 3_600);
    setup.templates = vec![named("well", "echo"), named("unwell", "fail")];
    let stack = setup.start().await;
    let of = |name: &str| json!({"name": name, "namespace": "circuits", "context": {}});
    let tasks = stack.submit_all(&vec![of("well"); 1_000]).await;
    let ended = stack.wait_all_final(&tasks, PATIENCE).await;
    assert_eq!(ended.get("complete"), Some(&tasks.len()), "{ended:?}");
    // Statistics come late, but not out of order by much: once this opening is counted, so is what was before it.
    stack
        .submit_all(&vec![of("unwell"); 2 * THRESHOLD - 1])
        .await;
    let written = "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE schemaname = 'tasker' AND relname = $1";
    let written = until(PATIENCE, async || {
        match stack.count(written, "circuits").await {
            0 => Err("nothing was written".to_owned()),
            n => Ok(n),
        }
    })
    .await;
    assert_eq!(written, 1, "the opening alone");
}

#[tokio::test]
async fn a_step_that_is_the_trouble_itself_spends_its_attempts_after_some_probes() {
    let template = "name: poison
namespace_name: circuits
version: 1.0.0
steps:
  - name: send
    handler: { callable: fail, initialization: { kind: retryable, circuit: post } }
    retry: { max_attempts: 4, backoff: none }
";
    let (_, address) = Bank::start().await;
    let mut setup = setup(1, address).configure("worker.circuits.free_probes", 2);
    setup.templates = vec![template.to_owned()];
    let stack = setup.start().await;
    let task = stack
        .submit(json!({"name": "poison", "namespace": "circuits", "context": {}}))
        .await;
    let ended = stack.wait_all_final(&[task], PATIENCE).await;
    assert_eq!(ended.get("error"), Some(&1), "{ended:?}");
    let step = stack.steps(task).await["send"].clone();
    let outcomes = stack.outcomes(&step).await;
    let released = outcomes.iter().filter(|o| *o == "released").count();
    assert!(released >= 2, "two probes cost nothing: {outcomes:?}");
    assert_eq!(outcomes.len() - released, 4, "{outcomes:?}");
}

#[tokio::test]
async fn an_open_circuit_is_listed_and_can_be_closed_by_hand() {
    let (bank, address) = Bank::start().await;
    let stack = setup(1, address)
        .configure("worker.circuits.timeout_seconds", 3_600)
        .configure("worker.circuits.max_timeout_seconds", 3_600)
        .start()
        .await;
    let none = stack.tasker(&["circuit", "list"]).await;
    assert_eq!(
        String::from_utf8_lossy(&none.stdout),
        "No circuit is open.\n"
    );
    let tasks = open(&stack).await;
    let circuits = stack.get("/v1/circuits").await;
    assert_eq!(circuits[0]["target"], address.to_string());
    assert_eq!(circuits[0]["state"], "open");
    assert_eq!(circuits[0]["failed_probes"], 0);
    let listed = stack.tasker(&["circuit", "list"]).await;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(&address.to_string()), "{listed}");

    bank.recover();
    let target = address.to_string();
    let closed = stack.tasker(&["circuit", "close", &target]).await;
    assert!(closed.status.success(), "{closed:?}");
    let ended = stack.wait_all_final(&tasks, PATIENCE).await;
    assert_eq!(ended.get("complete"), Some(&tasks.len()), "{ended:?}");
    let again = stack.tasker(&["circuit", "close", &target]).await;
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("no open circuit"), "{said}");
}
