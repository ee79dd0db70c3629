//! What the journal has for somebody from a position on, read without a session: the answer to a poll
//! that finds something, and how far a reader without news has come.
//!
//! Reading blocks, so that it is done on threads for that.

use std::collections::HashSet;
use std::sync::Arc;

use tidings_bridge::gateway::MessageJson;
use tidings_core::journal::{Audience, Published, ReadEntry, ReadError};
use tidings_core::message::Offset;

use super::super::{Api, Problem};
use super::asked::cursor;
use crate::auth::Admitted;
use crate::history::given_out;

/// Bytes that are read at once, and that an answer has, a message more at most.
const PAGE_BYTES: usize = 256 * 1024;

/// Part of the journal, as somebody may see it.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Messages as JSON.
    pub messages: Vec<String>,
    /// Everything before it was looked at.
    pub next: Offset,
}

/// Up to `limit` messages that match `filters`, from `from` on.
pub(super) async fn read(
    api: &Api,
    admitted: &Arc<Admitted>,
    filters: &[Arc<str>],
    from: Offset,
    limit: usize,
) -> Result<Backlog, Problem> {
    let (api, admitted, filters) = (api.clone(), admitted.clone(), filters.to_vec());
    let read = move || read_now(&api, &admitted, &filters, from, limit);
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(backlog)) => Ok(backlog),
        Ok(Err(error)) => {
            tracing::error!(%error, "the journal cannot be read");
            Err(Problem::unavailable("the journal cannot be read"))
        }
        Err(_) => Err(Problem::unavailable("the broker stops")),
    }
}

fn read_now(
    api: &Api,
    admitted: &Admitted,
    filters: &[Arc<str>],
    from: Offset,
    limit: usize,
) -> Result<Backlog, ReadError> {
    let end = api.journal.end();
    let mut backlog = Backlog {
        messages: Vec::new(),
        next: from,
    };
    let mut left = PAGE_BYTES;
    while backlog.next < end {
        let page = api.journal.read_history(filters, backlog.next, end, left)?;
        let found = page.entries.len();
        for ReadEntry { offset, published } in page.entries {
            if may_see(api, admitted, &published) {
                left = left.saturating_sub(published.message.payload.len());
                let published = given_out(&*api.state, published);
                backlog.messages.push(json(api, offset, &published));
            }
            backlog.next = offset.next();
            if backlog.messages.len() == limit {
                return Ok(backlog);
            }
        }
        let next = page.next.min(end);
        if found == 0 && next <= backlog.next {
            break;
        }
        backlog.next = next.max(backlog.next);
        if left == 0 {
            break;
        }
    }
    Ok(backlog)
}

/// Retained messages that somebody is given after a gap, as to who begins.
const MAX_RETAINED: usize = 10_000;

/// What is retained from before `before`, for who cannot know it otherwise; and whether there is more than
/// one answer has.
pub(super) async fn retained(
    api: &Api,
    admitted: &Arc<Admitted>,
    filters: &[Arc<str>],
    before: Offset,
) -> Result<(Vec<String>, bool), Problem> {
    let (api, admitted, filters) = (api.clone(), admitted.clone(), filters.to_vec());
    let read = move || retained_now(&api, &admitted, &filters, before);
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|_| Problem::unavailable("the broker stops"))
}

fn retained_now(
    api: &Api,
    admitted: &Admitted,
    filters: &[Arc<str>],
    before: Offset,
) -> (Vec<String>, bool) {
    let mut topics = HashSet::new();
    let mut kept: Vec<Arc<Published>> = Vec::new();
    let mut more = false;
    for filter in filters {
        api.state.for_each_retained(filter, before, &mut |found| {
            let published = &found.published;
            if !may_receive(api, admitted, published) {
                return;
            }
            if kept.len() == MAX_RETAINED {
                more = true;
            } else if topics.insert(published.message.topic.clone()) {
                kept.push(published.clone());
            }
        });
    }
    let rules = api.rules.current();
    let as_json = |published| {
        let published = given_out(&*api.state, published);
        let rule = rules.decide(&published.message.topic);
        let message = MessageJson {
            retained: true,
            ..MessageJson::of_published(&published, &rule)
        };
        // Strings and numbers can always be written.
        serde_json::to_string(&message).unwrap_or_default()
    };
    (kept.into_iter().map(as_json).collect(), more)
}

fn may_see(api: &Api, admitted: &Admitted, published: &Published) -> bool {
    published.audience == Audience::Everyone && may_receive(api, admitted, published)
}

fn may_receive(api: &Api, admitted: &Admitted, published: &Published) -> bool {
    let message = &published.message;
    let now = api.reception.clock.now().unix_ms;
    let who = &admitted.identity;
    message.expires_at().is_none_or(|end| end > now)
        && api
            .rules
            .may_receive(&message.topic, who, &*api.members)
            .is_allowed()
}

fn json(api: &Api, offset: Offset, published: &Published) -> String {
    let rules = api.rules.current();
    let rule = rules.decide(&published.message.topic);
    let place = cursor(api, offset.next()).to_string();
    let message = MessageJson {
        cursor: Some(&place),
        ..MessageJson::of_published(published, &rule)
    };
    // Strings and numbers can always be written.
    serde_json::to_string(&message).unwrap_or_default()
}
