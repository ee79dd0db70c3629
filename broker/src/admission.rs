//! Bounds on how many peers there are: those in a handshake, of whom nothing is known yet, and
//! connections, each of which holds a place until it ends.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Peers in a handshake at one time. Each may hold `max_connect_bytes`, so 64 MiB with the default;
/// at 10 seconds each it takes some 400 silent peers a second to fill them.
const MAX_HANDSHAKES: usize = 4096;

/// The places that are left.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// A place; given back when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its drop")]
pub(crate) struct Place {
    everywhere: OwnedSemaphorePermit,
    /// At the listener, if that has places of its own.
    here: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub fn new(max_connections: usize) -> Self {
        let connections = max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            connections: Arc::new(Semaphore::new(connections)),
        }
    }

    /// A place for a peer that nothing is known of; `None` if there are too many.
    pub fn handshake(&self) -> Option<Place> {
        let everywhere = self.handshakes.clone().try_acquire_owned().ok()?;
        Some(Place {
            everywhere,
            here: None,
        })
    }

    /// A place for a client, and one of those of its listener; `None` if there are too many.
    pub fn connection(&self, of_listener: Option<&Arc<Semaphore>>) -> Option<Place> {
        let here = match of_listener {
            Some(places) => Some(places.clone().try_acquire_owned().ok()?),
            None => None,
        };
        let everywhere = self.connections.clone().try_acquire_owned().ok()?;
        Some(Place { everywhere, here })
    }
}
