//! How many streams each user has: a reader takes a place, and gives it back when it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The streams that are open, by user.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<HashMap<Arc<str>, u32>>);

/// One of them.
#[derive(Debug)]
pub(super) struct Place {
    streams: Arc<Streams>,
    user: Arc<str>,
}

impl Streams {
    /// A place for one more stream of a user, who has at most `maximum`.
    pub(super) fn take(self: &Arc<Self>, user: &Arc<str>, maximum: u32) -> Option<Place> {
        let mut open = self.open();
        let count = open.entry(user.clone()).or_default();
        if *count >= maximum {
            return None;
        }
        *count += 1;
        Some(Place {
            streams: self.clone(),
            user: user.clone(),
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Arc<str>, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(count) = open.get_mut(&self.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_places_and_gets_them_back() {
        let streams = Arc::new(Streams::default());
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        let first = streams.take(&alice, 2);
        let second = streams.take(&alice, 2);
        assert!(first.is_some() && second.is_some());
        assert!(streams.take(&alice, 2).is_none());
        assert!(streams.take(&bob, 2).is_some());
        drop(first);
        assert!(streams.take(&alice, 2).is_some());
        drop(second);
        assert!(streams.open().is_empty(), "nobody is remembered");
    }
}
