//! Where the figures come from, and which there are.

use std::sync::Arc;

use tidings_core::histogram::Histogram;
use tidings_core::journal::Journal;
use tidings_core::limits::{Hits, Limit};
use tidings_core::state::State;

use super::{Distribution, Figure, Kind, Latencies, Survey, Surveyor, Via, by_door};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::limits::Limits;
use crate::shard::{Report, ShardThread};
use crate::store;
use crate::tls::Front;

/// See the module.
pub(crate) struct Sources {
    pub clock: Clock,
    pub threads: Vec<Arc<ShardThread>>,
    pub journal: Arc<dyn Journal>,
    pub state: Arc<dyn State>,
    pub counters: Arc<Counters>,
    pub store: store::Probe,
    pub surveyor: Surveyor,
    pub tls: Option<Arc<Front>>,
    pub limits: Arc<Limits>,
}

/// What all threads told at one instant, and what was found in the store.
pub(crate) struct Gathered {
    pub reports: Vec<Report>,
    pub latencies: Latencies,
    pub store: store::Figures,
    pub survey: Survey,
    pub journal_start: u64,
    pub journal_end: u64,
    pub uptime_s: u64,
}

impl Gathered {
    /// A number of all shards together.
    pub fn sum(&self, of: impl Fn(&Report) -> u64) -> u64 {
        self.reports.iter().map(of).sum()
    }

    /// Connections, in the order of [`Via::ALL`].
    pub fn at_doors(&self) -> Vec<(&'static str, u64)> {
        let count = |via: Via| {
            self.sum(|report| report.connections.get(via as usize).copied().unwrap_or(0))
        };
        let doors = Via::ALL.into_iter();
        doors.map(|via| (via.name(), count(via))).collect()
    }

    /// Messages that did not reach a receiver, by cause.
    pub fn dropped(&self) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for report in &self.reports {
            for (place, (cause, count)) in Sources::dropped(report).into_iter().enumerate() {
                match sums.get_mut(place) {
                    Some(sum) => sum.1 += count,
                    None => sums.push((cause, count)),
                }
            }
        }
        sums
    }

    /// Entries of the journal that the slowest session, here or away, has not read.
    pub fn backlog_entries(&self) -> u64 {
        let connected = self
            .reports
            .iter()
            .filter_map(|report| report.lowest_reader);
        let lowest = connected.chain(self.survey.lowest_position).min();
        lowest.map_or(0, |lowest| self.journal_end.saturating_sub(lowest.0))
    }

    /// Entries of the journal that the slowest shard has not handled.
    pub fn behind(&self) -> u64 {
        // Shards report each quarter of a second: the journal may have gone on since.
        let positions = self.reports.iter().map(|report| report.position.0);
        positions
            .min()
            .map_or(0, |lowest| self.journal_end.saturating_sub(lowest))
    }
}

impl Sources {
    /// What a shard dropped, by cause.
    pub fn dropped(report: &Report) -> [(&'static str, u64); 4] {
        [
            ("output_full", report.stats.dropped_output_full),
            ("expired", report.stats.dropped_expired),
            ("too_large", report.stats.dropped_too_large),
            ("denied", report.stats.dropped_denied),
        ]
    }

    /// How often each limit was reached.
    pub fn hits(&self) -> Hits {
        let mut hits = self.limits.hits();
        for thread in &self.threads {
            hits.absorb(&thread.report().stats.hits);
        }
        hits
    }

    /// Everything at this instant. Reads the disk: not for a thread that serves others.
    pub fn gather(&self) -> Gathered {
        let reports: Vec<Report> = self.threads.iter().map(|thread| thread.report()).collect();
        let mut latencies = Latencies::default();
        reports
            .iter()
            .for_each(|report| latencies.add(&report.latencies));
        Gathered {
            reports,
            latencies,
            store: (self.store)(),
            survey: self.surveyor.survey(),
            journal_start: self.journal.start().0,
            journal_end: self.journal.end().0,
            uptime_s: self.clock.uptime_s(),
        }
    }

    /// Everything that is counted.
    pub fn figures(&self, now: &Gathered) -> Vec<Figure> {
        let (counted, is) = (Figure::counter, Figure::gauge);
        let counters = &self.counters;
        let (store, survey) = (&now.store, &now.survey);
        let sum = |of: fn(&Report) -> u64| now.sum(of);
        let hits = self.hits();
        let limits = Limit::ALL.iter();
        let limits = limits.map(|limit| (limit.name(), hits.of(*limit)));
        vec![
            is(
                "connections",
                "Clients that are online",
                sum(|r| r.stats.connections),
            ),
            Figure::by(
                Kind::Gauge,
                "connections_by_door",
                "Connections and sessions in memory, by how they came",
                "door",
                now.at_doors(),
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
                "client_ids_refused",
                "CONNECTs with the Client Identifier of another user's session, or with a device's name",
                counters.refused_client_ids.get() + sum(|r| r.stats.refused_client_ids),
            ),
            counted(
                "tls_handshakes",
                "Connections on which TLS was agreed on",
                counters.tls_agreed.get(),
            ),
            counted(
                "tls_handshakes_failed",
                "Connections on which it was not",
                counters.tls_failed.get(),
            ),
            is(
                "tls_certificate_seconds_left",
                "Until the first of the listeners' certificates ends; 0 without TLS as well",
                self.tls.as_ref().map_or(0, |tls| tls.seconds_left()),
            ),
            counted(
                "sockets_turned_away",
                "Sockets closed at once: too many were in their handshake",
                counters.turned_away.get(),
            ),
            is(
                "subscriptions",
                "Subscriptions of clients that are online",
                sum(|r| r.stats.subscriptions),
            ),
            is(
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
            Figure::by(
                Kind::Counter,
                "messages_dropped",
                "Messages that did not reach a receiver, by cause",
                "cause",
                now.dropped(),
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
            counted(
                "sessions_trimmed",
                "How often entries were trimmed that a session had not read",
                sum(|r| r.stats.trimmed),
            ),
            is(
                "sessions_lagging",
                "Sessions that read on from the journal",
                sum(|r| r.stats.lagging),
            ),
            is(
                "sessions_persistent",
                "Sessions that outlive their connection",
                survey.persistent_sessions,
            ),
            is(
                "sessions_offline",
                "Of these, sessions without one now",
                survey.offline_sessions,
            ),
            is(
                "backlog_entries",
                "Entries of the journal that the slowest session, online or not, has not read",
                now.backlog_entries(),
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
            is(
                "journal_start_offset",
                "First offset from which nothing is missing",
                now.journal_start,
            ),
            is(
                "journal_end_offset",
                "Offset of the next entry",
                now.journal_end,
            ),
            is("journal_segments", "Segment files", store.segments),
            is(
                "journal_stored_bytes",
                "Bytes of all entries in them",
                store.stored_bytes,
            ),
            is(
                "journal_disk_bytes",
                "Bytes of the segment files, with what is preallocated",
                store.disk_bytes,
            ),
            is(
                "journal_queued_bytes",
                "Bytes that were handed to the journal and did not come back yet",
                store.queued_bytes,
            ),
            is(
                "disk_free_bytes",
                "Bytes that the file system of the data directory has left",
                survey.disk_free_bytes,
            ),
            is(
                "disk_size_bytes",
                "Bytes of that file system",
                survey.disk_bytes,
            ),
            is(
                "state_applied_offset",
                "Offset up to which the journal is in the state",
                self.state.applied().0,
            ),
            is(
                "shard_behind_entries",
                "Entries of the journal that the slowest shard has not handled",
                now.behind(),
            ),
            Figure::by(
                Kind::Counter,
                "limit_hits",
                "How often a limit was reached",
                "limit",
                limits.collect(),
            ),
            is(
                "sessions_slow",
                "Sessions that are behind for a second or longer",
                sum(|r| r.stats.slow),
            ),
            is(
                "retained_bytes",
                "Topics and payloads of retained messages",
                self.state.retained_bytes(),
            ),
            is(
                "memory_resident_bytes",
                "Memory of the process",
                self.limits.pressure.resident_bytes(),
            ),
            counted(
                "connections_shed",
                "Slow clients that were cut off because memory was scarce",
                self.limits.pressure.shed(),
            ),
            is(
                "bans",
                "Bans that count",
                self.limits.bans.list(self.clock.now().unix_ms).len() as u64,
            ),
            is("uptime_seconds", "Since the start", now.uptime_s),
        ]
    }

    /// Everything that is measured.
    pub fn distributions(&self, now: &Gathered) -> Vec<Distribution> {
        let commits = &now.store.commits;
        let one = |histogram: &Histogram| vec![("", histogram.clone())];
        vec![
            Distribution::of_time(
                "publish_acknowledged_seconds",
                "From the read of a PUBLISH to the write of its PUBACK or PUBREC, by the publisher's door; \
                 of at most a thousand messages a second in each shard",
                "door",
                by_door(&now.latencies.acknowledged),
            ),
            Distribution::of_time(
                "publish_delivered_seconds",
                "From the read of a PUBLISH to the write of its last delivery in a shard, by that \
                 receiver's door, without receivers that lag; of the same messages",
                "door",
                by_door(&now.latencies.delivered),
            ),
            Distribution::of_time(
                "journal_sync_seconds",
                "How long the disk took to have a group commit",
                "",
                one(&commits.sync_us),
            ),
            Distribution::of_size(
                "journal_batch_entries",
                "Entries of a group commit",
                commits.batch_entries.clone(),
            ),
            Distribution::of_size(
                "journal_batch_bytes",
                "Bytes of a group commit, roughly",
                commits.batch_bytes.clone(),
            ),
        ]
    }
}
