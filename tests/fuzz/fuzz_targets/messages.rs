//! `make fuzz` looks for bytes that break a promise of `fuzzing::messages`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_fuzz::fuzzing::{CountingHeap, messages};

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

fuzz_target!(|data: &[u8]| messages(data));
