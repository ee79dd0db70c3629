//! Runs random schedules of the simulation by hand.

fn main() {}
