//! Rights that come with a proof or an account: rooms of a token, roles that change, and what becomes of
//! the rooms of somebody whose account is gone.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::get_current_timestamp;
use serde_json::json;
use tidings_broker::listener::Kind;
use tidings_broker::{Auth, BrokerOptions, RoomOptions};
use tidings_core::codec::{Packet, ReasonCode, RetainHandling, Subscribe, SubscribeFilter};
use tidings_core::message::QoS;
use tidings_core::rules::{RuleSource, Rules};

use crate::denials::{sign, with_tokens};
use crate::peer::{Connect, Peer, TestBroker, Version, block_on, connect, encode, publish_bytes};
use crate::records::store_records;

fn rules() -> Arc<Rules> {
    let rule = |pattern: &str, publish: &str, subscribe: &str| RuleSource {
        pattern: pattern.to_owned(),
        publish: publish.to_owned(),
        subscribe: subscribe.to_owned(),
        ..RuleSource::default()
    };
    let rules = [
        rule(
            "chat/{room}/{user}",
            "self(user) & writer(room)",
            "member(room)",
        ),
        rule("room/{room}/member/{user}", "broker", "roster(room)"),
        rule("room/#", "broker", "any"),
        rule("user/#", "broker", "signed_in"),
        rule("press/#", "role(press)", "role(press)"),
    ];
    Arc::new(Rules::compile(&rules).expect("rules"))
}

fn managed(options: &mut BrokerOptions) {
    with_tokens(options);
    if let Auth::Accounts(_, others) = &mut options.auth
        && let Some(tokens) = &mut others.tokens
    {
        tokens.rooms_claim = "rooms".to_owned();
    }
    options.rules = rules();
    options.rooms = Some(RoomOptions::default());
}

/// A broker with these rooms and members, the first of them its owner.
fn house(rooms: &[(&str, &str, &[&str])]) -> TestBroker {
    let broker = TestBroker::start(|options| options.rules = rules());
    let mut records = Vec::new();
    for (room, kind, members) in rooms {
        let owner = members[0];
        let record = json!({ "title": room, "kind": kind, "owner": owner, "since": 1000 });
        records.push((format!("room/{room}"), record.to_string()));
        for (place, user) in members.iter().enumerate() {
            let role = if place == 0 { "owner" } else { "member" };
            let since = 1000 * (place + 1);
            let member = json!({ "role": role, "since": since });
            records.push((format!("room/{room}/member/{user}"), member.to_string()));
        }
    }
    let ban = json!({ "by": "ann", "since": 1000 }).to_string();
    records.push(("room/cellar/ban/ben".to_owned(), ban));
    store_records(&broker, records.into_iter());
    TestBroker::start_in(broker.stop(), managed)
}

fn token(user: &str, rooms: &[&str]) -> String {
    let now = get_current_timestamp();
    sign(&json!({ "sub": user, "iat": now, "exp": now + 600, "rooms": rooms }))
}

fn enter(broker: &TestBroker, user: &str, secret: &str, id: &str) -> Peer {
    broker.peer(Kind::Tcp).join(Connect {
        username: Some(user),
        password: Some(secret.as_bytes()),
        ..connect(Version::V5, id)
    })
}

/// What SUBACK says of a filter.
fn asks(peer: &mut Peer, filter: &str) -> ReasonCode {
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: 1,
        subscription_id: None,
        user: Vec::new(),
        filters: vec![SubscribeFilter {
            filter: filter.to_owned(),
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }],
    });
    peer.send(&encode(Version::V5, &subscribe));
    loop {
        let reason = peer.packet(|packet| match packet {
            Packet::SubAck(ack) => Some(ack.reasons[0]),
            _ => None,
        });
        if let Some(reason) = reason.expect("the connection stays") {
            return reason;
        }
    }
}

/// What PUBACK says of a message.
fn says(peer: &mut Peer, topic: &str) -> ReasonCode {
    peer.send(&publish_bytes(topic, b"hello", Some(7)));
    loop {
        let reason = peer.packet(|packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        });
        if let Some(reason) = reason.expect("the connection stays") {
            return reason;
        }
    }
}

/// Waits for a message: its topic and text.
fn hears(peer: &mut Peer) -> (String, String) {
    loop {
        let heard = peer.packet(|packet| match packet {
            Packet::Publish(publish) => {
                let text = String::from_utf8_lossy(publish.payload).into_owned();
                Some((publish.topic.to_owned(), text))
            }
            _ => None,
        });
        if let Some(heard) = heard.expect("the connection stays") {
            return heard;
        }
    }
}

#[test]
fn a_token_lets_its_user_into_the_rooms_that_it_names_and_into_no_other() {
    let broker = house(&[
        ("cellar", "private", &["ann"]),
        ("attic", "private", &["ann"]),
        ("news", "channel", &["ann"]),
    ]);
    let rooms = ["cellar", "news", "nowhere"];
    let mut alice = enter(&broker, "alice", &token("alice", &rooms), "alice");
    assert_eq!(asks(&mut alice, "chat/cellar/+"), ReasonCode::GrantedQoS1);
    assert_eq!(asks(&mut alice, "chat/news/+"), ReasonCode::GrantedQoS1);
    assert_eq!(says(&mut alice, "chat/cellar/alice"), ReasonCode::Success);
    let mut ann = enter(&broker, "ann", &token("ann", &[]), "ann");
    assert_eq!(says(&mut ann, "chat/cellar/ann"), ReasonCode::Success);
    while hears(&mut alice).0 != "chat/cellar/ann" {}
    for room in ["attic", "nowhere"] {
        let filter = format!("chat/{room}/+");
        assert_eq!(
            asks(&mut alice, &filter),
            ReasonCode::NotAuthorized,
            "{room}"
        );
    }
    for topic in ["chat/attic/alice", "chat/nowhere/alice", "chat/news/alice"] {
        assert_eq!(
            says(&mut alice, topic),
            ReasonCode::NotAuthorized,
            "{topic}"
        );
    }
    // She is not in the list of members, nor sees it.
    asks(&mut alice, "room/cellar/member/+");
    asks(&mut alice, "room/cellar");
    assert_eq!(hears(&mut alice).0, "room/cellar");
    // Without it, or banned, one stays outside.
    for (user, rooms) in [("eve", &[][..]), ("ben", &rooms[..])] {
        let mut peer = enter(&broker, user, &token(user, rooms), user);
        let reason = asks(&mut peer, "chat/cellar/+");
        assert_eq!(reason, ReasonCode::NotAuthorized, "{user}");
        let topic = format!("chat/cellar/{user}");
        assert_eq!(says(&mut peer, &topic), ReasonCode::NotAuthorized, "{user}");
    }
}

#[test]
fn new_roles_of_an_account_end_what_is_connected_and_count_when_it_comes_again() {
    let broker = house(&[]);
    let book = broker.running.accounts();
    let password = || Some("correct horse".to_owned());
    block_on(book.add_user("alice", password(), &["press".to_owned()])).unwrap();
    let mut alice = enter(&broker, "alice", "correct horse", "alice");
    assert_eq!(asks(&mut alice, "press/+"), ReasonCode::GrantedQoS1);
    alice
        .socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    block_on(book.set_roles("alice", &["press".to_owned()])).unwrap();
    // Nothing changed.
    alice.ping();
    block_on(book.set_roles("alice", &[])).unwrap();
    assert_eq!(alice.disconnect(), ReasonCode::AdministrativeAction);
    let mut alice = enter(&broker, "alice", "correct horse", "alice");
    assert_eq!(asks(&mut alice, "press/+"), ReasonCode::NotAuthorized);
    block_on(book.set_roles("alice", &["press".to_owned()])).unwrap();
    assert_eq!(alice.disconnect(), ReasonCode::AdministrativeAction);
    let mut alice = enter(&broker, "alice", "correct horse", "alice");
    assert_eq!(asks(&mut alice, "press/+"), ReasonCode::GrantedQoS1);
}

#[test]
fn who_is_deleted_is_in_no_room_any_more_and_their_rooms_have_another_owner() {
    let broker = house(&[
        ("yard", "open", &["alice", "bob", "eve"]),
        ("cell", "private", &["alice"]),
        ("park", "open", &["bob", "alice"]),
    ]);
    let book = broker.running.accounts();
    block_on(book.add_user("alice", Some("correct horse".to_owned()), &[])).unwrap();
    let mut bob = enter(&broker, "bob", &token("bob", &[]), "bob");
    for filter in ["room/yard", "room/cell", "room/+/member/+"] {
        asks(&mut bob, filter);
    }
    block_on(book.delete("alice")).unwrap();
    let mut left = vec![
        ("room/cell".to_owned(), "\"deleted\":true"),
        ("room/yard".to_owned(), "\"owner\":\"bob\""),
        ("room/yard/member/bob".to_owned(), "\"role\":\"owner\""),
        ("room/yard/member/alice".to_owned(), ""),
        ("room/park/member/alice".to_owned(), ""),
    ];
    while !left.is_empty() {
        let (topic, text) = hears(&mut bob);
        left.retain(|(expected, part)| {
            let fits = match *part {
                "" => text.is_empty(),
                part => text.contains(part),
            };
            topic != *expected || !fits
        });
    }
}
