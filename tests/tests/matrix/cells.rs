//! How a cell is tried: somebody comes to a door, something is said, and it is looked at what came, up
//! to the mark. Nothing waits for silence.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::{Value, json};
use tidings_core::codec::{Packet, Publish, PublishProperties, ReasonCode};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{ClientError, DEADLINE, Delivery, RawClient};

use crate::house::{House, MARKER, OLD_SECRET, SPEAKER, name_of};
use crate::http::{Caller, Events};
use crate::table::{Client, Door, Expected, PEOPLE, Person, TABLE, Tried, Verdict};

/// Tries every cell of the table. Whoever is disabled comes first, to all doors, and is disabled then.
pub fn try_all(house: &mut House) -> Vec<Tried> {
    let cells: Vec<(Door, Client, [Verdict; PEOPLE.len()])> = TABLE
        .iter()
        .filter_map(|row| match row.expected {
            Expected::Verdicts(verdicts) => Some((row.door, row.clients, verdicts)),
            Expected::NoSuchDoor(_) => None,
        })
        .flat_map(|(door, clients, verdicts)| {
            clients.iter().map(move |client| (door, *client, verdicts))
        })
        .collect();
    let opened: Vec<_> = cells
        .iter()
        .map(|(door, client, _)| caught(|| come_early(house, *door, *client)))
        .collect();
    house.disable(Person::Disabled);
    let mut tried = Vec::new();
    for ((door, client, verdicts), opened) in cells.into_iter().zip(opened) {
        house.next_round();
        let came: Vec<_> = PEOPLE
            .into_iter()
            .filter(|person| *person != Person::Disabled)
            .map(|person| (person, caught(|| come(house, door, client, person))))
            .collect();
        let spoken = caught(|| match door {
            Door::Typists => house.type_something(),
            _ => house.speak(),
        });
        let mut found: Vec<_> = came
            .into_iter()
            .map(|(person, came)| {
                let found = spoken
                    .clone()
                    .and(came)
                    .and_then(|came| caught(|| conclude(house, door, person, came)).flatten());
                (person, found)
            })
            .collect();
        let put_out = opened
            .and_then(|came| caught(|| conclude_disabled(house, door, client, came)).flatten());
        found.push((Person::Disabled, put_out));
        for (person, found) in found {
            let column = PEOPLE.iter().position(|one| *one == person);
            tried.push(Tried {
                door,
                client,
                person,
                expected: verdicts[column.expect("everyone has a column")],
                found,
            });
        }
    }
    tried
}

/// The result, or the sentence of a panic: one cell that fails does not hide the others.
fn caught<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap_or(&"it failed")).to_string())
    })
}

/// Somebody at a door.
enum Came {
    /// Subscribed, or told no.
    Listens { client: RawClient, refused: bool },
    /// Reads a stream; from this cursor on again later.
    Reads { events: Events, cursor: String },
    /// Polls from this cursor on, until the mark or a refusal.
    Polls {
        thread: JoinHandle<Polled>,
        cursor: String,
    },
    /// Said something, or was told no.
    Spoke { words: String, refused: bool },
    /// Typed, or was told no.
    Typed { refused: bool },
    /// Got an answer that does not depend on what is said.
    Answered(Verdict),
    /// Signed in, and does nothing; with a Will that says this.
    Waits {
        client: RawClient,
        will: Option<String>,
    },
    /// Signed in over HTTP.
    SignedIn,
}

/// A message that came: topic and text.
type Heard = (String, String);

/// What came before the mark, or the status of a refusal.
struct Polled {
    heard: Vec<Heard>,
    refused: Option<u16>,
}

// ---- Coming to a door

fn come(house: &mut House, door: Door, client: Client, person: Person) -> Came {
    let caller = house.account(person).http.clone();
    match (door, client) {
        (Door::Publish, Client::Http) => {
            let words = house.words_of(person);
            let said = json!({ "text": words });
            let answer = caller.send("POST", "/v1/rooms/cellar/messages", Some(said));
            let refused = match (answer.status, answer.code()) {
                (201, _) => false,
                (403, "not_allowed") => true,
                _ => panic!("{answer:?}"),
            };
            Came::Spoke { words, refused }
        }
        (Door::Publish, _) => {
            let topic = format!("chat/cellar/{}", name_of(person));
            speak(house, client, person, &topic)
        }
        (Door::AnotherName, _) => speak(house, client, person, &format!("chat/cellar/{SPEAKER}")),
        (Door::Typing, Client::Http) => {
            let answer = caller.send("POST", "/v1/rooms/cellar/typing", Some(json!({})));
            Came::Typed {
                refused: match (answer.status, answer.code()) {
                    (204, _) => false,
                    (403, "not_allowed") => true,
                    _ => panic!("{answer:?}"),
                },
            }
        }
        (Door::Typing, _) => {
            let topic = format!("typing/cellar/{}", name_of(person));
            let spoke = speak(house, client, person, &topic);
            let refused = matches!(spoke, Came::Spoke { refused: true, .. });
            Came::Typed { refused }
        }
        (Door::Will | Door::RetainedWill, _) => {
            let words = house.words_of(person);
            let will = (words.as_str(), door == Door::RetainedWill);
            house.connect(client, person, Some(will)).abandon();
            Came::Spoke {
                words,
                refused: false,
            }
        }
        (Door::History, Client::Http) => {
            let answer = caller.get("/v1/rooms/cellar/messages?after=0");
            Came::Answered(match (answer.status, answer.code()) {
                (200, _) => page(&answer.json),
                (404, "no_such_room") => Verdict::Refused,
                _ => panic!("{answer:?}"),
            })
        }
        (Door::History, _) => {
            let mut asker = Asker::new(house, client, person);
            let answer = asker.ask("history", json!({ "room": "cellar", "after": 0 }));
            Came::Answered(match answer["error"]["code"].as_str() {
                None => page(&answer),
                Some("no_such_room") => Verdict::Refused,
                Some(_) => panic!("{answer}"),
            })
        }
        (Door::Request, Client::Http) => {
            let listed = caller.get("/v1/rooms").json;
            let title = json!({ "title": "mine" });
            let renamed = caller.send("PATCH", "/v1/rooms/cellar", Some(title));
            Came::Answered(requests(&listed, renamed.code()))
        }
        (Door::Request, _) => {
            let mut asker = Asker::new(house, client, person);
            let listed = asker.ask("list", json!({}));
            let renamed = asker.ask("rename", json!({ "room": "cellar", "title": "mine" }));
            let code = renamed["error"]["code"].as_str().unwrap_or_default();
            Came::Answered(requests(&listed, code))
        }
        (Door::Retained, Client::Http) => Came::Answered(records(&caller)),
        (Door::Presence, Client::Http) => {
            let presence = caller.get(&format!("/v1/users/{SPEAKER}/presence")).json;
            Came::Answered(match presence["state"].as_str() {
                Some("online") => Verdict::Gets,
                Some("offline") if presence["last_seen"].is_null() => Verdict::Nothing,
                _ => panic!("{presence}"),
            })
        }
        (_, Client::Http) => read_over_http(&caller, door, house.mark()),
        (Door::Events | Door::Poll, _) => panic!("{door} is HTTP"),
        (_, _) => subscribe(house, door, client, person),
    }
}

/// What the disabled does while that can be: everything but speaking and asking.
fn come_early(house: &mut House, door: Door, client: Client) -> Came {
    let person = Person::Disabled;
    let only_waits = matches!(
        door,
        Door::Publish | Door::AnotherName | Door::Typing | Door::History | Door::Request
    );
    let has_will = matches!(door, Door::Will | Door::RetainedWill);
    match client {
        Client::Http if only_waits || matches!(door, Door::Retained | Door::Presence) => {
            Came::SignedIn
        }
        Client::V311 | Client::V5 if only_waits || has_will => {
            let will = has_will.then(|| house.words_of(person));
            let retained = door == Door::RetainedWill;
            let says = will.as_deref().map(|text| (text, retained));
            Came::Waits {
                client: house.connect(client, person, says),
                will,
            }
        }
        _ => come(house, door, client, person),
    }
}

/// Publishes over MQTT. A client of MQTT 3 is told in its inbox, and its connection ends.
fn speak(house: &mut House, client: Client, person: Person, topic: &str) -> Came {
    let (words, name) = (house.words_of(person), name_of(person));
    let mut connection = house.connect(client, person, None);
    if client == Client::V311 {
        let inbox = format!("user/{name}/inbox");
        assert!(!connection.subscribe(&inbox, QoS::AtLeastOnce).is_failure());
    }
    let id = connection.new_packet_id();
    connection.send(&publish_packet(
        topic,
        words.as_bytes(),
        QoS::AtLeastOnce,
        id,
    ));
    let refused = loop {
        let frame = connection.next();
        match frame.packet() {
            Packet::PubAck(ack) if !ack.reason.is_failure() => break false,
            Packet::PubAck(ack) => {
                assert_eq!(ack.reason, ReasonCode::NotAuthorized);
                break true;
            }
            Packet::Publish(_) => {
                let notice = frame.delivery().expect("it is a PUBLISH");
                connection.acknowledge(&notice);
                let notice: Value = serde_json::from_slice(&notice.payload).expect("JSON");
                if notice["event"] == "refused" && notice["topic"] == topic {
                    connection.expect_closed();
                    break true;
                }
            }
            _ => panic!("expected an answer, got {frame:?}"),
        }
    };
    Came::Spoke { words, refused }
}

/// Filters of a door over MQTT.
fn filter(door: Door, group: &str) -> String {
    match door {
        Door::ByName => "chat/cellar/+".to_owned(),
        Door::Everything => "#".to_owned(),
        Door::ThreeLevels => "+/+/+".to_owned(),
        Door::ShareByName => format!("$share/{group}/chat/cellar/+"),
        Door::Share => format!("$share/{group}/chat/#"),
        Door::ReplayByName => "$replay/last/1000/chat/cellar/+".to_owned(),
        Door::Replay => "$replay/last/1000/chat/#".to_owned(),
        Door::Retained => "room/#".to_owned(),
        Door::Presence => "user/+/presence".to_owned(),
        Door::Typists => "typing/#".to_owned(),
        _ => panic!("{door} is no subscription"),
    }
}

fn is_by_name(door: Door) -> bool {
    matches!(door, Door::ByName | Door::ShareByName | Door::ReplayByName)
}

fn subscribe(house: &mut House, door: Door, client: Client, person: Person) -> Came {
    let mut connection = house.connect(client, person, None);
    if is_by_name(door) {
        // For the mark.
        let granted = connection.subscribe("chat/lobby/+", QoS::AtLeastOnce);
        assert_eq!(granted, ReasonCode::GrantedQoS1);
    }
    // A group of one.
    let group = format!("{}-{}", name_of(person), house.mark().replace(' ', "-"));
    let reason = connection.subscribe(&filter(door, &group), QoS::AtLeastOnce);
    let refused = match (client, reason) {
        (_, ReasonCode::GrantedQoS1) => false,
        (Client::V5, ReasonCode::NotAuthorized) => true,
        (Client::V311, reason) if reason.is_failure() => true,
        _ => panic!("SUBACK has {reason:?}"),
    };
    if door == Door::Retained {
        // After it, so that its mark comes after all of the first filter.
        let granted = connection.subscribe("read/#", QoS::AtLeastOnce);
        assert_eq!(granted, ReasonCode::GrantedQoS1);
    }
    Came::Listens {
        client: connection,
        refused,
    }
}

/// A stream of events or a poll, with the filter of the door.
fn read_over_http(caller: &Caller, door: Door, mark: String) -> Came {
    let polled = caller.get("/v1/poll?since=now");
    let cursor = polled.json["cursor"].as_str().expect("a cursor").to_owned();
    if door == Door::Poll {
        let (caller, since) = (caller.clone(), cursor.clone());
        let thread = thread::spawn(move || poll_until(&caller, &since, 10, &mark));
        return Came::Polls { thread, cursor };
    }
    match caller.stream(&stream_path(door)) {
        Ok(events) => Came::Reads { events, cursor },
        Err(answer) => {
            assert_eq!((answer.status, answer.code()), (403, "not_allowed"));
            Came::Answered(Verdict::Refused)
        }
    }
}

fn stream_path(door: Door) -> String {
    match door {
        Door::Events => "/v1/events".to_owned(),
        _ => {
            let filter = filter(door, "").replace('#', "%23").replace('+', "%2B");
            format!("/v1/events?filter={filter}")
        }
    }
}

/// Polls until the mark comes, or a refusal.
fn poll_until(caller: &Caller, since: &str, wait_s: u32, mark: &str) -> Polled {
    let (mut heard, mut since) = (Vec::new(), since.to_owned());
    let until = Instant::now() + DEADLINE * 2;
    loop {
        let answer = caller.get(&format!("/v1/poll?since={since}&wait={wait_s}"));
        if answer.status != 200 {
            let refused = Some(answer.status);
            return Polled { heard, refused };
        }
        let messages = answer.json["messages"].as_array().expect("a list");
        heard.extend(messages.iter().map(heard_in));
        if heard.iter().any(|(_, text)| text == mark) {
            return Polled {
                heard,
                refused: None,
            };
        }
        assert!(Instant::now() < until, "the mark does not come over polls");
        let cursor = answer.json["cursor"].as_str().expect("a cursor");
        cursor.clone_into(&mut since);
    }
}

fn heard_in(message: &Value) -> Heard {
    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    (text("topic"), text("payload"))
}

fn page(page: &Value) -> Verdict {
    let messages = page["messages"].as_array().expect("a list");
    let has_it = messages.iter().any(|one| one["payload"] == OLD_SECRET);
    assert!(has_it, "a page without what was said: {page}");
    Verdict::Gets
}

/// Whether the room is listed, and why it is not renamed.
fn requests(listed: &Value, code: &str) -> Verdict {
    let rooms = listed["rooms"].as_array().expect("a list");
    let names: Vec<_> = rooms.iter().map(|room| room["room"].as_str()).collect();
    assert!(names.contains(&Some("lobby")), "{listed}");
    match (names.contains(&Some("cellar")), code) {
        (true, "not_allowed") => Verdict::Gets,
        (false, "no_such_room") => Verdict::Refused,
        (is_listed, code) => panic!("listed: {is_listed}, renamed: {code}"),
    }
}

/// The room's records over HTTP.
fn records(caller: &Caller) -> Verdict {
    let paths = ["cellar", "cellar/members", "cellar/read"];
    let answers = paths.map(|path| caller.get(&format!("/v1/rooms/{path}")));
    let statuses = answers.each_ref().map(|answer| answer.status);
    match statuses {
        [200, 200, 200] => {
            let members = answers[1].json["members"].as_array().expect("a list");
            let has_speaker = members.iter().any(|one| one["user"] == SPEAKER);
            assert!(has_speaker, "{members:?}");
            Verdict::Gets
        }
        [404, 404, 404] => Verdict::Refused,
        _ => panic!("{answers:?}"),
    }
}

/// Asks over MQTT: 3.1.1 over two topics, 5.0 with a Response Topic.
struct Asker {
    connection: RawClient,
    name: &'static str,
    client: Client,
    asked: u64,
}

impl Asker {
    fn new(house: &mut House, client: Client, person: Person) -> Self {
        let mut connection = house.connect(client, person, None);
        let name = name_of(person);
        let replies = format!("user/{name}/reply/#");
        let granted = connection.subscribe(&replies, QoS::AtLeastOnce);
        assert_eq!(granted, ReasonCode::GrantedQoS1);
        Self {
            connection,
            name,
            client,
            asked: 0,
        }
    }

    fn ask(&mut self, method: &str, mut request: Value) -> Value {
        self.asked += 1;
        request["id"] = self.asked.into();
        let (topic, payload) = (
            format!("user/{}/request/{method}", self.name),
            request.to_string(),
        );
        let own = format!("user/{}/reply", self.name);
        let named = format!("{own}/matrix");
        let (expected, properties) = match self.client {
            Client::V5 => (
                &named,
                PublishProperties {
                    response_topic: Some(&named),
                    correlation_data: Some(b"matrix"),
                    ..PublishProperties::default()
                },
            ),
            _ => (&own, PublishProperties::default()),
        };
        let packet_id = self.connection.new_packet_id();
        self.connection.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: &topic,
            packet_id: Some(packet_id),
            properties,
            payload: payload.as_bytes(),
        }));
        loop {
            let frame = self.connection.next();
            let Some(delivery) = frame.delivery() else {
                continue;
            };
            self.connection.acknowledge(&delivery);
            let answer: Value = serde_json::from_slice(&delivery.payload).expect("JSON");
            assert_eq!(&delivery.topic, expected, "{answer}");
            assert_eq!(answer["id"], self.asked, "{answer}");
            return answer;
        }
    }
}

// ---- What became of it

fn conclude(house: &mut House, door: Door, person: Person, came: Came) -> Result<Verdict, String> {
    let (secret, mark) = (house.secret(), house.mark());
    match came {
        Came::Answered(verdict) => Ok(verdict),
        Came::Typed { refused } => match (refused, house.hears_typing(name_of(person), refused)) {
            (false, true) => Ok(Verdict::Gets),
            (true, false) => Ok(Verdict::Refused),
            (refused, heard) => Err(format!("refused: {refused}, heard: {heard}")),
        },
        Came::Spoke { words, .. } if door == Door::RetainedWill => {
            let kept = house.kept_of(name_of(person)).contains(&words);
            match (house.seen.contains(&words), kept) {
                (true, true) => Ok(Verdict::Gets),
                (false, false) => Ok(Verdict::Nothing),
                (heard, kept) => Err(format!("heard: {heard}, retained: {kept}")),
            }
        }
        Came::Spoke { words, refused } => match (refused, house.seen.contains(&words)) {
            (false, true) => Ok(Verdict::Gets),
            (true, false) => Ok(Verdict::Refused),
            (false, false) => Ok(Verdict::Nothing),
            (true, true) => Err("refused, and heard nevertheless".to_owned()),
        },
        Came::Listens {
            mut client,
            refused,
        } => {
            let last = |delivery: &Delivery| match door {
                Door::Retained => delivery.topic == format!("read/lobby/{MARKER}"),
                Door::Presence => delivery.topic == format!("user/{MARKER}/presence"),
                _ if is_by_name(door) && !refused => delivery.text() == secret,
                _ => delivery.text() == mark,
            };
            let heard = received_until(&mut client, last);
            judge(door, person, refused, &heard, &secret, true)
        }
        Came::Reads { mut events, cursor } => {
            let last = if is_by_name(door) { &secret } else { &mark };
            let live = streamed_until(&mut events, last);
            let verdict = judge(door, person, false, &live, &secret, false)?;
            if door == Door::Typists {
                // It is nowhere but there.
                return Ok(verdict);
            }
            // The same, from the journal.
            let caller = &house.account(person).http;
            let path = stream_path(door);
            let and = if path.contains('?') { '&' } else { '?' };
            let again = caller.stream(&format!("{path}{and}since={cursor}"));
            let mut again = again.map_err(|answer| format!("from a cursor: {answer:?}"))?;
            let again = streamed_until(&mut again, last);
            let again = judge(door, person, false, &again, &secret, false)?;
            same(verdict, again)
        }
        Came::Polls { thread, cursor } => {
            let polled = thread.join().map_err(|_| "a poll failed".to_owned())?;
            let waiting = judge_polled(door, person, polled, &secret)?;
            let caller = &house.account(person).http;
            let polled = poll_until(caller, &cursor, 0, &mark);
            same(waiting, judge_polled(door, person, polled, &secret)?)
        }
        Came::Waits { .. } | Came::SignedIn => Err("nothing was tried".to_owned()),
    }
}

fn same(live: Verdict, later: Verdict) -> Result<Verdict, String> {
    match live == later {
        true => Ok(live),
        false => Err(format!("{live} live, and {later} from a cursor on")),
    }
}

fn received_until(client: &mut RawClient, is_last: impl Fn(&Delivery) -> bool) -> Vec<Heard> {
    let mut heard = Vec::new();
    loop {
        let delivery = client.receive();
        let ends = is_last(&delivery);
        heard.push((delivery.topic.clone(), delivery.text()));
        if ends {
            return heard;
        }
    }
}

fn streamed_until(events: &mut Events, last: &str) -> Vec<Heard> {
    let mut heard = Vec::new();
    loop {
        let message = events.next().expect("the stream goes on");
        heard.push(heard_in(&message));
        if heard.last().is_some_and(|(_, text)| text == last) {
            return heard;
        }
    }
}

fn judge_polled(
    door: Door,
    person: Person,
    polled: Polled,
    secret: &str,
) -> Result<Verdict, String> {
    match polled.refused {
        Some(status) => Err(format!("a poll was answered {status}")),
        None => judge(door, person, false, &polled.heard, secret, false),
    }
}

/// What those messages are, all that came before the mark.
fn judge(
    door: Door,
    person: Person,
    refused: bool,
    heard: &[Heard],
    secret: &str,
    over_mqtt: bool,
) -> Result<Verdict, String> {
    let own_ban = format!("room/cellar/ban/{}", name_of(person));
    let has = |wanted: &str| heard.iter().any(|(topic, _)| topic == wanted);
    let said = |wanted: &str| heard.iter().any(|(_, text)| text == wanted);
    let speakers = format!("user/{SPEAKER}/presence");
    let of_the_room: Vec<&Heard> = heard
        .iter()
        .filter(|(topic, text)| {
            let is_inside = topic.split('/').nth(1) == Some("cellar") && *topic != own_ban;
            is_inside || text.contains("secret") || *topic == speakers
        })
        .collect();
    let has_all = match door {
        Door::Retained => {
            let member = format!("room/cellar/member/{SPEAKER}");
            let read = format!("read/cellar/{SPEAKER}");
            has("room/cellar") && has(&member) && has(&read)
        }
        Door::Presence => heard
            .iter()
            .any(|(topic, text)| *topic == speakers && text.contains("online")),
        Door::Replay | Door::ReplayByName => said(OLD_SECRET) && said(secret),
        // The old one is retained.
        Door::ByName | Door::Everything | Door::ThreeLevels if over_mqtt => {
            said(OLD_SECRET) && said(secret)
        }
        _ => said(secret),
    };
    match (refused, has_all, of_the_room.is_empty()) {
        (false, true, false) => Ok(Verdict::Gets),
        (true, _, true) => Ok(Verdict::Refused),
        (false, _, true) if door == Door::Retained && has(&own_ban) => Ok(Verdict::OwnBan),
        (false, _, true) => Ok(Verdict::Nothing),
        _ => Err(format!(
            "refused: {refused}, and this of the room came: {of_the_room:?}"
        )),
    }
}

/// What was open has ended, with nothing that was said since; and nobody comes in again.
fn conclude_disabled(
    house: &House,
    door: Door,
    client: Client,
    came: Came,
) -> Result<Verdict, String> {
    let (heard, will) = match came {
        Came::Listens { client, .. } => (received_to_the_end(client), None),
        Came::Waits { client, will } => (received_to_the_end(client), will),
        Came::Reads { mut events, .. } => (
            std::iter::from_fn(|| events.next())
                .map(|one| heard_in(&one))
                .collect(),
            None,
        ),
        Came::Polls { thread, .. } => {
            let polled = thread.join().map_err(|_| "a poll failed".to_owned())?;
            if !matches!(polled.refused, Some(401 | 403)) {
                return Err(format!("a poll was answered {:?}", polled.refused));
            }
            (polled.heard, None)
        }
        Came::SignedIn => (Vec::new(), None),
        Came::Spoke { .. } | Came::Typed { .. } | Came::Answered(_) => {
            return Err("was not let in before".to_owned());
        }
    };
    let since = |text: &str| text.starts_with("secret ") || text.starts_with("mark ");
    if let Some(late) = heard.iter().find(|(_, text)| since(text)) {
        return Err(format!("heard after being disabled: {late:?}"));
    }
    if let Some(will) = will
        && house.seen.contains(&will)
    {
        return Err("the Will of the disabled is heard".to_owned());
    }
    if client == Client::Http {
        let caller = &house.account(Person::Disabled).http;
        let answer = again_over_http(caller, door);
        return match (answer.status, answer.code()) {
            (403, "not_authorized") => Ok(Verdict::NoEntry),
            _ => Err(format!("{answer:?}")),
        };
    }
    match house.refusals(client, Person::Disabled) {
        [ReasonCode::NotAuthorized, ReasonCode::NotAuthorized] => Ok(Verdict::NoEntry),
        other => Err(format!("CONNACK with token and password: {other:?}")),
    }
}

fn received_to_the_end(mut client: RawClient) -> Vec<Heard> {
    let mut heard = Vec::new();
    loop {
        match client.try_next() {
            Ok(frame) => {
                heard.extend(frame.delivery().map(|one| (one.topic.clone(), one.text())));
            }
            Err(ClientError::Closed) => return heard,
            Err(error) => panic!("expected the end of the connection: {error}"),
        }
    }
}

/// The request of a door, with a token from before.
fn again_over_http(caller: &Caller, door: Door) -> crate::http::Answer {
    match door {
        Door::Publish => {
            let said = json!({ "text": "let me in" });
            caller.send("POST", "/v1/rooms/cellar/messages", Some(said))
        }
        Door::Typing => caller.send("POST", "/v1/rooms/cellar/typing", Some(json!({}))),
        Door::History => caller.get("/v1/rooms/cellar/messages"),
        Door::Retained => caller.get("/v1/rooms/cellar"),
        Door::Request => caller.get("/v1/rooms"),
        Door::Presence => caller.get(&format!("/v1/users/{SPEAKER}/presence")),
        Door::Poll => caller.get("/v1/poll"),
        _ => match caller.stream(&stream_path(door)) {
            Ok(_) => panic!("a stream was opened"),
            Err(answer) => answer,
        },
    }
}
