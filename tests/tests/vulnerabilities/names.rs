//! Names become levels of topics: a name with a wildcard, a slash, a `$` or U+0000 in it would be
//! another place in the hierarchy, or all places.

use tidings_core::codec::{Connect, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::{DEADLINE, RawClient, TidingsProcess, clean};

/// CONNECT as this user; what is said.
#[track_caller]
fn answer(connect: &Connect<'_>) -> ReasonCode {
    let broker = TidingsProcess::shared();
    let answer = RawClient::try_connect(broker.tcp(), connect, DEADLINE);
    let (_, connack) = answer.expect("an answer to CONNECT");
    connack.reason
}

#[test]
fn user_names_that_are_no_single_level_of_a_topic_are_refused() {
    for version in [Version::V311, Version::V5] {
        for name in [
            "+",
            "#",
            "a/b",
            "a/",
            "/",
            "al+ce",
            "#a",
            "$SYS",
            "$share",
            "",
            "a\nb",
            "\u{1b}[2J",
            "a\u{9b}",
        ] {
            let connect = Connect {
                username: Some(name),
                ..clean(version, "named")
            };
            assert!(answer(&connect).is_failure(), "{name:?} in {version:?}");
        }
        let long = "x".repeat(300);
        let connect = Connect {
            username: Some(&long),
            ..clean(version, "named")
        };
        assert!(answer(&connect).is_failure());
    }
}

#[test]
fn u0000_in_a_name_is_malformed_before_anybody_looks_at_it() {
    let broker = TidingsProcess::shared();
    for (name, id) in [("a\0b", "fine"), ("fine", "a\0b")] {
        let connect = Connect {
            username: Some(name),
            ..clean(Version::V5, id)
        };
        let mut client = RawClient::open(broker.tcp());
        client.send(&tidings_core::codec::Packet::Connect(connect));
        assert_eq!(client.expect_connack().reason, ReasonCode::MalformedPacket);
        client.expect_closed();
    }
}

/// A Client Identifier may have them, and is shown to who looks after the broker: it does nothing to their
/// terminal, and makes no second line.
#[test]
fn control_characters_in_a_client_identifier_are_shown_and_do_nothing() {
    let broker = TidingsProcess::start();
    let id = "x\u{1b}]0;owned\u{7}\nuser root";
    let data_dir = broker.data_dir().to_str().expect("UTF-8").to_owned();
    let say = |words: &[&str]| {
        let arguments = words.iter().copied().chain(["--data-dir", &data_dir]);
        let output = tidings_tests::tidings_process::tidings(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    say(&["ban", "--client", id, "--why", "\u{1b}[31mred"]);
    for command in ["bans", "audit"] {
        let told = say(&[command]);
        assert!(
            told.contains(r"x\u{1b}]0;owned\u{7}\u{a}user root"),
            "{told:?}"
        );
        assert_eq!(told.lines().count(), 1, "{told:?}");
        assert!(!told.trim_end().contains(char::is_control), "{told:?}");
    }
}

#[test]
fn the_client_identifiers_of_the_broker_itself_are_nobody_elses() {
    for id in [
        "$link/@rooms",
        "$link/@history",
        "$link/@people",
        "$http/x",
        "$",
        "$SYS",
    ] {
        for version in [Version::V311, Version::V5] {
            let reason = answer(&clean(version, id));
            assert!(reason.is_failure(), "{id}");
        }
    }
}

/// Client Identifiers may have any characters: they are in no topic, and nobody is somebody else by
/// one.
#[test]
fn wildcards_in_a_client_identifier_open_nothing() {
    let broker = TidingsProcess::shared();
    let mut alice = RawClient::connect(broker.tcp(), &clean(Version::V5, "names-alice"));
    alice.subscribe("user/names-alice/inbox", QoS::AtLeastOnce);
    for id in [
        "+",
        "#",
        "names-alice/x",
        "../names-alice",
        "user/names-alice",
    ] {
        let connect = Connect {
            username: Some("names-mallory"),
            ..clean(Version::V5, id)
        };
        let mut mallory = RawClient::connect(broker.tcp(), &connect);
        for filter in ["user/names-alice/inbox", "user/names-alice/reply/#"] {
            assert!(
                mallory.subscribe(filter, QoS::AtLeastOnce).is_failure(),
                "{id} {filter}"
            );
        }
        let dm = "dm/names-mallory/names-alice";
        let packet_id = mallory.new_packet_id();
        let packet =
            tidings_tests::raw_client::publish_packet(dm, b"forged", QoS::AtLeastOnce, packet_id);
        mallory.send(&packet);
        assert_eq!(
            mallory.expect_puback(packet_id).reason,
            ReasonCode::NotAuthorized
        );
        let _ = mallory.unsubscribe(id);
        mallory.disconnect();
    }
}
