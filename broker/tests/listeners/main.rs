//! The doors of the broker, seen from outside: what comes in, what does not, and why.

mod handshake;
mod peer;
mod websocket;
