//! `GET /v1/events`: Server-Sent Events (HTML Living Standard §9.2).
//!
//! ```text
//! id: {cursor}                    the position, whenever it moved on; also with the heartbeat
//! event: message                  data: a message as JSON; without id if it is not kept
//! event: gap                      data: {"from","to"}: entries between them were trimmed
//! event: reset                    data: {"cursor"}: the cursor was of another journal; begin anew
//! event: end                      data: {"reason","text"}: the stream ends, and why
//! : alive                         a comment, so that nobody on the way takes silence for the end
//! ```
//! One task feeds each stream. A peer that takes nothing for [`STALLED`] heartbeats is cut off, and so
//! is one whose user may not be here any more while something waits for it; it can come back with its
//! cursor, if it may.

use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::Frame;
use serde_json::json;
use tidings_bridge::gateway::SessionError;
use tidings_core::codec::{ReasonCode, RetainHandling};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::super::{Api, Line, Problem, Streaming, reply};
use super::asked::{Asked, Since};
use super::reader::{News, Opened, Reader};
use crate::metrics::Via;

/// Milliseconds after which a browser comes back.
const RETRY_MS: u32 = 2000;

/// Bytes that are put together while there is more, before they are sent.
pub(super) const CHUNK: usize = 16 * 1024;

/// How often it is asked whether the user of a stream that waits for its peer may still be here:
/// rights must bite within a second.
pub(super) const WELCOME: Duration = Duration::from_millis(250);

/// Heartbeats that a peer may miss.
pub(super) const STALLED: u32 = 8;

pub(super) async fn events(
    State(api): State<Api>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let asked = Asked::of(&api, request).await?;
    // Who begins gets the state as well; who comes back has it.
    let Opened { reader, reset, gap } =
        Reader::open(&api, &asked, RetainHandling::SendAtSubscribe, Via::Events).await?;
    let mut first = format!("retry: {RETRY_MS}\n");
    if reset || asked.since == Since::Unknown {
        let cursor = reader.cursor().to_string();
        event(
            &mut first,
            "reset",
            Some(&cursor),
            &json!({ "cursor": cursor }).to_string(),
        );
    } else {
        let _ = write!(first, "id: {}\n\n", reader.cursor());
    }
    if let Some(gap) = gap {
        event(&mut first, "gap", None, &gap);
    }
    let (out, chunks) = mpsc::channel(1);
    let heartbeat = Duration::from_secs(u64::from(api.options.heartbeat_s.max(1)));
    let line = asked.line;
    let streaming = line.begin_stream();
    tokio::spawn(
        Feed {
            reader,
            out,
            line,
            heartbeat,
        }
        .run(first),
    );
    let body = Body::new(Chunks::new(chunks, streaming));
    let mut response = reply::with(StatusCode::OK, "text/event-stream", body);
    // Proxies that gather answers would hold the events back.
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

fn event(out: &mut String, name: &str, id: Option<&str>, data: &str) {
    // Writing to a String cannot fail. JSON has no line breaks.
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    let _ = write!(out, "event: {name}\ndata: {data}\n\n");
}

/// The body of a stream.
pub(in crate::http) struct Chunks {
    chunks: mpsc::Receiver<Bytes>,
    _streaming: Streaming,
}

impl Chunks {
    /// What is sent into the channel is sent on, over a connection that stays for it.
    pub fn new(chunks: mpsc::Receiver<Bytes>, streaming: Streaming) -> Self {
        Self {
            chunks,
            _streaming: streaming,
        }
    }
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let chunk = self.get_mut().chunks.poll_recv(cx);
        chunk.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// What a stream ends with.
enum End {
    /// The peer is gone.
    Gone,
    /// The peer does not read, and is to go.
    Cut,
    /// The session is over.
    Over(SessionError),
}

/// The task of one stream.
struct Feed {
    reader: Reader,
    out: mpsc::Sender<Bytes>,
    line: Line,
    heartbeat: Duration,
}

impl Feed {
    async fn run(mut self, first: String) {
        let end = match self.send(first).await {
            Ok(()) => self.serve().await,
            Err(end) => end,
        };
        if let End::Over(error) = &end {
            let mut last = String::new();
            event(&mut last, "end", None, &end_json(error));
            if matches!(self.send(last).await, Err(End::Cut)) {
                self.line.cut();
            }
        }
        if matches!(end, End::Cut) {
            self.line.cut();
        }
        self.reader.close().await;
    }

    async fn serve(&mut self) -> End {
        let mut heartbeat = interval_at(Instant::now() + self.heartbeat, self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = self.reader.cursor();
        loop {
            let mut chunk = String::new();
            let news = tokio::select! {
                news = self.reader.next() => Some(news),
                _ = heartbeat.tick() => None,
                () = self.out.closed() => return End::Gone,
            };
            let mut over = None;
            match news {
                Some(Ok(news)) => {
                    put(&mut chunk, &news);
                    over = self.gather(&mut chunk).await.err();
                }
                Some(Err(error)) => over = Some(error),
                None => {
                    self.reader.move_on().await;
                    chunk.push_str(": alive\n");
                    if self.reader.cursor() != told {
                        let _ = writeln!(chunk, "id: {}", self.reader.cursor());
                    }
                    chunk.push('\n');
                }
            }
            told = self.reader.cursor();
            if !chunk.is_empty()
                && let Err(end) = self.send(chunk).await
            {
                return end;
            }
            if let Some(error) = over {
                return End::Over(error);
            }
        }
    }

    /// What is there already goes along.
    async fn gather(&mut self, chunk: &mut String) -> Result<(), SessionError> {
        while chunk.len() < CHUNK {
            match self.reader.try_next().await? {
                Some(news) => put(chunk, &news),
                None => break,
            }
        }
        Ok(())
    }

    async fn send(&mut self, chunk: String) -> Result<(), End> {
        let stalled = Instant::now() + self.heartbeat * STALLED;
        loop {
            tokio::select! {
                permit = self.out.reserve() => {
                    return match permit {
                        Ok(permit) => {
                            permit.send(chunk.into());
                            Ok(())
                        }
                        Err(_) => Err(End::Gone),
                    };
                }
                () = sleep(WELCOME) => {
                    if !self.reader.is_welcome() || Instant::now() > stalled {
                        return Err(End::Cut);
                    }
                }
            }
        }
    }
}

fn put(chunk: &mut String, news: &News) {
    match news {
        News::Message { json, cursor } => {
            let id = cursor.map(|cursor| cursor.to_string());
            event(chunk, "message", id.as_deref(), json);
        }
        News::Gap(json) => event(chunk, "gap", None, json),
    }
}

/// Why a session ended, as JSON.
pub(super) fn end_json(error: &SessionError) -> String {
    let (reason, text) = match error {
        SessionError::Ended { reason, text } => (*reason, text.clone()),
        SessionError::Closed | SessionError::Protocol(_) => (ReasonCode::UnspecifiedError, None),
    };
    let text = text.unwrap_or_else(|| "the session ended".to_owned());
    json!({ "reason": reason as u8, "text": text }).to_string()
}
