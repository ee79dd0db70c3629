//! A message is stored once, whatever the number of its receivers: a hundred sessions are away while
//! thousands of messages come, and all get all of them.

use std::thread;
use std::time::Instant;

use tidings_core::codec::{Connect, Version};
use tidings_core::message::QoS;
use tidings_tests::measure::{disk_bytes, mib, written_bytes};
use tidings_tests::numbered::{publish, rate, receive};
use tidings_tests::{RawClient, TidingsOptions, TidingsProcess, clean, persistent};

const SESSIONS: u64 = 100;
const MESSAGES: u64 = 5000;
const MESSAGE_BYTES: usize = 256;
const TOPIC: &str = "burst/news";
/// Sessions that come back at the same time: as many threads as a small machine likes.
const AT_ONCE: u64 = 4;
/// Files are made larger than needed at once, so a small file shows better what is stored.
const SEGMENT_BYTES: u64 = 1 << 20;

/// What the data directory uses, bytes.
struct Disk {
    /// Written in files.
    written: u64,
    /// Not free for others.
    taken: u64,
}

impl Disk {
    fn of(broker: &TidingsProcess) -> Self {
        Self {
            written: written_bytes(broker.data_dir()).expect("the data directory"),
            taken: disk_bytes(broker.data_dir()).expect("the data directory"),
        }
    }
}

/// Versions and transports take turns.
fn session(broker: &TidingsProcess, number: u64, name: &str) -> RawClient {
    let version = if number.is_multiple_of(2) {
        Version::V5
    } else {
        Version::V311
    };
    let endpoint = if number % 10 == 3 {
        broker.ws()
    } else {
        broker.tcp()
    };
    let connect: Connect<'_> = persistent(version, name);
    RawClient::connect(endpoint, &connect)
}

#[test]
fn a_burst_for_a_hundred_absent_sessions_is_stored_once_and_reaches_all_of_them() {
    let broker = TidingsOptions::new()
        .set("journal.segment_bytes", SEGMENT_BYTES)
        .set("journal.batch_max_bytes", SEGMENT_BYTES / 4)
        .start();
    let name = |number: u64| format!("burst-{number}");
    for number in 0..SESSIONS {
        let name = name(number);
        let mut client = session(&broker, number, &name);
        assert!(!client.session_present());
        assert!(!client.subscribe(TOPIC, QoS::AtLeastOnce).is_failure());
        client.disconnect();
    }

    let before = Disk::of(&broker);
    let started = Instant::now();
    let mut publisher = RawClient::connect(broker.tcp(), &clean(Version::V5, "burst-publisher"));
    publish(&mut publisher, TOPIC, 1..=MESSAGES, MESSAGE_BYTES);
    let after = Disk::of(&broker);
    let size = MESSAGES * MESSAGE_BYTES as u64;
    let times = |bytes: u64| bytes as f64 / size as f64;
    let (written, taken) = (
        after.written - before.written,
        after.taken.saturating_sub(before.taken),
    );
    eprintln!("published: {}", rate(MESSAGES, started));
    eprintln!(
        "disk: {:.2} MiB of messages; {:.2} MiB more are written, {:.2} times; {:.2} MiB more are \
         taken, files having room in advance",
        mib(size),
        mib(written),
        times(written),
        mib(taken),
    );
    assert!(times(written) < 3.0 && times(taken) < 3.0);

    let started = Instant::now();
    thread::scope(|scope| {
        for first in 0..AT_ONCE {
            let broker = &broker;
            scope.spawn(move || {
                for number in (first..SESSIONS).step_by(AT_ONCE as usize) {
                    let name = name(number);
                    let mut client = session(broker, number, &name);
                    assert!(client.session_present(), "{name} is not known any more");
                    receive(&mut client, TOPIC, 1..=MESSAGES, MESSAGE_BYTES);
                    client.expect_silence();
                    client.disconnect();
                }
            });
        }
    });
    eprintln!("delivered: {}", rate(SESSIONS * MESSAGES, started));
}
