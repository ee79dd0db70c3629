//! What must hold whatever bytes come: one function for each part of the broker that reads what
//! strangers send, or what a disk gives back. Each takes any bytes and panics if a promise is broken.
//!
//! `make fuzz` looks for bytes that break one (the targets in `tests/fuzz` are these functions and
//! nothing else), and the test `fuzz_corpora` gives them what was found so far, and more from seeds.
//! Nothing here knows libFuzzer, and nothing depends on what the machine does.

mod chat;
mod choices;
mod credentials;
mod decode;
mod filters;
mod frames;
mod front;
mod heap;
mod hub;
mod inflate;
mod journal;
mod messages;
mod rules;
mod session;
mod settings;
mod snapshot;
mod web;

pub use chat::chat;
pub use credentials::credentials;
pub use decode::decode;
pub use filters::filters;
pub use front::front;
pub use heap::{CountingHeap, peak_of};
pub use hub::hub;
pub use journal::journal;
pub use messages::messages;
pub use rules::rules;
pub use session::session;
pub use settings::settings;
pub use snapshot::snapshot;
pub use web::{http, websocket};

/// Something that must hold for any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its fuzz target and of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("chat", chat),
    ("credentials", credentials),
    ("decode", decode),
    ("filters", filters),
    ("front", front),
    ("http", http),
    ("hub", hub),
    ("journal", journal),
    ("messages", messages),
    ("rules", rules),
    ("session", session),
    ("settings", settings),
    ("snapshot", snapshot),
    ("websocket", websocket),
];
