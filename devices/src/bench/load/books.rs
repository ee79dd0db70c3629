//! What a thread of the generator writes down: every acknowledgement and every delivery, checked by
//! sequence number. No sockets: packets go in, answers come out.

use std::sync::Arc;

use hdrhistogram::Histogram;

use super::plan::Receives;
use super::publisher::Publisher;
use super::sequence::{Arrival, Arrivals};
use super::window::Flow;
use super::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Stamp, put_ack, sequence_of};
use crate::bench::outcome::latency_histogram;

/// What a client receives, as far as it got.
#[derive(Debug)]
pub struct Receiver {
    expects: Receives,
    /// Of each of its publishers.
    arrivals: Vec<Arrivals>,
    /// Of each of its publishers, 1 + the latest: only for shares.
    latest: Vec<u64>,
}

impl Receiver {
    /// A receiver to which nothing has come.
    #[must_use]
    pub fn new(expects: &Receives) -> Self {
        let (mut arrivals, mut latest) = (Vec::new(), Vec::new());
        match expects {
            Receives::All(of) => arrivals.resize(of.len(), Arrivals::default()),
            Receives::Share(of) | Receives::Some(of) => latest.resize(of.len(), 0),
        }
        Self {
            expects: expects.clone(),
            arrivals,
            latest,
        }
    }

    /// Its publishers and what arrived of each, if it was to receive all.
    pub fn arrivals(&self) -> impl Iterator<Item = (u32, &Arrivals)> {
        let first = match &self.expects {
            Receives::All(of) | Receives::Share(of) | Receives::Some(of) => of.start,
        };
        (first..).zip(&self.arrivals)
    }
}

/// The counts of a thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Deliveries, without doubled ones.
    pub delivered: u64,
    /// Deliveries that came again.
    pub doubled: u64,
    /// Deliveries that came after a later one.
    pub out_of_order: u64,
    /// Messages whose publisher waited for them no longer.
    pub given_up: u64,
    /// Messages that are not from this run.
    pub foreign: u64,
}

/// The books of a thread.
#[derive(Debug)]
pub struct Books {
    thread: usize,
    flows: Arc<[Flow]>,
    /// The counts so far.
    pub counts: Counts,
    /// Latencies, while `measuring`.
    pub latency: Histogram<u64>,
    /// Whether latencies are recorded.
    pub measuring: bool,
    /// When the latest delivery came.
    pub latest_nanos: u64,
    /// Of shared subscriptions: what arrived of each publisher, at whichever member.
    pub shared: Vec<Arrivals>,
    /// Of shared subscriptions: the messages of each publisher before this one are not waited for.
    given_up: Vec<u64>,
    /// Publishers of this thread whose window has moved.
    pub moved: Vec<u32>,
    /// Publishers of other threads whose window has moved.
    pub moved_elsewhere: Vec<(usize, u32)>,
}

impl Books {
    /// Empty books of a thread.
    #[must_use]
    pub fn new(thread: usize, flows: Arc<[Flow]>) -> Self {
        Self {
            thread,
            flows,
            counts: Counts::default(),
            latency: latency_histogram(),
            measuring: false,
            latest_nanos: 0,
            shared: Vec::new(),
            given_up: Vec::new(),
            moved: Vec::new(),
            moved_elsewhere: Vec::new(),
        }
    }

    /// Makes room for what arrives of shared subscriptions to publishers below this number.
    pub fn share_of(&mut self, publishers: u32) {
        let publishers = self.shared.len().max(publishers as usize);
        self.shared.resize(publishers, Arrivals::default());
        self.given_up.resize(publishers, 0);
    }

    /// The window of a publisher.
    #[inline]
    #[must_use]
    pub fn flow(&self, publisher: u32) -> Option<&Flow> {
        self.flows.get(publisher as usize)
    }

    /// A packet came to a client; the answer that MQTT wants is appended to `out`.
    #[inline]
    pub fn note(
        &mut self,
        packet: Packet,
        publisher: Option<&mut Publisher>,
        receiver: Option<&mut Receiver>,
        out: &mut Vec<u8>,
        now_nanos: u64,
    ) {
        match packet {
            Packet::Publish {
                qos,
                identifier,
                stamp,
            } => {
                match qos {
                    0 => {}
                    1 => put_ack(out, PUBACK, identifier),
                    _ => put_ack(out, PUBREC, identifier),
                }
                match (receiver, stamp) {
                    (Some(receiver), Some(stamp)) => self.delivered(receiver, stamp, now_nanos),
                    _ => self.counts.foreign += 1,
                }
            }
            Packet::Ack {
                kind: PUBREL,
                identifier,
            } => put_ack(out, PUBCOMP, identifier),
            Packet::Ack {
                kind: PUBREC,
                identifier,
            } => put_ack(out, PUBREL, identifier),
            Packet::Ack { identifier, .. } => {
                if let Some(publisher) = publisher
                    && let Some(sequence) = sequence_of(identifier, publisher.next)
                    && publisher.acknowledged.note(sequence) != Arrival::Again
                {
                    self.counts.acknowledged += 1;
                    self.confirm(publisher.number, sequence);
                }
            }
            _ => {}
        }
    }

    #[inline]
    fn delivered(&mut self, receiver: &mut Receiver, stamp: Stamp, now_nanos: u64) {
        let Stamp {
            publisher,
            sequence,
            sent_nanos,
        } = stamp;
        let arrival = match &receiver.expects {
            Receives::All(of) => {
                let place = publisher.wrapping_sub(of.start) as usize;
                match receiver.arrivals.get_mut(place) {
                    Some(arrivals) => arrivals.note(sequence),
                    None => return self.counts.foreign += 1,
                }
            }
            Receives::Share(of) | Receives::Some(of) => {
                if !of.contains(&publisher) {
                    return self.counts.foreign += 1;
                }
                self.delivered_shared(receiver, publisher, sequence)
            }
        };
        match arrival {
            Arrival::InOrder => {}
            Arrival::Again => {
                self.counts.doubled += 1;
                return;
            }
            Arrival::Late => {
                // It was given up when it was overtaken.
                self.counts.delivered += 1;
                self.counts.out_of_order += 1;
                return;
            }
            Arrival::After(gap) => {
                // Nobody waits for what was overtaken: else a lost message would be a smaller window.
                for overtaken in gap {
                    self.confirm(publisher, overtaken);
                }
            }
        }
        self.counts.delivered += 1;
        self.latest_nanos = now_nanos;
        self.confirm(publisher, sequence);
        if self.measuring {
            self.latency
                .saturating_record(now_nanos.saturating_sub(sent_nanos));
        }
    }

    /// Members of a share group overtake each other; only what comes to the same one has an order.
    fn delivered_shared(
        &mut self,
        receiver: &mut Receiver,
        publisher: u32,
        sequence: u64,
    ) -> Arrival {
        let (first, ordered) = match &receiver.expects {
            Receives::Share(of) => (of.start, true),
            Receives::All(of) | Receives::Some(of) => (of.start, false),
        };
        let place = publisher as usize;
        let arrival = self
            .shared
            .get_mut(place)
            .map_or(Arrival::InOrder, |a| a.note(sequence));
        self.give_up_shared(publisher, sequence);
        if arrival == Arrival::Again {
            return arrival;
        }
        if let Some(latest) = receiver
            .latest
            .get_mut(publisher.wrapping_sub(first) as usize)
        {
            if ordered && sequence < *latest {
                self.counts.out_of_order += 1;
            }
            *latest = (*latest).max(sequence + 1);
        }
        Arrival::InOrder
    }

    /// A message that did not come is lost when much later ones have come.
    fn give_up_shared(&mut self, publisher: u32, newest: u64) {
        let place = publisher as usize;
        let Some(((flow, arrivals), given_up)) = self
            .flows
            .get(place)
            .zip(self.shared.get(place))
            .zip(self.given_up.get_mut(place))
        else {
            return;
        };
        let limit = newest.saturating_sub(flow.surely_lost_behind());
        if limit > *given_up {
            let from = std::mem::replace(given_up, limit);
            let lost: Vec<u64> = arrivals.missing_in(from..limit).collect();
            for sequence in lost {
                self.confirm(publisher, sequence);
            }
        }
    }

    #[inline]
    fn confirm(&mut self, publisher: u32, sequence: u64) {
        let Some(flow) = self.flows.get(publisher as usize) else {
            return;
        };
        if flow.confirm(sequence) {
            if flow.owner() != self.thread {
                self.moved_elsewhere.push((flow.owner(), publisher));
            } else if self.moved.last() != Some(&publisher) {
                self.moved.push(publisher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::plan::PublishPlan;
    use crate::bench::load::wire::identifier_of;

    fn publish(publisher: u32, sequence: u64) -> Packet {
        let stamp = Some(Stamp {
            publisher,
            sequence,
            sent_nanos: 0,
        });
        Packet::Publish {
            qos: 1,
            identifier: 7,
            stamp,
        }
    }

    fn books(flows: Vec<Flow>) -> Books {
        Books::new(0, flows.into())
    }

    #[test]
    fn a_lost_message_is_given_up_when_a_later_one_comes() {
        let mut books = books(vec![Flow::new(1, 4, 0)]);
        let mut receiver = Receiver::new(&Receives::All(0..1));
        for sequence in 0..4 {
            assert!(books.flow(0).is_some_and(|f| f.begin(sequence)));
        }
        let mut out = Vec::new();
        for sequence in [0, 3] {
            books.note(publish(0, sequence), None, Some(&mut receiver), &mut out, 0);
        }
        assert_eq!(books.flow(0).map(Flow::completed), Some(4));
        assert_eq!(books.counts.delivered, 2);
        assert_eq!(
            receiver
                .arrivals()
                .map(|(_, a)| a.lost_of_first(4))
                .sum::<u64>(),
            2
        );
        assert_eq!(out, [PUBACK, 2, 0, 7, PUBACK, 2, 0, 7]);
        books.note(publish(0, 1), None, Some(&mut receiver), &mut out, 0);
        books.note(publish(0, 1), None, Some(&mut receiver), &mut out, 0);
        assert_eq!((books.counts.out_of_order, books.counts.doubled), (1, 1));
    }

    #[test]
    fn members_of_a_share_group_may_overtake_each_other_but_none_itself() {
        let mut books = books(vec![Flow::new(1, 8, 0)]);
        books.share_of(1);
        let mut one = Receiver::new(&Receives::Share(0..1));
        let mut other = Receiver::new(&Receives::Share(0..1));
        let mut out = Vec::new();
        let first = publish(0, 1);
        books.note(first, None, Some(&mut one), &mut out, 0);
        for sequence in [0, 3] {
            let packet = publish(0, sequence);
            books.note(packet, None, Some(&mut other), &mut out, 0);
        }
        assert_eq!(books.counts.out_of_order, 0);
        books.note(publish(0, 2), None, Some(&mut other), &mut out, 0);
        assert_eq!(books.counts.out_of_order, 1, "2 after 3 at the same member");
        books.note(publish(0, 2), None, Some(&mut one), &mut out, 0);
        assert_eq!(books.counts.doubled, 1, "2 at two members");
        assert_eq!(books.shared[0].lost_of_first(4), 0);
    }

    #[test]
    fn what_a_share_group_did_not_get_is_given_up_when_much_later_ones_come() {
        let mut books = books(vec![Flow::new(1, 2, 0)]);
        books.share_of(1);
        let mut member = Receiver::new(&Receives::Share(0..1));
        for sequence in 0..6 {
            assert!(books.flow(0).is_some_and(|f| f.begin(sequence)));
            if sequence != 1 {
                let packet = publish(0, sequence);
                books.note(packet, None, Some(&mut member), &mut Vec::new(), 0);
            }
        }
        assert_eq!(books.flow(0).map(Flow::completed), Some(5));
        assert!(books.flow(0).is_some_and(|f| f.begin(6)));
        books.note(publish(0, 6), None, Some(&mut member), &mut Vec::new(), 0);
        assert_eq!(books.flow(0).map(Flow::completed), Some(7));
        assert_eq!(books.shared[0].lost_of_first(7), 1);
    }

    #[test]
    fn a_message_of_nobody_here_is_foreign() {
        let mut books = books(Vec::new());
        let mut receiver = Receiver::new(&Receives::All(3..5));
        for publisher in [2, 5, u32::MAX] {
            books.note(
                publish(publisher, 0),
                None,
                Some(&mut receiver),
                &mut Vec::new(),
                0,
            );
        }
        assert_eq!((books.counts.foreign, books.counts.delivered), (3, 0));
    }

    #[test]
    fn qos_2_is_acknowledged_by_pubcomp_only() {
        let mut books = books(vec![Flow::new(1, 4, 0)]);
        let plan = PublishPlan {
            publisher: 0,
            topic: "t".into(),
            numbered: None,
            limit: None,
            receivers: 0,
        };
        let mut publisher = Publisher::new(&plan, 2, 20);
        let mut out = Vec::new();
        assert!(publisher.publish(&Flow::new(1, 4, 0), &mut out, 0));
        assert!(books.flow(0).is_some_and(|f| f.begin(0)));
        out.clear();
        let identifier = identifier_of(0);
        books.note(
            Packet::Ack {
                kind: PUBREC,
                identifier,
            },
            Some(&mut publisher),
            None,
            &mut out,
            0,
        );
        assert_eq!(
            (books.counts.acknowledged, out.as_slice()),
            (0, &[PUBREL, 2, 0, 1][..])
        );
        books.note(
            Packet::Ack {
                kind: PUBCOMP,
                identifier,
            },
            Some(&mut publisher),
            None,
            &mut out,
            0,
        );
        books.note(
            Packet::Ack {
                kind: PUBCOMP,
                identifier,
            },
            Some(&mut publisher),
            None,
            &mut out,
            0,
        );
        assert_eq!(books.counts.acknowledged, 1);
        assert_eq!(books.moved, [0]);
    }
}
