//! How many bytes may wait at once: counts alone say nothing of memory, since one submission may be as large as ten
//! thousand others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that are held now, of at most so many.
#[derive(Debug)]
pub(super) struct Budget {
    most: usize,
    held: Arc<AtomicUsize>,
}

/// Bytes of a budget; they are free again when this is dropped.
#[derive(Debug)]
pub struct Share {
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Budget {
    pub(super) fn new(most: usize) -> Budget {
        Budget {
            most,
            held: Arc::default(),
        }
    }

    /// So many bytes of it, or how many are held where it has not as many left. One share is had however large it is.
    pub(super) fn take(&self, bytes: usize) -> Result<Share, usize> {
        let fits = |held: usize| {
            let sum = held.saturating_add(bytes);
            (held == 0 || sum <= self.most).then_some(sum)
        };
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map(|_| Share {
                bytes,
                held: Arc::clone(&self.held),
            })
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_may_be_but_for_one_that_is_larger_than_all_of_it() {
        let budget = Budget::new(100);
        let (first, second) = (budget.take(60).unwrap(), budget.take(40).unwrap());
        assert_eq!(budget.take(1).unwrap_err(), 100);
        drop(second);
        assert_eq!(budget.take(41).unwrap_err(), 60);
        drop(first);
        let large = budget.take(1_000).unwrap();
        assert_eq!(budget.take(0).unwrap_err(), 1_000);
        drop(large);
        assert!(budget.take(100).is_ok());
    }
}
