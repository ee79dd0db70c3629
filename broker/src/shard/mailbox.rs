//! How other threads reach a shard: its mailbox, which is emptied whatever else happens.
//!
//! Mailboxes have no bound of their own. What is committed is bounded by the journal's queue, what
//! arrives by the handshakes; what shards forward to each other is bounded by readers that stop
//! reading their sockets while a mailbox is long (see [`Mailboxes::is_crowded`]). Only reading
//! waits, never the emptying of a mailbox, so there is no cycle of waiters.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tidings_core::journal::ShardId;
use tidings_core::shard::{ConnectRequest, Input, Now, Shard};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::{INBOX_TURN, Search};
use crate::admission::Place;
use crate::handshake::Origin;
use crate::transport::Detached;

/// What commands in a mailbox may weigh before nobody reads from sockets. Shards talk in batches, so that
/// these are some megabytes at most, and many milliseconds of work.
const CROWDED: usize = 4096;

/// Commands taken out of a mailbox at once.
const ROUND: usize = 256;

/// Something for a shard.
pub(crate) enum Command {
    /// A client that was let in.
    Adopt(Box<Arrival>),
    /// Something that happened.
    Input(Input),
    /// Somebody looks into the shard, or reaches into it.
    Visit(Visit),
    /// Somebody looks for clients that are connected.
    Search(Box<Search>),
    /// A login was given back: connections that showed it end.
    EndLogin(Arc<str>),
    /// An address was banned: connections from it end.
    EndAddress(IpAddr),
    /// Certificates of connections do not count any more.
    EndRevoked,
    /// End now, whatever is unfinished: the deadline of a stop has passed.
    Abandon,
}

impl Command {
    /// 1 for most; several things that a shard says at once are several. What was committed together counts for
    /// its entries, but not for more than one turn.
    pub fn weight(&self) -> usize {
        match self {
            Self::Input(Input::Committed(batch)) => batch.entries.len().clamp(1, INBOX_TURN),
            Self::Input(Input::FromShard { message, .. }) => message.weight(),
            _ => 1,
        }
    }
}

/// What is done in a shard's own thread.
pub(crate) type Visit = Box<dyn FnOnce(Now, &mut Shard) + Send>;

/// A client that was let in, on its way to its shard.
pub(crate) struct Arrival {
    pub request: ConnectRequest,
    pub stream: Detached,
    /// Bytes that came after the CONNECT.
    pub rest: Vec<u8>,
    pub origin: Origin,
    /// Its place among the connections, if it takes one.
    pub place: Option<Place>,
    /// The login that it showed, if it did.
    pub login: Option<Arc<str>>,
}

/// The mailboxes of all shards, from outside.
#[derive(Clone)]
pub(crate) struct Mailboxes(Arc<[Mailbox]>);

struct Mailbox {
    sender: UnboundedSender<Command>,
    /// The weight of what waits.
    waiting: AtomicUsize,
}

/// The receiving ends, one for each shard, in order.
pub(crate) type Inboxes = Vec<Inbox>;

/// The mailbox of one shard, from inside.
pub(crate) struct Inbox {
    receiver: UnboundedReceiver<Command>,
    mailboxes: Mailboxes,
    shard: usize,
}

/// Mailboxes for `shards` shards.
pub(crate) fn mailboxes(shards: u16) -> (Mailboxes, Inboxes) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| unbounded_channel()).unzip();
    let mailboxes = senders.into_iter().map(|sender| Mailbox {
        sender,
        waiting: AtomicUsize::new(0),
    });
    let mailboxes = Mailboxes(mailboxes.collect());
    let inbox = |(shard, receiver)| Inbox {
        receiver,
        mailboxes: mailboxes.clone(),
        shard,
    };
    let inboxes = receivers.into_iter().enumerate().map(inbox).collect();
    (mailboxes, inboxes)
}

impl Mailboxes {
    /// How many shards there are.
    pub fn len(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    /// Tells one shard what happened. A shard that has ended hears nothing.
    pub fn input(&self, shard: ShardId, input: Input) {
        self.send(shard, Command::Input(input));
    }

    /// Tells all shards.
    pub fn broadcast(&self, input: impl Fn() -> Input) {
        for shard in 0..self.len() {
            self.input(shard, input());
        }
    }

    /// Does something in the thread of a shard, and gives what came out; nothing if the shard has ended.
    pub fn visit<T: Send + 'static>(
        &self,
        shard: ShardId,
        visit: impl FnOnce(Now, &mut Shard) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, is_done) = oneshot::channel();
        let visit = move |now: Now, shard: &mut Shard| {
            // Who asked may have given up.
            let _ = done.send(visit(now, shard));
        };
        self.send(shard, Command::Visit(Box::new(visit)));
        is_done
    }

    /// Looks for clients in one shard.
    pub fn search(&self, shard: ShardId, search: Search) {
        self.send(shard, Command::Search(Box::new(search)));
    }

    /// Ends the connections that showed a login, in every shard.
    pub fn end_login(&self, login: &Arc<str>) {
        for shard in 0..self.len() {
            self.send(shard, Command::EndLogin(login.clone()));
        }
    }

    /// Ends the connections from an address, in every shard; of IPv6 from its /64.
    pub fn end_address(&self, address: IpAddr) {
        for shard in 0..self.len() {
            self.send(shard, Command::EndAddress(address));
        }
    }

    /// Ends the connections whose clients showed a certificate that does not count any more, in every shard.
    pub fn end_revoked(&self) {
        for shard in 0..self.len() {
            self.send(shard, Command::EndRevoked);
        }
    }

    /// Hands a client over.
    pub fn adopt(&self, shard: ShardId, arrival: Box<Arrival>) {
        self.send(shard, Command::Adopt(arrival));
    }

    /// Ends all shards now.
    pub fn abandon(&self) {
        for shard in 0..self.len() {
            self.send(shard, Command::Abandon);
        }
    }

    /// Whether some shard is behind, so that nobody should read more.
    pub fn is_crowded(&self) -> bool {
        self.0
            .iter()
            .any(|mailbox| mailbox.waiting.load(Relaxed) > CROWDED)
    }

    fn send(&self, shard: ShardId, command: Command) {
        let Some(mailbox) = self.0.get(usize::from(shard)) else {
            return;
        };
        // Counted first, so that the receiver never takes away more than is there.
        let weight = command.weight();
        mailbox.waiting.fetch_add(weight, Relaxed);
        if mailbox.sender.send(command).is_err() {
            mailbox.waiting.fetch_sub(weight, Relaxed);
        }
    }
}

impl Inbox {
    /// Waits for commands and appends some of them to `commands`; 0 if no more will come.
    pub async fn receive(&mut self, commands: &mut Vec<Command>) -> usize {
        let before = commands.len();
        let received = self.receiver.recv_many(commands, ROUND).await;
        if let Some(mailbox) = self.mailboxes.0.get(self.shard) {
            let weight = commands.iter().skip(before).map(Command::weight).sum();
            mailbox.waiting.fetch_sub(weight, Relaxed);
        }
        received
    }
}
