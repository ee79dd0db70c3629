//! The journal on a disk that gives back something else than was written: opening it says so or
//! succeeds, and then it has what was committed, in order, and nothing else, up to the damage. What a
//! crash can leave behind (a torn end) always opens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidings_bridge::journal::segments::fs::Fs;
use tidings_bridge::journal::segments::record::{
    decode_account, decode_group, decode_head, decode_record, decode_session, encode_account,
    encode_record, encode_session,
};
use tidings_bridge::journal::segments::sim_fs::SimFs;
use tidings_bridge::journal::segments::{Options, Recovery, SegmentJournal, Writer, dump, fsck};
use tidings_core::journal::{Append, Audience, Entry, Journal, Published, Record};
use tidings_core::message::{Epoch, Message, Offset, Publisher, QoS, Seq};
use tidings_core::state::SessionChange;
use tidings_core::topic::ReplayFrom;

use super::choices::Choices;
use super::heap::peak_of;

/// Bytes of memory that opening and reading may take: the files have some kilobytes, a scan reads
/// 256 KiB ahead. What damaged lengths claim is not taken.
const MEMORY: usize = 4 * 1024 * 1024;

/// See the module. The first byte chooses between a record alone and a whole directory.
pub fn journal(data: &[u8]) {
    let mut choices = Choices::new(data);
    if choices.one_in(4) {
        record(choices.bytes(usize::MAX));
        return;
    }
    let ((), memory) = peak_of(|| damaged_directory(&mut choices));
    assert!(memory <= MEMORY, "{memory} bytes");
}

/// Bytes behind a sound checksum, as another version might have written them.
fn record(bytes: &[u8]) {
    let (read, memory) = peak_of(|| decode_record(bytes));
    assert!(memory <= 1024 + 64 * bytes.len(), "{memory} bytes");
    if let Ok(record) = read {
        let mut again = Vec::new();
        encode_record(&record, &mut again);
        assert_eq!(decode_record(&again), Ok(record), "from {bytes:02x?}");
    }
    if let Ok(session) = decode_session(bytes) {
        let mut again = Vec::new();
        encode_session(&session, &mut again);
        assert_eq!(decode_session(&again), Ok(session), "from {bytes:02x?}");
    }
    if let Ok(account) = decode_account(bytes) {
        let mut again = Vec::new();
        encode_account(&account, &mut again);
        assert_eq!(decode_account(&again), Ok(account), "from {bytes:02x?}");
    }
    let _ = (decode_group(bytes), decode_head(bytes));
}

/// A directory as it was when it was closed, and what is in it.
struct Written {
    fs: SimFs,
    segment_bytes: u64,
    entries: Vec<Entry>,
    /// Entries before the last batch.
    before_last: usize,
    /// The segment that the last batch is in, and where in it, if the segment is older.
    last: Option<(String, usize)>,
}

type Heads = Arc<Mutex<HashMap<Arc<str>, Seq>>>;

fn open(
    written: &Written,
    entries: &[Entry],
) -> Result<(Writer, Arc<SegmentJournal>, Recovery), String> {
    let heads = Heads::default();
    note(&heads, entries);
    open_with(&written.fs, written.segment_bytes, &heads)
}

fn open_with(
    fs: &SimFs,
    segment_bytes: u64,
    heads: &Heads,
) -> Result<(Writer, Arc<SegmentJournal>, Recovery), String> {
    let options = Options {
        segment_bytes,
        tail_bytes: 0,
        ..Options::new(Epoch(7))
    };
    let heads = heads.clone();
    let lookup = Box::new(move |stream: &str| {
        let heads = heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.get(stream).copied().unwrap_or_default()
    });
    Writer::open(Arc::new(fs.clone()), options, lookup).map_err(|error| error.to_string())
}

fn note(heads: &Heads, entries: &[Entry]) {
    let mut heads = heads.lock().unwrap_or_else(PoisonError::into_inner);
    for entry in entries {
        if let Record::Published(published) = &entry.record {
            heads.insert(published.stream.clone(), published.seq);
        }
    }
}

fn append(choices: &mut Choices<'_>) -> Append {
    let record = match choices.below(4) {
        0 => Record::Session {
            client_id: "c".into(),
            change: SessionChange::WillPublished,
        },
        kind => {
            let topic = choices.pick(&["a", "a/b", "c/d/e"]);
            let payload = vec![b'x'; choices.below(256) * kind];
            Record::Published(Arc::new(Published {
                stream: topic.into(),
                seq: Seq(0),
                message: Message {
                    topic: topic.into(),
                    payload: payload.into(),
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    properties: None,
                    publisher: Publisher {
                        user: "".into(),
                        client_id: "c".into(),
                    },
                    time: 0,
                },
                history: kind == 1,
                audience: Audience::Everyone,
                inbound_packet_id: None,
                read_us: 0,
            }))
        }
    };
    Append { shard: 0, record }
}

fn fill(choices: &mut Choices<'_>) -> Written {
    let fs = SimFs::new(u64::from(choices.byte()));
    let segment_bytes = choices.pick(&[512, 1024, 8 * 1024]);
    let heads = Heads::default();
    let opened = open_with(&fs, segment_bytes, &heads);
    let (mut writer, ..) = opened.expect("an empty directory can be opened");
    let mut written = Written {
        fs: fs.clone(),
        segment_bytes,
        entries: Vec::new(),
        before_last: 0,
        last: None,
    };
    let batches = 1 + choices.below(24);
    for number in 0..batches {
        let appends = (0..=choices.below(3)).map(|_| append(choices)).collect();
        let is_last = number + 1 == batches;
        let before = if is_last {
            contents(&fs)
        } else {
            HashMap::new()
        };
        written.before_last = written.entries.len();
        let batch = writer.commit(appends).expect("the simulated disk is sound");
        let entries: Vec<Entry> = batch
            .entries
            .iter()
            .map(|(_, entry)| entry.clone())
            .collect();
        note(&heads, &entries);
        written.entries.extend(entries);
        written.last = is_last.then(|| last_batch(&fs, &before)).flatten();
        if choices.one_in(2) {
            while let Some(chore) = writer.next_chore() {
                chore.run();
            }
        }
    }
    drop(writer);
    match choices.below(3) {
        0 => fs.kill(),
        1 => fs.crash(),
        _ => fs.crash_hard(),
    }
    written
}

fn files(fs: &SimFs) -> Vec<String> {
    let mut names = fs.list().expect("a directory in memory can be listed");
    names.retain(|name| fs.content(name).is_some());
    names.sort_unstable();
    names
}

fn contents(fs: &SimFs) -> HashMap<String, Vec<u8>> {
    let content = |name: String| {
        let content = fs.content(&name)?;
        Some((name, content))
    };
    files(fs).into_iter().filter_map(content).collect()
}

/// The segment that changed, and the first byte that did.
fn last_batch(fs: &SimFs, before: &HashMap<String, Vec<u8>>) -> Option<(String, usize)> {
    let name = files(fs).into_iter().rfind(|name| name.ends_with(".seg"))?;
    let (old, new) = (before.get(&name)?, fs.content(&name)?);
    let at = old.iter().zip(&new).position(|(old, new)| old != new)?;
    Some((name, at))
}

/// What may be lost, and whether the directory must open.
struct Damage {
    /// Entries before the damage.
    intact: usize,
    /// Nothing but the end of the journal is damaged, as a crash can do.
    torn: bool,
}

fn damaged_directory(choices: &mut Choices<'_>) {
    let written = fill(choices);
    let damage = if choices.one_in(3) {
        tear(choices, &written)
    } else {
        damage_anything(choices, &written)
    };
    let before = contents(&written.fs);
    let checked = Arc::new(written.fs.clone()) as Arc<dyn Fs>;
    let _ = fsck(&checked, &mut |_, _| {}, &mut |_| {});
    if let Ok(lines) = dump(checked, Offset(0)) {
        lines.take(1_000).for_each(drop);
    }
    assert!(contents(&written.fs) == before, "checking changes nothing");
    match open(&written, &written.entries) {
        Err(error) => assert!(!damage.torn, "a torn end is no damage: {error}"),
        Ok(opened) => found_again(&written, &damage, opened),
    }
}

/// Changes bytes of the last batch, or behind it.
fn tear(choices: &mut Choices<'_>, written: &Written) -> Damage {
    let Some((name, at)) = &written.last else {
        return damage_anything(choices, written);
    };
    let mut content = written.fs.content(name).expect("it was there");
    match choices.below(3) {
        0 => content.truncate(at + usize::from(choices.short()) % (content.len() - at)),
        1 => {
            let garbage = choices.bytes(64).to_vec();
            let begin = at + usize::from(choices.short()) % (content.len() - at);
            for (byte, new) in content[begin..].iter_mut().zip(garbage) {
                *byte = new;
            }
        }
        _ => content[*at..].fill(0),
    }
    written.fs.overwrite(name, &content);
    Damage {
        intact: written.before_last,
        torn: true,
    }
}

fn damage_anything(choices: &mut Choices<'_>, written: &Written) -> Damage {
    let mut intact = written.entries.len();
    for _ in 0..=choices.below(3) {
        let names = files(&written.fs);
        let Some(name) = names.get(choices.below(names.len().max(1))) else {
            break;
        };
        let mut content = written.fs.content(name).unwrap_or_default();
        let at = usize::from(choices.short()) % content.len().max(1);
        match choices.below(7) {
            0 => {
                if let Some(byte) = content.get_mut(at) {
                    *byte ^= 1 << choices.below(8);
                }
            }
            1 => content.truncate(at),
            2 => {
                let end = content.len().min(at + choices.below(256));
                content[at..end].fill(0);
            }
            3 => {
                let garbage = choices.bytes(64).to_vec();
                content.splice(at..at, garbage);
            }
            4 => content = choices.bytes(512).to_vec(),
            5 => {
                let other = &names[choices.below(names.len())];
                content = written.fs.content(other).unwrap_or_default();
            }
            _ => {
                let removed = written.fs.remove(name);
                removed.expect("a file in memory can be removed");
                content.clear();
            }
        }
        if written.fs.content(name).is_some() {
            written.fs.overwrite(name, &content);
        }
        if let Some(base) = name.strip_suffix(".seg") {
            intact = intact.min(base.parse().unwrap_or(0));
        }
    }
    Damage {
        intact,
        torn: false,
    }
}

fn found_again(
    written: &Written,
    damage: &Damage,
    (mut writer, journal, _): (Writer, Arc<SegmentJournal>, Recovery),
) {
    let end = usize::try_from(journal.end().0).expect("few entries");
    if end == 0 && written.entries.len() == written.before_last {
        return;
    }
    assert!(
        end <= written.entries.len(),
        "{end} entries, more than were written"
    );
    let found = everything(&journal, &written.entries);
    assert!(
        found >= damage.intact.min(end) && end >= damage.intact,
        "{found} entries of {end} came back, {} were before the damage",
        damage.intact
    );
    assert!(
        !damage.torn || found == end,
        "after a torn end all that is there can be read"
    );
    reads_nothing_else(&journal, &written.entries);
    // It goes on from there, and what is written now is there the next time.
    let mut entries = written.entries[..end].to_vec();
    let batch = match writer.commit(vec![append(&mut Choices::new(&[1, 0, 7]))]) {
        Ok(batch) => batch,
        Err(error) => panic!("a sound disk takes a batch: {error}"),
    };
    entries.extend(batch.entries.iter().map(|(_, entry)| entry.clone()));
    assert_eq!(entries[end].offset, Offset(end as u64));
    while let Some(chore) = writer.next_chore() {
        chore.run();
    }
    drop((writer, journal));
    written.fs.crash_hard();
    let (_, journal, recovery) =
        open(written, &entries).expect("what was opened and closed can be opened");
    assert_eq!(recovery.torn, None, "it was repaired before");
    assert_eq!(journal.end().0 as usize, entries.len());
    assert!(everything(&journal, &entries) >= found);
}

/// How many entries can be read one after the other; each is what was written in its place.
fn everything(journal: &SegmentJournal, entries: &[Entry]) -> usize {
    let mut next = journal.start();
    let begin = next.0 as usize;
    assert_eq!(begin, 0, "nothing was trimmed");
    let _ = journal.replay(next, &mut |batch| {
        for (_, entry) in &batch.entries {
            assert_eq!(entry.offset, next, "offsets are dense");
            assert_eq!(
                Some(entry),
                entries.get(next.0 as usize),
                "it is what was written"
            );
            next = next.next();
        }
        Ok(())
    });
    next.0 as usize - begin
}

/// The other ways to read: what they give was written in that place, in that order.
fn reads_nothing_else(journal: &SegmentJournal, entries: &[Entry]) {
    let is_there = |offset: Offset, published: &Arc<Published>| {
        let entry = entries.get(offset.0 as usize).map(|entry| &entry.record);
        assert_eq!(
            entry,
            Some(&Record::Published(published.clone())),
            "at {offset}"
        );
    };
    for filter in ["#", "a/b", "+"] {
        let filters: [Arc<str>; 1] = [filter.into()];
        for from in [0, journal.end().0 / 2] {
            let Ok(page) = journal.read(&filters, Offset(from), journal.end(), 1 << 20) else {
                continue;
            };
            assert!(
                page.entries
                    .is_sorted_by(|one, other| one.offset < other.offset)
            );
            for entry in &page.entries {
                is_there(entry.offset, &entry.published);
            }
        }
        let _ = journal.locate(filter, ReplayFrom::Last(2));
    }
    for stream in ["a", "a/b", "nothing"] {
        for entry in journal.history(stream, Seq(1), 100).unwrap_or_default() {
            is_there(entry.offset, &entry.published);
        }
    }
    for offset in 0..journal.end().0 {
        if let Ok(Some(published)) = journal.read_at(Offset(offset)) {
            is_there(Offset(offset), &published);
        }
    }
}
