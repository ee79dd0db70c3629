//! The shards of one broker with a disk, a network and clients around them, in one thread.
//!
//! Everything that can happen next is a piece of [`Work`]; [`House::settle`] does all of it in a
//! fixed order, a random schedule picks. Between pieces nothing moves, and time stands still until
//! [`House::advance`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::codec::{Packet, ReasonCode, decode};
use tidings_core::journal::{Batch, ShardId};
use tidings_core::rules::{Identity, Keep, Membership, OpenRooms, RuleSource, Rules};
use tidings_core::shard::{
    ConnId, ConnectRequest, Event, Input, Now, Options, Output, Shard, ShardMessage, Takeover,
    shard_of,
};

use super::brief;
use super::client::Client;
use super::disk::Disk;
use super::doors::Doors;
use super::line::Line;
use super::login::{Filter, Login, Post};
use super::said::{Delivery, Said};
use crate::seeded::Seeded;

/// How often the shell says that time passed.
const TICK_MS: u64 = 250;

/// More pieces of work than any settling needs: above it, something goes round in circles.
const MAX_WORK: usize = 2_000_000;

/// A client of the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub usize);

/// How a house is built.
#[derive(Clone)]
pub struct Setup {
    /// Number of shards.
    pub shards: u16,
    /// As in [`Options`]; `id` and `shards` are filled in.
    pub options: Options,
    /// Topic rules.
    pub rules: Vec<RuleSource>,
    /// Rooms have doors: who is in one is what is retained on `room/{room}/member/{user}`.
    pub doors: bool,
    /// The journal is on segment files of a simulated directory with this seed, not in memory.
    pub segments: Option<u64>,
    /// Prints what happens.
    pub trace: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            shards: 1,
            options: Options {
                id: 0,
                shards: 1,
                output_bytes: 64 * 1024,
                receive_maximum: 100,
                max_inflight: 100,
                maximum_qos: tidings_core::message::QoS::ExactlyOnce,
                topic_alias_maximum: 10,
                maximum_packet_bytes: 1024 * 1024,
                session_expiry_max_s: u32::MAX,
                keep_alive_max_s: 0,
                max_subscriptions: 1000,
                append_queue_bytes: 1024 * 1024,
                turn: 256,
                progress_interval_ms: 1000,
                takeover: Takeover::ByItsUser,
                bounds: tidings_core::limits::Bounds::default(),
            },
            rules: rules(),
            doors: false,
            segments: None,
            trace: false,
        }
    }
}

impl Setup {
    /// With this many shards.
    pub fn shards(shards: u16) -> Self {
        Self {
            shards,
            ..Self::default()
        }
    }

    /// With other options.
    pub fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }
}

fn rules() -> Vec<RuleSource> {
    let rule = |pattern: &str, publish: &str, subscribe: &str, stream: Option<&str>, kept: bool| {
        RuleSource {
            pattern: pattern.to_owned(),
            publish: publish.to_owned(),
            subscribe: subscribe.to_owned(),
            stream: stream.map(str::to_owned),
            keep: kept.then(Keep::default),
            ..RuleSource::default()
        }
    };
    vec![
        rule(
            "room/{room}/{user}",
            "any",
            "any",
            Some("room/{room}"),
            true,
        ),
        rule("kept/#", "any", "any", None, true),
        rule("secret/{user}", "any", "self(user)", None, false),
        rule("kept-secret/{user}", "any", "self(user)", None, true),
        rule("closed/#", "none", "any", None, false),
        rule("$SYS/#", "broker", "any", None, false),
        rule("#", "any", "any", None, false),
    ]
}

/// Something that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A shard does what it wants done.
    Flush(usize),
    /// A shard gets the next batch of the journal.
    Batch(usize),
    /// A shard gets the next message of another.
    Mail {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
    },
    /// The broker reads from a connection.
    Read(usize),
    /// The broker writes to a connection.
    Write(usize),
    /// The broker closes a connection, as its shard wants.
    Close(usize),
    /// The broker notices that the client closed a connection.
    Ended(usize),
    /// A client reads.
    ClientRead(usize),
    /// The journal makes durable what waits.
    Commit,
}

/// See the module.
pub struct House {
    /// How it was built.
    pub setup: Setup,
    /// The time.
    pub now: Now,
    /// The shards.
    pub shards: Vec<Shard>,
    /// The journal and the state.
    pub disk: Disk,
    /// Every connection there ever was.
    pub lines: Vec<Line>,
    /// Every client.
    pub clients: Vec<Client>,
    /// What shards found worth a line in a log.
    pub events: Vec<Event>,
    /// The journal commits nothing on its own.
    pub hold_commits: bool,
    /// Batches do not reach the shards.
    pub hold_batches: bool,
    /// Shards do not hear each other.
    pub hold_mail: bool,
    /// While nothing else is to be done, time passes until nobody is held to a rate.
    pub waits: bool,

    rules: Arc<Rules>,
    batches: Vec<VecDeque<Arc<Batch>>>,
    mail: Vec<Vec<VecDeque<ShardMessage>>>,
    dirty: Vec<bool>,
    conns: HashMap<(usize, ConnId), usize>,
    /// Lines that the broker has not closed.
    open_lines: Vec<usize>,
}

impl House {
    /// A house with an empty disk.
    pub fn new(setup: Setup) -> Self {
        let count = usize::from(setup.shards);
        let rules = Rules::compile(&setup.rules).expect("the rules of the simulation compile");
        let disk = match setup.segments {
            Some(seed) => Disk::on_segments(seed),
            None => Disk::in_memory(),
        };
        let mut house = Self {
            setup,
            now: Now {
                monotonic_ms: 1_000,
                unix_ms: 1_700_000_000_000,
            },
            shards: Vec::new(),
            disk,
            lines: Vec::new(),
            clients: Vec::new(),
            events: Vec::new(),
            hold_commits: false,
            hold_batches: false,
            hold_mail: false,
            waits: false,
            rules: Arc::new(rules),
            batches: vec![VecDeque::new(); count],
            mail: Vec::new(),
            dirty: vec![true; count],
            conns: HashMap::new(),
            open_lines: Vec::new(),
        };
        house.start();
        house.settle();
        house
    }

    fn start(&mut self) {
        let count = usize::from(self.setup.shards);
        self.batches = vec![VecDeque::new(); count];
        self.mail = (0..count)
            .map(|_| (0..count).map(|_| VecDeque::new()).collect())
            .collect();
        self.dirty = vec![true; count];
        self.conns.clear();
        let members = || -> Arc<dyn Membership> {
            match self.setup.doors {
                true => Arc::new(Doors(self.disk.state())),
                false => Arc::new(OpenRooms),
            }
        };
        self.shards = (0..self.setup.shards)
            .map(|id| {
                let options = Options {
                    id,
                    shards: self.setup.shards,
                    ..self.setup.options.clone()
                };
                Shard::new(
                    options,
                    self.now,
                    self.disk.journal(),
                    self.disk.state(),
                    self.rules.clone(),
                    members(),
                )
                .with_names(self.disk.names())
            })
            .collect();
    }

    fn trace(&self, text: impl FnOnce() -> String) {
        if self.setup.trace {
            eprintln!("{:>9} {}", self.now.monotonic_ms, text());
        }
    }

    /// The broker stops without a word and starts again. The first `surviving` vectors of appends
    /// that wait for the journal reached the disk.
    pub fn crash(&mut self, surviving: usize) {
        self.trace(|| format!("CRASH, {surviving} of {} survive", self.disk.waiting()));
        self.shards.clear();
        for line in self.open_lines.drain(..) {
            let line = &mut self.lines[line];
            line.up.clear();
            line.unused.clear();
            line.broker_gone = true;
        }
        self.disk.crash(surviving);
        self.start();
    }

    /// The journal gives back what nobody needs: as the broker does, from what the shards and the
    /// state say.
    pub fn trim(&mut self) {
        if self.disk.poisoned().is_some() {
            return;
        }
        let reader = |shard: &Shard| {
            let position = shard.position();
            shard.lowest_reader().unwrap_or(position).min(position)
        };
        let readers = self.shards.iter().map(reader);
        let needed = readers.chain(self.disk.state().lowest_position()).min();
        let keep_from = needed.unwrap_or_default();
        self.trace(|| format!("trim before {keep_from}"));
        self.disk.trim(keep_from);
    }

    /// The journal fails for good.
    pub fn poison(&mut self, cause: &str) {
        let cause: Arc<str> = cause.into();
        self.disk.poison(cause.clone());
        self.input_to_all(|| Input::JournalPoisoned(cause.clone()));
    }

    /// Gives every shard an input.
    pub fn input_to_all(&mut self, input: impl Fn() -> Input) {
        for shard in 0..self.shards.len() {
            self.input(shard, input());
        }
    }

    /// Gives a shard an input.
    pub fn input(&mut self, shard: usize, input: Input) {
        self.shards[shard].handle_input(self.now, input);
        self.dirty[shard] = true;
    }

    /// A `$SYS` value.
    pub fn system(&mut self, topic: &str, payload: &str) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        self.input_to_all(|| Input::System {
            topic: topic.into(),
            payload: payload.clone(),
        });
        self.settle();
    }

    /// Other topic rules from now on.
    pub fn set_rules(&mut self, sources: &[RuleSource]) {
        let rules = Arc::new(Rules::compile(sources).expect("the rules of the test compile"));
        self.rules = rules.clone();
        self.input_to_all(|| Input::SetRules(rules.clone()));
        self.settle();
    }

    /// Time passes, with everything settled at each tick.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.monotonic_ms + ms;
        while self.now.monotonic_ms < end {
            let step = TICK_MS.min(end - self.now.monotonic_ms);
            self.tick(step);
            self.settle();
        }
    }

    /// Time passes in one step.
    pub fn tick(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.unix_ms += ms;
        self.input_to_all(|| Input::Tick);
    }

    /// Everything that can happen next.
    pub fn work(&self) -> Vec<Work> {
        let mut work = Vec::new();
        let shards = 0..self.shards.len();
        work.extend(shards.clone().filter(|s| self.dirty[*s]).map(Work::Flush));
        if !self.hold_batches {
            work.extend(
                shards
                    .clone()
                    .filter(|s| !self.batches[*s].is_empty())
                    .map(Work::Batch),
            );
        }
        if !self.hold_mail {
            for from in shards.clone() {
                let heard = shards.clone().filter(|to| !self.mail[from][*to].is_empty());
                work.extend(heard.map(|to| Work::Mail { from, to }));
            }
        }
        for number in self.open_lines.iter().copied() {
            let line = &self.lines[number];
            if line.broker_gone {
                continue;
            }
            if !line.paused && (line.more || !line.up.is_empty()) && !line.closing {
                work.push(Work::Read(number));
            }
            if line.writable && line.room() > 0 {
                work.push(Work::Write(number));
            }
            if line.closing {
                work.push(Work::Close(number));
            } else if line.client_gone && line.up.is_empty() && !line.paused && !line.more {
                work.push(Work::Ended(number));
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            let readable = |line: usize| {
                let line = &self.lines[line];
                !line.down.is_empty() || line.broker_gone
            };
            if client.reading && client.line.is_some_and(readable) {
                work.push(Work::ClientRead(number));
            }
        }
        if self.disk.waiting() > 0 && !self.hold_commits {
            work.push(Work::Commit);
        }
        work
    }

    /// Does everything that can be done, until nothing is left; see also [`House::waits`].
    pub fn settle(&mut self) {
        let mut done = 0;
        loop {
            let work = self.work();
            if work.is_empty() {
                let due_ms = self.shards.iter().filter_map(Shard::due_ms).min();
                let Some(due_ms) = due_ms.filter(|_| self.waits) else {
                    return;
                };
                let wait_ms = due_ms.saturating_sub(self.now.monotonic_ms);
                self.now.monotonic_ms += wait_ms;
                self.now.unix_ms += wait_ms;
                self.input_to_all(|| Input::Due);
            }
            for one in work {
                self.perform(one, &mut None);
                done += 1;
            }
            assert!(done < MAX_WORK, "the house never settles");
        }
    }

    /// Does one piece of work: with `luck` perhaps only a part of it.
    pub fn perform(&mut self, work: Work, luck: &mut Option<Seeded>) {
        let part = |all: usize, luck: &mut Option<Seeded>| match luck {
            Some(luck) if all > 1 => match luck.chance(50) {
                true => luck.magnitude(1..all as u64 + 1) as usize,
                false => all,
            },
            _ => all,
        };
        match work {
            Work::Flush(shard) => self.flush(shard),
            Work::Batch(shard) => {
                if let Some(batch) = self.batches[shard].pop_front() {
                    self.trace(|| format!("shard {shard} gets the batch up to {:?}", batch.end()));
                    let changes = super::doors::changes(&batch);
                    if self.setup.doors && !changes.is_empty() {
                        self.input(shard, Input::AccessChanged(changes));
                    }
                    self.input(shard, Input::Committed(batch));
                }
            }
            Work::Mail { from, to } => {
                if let Some(message) = self.mail[from][to].pop_front() {
                    self.trace(|| format!("shard {from} to {to}: {message:?}"));
                    self.input(
                        to,
                        Input::FromShard {
                            shard: from as ShardId,
                            message,
                        },
                    );
                }
            }
            Work::Read(line) => {
                let count = part(self.lines[line].up.len(), luck);
                self.read(line, count);
            }
            Work::Write(line) => self.write(line, |all| part(all, luck)),
            Work::Close(line) => {
                self.write(line, |all| part(all, luck));
                self.end(line);
            }
            Work::Ended(line) => self.end(line),
            Work::ClientRead(client) => {
                let Some(line) = self.clients[client].line else {
                    return;
                };
                let count = part(self.lines[line].down.len(), luck);
                self.client_read(client, line, count);
            }
            Work::Commit => {
                let count = part(self.disk.waiting(), luck);
                if let Some(batch) = self.disk.commit(count) {
                    self.trace(|| format!("commit:{}", brief::batch(&batch)));
                    for queue in &mut self.batches {
                        queue.push_back(batch.clone());
                    }
                }
            }
        }
    }

    fn flush(&mut self, shard: usize) {
        self.dirty[shard] = false;
        while let Some(output) = self.shards[shard].poll_output() {
            let line = |conn: &ConnId| self.conns.get(&(shard, *conn)).copied();
            match output {
                Output::Append(appends) => self.disk.append(appends),
                Output::ToShard { shard: to, message } => {
                    self.mail[shard][usize::from(to)].push_back(message);
                }
                Output::Write { conn } => {
                    if let Some(line) = line(&conn) {
                        self.lines[line].writable = true;
                    }
                }
                Output::Close { conn, reason } => {
                    if let Some(line) = line(&conn) {
                        self.trace(|| format!("line {line} is to be closed: {reason:?}"));
                        self.lines[line].closing = true;
                    }
                }
                Output::Resume { conn } => {
                    if let Some(line) = line(&conn) {
                        assert!(self.lines[line].paused, "resumed without a pause");
                        self.lines[line].paused = false;
                        self.offer(line);
                    }
                }
                Output::Reauthenticate { .. } => panic!("nobody came with a method"),
                Output::Timed { .. } => panic!("nothing is timed"),
                Output::Event(event) => {
                    self.trace(|| format!("{event:?}"));
                    self.events.push(event);
                }
            }
        }
    }

    fn read(&mut self, line: usize, count: usize) {
        let it = &mut self.lines[line];
        let bytes: Vec<u8> = it.up.drain(..count.min(it.up.len())).collect();
        it.unused.extend(bytes);
        self.offer(line);
    }

    /// Gives the shard what was read and not used.
    fn offer(&mut self, line: usize) {
        if self.lines[line].conn.is_none() && !self.open(line) {
            return;
        }
        let it = &mut self.lines[line];
        let (Some(shard), Some(conn)) = (it.shard, it.conn) else {
            return;
        };
        let received = self.shards[shard].receive(self.now, conn, &it.unused);
        assert!(
            received.consumed <= it.unused.len(),
            "more used than there was"
        );
        it.unused.drain(..received.consumed);
        it.paused = received.paused;
        it.more = received.more;
        self.dirty[shard] = true;
    }

    fn open(&mut self, line: usize) -> bool {
        let it = &mut self.lines[line];
        let bytes = it.unused.clone();
        let (connect, used) = match decode(None, &bytes, 64 * 1024) {
            Ok(None) => return false,
            Ok(Some((Packet::Connect(connect), used))) => (connect, used),
            _ => {
                it.broker_gone = true;
                return false;
            }
        };
        it.unused.drain(..used);
        let shard = usize::from(shard_of(connect.client_id, self.setup.shards));
        let identity = Identity::user(connect.username.unwrap_or(""));
        let client_id: Arc<str> = connect.client_id.into();
        let request = ConnectRequest::from_packet(&connect, client_id, false, identity, self.now);
        let conn = self.shards[shard].open(self.now, request);
        it.shard = Some(shard);
        it.conn = Some(conn);
        self.conns.insert((shard, conn), line);
        self.dirty[shard] = true;
        self.trace(|| format!("line {line} is {conn:?} of shard {shard}"));
        true
    }

    fn write(&mut self, line: usize, part: impl FnOnce(usize) -> usize) {
        let it = &mut self.lines[line];
        let (Some(shard), Some(conn)) = (it.shard, it.conn) else {
            return;
        };
        let outgoing = self.shards[shard].outgoing(conn);
        let all = outgoing.len();
        let count = if all == 0 {
            0
        } else {
            part(all.min(it.room()))
        };
        if !it.client_gone {
            it.down.extend(&outgoing[..count]);
        }
        it.writable = count < all;
        self.shards[shard].wrote(self.now, conn, count);
        self.dirty[shard] = true;
    }

    fn end(&mut self, line: usize) {
        let it = &mut self.lines[line];
        it.broker_gone = true;
        self.open_lines.retain(|open| *open != line);
        if let (Some(shard), Some(conn)) = (it.shard, it.conn) {
            self.trace(|| format!("line {line} is closed"));
            self.conns.remove(&(shard, conn));
            self.input(shard, Input::Disconnected { conn });
        }
    }

    fn client_read(&mut self, number: usize, line: usize, count: usize) {
        let it = &mut self.lines[line];
        let bytes: Vec<u8> = it.down.drain(..count.min(it.down.len())).collect();
        let closed = it.broker_gone && it.down.is_empty();
        let client = &mut self.clients[number];
        let before = client.said.len();
        client.receive(&bytes);
        if closed {
            client.closed();
        }
        if self.setup.trace {
            for said in &self.clients[number].said[before..] {
                self.trace(|| {
                    format!(
                        "{} <- {}",
                        self.clients[number].login.client_id,
                        brief::said(said)
                    )
                });
            }
        }
        self.deliver_output(number);
    }

    /// Moves what a client wants to send onto its connection.
    pub fn deliver_output(&mut self, number: usize) {
        let bytes = self.clients[number].take_output();
        if bytes.is_empty() {
            return;
        }
        self.trace(|| {
            let client = &self.clients[number];
            format!(
                "{} -> {}",
                client.login.client_id,
                describe(&client.login, &bytes)
            )
        });
        if let Some(line) = self.clients[number].line {
            self.lines[line].up.extend(bytes);
        }
    }

    /// A new client; it is not connected.
    pub fn add_client(&mut self, login: Login) -> ClientId {
        self.clients.push(Client::new(login));
        ClientId(self.clients.len() - 1)
    }

    /// A client opens a connection and sends CONNECT. An earlier one stays open, unread; but a
    /// CONNECT that the broker has not seen is lost, for it would come after the newer one.
    pub fn dial(&mut self, client: ClientId, login: Login) {
        if let Some(old) = self.clients[client.0].line {
            self.give_up_unheard(old);
        }
        self.lines.push(Line::new());
        let line = self.lines.len() - 1;
        self.open_lines.push(line);
        self.clients[client.0].connect(line, login);
        self.trace(|| {
            format!(
                "{} dials line {line}",
                self.clients[client.0].login.client_id
            )
        });
        self.deliver_output(client.0);
    }

    fn give_up_unheard(&mut self, line: usize) {
        let line = &mut self.lines[line];
        if line.conn.is_none() {
            line.up.clear();
            line.unused.clear();
            line.client_gone = true;
        }
    }

    /// A client's network connection ends without DISCONNECT.
    pub fn cut(&mut self, client: ClientId) {
        if let Some(line) = self.clients[client.0].line {
            self.trace(|| format!("{} is cut off", self.clients[client.0].login.client_id));
            self.lines[line].client_gone = true;
            self.give_up_unheard(line);
            self.clients[client.0].lose_connection();
        }
    }

    /// A new client, connected.
    pub fn connect(&mut self, login: Login) -> ClientId {
        let client = self.add_client(login.clone());
        self.reconnect(client, login);
        client
    }

    /// A client connects again; true if its session was there.
    pub fn reconnect(&mut self, client: ClientId, login: Login) -> bool {
        let before = self.client(client).said.len();
        self.dial(client, login);
        self.settle();
        let said = self.client(client).said.get(before..).unwrap_or_default();
        match said.first() {
            Some(Said::ConnAck(ack)) if ack.reason == ReasonCode::Success => ack.session_present,
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    /// A client.
    pub fn client(&self, client: ClientId) -> &Client {
        &self.clients[client.0]
    }

    /// Lets a client do something, sends what it wants to send, and settles.
    pub fn tell<T>(&mut self, client: ClientId, what: impl FnOnce(&mut Client) -> T) -> T {
        let result = self.say(client, what);
        self.settle();
        result
    }

    /// Lets a client do something and sends what it wants to send.
    pub fn say<T>(&mut self, client: ClientId, what: impl FnOnce(&mut Client) -> T) -> T {
        let result = what(&mut self.clients[client.0]);
        self.deliver_output(client.0);
        result
    }

    /// Subscribes, and gives the reasons of the SUBACK.
    pub fn subscribe(&mut self, client: ClientId, filters: &[Filter]) -> Vec<ReasonCode> {
        self.subscribe_with_id(client, filters, None)
    }

    /// Subscribes with a Subscription Identifier.
    pub fn subscribe_with_id(
        &mut self,
        client: ClientId,
        filters: &[Filter],
        id: Option<u32>,
    ) -> Vec<ReasonCode> {
        let packet_id = self.tell(client, |c| c.subscribe(filters, id));
        let acks = self
            .client(client)
            .said
            .iter()
            .rev()
            .filter_map(|said| match said {
                Said::SubAck(ack) if ack.packet_id == packet_id => Some(ack.reasons.clone()),
                _ => None,
            });
        acks.into_iter().next().expect("SUBACK")
    }

    /// Publishes and settles.
    pub fn publish(&mut self, client: ClientId, post: Post) {
        self.tell(client, |c| c.publish(post));
    }

    /// DISCONNECT, and the connection ends.
    pub fn leave(&mut self, client: ClientId) {
        self.tell(client, |c| c.disconnect(ReasonCode::Success));
        self.cut(client);
        self.settle();
    }

    /// The connection ends without DISCONNECT.
    pub fn drop_line(&mut self, client: ClientId) {
        self.cut(client);
        self.settle();
    }

    /// What arrived at a client since it was last asked.
    pub fn take_arrivals(&mut self, client: ClientId) -> Vec<Delivery> {
        std::mem::take(&mut self.clients[client.0].arrivals)
    }

    /// Payloads of what arrived at a client since it was last asked.
    pub fn take_payloads(&mut self, client: ClientId) -> Vec<String> {
        self.take_arrivals(client)
            .into_iter()
            .map(|d| d.payload)
            .collect()
    }

    /// What a client was told since it was last asked.
    pub fn take_said(&mut self, client: ClientId) -> Vec<Said> {
        std::mem::take(&mut self.clients[client.0].said)
    }

    /// What the broker did wrong, as the clients saw it.
    pub fn violations(&self) -> Vec<String> {
        self.clients
            .iter()
            .flat_map(|c| c.violations.iter().cloned())
            .collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violations = self.violations();
            assert!(
                violations.is_empty(),
                "the broker broke the protocol: {violations:#?}"
            );
        }
    }
}

/// Packet type of CONNECT (§2.1.2).
const CONNECT: u8 = 1;

fn describe(login: &Login, bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let version = Some(login.version).filter(|_| rest[0] >> 4 != CONNECT);
        let found = decode(version, rest, usize::MAX);
        let Ok(Some((packet, used))) = found else {
            return format!("{text}{} bytes", rest.len());
        };
        text.push_str(&brief::packet(&packet));
        text.push_str("; ");
        rest = &rest[used..];
    }
    text
}
