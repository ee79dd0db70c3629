//! What a log-structured session has to get right: the list of the design, one test or more each.

use std::sync::Arc;

use tidings_core::codec::ReasonCode;
use tidings_core::journal::Record;
use tidings_core::message::{Offset, QoS};
use tidings_core::rules::RuleSource;
use tidings_core::shard::Event;
use tidings_core::state::{Phase, SessionChange};
use tidings_tests::simulation::{Filter, House, Login, Post, Said, Setup};

fn alice() -> Login {
    Login::v5("alice").persistent()
}

// 1

#[test]
fn a_new_filter_on_an_old_session_receives_no_history() {
    for shards in [1, 4] {
        let mut house = House::new(Setup::shards(shards));
        let reader = house.connect(alice().receive_maximum(1));
        let bob = house.connect(Login::v5("bob"));
        // The session is far behind when it subscribes again.
        house.subscribe(reader, &[Filter::qos1("a")]);
        house.clients[reader.0].auto_ack = false;
        let other = house.connect(Login::v5("other").persistent());
        house.subscribe(other, &[Filter::qos1("#")]);
        for n in 0..5 {
            house.publish(bob, Post::qos1("a", &format!("a{n}")));
            house.publish(bob, Post::qos1("b", &format!("b{n}")));
        }
        house.subscribe(reader, &[Filter::qos1("b")]);
        house.publish(bob, Post::qos1("b", "new"));
        house.drop_line(reader);
        house.clients[reader.0].auto_ack = true;
        house.take_payloads(reader);
        assert!(house.reconnect(reader, alice()));
        assert_eq!(
            house.take_payloads(reader),
            ["a0", "a1", "a2", "a3", "a4", "new"]
        );
    }
}

#[test]
fn a_filter_that_is_subscribed_again_keeps_its_place() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice().receive_maximum(1));
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(reader, &[Filter::qos1("a")]);
    house.clients[reader.0].auto_ack = false;
    for n in 0..5 {
        house.publish(bob, Post::qos1("a", &n.to_string()));
    }
    house.subscribe(reader, &[Filter::qos2("a")]);
    house.clients[reader.0].auto_ack = true;
    house.tell(reader, |c| c.reply_all());
    assert_eq!(house.take_payloads(reader), ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_filter_that_is_raised_from_qos_0_does_not_repeat_what_it_delivered() {
    for crash in [false, true] {
        let mut house = House::new(Setup::default());
        let reader = house.connect(alice().receive_maximum(1));
        let other = house.connect(Login::v5("other").persistent());
        house.subscribe(other, &[Filter::qos2("#")]);
        let bob = house.connect(Login::v5("bob"));
        house.subscribe(reader, &[Filter::qos0("a"), Filter::qos1("slow")]);
        house.clients[reader.0].auto_ack = false;
        house.publish(bob, Post::qos1("slow", "s1"));
        house.publish(bob, Post::qos1("slow", "s2"));
        house.publish(bob, Post::qos2("a", "1"));
        house.subscribe(reader, &[Filter::qos2("a")]);
        house.publish(bob, Post::qos2("a", "2"));
        house.clients[reader.0].auto_ack = true;
        if crash {
            house.crash(0);
            house.settle();
            house.reconnect(reader, alice());
        } else {
            house.tell(reader, |c| c.reply_all());
        }
        let mut payloads = house.take_payloads(reader);
        payloads.retain(|p| !p.starts_with('s'));
        assert_eq!(payloads, ["1", "2"]);
    }
}

// 2

#[test]
fn acks_out_of_order_leave_a_low_watermark_and_a_bounded_set_above_it() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice().receive_maximum(4));
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(reader, &[Filter::qos1("a")]);
    house.clients[reader.0].auto_ack = false;
    for n in 0..10 {
        house.publish(bob, Post::qos1("a", &n.to_string()));
    }
    // The first and the third of four are never acknowledged.
    house.tell(reader, |c| c.reply(1));
    house.tell(reader, |c| c.reply(2));
    house.drop_line(reader);
    let record = house.disk.state().session("alice").expect("the session");
    let open: Vec<u16> = record.unfinished.iter().map(|u| u.packet_id).collect();
    assert_eq!(open, [1, 3, 5, 6]);
    assert!(record.unfinished.iter().all(|u| u.offset < record.cursor));
    assert_eq!(record.position(), record.unfinished[0].offset);
    house.clients[reader.0].auto_ack = true;
    house.take_payloads(reader);
    house.reconnect(reader, alice());
    assert_eq!(
        house.take_payloads(reader),
        ["0", "2", "4", "5", "6", "7", "8", "9"]
    );
}

// 3

#[test]
fn after_reconnect_unfinished_exchanges_keep_their_identifiers_with_dup_pubrel_first() {
    for crash in [false, true] {
        let mut house = House::new(Setup::default());
        let reader = house.connect(alice());
        let bob = house.connect(Login::v5("bob"));
        house.subscribe(reader, &[Filter::qos2("a")]);
        house.clients[reader.0].auto_ack = false;
        house.publish(bob, Post::qos1("a", "one"));
        house.publish(bob, Post::qos2("a", "two"));
        house.publish(bob, Post::qos2("a", "three"));
        // PUBREC for the third message only.
        house.tell(reader, |c| c.reply(2));
        house.advance(2_000);
        if crash {
            house.crash(0);
            house.settle();
        } else {
            house.drop_line(reader);
        }
        house.take_said(reader);
        assert!(house.reconnect(reader, alice()));
        let said = house.take_said(reader);
        let Said::PubRel(release) = &said[1] else {
            panic!("{said:?}")
        };
        assert_eq!(release.packet_id, 3);
        let again: Vec<_> = said[2..]
            .iter()
            .filter_map(|said| match said {
                Said::Publish(p) => Some((p.payload.as_str(), p.packet_id, p.dup)),
                _ => None,
            })
            .collect();
        assert_eq!(again, [("one", Some(1), true), ("two", Some(2), true)]);
        house.clients[reader.0].auto_ack = true;
        house.tell(reader, |c| c.reply_all());
        let bob = house.connect(Login::v5("bob"));
        house.publish(bob, Post::qos1("a", "four"));
        let arrivals = house.take_payloads(reader);
        assert_eq!(arrivals, ["one", "two", "three", "one", "four"]);
    }
}

#[test]
fn an_exchange_whose_message_is_gone_does_not_poison_its_identifier() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(reader, &[Filter::qos2("a")]);
    house.clients[reader.0].auto_ack = false;
    house.publish(bob, Post::qos2("a", "one"));
    // It has the message and says so, but the broker does not hear it; then the message is trimmed.
    house.drop_line(reader);
    house.disk.trim(house.disk.journal().end());
    house.clients[reader.0].auto_ack = true;
    house.reconnect(reader, alice());
    for n in 0..5 {
        house.publish(bob, Post::qos2("a", &n.to_string()));
    }
    assert_eq!(
        house.take_payloads(reader),
        ["one", "0", "1", "2", "3", "4"]
    );
}

#[test]
fn a_publishers_exchanges_survive_reconnect_and_crash() {
    for crash in [false, true] {
        for interested in [false, true] {
            let mut house = House::new(Setup::shards(4));
            let clean = house.connect(Login::v5("clean"));
            house.subscribe(clean, &[Filter::qos2("a")]);
            let reader = house.connect(alice());
            if interested {
                house.subscribe(reader, &[Filter::qos2("a")]);
            }
            let bob = house.connect(Login::v5("bob").persistent());
            house.clients[bob.0].reading = false;
            house.publish(bob, Post::qos2("a", "m"));
            // PUBREC is on its way when the connection breaks: the message is sent again.
            house.drop_line(bob);
            if crash {
                house.crash(0);
                house.settle();
                house.reconnect(clean, Login::v5("clean"));
                house.reconnect(reader, alice());
                house.subscribe(clean, &[Filter::qos2("a")]);
            }
            house.clients[bob.0].reading = true;
            house.reconnect(bob, Login::v5("bob").persistent());
            assert_eq!(house.client(bob).acknowledged, ["m"]);
            assert_eq!(
                house.take_payloads(clean),
                ["m"],
                "crash {crash} wanted {interested}"
            );
            let expected: &[&str] = if interested { &["m"] } else { &[] };
            assert_eq!(house.take_payloads(reader), expected);
        }
    }
}

// 4

#[test]
fn qos2_phases_are_durable_before_the_packet_that_reveals_them_leaves() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice());
    let bob = house.connect(Login::v5("bob").persistent());
    house.subscribe(reader, &[Filter::qos2("a")]);
    house.clients[reader.0].auto_ack = false;
    let phase = |house: &House| {
        let record = house.disk.state().session("alice").expect("the session");
        record.unfinished.first().map(|u| u.phase)
    };
    // The publisher's PUBREC: after the message and its identifier.
    house.hold_commits = true;
    house.publish(bob, Post::qos2("a", "m"));
    assert!(house.client(bob).acknowledged.is_empty());
    commit_once(&mut house);
    assert_eq!(house.client(bob).acknowledged, ["m"]);
    assert_eq!(
        house.disk.state().session("bob").expect("bob").inbound_qos2,
        [1]
    );
    // The receiver's PUBLISH: after its identifier.
    assert!(house.client(reader).arrivals.is_empty());
    commit_once(&mut house);
    assert_eq!(phase(&house), Some(Phase::AwaitPubRec));
    assert_eq!(house.client(reader).arrivals.len(), 1);
    // The receiver's PUBREL: after the PUBREC.
    house.tell(reader, |c| c.reply_all());
    assert!(house.client(reader).replies.is_empty());
    commit_once(&mut house);
    assert_eq!(phase(&house), Some(Phase::AwaitPubComp));
    assert_eq!(house.client(reader).replies.len(), 1);
}

fn commit_once(house: &mut House) {
    house.hold_commits = false;
    let waiting = house.disk.waiting();
    assert!(waiting > 0, "something waits for the journal");
    house.perform(tidings_tests::simulation::Work::Commit, &mut None);
    house.hold_commits = true;
    house.settle();
}

#[test]
fn at_no_crash_a_qos_2_message_is_lost_or_doubled() {
    // The broker stops after every number of steps, with or without what the disk was writing.
    for steps in 0..120 {
        for survive in [0, usize::MAX] {
            let mut house = House::new(Setup::default());
            let reader = house.connect(alice());
            let bob = house.connect(Login::v5("bob").persistent());
            house.subscribe(reader, &[Filter::qos2("a")]);
            house.take_payloads(reader);
            house.say(bob, |c| c.publish(Post::qos2("a", "1")));
            house.say(bob, |c| c.publish(Post::qos2("a", "2")));
            for _ in 0..steps {
                let Some(work) = house.work().first().copied() else {
                    break;
                };
                house.perform(work, &mut None);
            }
            house.crash(survive);
            house.settle();
            house.reconnect(bob, Login::v5("bob").persistent());
            house.reconnect(reader, alice());
            house.publish(bob, Post::qos2("a", "3"));
            assert_eq!(
                house.take_payloads(reader),
                ["1", "2", "3"],
                "{steps} {survive}"
            );
        }
    }
}

// 5

#[test]
fn a_narrow_filter_does_not_scan_the_log() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(reader, &[Filter::qos1("narrow/+")]);
    house.leave(reader);
    for n in 0..500 {
        house.publish(bob, Post::qos1(&format!("kept/{n}"), "x"));
        if n % 100 == 0 {
            house.publish(bob, Post::qos1("narrow/a", &n.to_string()));
        }
    }
    house.disk.reads().clear();
    house.reconnect(reader, alice());
    assert_eq!(
        house.take_payloads(reader),
        ["0", "100", "200", "300", "400"]
    );
    let reads = house.disk.reads();
    assert!(reads.len() <= 4, "one page is enough: {reads:?}");
    assert!(reads.iter().all(|read| read.filters == ["narrow/+".into()]));
    assert_eq!(reads.iter().map(|read| read.entries).sum::<usize>(), 5);
}

// 6

#[test]
fn trimming_is_visible() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(reader, &[Filter::qos1("a")]);
    house.leave(reader);
    for n in 0..10 {
        house.publish(bob, Post::qos1("a", &n.to_string()));
    }
    let end = house.disk.journal().end();
    house.disk.trim(Offset(end.0 - 3));
    house.events.clear();
    assert!(house.reconnect(reader, alice()));
    let arrivals = house.take_arrivals(reader);
    let payloads: Vec<_> = arrivals.iter().map(|d| d.payload.as_str()).collect();
    assert_eq!(payloads, ["7", "8", "9"]);
    assert!(
        arrivals[0].user("trimmed").is_some(),
        "the client is told: {:?}",
        arrivals[0]
    );
    assert!(arrivals[1].user("trimmed").is_none(), "once");
    assert!(
        house
            .events
            .iter()
            .any(|e| matches!(e, Event::Trimmed { .. }))
    );
}

// 7: `a_foreign_journal_is_an_error` stands with the journal that is opened from a directory.

// 8

#[test]
fn retained_and_live_have_neither_gap_nor_double() {
    // A message is retained at every moment around a SUBSCRIBE: it comes exactly once.
    for login in [Login::v5("alice"), alice()] {
        for shards in [1, 4] {
            for steps in 0..40 {
                let mut house = House::new(Setup::shards(shards));
                let reader = house.connect(login.clone());
                let bob = house.connect(Login::v5("bob"));
                house.publish(bob, Post::qos1("a", "1").retain());
                house.say(bob, |c| c.publish(Post::qos1("a", "2").retain()));
                let mut subscribed = false;
                for step in 0..steps + 1 {
                    if step == steps / 2 {
                        house.say(reader, |c| c.subscribe(&[Filter::qos1("a")], None));
                        subscribed = true;
                    }
                    let work = house.work();
                    let Some(next) = work.get(step % work.len().max(1)).copied() else {
                        break;
                    };
                    house.perform(next, &mut None);
                }
                if !subscribed {
                    house.say(reader, |c| c.subscribe(&[Filter::qos1("a")], None));
                }
                house.settle();
                house.publish(bob, Post::qos1("a", "3").retain());
                let payloads = house.take_payloads(reader);
                let twos = payloads.iter().filter(|p| *p == "2").count();
                assert_eq!(twos, 1, "{shards} {steps}: {payloads:?}");
                assert_eq!(payloads.last().map(String::as_str), Some("3"));
                let mut sorted = payloads.clone();
                sorted.sort();
                assert_eq!(sorted, payloads);
            }
        }
    }
}

// 9

#[test]
fn commands_of_an_older_connection_are_ignored() {
    let mut house = House::new(Setup::default());
    let old = house.connect(alice());
    let watcher = house.connect(Login::v5("watcher"));
    house.subscribe(watcher, &[Filter::qos1("#")]);
    house.subscribe(old, &[Filter::qos1("a")]);
    let old_line = house.client(old).line.expect("connected");
    let (shard, conn) = (
        house.lines[old_line].shard.expect("open"),
        house.lines[old_line].conn.expect("open"),
    );
    let new = house.add_client(alice());
    house.reconnect(new, alice());
    // The shell is late: bytes, acknowledged writes and the end of the older connection.
    let mut bytes = Vec::new();
    let late = Login::v5("x").encode();
    bytes.extend(late);
    let now = house.now;
    let received = house.shards[shard].receive(now, conn, &bytes);
    assert_eq!(received.consumed, bytes.len());
    house.shards[shard].wrote(now, conn, 10);
    house.input(shard, tidings_core::shard::Input::Disconnected { conn });
    house.settle();
    assert!(house.shards[shard].outgoing(conn).is_empty());
    assert!(house.client(new).online);
    let bob = house.connect(Login::v5("bob"));
    house.publish(bob, Post::qos1("a", "m"));
    assert_eq!(house.take_payloads(new), ["m"]);
    assert_eq!(house.take_payloads(watcher), ["m"]);
}

// 10

#[test]
fn remaining_lifetime_is_rewritten_at_delivery() {
    for shards in [1, 4] {
        let mut house = House::new(Setup::shards(shards));
        let reader = house.connect(alice());
        let bob = house.connect(Login::v5("bob"));
        house.subscribe(reader, &[Filter::qos2("a")]);
        house.leave(reader);
        house.publish(bob, Post::qos1("a", "long").expires(100));
        house.publish(bob, Post::qos2("a", "short").expires(10));
        house.publish(bob, Post::qos1("a", "forever"));
        house.advance(30_000);
        house.reconnect(reader, alice());
        let found: Vec<_> = house
            .take_arrivals(reader)
            .into_iter()
            .map(|d| (d.payload, d.expiry_s))
            .collect();
        assert_eq!(
            found,
            [("long".to_owned(), Some(70)), ("forever".to_owned(), None)]
        );
    }
}

// 11

#[test]
fn permissions_are_checked_at_delivery_and_replay() {
    let mut house = House::new(Setup::shards(4));
    let reader = house.connect(alice().user("alice"));
    let bob = house.connect(Login::v5("bob"));
    let reasons = house.subscribe(reader, &[Filter::qos1("#"), Filter::qos1("secret/bob")]);
    assert_eq!(
        reasons,
        [ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized]
    );
    for topic in [
        "secret/alice",
        "secret/bob",
        "kept-secret/bob",
        "kept-secret/alice",
    ] {
        house.publish(bob, Post::qos1(topic, topic));
        house.publish(bob, Post::new(topic, topic));
    }
    let mine = [
        "secret/alice",
        "secret/alice",
        "kept-secret/alice",
        "kept-secret/alice",
    ];
    assert_eq!(
        sorted(house.take_payloads(reader)),
        sorted(mine.map(str::to_owned).to_vec())
    );
    // While it is away, and in history.
    house.leave(reader);
    for topic in ["secret/alice", "secret/bob", "kept-secret/bob"] {
        house.publish(bob, Post::qos1(topic, topic));
        house.publish(bob, Post::qos1(topic, topic).retain());
    }
    house.reconnect(reader, alice().user("alice"));
    assert_eq!(
        house.take_payloads(reader),
        ["secret/alice", "secret/alice"]
    );
    house.subscribe(reader, &[Filter::qos1("$replay/last/10/kept-secret/+")]);
    assert_eq!(
        house.take_payloads(reader),
        ["kept-secret/alice", "kept-secret/alice"]
    );
    house.subscribe(reader, &[Filter::qos1("$share/g/#")]);
    house.publish(bob, Post::qos1("kept-secret/bob", "shared"));
    assert!(house.take_payloads(reader).is_empty());
}

#[test]
fn a_right_that_is_taken_away_ends_deliveries_at_once_also_of_what_is_open() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(reader, &[Filter::qos2("a"), Filter::qos2("b")]);
    house.clients[reader.0].auto_ack = false;
    house.publish(bob, Post::qos2("a", "1"));
    house.drop_line(reader);
    house.publish(bob, Post::qos1("a", "2"));
    let rule = |pattern: &str, subscribe: &str| RuleSource {
        pattern: pattern.to_owned(),
        publish: "any".to_owned(),
        subscribe: subscribe.to_owned(),
        ..RuleSource::default()
    };
    house.set_rules(&[rule("a", "none"), rule("#", "any")]);
    house.clients[reader.0].auto_ack = true;
    house.take_said(reader);
    house.take_payloads(reader);
    house.reconnect(reader, alice());
    house.publish(bob, Post::qos1("a", "3"));
    house.publish(bob, Post::qos2("b", "4"));
    assert_eq!(house.take_payloads(reader), ["4"]);
    let twice = house.client(reader).said.iter().filter(|s| match s {
        Said::Publish(p) => p.topic == "a",
        _ => false,
    });
    assert_eq!(twice.count(), 0);
}

// And what follows from them.

#[test]
fn mixed_qos_keeps_its_order_towards_a_persistent_session() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(reader, &[Filter::qos2("a")]);
    for n in 0..10 {
        let text = n.to_string();
        let post = if n % 3 == 0 {
            Post::qos2("a", &text)
        } else {
            Post::qos1("a", &text)
        };
        house.say(bob, |c| c.publish(post));
    }
    house.settle();
    let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(house.take_payloads(reader), expected);
}

#[test]
fn a_position_is_saved_lazily_and_little_is_repeated_after_a_crash() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(reader, &[Filter::qos1("a")]);
    for n in 0..10 {
        house.publish(bob, Post::qos1("a", &n.to_string()));
    }
    house.advance(2_000);
    house.publish(bob, Post::qos1("a", "10"));
    house.take_payloads(reader);
    house.crash(0);
    house.settle();
    house.reconnect(reader, alice());
    assert_eq!(
        house.take_payloads(reader),
        ["10"],
        "only what came after the last save"
    );
}

#[test]
fn who_is_here_and_gets_nothing_does_not_hold_the_journal_back() {
    for shards in [1, 4] {
        let mut house = House::new(Setup::shards(shards));
        let idle = house.connect(alice());
        house.subscribe(idle, &[Filter::qos1("rare")]);
        let sharing = house.connect(Login::v5("sharing").persistent());
        house.subscribe(sharing, &[Filter::qos1("$share/group/rare")]);
        let reader = house.connect(Login::v5("reader").persistent());
        house.subscribe(reader, &[Filter::qos1("a")]);
        let bob = house.connect(Login::v5("bob"));
        for n in 0..2000 {
            house.publish(bob, Post::qos1("a", &n.to_string()));
        }
        house.advance(2_000);
        let end = house.disk.journal().end().0;
        let lowest = house.disk.state().lowest_position().expect("sessions").0;
        assert!(end - lowest < 100, "{lowest} of {end}");
        house.crash(0);
        house.settle();
        house.reconnect(idle, alice());
        let bob = house.connect(Login::v5("bob"));
        house.publish(bob, Post::qos1("rare", "at last"));
        assert_eq!(house.take_payloads(idle), ["at last"]);
    }
}

#[test]
fn a_message_is_stored_once_whatever_the_number_of_its_receivers() {
    let mut house = House::new(Setup::shards(4));
    let bob = house.connect(Login::v5("bob"));
    for n in 0..20 {
        let reader = house.connect(Login::v5(&format!("reader{n}")).persistent());
        house.subscribe(reader, &[Filter::qos1("a")]);
        house.leave(reader);
    }
    let before = published(&house);
    house.publish(bob, Post::qos1("a", "m"));
    assert_eq!(published(&house), before + 1);
}

#[test]
fn what_nobody_wants_for_later_is_not_stored() {
    let mut house = House::new(Setup::shards(4));
    let bob = house.connect(Login::v5("bob"));
    let clean = house.connect(Login::v5("clean"));
    let zero = house.connect(Login::v5("zero").persistent());
    house.subscribe(clean, &[Filter::qos2("a")]);
    house.subscribe(zero, &[Filter::qos0("a")]);
    house.publish(bob, Post::qos1("a", "m"));
    house.publish(bob, Post::qos2("a", "m"));
    house.publish(bob, Post::new("a", "m"));
    assert_eq!(published(&house), 0);
    assert_eq!(house.take_payloads(clean).len(), 3);
    assert_eq!(house.take_payloads(zero).len(), 3);
}

#[test]
fn a_slow_clean_session_spills_for_itself_alone() {
    let mut house = House::new(Setup::shards(4).with(|o| o.output_bytes = 10));
    let bob = house.connect(Login::v5("bob"));
    let slow = house.connect(Login::v5("slow").receive_maximum(1));
    let fast = house.connect(Login::v5("fast"));
    house.subscribe(slow, &[Filter::qos1("a")]);
    house.subscribe(fast, &[Filter::qos1("a")]);
    house.clients[slow.0].auto_ack = false;
    for n in 0..10 {
        house.publish(bob, Post::qos1("a", &n.to_string()));
    }
    assert_eq!(house.take_payloads(fast).len(), 10);
    let spilled = house
        .disk
        .batches()
        .iter()
        .flat_map(|b| &b.entries)
        .filter(|(_, entry)| {
            matches!(&entry.record, Record::Published(p)
            if p.audience == tidings_core::journal::Audience::Only(vec![Arc::from("slow")]))
        });
    assert_eq!(spilled.count(), 9);
    house.clients[slow.0].auto_ack = true;
    house.tell(slow, |c| c.reply_all());
    let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(house.take_payloads(slow), expected);
}

#[test]
fn a_session_record_is_written_when_something_changed_and_not_otherwise() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice());
    house.subscribe(reader, &[Filter::qos1("a")]);
    let before = house.disk.journal().end();
    house.advance(60_000);
    assert_eq!(house.disk.journal().end(), before);
    let progress = house
        .disk
        .batches()
        .iter()
        .flat_map(|b| &b.entries)
        .filter(|(_, entry)| {
            matches!(
                &entry.record,
                Record::Session {
                    change: SessionChange::Progress { .. },
                    ..
                }
            )
        });
    assert!(progress.count() <= 1);
}

#[test]
fn qos_of_what_was_unfinished_stays() {
    let mut house = House::new(Setup::default());
    let reader = house.connect(alice());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(reader, &[Filter::qos1("a")]);
    house.clients[reader.0].auto_ack = false;
    house.publish(bob, Post::qos2("a", "m"));
    house.drop_line(reader);
    house.take_arrivals(reader);
    house.reconnect(reader, alice());
    let arrivals = house.take_arrivals(reader);
    assert_eq!(arrivals[0].qos, QoS::AtLeastOnce);
}

fn published(house: &House) -> usize {
    let entries = house.disk.batches().iter().flat_map(|b| &b.entries);
    entries
        .filter(|(_, entry)| matches!(entry.record, Record::Published(_)))
        .count()
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
