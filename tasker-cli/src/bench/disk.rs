//! How long this disk takes to make a write lasting: what every flushed commit waits for. A figure of latency means
//! something only where this is short.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::quantiles::{Quantiles, rounded};

const WRITES: usize = 500;
/// PostgreSQL writes its log in blocks of this size.
const BLOCK_BYTES: usize = 8_192;
/// From here on latency says more of the disk than of Tasker.
pub(super) const NOISY_US: f64 = 200.0;

/// Microseconds of a write of one block and its `fdatasync`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Flush {
    pub(super) p50: f64,
    pub(super) p95: f64,
}

impl Flush {
    /// The worse of two.
    pub(super) fn worst(self, other: Flush) -> Flush {
        Flush {
            p50: self.p50.max(other.p50),
            p95: self.p95.max(other.p95),
        }
    }
}

/// Measures it in this directory, which keeps nothing of it.
pub(super) async fn measure(directory: &Path) -> io::Result<Flush> {
    let path = directory.join(format!("tasker-bench-{}.flush", std::process::id()));
    let measured = tokio::task::spawn_blocking(move || {
        let taken = write(&path);
        // It is gone with the directory otherwise.
        let _ = std::fs::remove_file(&path);
        taken
    });
    measured.await.map_err(io::Error::other)?
}

fn write(path: &PathBuf) -> io::Result<Flush> {
    let mut file = File::create(path)?;
    let block = [0x5a; BLOCK_BYTES];
    let mut taken = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        taken.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let found = Quantiles::of(taken).ok_or_else(|| io::Error::other("nothing was written"))?;
    Ok(Flush {
        p50: rounded(found.p50),
        p95: rounded(found.p95),
    })
}

/// Whether a directory is kept in memory, where flushing means nothing.
pub(super) fn is_in_memory(directory: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    file_system(&mounts, directory).is_some_and(|kind| matches!(kind, "tmpfs" | "ramfs"))
}

/// The file system that holds a directory, from the table of those that are mounted.
fn file_system<'a>(mounts: &'a str, directory: &Path) -> Option<&'a str> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    // Of two at one place the later hides the other.
    mounted
        .filter(|(place, _)| directory.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map(|(_, kind)| kind)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flush_takes_time_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let flush = measure(directory.path()).await.unwrap();
        assert!(flush.p50 > 0.0 && flush.p50 <= flush.p95);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(measure(Path::new("/nowhere")).await.is_err());
    }

    #[test]
    fn the_innermost_mount_decides_where_a_directory_lies() {
        let mounts =
            "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        let cases = [
            ("/var/tmp", "ext4"),
            ("/tmp", "tmpfs"),
            ("/tmp/x/y", "tmpfs"),
            ("/tmp/disk/x", "xfs"),
            ("/tmpfoo", "ext4"),
        ];
        for (path, kind) in cases {
            assert_eq!(file_system(mounts, Path::new(path)), Some(kind), "{path}");
        }
    }
}
