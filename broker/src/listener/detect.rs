//! Tells from the first byte of a connection what it speaks, so that one port can serve MQTT, HTTP
//! with WebSocket, and the same in TLS.
//!
//! A client that waits for the server to speak first, or speaks something else, is not served.

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// The first packet is a CONNECT: type 1, flags 0 (§2.1).
    Mqtt,
    /// A method in capital letters (RFC 9110 §9.1).
    Http,
    /// The record type of a handshake (RFC 8446 §5.1).
    Tls,
    /// Something else.
    Unknown,
}

/// Judges the first byte.
pub(crate) const fn speaks(first: u8) -> Speaks {
    match first {
        0x10 => Speaks::Mqtt,
        b'A'..=b'Z' => Speaks::Http,
        0x16 => Speaks::Tls,
        _ => Speaks::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_what_a_connection_speaks() {
        assert_eq!(speaks(0x10), Speaks::Mqtt);
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            assert_eq!(speaks(method.as_bytes()[0]), Speaks::Http);
        }
        assert_eq!(speaks(0x16), Speaks::Tls);
        // A PUBLISH, a space.
        for first in [0x30, 0x20, 0x00, 0xFF] {
            assert_eq!(speaks(first), Speaks::Unknown);
        }
    }
}
