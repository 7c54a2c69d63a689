//! The ports of `tasker dev`: one for the server and one a worker after it, all free before anything starts.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use super::console::Console;
use super::data::Data;
use crate::failure::Failure;

/// How long processes of a killed run may hold on to their ports: as long as a worker may drain.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(200);

/// Makes sure that every port is free. Where the run before was killed its processes get time to end.
pub(super) async fn free(
    first: u16,
    workers: u16,
    data: &Data,
    console: &Console,
) -> Result<(), Failure> {
    if first == 0 {
        return Ok(());
    }
    let until = data.was_killed().then(|| Instant::now() + PATIENCE);
    let mut told = false;
    for port in first..=first.saturating_add(workers) {
        while let Err(source) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            let may_pass = source.kind() == io::ErrorKind::AddrInUse;
            if !may_pass || until.is_none_or(|until| Instant::now() > until) {
                // Who still holds it is nobody of ours: the next start need not wait again.
                data.mark_stopped();
                return Err(taken(port, first, source));
            }
            if !told {
                console.say("waiting for the processes of a run that was killed to end");
                told = true;
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

fn taken(port: u16, first: u16, source: io::Error) -> Failure {
    let whose = match port == first {
        true => "the server's port".to_owned(),
        false => format!("a worker's port, {} after the server's", port - first),
    };
    Failure::setup(
        format!(
            "port {port} ({whose}) cannot be used: stop what listens there, or choose others with --port"
        ),
        source,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_the_way_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let data = Data::open(directory.path()).unwrap();
        let failure = free(port, 1, &data, &Console::new()).await.unwrap_err();
        assert_eq!(failure.status(), 2);
        let text = failure.to_string();
        assert!(
            text.contains(&format!("port {port} ")) && text.contains("--port"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn any_port_needs_no_looking() {
        let directory = tempfile::tempdir().unwrap();
        let data = Data::open(directory.path()).unwrap();
        free(0, 64, &data, &Console::new()).await.unwrap();
    }
}
