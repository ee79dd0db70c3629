//! Power cuts: what came back is found again, what is found is a prefix, and nothing half.

use super::*;
use crate::journal::contract::payloads;
use crate::journal::retention::Retention;
use crate::journal::segments::Durability;
use crate::journal::segments::fs::Fs;
use crate::journal::segments::sim_fs::Fault;
use tidings_core::rules::Keep;

#[test]
fn a_torn_last_batch_is_cut_off_at_every_byte() {
    let fs = SimFs::new(1);
    let (mut writer, ..) = open(&fs, 4096);
    let name = "00000000000000000000.seg";
    commit_each(&mut writer, [message("a", "first"), message("b", "second")]);
    let before = fs.content(name).expect("the segment is there");
    let last = vec![message("a", "third"), message("c", "fourth")];
    writer.commit(last).expect("the disk is fine");
    drop(writer);
    let whole = fs.content(name).expect("the segment is there");
    let differs = |at: &usize| before[*at] != whole[*at];
    let begin = (0..whole.len())
        .find(differs)
        .expect("something was written");
    let end = (0..whole.len())
        .rfind(differs)
        .expect("something was written")
        + 1;
    for cut in begin..end {
        for fill in [0, 0xA5] {
            let mut torn = whole.clone();
            torn[cut..end].fill(fill);
            fs.overwrite(name, &torn);
            let (mut writer, journal, recovery) = open(&fs, 4096);
            assert_eq!(journal.end(), Offset(2), "cut at {cut}");
            assert_eq!(
                recovery.torn.is_some(),
                cut > begin || fill > 0,
                "cut at {cut}"
            );
            assert_eq!(
                everything(&journal),
                [(0, "first".into()), (1, "second".into())]
            );
            commit_each(&mut writer, [message("a", "after")]);
            drop(writer);
            let (_, journal, recovery) = open(&fs, 4096);
            assert_eq!((journal.end(), recovery.torn), (Offset(3), None));
        }
    }
}

#[test]
fn a_batch_that_was_written_while_another_was_synced_is_found_whole_or_not_at_all() {
    for seed in 0..300 {
        let fs = SimFs::new(seed);
        let (mut writer, ..) = open(&fs, 4096);
        commit_each(&mut writer, [message("a", "0"), message("b", "1")]);
        let pair = |n| vec![message("a", n), message("b", n)];
        let first = writer.begin(pair("2")).expect("the disk is fine");
        if seed % 3 == 0 {
            first.sync().expect("the disk is fine");
        }
        let _second = writer.begin(pair("3")).expect("the disk is fine");
        drop(writer);
        if seed % 2 == 0 {
            fs.crash();
        } else {
            fs.crash_hard();
        }
        let (mut writer, journal, _) = open(&fs, 4096);
        let least = if seed % 3 == 0 { 4 } else { 2 };
        let end = journal.end().0;
        assert!(
            [2, 4, 6].contains(&end) && end >= least,
            "seed {seed}: {end}"
        );
        assert_eq!(everything(&journal).len() as u64, end);
        commit_each(&mut writer, [message("a", "after")]);
        let seqs = journal.history("a", Seq(1), 100).expect("readable");
        assert!(seqs.windows(2).all(|pair| match pair {
            [one, next] => next.published.seq.0 == one.published.seq.0 + 1,
            _ => true,
        }));
    }
}

struct Written {
    topic: String,
    payload: String,
    history: bool,
}

/// A journal that lives through power cuts, and what it must still have.
struct Life {
    random: u64,
    fs: SimFs,
    options: Options,
    /// Everything that was handed over, at its offset.
    written: Vec<Written>,
    /// So many of them must be found again.
    durable: usize,
    keep_from: u64,
}

impl Life {
    fn new(seed: u64, durability: Durability) -> Self {
        Self {
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            fs: SimFs::new(seed),
            options: Options {
                durability,
                ..options(2048)
            },
            written: Vec::new(),
            durable: 0,
            keep_from: 0,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    /// Opens, compares with what must be there, works on, and breaks.
    fn round(&mut self, name: &str) {
        let heads = Heads::default();
        let (mut writer, journal, _) = match try_open(&self.fs, self.options, &heads) {
            Ok(opened) => opened,
            Err(OpenError::Io { .. }) => return self.crash(),
            Err(error) => panic!("{name}: {error}"),
        };
        self.compare(&journal, &heads, name);
        for _ in 0..self.below(30) {
            if !self.step(&mut writer, &heads) {
                break;
            }
        }
        if self.below(3) == 0 {
            drop(writer);
            let report = check(&self.fs);
            assert_eq!(report.problems, [], "{name}");
        }
        self.crash();
    }

    fn crash(&mut self) {
        match self.below(5) {
            0 => {
                // Nothing is lost, but nobody knows what is on the disk.
                self.fs.kill();
            }
            1 => self.fs.crash_hard(),
            _ => self.fs.crash(),
        }
    }

    /// False if the disk broke.
    fn step(&mut self, writer: &mut Writer, heads: &Heads) -> bool {
        match self.below(12) {
            0 => do_chores(writer),
            1 => return self.trim(writer),
            2 => {
                let fault = [Fault::Write, Fault::ShortWrite, Fault::Sync][self.below(3) as usize];
                let skip = self.below(6);
                self.fs.inject(fault, skip);
            }
            3 if self.options.durability == Durability::Interval => {
                if writer.sync().is_err() {
                    return false;
                }
                self.durable = self.written.len();
            }
            _ => return self.commit(writer, heads),
        }
        true
    }

    fn commit(&mut self, writer: &mut Writer, heads: &Heads) -> bool {
        let mut appends = Vec::new();
        for _ in 0..=self.below(4) {
            let number = self.written.len();
            let payload = format!("{number}-{}", "x".repeat(self.below(200) as usize));
            let topic = format!("t/{}", self.below(3));
            let history = self.below(3) == 0;
            appends.push(if history {
                kept(&topic, &payload)
            } else {
                message(&topic, &payload)
            });
            self.written.push(Written {
                topic,
                payload,
                history,
            });
        }
        match writer.commit(appends) {
            Ok(batch) => {
                batch
                    .entries
                    .iter()
                    .for_each(|(_, entry)| heads.apply(entry));
                if self.options.durability == Durability::Fsync {
                    self.durable = self.written.len();
                }
                true
            }
            Err(_) => false,
        }
    }

    fn trim(&mut self, writer: &Writer) -> bool {
        // The snapshot lies in what is durable.
        let limit = self.durable as u64 + 1;
        self.keep_from = self.below(limit).max(self.keep_from);
        let retention = Retention {
            keep_from: Offset(self.keep_from),
            snapshot: Offset(self.durable as u64),
            now: 0,
            history: Arc::new(|_| Some(Keep::default())),
            max_backlog_bytes: None,
        };
        // Trimming may fail without harm.
        let _ = writer.journal().trim(&retention);
        true
    }

    fn compare(&mut self, journal: &SegmentJournal, heads: &Heads, name: &str) {
        let (start, end) = (journal.start().0 as usize, journal.end().0 as usize);
        assert!(
            self.durable <= end,
            "{name}: {} were durable, {end} are there",
            self.durable
        );
        assert!(end <= self.written.len(), "{name}: entries from nowhere");
        assert!(
            start as u64 <= self.keep_from,
            "{name}: trimmed what was needed"
        );
        self.written.truncate(end);
        self.durable = end;
        let expected: Vec<(u64, String)> = self
            .written
            .iter()
            .zip(0..)
            .filter(|(written, offset)| written.history || *offset >= start as u64)
            .map(|(written, offset)| (offset, written.payload.clone()))
            .collect();
        assert_eq!(everything(journal), expected, "{name}");
        let page = journal.read(
            &filters(&["t/+"]),
            Offset(start as u64),
            Offset(end as u64),
            1,
        );
        let first = payloads(&page.expect("what was not trimmed can be read")).pop();
        assert_eq!(
            first,
            self.written
                .get(start)
                .map(|written| written.payload.clone())
        );
        let mut replayed = 0;
        let replay = journal.replay(Offset(start as u64), &mut |batch| {
            replayed += batch.entries.len();
            Ok(())
        });
        replay.expect("what was not trimmed can be replayed");
        assert_eq!(replayed, end - start, "{name}");
        for (topic, count) in self.seqs() {
            // As the state would know from its snapshot and the replay.
            heads.set(&topic, Seq(count));
            let seqs = journal
                .history(&topic, Seq(0), usize::MAX)
                .expect("readable");
            let ascending = seqs
                .windows(2)
                .all(|w| w[0].published.seq < w[1].published.seq);
            assert!(ascending, "{name}");
            for entry in seqs {
                let number = self.written[..=entry.offset.0 as usize].iter();
                let number = number.filter(|w| w.topic == topic).count() as u64;
                assert_eq!(entry.published.seq, Seq(number), "{name}");
            }
        }
    }

    fn seqs(&self) -> HashMap<String, u64> {
        let mut counts = HashMap::new();
        for written in &self.written {
            *counts.entry(written.topic.clone()).or_default() += 1;
        }
        counts
    }
}

fn live_through(seed: u64, durability: Durability, rounds: u32) {
    let mut life = Life::new(seed, durability);
    for round in 0..rounds {
        life.round(&format!("seed {seed}, round {round}, {durability:?}"));
    }
    assert!(life.fs.list().is_ok());
}

/// How many seeds to try; more by hand with `JOURNAL_CRASH_SEEDS=100000`.
fn seeds() -> u64 {
    let wanted = std::env::var("JOURNAL_CRASH_SEEDS").ok();
    wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(150)
}

#[test]
fn every_batch_that_came_back_survives_power_cuts() {
    for seed in 0..seeds() {
        live_through(seed, Durability::Fsync, 12);
    }
}

#[test]
fn with_an_interval_every_synced_batch_survives_and_the_rest_is_a_prefix() {
    for seed in 0..seeds() {
        live_through(seed, Durability::Interval, 12);
    }
}
