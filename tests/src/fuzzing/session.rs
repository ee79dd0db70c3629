//! One shard and clients that keep no protocol at all: any packets in any order, cut and broken, while
//! time jumps, rules change, the disk is slow or fails, and the broker stops. The shard never panics,
//! what it writes is always sound, what it holds for one connection is bounded, the streams have no
//! holes, and afterwards it serves two decent clients as if nothing had been.

use std::sync::Arc;

use tidings_core::codec::{
    Ack, Auth, Disconnect, Packet, Publish, PublishProperties, ReasonCode, RetainHandling,
    Subscribe, SubscribeFilter, Unsubscribe, Version, encode,
};
use tidings_core::limits::Rate;
use tidings_core::message::{QoS, Seq};
use tidings_core::rooms::AccessChange;
use tidings_core::rules::{Relay, RuleSource};
use tidings_core::shard::{Input, Revocation};

use super::choices::Choices;
use crate::simulation::{ClientId, Filter, House, Login, Post, Setup};

/// Names of clients; two of them are used by two connections each, which take over from each other.
const NAMES: &[&str] = &["c0", "c1", "c2", "c0", "c1", "né/+#"];

const TOPICS: &[&str] = &[
    "a",
    "a/b",
    "kept/0",
    "kept/0",
    "room/x/u0",
    "secret/c0",
    "closed/x",
    "$SYS/x",
    "type/c0",
    "read/x/c0",
    "s/x",
    "",
    "a/+",
    "$share/g/a",
    "//",
];

const FILTERS: &[&str] = &[
    "#",
    "a/#",
    "+/b",
    "kept/#",
    "room/+/+",
    "secret/c1",
    "$share/g/s/+",
    "$share/g/#",
    "$SYS/#",
    "$replay/last/3/kept/0",
    "$replay/seq/1/#",
    "$replay/after/now/kept/#",
    "$replay/after/0000000000000001-0/kept/#",
    "$replay/ts/0/room/#",
    "type/+",
    "read/#",
    "",
    "a/#/b",
    "$share/g/$share/h/x",
];

/// Bytes of output above which a receiver lags.
const OUTPUT_BYTES: usize = 1_000;

/// Largest packet that clients may send.
const PACKET_BYTES: u32 = 2_048;

/// Bytes that may wait for one connection: what makes it lag, and the answers to what it sent before
/// it was paused.
const WAITING_BYTES: usize = OUTPUT_BYTES + 32 * 1024;

/// More than this costs time and shows nothing new.
const MAX_STEPS: usize = 1_500;
const MAX_STOPS: usize = 4;

/// See the module.
pub fn session(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut crowd = Crowd::new(&mut choices);
    for _ in 0..MAX_STEPS {
        if choices.is_empty() {
            break;
        }
        crowd.step(&mut choices);
        crowd.look();
    }
    crowd.come_to_rest();
    crowd.serves_the_decent();
}

struct Crowd {
    house: House,
    clients: Vec<ClientId>,
    published: u32,
    stops: usize,
    /// For a while a rule that keeps messages was not there: what came then may be trimmed.
    was_not_kept: bool,
}

fn setup(choices: &mut Choices<'_>) -> Setup {
    let mut setup = Setup::shards(1).with(|options| {
        options.output_bytes = choices.pick(&[OUTPUT_BYTES, 0, 100]);
        options.receive_maximum = choices.pick(&[100, 1, 3]);
        options.max_inflight = choices.pick(&[100, 1, 3]);
        options.maximum_qos = choices.pick(&[QoS::ExactlyOnce, QoS::ExactlyOnce, QoS::AtLeastOnce]);
        options.topic_alias_maximum = choices.pick(&[10, 0]);
        options.maximum_packet_bytes = PACKET_BYTES;
        options.session_expiry_max_s = choices.pick(&[u32::MAX, 10]);
        options.keep_alive_max_s = choices.pick(&[0, 5]);
        options.max_subscriptions = choices.pick(&[1000, 3]);
        options.append_queue_bytes = choices.pick(&[64 * 1024, 500]);
        options.progress_interval_ms = choices.pick(&[1000, 0]);
        options.turn = choices.pick(&[256, 1]);
        if options.turn == 1 {
            // And where each has few turns, those who want much are held.
            let (per_second, burst) = (300, 3);
            options.bounds.filters = Rate { per_second, burst };
            options.bounds.publish.messages = Rate { per_second, burst };
        }
    });
    setup.segments = choices.one_in(8).then(|| u64::from(choices.byte()));
    let relay = RuleSource {
        pattern: "type/{user}".to_owned(),
        publish: "any".to_owned(),
        subscribe: "any".to_owned(),
        relay: Some(Relay {
            per_second: 2,
            expires_s: 3,
        }),
        ..RuleSource::default()
    };
    let read = RuleSource {
        pattern: "read/{room}/{user}".to_owned(),
        publish: "any".to_owned(),
        subscribe: "any".to_owned(),
        grows: Some("room/{room}".to_owned()),
        ..RuleSource::default()
    };
    setup.rules.splice(0..0, [relay, read]);
    setup
}

impl Crowd {
    fn new(choices: &mut Choices<'_>) -> Self {
        let mut house = House::new(setup(choices));
        house.waits = true;
        let clients = NAMES.iter().map(|name| {
            let client = house.add_client(Login::v5(name));
            house.clients[client.0].auto_ack = false;
            client
        });
        let clients = clients.collect();
        Self {
            house,
            clients,
            published: 0,
            stops: 0,
            was_not_kept: false,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let client = self.clients[choices.below(NAMES.len())];
        let connected = self.house.client(client).line.is_some();
        match choices.below(32) {
            0..=3 if !connected => self.dial(choices, client),
            4 => self.dial(choices, client),
            5 => self.house.cut(client),
            6..=17 if connected => self.say(choices, client),
            18 if connected => {
                let bytes = choices.bytes(usize::from(choices.clone().byte()));
                self.house.say(client, |c| c.send_bytes(bytes));
            }
            19..=21 => {
                let due = self.house.client(client).replies.len();
                if due > 0 {
                    let index = choices.below(due.min(256));
                    self.house.say(client, |c| c.reply(index));
                }
            }
            22 => self
                .house
                .tick(choices.pick(&[1, 250, 2_000, 60_000, 7_200_000])),
            23 => self.jump(choices),
            24 => self.house.settle(),
            25 | 26 => self.work(choices),
            27 => self.hold(choices, client),
            28 => self.house.trim(),
            29 => self.change_rights(choices, client),
            30 => self.stop(choices),
            _ => {
                let value = format!("{}", self.published);
                let topic = choices.pick(&["$SYS/x", "$SYS/y"]);
                let payload = || value.clone().into_bytes().into();
                self.house.input_to_all(|| Input::System {
                    topic: topic.into(),
                    payload: payload(),
                });
            }
        }
    }

    fn dial(&mut self, choices: &mut Choices<'_>, client: ClientId) {
        let name = NAMES[client.0];
        let version = choices.pick(&[Version::V5, Version::V5, Version::V311, Version::V31]);
        let smallest = choices.pick(&[None, None, Some(60), Some(1)]);
        let login = Login {
            version,
            clean_start: choices.one_in(3),
            session_expiry_s: choices.pick(&[Some(3600), None, Some(1), Some(u32::MAX)]),
            keep_alive_s: choices.pick(&[0, 1, 600]),
            receive_maximum: choices.pick(&[None, Some(1), Some(3)]),
            maximum_packet_size: smallest.filter(|_| version == Version::V5),
            topic_alias_maximum: choices.pick(&[None, Some(2)]),
            will: choices.one_in(3).then(|| self.post(choices)),
            will_delay_s: choices.pick(&[0, 1, 100]),
            ..Login::v5(name)
        }
        .user(choices.pick(&["", "c0", "c1", "c0"]));
        self.house.dial(client, login);
    }

    fn post(&mut self, choices: &mut Choices<'_>) -> Post {
        self.published += 1;
        let payload = match choices.below(8) {
            0 => String::new(),
            1 => "7".to_owned(),
            2 => format!("p{}", "x".repeat(choices.below(256) * 8)),
            _ => format!("p{}", self.published),
        };
        Post {
            topic: choices.pick(TOPICS).to_owned(),
            payload,
            qos: choices.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
            retain: choices.one_in(4),
            expiry_s: choices.pick(&[None, None, Some(0), Some(5)]),
            alias: choices.pick(&[None, None, None, Some(1), Some(2), Some(11)]),
            cid: choices
                .pick(&[None, None, None, Some("x")])
                .map(str::to_owned),
        }
    }

    /// Any packet, at any time; sometimes broken.
    fn say(&mut self, choices: &mut Choices<'_>, client: ClientId) {
        let packet_id = choices.pick(&[1, 2, 3, 4, 5, 6, 7, 8, 65_535]);
        let reason = choices.pick(&[
            ReasonCode::Success,
            ReasonCode::Success,
            ReasonCode::UnspecifiedError,
        ]);
        let version = self.house.client(client).login.version;
        let ack = Ack::new(packet_id, reason);
        let kind = choices.below(16);
        let mut bytes = Vec::new();
        if kind < 6 {
            let post = self.post(choices);
            let packet = Packet::Publish(Publish {
                dup: post.qos != QoS::AtMostOnce && choices.one_in(4),
                qos: post.qos,
                retain: post.retain,
                topic: &post.topic,
                packet_id: (post.qos != QoS::AtMostOnce).then_some(packet_id),
                properties: PublishProperties {
                    response_topic: choices.pick(&[None, None, Some("a/b")]),
                    subscription_ids: choices
                        .pick(&[None, None, None, Some(1)])
                        .into_iter()
                        .collect(),
                    ..post.properties()
                },
                payload: post.payload.as_bytes(),
            });
            encode(version, &packet, &mut bytes);
        } else {
            let packet = match kind {
                6 | 7 => Packet::Subscribe(subscribe(choices, packet_id)),
                8 => Packet::Unsubscribe(Unsubscribe {
                    packet_id,
                    filters: vec![choices.pick(FILTERS).to_owned()],
                    user: Vec::new(),
                }),
                9 => Packet::PubAck(ack),
                10 => Packet::PubRec(ack),
                11 => Packet::PubRel(ack),
                12 => Packet::PubComp(ack),
                13 => Packet::PingReq,
                14 => Packet::Disconnect(Disconnect {
                    session_expiry_s: choices.pick(&[None, Some(0), Some(100)]),
                    ..Disconnect::new(
                        choices.pick(&[ReasonCode::Success, ReasonCode::DisconnectWithWill]),
                    )
                }),
                _ => Packet::Auth(Auth {
                    reason: ReasonCode::ReAuthenticate,
                    method: Some("token".to_owned()),
                    data: None,
                    reason_string: None,
                    user: Vec::new(),
                }),
            };
            encode(version, &packet, &mut bytes);
        }
        if choices.one_in(16)
            && let Some(byte) = bytes.get_mut(choices.below(16))
        {
            *byte = choices.byte();
        }
        // Many at once: what is not read yet costs the broker nothing.
        let times = choices.pick(&[1, 1, 1, 1, 1, 1, 1, 40]);
        self.house
            .say(client, |c| c.send_bytes(&bytes.repeat(times)));
    }

    fn jump(&mut self, choices: &mut Choices<'_>) {
        let unix = &mut self.house.now.unix_ms;
        *unix = match choices.below(4) {
            0 => unix.saturating_add(u64::from(choices.short()) * 1000),
            1 => unix.saturating_sub(u64::from(choices.short()) * 1000),
            2 => 0,
            _ => 1_700_000_000_000,
        };
    }

    fn work(&mut self, choices: &mut Choices<'_>) {
        let work = self.house.work();
        if let Some(one) = work.get(choices.below(work.len().clamp(1, 256))) {
            self.house.perform(*one, &mut None);
        }
    }

    fn hold(&mut self, choices: &mut Choices<'_>, client: ClientId) {
        let house = &mut self.house;
        match choices.below(4) {
            0 => house.hold_commits = !house.hold_commits,
            1 => house.hold_batches = !house.hold_batches,
            2 => {
                let reading = &mut house.clients[client.0].reading;
                *reading = !*reading;
            }
            _ => {
                if let Some(line) = house.client(client).line {
                    house.lines[line].capacity = choices.pick(&[usize::MAX, 0, 1, 100]);
                }
            }
        }
    }

    fn change_rights(&mut self, choices: &mut Choices<'_>, client: ClientId) {
        match choices.below(4) {
            0 => {
                let mut rules = self.house.setup.rules.clone();
                let removed = rules.remove(choices.below(rules.len()));
                self.was_not_kept |= removed.keep.is_some();
                self.house.set_rules(&rules);
            }
            1 => {
                let rules = self.house.setup.rules.clone();
                self.house.set_rules(&rules);
            }
            2 => {
                let (room, user) = ("x".into(), choices.pick(&["c0", "c1"]).into());
                let change = match choices.below(3) {
                    0 => AccessChange::Joined { room, user },
                    1 => AccessChange::Left { room, user },
                    _ => AccessChange::Other,
                };
                let changes: Arc<[AccessChange]> = Arc::new([change]);
                self.house
                    .input_to_all(|| Input::AccessChanged(changes.clone()));
            }
            _ => {
                let (user, name) = (choices.pick(&["c0", "c1"]), NAMES[client.0]);
                let forget = choices.one_in(2);
                self.house.input_to_all(|| {
                    Input::Revoked(Revocation {
                        user: user.into(),
                        reason: ReasonCode::NotAuthorized,
                        text: "gone",
                        forget,
                        offline: Arc::new([name.into()]),
                    })
                });
            }
        }
    }

    fn stop(&mut self, choices: &mut Choices<'_>) {
        if self.stops == MAX_STOPS {
            return;
        }
        self.stops += 1;
        match choices.below(4) {
            0 => self.house.input_to_all(|| Input::Shutdown),
            1 => self.house.poison("the disk of the fuzzer is full"),
            _ => {}
        }
        if choices.one_in(2) {
            self.house.settle();
        }
        let poisoned = self.house.disk.poisoned().is_some();
        let most = if poisoned {
            1
        } else {
            self.house.disk.waiting()
        };
        self.house.crash(choices.below(most.min(255) + 1));
    }

    /// What must hold at any time.
    fn look(&mut self) {
        for line in self.house.lines.iter().filter(|line| !line.broker_gone) {
            if let Some(conn) = line.conn {
                let waiting = self.house.shards[0].outgoing(conn).len();
                assert!(
                    waiting <= WAITING_BYTES,
                    "{waiting} bytes wait for {conn:?}"
                );
            }
        }
        for client in &mut self.house.clients {
            let wrong: Vec<String> = client
                .violations
                .drain(..)
                .filter(|it| is_wrong(it))
                .collect();
            assert!(wrong.is_empty(), "{wrong:#?}");
        }
    }

    fn come_to_rest(&mut self) {
        self.house.hold_commits = false;
        self.house.hold_batches = false;
        for line in &mut self.house.lines {
            line.capacity = usize::MAX;
        }
        for client in &mut self.house.clients {
            client.reading = true;
        }
        self.house.settle();
        self.look();
        for client in self.clients.clone() {
            self.house.cut(client);
        }
        for line in &mut self.house.lines {
            line.client_gone = true;
        }
        self.house.settle();
        if self.house.disk.poisoned().is_some() {
            self.house.crash(0);
        }
        let rules = self.house.setup.rules.clone();
        self.house.set_rules(&rules);
        self.house.advance(2_000);
        self.look();
        let stats = self.house.shards[0].stats();
        assert_eq!((stats.connections, stats.lagging), (0, 0), "{stats:?}");
        for stream in ["kept/0", "room/x"] {
            let history = self
                .house
                .disk
                .journal()
                .history(stream, Seq(0), usize::MAX);
            let history = history.expect("a disk that is sound again can be read");
            let head = self.house.disk.state().stream_head(stream);
            let seqs: Vec<u64> = history.iter().map(|entry| entry.published.seq.0).collect();
            if self.was_not_kept {
                let numbers = seqs.iter().copied().chain([head.0 + 1]);
                assert!(
                    numbers.is_sorted_by(|one, next| one < next),
                    "of {stream}: {seqs:?}"
                );
            } else {
                assert_eq!(seqs, (1..=head.0).collect::<Vec<_>>(), "of {stream}");
            }
        }
    }

    fn serves_the_decent(&mut self) {
        let speaker = self.house.connect(Login::v5("speaker").user("speaker"));
        let listener = self.house.connect(Login::v3("listener").user("listener"));
        let granted = self.house.subscribe(
            listener,
            &[Filter::qos2("decent/+"), Filter::qos2("kept/9")],
        );
        let most = self.house.setup.options.maximum_qos;
        assert!(
            granted.iter().all(|reason| *reason as u8 == most as u8),
            "{granted:?}"
        );
        let mut expected = Vec::new();
        for topic in ["decent/x", "kept/9"] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                if qos > most {
                    continue;
                }
                let payload = format!("{topic} {qos:?}");
                let post = Post {
                    qos,
                    ..Post::new(topic, &payload)
                };
                self.house.publish(speaker, post);
                expected.push(payload);
            }
        }
        self.house.advance(1_000);
        let mut arrived = self.house.take_payloads(listener);
        // With no room in the output, what is not kept may be dropped at QoS 0, or come later.
        if self.house.setup.options.output_bytes < OUTPUT_BYTES {
            let sure = |payload: &String| !payload.ends_with("AtMostOnce");
            arrived.retain(sure);
            expected.retain(sure);
            arrived.sort_unstable();
            expected.sort_unstable();
        }
        assert_eq!(arrived, expected);
        self.house.leave(speaker);
        self.house.leave(listener);
        self.look();
    }
}

fn subscribe(choices: &mut Choices<'_>, packet_id: u16) -> Subscribe {
    let mut filters = Vec::new();
    for _ in 0..=choices.below(3) {
        filters.push(SubscribeFilter {
            filter: choices.pick(FILTERS).to_owned(),
            qos: choices.pick(&[QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::AtMostOnce]),
            no_local: choices.one_in(4),
            retain_as_published: choices.one_in(4),
            retain_handling: choices.pick(&[
                RetainHandling::SendAtSubscribe,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]),
        });
    }
    Subscribe {
        packet_id,
        subscription_id: choices.pick(&[None, None, Some(1), Some(268_435_455)]),
        user: Vec::new(),
        filters,
    }
}

/// What is the broker's fault even towards a client that breaks every rule itself.
fn is_wrong(violation: &str) -> bool {
    [
        "nonsense",
        "before CONNACK",
        "after DISCONNECT",
        "a second CONNACK",
        "a packet of",
        "Topic Alias",
        "only a client sends",
        "Session Present",
        "above the Receive Maximum",
    ]
    .iter()
    .any(|fault| violation.contains(fault))
}
