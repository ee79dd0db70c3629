//! How long things took, and how much they were, as counts in fixed buckets: plain data that costs an
//! addition to fill, and that sums up over threads.
//!
//! Bucket bounds grow by a factor of 1.33 or 1.5 (1, 1.5, 2, 3, 4, 6, 8, ...), so a quantile is known to
//! within half of itself at any size. Units are the caller's.

/// Powers of two that are told apart; two buckets each.
const OCTAVES: usize = 24;

/// Bounds of [`Histogram`]; what is larger is in one more bucket.
pub const BOUNDS: usize = 2 * OCTAVES;

/// Values up to 16,777,216 in buckets, larger ones together: of microseconds, 16 seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUNDS + 1],
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; BOUNDS + 1],
            sum: 0,
        }
    }
}

/// Upper bound of a bucket, which it includes.
const fn bound(bucket: usize) -> u64 {
    let octave = 1 << (bucket / 2);
    if bucket.is_multiple_of(2) {
        octave
    } else {
        // 1.5 is no whole number, and of whole numbers nothing lies between 1 and 2.
        octave + octave / 2
    }
}

/// The first bucket whose bound is not less than `value`.
fn bucket_of(value: u64) -> usize {
    if value <= 1 {
        return 0;
    }
    let octave = value.ilog2() as usize;
    let lower = 1_u64 << octave;
    if value == lower {
        2 * octave
    } else if value <= lower + lower / 2 {
        2 * octave + 1
    } else {
        2 * octave + 2
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        let bucket = bucket_of(value).min(BOUNDS);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Counts what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// What was counted since `before`, an earlier state of this one.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        for (count, less) in since.counts.iter_mut().zip(&before.counts) {
            *count = count.saturating_sub(*less);
        }
        since.sum = since.sum.saturating_sub(before.sum);
        since
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Each bucket's upper bound, which it includes, and its count; the last bound is `u64::MAX`.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let bounds = (0..BOUNDS).map(bound).chain([u64::MAX]);
        bounds.zip(self.counts.iter().copied())
    }

    /// The value below which the share `quantile` (0 to 1) of all values lies, as far as buckets tell; `None` if there are none.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = (quantile.clamp(0.0, 1.0) * count as f64).max(1.0);
        let (mut below, mut seen) = (0, 0);
        for (bound, count) in self.buckets() {
            if count > 0 && (seen + count) as f64 >= wanted {
                if bound == u64::MAX {
                    return Some(below);
                }
                // As if the values of a bucket lay evenly.
                let share = (wanted - seen as f64) / count as f64;
                return Some(below + ((bound - below) as f64 * share).ceil() as u64);
            }
            seen += count;
            below = bound;
        }
        Some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_includes_it() {
        let bounds: Vec<u64> = (0..BOUNDS).map(bound).collect();
        assert_eq!(bounds[..10], [1, 1, 2, 3, 4, 6, 8, 12, 16, 24]);
        let near = bounds
            .iter()
            .flat_map(|bound| [bound - 1, *bound, bound + 1]);
        for value in near {
            let bucket = bucket_of(value).min(BOUNDS);
            let first = bounds.iter().position(|bound| value <= *bound);
            assert_eq!(bucket, first.unwrap_or(BOUNDS), "{value}");
        }
        assert_eq!(bucket_of(u64::MAX).min(BOUNDS), BOUNDS);
    }

    #[test]
    fn a_quantile_is_right_to_within_its_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=1000).for_each(|value| histogram.record(value));
        for (quantile, value) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = histogram.quantile(quantile).unwrap() as f64;
            assert!((found / value - 1.0).abs() < 0.34, "{quantile}: {found}");
        }
        assert_eq!((histogram.count(), histogram.sum()), (1000, 500_500));
    }

    #[test]
    fn histograms_sum_up_and_tell_what_came_since() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.record(5);
        b.record(70);
        let before = a.clone();
        a.add(&b);
        assert_eq!((a.count(), a.sum()), (2, 75));
        assert_eq!(a.since(&before), b);
    }
}
