//! What the processes under measurement use: time of the processor, and memory.

use std::time::Duration;

use tasker_shared::machine;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ground::Ground;
use super::quantiles::rounded;
use super::report::Share;
use super::stage::Stage;

/// Between two looks at PostgreSQL's memory.
const LOOK: Duration = Duration::from_millis(500);

/// Looks at PostgreSQL's memory from time to time, until it is dropped. The kernel keeps the peaks of the others.
#[derive(Debug)]
pub(super) struct MemoryWatch {
    looking: JoinHandle<()>,
    peak: watch::Receiver<Option<u64>>,
}

impl MemoryWatch {
    pub(super) fn begin(ground: &Ground) -> MemoryWatch {
        let (tell, peak) = watch::channel(None);
        let looking = tokio::spawn(look(ground.postmaster, tell));
        MemoryWatch { looking, peak }
    }

    /// The most that each has had at once.
    pub(super) fn peaks(&self, stage: &Stage) -> Share<u64> {
        Share {
            server: machine::peak_rss_bytes(stage.server()),
            worker: stage.workers().filter_map(machine::peak_rss_bytes).max(),
            postgres: *self.peak.borrow(),
            client: machine::peak_rss_bytes(std::process::id()),
        }
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(postmaster: Option<u32>, tell: watch::Sender<Option<u64>>) {
    let Some(postmaster) = postmaster else { return };
    loop {
        let now = machine::postgres_rss_bytes(postmaster);
        tell.send_modify(|peak| *peak = now.max(*peak));
        tokio::time::sleep(LOOK).await;
    }
}

/// Seconds of processor time used so far.
pub(super) fn cpu(ground: &Ground, stage: &Stage) -> Share<f64> {
    Share {
        server: machine::cpu_seconds(stage.server()),
        worker: stage.workers().map(machine::cpu_seconds).sum(),
        postgres: ground.postmaster.and_then(machine::postgres_cpu_seconds),
        client: machine::cpu_seconds(std::process::id()),
    }
}

impl Share<f64> {
    /// What was used since.
    pub(super) fn less(self, before: Share<f64>) -> Share<f64> {
        let less = |now: Option<f64>, before: Option<f64>| Some(rounded(now? - before?));
        Share {
            server: less(self.server, before.server),
            worker: less(self.worker, before.worker),
            postgres: less(self.postgres, before.postgres),
            client: less(self.client, before.client),
        }
    }
}
