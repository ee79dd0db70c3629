//! Sensors and fleets against a foreign broker that runs inside the test.
//!
//! The broker is rumqttd on loopback; a small proxy cuts connections where a test asks for it.
//! Deadlines only bound a failing test, nothing here waits for time to pass.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use tidings_devices::fleet;
use tidings_devices::report::Report;
use tidings_devices::scenario::{Behaviour, End, Protocol, Scenario};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Longer than anything here takes even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

struct Addresses {
    v311: SocketAddr,
    v5: SocketAddr,
    ws: SocketAddr,
}

/// Starts a broker that lives as long as the test process.
fn start_broker() -> Addresses {
    // Bound together so that they differ; rumqttd cannot tell which port it got for port 0.
    let held: Vec<TcpListener> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port on loopback"))
        .collect();
    let mut addresses = held.iter().map(|l| l.local_addr().expect("bound"));
    let mut next = || addresses.next().expect("three were bound");
    let (v311, v5, ws) = (next(), next(), next());
    drop(held);

    let server = |name: &str, listen| {
        let settings = ServerSettings {
            name: name.to_owned(),
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
        Some(HashMap::from([(name.to_owned(), settings)]))
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 1 << 20,
            max_segment_count: 10,
            // Without a matching filter rumqttd disconnects the publisher.
            initialized_filters: Some(vec!["device/#".to_owned()]),
            ..RouterConfig::default()
        },
        v4: server("v4", v311),
        v5: server("v5", v5),
        ws: server("ws", ws),
        ..Config::default()
    };
    std::thread::spawn(move || {
        if let Err(e) = Broker::new(config).start() {
            panic!("the broker does not start: {e}");
        }
    });
    Addresses { v311, v5, ws }
}

fn scenario(broker: &str, protocol: Protocol) -> Scenario {
    Scenario {
        sensors: 5,
        name: "d{n}".to_owned(),
        ramp_up: Duration::ZERO,
        behaviour: Behaviour {
            protocol,
            interval: Duration::from_millis(1),
            end: End::Count(40),
            drain: DEADLINE,
            ..Behaviour::new(broker.parse().expect("an address"))
        },
    }
}

async fn run(scenario: &Scenario) -> Report {
    let (_stop, stopped) = watch::channel(false);
    timeout(DEADLINE, fleet::run(scenario, stopped, |_| ()))
        .await
        .expect("the fleet ends by itself")
}

fn assert_all_acknowledged(report: &Report, readings: u64) {
    assert!(report.is_complete(), "{report}");
    assert_eq!(
        (report.readings, report.sent, report.acknowledged),
        (readings, readings, readings),
        "{report}"
    );
    assert_eq!(report.unexpected, 0, "{report}");
    assert!(report.latency.is_some_and(|l| l.p50_us <= l.max_us));
}

#[tokio::test]
async fn every_reading_of_a_fleet_is_acknowledged_over_mqtt_5() {
    let broker = start_broker();
    let report = run(&scenario(&broker.v5.to_string(), Protocol::V5)).await;
    assert_all_acknowledged(&report, 200);
}

#[tokio::test]
async fn every_reading_of_a_fleet_is_acknowledged_over_mqtt_3_1_1_at_qos_1_and_2() {
    let broker = start_broker();
    for qos in [1, 2] {
        let mut scenario = scenario(&broker.v311.to_string(), Protocol::V311);
        scenario.behaviour.qos = qos;
        assert_all_acknowledged(&run(&scenario).await, 200);
    }
}

#[tokio::test]
async fn every_reading_of_a_fleet_is_acknowledged_over_websocket() {
    let broker = start_broker();
    let url = format!("ws://{}/mqtt", broker.ws);
    let report = run(&scenario(&url, Protocol::V311)).await;
    assert_all_acknowledged(&report, 200);
}

#[tokio::test]
async fn at_qos_0_everything_is_sent_and_nothing_is_expected_back() {
    let broker = start_broker();
    let mut scenario = scenario(&broker.v5.to_string(), Protocol::V5);
    scenario.behaviour.qos = 0;
    let report = run(&scenario).await;
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.sent, report.acknowledged), (200, 0));
}

#[tokio::test]
async fn a_fleet_whose_connections_are_cut_reconnects_and_counts_every_reading_once() {
    for protocol in [Protocol::V311, Protocol::V5] {
        for session_expiry in [Duration::ZERO, Duration::from_secs(600)] {
            let broker = start_broker();
            let target = match protocol {
                Protocol::V311 => broker.v311,
                Protocol::V5 => broker.v5,
            };
            let proxy = Proxy::start(target).await;
            let mut scenario = scenario(&proxy.address.to_string(), protocol);
            scenario.behaviour.session_expiry = session_expiry;
            scenario.behaviour.end = End::Count(400);

            let (_stop, stopped) = watch::channel(false);
            let cut = async {
                for connections in [5, 10] {
                    proxy.until_connections(connections).await;
                    proxy.cut.notify_waiters();
                }
                std::future::pending::<()>().await;
            };
            let report = tokio::select! {
                report = timeout(DEADLINE, fleet::run(&scenario, stopped, |_| ())) => report,
                () = cut => unreachable!("it never ends"),
            }
            .expect("the fleet ends by itself");
            assert!(report.reconnects >= 1, "{report}");
            assert_all_acknowledged(&report, 2_000);
        }
    }
}

#[tokio::test]
async fn without_a_broker_the_report_says_that_nothing_was_sent() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port that is free again");
    let mut scenario = scenario(&nobody.to_string(), Protocol::V5);
    scenario.behaviour.end = End::Count(3);
    scenario.behaviour.drain = Duration::from_millis(20);
    let report = run(&scenario).await;
    assert!(!report.is_complete());
    assert_eq!((report.readings, report.sent, report.unsent), (15, 0, 15));
    assert!(report.failed_connects >= 5, "{report}");
}

#[tokio::test]
async fn a_sensor_shows_its_state_obeys_commands_and_says_goodbye() {
    let broker = start_broker();
    let mut scenario = scenario(&broker.v311.to_string(), Protocol::V311);
    scenario.sensors = 1;
    scenario.behaviour.end = End::Never;
    scenario.behaviour.interval = Duration::from_secs(3600);

    let mut options = MqttOptions::new("owner", broker.v311.ip().to_string(), broker.v311.port());
    options.set_keep_alive(DEADLINE);
    let (owner, mut events) = AsyncClient::new(options, 10);
    let (stop, stopped) = watch::channel(false);
    let mut fleet = tokio::spawn(async move { fleet::run(&scenario, stopped, |_| ()).await });

    let conversation = async {
        let mut seen = Vec::new();
        loop {
            // Errors mean that the broker is not up yet; polling connects again.
            let publish = match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(publish))) => publish,
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    owner
                        .try_subscribe("device/d1/#", QoS::AtLeastOnce)
                        .expect("room for a request");
                    continue;
                }
                Ok(_) => continue,
                Err(_) => {
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let text = String::from_utf8_lossy(&publish.payload).into_owned();
            match (publish.topic.as_str(), text.as_str()) {
                ("device/d1/state", "online") => {
                    let send = |command: &str, payload: &str| {
                        owner
                            .try_publish(
                                format!("device/d1/command/{command}"),
                                QoS::AtLeastOnce,
                                false,
                                payload,
                            )
                            .expect("room for a request");
                    };
                    send("interval", "5ms");
                    send("identify", "");
                }
                ("device/d1/telemetry/identify", answer) => {
                    assert!(answer.contains("\"interval_ms\":5"), "{answer}");
                    seen.push("identify");
                }
                ("device/d1/telemetry/temperature", reading) => {
                    let json: serde_json::Value = serde_json::from_str(reading).expect("JSON");
                    // The second reading would come in an hour, had the command not been obeyed.
                    if json["seq"] == 3 {
                        seen.push("pace");
                    }
                }
                ("device/d1/state", "offline") => break,
                _ => {}
            }
            if seen.contains(&"identify") && seen.contains(&"pace") {
                stop.send_replace(true);
            }
        }
    };
    timeout(DEADLINE, conversation)
        .await
        .expect("the sensor does all of it");
    let report = timeout(DEADLINE, &mut fleet)
        .await
        .expect("it ends when stopped")
        .expect("and does not panic");
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.commands, 2);
}

/// Passes connections on to a broker and can cut all of them at once.
struct Proxy {
    address: SocketAddr,
    cut: Arc<Notify>,
    accepted: Arc<AtomicUsize>,
    one_more: Arc<Notify>,
}

impl Proxy {
    async fn start(target: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on loopback");
        let proxy = Self {
            address: listener.local_addr().expect("bound"),
            cut: Arc::default(),
            accepted: Arc::default(),
            one_more: Arc::default(),
        };
        let (cut, accepted) = (Arc::clone(&proxy.cut), Arc::clone(&proxy.accepted));
        let one_more = Arc::clone(&proxy.one_more);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (cut, accepted) = (Arc::clone(&cut), Arc::clone(&accepted));
                let one_more = Arc::clone(&one_more);
                tokio::spawn(async move {
                    // Not up yet: the device tries again, and only real connections are counted.
                    let Ok(mut far) = TcpStream::connect(target).await else {
                        return;
                    };
                    let cut = cut.notified();
                    tokio::pin!(cut);
                    cut.as_mut().enable();
                    accepted.fetch_add(1, Ordering::SeqCst);
                    one_more.notify_one();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = cut => {}
                    }
                });
            }
        });
        proxy
    }

    async fn until_connections(&self, count: usize) {
        while self.accepted.load(Ordering::SeqCst) < count {
            self.one_more.notified().await;
        }
    }
}
