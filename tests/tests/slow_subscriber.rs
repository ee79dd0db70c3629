//! A subscriber stops reading: the broker's memory stays bounded, publishers go on, and when the
//! subscriber reads on, it gets all that was acknowledged, in order.

use std::time::Instant;

use tidings_core::codec::{Connect, Version};
use tidings_core::message::QoS;
use tidings_tests::measure::{memory, mib};
use tidings_tests::numbered::{publish, rate, receive};
use tidings_tests::{RawClient, TidingsProcess, clean, persistent};

const MESSAGES: u64 = 200_000;
const MESSAGE_BYTES: usize = 1024;
const TOPIC: &str = "slow/stream";
/// The messages are 195 MiB, and a broker that held them would need more than those. This one has its
/// named limits: 16 MiB wait for the disk, a few batches are under way, the newest entries are cached.
const MEMORY_BYTES: u64 = 170 << 20;

fn everything_arrives_after_a_standstill(subscriber: &Connect<'_>) {
    let broker = TidingsProcess::start();
    let mut stalled = RawClient::connect(broker.tcp(), subscriber);
    assert!(!stalled.subscribe(TOPIC, QoS::AtLeastOnce).is_failure());

    let at_first = memory(broker.id()).expect("the broker runs");
    let started = Instant::now();
    let mut publisher = RawClient::connect(broker.tcp(), &clean(Version::V5, "slow-publisher"));
    publish(&mut publisher, TOPIC, 1..=MESSAGES, MESSAGE_BYTES);
    eprintln!(
        "published past a reader that stands still: {}",
        rate(MESSAGES, started)
    );

    let started = Instant::now();
    receive(&mut stalled, TOPIC, 1..=MESSAGES, MESSAGE_BYTES);
    eprintln!("read on: {}", rate(MESSAGES, started));
    stalled.expect_silence();

    let in_the_end = memory(broker.id()).expect("the broker runs");
    eprintln!(
        "memory: {:.0} MiB at first, {:.0} MiB at most",
        mib(at_first.resident),
        mib(in_the_end.peak)
    );
    assert!(
        in_the_end.peak < MEMORY_BYTES,
        "{:.0} MiB of memory",
        mib(in_the_end.peak)
    );

    // It is up to date, and live again.
    publish(
        &mut publisher,
        TOPIC,
        MESSAGES + 1..=MESSAGES + 10,
        MESSAGE_BYTES,
    );
    receive(
        &mut stalled,
        TOPIC,
        MESSAGES + 1..=MESSAGES + 10,
        MESSAGE_BYTES,
    );
}

#[test]
fn a_clean_session_that_stops_reading_costs_no_memory_and_loses_nothing() {
    everything_arrives_after_a_standstill(&clean(Version::V5, "slow-clean"));
}

#[test]
fn a_persistent_session_that_stops_reading_costs_no_memory_and_loses_nothing() {
    everything_arrives_after_a_standstill(&persistent(Version::V311, "slow-persistent"));
}
