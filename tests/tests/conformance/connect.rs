//! CONNECT and CONNACK (§3.1, §3.2), and what may be said before them.

use std::time::{Duration, Instant};

use tidings_core::codec::{Auth, Packet, ReasonCode, Version, encode};
use tidings_core::message::QoS;
use tidings_tests::raw_client::publish_packet;
use tidings_tests::{ClientError, RawClient, clean, persistent};

use crate::door::{
    BOTH, Door, V5, V311, each_door, each_door_in_turn, expect_text, filter, message, packet,
    prefixed, publish,
};

/// A CONNECT as bytes, whatever it says.
fn connect_bytes(name: &[u8], level: u8, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    let start = [&prefixed(name)[..], &[level, flags, 0, 0], properties].concat();
    packet(0x10, &[&[start.as_slice()], rest].concat())
}

/// MQTT 5 says the reason in a CONNACK, 3.1.1 closes without one.
#[track_caller]
fn expect_refused_connect(client: &mut RawClient, door: &Door, reason: ReasonCode) {
    if door.is_v5() {
        let connack = client.expect_connack();
        assert_eq!((connack.reason, connack.session_present), (reason, false));
    }
    client.expect_closed();
}

/// Connects where a refusal with a CONNACK is due, and sees the connection closed after it.
#[track_caller]
fn refusal(door: &Door, connect: &tidings_core::codec::Connect<'_>) -> ReasonCode {
    let (mut client, connack) =
        RawClient::try_connect(door.endpoint, connect, tidings_tests::DEADLINE)
            .unwrap_or_else(|error| panic!("expected CONNACK: {error}"));
    assert!(!connack.session_present);
    assert_ne!(connack.reason, ReasonCode::Success);
    client.expect_closed();
    connack.reason
}

#[test]
fn mqtt_3_1_0_1_what_comes_before_connect_is_not_answered() {
    each_door(BOTH, |door| {
        for first in [
            packet(0xC0, &[]),
            packet(0xE0, &[]),
            packet(0xF0, &[]),
            packet(0x40, &[&[0, 1]]),
            door.publish_bytes(0x30, b"t", None),
            door.subscribe_bytes(0x82, b"t", 0),
        ] {
            let mut client = door.open();
            client.send_bytes(&first);
            client.expect_closed();
        }
    });
}

#[test]
fn mqtt_3_1_0_2_a_second_connect_ends_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.clean("twice");
        client.send(&Packet::Connect(clean(door.version, "another")));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_3_1_2_1_a_wrong_protocol_name_closes_the_connection() {
    each_door(BOTH, |door| {
        for name in [&b"MQTX"[..], b"mqtt", b""] {
            let mut client = door.open();
            let level = door.version.level();
            client.send_bytes(&connect_bytes(name, level, 2, &[&prefixed(b"id")]));
            client.expect_closed();
        }
    });
}

#[test]
fn mqtt_3_1_2_2_an_unknown_protocol_level_is_answered_with_its_code() {
    each_door(BOTH, |door| {
        let level = if door.is_v5() { 6 } else { 2 };
        let mut client = door.open();
        client.send_bytes(&connect_bytes(b"MQTT", level, 2, &[&prefixed(b"id")]));
        let connack = client.expect_connack();
        assert_eq!(connack.reason, ReasonCode::UnsupportedProtocolVersion);
        client.expect_closed();
    });
}

#[test]
fn mqtt_3_1_2_3_the_reserved_connect_flag_closes_the_connection() {
    each_door(BOTH, |door| {
        let mut client = door.open();
        let level = door.version.level();
        client.send_bytes(&connect_bytes(b"MQTT", level, 3, &[&prefixed(b"id")]));
        expect_refused_connect(&mut client, door, ReasonCode::MalformedPacket);
    });
}

#[test]
fn mqtt_3_1_2_22_silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    each_door(BOTH, |door| {
        let (silent, patient, will) = (
            door.name("silent"),
            door.name("patient"),
            door.topic("will"),
        );
        let mut witness = door.clean("witness");
        witness.subscribe(&will, QoS::AtMostOnce);
        let mut patient = door.with(&patient, |connect| connect.keep_alive_s = 0);
        let begin = Instant::now();
        let mut client = door.with(&silent, |connect| {
            connect.keep_alive_s = 1;
            connect.will = Some(crate::will::will(&will, b"gone"));
        });
        assert_eq!(client.connack().properties.server_keep_alive_s, None);
        client.expect_refusal(ReasonCode::KeepAliveTimeout);
        assert!(
            begin.elapsed() >= Duration::from_millis(1500),
            "{:?}",
            begin.elapsed()
        );
        // As if the network had failed: the Will Message is published.
        expect_text(&mut witness, "gone");
        // A Keep Alive of 0 has no end.
        patient.expect_silence();
    });
}

#[test]
fn mqtt_3_1_2_22_any_packet_keeps_the_connection_alive() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("busy"), door.topic("t"));
        let mut client = door.with(&id, |connect| connect.keep_alive_s = 1);
        for round in 0..4 {
            let quiet = client.try_next_until(Instant::now() + Duration::from_millis(700));
            assert!(matches!(quiet, Err(ClientError::Deadline(_))), "{quiet:?}");
            if round % 2 == 0 {
                client.expect_silence();
            } else {
                client.publish(&topic, "still here", QoS::AtMostOnce);
            }
        }
        client.expect_silence();
    });
}

#[test]
fn mqtt_3_1_3_2_a_session_belongs_to_its_client_id() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut one = door.persistent("one");
        one.subscribe(&topic, QoS::AtLeastOnce);
        one.disconnect();
        let other = door.persistent("other");
        assert!(!other.session_present());
        other.disconnect();
        assert!(door.persistent("one").session_present());
    });
}

#[test]
fn mqtt_3_1_3_5_client_ids_of_1_to_23_letters_and_digits_are_accepted() {
    each_door_in_turn(BOTH, |door| {
        for id in [
            "0",
            "Zz9",
            "abcdefghijklmnopqrstuvw",
            "ABCDEFGHIJKLMNOPQRSTUVW",
        ] {
            drop(RawClient::connect(door.endpoint, &clean(door.version, id)));
        }
        // Longer ones too, and other characters, as far as a limit allows.
        for id in ["x".repeat(256), format!("a/b+c#ü {}", door.name(""))] {
            let mut connect = clean(door.version, &id);
            connect.username = None;
            drop(RawClient::connect(door.endpoint, &connect));
        }
    });
}

#[test]
fn mqtt_3_1_3_6_clients_without_an_id_get_one_each() {
    each_door(BOTH, |door| {
        let mut connect = clean(door.version, "");
        connect.username = None;
        let topic = door.topic("t");
        let mut clients = [(); 2].map(|()| RawClient::connect(door.endpoint, &connect));
        for client in &mut clients {
            assert!(!client.session_present());
            client.subscribe(&topic, QoS::AtMostOnce);
        }
        // Neither took over the other.
        let [one, other] = &mut clients;
        one.publish(&topic, "hello", QoS::AtMostOnce);
        expect_text(one, "hello");
        expect_text(other, "hello");
    });
}

#[test]
fn mqtt_3_2_2_16_an_invented_client_id_is_told_and_can_be_used_to_come_back() {
    each_door(V5, |door| {
        let mut connect = persistent(door.version, "");
        connect.username = None;
        let ids = [(); 2].map(|()| {
            let client = RawClient::connect(door.endpoint, &connect);
            let id = client.connack().properties.assigned_client_id.clone();
            client.disconnect();
            id.expect("an Assigned Client Identifier")
        });
        assert_ne!(ids[0], ids[1]);
        let mut connect = persistent(door.version, &ids[0]);
        connect.username = None;
        let client = RawClient::connect(door.endpoint, &connect);
        assert!(client.session_present());
        assert_eq!(client.connack().properties.assigned_client_id, None);
    });
}

#[test]
fn mqtt_3_1_3_8_an_unacceptable_client_id_is_refused_with_its_code() {
    each_door(BOTH, |door| {
        for id in ["x".repeat(257), "$link/other".to_owned()] {
            let mut connect = clean(door.version, &id);
            connect.username = None;
            assert_eq!(
                refusal(door, &connect),
                ReasonCode::ClientIdentifierNotValid
            );
        }
    });
}

#[test]
fn mqtt_311_3_1_3_8_a_session_that_stays_needs_a_client_id() {
    each_door(&[Version::V31, Version::V311], |door| {
        let mut connect = persistent(door.version, "");
        connect.username = None;
        assert_eq!(
            refusal(door, &connect),
            ReasonCode::ClientIdentifierNotValid
        );
    });
}

#[test]
fn mqtt_3_1_4_1_a_connect_that_is_not_well_formed_closes_the_connection() {
    each_door(BOTH, |door| {
        let level = door.version.level();
        let id = prefixed(b"id");
        for (flags, rest) in [
            // Something behind the end, and fields missing that the flags announce.
            (0x02, vec![&id[..], b"rest"]),
            (0x82, vec![&id[..]]),
            (0x06, vec![&id[..]]),
            // A client identifier that is no UTF-8, or has a null character.
            (0x02, vec![&[0, 1, 0xFF][..]]),
            (0x02, vec![&[0, 1, 0][..]]),
        ] {
            let mut client = door.open();
            client.send_bytes(&connect_bytes(b"MQTT", level, flags, &rest));
            expect_refused_connect(&mut client, door, ReasonCode::MalformedPacket);
        }
    });
}

#[test]
fn mqtt_3_1_4_2_a_connect_above_the_limit_is_refused_by_its_header() {
    each_door(BOTH, |door| {
        let mut client = door.open();
        let level = door.version.level();
        // 2,097,151 bytes are announced; few of them are ever sent.
        let start = [
            &[0x10, 0xFF, 0xFF, 0x7F],
            &prefixed(b"MQTT")[..],
            &[level, 2, 0, 0],
        ];
        client.send_bytes(&start.concat());
        expect_refused_connect(&mut client, door, ReasonCode::PacketTooLarge);
    });
}

#[test]
fn mqtt_3_1_4_2_a_user_name_that_is_not_accepted_is_refused_with_its_code() {
    each_door(BOTH, |door| {
        let id = door.name("client");
        for name in ["", "a/b", "+", "$SYS"] {
            let mut connect = clean(door.version, &id);
            connect.username = Some(name);
            assert_eq!(refusal(door, &connect), ReasonCode::BadUserNameOrPassword);
        }
    });
}

#[test]
fn mqtt_3_1_4_3_takeover_disconnects_the_old_connection() {
    each_door(BOTH, |door| {
        let id = door.name("client");
        let mut old = RawClient::connect(door.endpoint, &clean(door.version, &id));
        let mut new = RawClient::connect(door.other_endpoint(), &clean(door.version, &id));
        old.expect_refusal(ReasonCode::SessionTakenOver);
        new.expect_silence();
    });
}

#[test]
fn mqtt_3_1_4_3_a_session_goes_on_in_the_connection_that_took_it_over() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("client"), door.topic("t"));
        let mut publisher = door.clean("publisher");
        let mut old = door.persistent("client");
        old.subscribe(&topic, QoS::AtLeastOnce);
        publisher.publish(&topic, "not acknowledged", QoS::AtLeastOnce);
        assert_eq!(old.expect_publish().text(), "not acknowledged");
        let mut new = RawClient::connect(door.other_endpoint(), &persistent(door.version, &id));
        old.expect_refusal(ReasonCode::SessionTakenOver);
        assert!(new.session_present());
        assert!(expect_text(&mut new, "not acknowledged").dup);
        publisher.publish(&topic, "next", QoS::AtLeastOnce);
        expect_text(&mut new, "next");
    });
}

#[test]
fn mqtt_3_1_4_6_nothing_behind_a_refused_connect_is_processed() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("refused"), door.topic("t"));
        let mut watcher = door.clean("watcher");
        watcher.subscribe(&topic, QoS::AtMostOnce);
        let mut connect = clean(door.version, &id);
        connect.username = Some("not/allowed");
        let mut bytes = Vec::new();
        encode(door.version, &Packet::Connect(connect), &mut bytes);
        let behind = publish_packet(&topic, b"behind", QoS::AtMostOnce, 0);
        encode(door.version, &behind, &mut bytes);
        let mut client = door.open();
        client.send_bytes(&bytes);
        assert_eq!(
            client.expect_connack().reason,
            ReasonCode::BadUserNameOrPassword
        );
        client.expect_closed();
        let mut other = door.clean("other");
        crate::door::expect_nothing_but_a_new_message(&mut watcher, &mut other, &topic);
    });
}

#[test]
fn mqtt_3_2_0_1_connack_comes_before_what_the_session_kept() {
    each_door(BOTH, |door| {
        let topic = door.topic("t");
        let mut client = door.persistent("client");
        client.subscribe(&topic, QoS::AtLeastOnce);
        client.disconnect();
        door.clean("publisher")
            .publish(&topic, "kept", QoS::AtLeastOnce);
        // `connect` expects CONNACK as the first packet.
        let mut client = door.persistent("client");
        assert!(client.session_present());
        expect_text(&mut client, "kept");
    });
}

#[test]
fn mqtt_3_2_0_2_packets_right_behind_connect_are_answered_after_one_connack() {
    each_door(BOTH, |door| {
        let (id, topic) = (door.name("hasty"), door.topic("t"));
        let mut bytes = Vec::new();
        let subscribe = tidings_core::codec::Subscribe {
            packet_id: 7,
            subscription_id: None,
            user: Vec::new(),
            filters: vec![filter(&topic, QoS::AtMostOnce)],
        };
        for packet in [
            Packet::Connect(clean(door.version, &id)),
            Packet::Subscribe(subscribe),
            publish_packet(&topic, b"own", QoS::AtMostOnce, 0),
            Packet::PingReq,
        ] {
            encode(door.version, &packet, &mut bytes);
        }
        let mut client = door.open();
        client.send_bytes(&bytes);
        assert_eq!(client.expect_connack().reason, ReasonCode::Success);
        // A message that matches may come before SUBACK (§3.8.4).
        let rest = [client.next(), client.next(), client.next()];
        let texts = rest
            .iter()
            .filter_map(|frame| Some(frame.delivery()?.text()));
        assert_eq!(texts.collect::<Vec<_>>(), ["own"]);
        let has =
            |wanted: fn(&Packet<'_>) -> bool| rest.iter().any(|frame| wanted(&frame.packet()));
        assert!(has(
            |packet| matches!(packet, Packet::SubAck(ack) if ack.packet_id == 7)
        ));
        assert!(has(|packet| matches!(packet, Packet::PingResp)));
        client.expect_silence();
    });
}

#[test]
fn mqtt_3_2_2_3_session_present_says_whether_there_is_a_session() {
    each_door(BOTH, |door| {
        let client = door.persistent("client");
        assert!(!client.session_present());
        client.disconnect();
        let client = door.persistent("client");
        assert!(client.session_present());
        client.disconnect();
        // [MQTT-3.2.2-2]: a clean start never has one.
        let client = door.clean("client");
        assert!(!client.session_present());
        client.disconnect();
        assert!(!door.persistent("client").session_present());
    });
}

#[test]
fn mqtt_3_2_2_6_a_refusal_says_no_session_present_and_closes() {
    each_door(BOTH, |door| {
        let id = door.name("client");
        door.persistent("client").disconnect();
        let mut connect = persistent(door.version, &id);
        connect.username = Some("a/b");
        assert_eq!(refusal(door, &connect), ReasonCode::BadUserNameOrPassword);
        // The session was not touched.
        assert!(door.persistent("client").session_present());
    });
}

#[test]
fn mqtt_3_2_2_19_a_refusal_fits_the_clients_maximum_packet_size() {
    each_door(V5, |door| {
        let id = door.name("small");
        let mut connect = clean(door.version, &id);
        connect.username = Some("a/b");
        connect.properties.maximum_packet_size = Some(10);
        let mut client = door.open();
        client.send(&Packet::Connect(connect));
        let frame = client.next();
        assert!(frame.bytes().len() <= 10, "{frame:?}");
        client.expect_closed();
    });
}

#[test]
fn mqtt_3_1_2_24_a_client_that_takes_no_whole_connack_is_refused() {
    each_door(V5, |door| {
        let id = door.name("tiny");
        let mut connect = clean(door.version, &id);
        connect.properties.maximum_packet_size = Some(10);
        assert_eq!(refusal(door, &connect), ReasonCode::PacketTooLarge);
    });
}

#[test]
fn mqtt_3_1_2_28_response_information_is_never_returned() {
    each_door(V5, |door| {
        let id = door.name("client");
        for request in [None, Some(false), Some(true)] {
            let client = door.with(&id, |connect| {
                connect.properties.request_response_information = request;
            });
            assert_eq!(client.connack().properties.response_information, None);
            client.disconnect();
        }
    });
}

#[test]
fn mqtt_4_12_0_1_an_unknown_authentication_method_is_refused_with_its_code() {
    each_door(V5, |door| {
        let id = door.name("client");
        let mut connect = clean(door.version, &id);
        connect.properties.authentication_method = Some("SCRAM-SHA-1");
        connect.properties.authentication_data = Some(b"first");
        assert_eq!(refusal(door, &connect), ReasonCode::BadAuthenticationMethod);
    });
}

#[test]
fn mqtt_4_12_0_7_auth_without_a_method_in_connect_is_a_protocol_error() {
    each_door(V5, |door| {
        let mut client = door.clean("client");
        assert_eq!(client.connack().properties.authentication_method, None);
        client.send(&Packet::Auth(Auth {
            reason: ReasonCode::ReAuthenticate,
            method: Some("SCRAM-SHA-1".to_owned()),
            data: None,
            reason_string: None,
            user: Vec::new(),
        }));
        client.expect_refusal(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_311_2_2_2_2_auth_does_not_exist_before_5() {
    each_door(V311, |door| {
        let mut client = door.clean("client");
        client.send_bytes(&packet(0xF0, &[]));
        client.expect_closed();
    });
}

#[test]
fn a_client_of_mqtt_3_1_is_served() {
    each_door(&[Version::V31], |door| {
        let topic = door.topic("t");
        let mut receiver = door.persistent("receiver");
        assert_eq!(
            receiver.subscribe(&topic, QoS::ExactlyOnce),
            ReasonCode::GrantedQoS2
        );
        let mut sender = door.clean("sender");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut message = message(&topic, b"hello");
            message.qos = qos;
            publish(&mut sender, message);
            assert_eq!(expect_text(&mut receiver, "hello").qos, qos);
        }
        receiver.settle();
        receiver.disconnect();
        sender.publish(&topic, "kept", QoS::AtLeastOnce);
        expect_text(&mut door.persistent("receiver"), "kept");
    });
}
