//! The broker of all cells: accounts, a private room with somebody who speaks in it, and the lobby, in
//! which everyone is. What is said in the lobby after something was said in the room is the mark that
//! nothing of the room comes any more: both are entries of one journal, given out in their order.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;
use tidings_core::codec::{Connect, Packet, Publish, PublishProperties, ReasonCode, Version, Will};
use tidings_core::message::QoS;
use tidings_tests::{DEADLINE, Endpoint, RawClient, TidingsOptions, TidingsProcess, binary, clean};

use crate::http::Caller;
use crate::table::{Client, PEOPLE, Person};

pub const PASSWORD: &str = "correct horse";

/// Who speaks in the room, owns it, and shows her presence to those who share a room with her.
pub const SPEAKER: &str = "olga";

/// Who speaks in the lobby, and is not in the room.
pub const MARKER: &str = "zoe";

/// What was said before anyone was banned or disabled, and is retained.
pub const OLD_SECRET: &str = "an old secret";

/// Somebody who is tried.
pub struct Account {
    pub name: &'static str,
    /// What MQTT takes as a password: the token of a login, or of a device.
    secret: String,
    /// Signed in over HTTP.
    pub http: Caller,
}

pub struct House {
    broker: TidingsProcess,
    accounts: HashMap<&'static str, Account>,
    speaker: RawClient,
    marker: RawClient,
    watcher: RawClient,
    /// Hears who types in the room.
    ears: RawClient,
    typed: Vec<String>,
    /// Every text that the watcher saw in the room.
    pub seen: Vec<String>,
    round: u32,
    connections: u32,
}

pub fn name_of(person: Person) -> &'static str {
    match person {
        Person::Member => "mia",
        Person::Reader => "rex",
        Person::Banned => "ben",
        Person::Outsider => "otto",
        Person::Disabled => "dora",
        Person::Device => "lamp",
    }
}

impl House {
    #[track_caller]
    pub fn new() -> Self {
        let broker = TidingsOptions::new()
            .set("rooms.mode", "\"managed\"")
            .set("rooms.requests_per_minute", 60_000)
            .set("people.interval_s", 0)
            .set("auth.mode", "\"accounts\"")
            // Hashing is not what is tried.
            .set("auth.password_memory_kib", 1024)
            .set("auth.password_passes", 1)
            .start();
        let people = [SPEAKER, MARKER, "mia", "rex", "ben", "otto", "dora"];
        for user in people {
            tidings(&broker, &["user", "add", user]);
        }
        let device_token = tidings(&broker, &["device", "add", "lamp", "--owner", "mia"]);
        let nobody = Caller::nobody(broker.ws().address());
        let mut accounts = HashMap::new();
        for name in people.into_iter().chain(["lamp"]) {
            let (password, is_device) = match name {
                "lamp" => (device_token.as_str(), true),
                _ => (PASSWORD, false),
            };
            let http = nobody.sign_in(name, password);
            let secret = match is_device {
                true => device_token.clone(),
                false => http.token.clone(),
            };
            accounts.insert(name, Account { name, secret, http });
        }
        let enter = |name: &str, id: &str| {
            let account = &accounts[name];
            let connect = with_secret(clean(Version::V5, id), name, account.secret.as_bytes());
            RawClient::connect(broker.tcp(), &connect)
        };
        let (speaker, marker) = (enter(SPEAKER, "speaker"), enter(MARKER, "marker"));
        let (watcher, ears) = (enter(SPEAKER, "watcher"), enter(SPEAKER, "ears"));
        let mut house = Self {
            broker,
            accounts,
            speaker,
            marker,
            watcher,
            ears,
            typed: Vec::new(),
            seen: Vec::new(),
            round: 0,
            connections: 0,
        };
        house.furnish();
        house
    }

    /// Rooms, who is in them, and what is there from before.
    #[track_caller]
    fn furnish(&mut self) {
        let olga = self.accounts[SPEAKER].http.clone();
        let zoe = self.accounts[MARKER].http.clone();
        olga.does(
            "POST",
            "/v1/rooms",
            json!({ "room": "cellar", "kind": "private" }),
        );
        zoe.does("POST", "/v1/rooms", json!({ "room": "lobby" }));
        for user in ["mia", "rex", "ben", "dora"] {
            let invite = format!("/v1/rooms/cellar/invitations/{user}");
            olga.does("PUT", &invite, json!({}));
            let http = &self.accounts[user].http;
            http.does("POST", "/v1/rooms/cellar/join", json!({}));
        }
        // In a channel nobody sees who is in it, so that it shows nobody's presence.
        let channel = json!({ "room": "tower", "kind": "channel" });
        olga.does("POST", "/v1/rooms", channel);
        for person in PEOPLE {
            let http = &self.accounts[name_of(person)].http;
            http.does("POST", "/v1/rooms/tower/join", json!({}));
            http.does("POST", "/v1/rooms/lobby/join", json!({}));
        }
        let reader = json!({ "role": "reader" });
        olga.does("PUT", "/v1/rooms/cellar/members/rex", reader);
        let granted = self.watcher.subscribe("chat/cellar/#", QoS::AtLeastOnce);
        assert_eq!(granted, ReasonCode::GrantedQoS1);
        let granted = self.ears.subscribe("typing/cellar/+", QoS::AtMostOnce);
        assert!(!granted.is_failure());
        let packet_id = self.speaker.new_packet_id();
        self.speaker.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "chat/cellar/olga",
            packet_id: Some(packet_id),
            properties: PublishProperties::default(),
            payload: OLD_SECRET.as_bytes(),
        }));
        self.speaker.expect_puback(packet_id);
        self.marker
            .publish("chat/lobby/zoe", "welcome", QoS::AtLeastOnce);
        olga.does("PUT", "/v1/rooms/cellar/read", json!({ "seq": 1 }));
        zoe.does("PUT", "/v1/rooms/lobby/read", json!({ "seq": 1 }));
        olga.does("PUT", "/v1/rooms/cellar/bans/ben", json!({}));
        let rooms = json!({ "visible_to": "rooms" });
        olga.does("PUT", "/v1/users/olga/presence", rooms);
        for name in [SPEAKER, MARKER] {
            let (id, filter) = (format!("{name}-sees"), format!("user/{name}/presence"));
            let account = &self.accounts[name];
            let connect = with_secret(clean(Version::V5, &id), name, account.secret.as_bytes());
            let mut client = RawClient::connect(self.broker.tcp(), &connect);
            client.subscribe(&filter, QoS::AtLeastOnce);
            while !client.receive().text().contains("online") {}
        }
    }

    pub fn account(&self, person: Person) -> &Account {
        &self.accounts[name_of(person)]
    }

    /// From here on whoever is disabled is not let in.
    #[track_caller]
    pub fn disable(&self, person: Person) {
        tidings(&self.broker, &["user", "disable", name_of(person)]);
    }

    fn endpoint(&self, client: Client) -> Endpoint {
        match client {
            Client::V311 => self.broker.tcp(),
            Client::V5 | Client::Http => self.broker.ws(),
        }
    }

    /// Signs somebody in over MQTT, with a Will that says this in the room, retained or not.
    #[track_caller]
    pub fn connect(
        &mut self,
        client: Client,
        person: Person,
        will: Option<(&str, bool)>,
    ) -> RawClient {
        self.connections += 1;
        let name = name_of(person);
        let (id, topic) = (
            format!("{name}-{}", self.connections),
            format!("chat/cellar/{name}"),
        );
        let will = will.map(|(text, retain)| Will {
            topic: &topic,
            payload: text.as_bytes(),
            qos: QoS::AtLeastOnce,
            retain,
            delay_s: 0,
            properties: Default::default(),
        });
        let account = &self.accounts[name];
        let connect = Connect {
            will,
            ..with_secret(clean(version(client), &id), name, account.secret.as_bytes())
        };
        let mut connection = RawClient::connect(self.endpoint(client), &connect);
        connection.set_deadline(DEADLINE / 3);
        connection
    }

    /// Why somebody is not let in over MQTT, by token and by password.
    #[track_caller]
    pub fn refusals(&self, client: Client, person: Person) -> [ReasonCode; 2] {
        let account = self.account(person);
        [account.secret.as_bytes(), PASSWORD.as_bytes()].map(|secret| {
            let id = format!("{}-again", account.name);
            let connect = with_secret(clean(version(client), &id), account.name, secret);
            let (_, connack) = RawClient::try_connect(self.endpoint(client), &connect, DEADLINE)
                .expect("an answer to CONNECT");
            connack.reason
        })
    }

    /// Something is said in the room, and after it in the lobby. Everything that was sent in the
    /// room before is [`House::seen`] then.
    #[track_caller]
    pub fn speak(&mut self) {
        let (secret, mark) = (self.secret(), self.mark());
        self.speaker
            .publish("chat/cellar/olga", &secret, QoS::AtLeastOnce);
        self.marker
            .publish("chat/lobby/zoe", &mark, QoS::AtLeastOnce);
        while self.seen.last() != Some(&secret) {
            let text = self.watcher.receive().text();
            self.seen.push(text);
        }
    }

    /// The speaker types, in the room and then, as the mark, where everyone is.
    #[track_caller]
    pub fn type_something(&mut self) {
        let (secret, mark) = (self.secret(), self.mark());
        for (room, text) in [("cellar", secret), ("tower", mark)] {
            let topic = format!("typing/{room}/{SPEAKER}");
            self.speaker.publish(&topic, text, QoS::AtLeastOnce);
        }
    }

    /// Whether it is heard in the room that somebody types, for the next time; who was refused is not
    /// waited for.
    pub fn hears_typing(&mut self, name: &str, refused: bool) -> bool {
        let topic = format!("typing/cellar/{name}");
        loop {
            if let Some(at) = self.typed.iter().position(|one| *one == topic) {
                self.typed.remove(at);
                return true;
            }
            let next = match refused {
                true => self.ears.try_received(),
                false => self.ears.try_next().map(Some),
            };
            let Ok(Some(frame)) = next else {
                return false;
            };
            // That it is over follows by itself.
            let heard = frame.delivery().filter(|one| !one.payload.is_empty());
            self.typed.extend(heard.map(|one| one.topic));
        }
    }

    /// What is retained in the room of somebody.
    #[track_caller]
    pub fn kept_of(&self, name: &str) -> Vec<String> {
        let account = &self.accounts[SPEAKER];
        let connect = clean(Version::V5, "kept");
        let connect = with_secret(connect, SPEAKER, account.secret.as_bytes());
        let mut client = RawClient::connect(self.broker.tcp(), &connect);
        // There is a record of the room, which comes after all of the first filter.
        for filter in [format!("chat/cellar/{name}"), "room/cellar".to_owned()] {
            client.subscribe(&filter, QoS::AtLeastOnce);
        }
        let mut kept = Vec::new();
        loop {
            let delivery = client.receive();
            if delivery.topic == "room/cellar" {
                return kept;
            }
            kept.push(delivery.text());
        }
    }

    pub fn next_round(&mut self) {
        self.round += 1;
    }

    /// What is said in the room in this round.
    pub fn secret(&self) -> String {
        format!("secret {}", self.round)
    }

    /// What is said in the lobby after it.
    pub fn mark(&self) -> String {
        format!("mark {}", self.round)
    }

    /// What somebody says in the room, if they can.
    pub fn words_of(&self, person: Person) -> String {
        format!("{person} speaks {}", self.round)
    }
}

pub fn with_secret<'a>(connect: Connect<'a>, user: &'a str, secret: &'a [u8]) -> Connect<'a> {
    Connect {
        username: Some(user),
        password: Some(secret),
        ..connect
    }
}

#[track_caller]
fn version(client: Client) -> Version {
    match client {
        Client::V311 => Version::V311,
        Client::V5 => Version::V5,
        Client::Http => panic!("HTTP is no version of MQTT"),
    }
}

/// A command about accounts, to a broker that runs; what it printed.
#[track_caller]
pub fn tidings(broker: &TidingsProcess, words: &[&str]) -> String {
    let mut child = Command::new(binary::tidings())
        .args(words)
        .arg("--data-dir")
        .arg(broker.data_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tidings starts");
    let mut input = child.stdin.take().expect("it was piped");
    writeln!(input, "{PASSWORD}").expect("tidings reads");
    drop(input);
    let output = child.wait_with_output().expect("tidings ends");
    assert!(output.status.success(), "tidings {words:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
