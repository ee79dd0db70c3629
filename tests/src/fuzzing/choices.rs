//! Choices taken from bytes: whoever changes a byte changes one choice, so that a fuzzer learns which
//! choices lead somewhere. When the bytes are used up, every choice is the first.

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether the bytes are used up.
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        first
    }

    /// A number of two bytes.
    pub(super) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number below `limit`, which is 1 to 256.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// True for one byte in `count`; never when the bytes are used up.
    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// The next bytes, at most so many.
    pub(super) fn bytes(&mut self, limit: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(limit.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}
