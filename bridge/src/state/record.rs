//! One record of the state, whatever its kind: its key, its binary form, and how to walk over all
//! of them in order.
//!
//! Keys order as bytes, which for UTF-8 is the order of `str`; so sled, a `BTreeMap` and a snapshot
//! file hold the same order. This module does not know where the bytes are kept nor how they are
//! protected.

use std::fmt;
use std::sync::Arc;

use tidings_core::account::AccountRecord;
use tidings_core::message::{Offset, Seq};
use tidings_core::messages::ChangeRecord;
use tidings_core::state::{GroupRecord, Retained, SessionRecord};

use super::changes;
use crate::journal::segments::record::{
    DecodeError, decode_account, decode_group, decode_published, decode_session, encode_account,
    encode_group, encode_published, encode_session,
};

/// What a record of the state is about; the number is that in sled's keys and in snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A session, by Client Identifier.
    Session = 1,
    /// A shared subscription, by `$share/{group}/{filter}`.
    Group = 2,
    /// A retained message, by topic.
    Retained = 3,
    /// The last number of a stream, by its name.
    Head = 4,
    /// An account, by user name.
    Account = 5,
    /// A change of a message, by stream and seq.
    Change = 6,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 6] = [
        Self::Session,
        Self::Group,
        Self::Retained,
        Self::Head,
        Self::Account,
        Self::Change,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Group => "shared subscription",
            Self::Retained => "retained message",
            Self::Head => "stream head",
            Self::Account => "account",
            Self::Change => "change of a message",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One record of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateRecord {
    /// A session and its Client Identifier.
    Session(Arc<str>, SessionRecord),
    /// A shared subscription and its `$share/{group}/{filter}`.
    Group(Arc<str>, GroupRecord),
    /// A retained message.
    Retained(Retained),
    /// A stream and the number of its last message.
    Head(Arc<str>, Seq),
    /// An account and its user name.
    Account(Arc<str>, AccountRecord),
    /// A change of a message, and the key that names its stream.
    Change(Arc<str>, ChangeRecord),
}

/// Why the bytes of a record are refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("a {0} has the wrong length")]
    Length(Kind),
    #[error("a retained message is stored under another topic")]
    Topic,
}

impl StateRecord {
    /// What the record is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Session(..) => Kind::Session,
            Self::Group(..) => Kind::Group,
            Self::Retained(_) => Kind::Retained,
            Self::Head(..) => Kind::Head,
            Self::Account(..) => Kind::Account,
            Self::Change(..) => Kind::Change,
        }
    }

    /// Client Identifier, filter, topic, stream, user name, or stream and seq.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Session(key, _)
            | Self::Group(key, _)
            | Self::Head(key, _)
            | Self::Account(key, _)
            | Self::Change(key, _) => key,
            Self::Retained(retained) => &retained.published.message.topic,
        }
    }

    /// Appends the binary form of the value, without its key.
    pub(super) fn encode_value(&self, out: &mut Vec<u8>) {
        match self {
            Self::Session(_, session) => encode_session(session, out),
            Self::Group(_, group) => encode_group(group, out),
            Self::Retained(retained) => {
                out.extend_from_slice(&retained.offset.0.to_le_bytes());
                encode_published(&retained.published, out);
            }
            Self::Head(_, seq) => out.extend_from_slice(&seq.0.to_le_bytes()),
            Self::Account(_, account) => encode_account(account, out),
            Self::Change(_, change) => changes::encode(change, out),
        }
    }

    /// Reads what [`StateRecord::encode_value`] wrote.
    pub(super) fn decode(kind: Kind, key: &str, value: &[u8]) -> Result<Self, RecordError> {
        Ok(match kind {
            Kind::Session => Self::Session(key.into(), decode_session(value)?),
            Kind::Group => Self::Group(key.into(), decode_group(value)?),
            Kind::Retained => {
                let (offset, published) =
                    value.split_first_chunk().ok_or(RecordError::Length(kind))?;
                let published = decode_published(published)?;
                if *published.message.topic != *key {
                    return Err(RecordError::Topic);
                }
                Self::Retained(Retained {
                    offset: Offset(u64::from_le_bytes(*offset)),
                    published: Arc::new(published),
                })
            }
            Kind::Head => {
                let seq = value.try_into().map_err(|_| RecordError::Length(kind))?;
                Self::Head(key.into(), Seq(u64::from_le_bytes(seq)))
            }
            Kind::Account => Self::Account(key.into(), decode_account(value)?),
            Kind::Change => Self::Change(key.into(), changes::decode(key, value)?),
        })
    }
}

/// A state that stands still and can be walked over, in the order of [`Kind`] and key.
pub trait Records {
    /// The offset up to which the journal is applied.
    fn applied(&self) -> Offset;

    /// Up to `limit` records of a kind whose key is greater than `after`, in the order of keys.
    fn page(&self, kind: Kind, after: Option<&str>, limit: usize) -> Vec<StateRecord>;
}

/// Records of one page: enough to make the lock cheap, few enough to hold them all.
pub(super) const PAGE_RECORDS: usize = 128;

/// Every record of `records` in order, read page by page.
pub(super) fn every_record(records: &dyn Records) -> impl Iterator<Item = StateRecord> {
    Kind::ALL
        .into_iter()
        .flat_map(|kind| every_record_of(records, kind))
}

fn every_record_of(records: &dyn Records, kind: Kind) -> impl Iterator<Item = StateRecord> {
    let mut page = records.page(kind, None, PAGE_RECORDS).into_iter();
    let mut last: Option<Arc<str>> = None;
    std::iter::from_fn(move || {
        let record = match page.next() {
            Some(record) => record,
            None => {
                page = records
                    .page(kind, Some(last.as_deref()?), PAGE_RECORDS)
                    .into_iter();
                page.next()?
            }
        };
        last = Some(record.key().clone());
        Some(record)
    })
}
