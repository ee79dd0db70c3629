//! One simulated sensor: takes readings at its pace, publishes them, obeys commands.
//!
//! The sensor is one task. Readings go through an [`Outbox`], so taking them does not depend on
//! being connected, and each is counted once. It says `online` (retained) on `device/{device}/state`
//! at each connection, `offline` when it leaves, and leaves `offline` as its Will Message for the
//! case that it cannot.
//!
//! Commands, on `device/{device}/command/#`:
//! * `interval` with a time span (`500ms`) or a number of milliseconds changes the pace;
//! * `identify` is answered on `device/{device}/telemetry/identify` with a JSON description.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::connection::{self, Backoff, Events, Happening, Identity, Requests};
use crate::outbox::{Outbox, Outgoing, Written};
use crate::report::{Count, Score};
use crate::scenario::{Behaviour, End};
use crate::time_span;
use crate::walk::{Noise, TemperatureWalk};

/// Readings kept while the broker is away, per sensor: 17 minutes of one a second.
const OUTBOX_CAPACITY: usize = 1_000;
/// How long a polite DISCONNECT may take before the socket is simply closed.
const GOODBYE: Duration = Duration::from_secs(2);

/// A sensor that was held up for longer than this goes on from now: no burst of stale readings.
const MAX_CATCH_UP: Duration = Duration::from_secs(1);

/// A reading as published, in JSON.
#[derive(Serialize)]
struct Reading<'a> {
    /// 1, 2, 3, ... for this device and run.
    seq: u64,
    /// Milliseconds since the Unix epoch.
    ts: u64,
    celsius: f64,
    /// Filler up to the size asked for.
    #[serde(skip_serializing_if = "str::is_empty")]
    pad: &'a str,
}

#[derive(Serialize)]
struct Identification<'a> {
    device: &'a str,
    readings: u64,
    interval_ms: u64,
}

/// A simulated sensor, not yet running.
pub struct Sensor {
    behaviour: Behaviour,
    identity: Identity,
    reading_topic: String,
    command_prefix: String,
    score: Arc<Score>,
    outbox: Outbox,
    walk: TemperatureWalk,
    noise: Noise,
    taken: u64,
    pace: Pace,
    phase: Phase,
    link: Link,
}

/// When readings are due. What "due" means is independent of how long publishing takes, so the
/// rate holds.
struct Pace {
    interval: Duration,
    /// Where the next reading would be without jitter.
    base: Instant,
    due: Instant,
    /// No reading is taken from here on.
    end: Option<Instant>,
}

/// What the sensor remembers of its connection.
struct Link {
    online: bool,
    connections: u64,
    backoff: Backoff,
    /// To be waited for before the next attempt.
    pause: Duration,
}

/// Where the sensor stands between being started and being gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Measuring,
    /// No more readings; waiting for acknowledgements until the given time.
    Draining(Instant),
    /// DISCONNECT is on its way.
    Leaving(Instant),
}

impl Sensor {
    /// A sensor called `device`; `seed` decides its readings and its jitter.
    pub fn new(behaviour: Behaviour, device: &str, seed: u64, score: Arc<Score>) -> Self {
        Self {
            reading_topic: behaviour.topic.replace("{device}", device),
            command_prefix: format!("device/{device}/command/"),
            identity: Identity {
                device: device.to_owned(),
                state_topic: format!("device/{device}/state"),
            },
            score,
            outbox: Outbox::new(usize::from(behaviour.inflight), OUTBOX_CAPACITY),
            walk: TemperatureWalk::new(seed),
            noise: Noise::new(!seed),
            taken: 0,
            pace: Pace {
                interval: behaviour.interval,
                base: Instant::now(),
                due: Instant::now(),
                end: None,
            },
            phase: Phase::Measuring,
            link: Link {
                online: false,
                connections: 0,
                backoff: Backoff::new(),
                pause: Duration::ZERO,
            },
            behaviour,
        }
    }

    /// Runs until the scenario's end or until `stop` turns true, then drains and disconnects.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (requests, mut events) = connection::open(&self.behaviour, &self.identity);
        self.pace.base = Instant::now();
        self.pace.due = self.pace.base + self.jitter();
        if let End::After(duration) = self.behaviour.end {
            self.pace.end = Some(self.pace.base + duration);
        }
        while let Some(happening) = self.wait(&requests, &mut events, &mut stop).await {
            if self.handle(happening, &requests).is_break() {
                break;
            }
        }
        if self.link.online {
            self.score.subtract(Count::Online);
        }
    }

    /// Takes readings and hands messages over until something happens on the connection; `None`
    /// when there is nothing left to wait for.
    async fn wait(
        &mut self,
        requests: &Requests,
        events: &mut Events,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<Happening> {
        let usable = self.link.online && events.is_usable();
        let pause = std::mem::take(&mut self.link.pause);
        let next = async {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            events.next().await
        };
        tokio::pin!(next);
        loop {
            if self.phase == Phase::Measuring && self.is_done() {
                self.drain();
            }
            if let Phase::Draining(until) = self.phase
                && self.outbox.is_empty()
            {
                if !usable || !requests.disconnect() {
                    return None;
                }
                self.phase = Phase::Leaving(until.min(Instant::now() + GOODBYE));
            }
            if usable {
                self.hand_over(requests);
            }
            let measuring = self.phase == Phase::Measuring;
            tokio::select! {
                happening = &mut next => return Some(happening),
                () = self.pace.next_event(), if measuring => self.take_reading_if_due(),
                () = stopped(stop), if measuring => self.drain(),
                () = self.phase.deadline(), if !measuring => return None,
            }
        }
    }

    fn handle(&mut self, happening: Happening, requests: &Requests) -> ControlFlow<()> {
        match happening {
            Happening::Connected { session_present } => self.connected(requests, session_present),
            Happening::Lost { reason } => return self.lost(&reason),
            Happening::DisconnectWritten => return ControlFlow::Break(()),
            Happening::Written { packet_id } => self.written(packet_id),
            Happening::Settled { packet_id, refused } => self.settled(packet_id, refused),
            Happening::Message { topic, payload } => self.command(&topic, &payload),
        }
        ControlFlow::Continue(())
    }

    fn is_done(&self) -> bool {
        match self.behaviour.end {
            End::Count(count) => self.taken >= count,
            End::After(_) | End::Never => self.pace.end.is_some_and(|end| Instant::now() >= end),
        }
    }

    fn drain(&mut self) {
        self.notice(self.identity.state_topic.clone(), true, b"offline".to_vec());
        self.phase = Phase::Draining(Instant::now() + self.behaviour.drain);
    }

    /// Even around the jitter itself: readings come up to that much before or after their mean.
    fn jitter(&mut self) -> Duration {
        let jitter = self.behaviour.jitter;
        self.noise.around(jitter, jitter)
    }

    fn take_reading_if_due(&mut self) {
        let Pace { due, end, .. } = self.pace;
        if due > Instant::now() || end.is_some_and(|end| due >= end) {
            return;
        }
        self.take_reading();
        self.pace.advance();
        self.pace.due = self.pace.base + self.jitter();
    }

    fn take_reading(&mut self) {
        self.taken += 1;
        self.score.add(Count::Taken);
        let payload = reading_payload(
            self.taken,
            self.walk.next_celsius(),
            self.behaviour.payload_bytes,
        );
        let dropped = self.outbox.push(Outgoing {
            topic: self.reading_topic.clone(),
            payload,
            qos: self.behaviour.qos,
            retain: false,
            taken: std::time::Instant::now(),
            is_reading: true,
        });
        if dropped.is_some() {
            self.score.add(Count::Dropped);
        }
    }

    /// Queues something that is not a reading; always QoS 1.
    fn notice(&mut self, topic: String, retain: bool, payload: Vec<u8>) {
        let dropped = self.outbox.push(Outgoing {
            topic,
            payload,
            qos: 1,
            retain,
            taken: std::time::Instant::now(),
            is_reading: false,
        });
        if dropped.is_some_and(|m| m.is_reading) {
            self.score.add(Count::Dropped);
        }
    }

    fn hand_over(&mut self, requests: &Requests) {
        while let Some(message) = self.outbox.hand_over() {
            let Outgoing {
                topic,
                qos,
                retain,
                payload,
                ..
            } = message;
            if !requests.publish(topic, *qos, *retain, payload.clone()) {
                self.outbox.take_back();
                return;
            }
        }
    }

    fn connected(&mut self, requests: &Requests, session_present: bool) {
        self.link.online = true;
        self.link.connections += 1;
        self.link.backoff.reset();
        self.score.add(Count::Connects);
        self.score.add(Count::Online);
        if self.link.connections > 1 {
            self.score.add(Count::Reconnects);
        }
        debug!(device = %self.identity.device, session_present, "connected");
        if !session_present {
            self.outbox.session_lost();
        }
        // Subscribing again changes nothing in a session that is still there.
        if !requests.subscribe(&format!("{}#", self.command_prefix)) {
            warn!(device = %self.identity.device, "no room for the subscription, commands are missed");
        }
        if self.phase == Phase::Measuring {
            self.notice(self.identity.state_topic.clone(), true, b"online".to_vec());
        }
    }

    fn lost(&mut self, reason: &str) -> ControlFlow<()> {
        if std::mem::take(&mut self.link.online) {
            self.score.subtract(Count::Online);
            info!(device = %self.identity.device, reason, "connection lost");
        } else {
            self.score.add(Count::FailedConnects);
            debug!(device = %self.identity.device, reason, "cannot connect");
        }
        if matches!(self.phase, Phase::Leaving(_)) {
            return ControlFlow::Break(());
        }
        self.link.pause = self.link.backoff.next(&mut self.noise);
        ControlFlow::Continue(())
    }

    fn written(&mut self, packet_id: u16) {
        match self.outbox.written(packet_id) {
            Written::First { is_reading: true } => self.score.add(Count::Sent),
            Written::First { is_reading: false } | Written::Again => {}
            Written::Unknown => {
                self.score.add(Count::Unexpected);
                warn!(device = %self.identity.device, packet_id, "a PUBLISH left that nobody asked for");
            }
        }
    }

    fn settled(&mut self, packet_id: u16, refused: Option<String>) {
        let Some(message) = self.outbox.settled(packet_id) else {
            return;
        };
        match refused {
            Some(reason) => {
                info!(device = %self.identity.device, topic = message.topic, reason, "refused");
                if message.is_reading {
                    self.score.add(Count::Refused);
                }
            }
            None if message.is_reading => self.score.acknowledged_after(message.taken.elapsed()),
            None => {}
        }
    }

    fn command(&mut self, topic: &str, payload: &[u8]) {
        let Some(name) = topic.strip_prefix(&self.command_prefix) else {
            return;
        };
        self.score.add(Count::Commands);
        let device = self.identity.device.clone();
        match name {
            "interval" => match parse_interval(payload) {
                Ok(interval) => {
                    info!(device, ?interval, "new interval");
                    self.pace.change(interval);
                }
                Err(message) => info!(device, message, "interval command not understood"),
            },
            "identify" => {
                info!(device, "identify");
                let answer = Identification {
                    device: &device,
                    readings: self.taken,
                    interval_ms: u64::try_from(self.pace.interval.as_millis()).unwrap_or(u64::MAX),
                };
                let payload = serde_json::to_vec(&answer).unwrap_or_default();
                self.notice(
                    format!("device/{device}/telemetry/identify"),
                    false,
                    payload,
                );
            }
            other => debug!(device, other, "unknown command"),
        }
    }
}

impl Pace {
    /// The next reading, or the end if that comes first.
    fn next_event(&self) -> tokio::time::Sleep {
        sleep_until(self.end.map_or(self.due, |end| end.min(self.due)))
    }

    /// The rate holds through short delays; what lies further back is given up.
    fn advance(&mut self) {
        let next = self.base + self.interval;
        let now = Instant::now();
        let too_late = now.saturating_duration_since(next) > MAX_CATCH_UP;
        self.base = if too_late { now } else { next };
    }

    /// A new pace counts from now, not from the reading that was to come.
    fn change(&mut self, interval: Duration) {
        self.interval = interval;
        self.base = Instant::now() + interval;
        self.due = self.base;
    }
}

impl Phase {
    async fn deadline(self) {
        match self {
            Self::Measuring => std::future::pending().await,
            Self::Draining(until) | Self::Leaving(until) => sleep_until(until).await,
        }
    }
}

/// Ends when stopping is asked for; a sender that is gone asks for it too.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can ask any more, which is the same as being asked.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn parse_interval(payload: &[u8]) -> Result<Duration, String> {
    let text = std::str::from_utf8(payload)
        .map_err(|e| e.to_string())?
        .trim();
    let interval = match text.parse::<u64>() {
        Ok(millis) => Duration::from_millis(millis),
        Err(_) => time_span::parse(text)?,
    };
    let allowed = Behaviour::MIN_INTERVAL..=Duration::from_secs(24 * 3600);
    if allowed.contains(&interval) {
        Ok(interval)
    } else {
        Err(format!(
            "{interval:?} is out of range, 1ms to 24h is allowed"
        ))
    }
}

fn reading_payload(seq: u64, celsius: f64, at_least: usize) -> Vec<u8> {
    let ts = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let encode = |pad: &str| {
        serde_json::to_vec(&Reading {
            seq,
            ts,
            celsius,
            pad,
        })
        .unwrap_or_default()
    };
    let bare = encode("");
    if bare.len() >= at_least {
        return bare;
    }
    // `,"pad":""` takes nine bytes; one filler byte at least, or the field would be left out.
    let filler = at_least.saturating_sub(bare.len() + 9).max(1);
    encode(&".".repeat(filler))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_json_and_padded_to_the_size_asked_for() {
        for size in [0, 60, 64, 256, 5_000] {
            let payload = reading_payload(7, 21.5, size);
            assert!(payload.len() >= size);
            if size >= 64 {
                assert_eq!(payload.len(), size);
            }
            let json: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
            assert_eq!(
                (json["seq"].as_u64(), json["celsius"].as_f64()),
                (Some(7), Some(21.5))
            );
            assert!(json["ts"].as_u64().is_some_and(|ts| ts > 1_600_000_000_000));
        }
    }

    #[test]
    fn the_interval_command_takes_milliseconds_or_a_time_span_within_bounds() {
        assert_eq!(parse_interval(b"250"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_interval(b" 2s\n"), Ok(Duration::from_secs(2)));
        for bad in [&b"0"[..], b"", b"\xff", b"soon", b"25h", b"-5"] {
            assert!(parse_interval(bad).is_err(), "{bad:?}");
        }
    }
}
