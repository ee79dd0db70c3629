//! What the tests of Tidings share: the real program as a child process, an MQTT client that can
//! say anything at all, and the programs of others.
//!
//! * [`TidingsProcess`]: the binary `tidings` on free ports and a directory of its own.
//! * [`RawClient`]: one connection over TCP or WebSocket, byte by byte if need be.
//! * [`Program`]: mosquitto's clients, Node and Python scripts, line by line.
//! * [`Pki`]: certificates of a CA of its own, and what OpenSSL finds at a port.
//! * [`crash`]: the crash test, as a library for a test and for `cargo run --bin crash`.
//! * [`floods`]: what somebody sends who means harm, for tests and for `cargo run --release --bin abuse`.
//! * [`fuzzing`]: what must hold whatever bytes come.
//! * [`soak`]: a mixed load for an hour, as a library for `cargo run --bin soak` and a short test.
//! * [`simulation`]: the heart of the broker with disk, network and clients, from a seed.
//!
//! Everything here blocks and panics with a sentence when what was expected does not happen within
//! a deadline: it is for tests. Deadlines are only the failing bound, nothing waits for them.

pub mod api;
pub mod binary;
pub mod client_error;
pub mod crash;
pub mod delivery;
pub mod floods;
pub mod fuzzing;
pub mod link;
pub mod measure;
pub mod numbered;
pub mod pki;
pub mod program;
pub mod raw_client;
mod secure;
pub mod seeded;
pub mod simulation;
pub mod soak;
pub mod tidings_process;
pub mod websocket;

use std::time::Duration;

pub use api::Api;
pub use client_error::ClientError;
pub use delivery::{Delivery, Frame};
pub use link::Endpoint;
pub use pki::Pki;
pub use program::Program;
pub use raw_client::{RawClient, clean, persistent};
pub use tidings_process::{TidingsOptions, TidingsProcess};

/// How long anything may take that a test waits for. Long, because a busy machine with two cores
/// runs several tests at once; nothing but a failure ever waits so long.
pub const DEADLINE: Duration = Duration::from_secs(30);
