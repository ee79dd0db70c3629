//! The broker without sockets, files, threads or clocks: shards, a journal, a network and clients,
//! all in one thread and all from a seed.
//!
//! * [`House`]: the shards with everything around them, one small piece of work at a time.
//! * [`Client`]: an MQTT client that keeps the protocol, and remembers what it was told.
//!
//! Nothing here knows tokio, and nothing depends on what the machine does.

mod audit;
mod brief;
mod client;
mod disk;
mod doors;
mod house;
mod line;
mod login;
mod model;
mod said;
mod schedule;
mod talk;

pub use client::Client;
pub use disk::Disk;
pub use house::{ClientId, House, Setup, Work};
pub use line::Line;
pub use login::{Filter, Login, Post};
pub use model::Model;
pub use said::{Delivery, Said};
pub use schedule::{Chances, Outcome, Sight, calm_schedule, one_schedule, schedule_from};
pub use talk::{Talk, room_rules, talk_schedule};
