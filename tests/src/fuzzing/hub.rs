//! Several clients that keep the protocol, on one to four shards, with a network, a disk and crashes
//! as the bytes say: who receives what is held against the model of the simulation, which knows
//! nothing but what was asked for and acknowledged.

use crate::simulation::{Chances, schedule_from};

/// See the module. The bytes are the choices of a schedule of the simulation.
pub fn hub(data: &[u8]) {
    let outcome = schedule_from(data, Chances::default());
    assert!(outcome.faults.is_empty(), "{:#?}", outcome.faults);
}
