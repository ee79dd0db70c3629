//! What the system has too little of: file descriptors, and room on the disk. Nothing acknowledged is lost,
//! what can go on goes on, and when there is enough again nobody has to do anything.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tidings_core::codec::{Packet, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::api::Api;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{DEADLINE, RawClient, TidingsOptions, TidingsProcess, clean};

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Publishes what is kept, as who may; gives the Reason Code.
fn say(client: &mut RawClient, text: &str) -> ReasonCode {
    let packet_id = client.new_packet_id();
    client.send(&publish_packet(
        "chat/lobby/alice",
        text.as_bytes(),
        QoS::AtLeastOnce,
        packet_id,
    ));
    client.expect_puback(packet_id).reason
}

/// What is stored of the room, in order.
fn history(broker: &TidingsProcess, count: usize) -> Vec<String> {
    let mut reader = RawClient::connect(broker.tcp(), &clean(Version::V5, "reader"));
    let filter = format!("$replay/last/{count}/chat/lobby/+");
    reader.subscribe(&filter, QoS::AtMostOnce);
    (0..count).map(|_| reader.receive().text()).collect()
}

/// A broker that soon has none left, and makes many files.
fn with_few_descriptors() -> TidingsProcess {
    TidingsOptions::new()
        .open_files(320)
        .set("journal.segment_bytes", 1024 * 1024)
        .set("journal.batch_max_bytes", 1024 * 1024)
        .start()
}

/// Files of the journal stay open for a while when they were read: as many as the journal keeps open are not
/// given to peers.
#[test]
fn while_much_history_is_open_and_peers_have_all_other_descriptors_the_journal_is_written() {
    let broker = with_few_descriptors();
    let mut alice = RawClient::connect(broker.tcp(), &clean(Version::V5, "alice"));
    // Each is in a file of its own.
    let large = "x".repeat(600 * 1024);
    let count = 180;
    for _ in 0..count {
        assert_eq!(say(&mut alice, &large), ReasonCode::Success);
    }
    assert_eq!(history(&broker, count).len(), count);
    let idle = take_all_descriptors(&broker);
    for n in 0..5 {
        assert_eq!(say(&mut alice, &large), ReasonCode::Success, "{n}");
    }
    drop(idle);
}

#[test]
fn without_file_descriptors_the_journal_is_written_and_new_clients_come_in_when_others_go() {
    let broker = with_few_descriptors();
    let mut alice = RawClient::connect(broker.tcp(), &clean(Version::V5, "alice"));
    let idle = take_all_descriptors(&broker);
    // Several segment files are made meanwhile.
    let text = "x".repeat(64 * 1024);
    for _ in 0..64 {
        assert_eq!(say(&mut alice, &text), ReasonCode::Success);
    }
    drop(idle);
    wait_until("others are let in", || {
        let connect = clean(Version::V5, "bob");
        let taken = RawClient::try_connect(broker.tcp(), &connect, DEADLINE);
        taken.is_ok_and(|(_, ack)| ack.reason == ReasonCode::Success)
    });
    assert_eq!(history(&broker, 64).len(), 64);
}

/// Connections that say nothing, until the broker takes no more.
fn take_all_descriptors(broker: &TidingsProcess) -> Vec<TcpStream> {
    let mut idle: Vec<TcpStream> = Vec::new();
    wait_until("the broker gives no more descriptors to peers", || {
        for _ in 0..20 {
            // The system takes them, whatever the broker does with them.
            idle.push(
                TcpStream::connect_timeout(&broker.tcp().address(), DEADLINE).expect("taken"),
            );
        }
        // Over HTTP it could not be asked now.
        idle.len() >= 400 && is_turned_away(&mut idle)
    });
    idle
}

/// Whether the broker has closed the newest of these, unread.
fn is_turned_away(idle: &mut [TcpStream]) -> bool {
    idle.last_mut().is_some_and(|newest| {
        newest.set_read_timeout(Some(DEADLINE)).expect("a socket");
        matches!(newest.read(&mut [0]), Ok(0))
    })
}

/// A small file system of its own, where the system lets us have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory in a temporary one");
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tidings-test"])
            .arg(at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If the broker still has it, it goes with the broker.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn before_the_disk_is_full_nothing_more_is_kept_and_everything_else_goes_on() {
    let home = tempfile::TempDir::with_prefix("tidings-test-").expect("a temporary directory");
    let place = home.path().join("disk");
    let disk = SmallDisk::mount(&place, 96);
    // Without a disk of its own, one is full from the beginning, and stays so.
    let free_mib = if disk.is_some() { 24 } else { 1_000_000_000 };
    let mut broker = TidingsOptions::new()
        .data_dir(place.join("data"))
        .set("journal.segment_bytes", 1024 * 1024)
        .set("journal.batch_max_bytes", 1024 * 1024)
        .set("limits.disk_free_mib", free_mib)
        .start();
    let mut alice = RawClient::connect(broker.tcp(), &clean(Version::V5, "alice"));
    let mut said: Vec<String> = Vec::new();
    if disk.is_some() {
        for n in 0..20 {
            assert_eq!(say(&mut alice, &format!("before {n}")), ReasonCode::Success);
            said.push(format!("before {n}"));
        }
        fs::write(place.join("ballast"), vec![0; 80 * 1024 * 1024]).expect("there is as much");
    }
    let mut number = 0;
    wait_until("what is to be kept is refused", || {
        number += 1;
        let text = format!("meanwhile {number}");
        let reason = say(&mut alice, &text);
        match reason {
            ReasonCode::Success => said.push(text),
            other => assert_eq!(other, ReasonCode::QuotaExceeded),
        }
        reason != ReasonCode::Success
    });
    broker.expect_hits("disk", 1);
    let ready = broker.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.contains("the disk is nearly full"), "{ready}");
    assert!(broker.get("/healthz").starts_with("HTTP/1.1 200 "));
    // What is not kept goes on, and so does reading.
    let mut bob = RawClient::connect(broker.tcp(), &clean(Version::V5, "bob"));
    bob.subscribe("free/+", QoS::AtLeastOnce);
    alice.publish("free/a", "hello", QoS::AtLeastOnce);
    assert_eq!(bob.receive().text(), "hello");
    assert_eq!(history(&broker, said.len()), said);
    let carol = Api::new(&broker).sign_in("carol", "");
    let words = serde_json::json!({ "text": "refused" });
    let (status, answer) = carol.call("POST", "/v1/rooms/lobby/messages", Some(&words));
    assert_eq!(status, 507, "{answer}");
    // MQTT 3 cannot be told: an acknowledgement would claim that it is stored.
    let mut old = RawClient::connect(broker.tcp(), &clean(Version::V311, "alice"));
    alice.expect_refusal(ReasonCode::SessionTakenOver);
    old.send(&publish_packet(
        "chat/lobby/alice",
        b"lost",
        QoS::AtLeastOnce,
        1,
    ));
    old.expect_closed();
    if disk.is_none() {
        return;
    }
    fs::remove_file(place.join("ballast")).expect("it is there");
    let mut alice = RawClient::connect(broker.tcp(), &clean(Version::V5, "alice"));
    number = 0;
    wait_until("it is kept again", || {
        number += 1;
        let text = format!("after {number}");
        let reason = say(&mut alice, &text);
        if reason == ReasonCode::Success {
            said.push(text);
        }
        reason == ReasonCode::Success
    });
    wait_until("it is ready again", || {
        broker.get("/readyz").starts_with("HTTP/1.1 200 ")
    });
    broker.kill();
    broker.restart();
    assert_eq!(
        history(&broker, said.len()),
        said,
        "what was acknowledged is there"
    );
    let mut alice = RawClient::connect(broker.tcp(), &clean(Version::V5, "alice"));
    alice.send(&Packet::PingReq);
    drop(broker);
    drop(disk);
}
