//! Retained messages (§3.3.1.3).

use tidings_core::codec::RetainHandling;
use tidings_core::message::QoS;
use tidings_tests::simulation::{Filter, House, Login, Post, Setup};

#[test]
fn a_new_subscription_gets_what_was_retained_and_the_newest_only() {
    for shards in [1, 4] {
        for login in [
            Login::v5("alice"),
            Login::v5("alice").persistent(),
            Login::v3("alice"),
        ] {
            let mut house = House::new(Setup::shards(shards));
            let bob = house.connect(Login::v5("bob"));
            house.publish(bob, Post::new("a/1", "old").retain());
            house.publish(bob, Post::qos1("a/1", "new").retain());
            house.publish(bob, Post::qos2("a/2", "two").retain());
            house.publish(bob, Post::qos1("b", "other").retain());
            let alice = house.connect(login.clone());
            house.subscribe(alice, &[Filter::qos1("a/#")]);
            let mut arrivals = house.take_arrivals(alice);
            arrivals.sort_by(|a, b| a.topic.cmp(&b.topic));
            let found: Vec<_> = arrivals
                .iter()
                .map(|d| (d.payload.as_str(), d.qos, d.retain))
                .collect();
            let expected = [
                ("new", QoS::AtLeastOnce, true),
                ("two", QoS::AtLeastOnce, true),
            ];
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn an_empty_payload_clears_what_was_retained_and_is_delivered() {
    let mut house = House::new(Setup::default());
    let bob = house.connect(Login::v5("bob"));
    let early = house.connect(Login::v5("early"));
    house.publish(bob, Post::qos1("a", "m").retain());
    house.subscribe(early, &[Filter::qos1("a")]);
    house.publish(bob, Post::qos1("a", "").retain());
    assert_eq!(house.take_payloads(early), ["m", ""]);
    let late = house.connect(Login::v5("late"));
    house.subscribe(late, &[Filter::qos1("a")]);
    assert!(house.take_payloads(late).is_empty());
}

#[test]
fn retain_handling_decides_what_a_subscribe_gets() {
    let mut house = House::new(Setup::default());
    let bob = house.connect(Login::v5("bob"));
    house.publish(bob, Post::qos1("a", "m").retain());
    let alice = house.connect(Login::v5("alice"));
    let mut count = |handling| {
        house.subscribe(alice, &[Filter::qos1("a").retain_handling(handling)]);
        house.take_payloads(alice).len()
    };
    assert_eq!(count(RetainHandling::DoNotSend), 0);
    assert_eq!(
        count(RetainHandling::SendIfNew),
        0,
        "the subscription is there already"
    );
    assert_eq!(count(RetainHandling::SendAtSubscribe), 1);
    let carol = house.connect(Login::v5("carol"));
    house.subscribe(
        carol,
        &[Filter::qos1("a").retain_handling(RetainHandling::SendIfNew)],
    );
    assert_eq!(house.take_payloads(carol), ["m"]);
}

#[test]
fn shared_subscriptions_get_nothing_that_was_retained() {
    let mut house = House::new(Setup::default());
    let bob = house.connect(Login::v5("bob"));
    house.publish(bob, Post::qos1("a", "m").retain());
    let alice = house.connect(Login::v5("alice"));
    house.subscribe(alice, &[Filter::qos1("$share/g/a")]);
    assert!(house.take_payloads(alice).is_empty());
}

#[test]
fn retained_messages_survive_a_crash() {
    let mut house = House::new(Setup::shards(4));
    let bob = house.connect(Login::v5("bob"));
    house.publish(bob, Post::qos1("a", "m").retain());
    house.crash(0);
    house.settle();
    let alice = house.connect(Login::v5("alice"));
    house.subscribe(alice, &[Filter::qos1("a")]);
    assert_eq!(house.take_payloads(alice), ["m"]);
}

#[test]
fn an_expired_retained_message_is_not_delivered() {
    let mut house = House::new(Setup::default());
    let bob = house.connect(Login::v5("bob"));
    house.publish(bob, Post::qos1("a", "m").retain().expires(5));
    house.advance(4_000);
    let early = house.connect(Login::v5("early"));
    house.subscribe(early, &[Filter::qos1("a")]);
    let arrivals = house.take_arrivals(early);
    assert_eq!(arrivals[0].expiry_s, Some(1));
    house.advance(2_000);
    let late = house.connect(Login::v5("late"));
    house.subscribe(late, &[Filter::qos1("a")]);
    assert!(house.take_payloads(late).is_empty());
}

#[test]
fn many_retained_messages_pass_a_small_window_and_a_small_output() {
    for output_bytes in [0, 1, 1000] {
        let mut house = House::new(Setup::default().with(|o| o.output_bytes = output_bytes));
        let bob = house.connect(Login::v5("bob"));
        for n in 0..50 {
            house.publish(bob, Post::qos2(&format!("a/{n}"), "m").retain());
        }
        let alice = house.connect(Login::v5("alice").persistent().receive_maximum(3));
        house.subscribe(alice, &[Filter::qos2("a/+")]);
        assert_eq!(house.take_payloads(alice).len(), 50);
    }
}
