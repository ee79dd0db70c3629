//! Live traces: what one client, user, address or topic does, packet by packet, told to whoever asked while
//! they ask.
//!
//! Invariants: while nobody traces, the broker pays one relaxed load for each batch of bytes; a trace that is
//! not read in time loses lines, and says how many, but never holds anyone up; passwords and tokens are never
//! told, and payloads only if they were asked for.
//! This module does not know connections: threads of shards tell it what passes ([`packets`]).

pub(crate) mod packets;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_core::topic::{self, FilterKind, parse_filter};
use tokio::sync::mpsc;

use crate::metrics::Via;

/// Traces at one time: each costs work for every packet that passes.
pub const MAX_TRACES: usize = 16;

/// Lines that wait for who traces; more are dropped and counted.
pub const QUEUE: usize = 1000;

/// What is to be traced: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// A Client Identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// A user name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Packets about topics that match this filter, or that name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The address of peers, without a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Payloads are told, too, as far as they are short.
    pub payloads: bool,
}

/// Why a trace cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Everything would fit.
    #[error("say what to trace: a client, a user, a topic filter or an address")]
    Nothing,
    /// The filter cannot be read.
    #[error("the topic filter cannot be read")]
    BadFilter,
    /// There are [`MAX_TRACES`] already.
    #[error("too many traces at one time")]
    TooMany,
}

/// Whose packet passes.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub client_id: Arc<str>,
    pub user: Arc<str>,
    pub address: Option<IpAddr>,
    pub door: Via,
}

/// The traces that run.
#[derive(Debug, Default)]
pub(crate) struct Tracing {
    running: AtomicUsize,
    /// How often a trace began or ended.
    changes: AtomicU64,
    /// How often one began while there was none.
    times: AtomicU64,
    traces: RwLock<Vec<Arc<Trace>>>,
}

#[derive(Debug)]
struct Trace {
    wanted: Wanted,
    lines: mpsc::Sender<Value>,
    dropped: AtomicU64,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client.
    In,
    /// To the client.
    Out,
    /// Something that is no packet.
    Aside,
}

/// Something that happens to a subject.
pub(crate) struct Told<'a> {
    pub direction: Direction,
    /// What it is about, if that is a topic or are filters.
    pub topics: &'a [&'a str],
    pub fields: Value,
    pub payload: Option<&'a [u8]>,
}

impl Tracing {
    /// Whether anyone traces anything.
    pub fn is_on(&self) -> bool {
        self.running.load(Relaxed) != 0
    }

    /// Changes whenever a trace begins or ends.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Changes whenever there is a trace after there was none.
    pub fn times(&self) -> u64 {
        self.times.load(Relaxed)
    }

    /// Begins a trace, which ends when what is given is dropped.
    ///
    /// # Errors
    /// If there is nothing to trace, or too much.
    pub fn follow(self: &Arc<Self>, wanted: Wanted) -> Result<Following, TraceError> {
        if let Some(filter) = &wanted.topic {
            match parse_filter(filter) {
                Ok(FilterKind::Plain(_)) => {}
                _ => return Err(TraceError::BadFilter),
            }
        } else if wanted.client.is_none() && wanted.user.is_none() && wanted.address.is_none() {
            return Err(TraceError::Nothing);
        }
        let (sender, lines) = mpsc::channel(QUEUE);
        let trace = Arc::new(Trace {
            wanted,
            lines: sender,
            dropped: AtomicU64::new(0),
        });
        let mut traces = self.traces.write().unwrap_or_else(PoisonError::into_inner);
        if traces.len() >= MAX_TRACES {
            return Err(TraceError::TooMany);
        }
        if traces.is_empty() {
            self.times.fetch_add(1, Relaxed);
        }
        traces.push(trace.clone());
        self.running.store(traces.len(), Relaxed);
        self.changes.fetch_add(1, Relaxed);
        Ok(Following {
            tracing: self.clone(),
            trace,
            lines,
        })
    }

    /// Whether some trace may want what this one does.
    pub fn concerns(&self, subject: &Subject) -> bool {
        let traces = self.traces.read().unwrap_or_else(PoisonError::into_inner);
        traces.iter().any(|trace| trace.wanted.is_about(subject))
    }

    /// Tells those who want to know it.
    pub fn tell(&self, subject: &Subject, told: &Told<'_>) {
        let traces = self.traces.read().unwrap_or_else(PoisonError::into_inner);
        for trace in traces.iter() {
            if trace.wanted.is_about(subject) && trace.wanted.is_about_topics(told.topics) {
                let line = line(subject, told, trace.wanted.payloads);
                if trace.lines.try_send(line).is_err() {
                    trace.dropped.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

impl Wanted {
    fn is_about(&self, subject: &Subject) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&self.client, &subject.client_id)
            && is(&self.user, &subject.user)
            && self.address.is_none_or(|address| {
                subject.address.map(|found| found.to_canonical()) == Some(address.to_canonical())
            })
    }

    fn is_about_topics(&self, topics: &[&str]) -> bool {
        self.topic.as_ref().is_none_or(|wanted| {
            topics
                .iter()
                .any(|topic| *topic == wanted || topic::matches(wanted, topic))
        })
    }
}

fn line(subject: &Subject, told: &Told<'_>, with_payload: bool) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut line = json!({
        "ts": now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
        "direction": match told.direction {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Aside => "aside",
        },
        "client_id": &*subject.client_id,
        "user": &*subject.user,
        "door": subject.door.name(),
    });
    if let Some(address) = subject.address {
        line["address"] = address.to_string().into();
    }
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, &told.fields) {
        line.extend(fields.clone());
    }
    if let Some(payload) = told.payload.filter(|_| with_payload) {
        let (key, text) = packets::payload_text(payload);
        line[key] = text.into();
    }
    line
}

/// A trace, as long as it is followed.
#[derive(Debug)]
pub struct Following {
    tracing: Arc<Tracing>,
    trace: Arc<Trace>,
    lines: mpsc::Receiver<Value>,
}

impl Following {
    /// The next line; nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Value {
        let dropped = self.trace.dropped.swap(0, Relaxed);
        if dropped > 0 {
            return json!({ "dropped": dropped });
        }
        // The sender is in `self`.
        self.lines.recv().await.unwrap_or_default()
    }

    /// A line that is there already.
    pub fn try_next(&mut self) -> Option<Value> {
        self.lines.try_recv().ok()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let tracing = &self.tracing;
        let mut traces = tracing
            .traces
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        traces.retain(|trace| !Arc::ptr_eq(trace, &self.trace));
        tracing.running.store(traces.len(), Relaxed);
        tracing.changes.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(client_id: &str, user: &str) -> Subject {
        Subject {
            client_id: client_id.into(),
            user: user.into(),
            address: "192.0.2.7".parse().ok(),
            door: Via::Tcp,
        }
    }

    fn packet<'a>(topics: &'a [&'a str]) -> Told<'a> {
        Told {
            direction: Direction::In,
            topics,
            fields: json!({ "packet": "PUBLISH" }),
            payload: Some(b"secret"),
        }
    }

    #[test]
    fn only_what_was_asked_for_is_told_and_payloads_only_if_they_were() {
        let tracing = Arc::<Tracing>::default();
        assert!(!tracing.is_on());
        let wanted = |wanted: Wanted| tracing.follow(wanted).unwrap();
        let mut by_user = wanted(Wanted {
            user: Some("ann".to_owned()),
            ..Wanted::default()
        });
        let mut by_topic = wanted(Wanted {
            topic: Some("chat/+/ann".to_owned()),
            payloads: true,
            ..Wanted::default()
        });
        let mut by_both = wanted(Wanted {
            client: Some("phone".to_owned()),
            address: "::ffff:192.0.2.7".parse().ok(),
            ..Wanted::default()
        });
        assert!(tracing.is_on());
        tracing.tell(&subject("phone", "ann"), &packet(&["chat/x/ann"]));
        tracing.tell(&subject("laptop", "ann"), &packet(&["chat/x/ben"]));
        tracing.tell(&subject("phone", "ben"), &packet(&[]));
        let count = |following: &mut Following| {
            std::iter::from_fn(|| following.try_next()).collect::<Vec<_>>()
        };
        let told = count(&mut by_user);
        assert_eq!(told.len(), 2);
        assert!(!told[0].to_string().contains("secret"));
        let told = count(&mut by_topic);
        assert_eq!((told.len(), &told[0]["payload"]), (1, &json!("secret")));
        assert_eq!(count(&mut by_both).len(), 2);
        drop((by_user, by_topic, by_both));
        assert!(!tracing.is_on());
    }

    #[tokio::test]
    async fn a_trace_that_is_not_read_loses_lines_and_says_so() {
        let tracing = Arc::<Tracing>::default();
        let wanted = Wanted {
            user: Some("ann".to_owned()),
            ..Wanted::default()
        };
        let mut following = tracing.follow(wanted).unwrap();
        for _ in 0..QUEUE + 5 {
            tracing.tell(&subject("phone", "ann"), &packet(&[]));
        }
        assert_eq!(following.next().await, json!({ "dropped": 5 }));
        assert_eq!(following.next().await["packet"], "PUBLISH");
    }

    #[test]
    fn a_trace_of_everything_and_too_many_are_refused() {
        let tracing = Arc::<Tracing>::default();
        let of = |topic: &str| Wanted {
            topic: Some(topic.to_owned()),
            ..Wanted::default()
        };
        assert_eq!(
            tracing.follow(Wanted::default()).err(),
            Some(TraceError::Nothing)
        );
        assert_eq!(
            tracing.follow(of("a/#/b")).err(),
            Some(TraceError::BadFilter)
        );
        let all: Vec<_> = (0..MAX_TRACES).map(|_| tracing.follow(of("#"))).collect();
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(tracing.follow(of("#")).err(), Some(TraceError::TooMany));
    }
}
