//! Bringing clients up: connect, upgrade, CONNECT, SUBSCRIBE, a limited number at a time, so that no
//! broker's accept queue overflows. Nothing else happens meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::event::epoll;

use super::STALL;
use super::link::{Broken, Link, READ_BYTES};
use super::plan::ClientPlan;
use super::wire::{Packet, put_connect, put_subscribe};
use crate::bench::target::{Carrier, Target};

/// Clients on their way at once, of all threads together.
const UNDER_WAY: usize = 64;
/// Filters in one SUBSCRIBE.
const FILTERS_AT_ONCE: usize = 100;
/// Clients per source address, well below the 28,000 ports that Linux gives out.
const CLIENTS_PER_SOURCE: usize = 10_000;

/// Where a broker is reached, for the threads of the generator.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The broker's name, for messages.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What carries the packets.
    pub carrier: Carrier,
    /// Path of the WebSocket upgrade.
    pub websocket_path: String,
}

impl Endpoint {
    /// Where this broker is reached over this carrier.
    ///
    /// # Errors
    /// If it does not listen for that.
    pub fn of(target: &dyn Target, carrier: Carrier) -> anyhow::Result<Self> {
        let name = target.name().to_owned();
        let address = target
            .address(carrier)
            .with_context(|| format!("{name} has no listener for {carrier}"))?;
        Ok(Self {
            name,
            address,
            carrier,
            websocket_path: target.websocket_path().to_owned(),
        })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} ({})", self.name, self.address, self.carrier)
    }
}

/// A client that is up.
#[derive(Debug)]
pub struct Up {
    /// Its connection; what came after the last answer is still unparsed in it.
    pub link: Link,
    /// Whether the broker still had its session.
    pub session_present: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Upgrade,
    ConnAck,
    SubAck { asked: usize },
    Done,
}

impl Step {
    fn expected(self) -> &'static str {
        match self {
            Self::Connect => "the TCP connection",
            Self::Upgrade => "the answer to the WebSocket upgrade",
            Self::ConnAck => "CONNACK",
            Self::SubAck { .. } => "SUBACK",
            Self::Done => "nothing more",
        }
    }
}

struct Rising<'a> {
    plan: &'a ClientPlan,
    qos: u8,
    link: Link,
    step: Step,
    session_present: bool,
}

/// Brings all these clients up. `threads` share the limit of clients on their way.
///
/// # Errors
/// If the broker cannot be reached, refuses, closes or stalls; says which client expected what.
pub fn bring_up(
    plans: &[&ClientPlan],
    qos: u8,
    endpoint: &Endpoint,
    threads: usize,
) -> anyhow::Result<Vec<Up>> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut scratch = vec![0; READ_BYTES];
    let mut events: Vec<epoll::Event> = Vec::with_capacity(UNDER_WAY);
    let mut rising: Vec<Rising<'_>> = Vec::with_capacity(plans.len());
    let limit = (UNDER_WAY / threads.max(1)).max(1);
    let (mut done, mut last_progress) = (0, Instant::now());
    while done < plans.len() {
        while rising.len() - done < limit
            && let Some(&plan) = plans.get(rising.len())
        {
            let link = Link::open(
                endpoint.address,
                source(endpoint, rising.len()),
                endpoint.carrier,
            )
            .with_context(|| format!("{endpoint}: connecting client {}", rising.len()))?;
            epoll::add(
                &epoll,
                link.socket(),
                epoll::EventData::new_u64(rising.len() as u64),
                epoll::EventFlags::OUT,
            )?;
            rising.push(Rising {
                plan,
                qos,
                link,
                step: Step::Connect,
                session_present: false,
            });
        }
        events.clear();
        let tick = rustix::time::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        match epoll::wait(
            &epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&tick),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        for event in &events {
            let Some(client) = usize::try_from(event.data.u64())
                .ok()
                .and_then(|n| rising.get_mut(n))
            else {
                continue;
            };
            let before = client.step;
            client.advance(endpoint, &mut scratch).with_context(|| {
                format!(
                    "{endpoint}: client {} waited for {}",
                    client.plan.id,
                    before.expected()
                )
            })?;
            if client.step != before {
                last_progress = Instant::now();
            }
            if before == Step::Connect && client.step != before {
                epoll::modify(
                    &epoll,
                    client.link.socket(),
                    event.data,
                    epoll::EventFlags::IN,
                )?;
            }
            if client.step == Step::Done {
                epoll::delete(&epoll, client.link.socket())?;
                done += 1;
            }
        }
        if last_progress.elapsed() > STALL {
            let waiting = rising.iter().find(|r| r.step != Step::Done);
            let (id, expected) = waiting.map_or(("", ""), |r| (&r.plan.id, r.step.expected()));
            bail!(
                "{endpoint}: stalled with {done} of {} clients up: client {id} waits for {expected} since {} s",
                plans.len(),
                STALL.as_secs()
            );
        }
    }
    Ok(rising
        .into_iter()
        .map(|r| Up {
            link: r.link,
            session_present: r.session_present,
        })
        .collect())
}

/// On loopback each few thousand clients get a source address of their own, so that ports last.
fn source(endpoint: &Endpoint, client: usize) -> Option<IpAddr> {
    let group = u8::try_from(client / CLIENTS_PER_SOURCE).unwrap_or(u8::MAX);
    (endpoint.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && group > 0)
        .then(|| IpAddr::V4(Ipv4Addr::new(127, 0, 0, group.saturating_add(1))))
}

impl Rising<'_> {
    fn advance(&mut self, endpoint: &Endpoint, scratch: &mut [u8]) -> anyhow::Result<()> {
        match self.step {
            Step::Connect => {
                if let Some(error) = self.link.socket().take_error()? {
                    return Err(error.into());
                }
                if endpoint.carrier == Carrier::WebSocket {
                    self.link
                        .request_upgrade(&endpoint.address.to_string(), &endpoint.websocket_path);
                    self.step = Step::Upgrade;
                } else {
                    self.connect();
                }
            }
            Step::Upgrade => {
                if self.link.read_upgrade(scratch)? {
                    self.connect();
                }
            }
            Step::ConnAck | Step::SubAck { .. } => self.read_answers(scratch)?,
            Step::Done => {}
        }
        self.link.flush()?;
        Ok(())
    }

    fn connect(&mut self) {
        put_connect(self.link.outbox(), &self.plan.id, self.plan.session);
        self.step = Step::ConnAck;
    }

    fn read_answers(&mut self, scratch: &mut [u8]) -> anyhow::Result<()> {
        let filled = self.link.fill(scratch)?;
        let (plan, qos, step, present) = (
            self.plan,
            self.qos,
            &mut self.step,
            &mut self.session_present,
        );
        let mut refused = None;
        self.link.parse(scratch, filled, |packet, out| {
            match (packet, *step) {
                (
                    Packet::ConnAck {
                        session_present,
                        code: 0,
                    },
                    Step::ConnAck,
                ) => {
                    *present = session_present;
                    *step = subscribe(plan, 0, qos, out);
                }
                (Packet::ConnAck { code, .. }, Step::ConnAck) => {
                    refused = Some(format!("CONNACK refuses with code {code}"));
                }
                (
                    Packet::SubAck {
                        granted,
                        refused: 0,
                    },
                    Step::SubAck { asked },
                ) if granted > 0 => {
                    *step = subscribe(plan, asked, qos, out);
                }
                (
                    Packet::SubAck {
                        granted,
                        refused: no,
                    },
                    Step::SubAck { .. },
                ) => {
                    refused = Some(format!("SUBACK grants {granted} filters and refuses {no}"));
                }
                _ => {}
            }
            // What comes after the last answer belongs to the load.
            if *step == Step::Done || refused.is_some() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        match refused {
            Some(why) => bail!(why),
            None => Ok(()),
        }
    }
}

fn subscribe(plan: &ClientPlan, asked: usize, qos: u8, out: &mut Vec<u8>) -> Step {
    let next = plan.filters.iter().skip(asked).take(FILTERS_AT_ONCE);
    let more = next.len();
    if more == 0 {
        return Step::Done;
    }
    put_subscribe(out, 1, next.map(String::as_str), qos);
    Step::SubAck {
        asked: asked + more,
    }
}

/// Raises the limit of open files to what the system allows.
///
/// # Errors
/// If it stays below what so many connections need.
pub fn allow_connections(connections: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    let needed = connections as u64 + 100;
    if let Some(most) = limit.maximum
        && most < needed
    {
        bail!(
            "{connections} connections need {needed} open files, and the limit (ulimit -Hn) is {most}"
        );
    }
    Ok(())
}

/// Tells the broker that persistent sessions are of no more use, by taking them over as clean ones.
pub fn forget_sessions(plans: &[ClientPlan], endpoint: &Endpoint) {
    let clean: Vec<ClientPlan> = plans
        .iter()
        .map(|p| ClientPlan {
            session: super::wire::Session::Clean,
            filters: Vec::new(),
            ..p.clone()
        })
        .collect();
    // A broker that refuses keeps them; nothing of the measurement depends on it.
    if let Ok(ups) = bring_up(&clean.iter().collect::<Vec<_>>(), 0, endpoint, 1) {
        hang_up(ups);
    }
}

/// Ends connections as MQTT wants it.
pub fn hang_up(ups: Vec<Up>) {
    for mut up in ups {
        up.link.outbox().extend_from_slice(&super::wire::DISCONNECT);
        // Whether the broker still listens makes no difference to one who goes.
        let _gone: Result<bool, Broken> = up.link.flush();
    }
}
