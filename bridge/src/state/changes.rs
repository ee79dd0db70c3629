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
