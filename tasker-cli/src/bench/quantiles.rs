//! Quantiles of what was measured, exact: every sample is kept.

use serde::Serialize;

/// Where most of the samples lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Quantiles {
    /// Of these samples; `None` where there are none. A quantile is the smallest sample that so many do not exceed.
    pub(super) fn of(mut samples: Vec<f64>) -> Option<Quantiles> {
        samples.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * samples.len() as f64).ceil() as usize;
            samples.get(rank.saturating_sub(1)).copied()
        };
        Some(Quantiles {
            p50: rounded(at(0.5)?),
            p95: rounded(at(0.95)?),
            p99: rounded(at(0.99)?),
            max: rounded(at(1.0)?),
        })
    }
}

/// To three places, so that a document can be read.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The middle one of some values; 0 where there are none.
pub(super) fn median(values: &[f64]) -> f64 {
    Quantiles::of(values.to_vec()).map_or(0.0, |quantiles| quantiles.p50)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_sample_that_so_many_do_not_exceed() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let found = Quantiles::of(samples).unwrap();
        assert_eq!(
            (found.p50, found.p95, found.p99, found.max),
            (100.0, 190.0, 198.0, 200.0)
        );
        let one = Quantiles::of(vec![0.123_456]).unwrap();
        assert_eq!((one.p50, one.max), (0.123, 0.123));
        assert_eq!(Quantiles::of(Vec::new()), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
