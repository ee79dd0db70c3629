//! What a service manager and the program say to each other, as systemd has it: sockets that are handed
//! over ([`sockets`]), and what becomes of the service ([`notify`]).
//!
//! Both are in environment variables. Without them nothing of this happens.

pub(super) mod notify;
pub(super) mod sockets;
