//! Why a [`RawClient`](crate::RawClient) got no packet.

use std::io;
use std::time::Duration;

/// What went wrong on a connection of a test.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing came in time.
    #[error("nothing came within {0:?}")]
    Deadline(Duration),
    /// The other side closed the connection, in whatever way.
    #[error("the connection was closed by the broker")]
    Closed,
    /// What came is not what the transport allows.
    #[error("the transport: {0}")]
    Transport(String),
    /// The socket failed otherwise.
    #[error("the socket: {0}")]
    Io(#[source] io::Error),
}

impl ClientError {
    /// Sorts what a socket says: a reset is a close, as far as tests are concerned.
    pub(crate) fn from_io(error: io::Error, waited: Duration) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut,
            UnexpectedEof, WouldBlock,
        };
        match error.kind() {
            WouldBlock | TimedOut => Self::Deadline(waited),
            BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset
            | UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}
