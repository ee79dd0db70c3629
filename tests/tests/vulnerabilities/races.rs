//! Several connections with one Client Identifier at the same time: one of them has the session, nothing
//! of it is lost, nothing comes twice at QoS 2, and nothing is left behind.

use std::collections::BTreeSet;
use std::thread;

use tidings_core::codec::{Packet, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::measure::memory;
use tidings_tests::{DEADLINE, RawClient, TidingsProcess, clean, persistent};

const ROUNDS: usize = 40;

#[test]
fn many_takeovers_at_once_leave_one_session_that_lost_nothing() {
    let broker = TidingsProcess::start();
    let me = persistent(Version::V5, "contested");
    RawClient::connect(broker.tcp(), &me).subscribe("race/#", QoS::ExactlyOnce);
    thread::scope(|scope| {
        for number in 0..4 {
            let (broker, me) = (&broker, &me);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let Ok((mut client, connack)) =
                        RawClient::try_connect(broker.tcp(), me, DEADLINE)
                    else {
                        // Taken over before its CONNACK.
                        continue;
                    };
                    // Taken over while its session was being opened.
                    if connack.reason != ReasonCode::Success {
                        continue;
                    }
                    assert!(connack.session_present, "the session was always there");
                    // Ends in different ways, or is left to the next.
                    match (number + round) % 3 {
                        0 => client.abandon(),
                        1 => drop(client.try_send(&Packet::PingReq)),
                        _ => {
                            let text = [0xE0, 0];
                            drop(client.link().send(&text));
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut speaker = RawClient::connect(broker.tcp(), &clean(Version::V5, "speaker"));
            for number in 0..200 {
                let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][number % 2];
                speaker.publish(&format!("race/{number}"), number.to_string(), qos);
            }
        });
    });
    let mut client = RawClient::connect(broker.tcp(), &me);
    assert!(client.session_present());
    client.subscribe("mark", QoS::AtLeastOnce);
    let mut speaker = RawClient::connect(broker.tcp(), &clean(Version::V5, "speaker"));
    speaker.publish("mark", "", QoS::AtLeastOnce);
    // What went to connections that are gone was not acknowledged: it comes again.
    let mut found = BTreeSet::new();
    loop {
        let delivery = client.receive();
        if delivery.topic == "mark" {
            break;
        }
        assert!(found.insert(delivery.text()), "{delivery:?} came twice");
    }
    assert_eq!(found.len(), 200);
}

#[test]
fn a_storm_of_connects_with_one_identifier_leaves_nothing_behind() {
    let broker = TidingsProcess::start();
    let storm = |rounds: usize| {
        for round in 0..rounds {
            let connect = match round % 3 {
                0 => persistent(Version::V5, "storm"),
                1 => clean(Version::V311, "storm"),
                _ => clean(Version::V5, "storm"),
            };
            let mut client = RawClient::connect(broker.tcp(), &connect);
            client.subscribe("storm/+", QoS::ExactlyOnce);
            client.abandon();
        }
    };
    storm(100);
    let before = memory(broker.id()).expect("it runs").resident;
    storm(400);
    let after = memory(broker.id()).expect("it runs").resident;
    assert!(
        after < before + (6 << 20),
        "{before} bytes before, {after} after"
    );
    let mut last = RawClient::connect(broker.tcp(), &clean(Version::V5, "storm"));
    assert!(!last.session_present());
    last.publish("storm/x", "x", QoS::ExactlyOnce);
    last.settle();
}
