//! Clients that are held to a rate: of a client, of a user, of a room. Times are only asserted from
//! below: what is given back by time cannot have come earlier.

use std::time::{Duration, Instant};

use tidings_core::codec::{
    Connect, Packet, ReasonCode, SubAck, Subscribe, UnsubAck, Unsubscribe, Version,
};
use tidings_core::message::QoS;
use tidings_tests::floods::clients::filter;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{RawClient, TidingsOptions, clean, persistent};

#[test]
fn a_client_over_its_rate_is_read_slower_and_loses_nothing() {
    let broker = TidingsOptions::new()
        .set("limits.publishes_per_second_per_client", 100)
        .set("limits.publish_burst_s", 1)
        .start();
    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V311, "sensor"));
    client.subscribe("t", QoS::AtMostOnce);
    let began = Instant::now();
    for n in 0..300_u16 {
        client.send(&publish_packet("t", &n.to_be_bytes(), QoS::AtMostOnce, 0));
    }
    for n in 0..300_u16 {
        assert_eq!(client.receive().payload, n.to_be_bytes());
    }
    assert!(
        began.elapsed() >= Duration::from_millis(1900),
        "100 at once, 200 at 100 a second"
    );
    broker.expect_hits("publish_rate", 1);
    client.expect_silence();
}

#[test]
fn a_user_far_over_the_rate_on_many_connections_is_told_so() {
    let broker = TidingsOptions::new()
        .set("limits.publishes_per_second_per_user", 1)
        .set("limits.publish_burst_s", 1)
        .start();
    let mut clients: Vec<RawClient> = (0..12)
        .map(|n| {
            let connect = Connect {
                username: Some("busy"),
                ..clean(Version::V5, "")
            };
            let id = format!("busy-{n}");
            RawClient::connect(
                broker.tcp(),
                &Connect {
                    client_id: &id,
                    ..connect
                },
            )
        })
        .collect();
    let mut refused = 0;
    for client in &mut clients {
        client.send(&publish_packet("t", b"", QoS::AtLeastOnce, 1));
        client.send(&publish_packet("t", b"", QoS::AtLeastOnce, 2));
    }
    for client in &mut clients {
        for packet_id in [1, 2] {
            let ack = client.expect_puback(packet_id);
            refused += usize::from(ack.reason == ReasonCode::QuotaExceeded);
        }
    }
    assert!(refused > 0, "some had to wait too long");
    broker.expect_hits("publish_rate_per_user", 1);
    let mut other = RawClient::connect(broker.tcp(), &clean(Version::V5, "calm"));
    other.publish("t", "x", QoS::AtLeastOnce);
}

#[test]
fn a_room_over_its_rate_refuses_and_other_rooms_do_not() {
    let broker = TidingsOptions::new()
        .set("limits.publishes_per_second_per_room", 1)
        .set("limits.publish_burst_s", 2)
        .start();
    let mut alice = RawClient::connect(broker.tcp(), &clean(Version::V5, "alice"));
    let mut say = |room: &str, packet_id| {
        let topic = format!("chat/{room}/alice");
        alice.send(&publish_packet(&topic, b"x", QoS::AtLeastOnce, packet_id));
        alice.expect_puback(packet_id)
    };
    let began = Instant::now();
    let mut said = 0_u64;
    let refused = loop {
        let ack = say("lobby", 1);
        if ack.reason.is_failure() {
            break ack;
        }
        said += 1;
        assert!(
            said <= 3 + began.elapsed().as_secs() + 1,
            "more than the rate allows"
        );
    };
    assert_eq!(refused.reason, ReasonCode::QuotaExceeded);
    assert!(
        refused
            .reason_string
            .is_some_and(|text| text.contains("try again in"))
    );
    assert_eq!(say("cellar", 2).reason, ReasonCode::Success);
    broker.expect_hits("publish_rate_per_room", 1);
}

#[test]
fn a_client_over_its_rate_of_filters_is_read_slower_and_has_them_all() {
    let broker = TidingsOptions::new()
        .set("limits.filters_per_second_per_client", 20)
        .set("mqtt.max_subscriptions_per_session", 30)
        .start();
    for connect in [
        clean(Version::V5, "comes-and-goes"),
        persistent(Version::V5, "stays"),
    ] {
        let mut client = RawClient::connect(broker.tcp(), &connect);
        let names: Vec<String> = (0..15).map(|n| format!("watched/{n}")).collect();
        let began = Instant::now();
        // 30 at once, 20 a second: what comes fourth waits for what came third.
        for packet_id in [1, 3] {
            let filters = names.iter().cloned().map(filter).collect();
            client.send(&Packet::Subscribe(Subscribe {
                packet_id,
                subscription_id: None,
                user: Vec::new(),
                filters,
            }));
            client.send(&Packet::Unsubscribe(Unsubscribe {
                packet_id: packet_id + 1,
                user: Vec::new(),
                filters: names.clone(),
            }));
        }
        client.send(&publish_packet("t", b"x", QoS::AtLeastOnce, 5));
        // SUBACK waits until all shards know of it, UNSUBACK does not.
        let mut answered: Vec<u16> = (0..4)
            .map(|_| match client.next().packet() {
                Packet::SubAck(SubAck {
                    packet_id, reasons, ..
                })
                | Packet::UnsubAck(UnsubAck {
                    packet_id, reasons, ..
                }) => {
                    assert!(!reasons.iter().any(|reason| reason.is_failure()));
                    packet_id
                }
                other => panic!("{other:?}"),
            })
            .collect();
        answered.sort_unstable();
        assert_eq!(answered, [1, 2, 3, 4]);
        client.expect_puback(5);
        assert!(
            began.elapsed() >= Duration::from_millis(1400),
            "60 filters, of which 30 at 20 a second"
        );
    }
    broker.expect_hits("filter_rate", 2);
}
