//! The state behind the journal: retained messages, sessions that outlive their connection, shared
//! subscriptions, stream heads and accounts, in memory and on disk.
//!
//! The journal is the only truth. Everything here is what the journal says up to an offset, and can
//! be built again from a snapshot and the journal; so damage is found, said, set aside and mended,
//! and never guessed at.
//!
//! * [`MemoryState`]: plain maps. For tests, and to check the others against.
//! * [`SledState`]: an overlay of what was applied since the last checkpoint, over sled.
//! * [`snapshot`]: the whole state in one plain file, from which a damaged sled is built again.
//! * [`compare()`]: what differs between two of them.
//!
//! This module does not know who may read a retained message, nor when one expires.

mod apply;
mod changes;
mod compare;
mod index;
mod memory;
mod open;
mod overlay;
mod record;
mod retained;
mod sled_state;
pub mod snapshot;
mod store;
#[cfg(test)]
mod tests;

pub use compare::{Difference, compare, rebuild_in_memory};
pub use memory::MemoryState;
pub use open::{OpenError, OpenReport, Options, SetAside};
pub use record::{Kind, Records, StateRecord};
pub use sled_state::{Settled, SledState};
