//! Whether the broker can do its work, for `/readyz` and for whoever started it.

use std::sync::{Arc, PoisonError, RwLock};

/// What the broker can do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Recovering; not listening yet.
    #[default]
    Starting,
    /// All is well.
    Ready,
    /// Journal or state failed: nothing is acknowledged any more, a restart recovers. The text says why.
    StoreFailed(Arc<str>),
    /// Stopping.
    Stopping,
}

/// The state, shared; a store that failed stays failed.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<RwLock<State>>);

impl Readiness {
    /// The state now.
    pub fn get(&self) -> State {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set(&self, new: State) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::StoreFailed(_)) {
            *state = new;
        }
    }
}
