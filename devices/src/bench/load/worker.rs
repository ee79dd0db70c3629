//! One thread of the generator: waits for its connections, reads what is there, notes it, refills the
//! windows, and writes each connection's output once.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::event::epoll;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::books::{Books, Receiver};
use super::engine::{Shared, Stage};
use super::link::{Broken, Link, READ_BYTES};
use super::pace::Pace;
use super::plan::{ClientPlan, Plan, Receives};
use super::publisher::Publisher;
use super::setup::{Endpoint, Up, bring_up};
use super::wire::DISCONNECT;

/// Connections handled between two looks at the windows: enough that one write carries many packets,
/// few enough that the broker does not run dry meanwhile.
const EVENTS_AT_ONCE: usize = 256;
/// How often a thread without events looks at the stage (it is woken when that changes).
const LOOK: Duration = Duration::from_millis(100);
/// How often publishers are asked whether they wait in vain.
const ASK_NANOS: u64 = 500_000_000;
/// The mark of the thread's own waker among the connections.
const WAKER: u64 = u64::MAX;

struct Client {
    link: Link,
    publisher: Option<Publisher>,
    receiver: Option<Receiver>,
    /// It has output, and is in the list of those to flush.
    flushing: bool,
    /// The socket was full: the rest goes when it is writable.
    full: bool,
    /// It reads nothing before the load stops.
    slow: bool,
    /// Closed; nothing more happens with it.
    gone: bool,
}

/// What a thread leaves behind.
#[derive(Debug)]
pub struct Harvest {
    /// Its books.
    pub books: Books,
    /// Its publishers.
    pub publishers: Vec<Publisher>,
    /// Its receivers.
    pub receivers: Vec<Receiver>,
    /// CPU share of the thread in the measured time, or while it connected if nothing was measured.
    pub busy: f64,
}

pub(super) struct Worker {
    thread: usize,
    shared: Arc<Shared>,
    epoll: rustix::fd::OwnedFd,
    clients: Vec<Client>,
    /// Which client is which publisher, by its number.
    client_of: Vec<usize>,
    /// The clients that publish.
    publishing: Vec<usize>,
    books: Books,
    scratch: Vec<u8>,
    to_flush: Vec<usize>,
    pace: Option<Pace>,
    stage: Stage,
    /// CPU and wall time, when measuring began.
    measured_from: Option<(Duration, u64)>,
    busy: f64,
    sessions_present: usize,
    /// When publishers were last asked whether they wait in vain.
    asked_nanos: u64,
}

impl Worker {
    /// Connects this thread's clients.
    pub(super) fn bring_up(
        thread: usize,
        plan: &Plan,
        endpoint: &Endpoint,
        shared: Arc<Shared>,
    ) -> anyhow::Result<Self> {
        let mine: Vec<&ClientPlan> = plan.clients.iter().filter(|c| c.thread == thread).collect();
        let (cpu, began) = (thread_cpu(), shared.clock.nanos());
        let ups = bring_up(&mine, plan.qos, endpoint, shared.threads())?;
        let mut worker = Self {
            thread,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clients: Vec::with_capacity(mine.len()),
            client_of: Vec::new(),
            publishing: Vec::new(),
            books: Books::new(thread, Arc::clone(&shared.flows)),
            scratch: vec![0; READ_BYTES],
            to_flush: Vec::new(),
            pace: None,
            stage: Stage::Hold,
            measured_from: None,
            busy: share_of_time(
                thread_cpu().saturating_sub(cpu),
                shared.clock.nanos() - began,
            ),
            sessions_present: ups.iter().filter(|u| u.session_present).count(),
            asked_nanos: 0,
            shared,
        };
        for (client, up) in mine.into_iter().zip(ups) {
            worker.add(client, up, plan)?;
        }
        if let Some(per_second) = plan.per_second {
            let everyone = plan
                .clients
                .iter()
                .filter(|c| c.publishes.is_some())
                .count()
                .max(1);
            worker.pace = Pace::new(per_second, worker.publishing.len(), everyone);
        }
        if let Some(waker) = worker.shared.waker(thread) {
            epoll::add(
                &worker.epoll,
                waker,
                epoll::EventData::new_u64(WAKER),
                epoll::EventFlags::IN,
            )?;
        }
        Ok(worker)
    }

    fn add(&mut self, client: &ClientPlan, up: Up, plan: &Plan) -> anyhow::Result<()> {
        let number = self.clients.len();
        let data = epoll::EventData::new_u64(number as u64);
        let interest = if client.slow {
            epoll::EventFlags::empty()
        } else {
            epoll::EventFlags::IN
        };
        epoll::add(&self.epoll, up.link.socket(), data, interest)?;
        if let Some(Receives::Share(of) | Receives::Some(of)) = &client.receives {
            self.books.share_of(of.end);
        }
        if let Some(publish) = &client.publishes {
            let place = publish.publisher as usize;
            if self.client_of.len() <= place {
                self.client_of.resize(place + 1, usize::MAX);
            }
            if let Some(of) = self.client_of.get_mut(place) {
                *of = number;
            }
            self.publishing.push(number);
        }
        self.clients.push(Client {
            link: up.link,
            publisher: client
                .publishes
                .as_ref()
                .map(|p| Publisher::new(p, plan.qos, plan.payload_bytes)),
            receiver: client.receives.as_ref().map(Receiver::new),
            flushing: false,
            full: false,
            slow: client.slow,
            gone: false,
        });
        Ok(())
    }

    /// Clients whose session the broker still had.
    pub(super) fn sessions_present(&self) -> usize {
        self.sessions_present
    }

    /// Runs until the stage is `End`.
    pub(super) fn run(mut self) -> anyhow::Result<Harvest> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_AT_ONCE);
        // What came with the answers to SUBSCRIBE or CONNECT gives no event any more.
        for number in 0..self.clients.len() {
            if self
                .clients
                .get(number)
                .is_some_and(|c| c.link.has_unparsed() && !c.slow)
            {
                self.read(number);
            }
        }
        loop {
            let stage = self.shared.stage();
            if stage != self.stage {
                self.enter(stage)?;
                if stage == Stage::End {
                    break;
                }
            }
            self.give_up_lost();
            self.publish();
            self.flush();
            self.tell();
            events.clear();
            let wait = self.wait_time();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&wait),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e).context("waiting for connections"),
            }
            for event in &events {
                self.handle(*event);
            }
        }
        Ok(self.harvest())
    }

    fn handle(&mut self, event: epoll::Event) {
        // A packed struct: fields are copied before they are used.
        let (mark, flags) = (event.data.u64(), event.flags);
        if mark == WAKER {
            let mut count = [0; 8];
            if let Some(waker) = self.shared.waker(self.thread) {
                // That it was woken is all that matters; an empty waker is no error.
                let _read = rustix::io::read(waker, &mut count);
            }
            self.shared.take_mail(self.thread, &mut self.books.moved);
            return;
        }
        let Ok(number) = usize::try_from(mark) else {
            return;
        };
        if flags.intersects(epoll::EventFlags::OUT)
            && let Some(client) = self.clients.get_mut(number)
            && client.full
        {
            client.full = false;
            if !client.flushing {
                client.flushing = true;
                self.to_flush.push(number);
            }
            self.listen(number);
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR)
        {
            self.read(number);
        }
    }

    /// Reads once and notes everything in it.
    fn read(&mut self, number: usize) {
        let Some(client) = self.clients.get_mut(number).filter(|c| !c.gone) else {
            return;
        };
        let filled = match client.link.fill(&mut self.scratch) {
            Ok(filled) => filled,
            Err(why) => return self.lose(number, &why),
        };
        let now = self.shared.clock.nanos();
        let Client {
            link,
            publisher,
            receiver,
            ..
        } = client;
        let books = &mut self.books;
        let parsed = link.parse(&self.scratch, filled, |packet, out| {
            books.note(packet, publisher.as_mut(), receiver.as_mut(), out, now);
            ControlFlow::Continue(())
        });
        if !client.flushing && !client.full {
            client.flushing = true;
            self.to_flush.push(number);
        }
        if let Err(why) = parsed {
            self.lose(number, &why);
        }
    }

    /// Fills the windows that have moved.
    fn publish(&mut self) {
        if !matches!(self.stage, Stage::Run | Stage::Measure) {
            self.books.moved.clear();
            return;
        }
        if self.pace.is_some() {
            self.books.moved.clear();
            return self.publish_paced();
        }
        let mut moved = std::mem::take(&mut self.books.moved);
        for publisher in moved.drain(..) {
            let Some(&number) = self.client_of.get(publisher as usize) else {
                continue;
            };
            let now = self.shared.clock.nanos();
            while self.publish_one(number, now) {}
        }
        self.books.moved = moved;
    }

    /// Publishers that wait in vain go on.
    fn give_up_lost(&mut self) {
        let now = self.shared.clock.nanos();
        if now - self.asked_nanos < ASK_NANOS || !matches!(self.stage, Stage::Run | Stage::Measure)
        {
            return;
        }
        self.asked_nanos = now;
        for &number in &self.publishing {
            if let Some(publisher) = self
                .clients
                .get_mut(number)
                .and_then(|c| c.publisher.as_mut())
                && let Some(flow) = self.books.flow(publisher.number)
            {
                let given_up = publisher.give_up_lost(flow, now);
                if given_up > 0 {
                    self.books.counts.given_up += given_up;
                    self.books.moved.push(publisher.number);
                }
            }
        }
    }

    fn publish_paced(&mut self) {
        let now = self.shared.clock.nanos();
        while let Some(turn) = self.pace.as_mut().and_then(|p| p.due(now)) {
            if let Some(&number) = self.publishing.get(turn) {
                let now = self.shared.clock.nanos();
                self.publish_one(number, now);
            }
        }
    }

    fn publish_one(&mut self, number: usize, now: u64) -> bool {
        let Some(client) = self.clients.get_mut(number).filter(|c| !c.gone) else {
            return false;
        };
        let Some(publisher) = &mut client.publisher else {
            return false;
        };
        let Some(flow) = self.books.flow(publisher.number) else {
            return false;
        };
        if !publisher.publish(flow, client.link.outbox(), now) {
            return false;
        }
        self.books.counts.sent += 1;
        if !client.flushing && !client.full {
            client.flushing = true;
            self.to_flush.push(number);
        }
        true
    }

    fn flush(&mut self) {
        let mut list = std::mem::take(&mut self.to_flush);
        for number in list.drain(..) {
            let Some(client) = self.clients.get_mut(number).filter(|c| !c.gone) else {
                continue;
            };
            client.flushing = false;
            match client.link.flush() {
                Ok(true) => {}
                Ok(false) => {
                    client.full = true;
                    self.listen(number);
                }
                Err(why) => self.lose(number, &why),
            }
        }
        self.to_flush = list;
    }

    /// Tells the system what a client waits for.
    fn listen(&mut self, number: usize) {
        let Some(client) = self.clients.get(number).filter(|c| !c.gone) else {
            return;
        };
        let mut interest = epoll::EventFlags::empty();
        interest.set(epoll::EventFlags::IN, !client.slow);
        interest.set(epoll::EventFlags::OUT, client.full);
        let data = epoll::EventData::new_u64(number as u64);
        if let Err(e) = epoll::modify(&self.epoll, client.link.socket(), data, interest) {
            self.lose(number, &Broken::Io(e.into()));
        }
    }

    fn lose(&mut self, number: usize, why: &Broken) {
        if let Some(client) = self.clients.get_mut(number).filter(|c| !c.gone) {
            client.gone = true;
            self.shared.note_closed(why);
            // A socket that is gone need not be taken off; the harvest closes it.
            let _off = epoll::delete(&self.epoll, client.link.socket());
        }
    }

    fn enter(&mut self, stage: Stage) -> anyhow::Result<()> {
        let now = self.shared.clock.nanos();
        match stage {
            Stage::Run | Stage::Measure if self.stage == Stage::Hold => {
                for publisher in self.clients.iter_mut().filter_map(|c| c.publisher.as_mut()) {
                    publisher.begin(now);
                    self.books.moved.push(publisher.number);
                }
                if let Some(pace) = &mut self.pace {
                    pace.begin(now);
                }
            }
            _ => {}
        }
        if stage == Stage::Measure {
            self.measured_from = Some((thread_cpu(), now));
            self.books.measuring = true;
        } else if let Some((cpu, wall)) = self.measured_from.take() {
            self.books.measuring = false;
            self.busy = share_of_time(thread_cpu().saturating_sub(cpu), now - wall);
        }
        if stage == Stage::Drain {
            for number in 0..self.clients.len() {
                if let Some(client) = self.clients.get_mut(number).filter(|c| c.slow) {
                    client.slow = false;
                    self.listen(number);
                    self.read(number);
                }
            }
        }
        self.stage = stage;
        Ok(())
    }

    /// Tells the other threads what concerns them.
    fn tell(&mut self) {
        if !self.books.moved_elsewhere.is_empty() {
            self.shared.send_mail(&mut self.books.moved_elsewhere);
        }
        self.shared
            .publish_counts(self.thread, &self.books.counts, self.stage);
    }

    fn wait_time(&self) -> Timespec {
        let nanos = match &self.pace {
            Some(pace) if matches!(self.stage, Stage::Run | Stage::Measure) => {
                pace.nanos_until(self.shared.clock.nanos())
            }
            _ => u64::MAX,
        };
        let wait = Duration::from_nanos(nanos).min(LOOK);
        Timespec {
            tv_sec: 0,
            tv_nsec: wait.subsec_nanos().into(),
        }
    }

    fn harvest(mut self) -> Harvest {
        for client in self.clients.iter_mut().filter(|c| !c.gone) {
            client.link.outbox().extend_from_slice(&DISCONNECT);
            // Whether the broker still listens makes no difference to one who goes.
            let _gone = client.link.flush();
        }
        let (mut publishers, mut receivers) = (Vec::new(), Vec::new());
        for client in self.clients {
            publishers.extend(client.publisher);
            receivers.extend(client.receiver);
        }
        Harvest {
            books: self.books,
            publishers,
            receivers,
            busy: self.busy,
        }
    }
}

fn share_of_time(cpu: Duration, wall_nanos: u64) -> f64 {
    cpu.as_secs_f64() / Duration::from_nanos(wall_nanos).as_secs_f64().max(1e-9)
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
