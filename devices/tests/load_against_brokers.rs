//! The load generator against a foreign broker, and against one that is made to lose, double, reorder
//! and refuse: whether all of it is noticed.
//!
//! Both run inside the test on loopback. Deadlines only bound a failing test.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidings_devices::bench::brokers::serve_rumqttd;
use tidings_devices::bench::load::{self, Settings};
use tidings_devices::bench::outcome::Outcome;
use tidings_devices::bench::scenario::Scenario;
use tidings_devices::bench::target::{Carrier, Target, Usage};

/// Longer than a broker takes to listen, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

struct Listening {
    tcp: SocketAddr,
    ws: Option<SocketAddr>,
}

impl Target for Listening {
    fn name(&self) -> &str {
        "the broker of this test"
    }

    fn address(&self, carrier: Carrier) -> Option<SocketAddr> {
        match carrier {
            Carrier::Tcp => Some(self.tcp),
            Carrier::WebSocket => self.ws,
        }
    }

    fn websocket_path(&self) -> &str {
        "/mqtt"
    }

    fn usage(&self) -> Option<Usage> {
        None
    }

    fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        anyhow::bail!("lives as long as the test")
    }
}

fn run(
    target: &mut Listening,
    name: &str,
    measure: Duration,
    threads: usize,
) -> anyhow::Result<Outcome> {
    let settings = Settings {
        warm_up: Duration::from_millis(20),
        measure,
        cores: None,
        threads,
    };
    load::run(&Scenario::by_name(name)?, target, &settings, &|_| ())
}

fn start_rumqttd() -> Listening {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port on loopback"));
    let [tcp, ws] = held.map(|l| l.local_addr().expect("bound"));
    std::thread::spawn(move || {
        if let Err(e) = serve_rumqttd(tcp, ws) {
            panic!("the broker does not start: {e:#}");
        }
    });
    let began = Instant::now();
    while TcpStream::connect(tcp).is_err() || TcpStream::connect(ws).is_err() {
        assert!(began.elapsed() < DEADLINE, "the broker does not listen");
        std::thread::yield_now();
    }
    Listening { tcp, ws: Some(ws) }
}

#[test]
fn every_shape_runs_against_a_foreign_broker_and_nothing_is_lost() {
    let mut broker = start_rumqttd();
    for (name, threads) in [
        ("fan-in-5-qos0-64B-w20-tcp", 1),
        ("fan-in-5-qos1-64B-w20-tcp", 2),
        ("fan-out-10-qos0-64B-w20-tcp", 2),
        ("fan-out-10-qos1-4096B-w20-tcp", 1),
        ("pairs-4-qos0-20B-w1-tcp", 1),
        ("pairs-4-qos1-64B-w20-tcp", 2),
        ("pairs-4-qos2-64B-w20-tcp", 1),
        ("pairs-4-qos1-64B-w20-ws", 1),
        ("pairs-4-qos0-4096B-w20-ws", 1),
        ("rooms-2x3-qos1-64B-w1-tcp", 2),
        ("shared-3x2-qos0-64B-w5-tcp", 1),
        ("paced-500-qos1-64B-w20-tcp", 1),
        ("durable-online-3-qos1-64B-w20-tcp", 1),
        ("durable-offline-3-qos1-64B-w20-tcp", 1),
        ("filters-50-qos0-64B-w5-tcp", 1),
        ("offline-burst-3x50-qos1-64B-w20-tcp", 1),
        ("slow-subscriber-200-qos1-1024B-w20-tcp", 1),
    ] {
        let outcome = run(&mut broker, name, Duration::from_millis(100), threads)
            .unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!(outcome.remarks, [""; 0], "{name}");
        assert!(outcome.delivered > 0, "{name}: nothing was delivered");
        let wrong = (outcome.lost, outcome.doubled, outcome.out_of_order);
        assert_eq!(wrong, (0, 0, 0), "{name}: lost, doubled, out of order");
    }
    for name in ["idle-50-tcp", "idle-50-ws"] {
        let outcome = run(&mut broker, name, Duration::ZERO, 1).expect(name);
        assert!(
            outcome
                .figures
                .iter()
                .any(|(name, n)| name == "connects/s" && *n > 0.0),
            "{name}"
        );
    }
}

#[test]
fn a_catalogue_name_for_a_carrier_that_is_not_there_says_so() {
    let mut broker = Listening {
        tcp: SocketAddr::from(([127, 0, 0, 1], 1)),
        ws: None,
    };
    let error =
        run(&mut broker, "pairs-1-qos0-64B-w1-ws", Duration::ZERO, 1).expect_err("no listener");
    assert_eq!(
        error.to_string(),
        "the broker of this test has no listener for ws"
    );
}

/// What the broker of a test does with the n-th PUBLISH.
type Fate = fn(u64) -> &'static [Deed];

#[derive(Clone, Copy)]
enum Deed {
    /// Sends it on.
    Send,
    /// Keeps it back.
    Hold,
    /// Sends the one that was kept back.
    Release,
    /// Closes the subscriber's connection.
    HangUp,
}

/// A broker of one publisher and one subscriber at QoS 0.
fn start_scoundrel(fate: Fate) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    let tcp = listener.local_addr().expect("bound");
    let subscriber = Arc::new(Mutex::new(None));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let subscriber = Arc::clone(&subscriber);
            std::thread::spawn(move || serve(client, &subscriber, fate));
        }
    });
    Listening { tcp, ws: None }
}

/// Answers a client until it goes; the one that subscribes receives what the other publishes.
fn serve(mut client: TcpStream, subscriber: &Mutex<Option<TcpStream>>, fate: Fate) -> Option<()> {
    let (mut number, mut held) = (0, Vec::new());
    loop {
        let packet = read_packet(&mut client)?;
        match packet[0] >> 4 {
            1 => client.write_all(&[0x20, 2, 0, 0]).ok()?,
            8 => {
                *subscriber.lock().ok()? = Some(client.try_clone().ok()?);
                client.write_all(&[0x90, 3, packet[2], packet[3], 0]).ok()?;
            }
            3 => {
                let mut guard = subscriber.lock().ok()?;
                let to = guard.as_mut()?;
                for deed in fate(number) {
                    match deed {
                        Deed::Send => to.write_all(&packet).ok()?,
                        Deed::Hold => held.clone_from(&packet),
                        Deed::Release => to.write_all(&held).ok()?,
                        Deed::HangUp => to.shutdown(Shutdown::Both).ok()?,
                    }
                }
                number += 1;
            }
            _ => return None,
        }
    }
}

/// A packet of at most 127 bytes behind its fixed header, which all of this test are.
fn read_packet(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut packet = vec![0; 2];
    client.read_exact(&mut packet).ok()?;
    packet.resize(2 + usize::from(packet[1]), 0);
    client.read_exact(&mut packet[2..]).ok()?;
    Some(packet)
}

#[test]
fn what_a_broker_loses_doubles_and_reorders_is_counted() {
    use Deed::{Hold, Release, Send};
    // Of each ten messages the 3rd is lost, the 5th comes twice, and the 7th after the 8th.
    let fate: Fate = |number| match number % 10 {
        3 => &[],
        5 => &[Send, Send],
        7 => &[Hold],
        8 => &[Send, Release],
        _ => &[Send],
    };
    let mut broker = start_scoundrel(fate);
    let outcome = run(
        &mut broker,
        "pairs-1-qos0-20B-w20-tcp",
        Duration::from_millis(100),
        1,
    )
    .expect("a broker like any other");
    for (what, count) in [
        ("lost", outcome.lost),
        ("doubled", outcome.doubled),
        ("out of order", outcome.out_of_order),
    ] {
        let tenth = outcome.delivered / 9;
        assert!(
            count >= tenth.max(10),
            "{count} {what} of {}",
            outcome.delivered
        );
    }
}

#[test]
fn a_connection_that_the_broker_closes_ends_the_run_and_is_told() {
    let fate: Fate = |number| {
        if number == 50 {
            &[Deed::HangUp]
        } else {
            &[Deed::Send]
        }
    };
    let mut broker = start_scoundrel(fate);
    let outcome = run(&mut broker, "pairs-1-qos0-20B-w20-tcp", DEADLINE, 1).expect("an outcome");
    assert!(outcome.lost > 0, "what was under way is lost");
    let told = "connections lost; the first:";
    assert!(
        outcome.remarks.iter().any(|r| r.contains(told)),
        "{:?}",
        outcome.remarks
    );
}

#[test]
fn a_broker_that_refuses_is_named_with_what_was_expected_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    let tcp = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            if read_packet(&mut client).is_some() {
                let _refused = client.write_all(&[0x20, 2, 0, 5]);
            }
        }
    });
    let mut broker = Listening { tcp, ws: None };
    let error = run(&mut broker, "pairs-1-qos0-20B-w20-tcp", DEADLINE, 1).expect_err("refused");
    let text = format!("{error:#}");
    for part in [
        "the broker of this test",
        &tcp.to_string(),
        "waited for CONNACK",
        "code 5",
    ] {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}
