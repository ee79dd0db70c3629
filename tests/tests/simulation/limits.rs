//! Receive Maximum, Maximum Packet Size, slow readers, and what happens when a limit is met.

use tidings_core::codec::ReasonCode;
use tidings_core::limits::{FlowRate, Rate, Room};
use tidings_core::shard::Input;
use tidings_tests::simulation::{Filter, House, Login, Post, Said, Setup};

#[test]
fn no_more_deliveries_are_open_than_the_client_allows() {
    for login in [Login::v5("alice"), Login::v5("alice").persistent()] {
        for shards in [1, 4] {
            let mut house = House::new(Setup::shards(shards));
            let alice = house.connect(login.clone().receive_maximum(2));
            let bob = house.connect(Login::v5("bob"));
            house.subscribe(alice, &[Filter::qos2("a")]);
            house.clients[alice.0].auto_ack = false;
            for n in 0..10 {
                let text = n.to_string();
                let post = if n % 2 == 0 {
                    Post::qos1("a", &text)
                } else {
                    Post::qos2("a", &text)
                };
                house.publish(bob, post);
            }
            assert_eq!(house.client(alice).arrivals.len(), 2);
            house.clients[alice.0].auto_ack = true;
            house.tell(alice, |c| c.reply_all());
            let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
            assert_eq!(house.take_payloads(alice), expected);
        }
    }
}

#[test]
fn a_resumed_session_keeps_to_a_smaller_receive_maximum() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v5("alice").persistent().receive_maximum(10));
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(alice, &[Filter::qos2("a")]);
    house.clients[alice.0].auto_ack = false;
    for n in 0..8 {
        let text = n.to_string();
        let post = if n % 2 == 0 {
            Post::qos1("a", &text)
        } else {
            Post::qos2("a", &text)
        };
        house.publish(bob, post);
    }
    house.drop_line(alice);
    house.clients[alice.0].auto_ack = true;
    assert!(house.reconnect(alice, Login::v5("alice").persistent().receive_maximum(3)));
    let again = house
        .client(alice)
        .said
        .iter()
        .filter(|said| matches!(said, Said::Publish(p) if p.dup));
    assert_eq!(again.count(), 8);
    house.publish(bob, Post::qos1("a", "last"));
    assert_eq!(
        house.take_payloads(alice).last().map(String::as_str),
        Some("last")
    );
}

#[test]
fn a_client_that_has_more_publishes_open_than_announced_is_disconnected() {
    let mut house = House::new(Setup::default().with(|o| o.receive_maximum = 2));
    let alice = house.connect(Login::v5("alice").persistent());
    house.subscribe(alice, &[Filter::qos1("a")]);
    let bob = house.connect(Login::v5("bob"));
    house.take_said(bob);
    house.hold_commits = true;
    for id in 1..=3 {
        house.tell(bob, |c| {
            c.send_publish(&Post::qos1("a", "m"), Some(id), false)
        });
    }
    let said = house.take_said(bob);
    assert_eq!(
        said[0].disconnect_reason(),
        Some(ReasonCode::ReceiveMaximumExceeded)
    );
}

#[test]
fn publishes_of_an_earlier_connection_do_not_count_against_the_receive_maximum() {
    let mut house = House::new(Setup::default().with(|o| o.receive_maximum = 2));
    let alice = house.connect(Login::v5("alice").persistent());
    house.subscribe(alice, &[Filter::qos2("a")]);
    let bob = house.connect(Login::v5("bob").persistent());
    house.clients[bob.0].auto_ack = false;
    house.publish(bob, Post::qos2("a", "1"));
    house.publish(bob, Post::qos2("a", "2"));
    house.drop_line(bob);
    // New publishes before the PUBRELs of the old ones: each connection begins with a full quota.
    house.clients[bob.0].sent.clear();
    house.reconnect(bob, Login::v5("bob").persistent());
    house.clients[bob.0].auto_ack = true;
    for id in 11..=12 {
        let post = Post::qos2("a", &id.to_string());
        house.say(bob, |c| c.send_publish(&post, Some(id), false));
    }
    house.settle();
    assert!(house.client(bob).online, "{:?}", house.client(bob).said);
    assert_eq!(house.take_payloads(alice), ["1", "2", "11", "12"]);
}

#[test]
fn a_message_that_is_too_large_for_a_client_is_not_for_it_and_blocks_nothing() {
    for login in [Login::v5("alice"), Login::v5("alice").persistent()] {
        let mut house = House::new(Setup::default());
        let alice = house.connect(Login {
            maximum_packet_size: Some(100),
            ..login.receive_maximum(1)
        });
        let bob = house.connect(Login::v5("bob"));
        house.subscribe(alice, &[Filter::qos2("a")]);
        for n in 0..3 {
            house.publish(bob, Post::qos2("a", &"x".repeat(200)));
            house.publish(bob, Post::qos1("a", &"x".repeat(200)));
            house.publish(bob, Post::new("a", &"x".repeat(200)));
            house.publish(bob, Post::qos2("a", &n.to_string()));
        }
        assert_eq!(house.take_payloads(alice), ["0", "1", "2"]);
    }
}

#[test]
fn a_resumed_session_gives_up_what_became_too_large_for_its_client() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v5("alice").persistent());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(alice, &[Filter::qos2("a")]);
    house.clients[alice.0].auto_ack = false;
    house.publish(bob, Post::qos1("a", &"x".repeat(200)));
    house.publish(bob, Post::qos2("a", &"y".repeat(200)));
    house.drop_line(alice);
    house.clients[alice.0].auto_ack = true;
    house.take_payloads(alice);
    let small = Login {
        maximum_packet_size: Some(100),
        ..Login::v5("alice")
    };
    house.reconnect(alice, small.persistent().receive_maximum(1));
    house.publish(bob, Post::qos2("a", "small"));
    assert_eq!(house.take_payloads(alice), ["small"]);
}

#[test]
fn a_slow_reader_gets_everything_at_qos_1_and_2_in_order() {
    for shards in [1, 4] {
        for output_bytes in [0, 1, 1000] {
            for login in [
                Login::v5("alice"),
                Login::v5("alice").persistent(),
                Login::v3("alice"),
            ] {
                let setup = Setup::shards(shards).with(|o| o.output_bytes = output_bytes);
                let mut house = House::new(setup);
                let alice = house.connect(login);
                let bob = house.connect(Login::v5("bob"));
                house.subscribe(alice, &[Filter::qos2("a")]);
                house.clients[alice.0].reading = false;
                let line = house.client(alice).line.expect("connected");
                house.lines[line].capacity = 50;
                let mut expected = Vec::new();
                for n in 0..60 {
                    let text = format!("{n:>40}");
                    let post = if n % 2 == 0 {
                        Post::qos1("a", &text)
                    } else {
                        Post::qos2("a", &text)
                    };
                    house.publish(bob, post);
                    expected.push(text);
                }
                assert_eq!(
                    house.client(bob).acknowledged.len(),
                    60,
                    "nobody waits for alice"
                );
                let lagging: u64 = house.shards.iter().map(|s| s.stats().lagging).sum();
                assert_eq!(lagging, 1);
                house.clients[alice.0].reading = true;
                house.settle();
                assert_eq!(house.take_payloads(alice), expected);
                let lagging: u64 = house.shards.iter().map(|s| s.stats().lagging).sum();
                assert_eq!(lagging, 0, "it is live again");
                house.publish(bob, Post::qos1("a", "live"));
                assert_eq!(house.take_payloads(alice), ["live"]);
            }
        }
    }
}

#[test]
fn qos_0_is_dropped_at_a_full_output_and_counted() {
    let mut house = House::new(Setup::default().with(|o| o.output_bytes = 100));
    let alice = house.connect(Login::v5("alice"));
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(alice, &[Filter::qos0("a")]);
    house.clients[alice.0].reading = false;
    let line = house.client(alice).line.expect("connected");
    house.lines[line].capacity = 10;
    for n in 0..100 {
        house.publish(bob, Post::new("a", &n.to_string()));
    }
    assert!(house.shards[0].stats().dropped_output_full > 50);
    house.clients[alice.0].reading = true;
    house.settle();
    let before = house.take_payloads(alice).len();
    assert!(before < 50);
    house.publish(bob, Post::new("a", "after"));
    assert_eq!(house.take_payloads(alice), ["after"]);
}

#[test]
fn who_sends_much_at_once_waits_for_the_turns_of_others() {
    for post in [Post::new, Post::qos1] {
        let mut house = House::new(Setup::default().with(|o| o.turn = 4));
        let alice = house.connect(Login::v5("alice"));
        house.subscribe(alice, &[Filter::qos1("a")]);
        let bob = house.connect(Login::v5("bob"));
        let carol = house.connect(Login::v5("carol"));
        let expected: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        house.say(bob, |c| {
            for text in &expected {
                c.publish(post("a", text));
            }
        });
        house.say(carol, |c| c.publish(post("a", "carol")));
        house.settle();
        let mut arrived = house.take_payloads(alice);
        let at = arrived.iter().position(|text| text == "carol").unwrap();
        assert!(at <= 8, "after {at} of bob's");
        arrived.remove(at);
        assert_eq!(arrived, expected);
    }
}

#[test]
fn publishers_pause_while_too_much_waits_for_the_journal() {
    for shards in [1, 4] {
        let setup = Setup::shards(shards).with(|o| o.append_queue_bytes = 2_000);
        let mut house = House::new(setup);
        let alice = house.connect(Login::v5("alice").persistent());
        house.subscribe(alice, &[Filter::qos1("a")]);
        let bob = house.connect(Login::v5("bob"));
        house.hold_commits = true;
        for n in 0..50 {
            house.publish(bob, Post::qos1("a", &n.to_string()));
        }
        let line = house.client(bob).line.expect("connected");
        assert!(house.lines[line].paused);
        assert!(house.client(bob).acknowledged.is_empty());
        house.hold_commits = false;
        house.settle();
        assert_eq!(house.client(bob).acknowledged.len(), 50);
        assert_eq!(house.take_payloads(alice).len(), 50);
    }
}

#[test]
fn a_poisoned_journal_acknowledges_nothing_that_must_be_stored() {
    let mut house = House::new(Setup::shards(4));
    let alice = house.connect(Login::v5("alice").persistent());
    house.subscribe(alice, &[Filter::qos2("a")]);
    let bob = house.connect(Login::v5("bob"));
    let carol = house.connect(Login::v3("carol"));
    let dave = house.connect(Login::v5("dave"));
    house.subscribe(dave, &[Filter::qos0("live")]);
    house.hold_commits = true;
    house.publish(bob, Post::qos1("a", "under way"));
    house.poison("the disk is full");
    house.hold_commits = false;
    house.settle();
    house.publish(bob, Post::qos1("a", "1"));
    house.publish(carol, Post::qos2("a", "2"));
    assert!(house.client(bob).acknowledged.is_empty());
    assert!(house.client(carol).acknowledged.is_empty());
    assert_eq!(house.client(bob).said.last(), Some(&Said::Closed));
    assert_eq!(house.client(carol).said.last(), Some(&Said::Closed));
    let late = house.add_client(Login::v5("late"));
    house.dial(late, Login::v5("late"));
    house.settle();
    let Some(Said::ConnAck(ack)) = house.client(late).said.first() else {
        panic!("no answer")
    };
    assert_eq!(ack.reason, ReasonCode::ServerUnavailable);
    house.clients[late.0].violations.clear();
}

#[test]
fn who_waits_for_the_journal_when_it_fails_is_not_left_waiting() {
    let mut house = House::new(Setup::default().with(|o| o.append_queue_bytes = 1_000));
    let alice = house.connect(Login::v5("alice").persistent());
    house.subscribe(alice, &[Filter::qos2("a")]);
    let bob = house.connect(Login::v5("bob"));
    house.hold_commits = true;
    for n in 0..20 {
        house.publish(bob, Post::qos1("a", &n.to_string()));
    }
    let late = house.add_client(Login::v5("late"));
    house.dial(late, Login::v5("late").persistent());
    house.settle();
    house.poison("the disk is full");
    house.settle();
    assert_eq!(house.client(bob).said.last(), Some(&Said::Closed));
    assert!(house.client(bob).acknowledged.is_empty());
    assert_eq!(house.client(late).said.last(), Some(&Said::Closed));
}

#[test]
fn a_session_has_no_more_subscriptions_than_allowed() {
    let mut house = House::new(Setup::default().with(|o| o.max_subscriptions = 2));
    let alice = house.connect(Login::v5("alice"));
    let reasons = house.subscribe(
        alice,
        &[Filter::qos0("a"), Filter::qos0("b"), Filter::qos0("c")],
    );
    assert_eq!(reasons[2], ReasonCode::QuotaExceeded);
    let reasons = house.subscribe(alice, &[Filter::qos1("a")]);
    assert_eq!(reasons, [ReasonCode::GrantedQoS1], "it is there already");
}

#[test]
fn a_publisher_over_its_rate_is_read_again_as_time_gives_it_back_and_loses_nothing() {
    let rate = FlowRate {
        messages: Rate::new(10, 1),
        ..FlowRate::default()
    };
    let mut house = House::new(Setup::default().with(|o| o.bounds.publish = rate));
    let alice = house.connect(Login::v5("alice"));
    let bob = house.connect(Login::v3("bob"));
    house.subscribe(alice, &[Filter::qos0("a")]);
    for n in 0..30 {
        house.publish(bob, Post::new("a", &n.to_string()));
    }
    let mut got = house.take_payloads(alice);
    assert_eq!(
        got.len(),
        11,
        "a second's worth, and the one that overdraws it"
    );
    house.advance(1000);
    got.append(&mut house.take_payloads(alice));
    assert!((20..=22).contains(&got.len()), "{}", got.len());
    house.advance(2000);
    got.append(&mut house.take_payloads(alice));
    let all: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    assert_eq!(got, all);
}

#[test]
fn while_the_disk_has_no_room_what_would_be_kept_is_refused_and_the_rest_goes_on() {
    let mut house = House::new(Setup::default());
    let alice = house.connect(Login::v5("alice").persistent());
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(alice, &[Filter::qos1("kept/#"), Filter::qos0("free")]);
    house.publish(bob, Post::qos1("kept/a", "before"));
    house.input_to_all(|| Input::Storage(Room::Little));
    house.take_said(bob);
    house.publish(bob, Post::qos1("kept/a", "refused"));
    house.publish(bob, Post::qos2("kept/a", "refused"));
    house.publish(bob, Post::new("kept/a", "dropped"));
    let said = house.take_said(bob);
    let refused = said.iter().filter(|said| match said {
        Said::PubAck(ack) | Said::PubRec(ack) => ack.reason == ReasonCode::QuotaExceeded,
        _ => false,
    });
    assert_eq!(refused.count(), 2, "{said:?}");
    house.publish(bob, Post::new("free", "live"));
    house.input_to_all(|| Input::Storage(Room::Enough));
    house.publish(bob, Post::qos1("kept/a", "after"));
    assert_eq!(house.take_payloads(alice), ["before", "live", "after"]);
}
