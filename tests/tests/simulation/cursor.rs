//! `$replay/after/{cursor}/...`: one position, with which a client goes on where it was, over all
//! streams that its filters match, without gap or double.

use tidings_core::codec::{ReasonCode, RetainHandling, SubAck};
use tidings_core::message::{Cursor, Epoch, Offset, QoS};
use tidings_tests::seeded::Seeded;
use tidings_tests::simulation::{ClientId, Delivery, Filter, House, Login, Post, Said, Setup};

/// Two filters that overlap, after a cursor.
fn after(cursor: &str, qos: QoS) -> Vec<Filter> {
    ["kept/#", "room/+/+", "kept/a", "free/#"]
        .iter()
        .map(|filter| Filter::new(&format!("$replay/after/{cursor}/{filter}"), qos))
        .collect()
}

/// The cursor of a delivery: the last User Property, and of this name.
fn cursor_of(delivery: &Delivery) -> &str {
    match delivery.user.last() {
        Some((name, cursor)) if name == "cursor" => cursor,
        other => panic!("{other:?} of {delivery:?}"),
    }
}

fn suback(house: &mut House, client: ClientId) -> SubAck {
    let said = house.take_said(client);
    let mut acks = said.into_iter().filter_map(|said| match said {
        Said::SubAck(ack) => Some(ack),
        _ => None,
    });
    acks.next_back().expect("SUBACK")
}

fn property<'a>(ack: &'a SubAck, name: &str) -> Option<&'a str> {
    let found = ack.user.iter().find(|(found, _)| found == name);
    found.map(|(_, value)| value.as_str())
}

fn texts(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// One message into each of three streams in turn.
fn publish(house: &mut House, from: ClientId, range: std::ops::RangeInclusive<u32>) {
    for n in range {
        let topic = ["kept/a", "room/lobby/bob", "kept/b"][n as usize % 3];
        let text = n.to_string();
        house.publish(
            from,
            match n % 2 {
                0 => Post::qos1(topic, &text),
                _ => Post::new(topic, &text),
            },
        );
    }
}

#[test]
fn every_delivery_tells_where_another_connection_goes_on() {
    for shards in [1, 4] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut house = House::new(Setup::shards(shards));
            let bob = house.connect(Login::v5("bob"));
            publish(&mut house, bob, 1..=3);
            let first = house.connect(Login::v5("first"));
            house.subscribe(first, &after("now", qos));
            let start = suback(&mut house, first);
            let start = property(&start, "cursor").expect("a cursor").to_owned();
            publish(&mut house, bob, 4..=20);
            let arrivals = house.take_arrivals(first);
            let payloads: Vec<_> = arrivals.iter().map(|d| d.payload.clone()).collect();
            assert_eq!(payloads, texts(4..=20));
            // From each of them on, on any connection, the rest comes, and what is new.
            let places = arrivals.iter().map(|d| cursor_of(d).to_owned());
            let places: Vec<String> = std::iter::once(start).chain(places).collect();
            for (known, cursor) in (3..).zip(&places) {
                let next = house.connect(Login::v5("next"));
                house.subscribe(next, &after(cursor, qos));
                assert_eq!(
                    property(&suback(&mut house, next), "cursor"),
                    Some(&**cursor)
                );
                let rest = house.take_arrivals(next);
                let told: Vec<_> = rest.iter().map(cursor_of).collect();
                assert_eq!(
                    told,
                    places[known as usize - 2..].iter().collect::<Vec<_>>()
                );
                let payloads: Vec<_> = rest.iter().map(|d| d.payload.clone()).collect();
                assert_eq!(payloads, texts(known + 1..=20));
                house.leave(next);
            }
            let next = house.connect(Login::v5("next"));
            house.subscribe(next, &after(&places[10], qos));
            // A plain client can do it, too.
            let old = house.connect(Login::v3("old"));
            house.subscribe(old, &after(&places[10], qos));
            house.publish(bob, Post::qos1("kept/b", "21"));
            for client in [next, old] {
                assert_eq!(house.take_payloads(client), texts(14..=21));
            }
        }
    }
}

#[test]
fn what_is_not_kept_has_no_cursor_and_cannot_pretend_to_have_one() {
    let mut house = House::new(Setup::default());
    let bob = house.connect(Login::v5("bob"));
    let alice = house.connect(Login::v5("alice"));
    house.subscribe(alice, &after("now", QoS::AtLeastOnce));
    house.publish(bob, Post::new("free/typing", "typing"));
    house.publish(bob, Post::qos1("kept/a", "kept"));
    let arrivals = house.take_arrivals(alice);
    assert_eq!(arrivals.len(), 2);
    assert_eq!(cursor_of(&arrivals[0]), "");
    assert!(cursor_of(&arrivals[1]).parse::<Cursor>().is_ok());
    // Who did not ask is told nothing.
    let carol = house.connect(Login::v5("carol"));
    house.subscribe(carol, &[Filter::qos1("#")]);
    house.publish(bob, Post::qos1("kept/a", "kept"));
    let arrivals = house.take_arrivals(carol);
    assert_eq!(arrivals[0].user("cursor"), None);
    assert!(arrivals[0].user("seq").is_some());
}

#[test]
fn a_reader_without_room_misses_nothing_at_any_qos_of_either_side() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        for output_bytes in [0, 1, 500] {
            let setup = Setup::shards(4).with(|o| o.output_bytes = output_bytes);
            let mut house = House::new(setup);
            let bob = house.connect(Login::v5("bob"));
            let alice = house.connect(Login::v5("alice").receive_maximum(2));
            publish(&mut house, bob, 1..=10);
            house.clients[alice.0].reading = false;
            let line = house.client(alice).line.expect("connected");
            house.lines[line].capacity = 1;
            let start = Cursor {
                epoch: house.disk.journal().epoch(),
                offset: Offset(0),
            };
            let filters = after(&start.to_string(), qos);
            house.tell(alice, |c| c.subscribe(&filters, None));
            publish(&mut house, bob, 11..=40);
            house.clients[alice.0].reading = true;
            house.settle();
            publish(&mut house, bob, 41..=50);
            let arrivals = house.take_arrivals(alice);
            let payloads: Vec<_> = arrivals.iter().map(|d| d.payload.clone()).collect();
            assert_eq!(payloads, texts(1..=50), "{qos:?} {output_bytes}");
        }
    }
}

#[test]
fn a_cursor_of_another_journal_or_of_the_future_is_refused_and_says_reset() {
    let mut house = House::new(Setup::default());
    let (epoch, end) = (house.disk.journal().epoch(), house.disk.journal().end());
    let foreign = Cursor {
        epoch: Epoch(epoch.0 ^ 1),
        offset: end,
    };
    let future = Cursor {
        epoch,
        offset: end.next(),
    };
    let alice = house.connect(Login::v5("alice"));
    for cursor in [foreign, future] {
        let filters = after(&cursor.to_string(), QoS::AtLeastOnce);
        let reasons = house.subscribe(alice, &filters);
        assert_eq!(reasons, [ReasonCode::ImplementationSpecificError; 4]);
        let ack = suback(&mut house, alice);
        assert!(
            ack.reason_string
                .is_some_and(|text| text.starts_with("reset: "))
        );
        assert!(ack.user.is_empty());
    }
    // The end itself is a cursor.
    let cursor = Cursor { epoch, offset: end }.to_string();
    let reasons = house.subscribe(alice, &after(&cursor, QoS::AtLeastOnce));
    assert_eq!(reasons, [ReasonCode::GrantedQoS1; 4]);
    let old = house.connect(Login::v3("old"));
    let filters = after(&foreign.to_string(), QoS::AtLeastOnce);
    assert_eq!(
        house.subscribe(old, &filters),
        [ReasonCode::UnspecifiedError; 4]
    );
    let text = "$replay/after/yesterday/kept/#";
    let reasons = house.subscribe(alice, &[Filter::qos1(text)]);
    assert_eq!(reasons, [ReasonCode::TopicFilterInvalid]);
}

#[test]
fn what_was_trimmed_is_told_as_a_gap_and_what_is_left_and_retained_still_comes() {
    let mut house = House::new(Setup::default());
    let bob = house.connect(Login::v5("bob"));
    // A reader that is away makes the journal keep what no rule keeps.
    let away = house.connect(Login::v5("away").persistent());
    house.subscribe(away, &[Filter::qos1("#")]);
    let cursor = Cursor {
        epoch: house.disk.journal().epoch(),
        offset: house.disk.journal().end(),
    };
    house.publish(bob, Post::qos1("free/retained", "state").retain());
    house.publish(bob, Post::qos1("free/x", "gone"));
    house.publish(bob, Post::qos1("kept/a", "history"));
    house.disk.trim(house.disk.journal().end());
    house.publish(bob, Post::qos1("free/x", "new"));
    let alice = house.connect(Login::v5("alice"));
    house.subscribe(alice, &after(&cursor.to_string(), QoS::AtLeastOnce));
    let ack = suback(&mut house, alice);
    let gap: Cursor = property(&ack, "gap")
        .expect("a gap")
        .parse()
        .expect("a cursor");
    assert_eq!(gap.offset, house.disk.journal().start());
    assert_eq!(property(&ack, "cursor"), Some(&*cursor.to_string()));
    assert_eq!(house.take_payloads(alice), ["state", "history", "new"]);
    // Who missed nothing gets no gap, and no state that it has.
    let carol = house.connect(Login::v5("carol"));
    house.subscribe(carol, &after(&gap.to_string(), QoS::AtLeastOnce));
    assert_eq!(property(&suback(&mut house, carol), "gap"), None);
    assert_eq!(house.take_payloads(carol), ["new"]);
}

#[test]
fn entries_that_are_trimmed_while_they_are_caught_up_with_are_told_with_the_next_message() {
    let mut house = House::new(Setup::default().with(|o| o.output_bytes = 1));
    let bob = house.connect(Login::v5("bob"));
    let away = house.connect(Login::v5("away").persistent());
    house.subscribe(away, &[Filter::qos1("#")]);
    let cursor = Cursor {
        epoch: house.disk.journal().epoch(),
        offset: house.disk.journal().end(),
    };
    // More than is read from the journal at once.
    let long = "x".repeat(40 * 1024);
    for _ in 0..4 {
        house.publish(bob, Post::qos1("free/x", &long));
    }
    let alice = house.connect(Login::v5("alice").receive_maximum(1));
    house.clients[alice.0].auto_ack = false;
    house.subscribe(alice, &after(&cursor.to_string(), QoS::AtLeastOnce));
    house.disk.trim(house.disk.journal().end());
    house.clients[alice.0].auto_ack = true;
    house.publish(bob, Post::qos1("kept/a", "next"));
    house.tell(alice, |c| c.reply_all());
    let arrivals = house.take_arrivals(alice);
    let last = arrivals.last().expect("a message");
    assert_eq!(last.payload, "next");
    assert!(last.user("trimmed").is_some(), "{last:?}");
}

#[test]
fn now_gives_what_is_retained_as_the_client_wishes() {
    for (handling, expected) in [
        (RetainHandling::SendAtSubscribe, &["state"][..]),
        (RetainHandling::DoNotSend, &[]),
    ] {
        let mut house = House::new(Setup::default());
        let bob = house.connect(Login::v5("bob"));
        house.publish(bob, Post::qos1("free/retained", "state").retain());
        let alice = house.connect(Login::v5("alice"));
        let mut filter = Filter::qos1("$replay/after/now/free/#");
        filter.0.retain_handling = handling;
        house.subscribe(alice, &[filter]);
        assert_eq!(house.take_payloads(alice), expected);
    }
}

#[test]
fn a_cursor_changes_nothing_for_the_other_filters_of_a_session() {
    let mut house = House::new(Setup::shards(2));
    let bob = house.connect(Login::v5("bob"));
    let alice = house.connect(Login::v5("alice"));
    let start = Cursor {
        epoch: house.disk.journal().epoch(),
        offset: house.disk.journal().end(),
    };
    house.subscribe(alice, &[Filter::qos1("kept/a")]);
    house.publish(bob, Post::qos1("kept/a", "1"));
    house.publish(bob, Post::qos1("kept/b", "2"));
    assert_eq!(house.take_payloads(alice), ["1"]);
    let filter = Filter::qos1(&format!("$replay/after/{start}/kept/b"));
    house.subscribe(alice, &[filter]);
    house.publish(bob, Post::qos1("kept/a", "3"));
    house.publish(bob, Post::qos1("kept/b", "4"));
    let arrivals = house.take_arrivals(alice);
    let told: Vec<_> = arrivals
        .iter()
        .map(|d| (d.payload.as_str(), d.user("cursor").is_some()))
        .collect();
    assert_eq!(told, [("2", true), ("3", false), ("4", true)]);
    // The plain filter is the name of the subscription.
    house.tell(alice, |c| c.unsubscribe(&["kept/b"]));
    house.publish(bob, Post::qos1("kept/b", "5"));
    assert!(house.take_payloads(alice).is_empty());
}

/// What a reader that wanders from connection to connection knows.
struct Wanderer {
    client: ClientId,
    cursor: String,
    seen: Vec<String>,
}

impl Wanderer {
    /// Takes what arrived; a client remembers the position of the last message that it has.
    fn take(&mut self, house: &mut House) {
        for delivery in house.take_arrivals(self.client) {
            let cursor = cursor_of(&delivery);
            if !cursor.is_empty() {
                cursor.clone_into(&mut self.cursor);
                self.seen.push(delivery.payload);
            }
        }
    }
}

/// A random order of events: whatever can happen next happens at some time.
fn wander(seed: u64) {
    let mut luck = Seeded::new(seed);
    let output_bytes = [0, 100, 64 * 1024][luck.within(0..3) as usize];
    let setup = Setup::shards(1 + luck.within(0..4) as u16).with(|o| o.output_bytes = output_bytes);
    let mut house = House::new(setup);
    let bobs = [
        house.connect(Login::v5("bob")),
        house.connect(Login::v3("ben")),
    ];
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce][luck.within(0..2) as usize];
    let maximum = 1 + luck.within(0..10) as u16;
    let login = move || Login::v5("alice").receive_maximum(maximum);
    let client = house.connect(login());
    house.subscribe(client, &after("now", qos));
    let cursor = property(&suback(&mut house, client), "cursor")
        .expect("a cursor")
        .to_owned();
    let mut alice = Wanderer {
        client,
        cursor,
        seen: Vec::new(),
    };
    let mut published = 0;
    for _ in 0..400 {
        match luck.within(0..10) {
            0..=3 => {
                published += 1;
                let topic = ["kept/a", "room/lobby/bob", "kept/b", "free/x"];
                let topic = topic[luck.within(0..4) as usize];
                let post = [Post::new, Post::qos1, Post::qos2][luck.within(0..3) as usize];
                let bob = bobs[luck.within(0..2) as usize];
                house.say(bob, |c| c.publish(post(topic, &published.to_string())));
            }
            4 if luck.chance(20) => {
                // Another connection, perhaps over another transport: only the cursor is known.
                alice.take(&mut house);
                house.cut(alice.client);
                house.settle();
                alice.client = house.connect(login());
                let filters = after(&alice.cursor, qos);
                house.say(alice.client, |c| c.subscribe(&filters, None));
            }
            _ => {
                let work = house.work();
                if !work.is_empty() {
                    let one = work[luck.within(0..work.len() as u64) as usize];
                    house.perform(one, &mut Some(luck.clone()));
                }
            }
        }
        alice.take(&mut house);
    }
    house.settle();
    alice.take(&mut house);
    let kept = |published: &tidings_core::journal::Published| {
        published.audience == tidings_core::journal::Audience::Everyone
            && !published.message.topic.starts_with("free/")
    };
    let everything = house.disk.batches().iter().flat_map(|batch| &batch.entries);
    let expected: Vec<String> = everything
        .filter_map(|(_, entry)| match &entry.record {
            tidings_core::journal::Record::Published(published) if kept(published) => {
                Some(String::from_utf8_lossy(&published.message.payload).into_owned())
            }
            _ => None,
        })
        .collect();
    let seen: Vec<_> = alice
        .seen
        .iter()
        .filter(|text| expected.contains(text))
        .cloned()
        .collect();
    assert!(expected.len() > 50, "seed {seed}: only {}", expected.len());
    assert_eq!(seen, expected, "seed {seed}");
}

#[test]
fn who_changes_connections_at_random_sees_everything_once_and_in_order() {
    for seed in 0..60 {
        wander(seed);
    }
}

#[test]
fn a_session_that_comes_back_is_told_positions_as_before() {
    for shards in [1, 4] {
        let mut house = House::new(Setup::shards(shards));
        let bob = house.connect(Login::v5("bob"));
        let login = Login::v5("alice").persistent();
        let alice = house.connect(login.clone());
        house.subscribe(alice, &after("now", QoS::AtLeastOnce));
        publish(&mut house, bob, 1..=2);
        assert_eq!(house.take_arrivals(alice).len(), 2);
        house.leave(alice);
        publish(&mut house, bob, 3..=5);
        assert!(house.reconnect(alice, login));
        publish(&mut house, bob, 6..=7);
        let arrivals = house.take_arrivals(alice);
        let payloads: Vec<_> = arrivals.iter().map(|d| d.payload.clone()).collect();
        // At QoS 0 nothing waits for who is away.
        assert_eq!(payloads.last().map(String::as_str), Some("7"));
        let position = cursor_of(&arrivals[arrivals.len() - 2]).to_owned();
        let next = house.connect(Login::v5("next"));
        house.subscribe(next, &after(&position, QoS::AtLeastOnce));
        assert_eq!(house.take_payloads(next), texts(7..=7));
        assert!(
            arrivals
                .iter()
                .all(|delivery| !cursor_of(delivery).is_empty())
        );
    }
}

#[test]
fn a_client_that_takes_small_packets_gets_its_suback_without_explanation() {
    let mut house = House::new(Setup::default());
    let mut login = Login::v5("alice");
    login.maximum_packet_size = Some(30);
    let alice = house.connect(login);
    house.subscribe(alice, &[Filter::qos1("$replay/after/now/free/#")]);
    let ack = suback(&mut house, alice);
    assert_eq!(ack.reasons, [ReasonCode::GrantedQoS1]);
    assert!(ack.user.is_empty());
}
