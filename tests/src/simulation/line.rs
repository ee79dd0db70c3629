//! One network connection: bytes under way in both directions, and what the shell would remember
//! about it.

use std::collections::VecDeque;

use tidings_core::shard::ConnId;

/// Bytes between a client and the broker.
#[derive(Debug, Default)]
pub struct Line {
    /// The shard it belongs to, from CONNECT on.
    pub shard: Option<usize>,
    /// As the shard calls it.
    pub conn: Option<ConnId>,
    /// Sent by the client, not yet read by the broker.
    pub up: VecDeque<u8>,
    /// Read by the broker, not yet used.
    pub unused: Vec<u8>,
    /// It is the turn of others before the rest of that is used.
    pub more: bool,
    /// The shard told the shell to wait.
    pub paused: bool,
    /// Written by the broker, not yet read by the client.
    pub down: VecDeque<u8>,
    /// How many bytes may be under way to the client.
    pub capacity: usize,
    /// The shard has bytes to be written.
    pub writable: bool,
    /// The shard wants it closed.
    pub closing: bool,
    /// The broker's end is closed; nothing follows what is in `down`.
    pub broker_gone: bool,
    /// The client's end is closed.
    pub client_gone: bool,
}

impl Line {
    /// A fresh connection that takes any number of bytes.
    pub fn new() -> Self {
        Self {
            capacity: usize::MAX,
            ..Self::default()
        }
    }

    /// Bytes that the network still takes towards the client.
    pub fn room(&self) -> usize {
        if self.client_gone {
            usize::MAX
        } else {
            self.capacity.saturating_sub(self.down.len())
        }
    }
}
