//! Strangers and clients that ask for too much, over real sockets: memory stays bounded, each limit
//! says so and is counted, and another client loses nothing.
//!
//! Nothing here asserts how long something took: `cargo run --release --bin abuse` measures that.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidings_core::codec::{
    Connect, Packet, PublishProperties, ReasonCode, RetainHandling, Subscribe, SubscribeFilter,
    Version,
};
use tidings_core::message::QoS;
use tidings_tests::floods::{clients, sockets};
use tidings_tests::measure::memory;
use tidings_tests::{
    DEADLINE, Endpoint, Pki, RawClient, TidingsOptions, TidingsProcess, clean, persistent,
};

const MIB: u64 = 1024 * 1024;

/// Half-open handshakes of each kind, and clients that announce a huge packet, at the same time.
const MANY: usize = 5000;

/// As many, or what this system has sockets for; one test at a time has them.
fn many() -> (usize, MutexGuard<'static, ()>) {
    static SOCKETS: Mutex<()> = Mutex::new(());
    // A test that failed has given its sockets back.
    let alone = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    let allowed = sockets::allow(MANY);
    if allowed < MANY {
        // Not to the output that is shown only for a test that fails.
        let _ = writeln!(
            std::io::stderr(),
            "NOT IN FULL: {allowed} connections instead of {MANY}, for want of open files"
        );
    }
    (allowed, alone)
}

/// A client like any other, who is there before a flood and loses nothing.
struct Bystander {
    client: RawClient,
    sent: u64,
    memory: u64,
}

impl Bystander {
    fn new(broker: &TidingsProcess) -> Self {
        let mut client = RawClient::connect(broker.tcp(), &clean(Version::V5, "bystander"));
        client.subscribe("bystander", QoS::AtMostOnce);
        let mut bystander = Self {
            client,
            sent: 0,
            memory: memory(broker.id()).expect("the broker runs").resident,
        };
        bystander.goes_on();
        bystander
    }

    /// A hundred messages come back, each once and in order.
    #[track_caller]
    fn goes_on(&mut self) {
        for _ in 0..100 {
            self.sent += 1;
            let text = self.sent.to_string();
            self.client.publish("bystander", &text, QoS::AtMostOnce);
            assert_eq!(self.client.receive().text(), text);
        }
    }

    /// Goes on as before; the process has not grown by more than `mib`.
    #[track_caller]
    fn sees(&mut self, broker: &TidingsProcess, what: &str, mib: u64) {
        self.goes_on();
        let grown = memory(broker.id()).expect("the broker runs").peak;
        let grown = grown.saturating_sub(self.memory) / MIB;
        assert!(grown <= mib, "{what}: the broker grew by {grown} MiB");
    }
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

/// How a ClientHello begins (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

fn with_tls() -> (TidingsOptions, Pki) {
    let pki = Pki::new();
    pki.server("server", 1, &[]);
    let options = TidingsOptions::new()
        .argument("--mqtts")
        .argument("127.0.0.1:0")
        .set("tls.certificates", pki.certificates(&["server"]));
    (options, pki)
}

/// A connection of which no more comes than `first`.
fn begin(address: SocketAddr, first: &[u8]) -> TcpStream {
    sockets::open(address, first).expect("the system takes it for the broker")
}

/// As many handshakes as the broker has places for are begun and not finished: meanwhile nobody new finds a
/// place, and who is there loses nothing.
#[track_caller]
fn half_open_handshakes(to: impl Fn(&TidingsProcess) -> SocketAddr, first: &[u8]) {
    let (size, _alone) = many();
    let (options, _pki) = with_tls();
    let broker = options
        .set("limits.max_handshakes", size)
        .set("mqtt.connect_timeout_s", 300)
        .start();
    let mut bystander = Bystander::new(&broker);
    let held: Vec<TcpStream> = (0..size).map(|_| begin(to(&broker), first)).collect();
    bystander.goes_on();
    if first.first() == Some(&TLS_HANDSHAKE) {
        for stream in &held {
            stream.set_nonblocking(false).expect("a socket");
            stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
            stream.peek(&mut [0]).expect("its ClientHello is answered");
        }
    }
    let mut one_more = begin(to(&broker), first);
    wait_until("nobody else finds a place", || {
        sockets::is_over(&mut one_more)
    });
    // A TLS session that waits takes some twenty kilobytes, all others less.
    bystander.sees(
        &broker,
        "half-open handshakes",
        32 + size as u64 * 24 / 1024,
    );
    drop(held);
    wait_until("there are places again", || {
        let connect = clean(Version::V311, "late");
        RawClient::try_connect(broker.tcp(), &connect, DEADLINE).is_ok()
    });
    broker.expect_hits("handshakes", 1);
    bystander.goes_on();
}

#[test]
fn five_thousand_half_open_tcp_handshakes_take_their_own_places_only() {
    half_open_handshakes(|broker| broker.tcp().address(), b"");
}

#[test]
fn five_thousand_half_open_tls_handshakes_take_their_own_places_only() {
    half_open_handshakes(TidingsProcess::mqtts, &sockets::client_hello());
}

#[test]
fn five_thousand_half_open_websocket_handshakes_take_their_own_places_only() {
    half_open_handshakes(|broker| broker.ws().address(), sockets::HALF_A_REQUEST);
}

#[test]
fn half_open_handshakes_end_by_themselves() {
    let (options, _pki) = with_tls();
    let broker = options.set("mqtt.connect_timeout_s", 1).start();
    let hello = sockets::client_hello();
    let kinds: [(SocketAddr, &[u8]); 5] = [
        (broker.tcp().address(), b""),
        (broker.ws().address(), sockets::HALF_A_REQUEST),
        (broker.auto_tcp().address(), b"\x16\x03\x01"),
        (broker.mqtts(), &hello),
        (broker.tcp().address(), b"\x10\x20\x00\x04MQ"),
    ];
    let begun = kinds.iter().cycle().take(100);
    let mut held: Vec<TcpStream> = begun.map(|(to, first)| begin(*to, first)).collect();
    wait_until("their time is bounded", || {
        held.iter_mut().all(sockets::is_over)
    });
    // Half a request is ended by who serves HTTP.
    broker.expect_hits("connect_time", 80);
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
    for _ in 0..300 {
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

fn retain(client: &mut RawClient, topic: &str, payload: &[u8]) -> ReasonCode {
    let packet_id = client.new_packet_id();
    let mut packet =
        tidings_tests::raw_client::publish_packet(topic, payload, QoS::AtLeastOnce, packet_id);
    if let Packet::Publish(publish) = &mut packet {
        publish.retain = true;
    }
    client.send(&packet);
    client.expect_puback(packet_id).reason
}

#[test]
fn one_user_alone_cannot_take_all_that_may_be_retained() {
    let broker = TidingsOptions::new()
        .set("limits.max_retained_messages_per_user", 3)
        .set("limits.max_retained_mib_per_user", 1)
        .start();
    let mut hoarder = RawClient::connect(broker.tcp(), &clean(Version::V5, "hoarder"));
    let mut other = RawClient::connect(broker.tcp(), &clean(Version::V5, "other"));
    for topic in ["r/1", "r/2", "r/3"] {
        assert!(!retain(&mut hoarder, topic, b"x").is_failure());
    }
    assert_eq!(retain(&mut hoarder, "r/4", b"x"), ReasonCode::QuotaExceeded);
    assert!(!retain(&mut hoarder, "r/3", b"y").is_failure(), "its own");
    assert!(!retain(&mut other, "r/4", b"x").is_failure());
    assert_eq!(
        retain(&mut hoarder, "r/4", b"y"),
        ReasonCode::QuotaExceeded,
        "in the place of another's it is one more"
    );
    assert!(!retain(&mut other, "r/3", b"z").is_failure(), "one less");
    assert!(!retain(&mut hoarder, "r/5", b"x").is_failure());
    broker.expect_hits("retained_per_user", 2);
    let large = vec![b'x'; 900 * 1024];
    for _ in 0..2 {
        assert!(!retain(&mut other, "r/4", &large).is_failure());
    }
    assert!(!retain(&mut other, "r/6", &large).is_failure());
    assert_eq!(retain(&mut other, "r/6", b"x"), ReasonCode::QuotaExceeded);
    assert!(!retain(&mut other, "r/6", b"").is_failure());
    assert!(!retain(&mut other, "r/6", b"x").is_failure());
    broker.expect_hits("retained_bytes_per_user", 1);
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
    let broker = TidingsOptions::new()
        .set("limits.max_handshakes", 2 * MANY)
        .set("mqtt.connect_timeout_s", 300)
        .set("people.presence", "false")
        .start();
    let mut bystander = Bystander::new(&broker);
    let open = |number: usize| {
        let connect = clients::connect_bytes(&format!("big-{number}"));
        let first = [&connect[..], &sockets::ANNOUNCED].concat();
        sockets::open(broker.tcp().address(), &first).expect("the system takes it")
    };
    let (size, _alone) = many();
    let mut held: Vec<TcpStream> = (0..size).map(open).collect();
    wait_until("all are clients", || {
        broker.metric("tidings_connections") > held.len() as u64
    });
    let mut larger = RawClient::connect(broker.tcp(), &clean(Version::V5, "larger"));
    larger.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    larger.expect_refusal(ReasonCode::PacketTooLarge);
    let mut before = RawClient::open(broker.tcp());
    before.send_bytes(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    before.expect_closed();
    bystander.sees(
        &broker,
        "huge packets announced",
        32 + held.len() as u64 * 8 / 1024,
    );
    assert!(
        !held.iter_mut().any(sockets::is_over),
        "what they announced is allowed"
    );
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
