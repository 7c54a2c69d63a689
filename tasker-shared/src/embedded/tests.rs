#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, kill_process_group, test_kill_process};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::*;

const POLL: Duration = Duration::from_millis(10);
const DATA_VARIABLE: &str = "TASKER_TEST_EMBEDDED_DATA";

/// A directory that PostgreSQL's user can enter when the tests run as root.
fn room() -> TempDir {
    room_with_mode(0o755)
}

fn room_with_mode(mode: u32) -> TempDir {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempdir()
        .unwrap()
}

fn options(data: impl Into<PathBuf>) -> Options {
    let mut options = Options::new(data, Binaries::find(None).unwrap());
    options.durable = false;
    options
}

async fn run(cluster: &Cluster, sql: &'static str) -> i32 {
    let mut connection = PgConnection::connect(cluster.url()).await.unwrap();
    sqlx::query_scalar(sql)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn remember(cluster: &Cluster) {
    let mut connection = PgConnection::connect(cluster.url()).await.unwrap();
    sqlx::query("CREATE TABLE memory AS SELECT 42 AS value")
        .execute(&mut connection)
        .await
        .unwrap();
}

async fn remembers(cluster: &Cluster) -> bool {
    run(cluster, "SELECT value FROM memory").await == 42
}

fn alive(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).is_ok()
}

/// Bounded by the test runner.
fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::sleep(POLL);
    }
}

/// Another process that owns a cluster: this very program, told to run the test below.
struct Owner {
    process: Child,
    server: Pid,
    socket: PathBuf,
}

impl Owner {
    fn of(data: &Path, test: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "--nocapture",
                &format!("embedded::tests::{test}"),
            ])
            .env(DATA_VARIABLE, data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once("serves ")?.1.to_owned()));
        let said = said.expect("the owner starts its server");
        let (pid, socket) = said.split_once(' ').unwrap();
        Self {
            process,
            server: Pid::from_raw(pid.parse().unwrap()).unwrap(),
            socket: socket.into(),
        }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Says where it is and waits for its end.
async fn serve(cluster: &Cluster) {
    println!("serves {} {}", cluster.pid(), cluster.socket.display());
    std::future::pending::<()>().await;
}

#[tokio::test]
#[ignore = "the other process of the tests below"]
async fn owner() {
    let Some(data) = std::env::var_os(DATA_VARIABLE) else {
        return;
    };
    let cluster = Cluster::start(options(data)).await.unwrap();
    remember(&cluster).await;
    serve(&cluster).await;
}

#[tokio::test]
#[ignore = "the other process of a test below"]
async fn owner_of_a_temporary_cluster() {
    if std::env::var_os(DATA_VARIABLE).is_some() {
        let cluster = Temporary::start().await.unwrap();
        std::fs::write(cluster.directory("more").unwrap().join("file"), "").unwrap();
        serve(&cluster).await;
    }
}

#[tokio::test]
async fn data_survive_a_stop_and_the_url_stays() {
    let room = room();
    let first = Cluster::start(options(room.path().join("data")))
        .await
        .unwrap();
    remember(&first).await;
    let (url, pid, socket) = (first.url().to_owned(), first.pid(), first.socket.clone());
    first.stop().await.unwrap();
    assert!(!alive(pid));
    assert!(
        !socket.exists(),
        "the socket's directory goes with the server"
    );
    let second = Cluster::start(options(room.path().join("data")))
        .await
        .unwrap();
    assert_eq!(second.url(), url);
    assert!(remembers(&second).await);
}

#[tokio::test]
async fn dropping_a_cluster_stops_it() {
    let room = room();
    let cluster = Cluster::start(options(room.path().join("data")))
        .await
        .unwrap();
    let pid = cluster.pid();
    drop(cluster);
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_second_owner_of_one_directory_is_refused_by_name() {
    let room = room();
    let first = Cluster::start(options(room.path().join("data")))
        .await
        .unwrap();
    let error = Cluster::start(options(room.path().join("data")))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("in use by process {}", std::process::id())),
        "{error}"
    );
    assert_eq!(
        run(&first, "SELECT 1").await,
        1,
        "the first is not disturbed"
    );
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_recovers_at_the_same_url() {
    let room = room();
    let mut cluster = Cluster::start(options(room.path().join("data")))
        .await
        .unwrap();
    remember(&cluster).await;
    let url = cluster.url().to_owned();
    kill_process(cluster.pid, Signal::KILL).unwrap();
    assert_eq!(cluster.ended().await.unwrap().code(), Some(128 + 9));
    let mut cluster = cluster.restart().await.unwrap();
    assert!(remembers(&cluster).await);
    cluster.kill_now().await.unwrap();
    let cluster = cluster.restart().await.unwrap();
    assert!(remembers(&cluster).await);
    assert_eq!(cluster.url(), url);
}

#[tokio::test]
async fn a_server_ends_with_its_killed_owner() {
    let room = room();
    let mut owner = Owner::of(&room.path().join("data"), "owner");
    owner.kill();
    until(|| test_kill_process(owner.server).is_err());
    until(|| !owner.socket.exists());
    let cluster = Cluster::start(options(room.path().join("data")))
        .await
        .unwrap();
    assert!(remembers(&cluster).await);
}

#[tokio::test]
async fn the_next_owner_need_not_wait_for_the_server_of_a_killed_one_to_end() {
    let room = room();
    let mut owner = Owner::of(&room.path().join("data"), "owner");
    owner.kill();
    let cluster = Cluster::start(options(room.path().join("data")))
        .await
        .unwrap();
    assert!(remembers(&cluster).await);
}

#[tokio::test]
async fn a_cluster_all_of_whose_processes_were_killed_recovers() {
    let room = room();
    let data = room.path().join("data");
    let mut owner = Owner::of(&data, "owner");
    let watchers = rustix::process::getpgid(Some(owner.server)).unwrap();
    owner.kill();
    kill_process_group(watchers, Signal::KILL).unwrap();
    for pid in watched::processes(&data.join("cluster")) {
        let _ = kill_process(pid, Signal::KILL);
    }
    assert!(data.join("cluster/postmaster.pid").exists());
    let cluster = Cluster::start(options(&data)).await.unwrap();
    assert!(remembers(&cluster).await);
}

/// The processes of a group.
#[cfg(target_os = "linux")]
fn members(group: Pid) -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(move |entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name: state, parent, group.
        let number = stat.rsplit_once(')')?.1.split_whitespace().nth(2)?;
        (number.parse() == Ok(group.as_raw_nonzero().get())).then_some(pid)
    })
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_whose_owner_and_watcher_were_killed_is_stopped_first() {
    let room = room();
    let data = room.path().join("data");
    let mut owner = Owner::of(&data, "owner");
    let group = rustix::process::getpgid(Some(owner.server)).unwrap();
    // Stopped, so that the watcher cannot act on the owner's death before it is killed as well.
    kill_process_group(group, Signal::STOP).unwrap();
    owner.kill();
    for shell in members(group).filter(|&pid| pid != owner.server) {
        kill_process(shell, Signal::KILL).unwrap();
    }
    kill_process(owner.server, Signal::CONT).unwrap();
    let cluster = Cluster::start(options(&data)).await.unwrap();
    assert!(remembers(&cluster).await);
    assert_ne!(cluster.pid, owner.server);
}

#[tokio::test]
async fn a_stale_number_that_is_now_another_process_is_no_obstacle() {
    let room = room();
    let data = room.path().join("data");
    Cluster::start(options(&data))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    let text = format!(
        "{}\n{}\n",
        std::process::id(),
        data.join("cluster").display()
    );
    std::fs::write(data.join("cluster/postmaster.pid"), text).unwrap();
    Cluster::start(options(&data))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_killed_initdb_left_is_begun_anew() {
    let room = room();
    let data = room.path().join("data");
    std::fs::create_dir_all(data.join("cluster.new/base")).unwrap();
    std::fs::write(data.join("lock"), "1\n").unwrap();
    Cluster::start(options(&data))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    assert!(!data.join("cluster.new").exists());
}

#[tokio::test]
async fn odd_and_long_paths_serve() {
    let room = room();
    for name in [
        "with spaces, a comma and 'quotes'".to_owned(),
        vec!["long".repeat(20); 4].join("/"),
    ] {
        let data = room.path().join(name);
        let cluster = Cluster::start(options(&data)).await.unwrap();
        assert_eq!(run(&cluster, "SELECT 1").await, 1);
        assert!(
            cluster.socket.as_os_str().len() < 80,
            "{}",
            cluster.socket.display()
        );
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_with_other_files_is_left_alone() {
    let room = room();
    std::fs::write(room.path().join("thesis.tex"), "").unwrap();
    let error = Cluster::start(options(room.path())).await.unwrap_err();
    assert!(
        matches!(error, StartError::Place(PlaceError::Foreign(_))),
        "{error:?}"
    );
    assert_eq!(
        std::fs::metadata(room.path()).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[tokio::test]
async fn an_erased_cluster_begins_anew() {
    let room = room();
    let data = room.path().join("data");
    erase(&data).await.unwrap();
    let cluster = Cluster::start(options(&data)).await.unwrap();
    remember(&cluster).await;
    assert!(erase(&data).await.is_err(), "not while it is in use");
    cluster.stop().await.unwrap();
    erase(&data).await.unwrap();
    assert!(!data.exists());
    remember(&Cluster::start(options(&data)).await.unwrap()).await;
}

#[tokio::test]
async fn another_version_s_data_are_refused_by_number() {
    let room = room();
    let data = room.path().join("data");
    Cluster::start(options(&data))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    std::fs::write(data.join("cluster/PG_VERSION"), "9\n").unwrap();
    let error = Cluster::start(options(&data))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("was made by PostgreSQL 9"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let room = room();
    let mut options = options(room.path().join("data"));
    options.settings = vec![("shared_buffers".to_owned(), "plenty".to_owned())];
    let error = Cluster::start(options).await.unwrap_err();
    assert!(matches!(error, StartError::Ended { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("invalid value for parameter \"shared_buffers\""),
        "{error}"
    );
}

#[tokio::test]
async fn databases_are_made_beside_the_first() {
    let room = room();
    let cluster = Cluster::start(options(room.path().join("data")))
        .await
        .unwrap();
    let url = cluster.create_database("odd \"name\"/100%").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(name, "odd \"name\"/100%");
}

#[tokio::test]
async fn a_durable_cluster_has_the_server_s_own_settings() {
    let room = room();
    let options = Options::new(room.path().join("data"), Binaries::find(None).unwrap());
    let cluster = Cluster::start(options).await.unwrap();
    let mut connection = PgConnection::connect(cluster.url()).await.unwrap();
    let changed: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM pg_settings WHERE source = 'command line' ORDER BY name",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(
        changed,
        [
            "listen_addresses",
            "port",
            "unix_socket_directories",
            "unix_socket_permissions"
        ]
    );
    let fsync: String = sqlx::query_scalar("SHOW fsync")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(fsync, "on");
}

#[tokio::test]
async fn root_s_cluster_moves_where_its_user_can_reach_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let closed = room_with_mode(0o700);
    let data = closed.path().join("data");
    let cluster = Cluster::start(options(&data)).await.unwrap();
    remember(&cluster).await;
    cluster.stop().await.unwrap();
    let kept = std::fs::read_link(&data).unwrap();
    let cluster = Cluster::start(options(&data)).await.unwrap();
    assert!(remembers(&cluster).await);
    cluster.stop().await.unwrap();
    erase(&data).await.unwrap();
    assert!(!kept.exists() && data.symlink_metadata().is_err());
}

#[tokio::test]
async fn nothing_is_left_of_a_temporary_cluster() {
    let mut cluster = Temporary::start().await.unwrap();
    remember(&cluster).await;
    cluster.kill_now().await.unwrap();
    cluster.restart().await.unwrap();
    assert!(remembers(&cluster).await);
    cluster.restart().await.unwrap();
    assert!(remembers(&cluster).await);
    let (directory, socket) = (cluster.directory("more").unwrap(), cluster.socket.clone());
    assert!(directory.exists() && socket.exists());
    drop(cluster);
    assert!(!directory.parent().unwrap().exists());
    assert!(!socket.exists());
}

#[tokio::test]
async fn nothing_is_left_of_a_killed_process_s_temporary_cluster() {
    let mut owner = Owner::of(Path::new("/unused"), "owner_of_a_temporary_cluster");
    let directory = watched_directory(owner.server);
    assert!(directory.join("more/file").exists());
    owner.kill();
    until(|| !directory.exists());
    until(|| !owner.socket.exists());
}

/// Two up from where the server works, `<directory>/postgres/cluster`.
fn watched_directory(server: Pid) -> PathBuf {
    let work = std::fs::read_link(format!("/proc/{}/cwd", server.as_raw_nonzero())).unwrap();
    work.parent().and_then(Path::parent).unwrap().to_owned()
}
