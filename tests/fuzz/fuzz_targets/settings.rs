//! `make fuzz` looks for bytes that break a promise of `fuzzing::settings`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_fuzz::fuzzing::{CountingHeap, settings};

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

fuzz_target!(|data: &[u8]| settings(data));
