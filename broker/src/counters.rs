//! Counters of what happens outside of the shards: bytes, and peers that never became clients.
//!
//! They only grow, and are read for the statistics; nothing is decided by them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Since the start of the broker, over all listeners.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Sockets that were accepted.
    pub accepted: Counter,
    /// CONNECTs that were refused, and peers that sent something else or nothing in time.
    pub refused: Counter,
    /// Those of them that came with the name of a device as Client Identifier.
    pub refused_client_ids: Counter,
    /// Connections on which TLS was agreed on.
    pub tls_agreed: Counter,
    /// Connections on which it was not.
    pub tls_failed: Counter,
    /// Sockets closed at once because too many were in their handshake.
    pub turned_away: Counter,
}
