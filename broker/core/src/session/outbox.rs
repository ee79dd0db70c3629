//! The bytes that wait for one socket.
//!
//! Packets are encoded straight into it; what the socket took is forgotten. A socket that took
//! everything last time may be given a burst, because it probably takes that too; one that left a
//! rest is *blocked*, and is given no more than the limit. An idle connection holds no memory here.

/// Above this capacity an emptied buffer is given back at once; below it, when it was idle for a
/// while.
const KEPT_CAPACITY: usize = 128 * 1024;

/// How many times the limit of a blocked connection one that is not blocked may have: what many
/// publishers send to one receiver between two flushes.
const BURST: usize = 8;

/// Bytes to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// The shell was told to write and has not yet taken everything.
    pub announced: bool,
    /// The socket did not take everything, and has not since.
    blocked: bool,
    /// It had bytes since it was last asked whether it is idle.
    used: bool,
}

impl Outbox {
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Whether one more packet may be added; `limit` is in bytes.
    pub fn has_room(&self, limit: usize) -> bool {
        let limit = if self.blocked { limit } else { BURST * limit };
        self.bytes.len() - self.written <= limit
    }

    /// The socket did not take everything, and has not since.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Forgets the first `count` pending bytes.
    pub fn wrote(&mut self, count: usize) {
        self.used = true;
        self.written = (self.written + count).min(self.bytes.len());
        self.blocked = self.written < self.bytes.len();
        if !self.blocked {
            self.written = 0;
            self.announced = false;
            if self.bytes.capacity() > KEPT_CAPACITY {
                self.bytes = Vec::new();
            } else {
                self.bytes.clear();
            }
        } else if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    /// Forgets everything that was not written, perhaps in the middle of a packet: the connection is
    /// over.
    pub fn discard(&mut self) {
        *self = Self::default();
    }

    /// Asked now and then: gives memory back that nothing was written from since the last time.
    pub fn rest(&mut self) {
        if !std::mem::take(&mut self.used) && self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_left_a_rest_gets_no_bursts_until_it_took_everything() {
        let mut out = Outbox::default();
        out.buffer().extend_from_slice(&[0; 300]);
        assert!(out.has_room(100));
        out.wrote(100);
        assert!(!out.has_room(100));
        out.wrote(200);
        out.buffer().extend_from_slice(&[0; 300]);
        assert!(out.has_room(100));
    }

    #[test]
    fn memory_is_given_back_after_a_rest() {
        let mut out = Outbox::default();
        out.buffer().extend_from_slice(&[0; 300]);
        out.wrote(300);
        out.rest();
        assert!(out.buffer().capacity() > 0);
        out.rest();
        assert_eq!(out.buffer().capacity(), 0);
    }
}
