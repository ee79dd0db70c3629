//! Records of changed messages: their keys and their binary form.
//!
//! ```text
//! key   = stream NUL "r" of              a recall            of: 16 hexadecimal digits
//!       | stream NUL "m" of "e"          the newest edit
//!       | stream NUL "m" of "x" user     the newest reaction of a user
//! value = offset:varint seq:varint time:varint by:text reaction:text
//! ```
//! A topic has no NUL, so streams do not mix; recalls of a range of messages stand together.

use std::sync::Arc;

use tidings_core::message::{Offset, Seq};
use tidings_core::messages::{ChangeRecord, What};

use crate::journal::segments::wire::{DecodeError, Reader, put_text, put_varint};

/// What the keys of all recalls of a stream begin with.
pub(super) fn recalls_of(stream: &str) -> String {
    format!("{stream}\0r")
}

/// The key of the recall of a message.
pub(super) fn recall_key(stream: &str, of: Seq) -> String {
    format!("{stream}\0r{:016x}", of.0)
}

/// What the keys of all other changes of a message begin with.
pub(super) fn others_of(stream: &str, of: Seq) -> String {
    format!("{stream}\0m{:016x}", of.0)
}

/// The key of a change.
pub(super) fn key(stream: &str, change: &ChangeRecord) -> Arc<str> {
    match change.what {
        What::Recalled => recall_key(stream, change.of).into(),
        What::Edited => format!("{}e", others_of(stream, change.of)).into(),
        What::Reaction(_) => format!("{}x{}", others_of(stream, change.of), change.by).into(),
    }
}

/// Whether a change is of no use any more when the first message that its stream has left is `first`. The
/// recall of a message that is gone is for what is left of its edits, which are older than it.
pub(super) fn is_over(change: &ChangeRecord, first: Seq) -> bool {
    match change.what {
        What::Recalled => change.seq < first,
        What::Edited | What::Reaction(_) => change.of < first,
    }
}

/// The stream whose change stands under a key.
pub(super) fn stream_of(key: &str) -> &str {
    key.split_once('\0').map_or(key, |(stream, _)| stream)
}

/// Asks for the first message of each stream once, as long as keys come in their order.
pub(super) struct Firsts<'a> {
    ask: &'a mut dyn FnMut(&str) -> Option<Seq>,
    known: Option<(String, Option<Seq>)>,
}

impl<'a> Firsts<'a> {
    /// `ask` gives the number of the first message that a stream has left; `None`: not to be known.
    pub(super) fn new(ask: &'a mut dyn FnMut(&str) -> Option<Seq>) -> Self {
        Self { ask, known: None }
    }

    /// Whether the change under `key` is of no use any more.
    pub(super) fn have_passed(&mut self, key: &str, change: &ChangeRecord) -> bool {
        let stream = stream_of(key);
        let first = match &self.known {
            Some((known, first)) if known == stream => *first,
            _ => {
                let first = (self.ask)(stream);
                self.known = Some((stream.to_owned(), first));
                first
            }
        };
        first.is_some_and(|first| is_over(change, first))
    }
}

/// Appends the binary form of a change, without its key.
pub(super) fn encode(change: &ChangeRecord, out: &mut Vec<u8>) {
    put_varint(out, change.offset.0);
    put_varint(out, change.seq.0);
    put_varint(out, change.time);
    put_text(out, &change.by);
    put_text(
        out,
        match &change.what {
            What::Reaction(text) => text,
            What::Edited | What::Recalled => "",
        },
    );
}

/// Reads what [`encode`] wrote under `key`.
pub(super) fn decode(key: &str, value: &[u8]) -> Result<ChangeRecord, DecodeError> {
    let mut reader = Reader::new(value);
    let (offset, seq) = (Offset(reader.varint()?), Seq(reader.varint()?));
    let (time, by) = (reader.varint()?, reader.text()?);
    let text = reader.text()?;
    reader.finish()?;
    let (of, what) = read_key(key, text).ok_or(DecodeError::BadNumber)?;
    Ok(ChangeRecord {
        of,
        what,
        offset,
        seq,
        time,
        by,
    })
}

fn read_key(key: &str, text: Arc<str>) -> Option<(Seq, What)> {
    let (_, rest) = key.split_once('\0')?;
    let (tag, digits) = (rest.get(..1)?, rest.get(1..17)?);
    let of = Seq(u64::from_str_radix(digits, 16).ok()?);
    let what = match (tag, rest.get(17..18)) {
        ("r", None) => What::Recalled,
        ("m", Some("e")) => What::Edited,
        ("m", Some("x")) => What::Reaction(text),
        _ => return None,
    };
    Some((of, what))
}
