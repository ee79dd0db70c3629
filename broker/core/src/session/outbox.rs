//! The bytes that wait for one socket.
//!
//! Packets are encoded straight into it; what the socket took is forgotten. An idle connection
//! holds no memory here.

/// Above this capacity an emptied buffer is given back instead of kept for the next burst.
const KEPT_CAPACITY: usize = 4096;

/// Bytes to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// The shell was told to write and has not yet taken everything.
    pub announced: bool,
}

impl Outbox {
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Forgets the first `count` pending bytes.
    pub fn wrote(&mut self, count: usize) {
        self.written = (self.written + count).min(self.bytes.len());
        if self.written == self.bytes.len() {
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
}
