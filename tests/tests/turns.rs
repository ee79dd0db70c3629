//! Clients that send, or have missed, more than what one turn of a connection takes: they wait in line with
//! others, and lose nothing. What others notice of it is measured (`abuse`).

use std::thread;

use tidings_core::codec::{Packet, Version};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{Delivery, RawClient, TidingsOptions, clean, persistent};

#[test]
fn who_sends_much_at_once_waits_in_line_and_is_answered() {
    const MUCH: u16 = 3000;
    let broker = TidingsOptions::new().set("server.shards", 2).start();
    thread::scope(|scope| {
        for number in 0..6 {
            let broker = &broker;
            scope.spawn(move || {
                for is_gone in [false, true, false] {
                    let id = format!("much-{number}");
                    let mut client = RawClient::connect(broker.tcp(), &clean(Version::V311, &id));
                    let packets =
                        (1..=MUCH).map(|id| publish_packet("t", b"x", QoS::AtLeastOnce, id));
                    client.try_send_all(packets).unwrap();
                    if is_gone {
                        // While it is in line: others have their turn all the same.
                        client.abandon();
                        continue;
                    }
                    for id in 1..=MUCH {
                        client.expect_puback(id);
                    }
                    client.disconnect();
                }
            });
        }
    });
}

/// Sending and getting, a connection has two places in line.
#[test]
fn who_gets_what_it_sends_gets_all_of_it_in_order() {
    const MUCH: u16 = 2000;
    const BYTES: usize = 2000;
    let broker = TidingsOptions::new().set("server.shards", 1).start();
    thread::scope(|scope| {
        for number in 0..4 {
            let broker = &broker;
            scope.spawn(move || {
                let (id, topic) = (format!("echo-{number}"), format!("echo/{number}"));
                let mut client = RawClient::connect(broker.tcp(), &persistent(Version::V311, &id));
                client.subscribe(&topic, QoS::AtLeastOnce);
                let payloads: Vec<_> = (1..=MUCH)
                    .map(|number| [&number.to_be_bytes()[..], &[0; BYTES]].concat())
                    .collect();
                let packets = (1..=MUCH).zip(&payloads).map(|(packet_id, payload)| {
                    publish_packet(&topic, payload, QoS::AtLeastOnce, packet_id)
                });
                // Nothing is read meanwhile: what comes back fills the socket, and waits in the journal.
                client.try_send_all(packets).unwrap();
                let (mut acknowledged, mut delivered) = (0, 0);
                while acknowledged < MUCH || delivered < MUCH {
                    let frame = client.next();
                    match frame.packet() {
                        Packet::PubAck(ack) => {
                            acknowledged += 1;
                            assert_eq!(ack.packet_id, acknowledged);
                            assert!(!ack.reason.is_failure());
                        }
                        Packet::Publish(publish) => {
                            delivered += 1;
                            assert_eq!(publish.payload[..2], delivered.to_be_bytes());
                            client.acknowledge(&Delivery::new(&publish));
                        }
                        other => panic!("{other:?}"),
                    }
                }
                client.expect_silence();
            });
        }
    });
}
