//! What the broker does when the machine does not do its part: a disk that fails in a write or in a sync,
//! and a clock that is set. The real program runs with a small library between it and the system, which
//! the test builds with the C compiler that Rust links with.

mod clock;
mod disk;
mod faults;
mod read_only;
