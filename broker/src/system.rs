//! The statistics under `$SYS/broker/`, with mosquitto's names where mosquitto has them.
//!
//! Values go to every shard, which keeps the last one for those who subscribe later. They are not
//! stored, and nothing is decided by them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::limits::Limit;
use tidings_core::shard::Input;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::Sources;
use crate::shard::{Mailboxes, Report};

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
        let hits = sources.hits();
        for limit in Limit::ALL {
            values.set(
                &format!("$SYS/broker/limits/{}", limit.name()),
                Bytes::from(hits.of(*limit).to_string()),
            );
        }
        let uptime = format!("{} seconds", sources.clock.uptime_s());
        values.set("$SYS/broker/uptime", Bytes::from(uptime));
    }
}

impl Sources {
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
            ("clients/slow", sum(|report| report.stats.slow)),
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
                sum(|report| {
                    Sources::dropped(report)
                        .iter()
                        .map(|(_, count)| count)
                        .sum()
                }),
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
