//! Acknowledgements to the peer, in the order in which its messages came [MQTT-4.6.0-2]: what is
//! settled early (an echo, a refusal) waits for what came before it. rumqttd, for one, ends a
//! connection that acknowledges out of order.

use std::collections::VecDeque;

/// Messages of the peer that are not acknowledged yet, with what acknowledges each.
#[derive(Debug)]
pub(super) struct Acks<T> {
    /// Ticket of the front of `open`.
    first: u64,
    open: VecDeque<(T, bool)>,
}

impl<T> Acks<T> {
    pub(super) fn new() -> Self {
        Self {
            first: 0,
            open: VecDeque::new(),
        }
    }

    /// Notes a message; gives its ticket.
    pub(super) fn open(&mut self, ack: T) -> u64 {
        self.open.push_back((ack, false));
        self.first + self.open.len() as u64 - 1
    }

    /// This message may be acknowledged; then [`Acks::pop`] until there is nothing more.
    pub(super) fn settle(&mut self, ticket: u64) {
        let index = ticket
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some((_, settled)) = index.and_then(|at| self.open.get_mut(at)) {
            *settled = true;
        }
    }

    /// The next acknowledgement to be sent.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.open.front().filter(|(_, settled)| *settled)?;
        let (ack, _) = self.open.pop_front()?;
        self.first += 1;
        Some(ack)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_early_waits_for_what_came_before() {
        let mut acks = Acks::new();
        let tickets = ["a", "b", "c"].map(|ack| acks.open(ack));
        acks.settle(tickets[1]);
        assert_eq!(acks.pop(), None);
        acks.settle(tickets[0]);
        assert_eq!(
            (acks.pop(), acks.pop(), acks.pop()),
            (Some("a"), Some("b"), None)
        );
        let last = acks.open("d");
        acks.settle(tickets[0]);
        acks.settle(last);
        assert_eq!(acks.pop(), None, "an old ticket settles nothing");
        acks.settle(tickets[2]);
        assert_eq!(
            (acks.pop(), acks.pop(), acks.len()),
            (Some("c"), Some("d"), 0)
        );
    }
}
