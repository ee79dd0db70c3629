//! `make fuzz` looks for bytes that break a promise of `fuzzing::filters`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_fuzz::fuzzing::{CountingHeap, filters};

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

fuzz_target!(|data: &[u8]| filters(data));
