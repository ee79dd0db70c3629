//! `[journal]` and `[state]`: what is on disk, and when it is sure to be there.

use serde::Deserialize;

use crate::reader::{Checks, Section};

/// `[journal]`: messages on disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Milliseconds between syncs with `durability = "interval"`.
    pub interval_ms: u64,
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// Bytes of one group commit.
    pub batch_max_bytes: usize,
    /// Bytes waiting for the writer; over it publishers are no longer read from.
    pub queue_max_bytes: usize,
    /// Bytes a session may lag behind in streams without history; older messages are trimmed.
    pub backlog_max_bytes: u64,
    /// Seconds a session may lag behind in streams without history.
    pub backlog_max_age_s: u64,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The message is on disk.
    #[default]
    Fsync,
    /// The message is on its way to the disk, and gets there within `interval_ms`.
    Interval,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            interval_ms: 100,
            segment_bytes: 67_108_864,
            batch_max_bytes: 4_194_304,
            queue_max_bytes: 16_777_216,
            backlog_max_bytes: 1_073_741_824,
            backlog_max_age_s: 2_592_000,
        }
    }
}

impl Section for Journal {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range(
            "interval_ms",
            self.interval_ms,
            1..=60_000,
            "what a power cut may take",
        );
        checks.range(
            "segment_bytes",
            self.segment_bytes,
            1_048_576..=4_294_967_296,
            "one file",
        );
        checks.range(
            "batch_max_bytes",
            self.batch_max_bytes as u64,
            4096..=1_073_741_824,
            "held in memory",
        );
        checks.range(
            "queue_max_bytes",
            self.queue_max_bytes as u64,
            4096..=17_179_869_184,
            "held in memory",
        );
        checks.range(
            "backlog_max_bytes",
            self.backlog_max_bytes,
            1_048_576..=1_125_899_906_842_624,
            "1 MiB to 1 PiB",
        );
        checks.range(
            "backlog_max_age_s",
            self.backlog_max_age_s,
            60..=3_153_600_000,
            "a minute to a century",
        );
        if self.batch_max_bytes as u64 > self.segment_bytes {
            checks.refuse(
                "batch_max_bytes",
                format_args!(
                    "a batch must fit into a segment ({} bytes)",
                    self.segment_bytes
                ),
            );
        }
    }
}

/// `[state]`: the indexed view of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Bytes of journal after which a snapshot is taken.
    pub snapshot_every_bytes: u64,
    /// Entries of journal after which a snapshot is taken.
    pub snapshot_every_entries: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            snapshot_every_bytes: 268_435_456,
            snapshot_every_entries: 1_000_000,
        }
    }
}

impl Section for State {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range(
            "snapshot_every_bytes",
            self.snapshot_every_bytes,
            1_048_576..=1_099_511_627_776,
            "1 MiB to 1 TiB",
        );
        checks.range(
            "snapshot_every_entries",
            self.snapshot_every_entries,
            1000..=1_000_000_000_000,
            "a snapshot writes all state",
        );
    }
}
