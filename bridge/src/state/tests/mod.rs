//! The state contract, over every implementation; and damage to what is on disk.

mod contract;
mod damage;
mod random;
mod snapshots;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tidings_core::account::{AccountChange, AccountRecord, Secret};
use tidings_core::journal::{Audience, Batch, Entry, Published, Record};
use tidings_core::message::{Epoch, Message, Offset, Publisher, QoS, Seq};
use tidings_core::state::{
    GroupChange, SessionChange, State, SubscriptionRecord, Unfinished, WillRecord,
};

use super::{Difference, MemoryState, OpenReport, Options, Records, SledState, compare};

const EPOCH: Epoch = Epoch(0x5eed);

/// Everything appended so far, in batches: what a journal would give again.
#[derive(Default)]
struct Log {
    batches: Vec<Batch>,
    end: Offset,
}

impl Log {
    fn append(&mut self, records: impl IntoIterator<Item = Record>) -> Batch {
        let mut batch = Batch::default();
        for record in records {
            let offset = self.end;
            batch.entries.push((0, Entry { offset, record }));
            self.end = offset.next();
        }
        self.batches.push(batch.clone());
        batch
    }

    fn replay(&self, state: &dyn State) {
        self.batches.iter().for_each(|batch| state.apply(batch));
    }

    fn in_memory(&self) -> MemoryState {
        let state = MemoryState::new();
        self.replay(&state);
        state
    }

    fn options(&self) -> Options {
        Options::new(EPOCH, Offset(0), self.end)
    }

    /// Opens the view and applies what it lacks.
    fn open(&self, data_dir: &Path) -> (SledState, OpenReport) {
        let (state, report) = SledState::open(data_dir, &self.options()).expect("opens");
        assert_eq!(State::applied(&state), report.applied);
        self.replay(&state);
        assert_eq!(State::applied(&state), self.end);
        (state, report)
    }
}

fn differences(left: &dyn Records, right: &dyn Records) -> Vec<String> {
    let mut found = Vec::new();
    compare(left, right, &mut |_| {}, &mut |difference: Difference| {
        found.push(format!("{difference}: {difference:?}"));
    });
    found
}

fn assert_same(state: &SledState, log: &Log) {
    let settled = state.settle().expect("checkpoint");
    let expected = log.in_memory();
    assert_eq!(differences(&settled, &expected), Vec::<String>::new());
    drop(settled);
    assert_eq!(state.retained_count(), expected.retained_count());
    assert_eq!(state.retained_bytes(), expected.retained_bytes());
    assert_eq!(state.session_count(), expected.session_count());
    assert_eq!(state.lowest_position(), expected.lowest_position());
    assert_eq!(
        state.due_sessions(u64::MAX, usize::MAX),
        expected.due_sessions(u64::MAX, usize::MAX)
    );
}

fn publish(stream: &str, seq: u64, topic: &str, payload: &[u8], retain: bool) -> Published {
    Published {
        stream: stream.into(),
        seq: Seq(seq),
        message: Message {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload),
            qos: QoS::AtLeastOnce,
            retain,
            properties: None,
            publisher: Publisher {
                user: "alice".into(),
                client_id: "alice-1".into(),
            },
            time: 1_000,
        },
        history: true,
        audience: Audience::Everyone,
        inbound_packet_id: None,
        read_us: 0,
    }
}

fn published(published: Published) -> Record {
    Record::Published(Arc::new(published))
}

fn retain(topic: &str, payload: &str) -> Record {
    published(publish(topic, 1, topic, payload.as_bytes(), true))
}

fn session(client_id: &str, change: SessionChange) -> Record {
    Record::Session {
        client_id: client_id.into(),
        change,
    }
}

fn opened(client_id: &str, clean: bool) -> Record {
    opened_with_will(client_id, clean, None)
}

fn opened_with_will(client_id: &str, clean: bool, will: Option<WillRecord>) -> Record {
    session(
        client_id,
        SessionChange::Opened {
            user: "alice".into(),
            expiry_s: 10,
            clean,
            will: will.map(Box::new),
        },
    )
}

fn will(delay_s: u32) -> WillRecord {
    WillRecord {
        message: publish("will", 0, "will", b"gone", false).message,
        delay_s,
    }
}

fn closed(client_id: &str, at: u64, expiry_s: u32) -> Record {
    session(
        client_id,
        SessionChange::Closed {
            at,
            expiry_s,
            keep_will: true,
        },
    )
}

fn ended(client_id: &str) -> Record {
    session(
        client_id,
        SessionChange::Ended {
            filters: Vec::new(),
        },
    )
}

fn subscribed(client_id: &str, filter: &str) -> Record {
    session(
        client_id,
        SessionChange::Subscribed(SubscriptionRecord {
            filter: filter.into(),
            qos: QoS::ExactlyOnce,
            no_local: false,
            retain_as_published: true,
            subscription_id: Some(7),
            since: Offset(0),
            cursor: true,
        }),
    )
}

fn unsubscribed(client_id: &str, filter: &str) -> Record {
    session(
        client_id,
        SessionChange::Unsubscribed {
            filter: filter.into(),
        },
    )
}

fn progress(client_id: &str, cursor: u64, unfinished: Vec<Unfinished>) -> Record {
    session(
        client_id,
        SessionChange::Progress {
            cursor: Offset(cursor),
            unfinished,
        },
    )
}

fn group_progress(filter: &str, cursor: u64, unfinished: &[u64]) -> Record {
    Record::Group {
        filter: filter.into(),
        change: GroupChange::Progress {
            cursor: Offset(cursor),
            unfinished: unfinished.iter().copied().map(Offset).collect(),
        },
    }
}

fn account(user: &str, change: AccountChange) -> Record {
    Record::Account {
        user: user.into(),
        change,
    }
}

fn created(user: &str, password_hash: &str) -> Record {
    account(
        user,
        AccountChange::Created(Box::new(AccountRecord {
            owner: None,
            secret: Secret::PasswordHash(password_hash.into()),
            enabled: true,
            roles: Vec::new(),
            created: 1_000,
            valid_from: 1_000,
            deleted: false,
        })),
    )
}

/// An implementation of the state, and when it goes to disk.
enum Subject {
    Memory(Box<MemoryState>),
    Sled(Box<SledSubject>),
}

struct SledSubject {
    directory: TempDir,
    state: Option<SledState>,
    rhythm: Rhythm,
    log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rhythm {
    Never,
    CheckpointEachBatch,
    ReopenEachBatch,
    ReopenWithoutCheckpoint,
}

impl Subject {
    fn all() -> Vec<(String, Self)> {
        let mut all = vec![("memory".to_owned(), Self::Memory(Box::default()))];
        for rhythm in [
            Rhythm::Never,
            Rhythm::CheckpointEachBatch,
            Rhythm::ReopenEachBatch,
            Rhythm::ReopenWithoutCheckpoint,
        ] {
            all.push((format!("sled, {rhythm:?}"), Self::sled(rhythm)));
        }
        all
    }

    fn forget_changes(&self, first: &mut dyn FnMut(&str) -> Option<Seq>) -> usize {
        match self {
            Self::Memory(state) => state.forget_changes(first),
            Self::Sled(subject) => {
                let state = subject.state.as_ref().expect("it is open");
                state.forget_changes(first)
            }
        }
    }

    fn sled(rhythm: Rhythm) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = Log::default();
        let state = Some(log.open(directory.path()).0);
        Self::Sled(Box::new(SledSubject {
            directory,
            state,
            rhythm,
            log,
        }))
    }

    fn state(&self) -> &dyn State {
        match self {
            Self::Memory(state) => &**state,
            Self::Sled(sled) => sled.state.as_ref().expect("open between batches"),
        }
    }

    fn apply(&mut self, batch: &Batch) {
        self.state().apply(batch);
        let Self::Sled(sled) = self else {
            return;
        };
        let SledSubject {
            directory,
            state,
            rhythm,
            log,
        } = &mut **sled;
        log.batches.push(batch.clone());
        log.end = batch.end().unwrap_or(log.end);
        let open = state.take().expect("open between batches");
        if matches!(
            rhythm,
            Rhythm::CheckpointEachBatch | Rhythm::ReopenEachBatch
        ) {
            assert_eq!(open.checkpoint().expect("checkpoint"), log.end);
            assert_eq!(open.pending_records(), 0);
        }
        *state = Some(match rhythm {
            Rhythm::Never | Rhythm::CheckpointEachBatch => open,
            Rhythm::ReopenEachBatch | Rhythm::ReopenWithoutCheckpoint => {
                drop(open);
                let (state, report) = log.open(directory.path());
                assert_eq!(report.set_aside, None);
                state
            }
        });
    }
}

/// Runs a test of the contract over every implementation.
fn each(test: impl Fn(&mut Subject, &mut Log)) {
    for (name, mut subject) in Subject::all() {
        let _named = Named(name);
        test(&mut subject, &mut Log::default());
    }
}

/// Says, if the test fails while it lives, in which case it did.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {}", self.0);
        }
    }
}
