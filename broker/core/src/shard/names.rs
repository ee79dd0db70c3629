//! What is sent twice: a publish with the `cid` of one that is stored gets the answer of that one, and one
//! whose `cid` says something else is refused. See [`crate::messages`] for who remembers.
//!
//! A publish whose `cid` is on its way to the journal waits, in this shard or another, and is asked about
//! again when a batch comes back. Publishes without one pay for the question whether they have one.

use std::sync::Arc;

use super::publish::{Refusal, Taken};
use super::{ConnId, Now, Shard};
use crate::codec::{Packet, Publish, ReasonCode};
use crate::message::{QoS, Seq, UnixMillis};
use crate::messages::{CID, Claim, Known, MAX_CID_BYTES, cid_of, digest};
use crate::rules::IdentityKind;
use crate::session::content::Passing;
use crate::session::{Inbound, Route};

impl Shard {
    /// What is done with a publish that came before, or whose name is another's; `None`: it is new.
    pub(super) fn sent_again(
        &mut self,
        now: Now,
        conn: ConnId,
        publish: &Publish<'_>,
        route: &Route,
        packet_id: u16,
    ) -> Option<Taken> {
        if !route.history || !route.allowed {
            return None;
        }
        let names = self.names.clone()?;
        let mut user = publish.properties.user.iter();
        let (_, cid) = user.find(|(key, _)| *key == CID)?;
        let who = &self.session(conn)?.client.identity;
        if who.kind != IdentityKind::User {
            return None;
        }
        let claim = Claim {
            stream: &route.stream,
            head: self.state.stream_head(&route.stream),
            user: &who.user,
            cid,
            digest: digest(&route.topic, publish.payload),
        };
        let known = if cid.len() > MAX_CID_BYTES {
            Ok(Known::Other)
        } else {
            names.look_up(&*self.journal, &claim)
        };
        let refusal = match known {
            Ok(Known::New) => return None,
            Ok(Known::UnderWay) if publish.qos == QoS::AtMostOnce => return Some(Taken::Done),
            Ok(Known::UnderWay) => return Some(Taken::Wait),
            Ok(Known::Stored { seq, time }) => {
                return Some(self.answer_again(conn, publish.qos, packet_id, route, (seq, time)));
            }
            Ok(Known::Other) => Refusal::Name,
            Err(error) => {
                self.read_failed(&error);
                Refusal::Unreadable
            }
        };
        self.refuse_publish(now, conn, publish.qos, packet_id, &route.topic, refusal);
        Some(Taken::Done)
    }

    /// The acknowledgement that the first one got.
    fn answer_again(
        &mut self,
        conn: ConnId,
        qos: QoS,
        packet_id: u16,
        route: &Route,
        (seq, time): (Seq, UnixMillis),
    ) -> Taken {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Taken::Done;
        };
        if qos == QoS::AtMostOnce {
            return Taken::Done;
        }
        // Acknowledgements leave in the order of publishes [MQTT-4.6.0-2].
        if session.uncommitted > 0 {
            return Taken::Wait;
        }
        let user = vec![
            ("seq".to_owned(), seq.0.to_string()),
            ("id".to_owned(), format!("{}/{}", route.stream, seq.0)),
            ("ts".to_owned(), time.to_string()),
        ];
        let ack = session.ack(packet_id, ReasonCode::Success, user);
        let packet = if qos == QoS::ExactlyOnce {
            let received = Inbound::Received { durable: false };
            session.inbound.insert(packet_id, received);
            Packet::PubRec(ack)
        } else {
            Packet::PubAck(ack)
        };
        self.send(conn, &packet);
        Taken::Done
    }

    /// True if the message has no name, or one that is now its own: then it is appended.
    pub(super) fn claims_name(&self, conn: ConnId, message: &Passing<'_>) -> bool {
        let Some(names) = self.names.as_ref().filter(|_| message.route.history) else {
            return true;
        };
        let Some(cid) = cid_of(message.properties.as_deref()) else {
            return true;
        };
        let is_user = |who: &crate::rules::Identity| who.kind == IdentityKind::User;
        let who = self.session(conn).map(|session| &session.client.identity);
        let user: &Arc<str> = match who.filter(|who| is_user(who)) {
            Some(who) => &who.user,
            None => return true,
        };
        let claim = Claim {
            stream: &message.route.stream,
            head: self.state.stream_head(&message.route.stream),
            user,
            cid,
            digest: digest(&message.route.topic, message.payload),
        };
        // What cannot be looked up is stored: rather twice than not at all.
        let claimed = names.claim(&*self.journal, &claim);
        claimed.map_or(true, |known| known == Known::New)
    }
}
