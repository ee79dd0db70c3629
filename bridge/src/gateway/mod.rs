//! Gateways: what other protocols need to be sessions of this broker, for users who were let in
//! already.
//!
//! ```text
//! HTTP, SSE, ...  ->  Session (MQTT 5 over a pipe in memory)  ->  a session of a shard
//! ```
//! A gateway speaks MQTT to the broker like any client, so what goes through it meets the same
//! session limits, topic rules and journal. [`Session`] is pulled by its owner: what the owner does
//! not take stays in the journal, and the session lags. [`Publisher`] is a handle that many share.
//! This module does not know who a user is, nor the protocols on the other side.

mod json;
mod publisher;
mod session;

pub use json::MessageJson;
pub use publisher::{Publisher, Receipt};
pub use session::{Acked, Event, Granted, Message, Options, Outgoing, Session, SessionError};
