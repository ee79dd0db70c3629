//! `tidings`: the composition root. It turns settings and flags into options, and is the only place
//! that sees both.

mod cli;

use std::process::ExitCode;

/// Halves the cost of large fan-outs, compared with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
