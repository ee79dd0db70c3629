//! What a stream may take: memory, and places.

use std::thread;
use std::time::{Duration, Instant};

use tidings_core::message::QoS;
use tidings_tests::{DEADLINE, TidingsOptions, TidingsProcess};

use crate::reader::{Events, Http, connect, poll, token};

/// Resident memory of a process in KiB.
fn memory_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("its memory")
}

#[test]
fn a_stream_that_is_not_read_takes_bounded_memory_and_reads_on_from_the_journal() {
    const COUNT: usize = 300;
    const READERS: usize = 4;
    let broker = TidingsProcess::start();
    let at = broker.ws();
    let mut bob = connect(broker.tcp(), "bob", "bob-talks");
    let mut streams: Vec<Events> = (0..READERS)
        .map(|n| {
            let token = token(at, &format!("reader{n}"), "");
            Events::open(at, &token, "filter=chat/%23")
        })
        .collect();
    // The first ones warm up what is there once.
    let text = "x".repeat(200_000);
    for _ in 0..20 {
        bob.publish("chat/lobby/bob", &text, QoS::AtLeastOnce);
    }
    let before = memory_kib(broker.id());
    for _ in 20..COUNT {
        bob.publish("chat/lobby/bob", &text, QoS::AtLeastOnce);
    }
    let grown = memory_kib(broker.id()).saturating_sub(before);
    // 56 MB were published for each of four readers.
    assert!(grown < 24 * 1024, "grew by {grown} KiB");
    for events in &mut streams {
        for seq in 1..=COUNT {
            let message = events.message();
            assert_eq!(message["seq"], seq);
            assert_eq!(message["payload"].as_str().map(str::len), Some(text.len()));
        }
    }
}

#[test]
fn one_user_has_so_many_streams_and_the_others_theirs() {
    let broker = TidingsOptions::new()
        .set("http.max_streams_per_user", 2)
        .start();
    let at = broker.ws();
    let (alice, bob) = (token(at, "alice", ""), token(at, "bob", ""));
    let streams = [(); 2].map(|()| Events::open(at, &alice, "filter=chat/%23"));
    for path in ["/v1/events", "/v1/poll?wait=30"] {
        let sep = if path.contains('?') { '&' } else { '?' };
        let start = poll(at, &alice, "since=now")["cursor"].clone();
        let since = start.as_str().expect("a cursor");
        let path = format!("{path}{sep}filter=chat/%23&since={since}");
        let refused = Http::send(at, "GET", &path, Some(&alice), "");
        assert_eq!(refused.status, 429, "{path}");
        assert_eq!(refused.json()["error"]["code"], "too_many_streams");
    }
    let _other = Events::open(at, &bob, "filter=chat/%23");
    drop(streams);
    // The broker sees in its own time that they are gone.
    let until = Instant::now() + DEADLINE;
    let path = "/v1/events?filter=chat/%23";
    while Http::send(at, "GET", path, Some(&alice), "").status != 200 {
        assert!(Instant::now() < until, "no place is given back");
        thread::sleep(Duration::from_millis(20));
    }
}
