//! The main job with real programs: browser, shell and device talk in one room, and the usual client
//! libraries get what MQTT promises.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rumqttc::{Event, Incoming, MqttOptions, QoS};
use serde_json::{Value, json};
use tidings_tests::program::{artifact, find, mosquitto, node, python, run};
use tidings_tests::seeded::Seeded;
use tidings_tests::{DEADLINE, Program, TidingsOptions, TidingsProcess};

/// The page in Chromium; see `tests/node/chat.mjs`.
struct Browser(Program);

impl Browser {
    #[track_caller]
    fn open(broker: &TidingsProcess) -> Self {
        let page = broker.get("/");
        assert!(
            page.contains("<script"),
            "the web chat is not in the program; `make web` builds it, and then the program is to be \
             built again:\n{page}"
        );
        let mut command = node("chat.mjs");
        command
            .arg(format!("http://{}/", broker.ws().address()))
            .env("CHROMIUM", find("chromium"));
        let mut browser = Self(Program::start(command));
        browser.wait_for("open");
        browser
    }

    #[track_caller]
    fn wait_for(&mut self, step: &str) {
        let done = json!({ "done": step }).to_string();
        self.0.expect_line(&done, |line| line == done);
    }

    #[track_caller]
    fn act(&mut self, step: Value) {
        self.0.say(&step.to_string());
        self.wait_for(step["do"].as_str().expect("a step has a name"));
    }

    #[track_caller]
    fn expect(&mut self, from: &str, text: &str) {
        self.act(json!({ "do": "expect", "from": from, "text": text }));
    }
}

/// A device of rumqttc that listens in the room.
struct Device {
    client: rumqttc::Client,
    messages: Receiver<(String, String)>,
    thread: thread::JoinHandle<()>,
}

impl Device {
    fn connect(name: &str, address: SocketAddr) -> Self {
        let mut options = MqttOptions::new(name, address.ip().to_string(), address.port());
        options.set_credentials(name, "");
        let (client, mut connection) = rumqttc::Client::new(options, 10);
        client
            .subscribe("chat/lobby/+", QoS::AtLeastOnce)
            .expect("the queue has room");
        let (sender, messages) = channel();
        let (subscribed_sender, subscribed) = channel();
        let thread = thread::spawn(move || {
            // An error is the end of this test's connection: the test waits for what it then misses.
            for event in connection.iter().map_while(Result::ok) {
                match event {
                    Event::Incoming(Incoming::SubAck(_)) => {
                        let _ = subscribed_sender.send(());
                    }
                    Event::Incoming(Incoming::Publish(publish)) => {
                        let text = String::from_utf8_lossy(&publish.payload).into_owned();
                        let _ = sender.send((publish.topic, text));
                    }
                    _ => {}
                }
            }
        });
        subscribed
            .recv_timeout(DEADLINE)
            .expect("the device subscribes");
        Self {
            client,
            messages,
            thread,
        }
    }

    #[track_caller]
    fn expect(&self, topic: &str, text: &str) {
        let got = self.messages.recv_timeout(DEADLINE);
        assert_eq!(got, Ok((topic.to_owned(), text.to_owned())));
    }

    fn disconnect(self) {
        self.client.disconnect().expect("the queue has room");
        self.thread.join().expect("the device does not panic");
    }
}

#[test]
fn browser_shell_and_device_see_each_other_in_one_room() {
    let broker = TidingsProcess::start();
    let tcp = broker.tcp().address();

    let mut listening = mosquitto("mosquitto_sub", tcp);
    listening.args(["-d", "-v", "-t", "chat/lobby/+", "-u", "bob"]);
    let mut bob = Program::start(listening);
    bob.expect_line("a SUBACK", |line| line.starts_with("Subscribed"));
    let device = Device::connect("kettle", tcp);
    let mut page = Browser::open(&broker);
    page.act(json!({ "do": "join", "name": "carol", "room": "lobby" }));

    // One after another, so that everyone sees the same order.
    let mut alice = mosquitto("mosquitto_pub", tcp);
    alice.args(["-t", "chat/lobby/alice", "-u", "alice", "-q", "1"]);
    alice.args(["-m", "hello from the shell"]);
    run(alice);
    page.expect("alice", "hello from the shell");
    device.expect("chat/lobby/alice", "hello from the shell");

    page.act(json!({ "do": "send", "text": "hello from the browser" }));
    page.expect("carol", "hello from the browser");
    device.expect("chat/lobby/carol", "hello from the browser");

    device
        .client
        .publish(
            "chat/lobby/kettle",
            QoS::AtLeastOnce,
            false,
            "the water boils",
        )
        .expect("the queue has room");
    page.expect("kettle", "the water boils");
    device.expect("chat/lobby/kettle", "the water boils");

    for expected in [
        "chat/lobby/alice hello from the shell",
        "chat/lobby/carol hello from the browser",
        "chat/lobby/kettle the water boils",
    ] {
        bob.expect_line(expected, |line| line == expected);
    }

    let screenshot = artifact("chat.png");
    page.act(json!({ "do": "screenshot", "path": screenshot }));
    assert!(screenshot.exists());
    page.0.finish();
    device.disconnect();
}

/// A free address that stays free while the broker is down: below the ports that systems give away
/// for port 0 and for outgoing connections.
fn lasting_address() -> SocketAddr {
    let mut ports = Seeded::new(std::process::id().into());
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], ports.within(10_000..30_000) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

#[test]
fn the_page_shows_what_was_said_before_and_comes_back_after_a_restart() {
    // The page looks for the broker where it was.
    let mut broker = TidingsOptions::new()
        .argument("--ws")
        .argument(lasting_address().to_string())
        .start();
    let say = |broker: &TidingsProcess, text: &str| {
        let mut alice = mosquitto("mosquitto_pub", broker.tcp().address());
        alice.args([
            "-t",
            "chat/lobby/alice",
            "-u",
            "alice",
            "-q",
            "1",
            "-m",
            text,
        ]);
        run(alice);
    };
    say(&broker, "before you came");

    let mut page = Browser::open(&broker);
    page.act(json!({ "do": "join", "name": "carol", "room": "lobby" }));
    page.expect("alice", "before you came");

    broker.kill();
    page.act(json!({ "do": "state", "state": "offline" }));
    broker.restart();
    page.act(json!({ "do": "online" }));
    say(&broker, "after the restart");
    page.expect("alice", "after the restart");
    page.expect("alice", "before you came");
    page.0.finish();
}

#[test]
fn mosquitto_clients_of_every_version_and_qos_get_their_messages() {
    let broker = TidingsProcess::start();
    let tcp = broker.tcp().address();
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("shell/{version}/{qos}");
            let mut listening = mosquitto("mosquitto_sub", tcp);
            listening.args(["-d", "-V", version, "-q", qos, "-t", &topic, "-C", "1"]);
            let mut subscriber = Program::start(listening);
            subscriber.expect_line("a SUBACK", |line| line.starts_with("Subscribed"));
            let mut sending = mosquitto("mosquitto_pub", tcp);
            sending.args(["-V", version, "-q", qos, "-t", &topic, "-m", "hello there"]);
            run(sending);
            subscriber.expect_line("the message", |line| line == "hello there");
            // It takes one message and says goodbye.
            subscriber.finish();
        }
    }
}

#[test]
fn mosquitto_sub_finds_what_came_while_it_was_away() {
    let broker = TidingsProcess::start();
    let tcp = broker.tcp().address();
    let subscribe = |extra: &[&str]| {
        let mut command = mosquitto("mosquitto_sub", tcp);
        command
            .args(["-i", "away", "-c", "-q", "1", "-t", "post"])
            .args(extra);
        command
    };
    // It subscribes and leaves at once.
    run(subscribe(&["-E"]));
    for number in 1..=100 {
        let mut sending = mosquitto("mosquitto_pub", tcp);
        sending.args(["-q", "1", "-t", "post", "-m", &format!("letter {number}")]);
        run(sending);
    }
    let letters = run(subscribe(&["-C", "100"]));
    let expected: Vec<_> = (1..=100).map(|number| format!("letter {number}")).collect();
    assert_eq!(letters, expected);
}

/// A script takes what it wants and is gone, with a message unread. What it has acknowledged by then leaves its
/// machine only if what it sent before was acknowledged by ours soon enough (RFC 896), so this may fail now
/// and then; without our part it always does.
#[test]
fn what_mosquitto_sub_took_before_it_left_is_hardly_ever_sent_again() {
    const TIMES: usize = 8;
    let broker = TidingsProcess::start();
    let tcp = broker.tcp().address();
    let taken_once = (0..TIMES).filter(|time| {
        let topic = format!("post/{time}");
        let subscribe = |extra: &[&str]| {
            let mut command = mosquitto("mosquitto_sub", tcp);
            command
                .args(["-i", &topic, "-c", "-q", "1", "-t", &topic])
                .args(extra);
            run(command)
        };
        subscribe(&["-E"]);
        for letter in ["one", "two", "three"] {
            let mut sending = mosquitto("mosquitto_pub", tcp);
            sending.args(["-q", "1", "-t", &topic, "-m", letter]);
            run(sending);
        }
        assert_eq!(subscribe(&["-C", "2"]), ["one", "two"]);
        let next = subscribe(&["-C", "1"]);
        assert!(next == ["one"] || next == ["two"] || next == ["three"]);
        next == ["three"]
    });
    let taken_once = taken_once.count();
    assert!(taken_once >= TIMES / 2, "{taken_once} of {TIMES}");
}

fn mqtt_js(url: &str) {
    for version in ["4", "5"] {
        let mut command = node("exchange.mjs");
        command.args([url, version]);
        run(command);
    }
}

#[test]
fn mqtt_js_gets_what_mqtt_promises_over_tcp() {
    let broker = TidingsProcess::start();
    mqtt_js(&format!("tcp://{}", broker.tcp().address()));
}

#[test]
fn mqtt_js_gets_what_mqtt_promises_over_websocket() {
    let broker = TidingsProcess::start();
    mqtt_js(&format!("ws://{}/mqtt", broker.ws().address()));
}

#[test]
fn mqtt_js_is_recognised_on_the_one_port_for_all() {
    let broker = TidingsProcess::start();
    let address = broker.auto_tcp().address();
    mqtt_js(&format!("tcp://{address}"));
    mqtt_js(&format!("ws://{address}/mqtt"));
}

fn paho(address: SocketAddr, transport: &str) {
    for version in ["4", "5"] {
        let mut command = python("exchange.py");
        command.args([
            &address.ip().to_string(),
            &address.port().to_string(),
            transport,
            version,
        ]);
        run(command);
    }
}

#[test]
fn paho_gets_what_mqtt_promises_over_tcp() {
    let broker = TidingsProcess::start();
    paho(broker.tcp().address(), "tcp");
}

#[test]
fn paho_gets_what_mqtt_promises_over_websocket() {
    let broker = TidingsProcess::start();
    paho(broker.ws().address(), "websockets");
}
