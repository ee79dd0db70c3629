//! Micro-benches of what a message costs besides system calls: codec, matching, sessions in a shard,
//! journal append.
//!
//! One list of cases, measured in two ways: `cargo bench -p tidings-tests --bench micro` takes the
//! time, `tests/instruction-counts` counts instructions under callgrind, which is the same number on
//! a busy machine. `cargo test` runs each case once, which also checks that every message arrives.

mod case;
mod codec;
mod instructions;
mod journal;
mod matching;
mod rooms;
mod session;
mod topic_rules;
mod traffic;

use std::process::ExitCode;

use criterion::{Criterion, Throughput};

use case::{Case, Meter};

/// What the broker allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn cases() -> Vec<Case> {
    [
        codec::cases(),
        matching::cases(),
        rooms::cases(),
        session::cases(),
        journal::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    if let Some(code) = instructions::main(&cases()) {
        return code;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for case in cases() {
        take_time(&mut criterion, &case);
    }
    criterion.final_summary();
    ExitCode::SUCCESS
}

fn take_time(criterion: &mut Criterion, case: &Case) {
    let mut group = criterion.benchmark_group(case.group);
    group.throughput(Throughput::Elements(case.operations));
    group.bench_function(&case.name, |bencher| {
        let mut round = (case.prepare)();
        bencher.iter_custom(|rounds| {
            let mut meter = Meter::counting();
            (0..rounds).for_each(|_| round(&mut meter));
            meter.elapsed()
        });
    });
    group.finish();
}
