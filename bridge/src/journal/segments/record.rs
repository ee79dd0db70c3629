//! The binary form of records: what an entry of the journal holds, and the records of the state
//! that are stored outside of it (snapshot, sled).
//!
//! ```text
//! record    = 1 published | 2 client_id:text session-change | 3 filter:text group-change
//!           | 4 user:text account-change
//! published = flags:u8 seq:varint time:varint topic:text
//!             [stream:text]            unless flag STREAM_IS_TOPIC
//!             user:text client_id:text
//!             [packet_id:varint]       if flag INBOUND
//!             [list of client_id:text] if flag ONLY
//!             [properties]             if flag PROPERTIES
//!             payload:bytes
//! ```
//! The other forms are read best in the functions below: `put_x` and `read_x` stand side by side.
//! Everything else is in `wire`. Decoding accepts exactly what encoding writes, never
//! panics, and a change of any form needs a new [`RECORD_VERSION`]; a kind more needs none: who does
//! not know it refuses it. This module does not know where
//! the bytes are kept nor how they are protected.

use std::sync::Arc;

use tidings_core::account::{AccountChange, AccountRecord, Secret};
use tidings_core::journal::{Audience, Published, Record};
use tidings_core::message::{Message, MessageProperties, Offset, Publisher, QoS, Seq, UnixMillis};
use tidings_core::state::{
    GroupChange, GroupRecord, Phase, SessionChange, SessionRecord, SubscriptionRecord, Unfinished,
    WillRecord,
};

pub use super::wire::DecodeError;
use super::wire::{Reader, put_bytes, put_text, put_varint};

/// Version of every form in this module; stored by whoever keeps the bytes.
pub const RECORD_VERSION: u32 = 1;

const PUBLISHED: u8 = 1;
const SESSION: u8 = 2;
const GROUP: u8 = 3;
const ACCOUNT: u8 = 4;

const QOS_MASK: u8 = 0b0000_0011;
const RETAIN: u8 = 1 << 2;
const HISTORY: u8 = 1 << 3;
const STREAM_IS_TOPIC: u8 = 1 << 4;
const PROPERTIES: u8 = 1 << 5;
const INBOUND: u8 = 1 << 6;
const ONLY: u8 = 1 << 7;

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Appends the binary form of a record to `out`.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Published(published) => {
            out.push(PUBLISHED);
            put_published(out, published);
        }
        Record::Session { client_id, change } => {
            out.push(SESSION);
            put_text(out, client_id);
            put_session_change(out, change);
        }
        Record::Group { filter, change } => {
            out.push(GROUP);
            put_text(out, filter);
            put_group_change(out, change);
        }
        Record::Account { user, change } => {
            out.push(ACCOUNT);
            put_text(out, user);
            put_account_change(out, change);
        }
    }
}

/// Reads what [`encode_record`] wrote: all of `bytes`.
///
/// # Errors
/// If the bytes are anything else.
pub fn decode_record(bytes: &[u8]) -> Result<Record> {
    whole(bytes, |reader| match reader.u8()? {
        PUBLISHED => Ok(Record::Published(Arc::new(read_published(reader)?))),
        SESSION => Ok(Record::Session {
            client_id: reader.text()?,
            change: read_session_change(reader)?,
        }),
        GROUP => Ok(Record::Group {
            filter: reader.text()?,
            change: read_group_change(reader)?,
        }),
        ACCOUNT => Ok(Record::Account {
            user: reader.text()?,
            change: read_account_change(reader)?,
        }),
        value => Err(DecodeError::Unknown {
            what: "record kind",
            value,
        }),
    })
}

/// Appends the binary form of a message to `out`.
pub fn encode_published(published: &Published, out: &mut Vec<u8>) {
    put_published(out, published);
}

/// Reads what [`encode_published`] wrote: all of `bytes`.
///
/// # Errors
/// If the bytes are anything else.
pub fn decode_published(bytes: &[u8]) -> Result<Published> {
    whole(bytes, read_published)
}

/// Appends the binary form of a session to `out`.
pub fn encode_session(session: &SessionRecord, out: &mut Vec<u8>) {
    put_text(out, &session.user);
    put_varint(out, u64::from(session.expiry_s));
    put_option(out, session.closed_at.as_ref(), |out, at| {
        put_varint(out, *at)
    });
    put_varint(out, session.cursor.0);
    put_list(out, &session.unfinished, put_unfinished);
    put_list(out, &session.inbound_qos2, |out, id| {
        put_varint(out, u64::from(*id))
    });
    put_list(out, &session.subscriptions, put_subscription);
    put_option(out, session.will.as_ref(), put_will);
}

/// Reads what [`encode_session`] wrote: all of `bytes`.
///
/// # Errors
/// If the bytes are anything else.
pub fn decode_session(bytes: &[u8]) -> Result<SessionRecord> {
    whole(bytes, |reader| {
        Ok(SessionRecord {
            user: reader.text()?,
            expiry_s: reader.number()?,
            closed_at: read_option(reader, Reader::varint)?,
            cursor: read_offset(reader)?,
            unfinished: reader.list(read_unfinished)?,
            inbound_qos2: reader.list(Reader::number)?,
            subscriptions: reader.list(read_subscription)?,
            will: read_option(reader, read_will)?,
        })
    })
}

/// Appends the binary form of a shared subscription to `out`.
pub fn encode_group(group: &GroupRecord, out: &mut Vec<u8>) {
    put_varint(out, group.cursor.0);
    put_list(out, &group.unfinished, |out, offset| {
        put_varint(out, offset.0)
    });
    put_varint(out, u64::from(group.members));
}

/// Reads what [`encode_group`] wrote: all of `bytes`.
///
/// # Errors
/// If the bytes are anything else.
pub fn decode_group(bytes: &[u8]) -> Result<GroupRecord> {
    whole(bytes, |reader| {
        Ok(GroupRecord {
            cursor: read_offset(reader)?,
            unfinished: reader.list(read_offset)?,
            members: reader.number()?,
        })
    })
}

/// Appends the binary form of an account to `out`.
pub fn encode_account(account: &AccountRecord, out: &mut Vec<u8>) {
    put_account(out, account);
}

/// Reads what [`encode_account`] wrote: all of `bytes`.
///
/// # Errors
/// If the bytes are anything else.
pub fn decode_account(bytes: &[u8]) -> Result<AccountRecord> {
    whole(bytes, read_account)
}

/// What an index needs to know of a record, without taking memory for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordHead<'a> {
    /// A message.
    Published(PublishedHead<'a>),
    /// Any other record.
    Other,
}

/// The beginning of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedHead<'a> {
    /// As in [`Published::stream`].
    pub stream: &'a str,
    /// As in [`Message::topic`].
    pub topic: &'a str,
    /// As in [`Published::seq`].
    pub seq: Seq,
    /// As in [`Message::time`].
    pub time: UnixMillis,
    /// As in [`Published::history`].
    pub history: bool,
    /// True for [`Audience::Everyone`].
    pub everyone: bool,
}

/// Reads the beginning of a record; the rest of `bytes` is not looked at.
///
/// # Errors
/// If the beginning is not one that [`encode_record`] writes.
pub fn decode_head(bytes: &[u8]) -> Result<RecordHead<'_>> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        PUBLISHED => read_head(&mut reader).map(|(_, head)| RecordHead::Published(head)),
        SESSION | GROUP | ACCOUNT => Ok(RecordHead::Other),
        value => Err(DecodeError::Unknown {
            what: "record kind",
            value,
        }),
    }
}

fn read_head<'a>(reader: &mut Reader<'a>) -> Result<(u8, PublishedHead<'a>)> {
    let flags = reader.u8()?;
    let seq = Seq(reader.varint()?);
    let time = reader.varint()?;
    let topic = reader.str()?;
    let stream = if flags & STREAM_IS_TOPIC == 0 {
        reader.str()?
    } else {
        topic
    };
    let (history, everyone) = (flags & HISTORY != 0, flags & ONLY == 0);
    Ok((
        flags,
        PublishedHead {
            stream,
            topic,
            seq,
            time,
            history,
            everyone,
        },
    ))
}

fn whole<T>(bytes: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<T> {
    let mut reader = Reader::new(bytes);
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

fn put_published(out: &mut Vec<u8>, published: &Published) {
    let message = &published.message;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let stream_is_topic = published.stream == message.topic;
    out.push(
        message.qos as u8
            | flag(message.retain, RETAIN)
            | flag(published.history, HISTORY)
            | flag(stream_is_topic, STREAM_IS_TOPIC)
            | flag(message.properties.is_some(), PROPERTIES)
            | flag(published.inbound_packet_id.is_some(), INBOUND)
            | flag(published.audience != Audience::Everyone, ONLY),
    );
    put_varint(out, published.seq.0);
    put_varint(out, message.time);
    put_text(out, &message.topic);
    if !stream_is_topic {
        put_text(out, &published.stream);
    }
    put_text(out, &message.publisher.user);
    put_text(out, &message.publisher.client_id);
    if let Some(id) = published.inbound_packet_id {
        put_varint(out, u64::from(id));
    }
    match &published.audience {
        Audience::Everyone => {}
        Audience::Only(clients) => put_list(out, clients, |out, client| put_text(out, client)),
        // A message for no client at all is never written.
        Audience::Growing => put_list(out, &[], |out, client: &Arc<str>| put_text(out, client)),
    }
    if let Some(properties) = &message.properties {
        put_properties(out, properties);
    }
    put_bytes(out, &message.payload);
}

fn read_published(reader: &mut Reader<'_>) -> Result<Published> {
    let (flags, head) = read_head(reader)?;
    let topic: Arc<str> = head.topic.into();
    let stream = if flags & STREAM_IS_TOPIC == 0 {
        head.stream.into()
    } else {
        topic.clone()
    };
    let publisher = Publisher {
        user: reader.text()?,
        client_id: reader.text()?,
    };
    let inbound_packet_id = if flags & INBOUND == 0 {
        None
    } else {
        Some(reader.number()?)
    };
    let audience = if flags & ONLY == 0 {
        Audience::Everyone
    } else {
        let clients = reader.list(Reader::text)?;
        if clients.is_empty() {
            Audience::Growing
        } else {
            Audience::Only(clients)
        }
    };
    let properties = if flags & PROPERTIES == 0 {
        None
    } else {
        Some(Box::new(read_properties(reader)?))
    };
    let message = Message {
        topic,
        payload: reader.owned_bytes()?,
        qos: qos_from(flags & QOS_MASK)?,
        retain: flags & RETAIN != 0,
        properties,
        publisher,
        time: head.time,
    };
    let (seq, history) = (head.seq, head.history);
    Ok(Published {
        stream,
        seq,
        message,
        history,
        audience,
        inbound_packet_id,
        read_us: 0,
    })
}

fn put_properties(out: &mut Vec<u8>, properties: &MessageProperties) {
    put_option(out, properties.payload_is_utf8.as_ref(), |out, utf8| {
        out.push(u8::from(*utf8))
    });
    put_option(out, properties.message_expiry_s.as_ref(), |out, s| {
        put_varint(out, u64::from(*s))
    });
    put_option(out, properties.response_topic.as_ref(), |out, text| {
        put_text(out, text)
    });
    put_option(out, properties.correlation_data.as_ref(), |out, data| {
        put_bytes(out, data)
    });
    put_list(out, &properties.user, |out, (name, value)| {
        put_text(out, name);
        put_text(out, value);
    });
    put_option(out, properties.content_type.as_ref(), |out, text| {
        put_text(out, text)
    });
}

fn read_properties(reader: &mut Reader<'_>) -> Result<MessageProperties> {
    Ok(MessageProperties {
        payload_is_utf8: read_option(reader, read_bool)?,
        message_expiry_s: read_option(reader, Reader::number)?,
        response_topic: read_option(reader, Reader::text)?,
        correlation_data: read_option(reader, Reader::owned_bytes)?,
        user: reader.list(|reader| Ok((reader.text()?, reader.text()?)))?,
        content_type: read_option(reader, Reader::text)?,
    })
}

fn put_session_change(out: &mut Vec<u8>, change: &SessionChange) {
    match change {
        SessionChange::Opened {
            user,
            expiry_s,
            clean,
            will,
        } => {
            out.push(1);
            put_text(out, user);
            put_varint(out, u64::from(*expiry_s));
            out.push(u8::from(*clean));
            put_option(out, will.as_deref(), put_will);
        }
        SessionChange::Subscribed(subscription) => {
            out.push(2);
            put_subscription(out, subscription);
        }
        SessionChange::Unsubscribed { filter } => {
            out.push(3);
            put_text(out, filter);
        }
        SessionChange::Progress { cursor, unfinished } => {
            out.push(4);
            put_varint(out, cursor.0);
            put_list(out, unfinished, put_unfinished);
        }
        SessionChange::Released { packet_id } => {
            out.push(5);
            put_varint(out, u64::from(*packet_id));
        }
        SessionChange::Closed {
            at,
            expiry_s,
            keep_will,
        } => {
            out.push(6);
            put_varint(out, *at);
            put_varint(out, u64::from(*expiry_s));
            out.push(u8::from(*keep_will));
        }
        SessionChange::WillPublished => out.push(7),
        SessionChange::Ended { filters } => {
            out.push(8);
            put_list(out, filters, |out, (filter, qos)| {
                put_text(out, filter);
                out.push(*qos as u8);
            });
        }
    }
}

fn read_session_change(reader: &mut Reader<'_>) -> Result<SessionChange> {
    Ok(match reader.u8()? {
        1 => SessionChange::Opened {
            user: reader.text()?,
            expiry_s: reader.number()?,
            clean: read_bool(reader)?,
            will: read_option(reader, read_will)?.map(Box::new),
        },
        2 => SessionChange::Subscribed(read_subscription(reader)?),
        3 => SessionChange::Unsubscribed {
            filter: reader.text()?,
        },
        4 => SessionChange::Progress {
            cursor: read_offset(reader)?,
            unfinished: reader.list(read_unfinished)?,
        },
        5 => SessionChange::Released {
            packet_id: reader.number()?,
        },
        6 => SessionChange::Closed {
            at: reader.varint()?,
            expiry_s: reader.number()?,
            keep_will: read_bool(reader)?,
        },
        7 => SessionChange::WillPublished,
        8 => SessionChange::Ended {
            filters: reader.list(|reader| Ok((reader.text()?, read_qos(reader)?)))?,
        },
        value => {
            return Err(DecodeError::Unknown {
                what: "session change",
                value,
            });
        }
    })
}

fn put_group_change(out: &mut Vec<u8>, change: &GroupChange) {
    match change {
        GroupChange::Progress { cursor, unfinished } => {
            out.push(1);
            put_varint(out, cursor.0);
            put_list(out, unfinished, |out, offset| put_varint(out, offset.0));
        }
    }
}

fn read_group_change(reader: &mut Reader<'_>) -> Result<GroupChange> {
    match reader.u8()? {
        1 => Ok(GroupChange::Progress {
            cursor: read_offset(reader)?,
            unfinished: reader.list(read_offset)?,
        }),
        value => Err(DecodeError::Unknown {
            what: "group change",
            value,
        }),
    }
}

fn put_account_change(out: &mut Vec<u8>, change: &AccountChange) {
    match change {
        AccountChange::Created(account) => {
            out.push(1);
            put_account(out, account);
        }
        AccountChange::SecretSet(secret) => {
            out.push(2);
            put_secret(out, secret);
        }
        AccountChange::Enabled => out.push(3),
        AccountChange::Disabled => out.push(4),
        AccountChange::RolesSet(roles) => {
            out.push(5);
            put_list(out, roles, |out, role| put_text(out, role));
        }
        AccountChange::TokensRevoked { before } => {
            out.push(6);
            put_varint(out, *before);
        }
        AccountChange::Deleted => out.push(7),
    }
}

fn read_account_change(reader: &mut Reader<'_>) -> Result<AccountChange> {
    Ok(match reader.u8()? {
        1 => AccountChange::Created(Box::new(read_account(reader)?)),
        2 => AccountChange::SecretSet(read_secret(reader)?),
        3 => AccountChange::Enabled,
        4 => AccountChange::Disabled,
        5 => AccountChange::RolesSet(reader.list(Reader::text)?),
        6 => AccountChange::TokensRevoked {
            before: reader.varint()?,
        },
        7 => AccountChange::Deleted,
        value => {
            return Err(DecodeError::Unknown {
                what: "account change",
                value,
            });
        }
    })
}

fn put_account(out: &mut Vec<u8>, account: &AccountRecord) {
    put_option(out, account.owner.as_ref(), |out, owner| {
        put_text(out, owner)
    });
    put_secret(out, &account.secret);
    out.push(u8::from(account.enabled));
    put_list(out, &account.roles, |out, role| put_text(out, role));
    put_varint(out, account.created);
    put_varint(out, account.valid_from);
    out.push(u8::from(account.deleted));
}

fn read_account(reader: &mut Reader<'_>) -> Result<AccountRecord> {
    Ok(AccountRecord {
        owner: read_option(reader, Reader::text)?,
        secret: read_secret(reader)?,
        enabled: read_bool(reader)?,
        roles: reader.list(Reader::text)?,
        created: reader.varint()?,
        valid_from: reader.varint()?,
        deleted: read_bool(reader)?,
    })
}

fn put_secret(out: &mut Vec<u8>, secret: &Secret) {
    match secret {
        Secret::None => out.push(0),
        Secret::PasswordHash(hash) => {
            out.push(1);
            put_text(out, hash);
        }
        Secret::TokenHash(hash) => {
            out.push(2);
            out.extend_from_slice(hash);
        }
    }
}

fn read_secret(reader: &mut Reader<'_>) -> Result<Secret> {
    Ok(match reader.u8()? {
        0 => Secret::None,
        1 => Secret::PasswordHash(reader.text()?),
        2 => {
            let mut hash = [0; 32];
            for byte in &mut hash {
                *byte = reader.u8()?;
            }
            Secret::TokenHash(hash)
        }
        value => {
            return Err(DecodeError::Unknown {
                what: "secret",
                value,
            });
        }
    })
}

fn put_unfinished(out: &mut Vec<u8>, unfinished: &Unfinished) {
    put_varint(out, u64::from(unfinished.packet_id));
    put_varint(out, unfinished.offset.0);
    let phase = match unfinished.phase {
        Phase::AwaitPubAck => 1,
        Phase::AwaitPubRec => 2,
        Phase::AwaitPubComp => 3,
    };
    out.push(phase << 2 | unfinished.qos as u8);
}

fn read_unfinished(reader: &mut Reader<'_>) -> Result<Unfinished> {
    let packet_id = reader.number()?;
    let offset = read_offset(reader)?;
    let bits = reader.u8()?;
    let phase = match bits >> 2 {
        1 => Phase::AwaitPubAck,
        2 => Phase::AwaitPubRec,
        3 => Phase::AwaitPubComp,
        value => {
            return Err(DecodeError::Unknown {
                what: "phase",
                value,
            });
        }
    };
    Ok(Unfinished {
        packet_id,
        offset,
        phase,
        qos: qos_from(bits & QOS_MASK)?,
    })
}

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const CURSOR: u8 = 1 << 4;

fn put_subscription(out: &mut Vec<u8>, subscription: &SubscriptionRecord) {
    put_text(out, &subscription.filter);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(
        subscription.qos as u8
            | flag(subscription.no_local, NO_LOCAL)
            | flag(subscription.retain_as_published, RETAIN_AS_PUBLISHED)
            | flag(subscription.cursor, CURSOR),
    );
    put_option(out, subscription.subscription_id.as_ref(), |out, id| {
        put_varint(out, u64::from(*id));
    });
    put_varint(out, subscription.since.0);
}

fn read_subscription(reader: &mut Reader<'_>) -> Result<SubscriptionRecord> {
    let filter = reader.text()?;
    let flags = reader.u8()?;
    if flags & !(QOS_MASK | NO_LOCAL | RETAIN_AS_PUBLISHED | CURSOR) != 0 {
        return Err(DecodeError::Unknown {
            what: "subscription flags",
            value: flags,
        });
    }
    Ok(SubscriptionRecord {
        filter,
        qos: qos_from(flags & QOS_MASK)?,
        no_local: flags & NO_LOCAL != 0,
        retain_as_published: flags & RETAIN_AS_PUBLISHED != 0,
        subscription_id: read_option(reader, Reader::number)?,
        since: read_offset(reader)?,
        cursor: flags & CURSOR != 0,
    })
}

fn put_will(out: &mut Vec<u8>, will: &WillRecord) {
    let message = &will.message;
    let retain = if message.retain { RETAIN } else { 0 };
    out.push(message.qos as u8 | retain);
    put_text(out, &message.topic);
    put_bytes(out, &message.payload);
    put_option(out, message.properties.as_deref(), put_properties);
    put_text(out, &message.publisher.user);
    put_text(out, &message.publisher.client_id);
    put_varint(out, message.time);
    put_varint(out, u64::from(will.delay_s));
}

fn read_will(reader: &mut Reader<'_>) -> Result<WillRecord> {
    let flags = reader.u8()?;
    if flags & !(QOS_MASK | RETAIN) != 0 {
        return Err(DecodeError::Unknown {
            what: "will flags",
            value: flags,
        });
    }
    let message = Message {
        topic: reader.text()?,
        payload: reader.owned_bytes()?,
        qos: qos_from(flags & QOS_MASK)?,
        retain: flags & RETAIN != 0,
        properties: read_option(reader, read_properties)?.map(Box::new),
        publisher: Publisher {
            user: reader.text()?,
            client_id: reader.text()?,
        },
        time: reader.varint()?,
    };
    Ok(WillRecord {
        message,
        delay_s: reader.number()?,
    })
}

fn put_option<T: ?Sized>(out: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

fn read_option<'a, T>(
    reader: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T>,
) -> Result<Option<T>> {
    if read_bool(reader)? {
        read(reader).map(Some)
    } else {
        Ok(None)
    }
}

fn put_list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_varint(out, items.len() as u64);
    for item in items {
        put(out, item);
    }
}

fn read_bool(reader: &mut Reader<'_>) -> Result<bool> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(DecodeError::Unknown {
            what: "truth value",
            value,
        }),
    }
}

fn read_offset(reader: &mut Reader<'_>) -> Result<Offset> {
    reader.varint().map(Offset)
}

fn read_qos(reader: &mut Reader<'_>) -> Result<QoS> {
    qos_from(reader.u8()?)
}

fn qos_from(bits: u8) -> Result<QoS> {
    QoS::from_bits(bits).ok_or(DecodeError::Unknown {
        what: "QoS",
        value: bits,
    })
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
