//! Pages as JSON: each message as every gateway has it, and what history knows beside that.
//!
//! ```text
//! {"topic":"chat/lobby/alice","kind":"message","from":"alice","seq":7,"id":"chat/lobby/7",
//!  "ts":1795239599673,"payload":"hello","room":"lobby","mentions":["bob"],
//!  "edited":{"seq":9,"ts":1795239599999,"payload":"hello!"},"reactions":{"👍":["alice"]}}
//! {"topic":"chat/lobby/alice","kind":"message","seq":8,"payload":"",
//!  "recalled":{"by":"alice","ts":1795239599999}}
//! ```
//! `kind` is `message`, `reply`, `edit`, `recall` or `react`; the last three are about message `of`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tidings_bridge::gateway::MessageJson;
use tidings_core::journal::Published;
use tidings_core::message::Message;
use tidings_core::messages::{Kind, What, mentions_of};
use tidings_core::rules::Rules;

use super::{Page, Shown};

/// A message of the journal.
fn message_json(rules: &Rules, published: &Published) -> Value {
    let rule = rules.decide(&published.message.topic);
    // Texts, numbers and lists of them can always be written.
    let mut json = serde_json::to_value(MessageJson::of_published(published, &rule))
        .unwrap_or_else(|_| json!({}));
    let kind = Kind::of(&published.message.topic, &published.stream);
    json["kind"] = word(kind).into();
    if let Kind::Edit(of) | Kind::Recall(of) | Kind::React(of) = kind {
        json["of"] = of.0.into();
    }
    let mentions = mentions_of(published);
    if !mentions.is_empty() {
        let names: Vec<&str> = mentions.iter().map(|name| &**name).collect();
        json["mentions"] = names.into();
    }
    json
}

/// The answer to a request for history.
pub(super) fn page_json(rules: &Rules, page: &Page) -> Value {
    let mut json = json!({
        "stream": *page.stream,
        "from": page.from.0,
        "to": page.to.0,
        "first": page.first.0,
        "head": page.head.0,
        "messages": page.messages.iter().map(|shown| shown_json(rules, shown)).collect::<Vec<_>>(),
    });
    if let Some(room) = &page.room {
        json["room"] = (**room).into();
    }
    if let Some(gap) = &page.gap {
        json["gap"] = json!({ "from": gap.start(), "to": gap.end() });
    }
    json
}

fn shown_json(rules: &Rules, shown: &Shown) -> Value {
    let mut json = message_json(rules, &shown.published);
    if let Some(edit) = &shown.edited {
        let mut edited = Map::new();
        edited.insert("seq".to_owned(), edit.seq.0.into());
        edited.insert("ts".to_owned(), edit.message.time.into());
        put_payload(&mut edited, &edit.message);
        json["edited"] = Value::Object(edited);
    }
    if let Some(recall) = &shown.recalled {
        json["recalled"] = json!({ "by": *recall.by, "ts": recall.time });
        return json;
    }
    let mut reactions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for change in &shown.reactions {
        if let What::Reaction(text) = &change.what {
            reactions.entry(text).or_default().push(&change.by);
        }
    }
    if !reactions.is_empty() {
        json["reactions"] = json!(reactions);
    }
    if shown.more_reactions {
        json["more_reactions"] = true.into();
    }
    json
}

fn put_payload(json: &mut Map<String, Value>, message: &Message) {
    match std::str::from_utf8(&message.payload) {
        Ok(text) => json.insert("payload".to_owned(), text.into()),
        Err(_) => json.insert(
            "payload_base64".to_owned(),
            STANDARD.encode(&message.payload).into(),
        ),
    };
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Message => "message",
        Kind::Reply(_) => "reply",
        Kind::Edit(_) => "edit",
        Kind::Recall(_) => "recall",
        Kind::React(_) => "react",
    }
}
