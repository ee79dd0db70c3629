//! `GET /v1/poll`: what happened since a cursor, as one answer; with `wait`, when something happens.
//!
//! What the journal has is answered at once. If it has nothing, a session waits with the cursor: so
//! what is not kept (somebody types) is answered, too, if it happens meanwhile. After a gap, and where a
//! cursor does not count, what is retained comes first, as it does in a stream.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::json;
use tidings_core::codec::RetainHandling;
use tidings_core::message::{Cursor, Offset};
use tokio::time::{Instant, timeout_at};

use super::super::{Api, Problem, reply};
use super::asked::{Asked, Since, cursor, is_ours};
use super::backlog;
use super::reader::{News, Opened, Reader};
use crate::metrics::Via;

/// Bytes of an answer above which no more messages are waited for.
const ENOUGH: usize = 256 * 1024;

/// One answer.
struct Polled {
    messages: Vec<String>,
    cursor: Cursor,
    reset: bool,
    gap: Option<String>,
    /// More is retained than was given.
    more_retained: bool,
}

pub(super) async fn poll(
    State(api): State<Api>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let mut asked = Asked::of(&api, request).await?;
    // The connection stays until the answer was written.
    let _streaming = asked.line.begin_stream();
    let polled = match asked.since {
        Since::Cursor(cursor) if is_ours(&api, cursor) => answer(&api, &mut asked, cursor).await?,
        since => {
            let end = api.journal.end();
            let mut polled = Polled {
                messages: Vec::new(),
                cursor: cursor(&api, end),
                reset: since != Since::Now,
                gap: None,
                more_retained: false,
            };
            if polled.reset {
                polled.add_retained(&api, &asked, end).await?;
            }
            polled
        }
    };
    Ok(reply::with(
        StatusCode::OK,
        "application/json",
        polled.to_json(),
    ))
}

async fn answer(api: &Api, asked: &mut Asked, since: Cursor) -> Result<Polled, Problem> {
    let start = api.journal.start();
    let gap = (since.offset < start).then(|| {
        let (from, to) = (since.to_string(), cursor(api, start).to_string());
        json!({ "from": from, "to": to }).to_string()
    });
    let deadline = Instant::now() + asked.wait;
    let mut next = since.offset;
    // A page may have been full of what is for others.
    let backlog = loop {
        let found = backlog::read(api, &asked.admitted, &asked.filters, next, asked.limit).await?;
        let moved_on = found.next > next;
        next = found.next;
        if !found.messages.is_empty() || !moved_on || next >= api.journal.end() {
            break found;
        }
    };
    let mut polled = Polled {
        messages: backlog.messages,
        cursor: cursor(api, backlog.next),
        reset: false,
        gap,
        more_retained: false,
    };
    if polled.gap.is_some() {
        polled.add_retained(api, asked, start).await?;
    }
    if !polled.messages.is_empty() || polled.gap.is_some() || asked.wait == Duration::ZERO {
        return Ok(polled);
    }
    asked.since = Since::Cursor(polled.cursor);
    wait(api, asked, polled, deadline).await
}

/// Waits for something to happen.
async fn wait(
    api: &Api,
    asked: &Asked,
    mut polled: Polled,
    deadline: Instant,
) -> Result<Polled, Problem> {
    let Opened {
        mut reader, gap, ..
    } = Reader::open(api, asked, RetainHandling::DoNotSend, Via::Poll).await?;
    polled.gap = gap;
    if polled.gap.is_some() {
        // It was trimmed just now.
        let start = api.journal.start();
        polled.add_retained(api, asked, start).await?;
    }
    let mut bytes = 0;
    if polled.gap.is_none()
        && let Ok(news) = timeout_at(deadline, reader.next()).await
    {
        let mut news = news.map(Some);
        // Messages that are there already come along; a session that is over is answered by the
        // next request.
        while let Ok(Some(one)) = news {
            match one {
                News::Message { json, .. } => {
                    bytes += json.len();
                    polled.messages.push(json);
                }
                News::Gap(gap) => polled.gap = Some(gap),
            }
            if polled.messages.len() == asked.limit || bytes > ENOUGH {
                break;
            }
            news = reader.try_next().await;
        }
    }
    if polled.messages.is_empty() {
        if !reader.is_welcome() {
            return Err(Problem::unauthorized("you may not be here any more"));
        }
        reader.move_on().await;
    }
    polled.cursor = reader.cursor();
    reader.close().await;
    Ok(polled)
}

impl Polled {
    /// Puts what is retained from before `before` before everything else.
    async fn add_retained(
        &mut self,
        api: &Api,
        asked: &Asked,
        before: Offset,
    ) -> Result<(), Problem> {
        let found = backlog::retained(api, &asked.admitted, &asked.filters, before).await?;
        let (retained, more) = found;
        self.messages.splice(..0, retained);
        self.more_retained = more;
        Ok(())
    }

    fn to_json(&self) -> String {
        let mut text = format!(
            "{{\"messages\":[{}],\"cursor\":\"{}\"",
            self.messages.join(","),
            self.cursor
        );
        if let Some(gap) = &self.gap {
            text.push_str(",\"gap\":");
            text.push_str(gap);
        }
        if self.more_retained {
            text.push_str(",\"more_retained\":true");
        }
        if self.reset {
            text.push_str(",\"reset\":true");
        }
        text.push('}');
        text
    }
}
