//! Links to other brokers, with real ones at the other end that die and come back under load:
//! Tidings itself (SIGKILL), mosquitto (SIGTERM, for it keeps nothing otherwise) and a rumqttd in
//! this process that comes late.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidings_core::codec::{Ack, Packet, Publish, PublishProperties, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::{
    DEADLINE, Endpoint, RawClient, TidingsOptions, TidingsProcess, clean, persistent,
};

/// Messages in each direction.
const MESSAGES: u32 = 600;

/// How often the peer dies.
const DEATHS: u32 = 3;

/// An address that nobody listens on now. Somebody may take it before it is used: then the test
/// fails at once and says so.
fn free_address() -> SocketAddr {
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    held.local_addr().expect("its address")
}

/// A broker with one link, to `address`.
fn linked(home: &Path, address: &str, protocol: u8, topics: &str) -> TidingsProcess {
    let file = home.join("linked.toml");
    let text = format!(
        "[[bridges]]\nname = \"site\"\naddress = \"{address}\"\nprotocol = {protocol}\n\
         reconnect_min_ms = 50\nreconnect_max_ms = 400\ntopics = [{topics}]\n"
    );
    fs::write(&file, text).expect("a settings file");
    TidingsOptions::new().config(file).start()
}

/// Publishes 1 to [`MESSAGES`], each until it is acknowledged, over as many connections as that
/// takes.
fn publish_all(endpoint: Endpoint, id: &str, topic: &str, qos: QoS) {
    let end = Instant::now() + DEADLINE * 2;
    let mut next = 1;
    while next <= MESSAGES {
        assert!(
            Instant::now() < end,
            "{id}: only {next} of {MESSAGES} were acknowledged in time"
        );
        let connect = clean(Version::V5, id);
        let Ok((mut client, ack)) =
            RawClient::try_connect(endpoint, &connect, Duration::from_secs(5))
        else {
            thread::yield_now();
            continue;
        };
        if ack.reason != ReasonCode::Success {
            continue;
        }
        while next <= MESSAGES && publish_one(&mut client, topic, next, qos) {
            next += 1;
        }
    }
}

/// False if the connection ended before all acknowledgements were there.
fn publish_one(client: &mut RawClient, topic: &str, number: u32, qos: QoS) -> bool {
    let text = number.to_string();
    let packet_id = client.new_packet_id();
    let sent = client.try_send(&Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: Some(packet_id),
        properties: PublishProperties::default(),
        payload: text.as_bytes(),
    }));
    let mut answers = |wanted: fn(&Packet<'_>) -> Option<Ack>| {
        client.try_next().is_ok_and(|frame| {
            wanted(&frame.packet())
                .is_some_and(|ack| ack.packet_id == packet_id && !ack.reason.is_failure())
        })
    };
    if sent.is_err() {
        return false;
    }
    if qos == QoS::AtLeastOnce {
        return answers(|packet| match packet {
            Packet::PubAck(ack) => Some(ack.clone()),
            _ => None,
        });
    }
    let received = answers(|packet| match packet {
        Packet::PubRec(ack) => Some(ack.clone()),
        _ => None,
    });
    let release = Packet::PubRel(Ack::new(packet_id, ReasonCode::Success));
    received
        && client.try_send(&release).is_ok()
        && client
            .try_next()
            .is_ok_and(|frame| matches!(frame.packet(), Packet::PubComp(_)))
}

/// A persistent session on `filter`, made and left.
fn leave_session(endpoint: Endpoint, id: &str, filter: &str) {
    let mut client = RawClient::connect(endpoint, &persistent(Version::V311, id));
    client.subscribe(filter, QoS::AtLeastOnce);
    client.disconnect();
}

/// Takes up the session and waits for all the numbers on `topic`; gives how often each came.
fn collect(endpoint: Endpoint, id: &str, topic: &str) -> HashMap<u32, u32> {
    let mut client = RawClient::connect(endpoint, &persistent(Version::V311, id));
    let mut seen: HashMap<u32, u32> = HashMap::new();
    let mut firsts = Vec::new();
    while seen.len() < MESSAGES as usize {
        let delivery = client.receive();
        assert_eq!(delivery.topic, topic);
        let number = delivery.text().parse().expect("a number");
        let count = seen.entry(number).or_default();
        if *count == 0 {
            firsts.push(number);
        }
        *count += 1;
    }
    assert!(
        firsts.is_sorted(),
        "first arrivals are out of order: {firsts:?}"
    );
    seen
}

fn doubles(seen: &HashMap<u32, u32>) -> u32 {
    seen.values().map(|count| count - 1).sum()
}

/// Both directions at once, while `die_and_come_back` is called [`DEATHS`] times.
fn carry_under_load(
    home: &TidingsProcess,
    peer: Endpoint,
    names: (&str, &str),
    qos: QoS,
    mut die_and_come_back: impl FnMut(),
) {
    let (out, inward) = names;
    leave_session(home.tcp(), "home-reader", inward);
    leave_session(peer, "peer-reader", out);
    thread::scope(|scope| {
        scope.spawn(|| publish_all(home.tcp(), "home-writer", out, qos));
        scope.spawn(|| publish_all(peer, "peer-writer", inward, qos));
        for _ in 0..DEATHS {
            // Under load, not before it.
            publish_all_of(home.tcp(), "pace", "pace", 40);
            die_and_come_back();
        }
    });
    let there = collect(peer, "peer-reader", out);
    let here = collect(home.tcp(), "home-reader", inward);
    eprintln!("doubled: {} out, {} in", doubles(&there), doubles(&here));
}

/// Some messages to nobody: time that passes with the load and not with a clock.
fn publish_all_of(endpoint: Endpoint, id: &str, topic: &str, count: u32) {
    let mut client = RawClient::connect(endpoint, &clean(Version::V5, id));
    for number in 1..=count {
        assert!(
            publish_one(&mut client, topic, number, QoS::AtLeastOnce),
            "the home broker is always there"
        );
    }
    client.disconnect();
}

fn tidings_peer_is_killed(protocol: u8, scheme: &str, qos: QoS) {
    let dir = TempDir::new().expect("a directory");
    let (tcp, ws) = (free_address(), free_address());
    let mut peer = TidingsOptions::new()
        .argument(format!("--tcp={tcp}"))
        .argument(format!("--ws={ws}"))
        .start();
    let address = match scheme {
        "ws" => format!("ws://{ws}/mqtt"),
        _ => format!("tcp://{tcp}"),
    };
    let level = qos as u8;
    let topics = format!("{{ pattern = \"both/#\", direction = \"both\", qos = {level} }}");
    let home = linked(dir.path(), &address, protocol, &topics);
    let names = ("both/out", "both/in");
    carry_under_load(&home, Endpoint::Tcp(tcp), names, qos, || {
        peer.kill();
        peer.restart();
    });
}

#[test]
fn a_peer_that_is_killed_under_load_loses_nothing_either_way_over_mqtt_5() {
    tidings_peer_is_killed(5, "tcp", QoS::AtLeastOnce);
}

#[test]
fn a_peer_that_is_killed_under_load_loses_nothing_either_way_over_mqtt_311_and_websocket() {
    tidings_peer_is_killed(4, "ws", QoS::AtLeastOnce);
}

#[test]
fn a_peer_that_is_killed_under_load_loses_nothing_either_way_over_mqtt_5_and_websocket_at_qos_2() {
    tidings_peer_is_killed(5, "ws", QoS::ExactlyOnce);
}

#[test]
fn a_peer_that_is_killed_under_load_loses_nothing_either_way_over_mqtt_311_at_qos_2() {
    tidings_peer_is_killed(4, "tcp", QoS::ExactlyOnce);
}

/// A mosquitto of this test.
struct Mosquitto {
    dir: TempDir,
    address: SocketAddr,
    child: Child,
}

impl Mosquitto {
    fn start() -> Self {
        let dir = TempDir::new().expect("a directory");
        let address = free_address();
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 0\nuser root\n",
            address.port(),
            dir.path().display()
        );
        fs::write(dir.path().join("mosquitto.conf"), text).expect("a configuration");
        let child = Self::launch(&dir, address);
        Self {
            dir,
            address,
            child,
        }
    }

    fn launch(dir: &TempDir, address: SocketAddr) -> Child {
        let program = tidings_tests::program::find("mosquitto");
        let child = Command::new(program)
            .arg("-c")
            .arg(dir.path().join("mosquitto.conf"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("mosquitto starts");
        wait_for(address);
        child
    }

    fn restart(&mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(asked.is_ok_and(|status| status.success()));
        self.child.wait().expect("mosquitto ends");
        self.child = Self::launch(&self.dir, self.address);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(address: SocketAddr) {
    let end = Instant::now() + DEADLINE;
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < end, "nobody listens on {address}");
        thread::yield_now();
    }
}

#[test]
fn a_mosquitto_that_is_restarted_under_load_gets_and_gives_everything_under_other_names() {
    let dir = TempDir::new().expect("a directory");
    let mut mosquitto = Mosquitto::start();
    let topics = "{ pattern = \"up/#\", direction = \"out\", qos = 1, remote_prefix = \"site/\" }, \
                  { pattern = \"down/#\", direction = \"in\", qos = 1, local_prefix = \"from/\" }";
    let address = format!("tcp://{}", mosquitto.address);
    let home = linked(dir.path(), &address, 4, topics);
    let peer = Endpoint::Tcp(mosquitto.address);
    leave_session(home.tcp(), "home-reader", "from/down/x");
    leave_session(peer, "peer-reader", "site/up/x");
    // What mosquitto has acknowledged to a writer just before it ends it may not give to the link,
    // whose session it keeps: so the link has to be there before.
    await_state(&home, "\"state\":\"up\"");
    thread::scope(|scope| {
        scope.spawn(|| publish_all(home.tcp(), "home-writer", "up/x", QoS::AtLeastOnce));
        scope.spawn(|| publish_all(peer, "peer-writer", "down/x", QoS::AtLeastOnce));
        for _ in 0..DEATHS {
            publish_all_of(home.tcp(), "pace", "pace", 40);
            mosquitto.restart();
        }
    });
    let there = collect(peer, "peer-reader", "site/up/x");
    let here = collect(home.tcp(), "home-reader", "from/down/x");
    eprintln!("doubled: {} out, {} in", doubles(&there), doubles(&here));
}

/// Waits until `$SYS` says this of the link.
fn await_state(home: &TidingsProcess, what: &str) {
    let mut watcher = RawClient::connect(home.tcp(), &clean(Version::V5, "watcher"));
    watcher.subscribe("$SYS/broker/bridge/site/state", QoS::AtMostOnce);
    loop {
        let delivery = watcher.receive();
        if delivery.text().contains(what) {
            return;
        }
    }
}

#[test]
fn both_ways_on_one_topic_with_mqtt_311_does_not_go_round_in_circles() {
    let dir = TempDir::new().expect("a directory");
    let mosquitto = Mosquitto::start();
    let topics = "{ pattern = \"both/#\", direction = \"both\", qos = 1 }";
    let home = linked(
        dir.path(),
        &format!("tcp://{}", mosquitto.address),
        4,
        topics,
    );
    await_state(&home, "\"state\":\"up\"");
    let peer = Endpoint::Tcp(mosquitto.address);
    let mut here = RawClient::connect(home.tcp(), &clean(Version::V311, "here"));
    let mut there = RawClient::connect(peer, &clean(Version::V311, "there"));
    for reader in [&mut here, &mut there] {
        reader.subscribe("both/#", QoS::AtLeastOnce);
    }
    let mut home_writer = RawClient::connect(home.tcp(), &clean(Version::V311, "home-writer"));
    let mut peer_writer = RawClient::connect(peer, &clean(Version::V311, "peer-writer"));
    for n in 0..20 {
        home_writer.publish("both/x", format!("home {n}"), QoS::AtLeastOnce);
        peer_writer.publish("both/x", format!("peer {n}"), QoS::AtLeastOnce);
    }
    // Behind everything else on its way, in both directions.
    home_writer.publish("both/x", "home end", QoS::AtLeastOnce);
    peer_writer.publish("both/x", "peer end", QoS::AtLeastOnce);
    for reader in [&mut here, &mut there] {
        let mut seen = BTreeSet::new();
        while !(seen.contains("home end") && seen.contains("peer end")) {
            let text = reader.receive().text().to_owned();
            assert!(seen.insert(text.clone()), "{text} came twice");
        }
        assert_eq!(seen.len(), 42, "{seen:?}");
    }
}

#[test]
fn a_rumqttd_that_comes_late_gets_what_was_published_before() {
    let dir = TempDir::new().expect("a directory");
    let address = free_address();
    let topics = "{ pattern = \"up/#\", direction = \"out\", qos = 1 }, \
                  { pattern = \"down/#\", direction = \"in\", qos = 1 }";
    let home = linked(dir.path(), &format!("tcp://{address}"), 4, topics);
    publish_all(home.tcp(), "home-writer", "up/x", QoS::AtLeastOnce);
    start_rumqttd(address);
    let at_peer = |id: &str| {
        // rumqttd takes no connection without a Keep Alive.
        let mut connect = clean(Version::V311, id);
        connect.keep_alive_s = 60;
        RawClient::connect(Endpoint::Tcp(address), &connect)
    };
    let mut reader = at_peer("reader");
    reader.subscribe("up/x", QoS::AtLeastOnce);
    // rumqttd keeps what came before for no new reader: what comes from here on must be whole.
    let mut here = RawClient::connect(home.tcp(), &clean(Version::V311, "here"));
    here.subscribe("down/x", QoS::AtLeastOnce);
    await_state(&home, &format!("\"messages_out\":{MESSAGES},"));
    let mut home_writer = RawClient::connect(home.tcp(), &clean(Version::V311, "later"));
    home_writer.publish("up/x", "now", QoS::AtLeastOnce);
    while reader.receive().text() != "now" {}
    let mut peer_writer = at_peer("writer");
    peer_writer.publish("down/x", "back", QoS::AtLeastOnce);
    assert_eq!(here.receive().text(), "back");
}

/// A rumqttd in this process, with the topics of the test: without a matching filter it ends the
/// connection of a publisher.
fn start_rumqttd(listen: SocketAddr) {
    use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
    let settings = ServerSettings {
        name: "v4".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 60_000,
            max_payload_size: 1 << 20,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 1 << 20,
            max_segment_count: 10,
            initialized_filters: Some(vec!["up/#".to_owned(), "down/#".to_owned()]),
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("v4".to_owned(), settings)])),
        ..Config::default()
    };
    thread::spawn(move || {
        if let Err(error) = Broker::new(config).start() {
            panic!("rumqttd does not start: {error}");
        }
    });
    wait_for(listen);
}
