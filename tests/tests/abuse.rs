//! Strangers and clients that ask for too much, over real sockets: memory stays bounded, each limit
//! says so and is counted, and another client does not notice.
//!
//! `TIDINGS_ABUSE=5000` makes the floods as large as that (raise `ulimit -n` first); they report what
//! another client's round trips took, quiet and meanwhile. Nothing here asserts how long something took.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tidings_core::codec::{
    Connect, Packet, PublishProperties, ReasonCode, RetainHandling, Subscribe, SubscribeFilter,
    Version,
};
use tidings_core::message::QoS;
use tidings_tests::measure::memory;
use tidings_tests::{
    DEADLINE, Endpoint, RawClient, TidingsOptions, TidingsProcess, clean, persistent,
};

const MIB: u64 = 1024 * 1024;

/// How large floods are.
fn flood() -> usize {
    let size = std::env::var("TIDINGS_ABUSE").ok();
    size.and_then(|size| size.parse().ok()).unwrap_or(300)
}

/// A client like any other, who is there before a flood and measures.
struct Bystander {
    client: RawClient,
    quiet: Duration,
    memory: u64,
}

impl Bystander {
    fn new(broker: &TidingsProcess) -> Self {
        let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "bystander"));
        client.subscribe("bystander", QoS::AtMostOnce);
        let quiet = p99(&mut client);
        Self {
            client,
            quiet,
            memory: memory(broker.id()).expect("the broker runs").resident,
        }
    }

    /// Goes on as before; the process has not grown by more than `mib`.
    #[track_caller]
    fn sees(&mut self, broker: &TidingsProcess, what: &str, mib: u64) {
        let during = p99(&mut self.client);
        let grown = memory(broker.id()).expect("the broker runs").peak;
        let grown = grown.saturating_sub(self.memory) / MIB;
        let quiet = self.quiet;
        eprintln!("{what}: p99 {during:?} (quiet {quiet:?}), memory +{grown} MiB");
        assert!(grown <= mib, "{what}: the broker grew by {grown} MiB");
    }
}

/// The slowest of a hundred round trips but one.
fn p99(client: &mut RawClient) -> Duration {
    let mut took: Vec<Duration> = (0..100)
        .map(|_| {
            let began = Instant::now();
            client.publish("bystander", "x", QoS::AtMostOnce);
            client.receive();
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[98]
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn half_open(endpoint: Endpoint, first: &[u8]) -> TcpStream {
    let stream = TcpStream::connect_timeout(&endpoint.address(), DEADLINE);
    let mut stream = stream.expect("the system takes connections for the broker");
    // Who is turned away may be gone by now.
    let _ = stream.write_all(first);
    stream
}

fn is_over(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    !matches!(stream.read(&mut [0; 512]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn filter(text: String) -> SubscribeFilter {
    SubscribeFilter {
        filter: text,
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::DoNotSend,
    }
}

#[test]
fn half_open_handshakes_take_their_own_places_only_and_end() {
    let size = flood();
    let broker = TidingsOptions::new()
        .set("limits.max_handshakes", size)
        .set("mqtt.connect_timeout_s", 3)
        .start();
    let mut bystander = Bystander::new(&broker);
    let begun = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: webs".as_slice();
    let mut open = Vec::new();
    for (endpoint, first) in [
        (broker.tcp(), [].as_slice()),
        (broker.ws(), begun),
        (broker.auto_tcp(), b"\x16\x03\x01"),
    ] {
        open.extend((0..size).map(|_| half_open(endpoint, first)));
    }
    // A connection takes some kilobytes; what it may send before it is known, 16 KiB.
    bystander.sees(&broker, "half-open handshakes", 64 + size as u64 / 32);
    assert!(open.iter_mut().all(is_over), "their time is bounded");
    // Not before: whoever asks for the figures needs a place, too.
    broker.expect_hits("handshakes", 1);
    broker.expect_hits("connect_time", 1);
    RawClient::connect(broker.tcp(), &clean(Version::V311, "late"));
}

#[test]
fn who_sends_one_byte_at_a_time_has_the_time_of_others() {
    let broker = TidingsOptions::new()
        .set("mqtt.connect_timeout_s", 1)
        .start();
    let mut bystander = Bystander::new(&broker);
    let connect = b"\x10\x20\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x13";
    let mut slow: Vec<_> = (0..50)
        .map(|_| half_open(broker.tcp(), &connect[..1]))
        .collect();
    for byte in &connect[1..] {
        for stream in &mut slow {
            // Those whose time was over do not take it.
            let _ = stream.write_all(&[*byte]);
        }
        bystander.client.expect_silence();
    }
    bystander.sees(&broker, "one byte at a time", 32);
    assert!(slow.iter_mut().all(is_over));
    wait_until("it is counted", || broker.limit_hits("connect_time") >= 1);
}

#[test]
fn readers_that_never_read_take_no_memory_beyond_their_bound() {
    let readers = 20;
    let broker = TidingsOptions::new()
        .set("limits.output_bytes_per_connection", 65_536)
        .start();
    let mut bystander = Bystander::new(&broker);
    let mut deaf = Vec::new();
    for number in 0..readers {
        let id = format!("deaf-{number}");
        let mut client = RawClient::connect(broker.tcp(), &persistent(Version::V5, &id));
        client.subscribe("flood/#", QoS::AtLeastOnce);
        deaf.push(client);
    }
    let mut publisher = RawClient::connect(broker.tcp(), &clean(Version::V5, "publisher"));
    let payload = vec![b'x'; 64 * 1024];
    for _ in 0..400 {
        publisher.publish("flood/a", &payload, QoS::AtLeastOnce);
    }
    // 26 MB for each of them; 64 KiB, and a burst of half a MiB, is what one may have.
    bystander.sees(&broker, "readers that never read", 100);
    wait_until("they are found", || {
        broker.metric("tidings_sessions_slow") >= readers
    });
    wait_until("each was full", || {
        broker.limit_hits("output") + broker.limit_hits("inflight_out") >= readers
    });
    let mut one = deaf.pop().expect("there are some");
    for _ in 0..400 {
        assert_eq!(
            one.receive().payload.len(),
            payload.len(),
            "it lost nothing"
        );
    }
}

#[test]
fn a_storm_of_takeovers_and_connects_is_held_to_a_rate_and_its_client_banned() {
    let broker = TidingsOptions::new()
        .set("limits.unlimited_addresses", "[]")
        .set("limits.connects_per_second_per_address", 0)
        .set("limits.ban_after_connects", 20)
        .set("limits.ban_after_offences", 0)
        .start();
    let mut bystander = Bystander::new(&broker);
    let mut reasons = Vec::new();
    let mut last = None;
    for _ in 0..flood().min(300) {
        let connect = clean(Version::V5, "stolen");
        let (client, ack) =
            RawClient::try_connect(broker.tcp(), &connect, DEADLINE).expect("an answer");
        reasons.push(ack.reason);
        if ack.reason == ReasonCode::Success {
            last = Some(client);
        }
    }
    bystander.sees(&broker, "takeovers", 32);
    let let_in = reasons
        .iter()
        .filter(|r| **r == ReasonCode::Success)
        .count();
    assert!((20..40).contains(&let_in), "{let_in} were let in");
    assert_eq!(reasons.last(), Some(&ReasonCode::Banned));
    broker.expect_hits("banned", 1);
    last.expect("one was let in").expect_silence();
    RawClient::connect(broker.tcp(), &clean(Version::V311, "another"));
}

#[test]
fn connections_of_one_address_and_one_user_have_a_number() {
    let broker = TidingsOptions::new()
        .set("limits.unlimited_addresses", "[]")
        .set("limits.connects_per_second_per_address", 0)
        .set("limits.max_connections_per_address", 6)
        .set("limits.max_connections_per_user", 2)
        .start();
    let connect = |version, id: &str, username| {
        let connect = Connect {
            username,
            ..clean(version, id)
        };
        RawClient::try_connect(broker.tcp(), &connect, DEADLINE).expect("an answer")
    };
    let mut kept = Vec::new();
    for id in ["one", "two"] {
        let (client, ack) = connect(Version::V5, id, Some("u"));
        assert_eq!(ack.reason, ReasonCode::Success);
        kept.push(client);
    }
    let (_, ack) = connect(Version::V5, "three", Some("u"));
    assert_eq!(ack.reason, ReasonCode::QuotaExceeded);
    broker.expect_hits("connections_per_user", 1);
    for n in 0..4 {
        let (client, ack) = connect(Version::V311, &format!("other-{n}"), None);
        assert_eq!(ack.reason, ReasonCode::Success);
        kept.push(client);
    }
    let (_, ack) = connect(Version::V311, "seventh", None);
    assert_eq!(ack.reason, ReasonCode::ServerUnavailable, "3 in MQTT 3");
    broker.expect_hits("connections_per_address", 1);
}

#[test]
fn connects_of_one_address_have_a_rate() {
    let broker = TidingsOptions::new()
        .set("limits.unlimited_addresses", "[]")
        .set("limits.connects_per_second_per_address", 1)
        .set("limits.ban_after_offences", 0)
        .start();
    let connect = clean(Version::V5, "hasty");
    wait_until("two come within a second", || {
        let (_, ack) = RawClient::try_connect(broker.tcp(), &connect, DEADLINE).expect("an answer");
        ack.reason == ReasonCode::ConnectionRateExceeded
    });
    broker.expect_hits("connect_rate_per_address", 1);
}

#[test]
fn an_address_that_offends_again_and_again_is_banned() {
    let broker = TidingsOptions::new()
        .set("limits.unlimited_addresses", "[]")
        .set("limits.connects_per_second_per_address", 0)
        .set("limits.ban_after_offences", 5)
        .start();
    let mut there = RawClient::connect(broker.tcp(), &clean(Version::V5, "there"));
    wait_until("it is banned", || {
        let mut stranger = half_open(broker.tcp(), b"not MQTT at all");
        assert!(is_over(&mut stranger));
        let refused = RawClient::try_connect(broker.tcp(), &clean(Version::V5, "new"), DEADLINE);
        refused.is_err()
    });
    there.expect_silence();
}

#[test]
fn floods_of_subscribe_and_share_are_refused_filter_by_filter() {
    let broker = TidingsOptions::new()
        .set("limits.max_filters_per_subscribe", 100)
        .set("mqtt.max_subscriptions_per_session", 150)
        .set("limits.max_share_groups_per_user", 10)
        .set("limits.max_topic_levels", 8)
        .start();
    let mut bystander = Bystander::new(&broker);
    let mut client = RawClient::connect(broker.tcp(), &persistent(Version::V5, "greedy"));
    let many = |count: usize, prefix: &str| -> Vec<SubscribeFilter> {
        (0..count)
            .map(|n| filter(format!("{prefix}/{n}")))
            .collect()
    };
    let ack = client.subscribe_with(None, many(101, "a"));
    assert!(ack.reasons.iter().all(|r| *r == ReasonCode::QuotaExceeded));
    // Many at once, before the first is stored: none slips through.
    for (id, prefix) in (1..).zip(["b", "c", "d", "e"]) {
        client.send(&Packet::Subscribe(Subscribe {
            packet_id: id,
            subscription_id: None,
            user: Vec::new(),
            filters: many(100, prefix),
        }));
    }
    let granted = (0..4).map(|_| {
        let ack = client.expect_suback();
        ack.reasons.iter().filter(|r| !r.is_failure()).count()
    });
    assert_eq!(granted.sum::<usize>(), 150);
    let mut sharer = RawClient::connect(broker.tcp(), &clean(Version::V5, "sharer"));
    let ack = sharer.subscribe_with(None, many(50, "$share/g/x"));
    let granted = ack.reasons.iter().filter(|r| !r.is_failure()).count();
    assert_eq!(granted, 10);
    assert_eq!(ack.reasons[49], ReasonCode::QuotaExceeded);
    let deep = ["x"; 9].join("/");
    assert_eq!(
        sharer.subscribe(&deep, QoS::AtMostOnce),
        ReasonCode::TopicFilterInvalid
    );
    let packet_id = sharer.new_packet_id();
    sharer.send(&tidings_tests::raw_client::publish_packet(
        &deep,
        b"",
        QoS::AtLeastOnce,
        packet_id,
    ));
    assert_eq!(
        sharer.expect_puback(packet_id).reason,
        ReasonCode::TopicNameInvalid
    );
    bystander.sees(&broker, "SUBSCRIBE and $share", 32);
    for limit in [
        "filters_per_subscribe",
        "subscriptions",
        "share_groups_per_user",
        "topic_levels",
    ] {
        broker.expect_hits(limit, 1);
    }
}

#[test]
fn retained_messages_and_sessions_have_a_number() {
    let broker = TidingsOptions::new()
        .set("limits.max_retained_messages", 20)
        .set("limits.max_sessions", 5)
        // It is retained, too.
        .set("people.presence", "false")
        .start();
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "hoarder"));
    let retain = |client: &mut RawClient, topic: &str, payload: &[u8]| {
        let packet_id = client.new_packet_id();
        let mut packet =
            tidings_tests::raw_client::publish_packet(topic, payload, QoS::AtLeastOnce, packet_id);
        if let Packet::Publish(publish) = &mut packet {
            publish.retain = true;
        }
        client.send(&packet);
        client.expect_puback(packet_id).reason
    };
    let before = broker.metric("tidings_retained_messages");
    for n in before..20 {
        let reason = retain(&mut client, &format!("r/{n}"), b"x");
        assert!(!reason.is_failure(), "{n}: {reason:?}");
    }
    assert_eq!(
        retain(&mut client, "r/more", b"x"),
        ReasonCode::QuotaExceeded
    );
    assert!(
        !retain(&mut client, "r/19", b"y").is_failure(),
        "in the place of another"
    );
    assert!(!retain(&mut client, "r/19", b"").is_failure(), "one less");
    assert!(!retain(&mut client, "r/more", b"x").is_failure());
    broker.expect_hits("retained", 1);

    let connect = |n: u64| {
        let id = format!("stays-{n}");
        let connect = persistent(Version::V5, &id);
        RawClient::try_connect(broker.tcp(), &connect, DEADLINE).expect("an answer")
    };
    let first_refused = (0..=5).find(|n| connect(*n).1.reason == ReasonCode::QuotaExceeded);
    assert!(first_refused.is_some_and(|n| n > 0), "{first_refused:?}");
    assert_eq!(connect(0).1.reason, ReasonCode::Success, "it has one");
    broker.expect_hits("sessions", 1);
    RawClient::connect(broker.tcp(), &clean(Version::V5, "goes"));
}

#[test]
fn floods_of_user_properties_are_refused() {
    let broker = TidingsProcess::start();
    let mut bystander = Bystander::new(&broker);
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "talker"));
    let pairs: Vec<(String, String)> = (0..50_000)
        .map(|n| (format!("k{n}"), "v".to_owned()))
        .collect();
    let mut publish = |user: Vec<(&str, &str)>| {
        let packet_id = client.new_packet_id();
        let mut packet =
            tidings_tests::raw_client::publish_packet("t", b"", QoS::AtLeastOnce, packet_id);
        if let Packet::Publish(publish) = &mut packet {
            publish.properties = PublishProperties {
                user,
                ..PublishProperties::default()
            };
        }
        client.send(&packet);
        client.expect_puback(packet_id).reason
    };
    let borrowed = |count: usize| -> Vec<(&str, &str)> {
        pairs
            .iter()
            .take(count)
            .map(|(k, v)| (&**k, &**v))
            .collect()
    };
    for _ in 0..10 {
        assert_eq!(publish(borrowed(50_000)), ReasonCode::QuotaExceeded);
    }
    assert!(!publish(borrowed(128)).is_failure());
    let long = "x".repeat(20_000);
    assert_eq!(publish(vec![("k", &long)]), ReasonCode::QuotaExceeded);
    client.send(&Packet::Subscribe(Subscribe {
        packet_id: 7,
        subscription_id: None,
        user: pairs,
        filters: vec![filter("a".to_owned())],
    }));
    client.expect_refusal(ReasonCode::QuotaExceeded);
    bystander.sees(&broker, "User Properties", 64);
    broker.expect_hits("user_properties", 11);
    broker.expect_hits("user_property_bytes", 1);
}

#[test]
fn huge_packets_that_are_announced_take_nothing_until_they_come() {
    let broker = TidingsProcess::start();
    let mut bystander = Bystander::new(&broker);
    let mut open = Vec::new();
    for number in 0..flood().min(1000) {
        let id = format!("big-{number}");
        let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, &id));
        // PUBLISH of nearly 1 MiB, of which ten bytes come.
        client.send_bytes(&[0x30, 0xF0, 0xFF, 0x3F, 0x00, 0x01, b't', 0x00, 1, 2, 3]);
        open.push(client);
    }
    let mut larger = RawClient::connect(broker.tcp(), &clean(Version::V5, "larger"));
    larger.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    larger.expect_refusal(ReasonCode::PacketTooLarge);
    let mut before = RawClient::open(broker.tcp());
    before.send_bytes(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    before.expect_closed();
    bystander.sees(&broker, "huge packets announced", 64);
    broker.expect_hits("packet_bytes", 1);
    broker.expect_hits("connect_bytes", 1);
}

#[test]
fn above_its_memory_the_broker_lets_nobody_new_in_and_serves_who_is_there() {
    // How much it takes depends on how it was built.
    let idle = memory(TidingsProcess::start().id())
        .expect("it runs")
        .resident
        / MIB;
    let broker = TidingsOptions::new()
        .set("limits.memory_mib", idle + 24)
        .start();
    let mut there = RawClient::connect(broker.tcp(), &clean(Version::V5, "there"));
    let payload = vec![b'x'; 900 * 1024];
    let mut number = 0;
    wait_until("nobody new is let in", || {
        number += 1;
        assert!(number < 300, "300 MB are more than 24");
        let topic = format!("much/{number}");
        let mut packet =
            tidings_tests::raw_client::publish_packet(&topic, &payload, QoS::AtLeastOnce, 1);
        if let Packet::Publish(publish) = &mut packet {
            publish.retain = true;
        }
        there.send(&packet);
        assert!(!there.expect_puback(1).reason.is_failure());
        let connect = clean(Version::V5, "new");
        let (_, ack) = RawClient::try_connect(broker.tcp(), &connect, DEADLINE).expect("an answer");
        ack.reason == ReasonCode::ServerBusy
    });
    there.publish("small", "x", QoS::AtLeastOnce);
    broker.expect_hits("memory", 1);
}
