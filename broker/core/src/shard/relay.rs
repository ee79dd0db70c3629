//! Messages that are of interest now or never: who is typing.
//!
//! They are handed to whoever is there, at QoS 0, and are in no journal, no retained message and no
//! queue. One user has a rate on each topic: what is more is acknowledged and dropped, since the
//! next message says the same. A message is true for some seconds: receivers of MQTT 5 are told in
//! its Message Expiry Interval, and for everyone an empty message follows when nothing else does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::{ConnId, Now, Shard};
use crate::codec::ReasonCode;
use crate::journal::{Audience, Published};
use crate::message::{Message, MessageProperties, Publisher, QoS, Seq};
use crate::rules::Relay;
use crate::session::content::{Content, Passing};

/// Messages that may come at once: to begin, to stop, and to begin again.
const BURST: u64 = 3;

/// Users on topics that are remembered, some 15 MB; more are not relayed.
const MAX_OPEN: usize = 65_536;

/// A user on a topic.
type Key = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Open {
    /// When the rate has forgotten what was said.
    paid_ms: u64,
    /// When what was said is not true any more.
    until_ms: u64,
    /// Who said it; `None`: it was taken back.
    publisher: Option<Publisher>,
}

/// What was relayed and is still true.
#[derive(Debug, Default)]
pub(super) struct Relays {
    open: HashMap<Key, Open>,
    due: BTreeSet<(u64, Key)>,
}

impl Relays {
    /// Whether the message is to be relayed.
    fn take(
        &mut self,
        now: Now,
        topic: &Arc<str>,
        publisher: &Publisher,
        relay: Relay,
        empty: bool,
    ) -> bool {
        let now_ms = now.monotonic_ms;
        let cost_ms = (1000 / u64::from(relay.per_second.max(1))).max(1);
        let until_ms = now_ms + u64::from(relay.expires_s) * 1000;
        let key = (topic.clone(), publisher.user.clone());
        let paid_ms = match self.open.get(&key) {
            Some(open) => open.paid_ms.max(now_ms),
            None if self.open.len() >= MAX_OPEN => return false,
            None => now_ms,
        };
        if paid_ms - now_ms > (BURST - 1) * cost_ms {
            return false;
        }
        let open = Open {
            paid_ms: paid_ms + cost_ms,
            until_ms,
            publisher: (!empty).then(|| publisher.clone()),
        };
        if let Some(before) = self.open.insert(key.clone(), open) {
            self.due.remove(&(before.until_ms, key.clone()));
        }
        self.due.insert((until_ms, key));
        true
    }

    /// One that is not true any more: its topic, and who said it, unless it was taken back.
    fn pop_due(&mut self, now: Now) -> Option<(Arc<str>, Option<Publisher>)> {
        let (until_ms, _) = self.due.first()?;
        if *until_ms > now.monotonic_ms {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        let open = self.open.remove(&key)?;
        Some((key.0, open.publisher))
    }
}

impl Shard {
    /// A message of a client on a topic that is relayed.
    pub(super) fn take_relayed(
        &mut self,
        now: Now,
        conn: ConnId,
        packet_id: u16,
        message: &Passing<'_>,
        relay: Relay,
    ) {
        let empty = message.payload.is_empty();
        let topic = &message.route.topic;
        let mut reason = ReasonCode::Success;
        if self
            .relays
            .take(now, topic, message.publisher, relay, empty)
        {
            let passing = Passing {
                route: message.route,
                publisher: message.publisher,
                payload: message.payload,
                qos: QoS::AtMostOnce,
                retain: false,
                properties: with_expiry(message.properties.clone(), relay),
                time: message.time,
                read_us: message.read_us,
            };
            let (anyone, forwarded) = self.spread(now, Content::Passing(&passing), Some(conn));
            if !anyone && forwarded.is_none() {
                reason = ReasonCode::NoMatchingSubscribers;
            }
        }
        self.acknowledge_unstored(conn, packet_id, message.qos, reason);
    }

    /// The same for a message that nobody waits for.
    pub(super) fn relay_shared(&mut self, now: Now, mut published: Published, relay: Relay) {
        let message = &mut published.message;
        let (topic, publisher) = (message.topic.clone(), message.publisher.clone());
        let empty = message.payload.is_empty();
        if self.relays.take(now, &topic, &publisher, relay, empty) {
            message.qos = QoS::AtMostOnce;
            message.retain = false;
            message.properties = with_expiry(message.properties.take(), relay);
            self.spread(now, Content::Shared(&Arc::new(published)), None);
        }
    }

    /// Says of what is not true any more that it is not.
    pub(super) fn end_relayed(&mut self, now: Now) {
        while let Some((topic, publisher)) = self.relays.pop_due(now) {
            let Some(publisher) = publisher else {
                continue;
            };
            let published = Published {
                stream: topic.clone(),
                seq: Seq(0),
                message: Message {
                    topic,
                    payload: Bytes::new(),
                    qos: QoS::AtMostOnce,
                    retain: false,
                    properties: None,
                    publisher,
                    time: now.unix_ms,
                },
                history: false,
                audience: Audience::Everyone,
                inbound_packet_id: None,
                read_us: 0,
            };
            self.spread(now, Content::Shared(&Arc::new(published)), None);
        }
    }
}

fn with_expiry(
    properties: Option<Box<MessageProperties>>,
    relay: Relay,
) -> Option<Box<MessageProperties>> {
    let mut properties = properties.unwrap_or_default();
    let own = properties.message_expiry_s.unwrap_or(u32::MAX);
    properties.message_expiry_s = Some(own.min(relay.expires_s));
    Some(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: Relay = Relay {
        per_second: 1,
        expires_s: 5,
    };

    fn at(ms: u64) -> Now {
        Now {
            monotonic_ms: ms,
            unix_ms: ms,
        }
    }

    fn publisher(user: &str) -> Publisher {
        Publisher {
            user: user.into(),
            client_id: "phone".into(),
        }
    }

    #[test]
    fn a_user_has_a_rate_on_each_topic() {
        let mut relays = Relays::default();
        let lobby: Arc<str> = "typing/lobby/alice".into();
        let alice = publisher("alice");
        let mut take =
            |ms, topic: &Arc<str>, who: &Publisher| relays.take(at(ms), topic, who, RELAY, false);
        let taken = (0..1000).filter(|n| take(n * 10, &lobby, &alice)).count();
        assert_eq!(taken, 12, "3 at once and one a second, in 10 seconds");
        assert!(take(10_000, &"typing/cellar/alice".into(), &alice));
        assert!(take(10_000, &lobby, &publisher("bob")));
    }

    #[test]
    fn what_was_said_ends_once_and_what_was_taken_back_ends_silently() {
        let mut relays = Relays::default();
        let (lobby, cellar): (Arc<str>, Arc<str>) = ("typing/lobby/a".into(), "typing/b/a".into());
        let alice = publisher("alice");
        assert!(relays.take(at(0), &lobby, &alice, RELAY, false));
        assert!(relays.take(at(2000), &lobby, &alice, RELAY, false));
        assert!(relays.take(at(0), &cellar, &alice, RELAY, false));
        assert!(relays.take(at(1000), &cellar, &alice, RELAY, true));
        assert_eq!(relays.pop_due(at(5_999)), None);
        assert_eq!(relays.pop_due(at(7_000)), Some((cellar, None)));
        assert_eq!(relays.pop_due(at(7_000)), Some((lobby, Some(alice))));
        assert_eq!(relays.pop_due(at(1_000_000)), None);
        assert!(relays.open.is_empty(), "nothing takes memory for ever");
    }

    #[test]
    fn memory_is_bounded() {
        let mut relays = Relays::default();
        let alice = publisher("alice");
        for n in 0..MAX_OPEN {
            assert!(relays.take(at(0), &format!("t/{n}").into(), &alice, RELAY, false));
        }
        let one_more: Arc<str> = "t/more".into();
        assert!(!relays.take(at(0), &one_more, &alice, RELAY, false));
        while relays.pop_due(at(5_000)).is_some() {}
        assert!(relays.take(at(5_000), &one_more, &alice, RELAY, false));
    }
}
