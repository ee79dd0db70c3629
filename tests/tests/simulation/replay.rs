//! `$replay/...`: history first, then live.

use tidings_tests::simulation::{Filter, House, Login, Post, Setup};

fn with_history(setup: Setup, count: usize) -> House {
    let mut house = House::new(setup);
    let bob = house.connect(Login::v5("bob"));
    for n in 1..=count {
        house.publish(bob, Post::qos1("kept/a", &n.to_string()));
        house.publish(bob, Post::qos1("kept/other", "x"));
        house.advance(1000);
    }
    house
}

#[test]
fn the_last_messages_come_first_then_live_ones() {
    for shards in [1, 4] {
        for login in [
            Login::v5("alice"),
            Login::v5("alice").persistent(),
            Login::v3("alice"),
        ] {
            let mut house = with_history(Setup::shards(shards), 10);
            let alice = house.connect(login);
            house.subscribe(alice, &[Filter::qos1("$replay/last/3/kept/a")]);
            assert_eq!(house.take_payloads(alice), ["8", "9", "10"]);
            let carol = house.connect(Login::v5("carol"));
            house.publish(carol, Post::qos1("kept/a", "live"));
            assert_eq!(house.take_payloads(alice), ["live"]);
        }
    }
}

#[test]
fn history_begins_at_a_number_or_at_a_time() {
    let mut house = with_history(Setup::default(), 10);
    let alice = house.connect(Login::v5("alice"));
    house.subscribe(alice, &[Filter::qos1("$replay/seq/8/kept/a")]);
    assert_eq!(house.take_payloads(alice), ["8", "9", "10"]);
    let start = house.now.unix_ms - 10_000;
    let bob = house.connect(Login::v5("bob"));
    house.subscribe(
        bob,
        &[Filter::qos1(&format!(
            "$replay/ts/{}/kept/a",
            start + 8_000
        ))],
    );
    assert_eq!(house.take_payloads(bob), ["9", "10"]);
}

#[test]
fn history_passes_a_small_output_while_new_messages_come_without_gap_or_double() {
    for output_bytes in [0, 1, 1000] {
        let mut house = with_history(Setup::shards(4).with(|o| o.output_bytes = output_bytes), 30);
        let bob = house.connect(Login::v5("bob"));
        let alice = house.connect(Login::v5("alice").receive_maximum(2));
        house.clients[alice.0].auto_ack = false;
        house.tell(alice, |c| {
            c.subscribe(&[Filter::qos2("$replay/last/30/kept/a")], None)
        });
        for n in 31..=40 {
            house.publish(bob, Post::qos1("kept/a", &n.to_string()));
            house.tell(alice, |c| c.reply(0));
        }
        house.clients[alice.0].auto_ack = true;
        house.tell(alice, |c| c.reply_all());
        let expected: Vec<String> = (1..=40).map(|n| n.to_string()).collect();
        assert_eq!(house.take_payloads(alice), expected);
    }
}

#[test]
fn history_comes_before_live_messages_also_at_qos_0() {
    for login in [Login::v5("alice"), Login::v5("alice").persistent()] {
        let mut house = with_history(Setup::default().with(|o| o.output_bytes = 1), 30);
        let bob = house.connect(Login::v5("bob"));
        let alice = house.connect(login);
        house.clients[alice.0].reading = false;
        let line = house.client(alice).line.expect("connected");
        house.lines[line].capacity = 1;
        house.tell(alice, |c| {
            c.subscribe(&[Filter::qos0("$replay/last/30/kept/a")], None)
        });
        house.publish(bob, Post::qos1("kept/a", "31"));
        house.clients[alice.0].reading = true;
        house.settle();
        let expected: Vec<String> = (1..=31).map(|n| n.to_string()).collect();
        assert_eq!(house.take_payloads(alice), expected);
    }
}

#[test]
fn a_session_that_is_cut_off_in_the_middle_of_history_misses_nothing_that_is_new() {
    for qos2 in [false, true] {
        let mut house = with_history(Setup::default(), 30);
        let bob = house.connect(Login::v5("bob"));
        let login = Login::v5("alice").persistent().receive_maximum(2);
        let alice = house.connect(login.clone());
        house.subscribe(alice, &[Filter::qos2("kept/other")]);
        house.clients[alice.0].auto_ack = false;
        let filter = Filter::qos2("$replay/last/30/kept/a");
        house.tell(alice, |c| c.subscribe(&[filter], None));
        let post = |topic: &str, text: &str| match qos2 {
            true => Post::qos2(topic, text),
            false => Post::qos1(topic, text),
        };
        for n in 31..=35 {
            house.publish(bob, post("kept/a", &n.to_string()));
            house.publish(bob, post("kept/other", &format!("other {n}")));
        }
        house.drop_line(alice);
        house.clients[alice.0].auto_ack = true;
        house.take_payloads(alice);
        assert!(house.reconnect(alice, login));
        let mut payloads = house.take_payloads(alice);
        payloads.retain(|p| p.starts_with("other") || p.parse::<u32>().is_ok_and(|n| n > 30));
        let expected: Vec<String> = (31..=35)
            .flat_map(|n| [n.to_string(), format!("other {n}")])
            .collect();
        assert_eq!(payloads, expected);
    }
}

#[test]
fn unsubscribing_the_plain_filter_ends_a_replay() {
    let mut house = with_history(Setup::default(), 5);
    let alice = house.connect(Login::v5("alice"));
    house.subscribe(alice, &[Filter::qos1("$replay/last/1/kept/a")]);
    assert_eq!(house.take_payloads(alice), ["5"]);
    house.tell(alice, |c| c.unsubscribe(&["kept/a"]));
    let bob = house.connect(Login::v5("bob"));
    house.publish(bob, Post::qos1("kept/a", "6"));
    assert!(house.take_payloads(alice).is_empty());
}

#[test]
fn asking_for_history_twice_gives_it_twice() {
    let mut house = with_history(Setup::default(), 5);
    let alice = house.connect(Login::v5("alice").persistent());
    for _ in 0..2 {
        house.subscribe(alice, &[Filter::qos1("$replay/last/2/kept/a")]);
        assert_eq!(house.take_payloads(alice), ["4", "5"]);
    }
}

#[test]
fn a_message_that_spilled_for_a_session_that_replays_still_arrives() {
    let mut house = with_history(Setup::default().with(|o| o.output_bytes = 0), 5);
    let bob = house.connect(Login::v5("bob"));
    let alice = house.connect(Login::v5("alice").receive_maximum(1));
    house.clients[alice.0].auto_ack = false;
    house.tell(alice, |c| {
        c.subscribe(&[Filter::qos1("$replay/last/5/#")], None)
    });
    house.publish(bob, Post::qos1("not-kept", "live"));
    house.clients[alice.0].auto_ack = true;
    house.tell(alice, |c| c.reply_all());
    let payloads = house.take_payloads(alice);
    assert!(payloads.contains(&"live".to_owned()), "{payloads:?}");
}
