//! Tests of the binary form of records: what is written is read again, and nothing else is.

use bytes::Bytes;

use super::*;

fn properties() -> MessageProperties {
    MessageProperties {
        payload_is_utf8: Some(true),
        message_expiry_s: Some(77),
        response_topic: Some("answer/here".into()),
        correlation_data: Some(Bytes::from_static(&[0, 255])),
        user: vec![("a".into(), "b".into()), ("a".into(), "".into())],
        content_type: Some("text/plain".into()),
    }
}

fn message() -> Message {
    Message {
        topic: "chat/lobby/alice".into(),
        payload: Bytes::from_static(b"hello"),
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: Some(Box::new(properties())),
        publisher: Publisher {
            user: "alice".into(),
            client_id: "phone".into(),
        },
        time: 1_795_225_600_123,
    }
}

fn plain() -> Published {
    Published {
        stream: "t".into(),
        seq: Seq(0),
        message: Message {
            topic: "t".into(),
            payload: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: None,
            publisher: Publisher {
                user: "".into(),
                client_id: "".into(),
            },
            time: 0,
        },
        history: false,
        audience: Audience::Everyone,
        inbound_packet_id: None,
        read_us: 0,
    }
}

fn full() -> Published {
    Published {
        stream: "chat/lobby".into(),
        seq: Seq(u64::MAX),
        message: message(),
        history: true,
        audience: Audience::Only(vec!["x".into(), "y".into()]),
        inbound_packet_id: Some(65_535),
        read_us: 0,
    }
}

fn growing() -> Published {
    Published {
        audience: Audience::Growing,
        ..plain()
    }
}

fn subscription() -> SubscriptionRecord {
    SubscriptionRecord {
        filter: "$share/g/a/#".into(),
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        subscription_id: Some(268_435_455),
        since: Offset(9),
        cursor: false,
    }
}

fn unfinished() -> Vec<Unfinished> {
    [Phase::AwaitPubAck, Phase::AwaitPubRec, Phase::AwaitPubComp]
        .into_iter()
        .zip([QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce])
        .map(|(phase, qos)| Unfinished {
            packet_id: 7,
            offset: Offset(1 << 40),
            phase,
            qos,
        })
        .collect()
}

fn will() -> WillRecord {
    WillRecord {
        message: message(),
        delay_s: 30,
    }
}

fn records() -> Vec<Record> {
    let changes = [
        SessionChange::Opened {
            user: "u".into(),
            expiry_s: 1,
            clean: true,
            will: None,
        },
        SessionChange::Opened {
            user: "".into(),
            expiry_s: u32::MAX,
            clean: false,
            will: Some(Box::new(will())),
        },
        SessionChange::Subscribed(subscription()),
        SessionChange::Unsubscribed {
            filter: "a/+".into(),
        },
        SessionChange::Progress {
            cursor: Offset(5),
            unfinished: unfinished(),
        },
        SessionChange::Released { packet_id: 1 },
        SessionChange::Closed {
            at: 12,
            expiry_s: 13,
            keep_will: true,
        },
        SessionChange::WillPublished,
        SessionChange::Ended {
            filters: vec![("a".into(), QoS::AtMostOnce)],
        },
    ];
    let change = GroupChange::Progress {
        cursor: Offset(3),
        unfinished: vec![Offset(1), Offset(2)],
    };
    changes
        .into_iter()
        .map(|change| Record::Session {
            client_id: "c".into(),
            change,
        })
        .chain([Record::Group {
            filter: "$share/g/f".into(),
            change,
        }])
        .chain(account_changes().map(|change| Record::Account {
            user: "alice".into(),
            change,
        }))
        .chain([plain(), full(), growing()].map(|published| Record::Published(Arc::new(published))))
        .collect()
}

fn account() -> AccountRecord {
    AccountRecord {
        owner: Some("bob".into()),
        secret: Secret::TokenHash([7; 32]),
        enabled: true,
        roles: vec!["admin".into(), "press".into()],
        created: 1_795_225_600_123,
        valid_from: 5,
        deleted: true,
    }
}

fn account_changes() -> impl Iterator<Item = AccountChange> {
    [
        AccountChange::Created(Box::new(account())),
        AccountChange::SecretSet(Secret::None),
        AccountChange::SecretSet(Secret::PasswordHash(
            "$argon2id$v=19$m=8,t=1,p=1$AA$AA".into(),
        )),
        AccountChange::Enabled,
        AccountChange::Disabled,
        AccountChange::RolesSet(vec!["x".into()]),
        AccountChange::TokensRevoked { before: 77 },
        AccountChange::Deleted,
    ]
    .into_iter()
}

fn session() -> SessionRecord {
    SessionRecord {
        user: "alice".into(),
        expiry_s: 3600,
        closed_at: Some(5),
        cursor: Offset(10),
        unfinished: unfinished(),
        inbound_qos2: vec![1, 2, 65_535],
        subscriptions: vec![subscription()],
        will: Some(will()),
    }
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    encode_record(record, &mut out);
    out
}

#[test]
fn every_record_comes_back_as_it_was() {
    for record in records() {
        assert_eq!(decode_record(&encoded(&record)), Ok(record));
    }
}

/// Written before there were accounts.
#[test]
fn earlier_forms_are_read_as_ever() {
    let bytes = *b"\x02\x01c\x08\x01\x01a\x00";
    let ended = Record::Session {
        client_id: "c".into(),
        change: SessionChange::Ended {
            filters: vec![("a".into(), QoS::AtMostOnce)],
        },
    };
    assert_eq!(encoded(&ended), bytes);
    assert_eq!(decode_record(&bytes), Ok(ended));
    assert_eq!(RECORD_VERSION, 1, "snapshots of version 1 are still read");
}

#[test]
fn state_records_come_back_as_they_were() {
    let mut out = Vec::new();
    encode_session(&session(), &mut out);
    assert_eq!(decode_session(&out), Ok(session()));

    let group = GroupRecord {
        cursor: Offset(9),
        unfinished: vec![Offset(4)],
        members: 3,
    };
    out.clear();
    encode_group(&group, &mut out);
    assert_eq!(decode_group(&out), Ok(group));

    out.clear();
    encode_account(&account(), &mut out);
    assert_eq!(decode_account(&out), Ok(account()));

    for published in [plain(), full(), growing()] {
        out.clear();
        encode_published(&published, &mut out);
        assert_eq!(decode_published(&out), Ok(published));
    }
}

#[test]
fn the_head_of_a_message_is_read_without_the_rest() {
    let bytes = encoded(&Record::Published(Arc::new(full())));
    let head = PublishedHead {
        stream: "chat/lobby",
        topic: "chat/lobby/alice",
        seq: Seq(u64::MAX),
        time: 1_795_225_600_123,
        history: true,
        everyone: false,
    };
    assert_eq!(decode_head(&bytes), Ok(RecordHead::Published(head)));
    for record in records() {
        let is_message = matches!(record, Record::Published(_));
        let found = matches!(decode_head(&encoded(&record)), Ok(RecordHead::Published(_)));
        assert_eq!(found, is_message);
    }
}

#[test]
fn a_record_that_is_cut_or_continued_is_refused() {
    for record in records() {
        let mut bytes = encoded(&record);
        for len in 0..bytes.len() {
            assert!(
                decode_record(&bytes[..len]).is_err(),
                "{record:?} cut at {len}"
            );
        }
        bytes.push(0);
        assert_eq!(decode_record(&bytes), Err(DecodeError::Trailing));
    }
}

#[test]
fn damaged_records_never_panic_and_what_decodes_encodes_to_the_same_bytes() {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for record in records() {
        let good = encoded(&record);
        for _ in 0..5_000 {
            let mut bytes = good.clone();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (random >> 33) as usize % bytes.len();
            bytes[at] ^= (random >> 20) as u8;
            if let Ok(decoded) = decode_record(&bytes)
                && !bytes.is_empty()
            {
                // A stream written although it equals the topic is the one form that is not
                // canonical; it means the same.
                assert_eq!(decode_record(&encoded(&decoded)), Ok(decoded));
            }
            let _ = (
                decode_session(&bytes),
                decode_group(&bytes),
                decode_account(&bytes),
                decode_published(&bytes),
            );
        }
    }
}
