//! Random numbers from a seed: the same seed, the same choices. Or choices from given bytes, one byte
//! each, so that whoever changes a byte changes one choice.

use std::ops::Range;
use std::sync::Arc;

/// SplitMix64: small, and good enough to choose moments and sizes.
#[derive(Clone, Debug)]
pub struct Seeded {
    state: u64,
    /// What comes before the random numbers, and how much of it was used.
    given: Arc<[u8]>,
    used: usize,
}

impl Seeded {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            given: Arc::default(),
            used: 0,
        }
    }

    /// Choices that `bytes` say; when they are used up, numbers that are always the same.
    pub fn given(bytes: &[u8]) -> Self {
        Self {
            given: bytes.into(),
            ..Self::new(0)
        }
    }

    /// Whether it was made of bytes, and these are used up.
    pub fn has_run_dry(&self) -> bool {
        !self.given.is_empty() && self.used == self.given.len()
    }

    /// Another independent source, for another thread; `name` tells them apart.
    pub fn fork(&mut self, name: u64) -> Self {
        Self::new(self.next() ^ name.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// Any number.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        let mut z = match self.given.get(self.used) {
            Some(&byte) => {
                self.used += 1;
                u64::from(byte).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            }
            None => {
                self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                self.state
            }
        };
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `range`, which must not be empty. (The tiny bias of the remainder does no harm.)
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A number in `range` whose magnitude is even: 1 to 10 as often as 100 to 1000.
    pub fn magnitude(&mut self, range: Range<u64>) -> u64 {
        let low = (range.start.max(1) as f64).ln();
        let high = (range.end.max(2) as f64).ln();
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((low + fraction * (high - low)).exp() as u64).clamp(range.start, range.end - 1)
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.next() as usize % choices.len()]
    }
}
