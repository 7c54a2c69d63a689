//! A small disk of a storm's own, for the tables that results are written to: a file system in memory, which can be
//! filled up and emptied. It needs the right to mount; where there is none it says why.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Mounts, and unmounts when its standard input closes: also when the process that mounts is killed.
const GUARD: &str = r#"
mount -t tmpfs -o "size=$2,mode=0700,uid=$3,gid=$4" tmpfs "$1" || exit 1
echo mounted
cat >/dev/null
umount -l "$1"
rmdir "$1"
"#;
const MOUNTED: &str = "mounted\n";
const PATIENCE: Duration = Duration::from_secs(5);

/// The disk, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    directory: PathBuf,
    guard: Child,
}

impl SmallDisk {
    /// Mounts a disk of that size that belongs to whom `owned_alike` belongs to.
    ///
    /// # Errors
    /// Why it could not be mounted.
    pub fn mount(owned_alike: &Path, bytes: u64) -> Result<SmallDisk, String> {
        let why = |error: std::io::Error| error.to_string();
        let owner = std::fs::metadata(owned_alike).map_err(why)?;
        let directory = PathBuf::from(format!("/tmp/tasker-disk-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&directory).map_err(why)?;
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "tasker-disk"])
            .arg(&directory)
            .args(
                [bytes, owner.uid().into(), owner.gid().into()]
                    .map(|number: u64| number.to_string()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(why)?;
        let mut said = [0; MOUNTED.len()];
        let heard = guard.stdout.as_mut().map(|out| out.read_exact(&mut said));
        if matches!(heard, Some(Ok(()))) && said == MOUNTED.as_bytes() {
            return Ok(SmallDisk { directory, guard });
        }
        let _ = std::fs::remove_dir(&directory);
        let output = guard.wait_with_output().map_err(why)?;
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "a file system cannot be mounted here: {}",
            said.trim()
        ))
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).unwrap();
        // Large pieces first; where none fits any more, the smallest.
        for bytes in [1 << 20, 1 << 12, 1] {
            let piece = vec![0; bytes];
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    /// Makes room again.
    pub fn clear(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let until = Instant::now() + PATIENCE;
        while matches!(self.guard.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
