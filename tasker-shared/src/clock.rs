//! The clock of a process. Everything that asks for the time asks here, so that tests can move it: from within
//! through [`Clock::step`], a process under test through a file, which only a debug build looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Duration, Utc};

/// The machine's clock, with an offset that tests move. Clones share the offset.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
    #[cfg(debug_assertions)]
    file: Option<Arc<file::OffsetFile>>,
}

impl Clock {
    /// The clock of a server or worker. In a debug build it goes wrong by as many milliseconds as the file named by
    /// `TASKER_CLOCK_OFFSET_FILE` says, so that tests can step the clock of a process and never the machine's; a
    /// release build knows no such file.
    pub fn of_process() -> Clock {
        Clock {
            #[cfg(debug_assertions)]
            file: file::OffsetFile::from_environment().map(Arc::new),
            ..Clock::default()
        }
    }

    /// The present moment, UTC.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + Duration::milliseconds(self.offset_ms())
    }

    /// Moves the clock by `by`, forward or back, for every clone.
    pub fn step(&self, by: Duration) {
        self.offset_ms
            .fetch_add(by.num_milliseconds(), Ordering::Relaxed);
    }

    fn offset_ms(&self) -> i64 {
        let stepped = self.offset_ms.load(Ordering::Relaxed);
        #[cfg(debug_assertions)]
        if let Some(file) = &self.file {
            return stepped.saturating_add(file.offset_ms());
        }
        stepped
    }
}

#[cfg(debug_assertions)]
mod file {
    //! An offset that another process writes.

    use std::path::PathBuf;
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};

    /// Names the file.
    const VARIABLE: &str = "TASKER_CLOCK_OFFSET_FILE";
    /// How old what was read may be: the clock is asked several times a step.
    const AGE: Duration = Duration::from_millis(20);

    #[derive(Debug)]
    pub(super) struct OffsetFile {
        path: PathBuf,
        read: Mutex<Option<(Instant, i64)>>,
    }

    impl OffsetFile {
        pub(super) fn from_environment() -> Option<OffsetFile> {
            let path = std::env::var_os(VARIABLE)?;
            tracing::warn!(variable = VARIABLE, file = %path.display(), "the clock follows a file, as a test wants it");
            Some(OffsetFile::new(path.into()))
        }

        pub(super) fn new(path: PathBuf) -> OffsetFile {
            OffsetFile {
                path,
                read: Mutex::default(),
            }
        }

        /// What the file says; no offset where it is missing or says something else.
        pub(super) fn offset_ms(&self) -> i64 {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, offset_ms)) = *read
                && at.elapsed() < AGE
            {
                return offset_ms;
            }
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            let offset_ms = text.trim().parse().unwrap_or(0);
            *read = Some((Instant::now(), offset_ms));
            offset_ms
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_clock_move_together() {
        let clock = Clock::default();
        let clone = clock.clone();
        clock.step(Duration::hours(2));
        assert!(clone.now() > Utc::now() + Duration::minutes(119));
    }

    #[cfg(debug_assertions)]
    #[test]
    fn a_clock_goes_by_what_its_file_says_and_right_where_that_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("offset");
        let offset_ms = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let clock = Clock {
                file: Some(Arc::new(file::OffsetFile::new(path.clone()))),
                ..Clock::default()
            };
            (clock.now() - Utc::now()).num_minutes()
        };
        assert_eq!(offset_ms(None), 0);
        assert!((119..=120).contains(&offset_ms(Some("7200000\n"))));
        assert!((-120..=-119).contains(&offset_ms(Some("-7200000"))));
        assert_eq!(offset_ms(Some("noon")), 0);
    }
}
