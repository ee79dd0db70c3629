//! Packets to and from bytes. An operation is one packet.

use std::hint::black_box;

use bytes::Bytes;
use tidings_core::codec::{
    Ack, Connect, ConnectProperties, Outgoing, Packet, Publish, PublishProperties, ReasonCode,
    Version, decode, encode, encode_publish,
};
use tidings_core::message::{MessageProperties, QoS};

use crate::case::Case;

/// Packets of a round: as one read of a busy socket gives.
const PACKETS: usize = 512;

const TOPIC: &str = "bench/run/room/17/alice";

pub fn cases() -> Vec<Case> {
    let (v3, v5) = (Version::V311, Version::V5);
    let plain = PublishProperties::default();
    let rich = PublishProperties {
        payload_is_utf8: Some(true),
        message_expiry_s: Some(60),
        content_type: Some("text/plain"),
        user: vec![("seq", "1234"), ("from", "alice")],
        ..plain.clone()
    };
    let publish = |version, qos, properties: &PublishProperties<'_>, payload: &[u8]| {
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: TOPIC,
            packet_id: (qos > QoS::AtMostOnce).then_some(7),
            properties: properties.clone(),
            payload,
        };
        bytes_of(version, &Packet::Publish(publish))
    };
    let (short, long) = ([b'x'; 64], [b'x'; 4096]);
    let (qos0, qos1) = (QoS::AtMostOnce, QoS::AtLeastOnce);
    let connect = Connect {
        version: v5,
        client_id: "web-alice-3f2a",
        clean_start: false,
        keep_alive_s: 60,
        username: Some("alice"),
        password: Some(b"correct horse"),
        will: None,
        properties: ConnectProperties {
            session_expiry_s: Some(3600),
            receive_maximum: Some(100),
            ..ConnectProperties::default()
        },
    };
    let ack = Packet::PubAck(Ack::new(7, ReasonCode::Success));
    vec![
        decoding("PUBLISH 3.1.1 QoS 0", v3, publish(v3, qos0, &plain, &short)),
        decoding("PUBLISH 3.1.1 QoS 1", v3, publish(v3, qos1, &plain, &short)),
        decoding(
            "PUBLISH 3.1.1 QoS 1, 4 KiB",
            v3,
            publish(v3, qos1, &plain, &long),
        ),
        decoding("PUBLISH 5.0 QoS 1", v5, publish(v5, qos1, &plain, &short)),
        decoding(
            "PUBLISH 5.0 QoS 1, properties",
            v5,
            publish(v5, qos1, &rich, &short),
        ),
        decoding("PUBACK 3.1.1", v3, bytes_of(v3, &ack)),
        decoding_connect(bytes_of(v5, &Packet::Connect(connect))),
        encoding("PUBLISH 3.1.1 QoS 0", v3, qos0, None),
        encoding("PUBLISH 3.1.1 QoS 1", v3, qos1, None),
        encoding("PUBLISH 5.0 QoS 1", v5, qos1, None),
        encoding(
            "PUBLISH 5.0 QoS 1, properties",
            v5,
            qos1,
            Some(properties()),
        ),
        encoding_ack(),
    ]
}

fn properties() -> MessageProperties {
    MessageProperties {
        payload_is_utf8: Some(true),
        message_expiry_s: Some(60),
        content_type: Some("text/plain".into()),
        user: vec![
            ("seq".into(), "1234".into()),
            ("from".into(), "alice".into()),
        ],
        ..MessageProperties::default()
    }
}

fn bytes_of(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(version, packet, &mut bytes);
    bytes
}

fn decoding(name: &str, version: Version, packet: Vec<u8>) -> Case {
    Case::new(
        "codec",
        format!("decode {name}"),
        PACKETS as u64,
        move || {
            let stream = packet.repeat(PACKETS);
            Box::new(move |meter| {
                let decoded = meter.count(|_| {
                    let (mut rest, mut decoded) = (stream.as_slice(), 0);
                    while let Ok(Some((packet, used))) = decode(Some(version), rest, 1 << 20) {
                        black_box(packet);
                        rest = rest.get(used..).unwrap_or_default();
                        decoded += 1;
                    }
                    decoded
                });
                assert_eq!(decoded, PACKETS);
            })
        },
    )
}

fn decoding_connect(packet: Vec<u8>) -> Case {
    Case::new("codec", "decode CONNECT 5.0", PACKETS as u64, move || {
        let packet = packet.clone();
        Box::new(move |meter| {
            meter.count(|_| {
                for _ in 0..PACKETS {
                    let decoded = decode(None, black_box(&packet), 1 << 20);
                    assert!(black_box(decoded).is_ok_and(|found| found.is_some()));
                }
            });
        })
    })
}

fn encoding(name: &str, version: Version, qos: QoS, properties: Option<MessageProperties>) -> Case {
    let name = format!("encode {name}");
    Case::new("codec", name, PACKETS as u64, move || {
        let properties = properties.clone();
        let payload = Bytes::from_static(&[b'x'; 64]);
        let mut out = Vec::new();
        Box::new(move |meter| {
            out.clear();
            meter.count(|_| {
                for packet_id in 1..=PACKETS as u16 {
                    let outgoing = Outgoing {
                        topic: TOPIC,
                        payload: &payload,
                        qos,
                        dup: false,
                        retain: false,
                        packet_id,
                        properties: properties.as_ref(),
                        message_expiry_s: None,
                        topic_alias: None,
                        subscription_ids: &[],
                        extra_user: &[],
                    };
                    encode_publish(version, black_box(&outgoing), &mut out);
                }
            });
            assert!(black_box(&out).len() > PACKETS * payload.len());
        })
    })
}

fn encoding_ack() -> Case {
    Case::new("codec", "encode PUBACK 3.1.1", PACKETS as u64, || {
        let mut out = Vec::new();
        Box::new(move |meter| {
            out.clear();
            meter.count(|_| {
                for packet_id in 1..=PACKETS as u16 {
                    let ack = Packet::PubAck(Ack::new(packet_id, ReasonCode::Success));
                    encode(Version::V311, black_box(&ack), &mut out);
                }
            });
            assert_eq!(black_box(&out).len(), 4 * PACKETS);
        })
    })
}
