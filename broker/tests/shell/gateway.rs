//! Sessions of gateways: the user's rights, the limits of a socket, and an end like a socket's.

use std::sync::Arc;

use bytes::Bytes;
use tidings_bridge::gateway::{
    Event, Message, Options, Outgoing, Publisher, Receipt, Session, SessionError,
};
use tidings_broker::auth::{AccountOptions, Admitted};
use tidings_core::codec::{ReasonCode, RetainHandling};
use tidings_core::message::QoS;
use tidings_core::rules::{Identity, Keep, RuleSource, Rules};

use crate::peer::{TestBroker, block_on, keeping, with_accounts};

fn admitted(user: &str) -> Admitted {
    Admitted::as_one(Identity::user(user))
}

async fn open(broker: &TestBroker, admitted: Admitted, id: &str) -> Result<Session, SessionError> {
    let options = Options {
        client_id: format!("$http/{id}"),
        receive_maximum: 10,
    };
    Session::open(broker.running.connect_as(admitted), &options).await
}

async fn listen(session: &mut Session, filter: &str) -> ReasonCode {
    let filters = [filter.to_owned()];
    session.subscribe(&filters, QoS::AtLeastOnce, RetainHandling::SendAtSubscribe);
    match session.next().await {
        Ok(Event::Granted(granted)) => granted.reasons[0],
        other => panic!("{other:?}"),
    }
}

async fn message(session: &mut Session) -> Message {
    match session.next().await {
        Ok(Event::Message(message)) => {
            if let Some(packet_id) = message.packet_id {
                session.acknowledge(packet_id);
            }
            message
        }
        other => panic!("{other:?}"),
    }
}

fn to(topic: &str, payload: &'static str) -> Outgoing {
    Outgoing {
        topic: topic.to_owned(),
        payload: Bytes::from(payload),
        ..Outgoing::default()
    }
}

fn ended(reason: ReasonCode, text: &str) -> SessionError {
    SessionError::Ended {
        reason,
        text: Some(text.to_owned()),
    }
}

#[test]
fn what_is_published_through_a_gateway_has_a_receipt_and_is_received_like_any_message() {
    let broker = TestBroker::start(|options| options.rules = keeping());
    block_on(async {
        let mut bob = open(&broker, admitted("bob"), "b").await.unwrap();
        assert_eq!(listen(&mut bob, "chat/#").await, ReasonCode::GrantedQoS1);
        let alice = open(&broker, admitted("alice"), "a").await.unwrap();
        let alice = Publisher::spawn(alice);
        let others = alice.clone();
        let (first, second) = tokio::join!(
            alice.publish(to("chat/lobby", "one")),
            others.publish(to("chat/lobby", "two"))
        );
        let (first, second) = (first.unwrap(), second.unwrap());
        let expected = |seq: u64, ts| Receipt {
            reason: ReasonCode::Success,
            reason_string: None,
            seq: Some(seq),
            id: Some(format!("chat/lobby/{seq}")),
            ts,
        };
        assert_eq!(first, expected(1, first.ts));
        assert_eq!(second, expected(2, second.ts));
        for (text, receipt) in [("one", first), ("two", second)] {
            let got = message(&mut bob).await;
            assert_eq!(got.payload, text);
            assert_eq!(got.user_property("from"), Some("alice"));
            let ts = receipt.ts.unwrap().to_string();
            assert_eq!(got.user_property("ts"), Some(&*ts));
            assert_eq!(got.user_property("id"), receipt.id.as_deref());
        }
        bob.disconnect().await.unwrap();
    });
    broker.stop();
}

#[test]
fn a_gateways_session_has_the_users_rights_and_no_more() {
    let broker = TestBroker::start(|options| {
        let rule = |pattern: &str, who: &str| RuleSource {
            pattern: pattern.to_owned(),
            publish: who.to_owned(),
            subscribe: who.to_owned(),
            keep: Some(Keep::default()),
            ..RuleSource::default()
        };
        let rules = [rule("own/{user}", "self(user)"), rule("#", "broker")];
        options.rules = Arc::new(Rules::compile(&rules).unwrap());
    });
    block_on(async {
        let mut alice = open(&broker, admitted("alice"), "a").await.unwrap();
        assert_eq!(
            listen(&mut alice, "own/bob").await,
            ReasonCode::NotAuthorized
        );
        assert_eq!(
            listen(&mut alice, "own/alice").await,
            ReasonCode::GrantedQoS1
        );
        let alice = Publisher::spawn(alice);
        let refused = alice.publish(to("own/bob", "x")).await.unwrap();
        assert_eq!(refused.reason, ReasonCode::NotAuthorized);
        assert!(refused.reason_string.is_some());
        let stored = alice.publish(to("own/alice", "x")).await.unwrap();
        assert_eq!(stored.seq, Some(1));
    });
}

#[test]
fn a_gateways_session_ends_when_its_account_may_not_be_here_any_more() {
    let broker = TestBroker::start(|options| with_accounts(options, AccountOptions::default()));
    let book = broker.running.accounts();
    let alice = Admitted {
        has_account: true,
        ..admitted("alice")
    };
    block_on(async {
        book.add_user("alice", Some("a password".to_owned()), &[])
            .await
            .unwrap();
        let session = open(&broker, alice.clone(), "a").await.unwrap();
        let publisher = Publisher::spawn(open(&broker, alice.clone(), "b").await.unwrap());
        book.disable("alice").await.unwrap();
        let mut session = session;
        let error = session.next().await.unwrap_err();
        assert!(
            matches!(&error, SessionError::Ended { reason, .. } if reason.is_failure()),
            "{error}"
        );
        assert_eq!(publisher.publish(to("a", "x")).await, Err(error));
        assert!(publisher.has_ended());
        // Whoever comes with what was judged before is sent away, too.
        let late = match open(&broker, alice, "c").await {
            Ok(mut session) => session.next().await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(late.is_err());
    });
}

#[test]
fn a_gateways_session_ends_with_what_was_proved() {
    let broker = TestBroker::start(|_| {});
    block_on(async {
        let alice = Admitted {
            valid_until: Some(1),
            ..admitted("alice")
        };
        let mut session = open(&broker, alice, "a").await.unwrap();
        let text = "the token has come to its end";
        assert_eq!(
            session.next().await,
            Err(ended(ReasonCode::MaximumConnectTime, text))
        );
    });
}

#[test]
fn a_gateways_session_takes_a_place_and_gives_it_back() {
    let broker = TestBroker::start(|options| options.limits.max_connections = 1);
    block_on(async {
        let first = open(&broker, admitted("alice"), "a").await.unwrap();
        assert_eq!(
            open(&broker, admitted("alice"), "b").await.unwrap_err(),
            ended(ReasonCode::QuotaExceeded, "too many connections")
        );
        first.disconnect().await.unwrap();
        loop {
            match open(&broker, admitted("alice"), "b").await {
                Ok(_) => return,
                Err(error) => assert!(matches!(error, SessionError::Ended { .. })),
            }
        }
    });
}

#[test]
fn a_gateway_cannot_take_the_name_of_somebody_elses_session() {
    let broker = TestBroker::start(|_| {});
    block_on(async {
        let options = Options {
            client_id: "phone".to_owned(),
            receive_maximum: 10,
        };
        let stream = broker.running.connect_as(admitted("alice"));
        assert_eq!(
            Session::open(stream, &options).await.unwrap_err(),
            ended(
                ReasonCode::ClientIdentifierNotValid,
                "the client identifier of a gateway's session begins with $http/"
            )
        );
    });
}
