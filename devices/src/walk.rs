//! The numbers a simulated sensor makes up: a small seeded generator and a temperature that wanders.
//!
//! The same seed gives the same readings and the same jitter, so a run can be repeated. Not for
//! anything secret.

use std::time::Duration;

/// A seeded generator (SplitMix64): tiny, reproducible everywhere, and good enough for noise.
#[derive(Clone, Debug)]
pub struct Noise {
    state: u64,
}

impl Noise {
    /// A generator that always gives the same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly distributed in `-1.0..1.0`.
    pub fn symmetric(&mut self) -> f64 {
        // 53 bits: what an f64 holds exactly.
        let unit = (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        unit * 2.0 - 1.0
    }

    /// `base` moved by up to `spread` in either direction, never negative.
    pub fn around(&mut self, base: Duration, spread: Duration) -> Duration {
        let moved = base.as_secs_f64() + spread.as_secs_f64() * self.symmetric();
        Duration::try_from_secs_f64(moved.max(0.0)).unwrap_or(base)
    }
}

/// A temperature in degrees Celsius that wanders in small steps and is drawn back to its mean.
#[derive(Clone, Debug)]
pub struct TemperatureWalk {
    noise: Noise,
    mean: f64,
    celsius: f64,
}

impl TemperatureWalk {
    /// Largest step between two readings, in degrees: a room does not change faster.
    pub const MAX_STEP: f64 = 0.35;
    /// No reading is further from the mean than this many degrees.
    pub const MAX_DISTANCE: f64 = 8.0;
    /// Share of the distance to the mean that each step takes back.
    const PULL: f64 = 0.02;

    /// A walk with a mean between 17 and 25 degrees chosen by the seed.
    pub fn new(seed: u64) -> Self {
        let mut noise = Noise::new(seed);
        let mean = 21.0 + 4.0 * noise.symmetric();
        let celsius = mean + noise.symmetric();
        Self {
            noise,
            mean,
            celsius,
        }
    }

    /// The mean the walk is drawn back to.
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// The next reading, rounded to hundredths as a cheap sensor would.
    pub fn next_celsius(&mut self) -> f64 {
        let pull = (self.mean - self.celsius) * Self::PULL;
        let step = (pull + 0.15 * self.noise.symmetric()).clamp(-Self::MAX_STEP, Self::MAX_STEP);
        self.celsius = (self.celsius + step).clamp(
            self.mean - Self::MAX_DISTANCE,
            self.mean + Self::MAX_DISTANCE,
        );
        (self.celsius * 100.0).round() / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(seed: u64, count: usize) -> Vec<f64> {
        let mut walk = TemperatureWalk::new(seed);
        (0..count).map(|_| walk.next_celsius()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_readings_and_another_seed_gives_others() {
        assert_eq!(readings(7, 500), readings(7, 500));
        assert_ne!(readings(7, 500), readings(8, 500));
    }

    #[test]
    fn a_walk_moves_but_in_small_steps_and_near_its_mean() {
        for seed in 0..20 {
            let walk = readings(seed, 5_000);
            let mean = TemperatureWalk::new(seed).mean();
            assert!((17.0..=25.0).contains(&mean));
            for pair in walk.windows(2) {
                // A hundredth more, because readings are rounded.
                assert!((pair[1] - pair[0]).abs() <= TemperatureWalk::MAX_STEP + 0.011);
            }
            assert!(
                walk.iter()
                    .all(|c| (c - mean).abs() <= TemperatureWalk::MAX_DISTANCE + 0.01)
            );
            let (low, high) = walk
                .iter()
                .fold((f64::MAX, f64::MIN), |(l, h), c| (l.min(*c), h.max(*c)));
            assert!(high - low > 0.5, "seed {seed} stands still: {low}..{high}");
        }
    }

    #[test]
    fn jitter_stays_within_its_spread_and_never_goes_below_zero() {
        let mut noise = Noise::new(1);
        for _ in 0..1_000 {
            let d = noise.around(Duration::from_millis(100), Duration::from_millis(30));
            assert!((70..=130).contains(&d.as_millis()), "{d:?}");
            let d = noise.around(Duration::from_millis(1), Duration::from_secs(1));
            assert!(d <= Duration::from_millis(1_001));
        }
        assert_eq!(
            noise.around(Duration::from_secs(1), Duration::ZERO),
            Duration::from_secs(1)
        );
    }
}
