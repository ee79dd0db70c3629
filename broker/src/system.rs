//! The statistics under `$SYS/broker/`, with mosquitto's names where mosquitto has them.
//!
//! Values go to every shard, which keeps the last one for those who subscribe later. They are not
//! stored, and nothing is decided by them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::journal::Journal;
use tidings_core::shard::Input;
use tidings_core::state::State;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::counters::Counters;
use crate::shard::{Mailboxes, Report, ShardThread};

/// Sets values of the `$SYS` tree.
#[derive(Clone)]
pub(crate) struct SystemValues {
    mailboxes: Mailboxes,
}

impl SystemValues {
    pub fn new(mailboxes: Mailboxes) -> Self {
        Self { mailboxes }
    }

    pub fn set(&self, topic: &str, payload: Bytes) {
        let topic: Arc<str> = topic.into();
        self.mailboxes.broadcast(|| Input::System {
            topic: topic.clone(),
            payload: payload.clone(),
        });
    }
}

/// Where the numbers come from.
pub(crate) struct Sources {
    pub clock: Clock,
    pub threads: Vec<Arc<ShardThread>>,
    pub journal: Arc<dyn Journal>,
    pub state: Arc<dyn State>,
    pub counters: Arc<Counters>,
}

/// One number, as it is told to Prometheus.
pub(crate) struct Figure {
    pub name: &'static str,
    pub help: &'static str,
    /// It counts from the start of the broker, and never falls.
    pub only_grows: bool,
    pub value: u64,
}

/// Publishes all statistics `every` so often, for ever.
pub(crate) async fn publish(every: Duration, sources: Arc<Sources>, values: SystemValues) {
    values.set(
        "$SYS/broker/version",
        Bytes::from(concat!("tidings ", env!("CARGO_PKG_VERSION"))),
    );
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut most_connected = 0;
    loop {
        ticks.tick().await;
        for (name, value) in sources.numbers(&mut most_connected) {
            values.set(
                &format!("$SYS/broker/{name}"),
                Bytes::from(value.to_string()),
            );
        }
        let uptime = format!("{} seconds", sources.clock.uptime_s());
        values.set("$SYS/broker/uptime", Bytes::from(uptime));
    }
}

impl Sources {
    /// Everything that is counted, now.
    pub fn figures(&self) -> Vec<Figure> {
        let reports: Vec<Report> = self.threads.iter().map(|thread| thread.report()).collect();
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
        let counted = |name, help, value| Figure {
            name,
            help,
            only_grows: true,
            value,
        };
        let now = |name, help, value| Figure {
            name,
            help,
            only_grows: false,
            value,
        };
        let counters = &self.counters;
        let (journal_end, journal_start) = (self.journal.end().0, self.journal.start().0);
        // Shards report each quarter of a second: the journal may have gone on since.
        let behind = reports
            .iter()
            .map(|report| journal_end.saturating_sub(report.position.0));
        vec![
            now(
                "connections",
                "Clients that are online",
                sum(|r| r.stats.connections),
            ),
            counted(
                "connections_opened",
                "Clients that came online",
                sum(|r| r.stats.connections_total),
            ),
            counted(
                "sockets_accepted",
                "Sockets that were accepted",
                counters.accepted.get(),
            ),
            counted(
                "clients_refused",
                "CONNECTs that were refused, and peers without one",
                counters.refused.get(),
            ),
            counted(
                "sockets_turned_away",
                "Sockets closed at once: too many were in their handshake",
                counters.turned_away.get(),
            ),
            now(
                "subscriptions",
                "Subscriptions of clients that are online",
                sum(|r| r.stats.subscriptions),
            ),
            now(
                "retained_messages",
                "Retained messages",
                self.state.retained_count(),
            ),
            counted(
                "messages_received",
                "PUBLISH packets from clients",
                sum(|r| r.stats.messages_received),
            ),
            counted(
                "messages_sent",
                "PUBLISH packets to clients",
                sum(|r| r.stats.messages_sent),
            ),
            counted(
                "messages_kept",
                "Messages that went to the journal",
                sum(|r| r.stats.messages_kept),
            ),
            counted(
                "messages_dropped_output_full",
                "QoS 0 messages dropped at a full output",
                sum(|r| r.stats.dropped_output_full),
            ),
            counted(
                "messages_dropped_unwanted",
                "Messages that had expired, or were too large for their receiver",
                sum(|r| r.stats.dropped_unwanted),
            ),
            counted(
                "publishes_refused",
                "Publishes refused by a topic rule",
                sum(|r| r.stats.refused_publishes),
            ),
            counted(
                "protocol_errors",
                "Connections closed for a protocol error",
                sum(|r| r.stats.protocol_errors),
            ),
            counted(
                "sessions_lagged",
                "How often a session began to lag",
                sum(|r| r.stats.lagged),
            ),
            now(
                "sessions_lagging",
                "Sessions that read on from the journal",
                sum(|r| r.stats.lagging),
            ),
            counted(
                "bytes_received",
                "Bytes of MQTT from clients",
                sum(|r| r.bytes_received),
            ),
            counted(
                "bytes_sent",
                "Bytes of MQTT to clients",
                sum(|r| r.bytes_sent),
            ),
            now(
                "journal_start_offset",
                "First offset from which nothing is missing",
                journal_start,
            ),
            now(
                "journal_end_offset",
                "Offset of the next entry",
                journal_end,
            ),
            now(
                "state_applied_offset",
                "Offset up to which the journal is in the state",
                self.state.applied().0,
            ),
            now(
                "shard_behind_entries",
                "Entries of the journal that the slowest shard has not handled",
                behind.max().unwrap_or(0),
            ),
        ]
    }

    fn numbers(&self, most_connected: &mut u64) -> Vec<(&'static str, u64)> {
        let reports: Vec<Report> = self.threads.iter().map(|thread| thread.report()).collect();
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
        let connected = sum(|report| report.stats.connections);
        *most_connected = connected.max(*most_connected);
        vec![
            ("clients/connected", connected),
            ("clients/maximum", *most_connected),
            (
                "clients/total",
                sum(|report| report.stats.connections_total),
            ),
            ("clients/lagging", sum(|report| report.stats.lagging)),
            ("clients/refused", self.counters.refused.get()),
            ("clients/turned away", self.counters.turned_away.get()),
            ("connections/accepted", self.counters.accepted.get()),
            (
                "messages/received",
                sum(|report| report.stats.messages_received),
            ),
            ("messages/sent", sum(|report| report.stats.messages_sent)),
            ("messages/kept", sum(|report| report.stats.messages_kept)),
            (
                "messages/refused",
                sum(|report| report.stats.refused_publishes),
            ),
            (
                "messages/dropped",
                sum(|report| report.stats.dropped_output_full + report.stats.dropped_unwanted),
            ),
            ("bytes/received", sum(|report| report.bytes_received)),
            ("bytes/sent", sum(|report| report.bytes_sent)),
            (
                "subscriptions/count",
                sum(|report| report.stats.subscriptions),
            ),
            ("retained messages/count", self.state.retained_count()),
            (
                "protocol errors",
                sum(|report| report.stats.protocol_errors),
            ),
            ("lagged", sum(|report| report.stats.lagged)),
            ("journal/start", self.journal.start().0),
            ("journal/end", self.journal.end().0),
            ("journal/applied", self.state.applied().0),
        ]
    }
}
