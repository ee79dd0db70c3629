//! The entries of a journal as JSON, for people and scripts.
//!
//! Reads the files as they are, also while a broker writes them: it ends where the last batch ends
//! that is there. Payloads and correlation data that are no text are given in hexadecimal.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};
use tidings_core::account::AccountChange;
use tidings_core::journal::{Audience, Published, ReadError, Record};
use tidings_core::message::{MessageProperties, Offset};
use tidings_core::state::{GroupChange, SessionChange, SubscriptionRecord, Unfinished, WillRecord};

use super::frame::{FrameScanner, HEADER_BYTES};
use super::fs::Fs;
use super::layout::{segment_base, segment_name};
use super::load::{damaged, read_header};
use super::record::decode_record;

/// Iterates over entries; see [`dump`].
pub struct Dump {
    fs: Arc<dyn Fs>,
    from: Offset,
    segments: VecDeque<Offset>,
    scanner: Option<(Offset, FrameScanner)>,
    ready: VecDeque<Value>,
    failed: bool,
}

/// Every entry from `from` on that is still there, each as a JSON object.
///
/// # Errors
/// If the directory cannot be listed. Damage is told by the iterator, which ends there.
pub fn dump(fs: Arc<dyn Fs>, from: Offset) -> Result<Dump, ReadError> {
    let mut bases: Vec<Offset> = fs
        .list()?
        .iter()
        .filter_map(|name| segment_base(name))
        .collect();
    bases.sort_unstable();
    // The segment that `from` is in is the last one that does not begin after it.
    let first = bases
        .partition_point(|base| *base <= from)
        .saturating_sub(1);
    let segments = bases.split_off(first.min(bases.len())).into();
    let (scanner, ready, failed) = (None, VecDeque::new(), false);
    Ok(Dump {
        fs,
        from,
        segments,
        scanner,
        ready,
        failed,
    })
}

impl Iterator for Dump {
    type Item = Result<Value, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.failed {
            match self.read_on() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Dump {
    /// Reads the next batch or opens the next segment; false if there is none.
    fn read_on(&mut self) -> Result<bool, ReadError> {
        let Some((base, scanner)) = &mut self.scanner else {
            let Some(base) = self.segments.pop_front() else {
                return Ok(false);
            };
            let file = self.fs.open(&segment_name(base))?;
            let header = read_header(&*file, base)?;
            let len = file.len()?;
            let scanner = FrameScanner::new(file, header.epoch, HEADER_BYTES, len);
            self.scanner = Some((base, scanner));
            return Ok(true);
        };
        let base = *base;
        let frame = match scanner.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.scanner = None;
                return Ok(true);
            }
            // The last batch may be half written just now.
            Err(super::frame::ScanError::Damaged(_)) if self.segments.is_empty() => {
                return Ok(false);
            }
            Err(error) => return Err(damaged(base, error)),
        };
        for entry in frame.entries() {
            let entry = entry.map_err(|damage| damaged(base, damage.into()))?;
            if entry.offset < self.from {
                continue;
            }
            let record = decode_record(entry.record).map_err(|error| {
                let (file, offset) = (segment_name(base), entry.offset);
                ReadError::Damaged(format!("{file}, offset {offset}: {error}"))
            })?;
            self.ready.push_back(entry_json(entry.offset, &record));
        }
        Ok(true)
    }
}

/// One entry as a JSON object.
pub fn entry_json(offset: Offset, record: &Record) -> Value {
    let mut value = match record {
        Record::Published(published) => published_json(published),
        Record::Session { client_id, change } => {
            let mut value = session_json(change);
            value["kind"] = json!("session");
            value["client_id"] = json!(**client_id);
            value
        }
        Record::Group {
            filter,
            change: GroupChange::Progress { cursor, unfinished },
        } => json!({
            "kind": "group",
            "filter": **filter,
            "change": "progress",
            "cursor": cursor.0,
            "unfinished": unfinished.iter().map(|offset| offset.0).collect::<Vec<_>>(),
        }),
        Record::Account { user, change } => {
            let mut value = account_json(change);
            value["kind"] = json!("account");
            value["user"] = json!(**user);
            value
        }
    };
    value["offset"] = json!(offset.0);
    value
}

/// Without secrets: what is printed ends up in tickets and chats.
fn account_json(change: &AccountChange) -> Value {
    let names = |roles: &[Arc<str>]| roles.iter().map(|role| json!(**role)).collect::<Value>();
    match change {
        AccountChange::Created(account) => json!({
            "change": "created",
            "owner": account.owner.as_deref(),
            "enabled": account.enabled,
            "roles": names(&account.roles),
            "created": account.created,
        }),
        AccountChange::SecretSet(_) => json!({ "change": "secret_set" }),
        AccountChange::Enabled => json!({ "change": "enabled" }),
        AccountChange::Disabled => json!({ "change": "disabled" }),
        AccountChange::RolesSet(roles) => json!({ "change": "roles_set", "roles": names(roles) }),
        AccountChange::TokensRevoked { before } => {
            json!({ "change": "tokens_revoked", "before": before })
        }
        AccountChange::Deleted => json!({ "change": "deleted" }),
    }
}

fn published_json(published: &Published) -> Value {
    let message = &published.message;
    let mut value = json!({
        "kind": "message",
        "stream": *published.stream,
        "seq": published.seq.0,
        "topic": *message.topic,
        "qos": message.qos as u8,
        "retain": message.retain,
        "history": published.history,
        "time": message.time,
        "user": *message.publisher.user,
        "client_id": *message.publisher.client_id,
    });
    put_bytes(&mut value, "payload", &message.payload);
    if let Some(properties) = &message.properties {
        value["properties"] = properties_json(properties);
    }
    if let Audience::Only(clients) = &published.audience {
        value["only"] = clients.iter().map(|client| json!(**client)).collect();
    }
    if published.audience == Audience::Growing {
        value["growing"] = json!(true);
    }
    if let Some(id) = published.inbound_packet_id {
        value["inbound_packet_id"] = json!(id);
    }
    value
}

fn properties_json(properties: &MessageProperties) -> Value {
    let mut value = json!({});
    if let Some(utf8) = properties.payload_is_utf8 {
        value["payload_is_utf8"] = json!(utf8);
    }
    if let Some(seconds) = properties.message_expiry_s {
        value["message_expiry_s"] = json!(seconds);
    }
    if let Some(topic) = &properties.response_topic {
        value["response_topic"] = json!(**topic);
    }
    if let Some(data) = &properties.correlation_data {
        put_bytes(&mut value, "correlation_data", data);
    }
    if let Some(kind) = &properties.content_type {
        value["content_type"] = json!(**kind);
    }
    if !properties.user.is_empty() {
        value["user"] = properties
            .user
            .iter()
            .map(|(n, v)| json!([**n, **v]))
            .collect();
    }
    value
}

fn session_json(change: &SessionChange) -> Value {
    match change {
        SessionChange::Opened {
            user,
            expiry_s,
            clean,
            will,
        } => json!({
            "change": "opened", "user": **user, "expiry_s": expiry_s, "clean": clean,
            "will": will.as_deref().map(will_json),
        }),
        SessionChange::Subscribed(subscription) => subscription_json(subscription),
        SessionChange::Unsubscribed { filter } => {
            json!({ "change": "unsubscribed", "filter": **filter })
        }
        SessionChange::Progress { cursor, unfinished } => json!({
            "change": "progress", "cursor": cursor.0,
            "unfinished": unfinished.iter().map(unfinished_json).collect::<Vec<_>>(),
        }),
        SessionChange::Released { packet_id } => {
            json!({ "change": "released", "packet_id": packet_id })
        }
        SessionChange::Closed {
            at,
            expiry_s,
            keep_will,
        } => json!({
            "change": "closed", "at": at, "expiry_s": expiry_s, "keep_will": keep_will,
        }),
        SessionChange::WillPublished => json!({ "change": "will_published" }),
        SessionChange::Ended { filters } => json!({
            "change": "ended",
            "filters": filters.iter().map(|(f, qos)| json!([**f, *qos as u8])).collect::<Vec<_>>(),
        }),
    }
}

fn subscription_json(subscription: &SubscriptionRecord) -> Value {
    json!({
        "change": "subscribed",
        "filter": *subscription.filter,
        "qos": subscription.qos as u8,
        "no_local": subscription.no_local,
        "retain_as_published": subscription.retain_as_published,
        "subscription_id": subscription.subscription_id,
    })
}

fn unfinished_json(unfinished: &Unfinished) -> Value {
    json!({
        "packet_id": unfinished.packet_id,
        "offset": unfinished.offset.0,
        "phase": format!("{:?}", unfinished.phase),
        "qos": unfinished.qos as u8,
    })
}

fn will_json(will: &WillRecord) -> Value {
    let mut value = json!({
        "topic": *will.message.topic,
        "qos": will.message.qos as u8,
        "retain": will.message.retain,
        "delay_s": will.delay_s,
    });
    put_bytes(&mut value, "payload", &will.message.payload);
    value
}

/// Text as it is, anything else in hexadecimal under a name that says so.
fn put_bytes(value: &mut Value, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => value[name] = json!(text),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            value[format!("{name}_hex")] = json!(hex);
        }
    }
}
