//! What must hold whatever bytes come: one function for each part of the broker that reads what
//! strangers send, or what a disk gives back. Each takes any bytes and panics if a promise is broken.
//!
//! `cargo fuzz` looks for bytes that break one (the targets in `tests/fuzz` are these functions and
//! nothing else), and the test `fuzz_corpora` gives them what was found so far, and more from seeds.
//! Nothing here knows libFuzzer, and nothing depends on what the machine does.

mod choices;
mod decode;
mod filters;
mod heap;
mod hub;
mod journal;
mod rules;
mod session;
mod web;

pub use decode::decode;
pub use filters::filters;
pub use heap::{CountingHeap, peak_of};
pub use hub::hub;
pub use journal::journal;
pub use rules::rules;
pub use session::session;
pub use web::{http, websocket};

/// Something that must hold for any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its fuzz target and of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("decode", decode),
    ("filters", filters),
    ("http", http),
    ("hub", hub),
    ("journal", journal),
    ("rules", rules),
    ("session", session),
    ("websocket", websocket),
];
