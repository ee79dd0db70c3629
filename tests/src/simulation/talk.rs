//! A random talk in one room from a seed: people on several phones say things, answer, edit, recall and
//! react, also what they may not, say how far they have read, send again what they sent before, are sent
//! away and come back, and the broker stops when it likes.
//! Then everything comes to rest, and what the journal has is held against what people were told.

use std::collections::{BTreeMap, HashMap};

use tidings_core::journal::ReadEntry;
use tidings_core::message::Seq;
use tidings_core::messages::{ChangeRecord, Kind, What};
use tidings_core::rules::{Keep, RuleSource};
use tidings_core::state::{growing_number, retained_on};

use super::doors;
use super::house::{ClientId, House, Setup};
use super::login::{Filter, Login, Post};
use crate::seeded::Seeded;

/// The stream of the talk.
const STREAM: &str = "chat/hall";

/// More than a talk has.
const EVERYTHING: usize = 1_000_000;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Talk {
    /// What went wrong.
    pub faults: Vec<String>,
    /// Acknowledgements with a number.
    pub numbered: usize,
    /// Messages that were refused.
    pub refused: usize,
    /// Stored recalls.
    pub recalls: usize,
    /// People who have said how far they have read.
    pub markers: usize,
    /// People who are not in the room in the end.
    pub outside: usize,
}

/// The rules of rooms, as they are shipped but for slow mode.
pub fn room_rules() -> Vec<RuleSource> {
    let patterns = [
        "chat/{room}/{user}",
        "chat/{room}/{user}/reply/{seq}",
        "chat/{room}/{user}/edit/{seq}",
        "chat/{room}/{user}/recall/{seq}",
        "chat/{room}/{user}/react/{seq}",
    ];
    let room = patterns.map(|pattern| RuleSource {
        pattern: pattern.to_owned(),
        publish: "self(user) & member(room)".to_owned(),
        subscribe: "member(room)".to_owned(),
        stream: Some("chat/{room}".to_owned()),
        keep: Some(Keep::default()),
        ..RuleSource::default()
    });
    let inbox = RuleSource {
        pattern: "user/{user}/inbox".to_owned(),
        publish: "broker".to_owned(),
        subscribe: "self(user)".to_owned(),
        keep: Some(Keep::default()),
        ..RuleSource::default()
    };
    let read = RuleSource {
        pattern: "read/{room}/{user}".to_owned(),
        publish: "self(user) & member(room)".to_owned(),
        subscribe: "member(room)".to_owned(),
        grows: Some("chat/{room}".to_owned()),
        ..RuleSource::default()
    };
    // The broker's own topic; here somebody else says who is in a room.
    let member = RuleSource {
        pattern: "room/{room}/member/{user}".to_owned(),
        publish: "any".to_owned(),
        subscribe: "member(room)".to_owned(),
        ..RuleSource::default()
    };
    room.into_iter().chain([inbox, read, member]).collect()
}

/// Runs one talk.
pub fn talk_schedule(seed: u64) -> Talk {
    let mut talk = Room::new(seed);
    let steps = talk.luck.magnitude(300..3_000);
    for _ in 0..steps {
        if talk.luck.chance(80) {
            talk.work();
        } else {
            talk.act();
        }
    }
    talk.come_to_rest()
}

/// Something that somebody wanted to say.
#[derive(Clone, Debug)]
struct Saying {
    user: usize,
    post: Post,
}

struct Room {
    luck: Seeded,
    house: House,
    /// The user of each client.
    users: Vec<usize>,
    said: Vec<Saying>,
    /// Payloads with the `cid` of another message that was acknowledged before.
    conflicts: Vec<String>,
    /// Read markers that somebody sent: user and number.
    marks: Vec<(usize, u64)>,
    /// Who says who is in the room.
    office: ClientId,
}

impl Room {
    fn new(seed: u64) -> Self {
        let mut luck = Seeded::new(seed);
        let mut setup = Setup {
            rules: room_rules(),
            doors: true,
            ..Setup::shards(*luck.pick(&[1, 2, 4]))
        };
        setup.options.output_bytes = *luck.pick(&[1, 100, 65_536]);
        setup.options.receive_maximum = *luck.pick(&[1, 10, 100]);
        setup.segments = luck.chance(30).then(|| luck.next());
        let people = luck.within(2..4);
        let mut room = Self {
            luck,
            house: House::new(setup),
            users: Vec::new(),
            said: Vec::new(),
            conflicts: Vec::new(),
            marks: Vec::new(),
            office: ClientId(0),
        };
        for user in 0..people as usize {
            for phone in 0..room.luck.within(1..4) {
                let login = Login::v5(&format!("u{user}-{phone}")).user(&format!("u{user}"));
                let login = if room.luck.chance(50) {
                    login.persistent()
                } else {
                    login
                };
                let client = room.house.add_client(login.clone());
                room.house.dial(client, login);
                room.users.push(user);
            }
        }
        let login = Login::v5("office").user("office").persistent();
        room.office = room.house.add_client(login.clone());
        room.house.dial(room.office, login);
        room.house.settle();
        let everyone = (0..people).map(|user| format!("u{user}"));
        for user in everyone.chain(["reader".to_owned()]) {
            room.let_in(&user, true);
        }
        room.house.settle();
        room
    }

    fn let_in(&mut self, user: &str, comes: bool) {
        let topic = doors::record("hall", user);
        let record = Post::qos1(&topic, if comes { "in" } else { "" }).retain();
        self.house.say(self.office, |c| c.publish(record));
    }

    fn work(&mut self) {
        let work = self.house.work();
        if !work.is_empty() {
            let one = *self.luck.pick(&work);
            let mut luck = Some(self.luck.fork(1));
            self.house.perform(one, &mut luck);
        }
    }

    fn act(&mut self) {
        let client = self.luck.within(0..self.users.len() as u64) as usize;
        match self.luck.within(0..100) {
            0..=61 if self.house.clients[client].online => self.speak(client),
            62..=69 if self.house.clients[client].online => self.mark(client),
            70..=84 if self.house.clients[client].online => self.repeat(client),
            85..=88 => self.house.cut(ClientId(client)),
            89..=94 if self.house.clients[client].line.is_none() => self.dial(ClientId(client)),
            95 | 96 if self.house.clients[self.office.0].line.is_none() => self.dial(self.office),
            95 | 96 if self.house.clients[self.office.0].online => {
                let user = format!("u{}", self.users[client]);
                let comes = self.luck.chance(60);
                self.let_in(&user, comes);
            }
            97 if self.luck.chance(40) => {
                let waiting = self.house.disk.waiting() as u64;
                let surviving = self.luck.within(0..waiting + 1);
                self.house.crash(surviving as usize);
            }
            _ => {}
        }
    }

    fn dial(&mut self, client: ClientId) {
        let login = self.house.clients[client.0].login.clone();
        self.house.dial(client, login);
    }

    /// Says how far somebody has read, perhaps less than before, or too far.
    fn mark(&mut self, client: usize) {
        let user = self.users[client];
        let head = self.house.disk.state().stream_head(STREAM).0;
        let number = self.luck.within(1..head + 3);
        let post = Post::qos1(&format!("read/hall/u{user}"), &number.to_string());
        self.marks.push((user, number));
        self.house.say(ClientId(client), |c| c.publish(post));
    }

    fn speak(&mut self, client: usize) {
        let user = self.users[client];
        let number = self.said.len() + self.conflicts.len();
        let head = self.house.disk.state().stream_head(STREAM).0;
        // Also about what is not there yet.
        let about = self.luck.within(1..head + 3);
        let place = format!("chat/hall/u{user}");
        let topic = match self.luck.within(0..10) {
            0..=4 => place,
            5 => format!("{place}/reply/{about}"),
            6 | 7 => format!("{place}/edit/{about}"),
            8 => format!("{place}/recall/{about}"),
            _ => format!("{place}/react/{about}"),
        };
        let payload = format!("p{number}");
        let mut post = if self.luck.chance(60) {
            Post::qos1(&topic, &payload)
        } else {
            Post::qos2(&topic, &payload)
        };
        if let Some(taken) = self
            .a_name_that_is_taken(user)
            .filter(|_| self.luck.chance(10))
        {
            self.conflicts.push(payload);
            post = post.cid(&taken);
        } else {
            post = post.cid(&format!("c{number}"));
            let post = post.clone();
            self.said.push(Saying { user, post });
        }
        self.house.say(ClientId(client), |c| c.publish(post));
    }

    /// The name of a message that was acknowledged to a client of this user.
    fn a_name_that_is_taken(&self, user: usize) -> Option<String> {
        let clients = (self.house.clients.iter().zip(&self.users)).filter(|(_, of)| **of == user);
        let payload = clients.filter_map(|(c, _)| c.numbers.last()).next()?;
        let saying = self.said.iter().find(|s| s.post.payload == payload.0)?;
        saying.post.cid.clone()
    }

    /// Sends something again that this user sent before, over whatever phone.
    fn repeat(&mut self, client: usize) {
        let user = self.users[client];
        let own: Vec<Post> = (self.said.iter().rev())
            .filter(|saying| saying.user == user)
            .take(5)
            .map(|saying| saying.post.clone())
            .collect();
        if !own.is_empty() {
            let post = self.luck.pick(&own).clone();
            self.house.say(ClientId(client), |c| c.publish(post));
        }
    }

    fn come_to_rest(mut self) -> Talk {
        if self.luck.chance(30) {
            self.house.crash(0);
        }
        for client in 0..self.house.clients.len() {
            if self.house.clients[client].line.is_none() {
                self.dial(ClientId(client));
            }
        }
        self.house.settle();
        self.house.advance(1_000);
        let mut talk = Talk::default();
        let journal = self.house.disk.journal();
        let stored = match journal.history(STREAM, Seq(0), EVERYTHING) {
            Ok(stored) => stored,
            Err(error) => {
                talk.faults
                    .push(format!("the room cannot be read: {error}"));
                return talk;
            }
        };
        self.check_numbers(&stored, &mut talk);
        self.check_rights(&stored, &mut talk);
        self.check_state(&stored, &mut talk);
        self.check_markers(&mut talk);
        self.check_replay(&stored, &mut talk);
        self.check_doors(&stored, &mut talk);
        for client in &mut self.house.clients {
            talk.refused += client.refused.len();
            talk.faults.append(&mut client.violations);
        }
        talk
    }

    /// Numbers have no holes; what was acknowledged is there under its number, once, whatever was sent
    /// how often; what has another's name is not there.
    fn check_numbers(&self, stored: &[ReadEntry], talk: &mut Talk) {
        let head = self.house.disk.state().stream_head(STREAM);
        let seqs: Vec<u64> = stored.iter().map(|entry| entry.published.seq.0).collect();
        if seqs != (1..=head.0).collect::<Vec<u64>>() {
            let fault = format!("the numbers are {seqs:?}, the state says {head:?}");
            talk.faults.push(fault);
        }
        let mut places: HashMap<String, Vec<u64>> = HashMap::new();
        for entry in stored {
            let payload = String::from_utf8_lossy(&entry.published.message.payload);
            let places = places.entry(payload.into_owned()).or_default();
            places.push(entry.published.seq.0);
        }
        for (payload, places) in &places {
            if places.len() > 1 {
                talk.faults
                    .push(format!("{payload} is stored at {places:?}"));
            }
            if self.conflicts.contains(payload) {
                talk.faults
                    .push(format!("{payload} has the cid of another message"));
            }
        }
        let numbers = self.house.clients.iter().flat_map(|c| &c.numbers);
        for (payload, seq) in numbers.filter(|(payload, _)| payload.starts_with('p')) {
            talk.numbered += 1;
            if places
                .get(payload)
                .is_none_or(|places| !places.contains(seq))
            {
                let at = places.get(payload);
                let fault = format!("{payload} was acknowledged as {seq}, and is at {at:?}");
                talk.faults.push(fault);
            }
        }
    }

    /// Changes are about messages that were there before, and edits and recalls by their authors.
    fn check_rights(&self, stored: &[ReadEntry], talk: &mut Talk) {
        for entry in stored {
            let (message, seq) = (&entry.published.message, entry.published.seq);
            let Some(about) = Kind::of(&message.topic, STREAM).about() else {
                continue;
            };
            let target = stored.iter().find(|entry| entry.published.seq == about);
            let Some(target) = target.filter(|_| about < seq).map(|entry| &entry.published) else {
                talk.faults
                    .push(format!("{} is about nothing", message.topic));
                continue;
            };
            let is_message = Kind::of(&target.message.topic, STREAM).is_message();
            let by_author = target.message.publisher.user == message.publisher.user;
            let fits = match Kind::of(&message.topic, STREAM) {
                Kind::Edit(_) | Kind::Recall(_) => is_message && by_author,
                Kind::React(_) => is_message,
                Kind::Message | Kind::Reply(_) => true,
            };
            if !fits {
                let of = &target.message.topic;
                talk.faults.push(format!("{} changes {of}", message.topic));
            }
        }
    }

    /// The state says of each message what follows from the journal.
    fn check_state(&self, stored: &[ReadEntry], talk: &mut Talk) {
        let mut expected: BTreeMap<u64, Vec<ChangeRecord>> = BTreeMap::new();
        for entry in stored {
            let Some(change) = ChangeRecord::of(entry.offset, &entry.published) else {
                continue;
            };
            talk.recalls += usize::from(change.what == What::Recalled);
            let changes = expected.entry(change.of.0).or_default();
            let is_same = |old: &ChangeRecord| match (&old.what, &change.what) {
                (What::Reaction(_), What::Reaction(_)) => old.by == change.by,
                (old, new) => old == new,
            };
            changes.retain(|old| !is_same(old));
            changes.push(change);
        }
        let state = self.house.disk.state();
        for seq in 1..=stored.len() as u64 {
            let mut expected = expected.remove(&seq).unwrap_or_default();
            expected.sort_by_key(|change| change.seq);
            let mut found = state.changes(STREAM, Seq(seq), EVERYTHING);
            found.sort_by_key(|change| change.seq);
            if found != expected {
                let fault = format!("{seq} has the changes {found:?}, not {expected:?}");
                talk.faults.push(fault);
            }
        }
    }

    /// How far somebody has read never shrinks, and is nothing that they did not say.
    fn check_markers(&self, talk: &mut Talk) {
        let state = self.house.disk.state();
        let people = self.users.iter().max().map_or(0, |last| last + 1);
        for user in 0..people {
            let marker = retained_on(&*state, &format!("read/hall/u{user}"));
            let found = marker.and_then(|m| growing_number(&m.published.message.payload));
            let theirs = self.house.clients.iter().zip(&self.users);
            let told = theirs
                .filter(|(_, of)| **of == user)
                .flat_map(|(client, _)| &client.acknowledged)
                .filter_map(|payload| payload.parse::<u64>().ok())
                .max();
            let is_said = |number| self.marks.contains(&(user, number));
            if found < told || !found.is_none_or(is_said) {
                let fault = format!("u{user} has read {found:?}, and was told {told:?}");
                talk.faults.push(fault);
            }
            talk.markers += usize::from(found.is_some());
        }
    }

    /// Who is in the room gets all of it, by name and not, and the others nothing.
    fn check_doors(&mut self, stored: &[ReadEntry], talk: &mut Talk) {
        let state = self.house.disk.state();
        let people = self.users.iter().max().map_or(0, |last| last + 1);
        for user in 0..people {
            let name = format!("u{user}");
            let is_in = retained_on(&*state, &doors::record("hall", &name)).is_some();
            talk.outside += usize::from(!is_in);
            for (filter, is_open) in [("chat/hall/#", is_in), ("chat/#", true)] {
                let login = Login::v5(&format!("{name} asks for {filter}")).user(&name);
                let client = self.house.connect(login);
                let filter = Filter::qos1(&format!("$replay/seq/1/{filter}"));
                let reasons = self.house.subscribe(client, &[filter]);
                self.house.advance(1_000);
                let came = self.house.take_arrivals(client).len();
                let expected = if is_in { stored.len() } else { 0 };
                let is_granted = reasons.iter().all(|reason| !reason.is_failure());
                if is_granted != is_open || came != expected {
                    let fault = format!(
                        "{name}, in: {is_in}: {reasons:?}, {came} of {}",
                        stored.len()
                    );
                    talk.faults.push(fault);
                }
            }
        }
    }

    /// Who reads it all again gets everything, but not what was recalled.
    fn check_replay(&mut self, stored: &[ReadEntry], talk: &mut Talk) {
        let login = Login::v5("reader").user("reader");
        let reader = self.house.connect(login);
        let filter = Filter::qos1(&format!("$replay/seq/1/{STREAM}/#"));
        self.house.subscribe(reader, &[filter]);
        self.house.advance(1_000);
        let seen: Vec<(String, String)> = (self.house.take_arrivals(reader).into_iter())
            .map(|delivery| (delivery.topic, delivery.payload))
            .collect();
        let mut recalled: Vec<Seq> = Vec::new();
        for entry in stored {
            if let Kind::Recall(of) = Kind::of(&entry.published.message.topic, STREAM) {
                recalled.push(of);
            }
        }
        let expected: Vec<(String, String)> = (stored.iter())
            .map(|entry| {
                let message = &entry.published.message;
                let said_by = match Kind::of(&message.topic, STREAM) {
                    Kind::Edit(of) => of,
                    _ => entry.published.seq,
                };
                let payload = if recalled.contains(&said_by) {
                    String::new()
                } else {
                    String::from_utf8_lossy(&message.payload).into_owned()
                };
                (message.topic.to_string(), payload)
            })
            .collect();
        if seen != expected {
            talk.faults
                .push(format!("read again: {seen:?}, not {expected:?}"));
        }
    }
}
