//! The shell of Tidings: everything between the sans-IO core and the operating system. Listeners,
//! shard threads, authentication, and the store behind them, as a broker that runs inside of any
//! program: see [`Broker::start`].
//!
//! It decides nothing about MQTT sessions; that is the core's. It does not know where its options
//! come from.

mod admission;
pub mod audit;
pub mod auth;
mod broker;
mod clock;
pub mod control;
mod counters;
#[doc(hidden)]
pub mod fuzzing;
pub mod handshake;
pub mod heartbeat;
pub mod history;
pub mod http;
pub mod limits;
pub mod listener;
mod listening;
pub mod log_tail;
mod metrics;
mod names;
mod options;
mod otel;
mod people;
mod readiness;
mod rooms;
mod rulebook;
mod running;
mod service;
mod services;
mod shard;
pub mod store;
mod supervisor;
mod system;
pub mod tls;
pub mod trace;
mod transport;

pub use broker::{Broker, StartError};
pub use heartbeat::Vitals;
pub use options::{Auth, BrokerOptions, OtherProofs, SessionLimits};
pub use otel::Options as OtelOptions;
pub use people::Options as PeopleOptions;
pub use readiness::State as Readiness;
pub use rooms::Options as RoomOptions;
pub use running::Running;
pub use supervisor::StopError;
