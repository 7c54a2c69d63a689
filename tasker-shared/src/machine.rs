//! What this machine is, and what processes have used of it, as `/proc` tells. Elsewhere than on Linux nothing is known.

use std::path::Path;

use serde::Serialize;

/// The machine that everything runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub memory_bytes: Option<u64>,
    pub kernel: Option<String>,
    pub cpu: Option<String>,
}

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib(&read("/proc/meminfo"), "MemTotal"),
            kernel: Some(kernel).filter(|kernel| !kernel.is_empty()),
            cpu: field(&read("/proc/cpuinfo"), "model name").map(str::to_owned),
        }
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Used {
    parent: u32,
    ticks: u64,
    /// Of its children that have ended.
    ticks_of_ended: u64,
}

/// Seconds of processor time that a process has used.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    Some(seconds(used(pid)?.ticks))
}

/// Seconds that PostgreSQL has used, all its processes together, also those that have ended.
pub fn postgres_cpu_seconds(postmaster: u32) -> Option<f64> {
    let own = used(postmaster)?;
    let children: u64 = children(postmaster).map(|(_, used)| used.ticks).sum();
    Some(seconds(own.ticks + own.ticks_of_ended + children))
}

/// The memory that a process has now.
pub fn rss_bytes(pid: u32) -> Option<u64> {
    kib(&status(pid)?, "VmRSS")
}

/// The most memory that a process has had at once.
pub fn peak_rss_bytes(pid: u32) -> Option<u64> {
    kib(&status(pid)?, "VmHWM")
}

/// The memory that PostgreSQL has now: what each of its processes has to itself, and what they share, once.
pub fn postgres_rss_bytes(postmaster: u32) -> Option<u64> {
    let children = children(postmaster).map(|(pid, _)| pid);
    let (mut own, mut shared) = (0, 0);
    for pid in children.chain([postmaster]) {
        // One may end while it is looked at.
        let Some(status) = status(pid) else { continue };
        own += kib(&status, "RssAnon").unwrap_or_default();
        shared = shared.max(kib(&status, "RssShmem").unwrap_or_default());
    }
    Some(own + shared).filter(|bytes| *bytes > 0)
}

/// The postmaster of a backend, where that is a process of this machine.
pub fn postmaster_of(backend: u32) -> Option<u32> {
    let name = std::fs::read_to_string(format!("/proc/{backend}/comm")).ok()?;
    let parent = used(backend)?.parent;
    name.starts_with("postgres").then_some(parent)
}

/// Whether a process with this number is there.
pub fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn children(parent: u32) -> impl Iterator<Item = (u32, Used)> {
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    numbers.filter_map(move |entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, used(pid).filter(|used| used.parent == parent)?))
    })
}

fn status(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

fn used(pid: u32) -> Option<Used> {
    read_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The line of `/proc/PID/stat`. The name in it may hold anything, blanks and brackets too.
fn read_stat(line: &str) -> Option<Used> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Used {
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        ticks_of_ended: number(13)? + number(14)?,
    })
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64
}

/// A value of a file of lines as `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(found, _)| found.trim() == name)?;
    Some(value.trim())
}

/// A field in kibibytes, as bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let number = field(text, name)?.split_whitespace().next()?;
    Some(number.parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_shift_the_numbers() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 100 20 30 5 20 0 1 0 9 9 9";
        let used = read_stat(line).unwrap();
        assert_eq!((used.parent, used.ticks, used.ticks_of_ended), (3, 120, 35));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:       24658360 kB\nMemFree: 1 kB\nmodel name\t: A CPU @ 2 GHz\n";
        assert_eq!(kib(text, "MemTotal"), Some(24_658_360 * 1_024));
        assert_eq!(kib(text, "Mem"), None);
        assert_eq!(field(text, "model name"), Some("A CPU @ 2 GHz"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_known() {
        let own = std::process::id();
        assert!(cpu_seconds(own).is_some() && peak_rss_bytes(own).unwrap() > 1_000_000);
        assert!(is_alive(own));
        assert_eq!(postmaster_of(own), None);
        assert!(Machine::this().memory_bytes.unwrap() > 1_000_000);
    }
}
