//! When everything has come to rest, two clients that never were there look at what is left: one at
//! the retained messages, one at the history. What they see is held against what the publishers were
//! told, and against the journal.

use std::collections::HashMap;

use tidings_core::message::{QoS, Seq};

use super::house::{ClientId, House};
use super::login::{Filter, Login};
use super::model::{Message, Model};
use super::said::Delivery;

/// Topics of the schedules that have a history, and their streams.
const HISTORIES: &[(&str, &str)] = &[
    ("kept/0", "kept/0"),
    ("kept/1", "kept/1"),
    ("room/x/u0", "room/x"),
];

/// More than the history of a schedule has.
const EVERYTHING: usize = 1_000_000;

/// Looks, and says what is wrong. `number` chooses the auditors' shards.
pub fn audit(house: &mut House, model: &Model, number: u64) -> Vec<String> {
    let retained = see(house, &format!("retained{number}"), &[Filter::qos2("#")]);
    let mut faults = Vec::new();
    check_retained(model, &retained, &mut faults);
    let replays: Vec<Filter> = HISTORIES
        .iter()
        .map(|(topic, _)| Filter::qos2(&format!("$replay/seq/1/{topic}")))
        .collect();
    let replayed = see(house, &format!("history{number}"), &replays);
    for (topic, stream) in HISTORIES {
        let stored = check_stream(house, stream, &mut faults);
        check_history(model, topic, &stored, &mut faults);
        let seen: Vec<&str> = replayed
            .iter()
            .filter(|delivery| delivery.topic == *topic)
            .map(|delivery| delivery.payload.as_str())
            .collect();
        if seen != stored {
            faults.push(format!("{topic} has {stored:?}, replayed were {seen:?}"));
        }
    }
    faults
}

/// What a new client gets for some filters.
fn see(house: &mut House, name: &str, filters: &[Filter]) -> Vec<Delivery> {
    let client = ClientId(house.clients.len());
    house.add_client(Login::v5(name).user("auditor"));
    house.dial(client, Login::v5(name).user("auditor"));
    house.settle();
    house.tell(client, |c| c.subscribe(filters, None));
    house.advance(1_000);
    let arrivals = house.take_arrivals(client);
    house.cut(client);
    house.settle();
    arrivals
}

/// The newest retained message of each topic is there, and no other.
fn check_retained(model: &Model, seen: &[Delivery], faults: &mut Vec<String>) {
    let mut by_topic: HashMap<&str, Vec<&Message>> = HashMap::new();
    for message in model.messages().filter(|m| m.post.retain) {
        by_topic
            .entry(&message.post.topic)
            .or_default()
            .push(message);
    }
    for (topic, messages) in by_topic {
        let found: Vec<&Delivery> = seen
            .iter()
            .filter(|d| d.topic == topic && d.retain)
            .collect();
        if topic.contains("secret/") {
            if !found.is_empty() {
                faults.push(format!("the auditor sees {found:?}"));
            }
            continue;
        }
        let stored: Vec<&Message> = messages.iter().copied().filter(|m| is_stored(m)).collect();
        let [one] = found.as_slice() else {
            if found.len() > 1 || !stored.is_empty() {
                faults.push(format!(
                    "{topic} has the retained messages {found:?} of {messages:?}"
                ));
            }
            continue;
        };
        let Some(message) = messages.iter().find(|m| m.post.payload == one.payload) else {
            faults.push(format!("nobody published {one:?} to be retained"));
            continue;
        };
        let replaced = stored
            .iter()
            .find(|later| message.acked_at.is_some_and(|at| at < later.sent_at));
        if let Some(later) = replaced.filter(|_| !message.repeated) {
            faults.push(format!(
                "{message:?} is retained although {later:?} replaced it"
            ));
        }
    }
}

/// The numbers of a stream are dense, and end where the state says. Gives the payloads.
fn check_stream(house: &House, stream: &str, faults: &mut Vec<String>) -> Vec<String> {
    let history = house.disk.journal().history(stream, Seq(0), EVERYTHING);
    let history = match history {
        Ok(history) => history,
        Err(error) => {
            faults.push(format!("{stream} cannot be read: {error}"));
            return Vec::new();
        }
    };
    let head = house.disk.state().stream_head(stream);
    let seqs: Vec<u64> = history.iter().map(|entry| entry.published.seq.0).collect();
    if seqs != (1..=head.0).collect::<Vec<u64>>() {
        faults.push(format!("{stream} has {seqs:?}, the state says {head:?}"));
    }
    history
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.published.message.payload).into_owned())
        .collect()
}

/// Every message that was acknowledged is stored, and none twice.
fn check_history(model: &Model, topic: &str, stored: &[String], faults: &mut Vec<String>) {
    for message in model.messages().filter(|m| m.post.topic == topic) {
        let count = stored.iter().filter(|p| **p == message.post.payload);
        match count.count() {
            0 if is_stored(message) => faults.push(format!("{message:?} is not in the history")),
            0 | 1 => {}
            _ if message.repeated => {}
            count => faults.push(format!("{message:?} is in the history {count} times")),
        }
    }
}

fn is_stored(message: &Message) -> bool {
    message.acked_at.is_some() && message.post.qos != QoS::AtMostOnce
}
