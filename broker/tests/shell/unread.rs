//! What is not read is counted, and never written down for each reader.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tidings_bridge::journal::segments::fs::{Fs, RealFs};
use tidings_bridge::journal::segments::fsck;
use tidings_broker::listener::Kind;
use tidings_broker::{RoomOptions, store::journal_folder};
use tidings_core::codec::{Ack, Packet, ReasonCode};
use tidings_core::message::QoS;
use tidings_core::rules::{Keep, RuleSource, Rules};

use crate::peer::{Connect, Peer, TestBroker, Version, connect, encode, publish_bytes};
use crate::records::store_records;

const MEMBERS: usize = 100_000;
const MESSAGES: u64 = 1_000;

/// The rules that matter here, as they are shipped.
fn rules() -> Arc<Rules> {
    let rule = |pattern: &str, publish: &str, subscribe: &str| RuleSource {
        pattern: pattern.to_owned(),
        publish: publish.to_owned(),
        subscribe: subscribe.to_owned(),
        ..RuleSource::default()
    };
    let mut chat = rule("chat/{room}/{user}", "self(user)", "member(room)");
    chat.stream = Some("chat/{room}".to_owned());
    chat.keep = Some(Keep::default());
    let mut read = rule("read/{room}/{user}", "self(user)", "member(room)");
    read.grows = Some("chat/{room}".to_owned());
    let rules = [
        chat,
        read,
        rule("room/#", "broker", "signed_in"),
        rule("user/{user}/request/{method}", "self(user)", "broker"),
        rule("user/{user}/reply/#", "broker", "self(user)"),
        rule("user/{user}/#", "broker", "self(user)"),
    ];
    Arc::new(Rules::compile(&rules).expect("rules"))
}

/// What the service would have stored.
fn room() -> impl Iterator<Item = (String, String)> {
    let room = r#"{"title":"x","kind":"open","owner":"u0","since":1000}"#;
    let members = (0..MEMBERS).map(|n| {
        let role = if n == 0 { "owner" } else { "member" };
        let member = format!(r#"{{"role":"{role}","since":1000}}"#);
        (format!("room/big/member/u{n}"), member)
    });
    std::iter::once(("room/big".to_owned(), room.to_owned())).chain(members)
}

fn join(broker: &TestBroker, user: &str, client_id: &str) -> Peer {
    broker.peer(Kind::Tcp).join(Connect {
        username: Some(user),
        ..connect(Version::V5, client_id)
    })
}

/// Publishes at QoS 1, and waits until all is stored.
fn say(peer: &mut Peer, messages: impl Iterator<Item = (String, String)>) {
    for (topic, text) in messages {
        peer.send(&publish_bytes(&topic, text.as_bytes(), Some(1)));
        let reason = peer.packet(|packet| match packet {
            Packet::PubAck(ack) => ack.reason,
            other => panic!("no PUBACK: {other:?}"),
        });
        assert!(!reason.expect("an answer").is_failure());
    }
}

fn unread(broker: &TestBroker, user: &str, request: &Value) -> Value {
    let mut peer = join(broker, user, &format!("{user}-asks"));
    peer.subscribe(&format!("user/{user}/reply"), QoS::AtMostOnce);
    let topic = format!("user/{user}/request/unread");
    peer.send(&publish_bytes(
        &topic,
        request.to_string().as_bytes(),
        Some(1),
    ));
    loop {
        let answer = peer.packet(|packet| match packet {
            Packet::Publish(publish) => {
                Some(serde_json::from_slice(publish.payload).expect("JSON"))
            }
            _ => None,
        });
        if let Some(answer) = answer.expect("the connection stays") {
            peer.send(&encode(
                Version::V5,
                &Packet::PubAck(Ack::new(1, ReasonCode::Success)),
            ));
            return answer;
        }
    }
}

fn entries(broker: TestBroker) -> (u64, tempfile::TempDir) {
    let folder = broker.stop();
    let files: Arc<dyn Fs> =
        Arc::new(RealFs::new(journal_folder(folder.path())).expect("a journal"));
    let report = fsck(&files, &mut |_, _| {}, &mut |_| {}).expect("a report");
    assert!(report.problems.is_empty());
    (report.end.0, folder)
}

#[test]
fn in_a_room_of_100000_members_a_message_is_one_entry_and_everyone_has_a_count() {
    let begun = Instant::now();
    let broker = TestBroker::start(|options| options.rules = rules());
    store_records(&broker, room());
    let (before, folder) = entries(broker);
    eprintln!("{MEMBERS} members after {:?}", begun.elapsed());

    let managed = |options: &mut tidings_broker::BrokerOptions| {
        options.rules = rules();
        options.rooms = Some(RoomOptions::default());
    };
    let broker = TestBroker::start_in(folder, managed);
    let mut one = join(&broker, "u1", "one");
    let mut two = join(&broker, "u2", "two");
    say(
        &mut one,
        (0..900).map(|n| ("chat/big/u1".into(), n.to_string())),
    );
    let text = |n: u64| match n {
        0..10 => format!("{n}: @u77, look"),
        _ => n.to_string(),
    };
    say(
        &mut two,
        (0..MESSAGES - 900).map(|n| ("chat/big/u2".into(), text(n))),
    );
    let mut nine = join(&broker, "u9", "nine");
    say(
        &mut nine,
        [("read/big/u9".into(), "600".into())].into_iter(),
    );
    eprintln!("{MESSAGES} messages after {:?}", begun.elapsed());

    for (user, read, expected, mentions) in [
        ("u0", 0, 1_000, 0),
        ("u1", 0, 100, 0),
        ("u2", 0, 900, 0),
        ("u9", 600, 400, 0),
        ("u77", 0, 1_000, 10),
        ("u50000", 0, 1_000, 0),
        ("u99999", 0, 1_000, 0),
    ] {
        let answer = unread(&broker, user, &json!({}));
        let room = &answer["rooms"][0];
        assert_eq!(room["room"], "big", "{answer}");
        let found = (
            &room["head"],
            &room["read"],
            &room["unread"],
            &room["mentions"],
        );
        let wanted = (
            &json!(MESSAGES),
            &json!(read),
            &json!(expected),
            &json!(mentions),
        );
        assert_eq!(found, wanted, "{user}: {answer}");
        assert_eq!(room["last"]["from"], "u2", "{answer}");
    }
    let stranger = unread(&broker, "stranger", &json!({ "rooms": ["big"] }));
    assert_eq!(stranger["rooms"], json!([]));

    let (after, _folder) = entries(broker);
    let added = after - before;
    eprintln!(
        "{added} entries for {MESSAGES} messages, after {:?}",
        begun.elapsed()
    );
    // A marker, and the presence of those who were connected.
    assert!((MESSAGES..MESSAGES + 50).contains(&added), "{added}");
}
