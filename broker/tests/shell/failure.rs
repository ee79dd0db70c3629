//! When something fails inside: it is said, nothing is acknowledged that is not safe, and the
//! broker does not limp on.

use std::sync::Arc;
use std::time::Instant;

use crate::peer::{Connect, DEADLINE, TestBroker, Version, connect, keeping, publish_bytes};
use tidings_broker::listener::Kind;
use tidings_broker::{Readiness, StopError};
use tidings_core::codec::Packet;
use tidings_core::rules::{Membership, OpenRooms, RuleSource, Rules};

/// Knows all rooms but one.
struct PanicsAt(&'static str);

impl Membership for PanicsAt {
    fn is_member(&self, user: &str, room: &str) -> bool {
        assert_ne!(room, self.0, "a test wants a panic");
        OpenRooms.is_member(user, room)
    }

    fn is_moderator(&self, user: &str, room: &str) -> bool {
        OpenRooms.is_moderator(user, room)
    }

    fn is_public(&self, room: &str) -> bool {
        OpenRooms.is_public(room)
    }

    fn is_owner(&self, user: &str, device: &str) -> bool {
        OpenRooms.is_owner(user, device)
    }
}

#[tokio::test]
async fn a_shard_that_panics_ends_the_broker() {
    let broker = TestBroker::start(|options| {
        let rule = RuleSource {
            pattern: "chat/{room}".to_owned(),
            publish: "member(room)".to_owned(),
            subscribe: "any".to_owned(),
            ..RuleSource::default()
        };
        options.rules = Arc::new(Rules::compile(&[rule]).unwrap());
        options.members = Arc::new(PanicsAt("cursed"));
    });
    let user = Connect {
        username: Some("u"),
        ..connect(Version::V5, "c")
    };
    let mut peer = broker.peer(Kind::Tcp).join(user);
    peer.send(&publish_bytes("chat/fine", b"", Some(1)));
    peer.packet(|packet| assert!(matches!(packet, Packet::PubAck(_))))
        .unwrap();
    peer.send(&publish_bytes("chat/cursed", b"", Some(2)));
    match broker.running.wait().await {
        Err(StopError::Shard { cause, .. }) => {
            assert!(cause.contains("a test wants a panic"), "{cause}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.until_end(), b"");
}

#[tokio::test]
async fn a_journal_that_fails_is_said_and_nothing_more_is_acknowledged() {
    const SEGMENT: usize = 1024 * 1024;
    let broker = TestBroker::start(|options| {
        options.store.segment_bytes = SEGMENT as u64;
        options.rules = keeping();
    });
    let mut peer = broker.peer(Kind::Tcp).join(connect(Version::V5, "c"));
    // The next segment cannot be made.
    let journal = broker.folder.path().join("journal");
    std::fs::rename(&journal, broker.folder.path().join("elsewhere")).unwrap();
    std::fs::write(&journal, b"not a folder").unwrap();

    // A batch that does not fit goes to the next segment, unless it is the first.
    peer.send(&publish_bytes("a/b", b"first", Some(1)));
    peer.packet(|packet| assert!(matches!(packet, Packet::PubAck(_))))
        .unwrap();
    let payload = vec![b'x'; SEGMENT / 8];
    for id in 2..=10 {
        peer.send(&publish_bytes("a/b", &payload, Some(id)));
    }
    let begin = Instant::now();
    while !matches!(broker.running.readiness(), Readiness::StoreFailed(_)) {
        assert!(begin.elapsed() < DEADLINE, "the failure was not noticed");
        tokio::task::yield_now().await;
    }
    let mut http = broker.peer(Kind::WebSocket);
    http.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(http.until_end()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");

    broker.running.stop();
    let mut acknowledged = 0;
    while let Some(true) = peer.packet(|packet| matches!(packet, Packet::PubAck(_))) {
        acknowledged += 1;
    }
    assert!(acknowledged < 9, "what was not stored was acknowledged");
    match broker.running.wait().await {
        Err(StopError::Store(_)) => {}
        other => panic!("{other:?}"),
    }
}
