//! Topics whose messages are numbers of a stream, of which the largest counts: how far somebody has
//! read, or was delivered to.
//!
//! Two devices may say so at once, in two shards. What is larger when it is published goes to the
//! journal; the state keeps the largest of what the journal has, in its order, and only what it
//! keeps is delivered. So the retained number never shrinks, and nobody is told one that it was not.

use super::Shard;
use super::publish::Refusal;
use crate::journal::{Audience, Published};
use crate::message::Offset;
use crate::rules::{Identity, IdentityKind};
use crate::state::{growing_number, retained_on};

impl Shard {
    /// Why a number is refused. The broker itself may also remove one, with an empty payload.
    pub(super) fn judge_number(
        &self,
        stream: &str,
        who: &Identity,
        payload: &[u8],
    ) -> Option<Refusal> {
        if payload.is_empty() && who.kind == IdentityKind::Broker {
            return None;
        }
        let Some(number) = growing_number(payload) else {
            return Some(Refusal::NoNumber);
        };
        let head = self.state.stream_head(stream).0;
        (number > head).then_some(Refusal::BeyondHead { head })
    }

    /// Whether a number, or its removal, changes anything.
    pub(super) fn is_growth(&self, topic: &str, payload: &[u8]) -> bool {
        let retained = retained_on(&*self.state, topic);
        let known = retained
            .as_ref()
            .map(|r| growing_number(&r.published.message.payload).unwrap_or(0));
        match growing_number(payload) {
            Some(number) => number > known.unwrap_or(0),
            None => known.is_some(),
        }
    }

    /// Whether an entry of the journal is to be delivered: of numbers that grow, the largest one.
    pub(super) fn still_counts(&self, offset: Offset, published: &Published) -> bool {
        if published.audience != Audience::Growing {
            return true;
        }
        let retained = retained_on(&*self.state, &published.message.topic);
        match retained {
            Some(retained) => retained.offset == offset,
            None => published.message.payload.is_empty(),
        }
    }
}
