//! Whether the broker can do its work, for `/readyz` and for whoever started it.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// What the broker can do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Recovering; not listening yet.
    #[default]
    Starting,
    /// All is well.
    Ready,
    /// The disk is nearly full: what is to be kept is refused until there is room.
    DiskFull,
    /// Journal or state failed: nothing is acknowledged any more, a restart recovers. The text says why.
    StoreFailed(Arc<str>),
    /// Stopping.
    Stopping,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ready => f.write_str("ready"),
            Self::DiskFull => f.write_str("the disk is nearly full: what is to be kept is refused"),
            Self::StoreFailed(why) => {
                write!(f, "the store failed, and a restart recovers: {why}")
            }
            Self::Stopping => f.write_str("stopping"),
        }
    }
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

    /// Whether the disk has room for what is to be kept; of a broker that serves.
    pub(crate) fn set_room(&self, is_enough: bool) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Ready if !is_enough => *state = State::DiskFull,
            State::DiskFull if is_enough => *state = State::Ready,
            _ => {}
        }
    }

    pub(crate) fn set(&self, new: State) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::StoreFailed(_)) {
            *state = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_counts_while_the_broker_serves_and_a_failed_store_for_ever() {
        let readiness = Readiness::default();
        readiness.set_room(false);
        assert_eq!(readiness.get(), State::Starting);
        readiness.set(State::Ready);
        readiness.set_room(false);
        assert_eq!(readiness.get(), State::DiskFull);
        readiness.set_room(true);
        assert_eq!(readiness.get(), State::Ready);
        readiness.set(State::StoreFailed("EIO".into()));
        readiness.set_room(true);
        readiness.set(State::Stopping);
        assert_eq!(readiness.get(), State::StoreFailed("EIO".into()));
    }
}
