//! Whether a state says what its journal says: what the two may know differently, and what not.

use bytes::Bytes;
use tempfile::TempDir;
use tidings_bridge::journal::retention::Retention;
use tidings_bridge::journal::segments::{Durability, Options as JournalOptions, Writer};
use tidings_core::journal::{Append, Journal as _, Published};
use tidings_core::message::{Epoch, Message, Publisher, QoS};
use tidings_core::rules::Keep;

use super::*;

const EPOCH: Epoch = Epoch(7);
/// Some messages fill a segment.
const SEGMENT_BYTES: u64 = 64 * 1024;
const MESSAGES_IN_SEGMENT: u64 = 6;

/// A journal and a state, as a broker leaves them.
struct Store {
    folder: TempDir,
    writer: Writer,
    state: SledState,
}

impl Store {
    fn new() -> Self {
        let folder = TempDir::new().expect("a directory");
        let files = RealFs::new(journal_folder(folder.path())).expect("a directory");
        let options = JournalOptions {
            segment_bytes: SEGMENT_BYTES,
            durability: Durability::Interval,
            ..JournalOptions::new(EPOCH)
        };
        let opened = Writer::open(Arc::new(files), options, Box::new(|_| Seq(0)));
        let options = Options::new(EPOCH, Offset(0), Offset(0));
        let (state, _) = SledState::open(folder.path(), &options).expect("a state");
        Self {
            writer: opened.expect("a journal").0,
            state,
            folder,
        }
    }

    /// One entry of the room, in the journal and in the state.
    fn say(&mut self, topic: &str, text: &str) {
        self.say_to_each(topic, topic, text);
    }

    /// One entry, whose topic the state believes to be another.
    fn say_to_each(&mut self, to_journal: &str, to_state: &str, text: &str) {
        let append = Append {
            shard: 0,
            record: message(to_journal, text),
        };
        let batch = self.writer.commit(vec![append]).expect("it is written");
        let mut batch = Batch::clone(&batch);
        for (_, entry) in &mut batch.entries {
            if let Record::Published(published) = &mut entry.record {
                Arc::make_mut(published).message.topic = to_state.into();
            }
        }
        self.state.apply(&batch);
        while let Some(chore) = self.writer.next_chore() {
            chore.run();
        }
    }

    /// So many messages with a reaction each, and words that were edited and recalled.
    fn talk(&mut self, messages: u64) {
        let long = "x".repeat(SEGMENT_BYTES as usize / MESSAGES_IN_SEGMENT as usize);
        for n in 0..messages {
            let seq = n * 4 + 1;
            self.say("chat/r/ann", &long);
            self.say(&format!("chat/r/bob/react/{seq}"), "+1");
            self.say(&format!("chat/r/ann/edit/{seq}"), "shorter");
            let recalled = seq - n % 3 * 4 % seq;
            self.say(&format!("chat/r/ann/recall/{recalled}"), "");
        }
    }

    /// Retention takes all but the newest messages, of what no snapshot needs.
    fn trim(&self, snapshot: Offset) {
        let journal = self.writer.journal();
        let keep = Keep {
            max_count: Some(MESSAGES_IN_SEGMENT * 4),
            ..Keep::default()
        };
        let report = journal.trim(&Retention {
            keep_from: journal.end(),
            snapshot,
            now: 2_000,
            history: Arc::new(move |_| Some(keep)),
            max_backlog_bytes: None,
        });
        assert!(report.expect("it is trimmed").removed > 0);
    }

    /// As the broker does it after that.
    fn forget(&self) -> usize {
        let journal = self.writer.journal();
        self.state.forget_changes(&mut |stream| {
            let found = journal.history(stream, Seq(1), 1).expect("it is read");
            found.first().map(|entry| entry.published.seq)
        })
    }

    /// The broker is gone; what is found?
    fn check(self) -> Vec<String> {
        let Self {
            folder,
            mut writer,
            state,
        } = self;
        writer.sync().expect("it is durable");
        drop((writer, state));
        let files: Arc<dyn Fs> =
            Arc::new(RealFs::new(journal_folder(folder.path())).expect("a directory"));
        let report = check_journal(&files).expect("a report");
        assert_eq!(report.problems, []);
        check_state(folder.path(), &files, &report).expect("it is compared")
    }
}

fn message(topic: &str, text: &str) -> Record {
    let user = topic.split('/').nth(2).unwrap_or_default();
    Record::Published(Arc::new(Published {
        stream: "chat/r".into(),
        seq: Seq(0),
        message: Message {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(text.as_bytes()),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Publisher {
                user: user.into(),
                client_id: user.into(),
            },
            time: 1_000,
        },
        history: true,
        audience: Audience::Everyone,
        inbound_packet_id: None,
        read_us: 0,
    }))
}

#[test]
fn what_retention_took_may_be_forgotten_by_one_of_the_two_or_both_or_neither() {
    for (forgets, checkpoints, snapshots) in [
        (false, true, false),
        (true, false, false),
        (true, true, false),
        (true, true, true),
    ] {
        for goes_on in [false, true] {
            let mut store = Store::new();
            store.talk(5 * MESSAGES_IN_SEGMENT);
            // The journal is needed from the older one of the last two on.
            store.state.snapshot().expect("a snapshot");
            store.say("chat/r/ann", "well");
            let needed_from = store.state.snapshot().expect("a snapshot");
            store.trim(needed_from);
            if forgets {
                assert!(store.forget() > 0);
            }
            if goes_on {
                store.say("chat/r/ann", "and so on");
            }
            if checkpoints {
                store.state.checkpoint().expect("a checkpoint");
            }
            if snapshots {
                store.state.snapshot().expect("a snapshot");
            }
            let case = format!("{forgets} {checkpoints} {snapshots} {goes_on}");
            assert_eq!(store.check(), Vec::<String>::new(), "{case}");
        }
    }
}

#[test]
fn a_change_of_a_message_that_is_left_must_be_known_to_both() {
    let (message, reaction) = ("chat/r/eve", "chat/r/eve/react/1");
    for (to_journal, to_state, expected) in [
        (message, reaction, "is only in the first"),
        (reaction, message, "is only in the second"),
        (reaction, "chat/r/eve/edit/1", "is only in"),
    ] {
        for is_checkpointed in [false, true] {
            let mut store = Store::new();
            store.say("chat/r/ann", "hello");
            store.say_to_each(to_journal, to_state, "?");
            store.say("chat/r/ann", "good night");
            store.state.checkpoint().expect("a checkpoint");
            if is_checkpointed {
                store.say("chat/r/ann", "good morning");
            }
            let found = store.check();
            assert!(!found.is_empty(), "{to_journal} {to_state}");
            assert!(found.iter().all(|one| one.contains(expected)), "{found:?}");
        }
    }
}
