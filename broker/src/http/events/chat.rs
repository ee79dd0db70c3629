//! `GET /chat`: a WebSocket of JSON texts, for who speaks no MQTT.
//!
//! ```text
//! {"subscribe":["chat/#"],"since":"CURSOR"}   -> {"subscribed":["chat/#"],"cursor":"CURSOR"}
//! {"publish":{"room":"lobby","payload":"hi"}} -> {"published":{"seq":7,"id":"chat/lobby/7","ts":...}}
//! "", {"heartbeat":...}                       -> nothing; "ping" -> "pong"
//! anything else                               -> {"error":{"code","status","text"}}
//!                                             <- {"message":{...}}, {"gap":{...}}, {"reset":{...}}, {"cursor":...}, {"end":{...}}
//! ```
//! Invariants: the session is a [`Reader`], as that of Server-Sent Events, so that a peer that does not
//! read lags in bounded memory, and is cut off like one of those; one request after the other is
//! carried out, and no more is read meanwhile, so that messages keep their order.
//! It does not know how texts travel.

mod said;

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, header};
use axum::response::IntoResponse;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidings_bridge::gateway::{Receipt, SessionError};
use tidings_core::codec::RetainHandling;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tracing::debug;

use super::super::caller::{MARK, take_turn};
use super::super::{Api, Caller, Line, Peer, Problem};
use super::asked::{Asked, Query, Since, admitted, judge};
use super::reader::{News, Opened, Reader};
use super::sse::{CHUNK, STALLED, WELCOME, end_json};
use crate::listener::deflate::Bounds;
use crate::listener::frames::CloseCode;
use crate::listener::origins::Page;
use crate::listener::texts::{Happened, Texts};
use crate::listener::upgrade::Terms;
use crate::listener::websocket::Compression;
use crate::metrics::Via;
use crate::transport::Wire;
pub use said::Understood;
pub(crate) use said::understand;
use said::{Said, Want};

/// What a client may offer as subprotocol, if it offers one.
const SUBPROTOCOLS: &[&str] = &["tidings"];

/// How long the answer to the upgrade may take to be written.
const UPGRADE: Duration = Duration::from_secs(10);

pub(super) async fn chat(
    State(api): State<Api>,
    mut request: Request,
) -> Result<Response<Body>, Problem> {
    let options = &api.reception.websocket;
    let door = request.extensions().get::<Peer>();
    let door = door.map(|peer| peer.door.clone());
    let terms = Terms {
        subprotocols: SUBPROTOCOLS,
        needs_subprotocol: false,
        origins: &options.origins,
        door_origins: door.as_ref().map(|door| &door.origins),
        compression: options.compression,
    };
    let agreed = match terms.agree(request.method(), request.headers()) {
        Ok(agreed) => agreed,
        Err(refused) => return Ok(refused.into_response()),
    };
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (mut parts, _) = request.into_parts();
    if agreed.page != Page::Known && !parts.headers.contains_key(MARK) {
        // A browser sends it whichever page asks.
        parts.headers.remove(header::COOKIE);
    }
    let query = Query::of(parts.uri.query().unwrap_or_default())?;
    let admitted = Arc::new(admitted(&api, &mut parts, query.token.as_deref()).await?);
    let place = parts.extensions.remove::<Line>();
    let place = place.and_then(|line| line.take_place());
    let (Some(upgrade), Some(place)) = (upgrade, place) else {
        return Err(Problem::bad_request("this connection cannot be upgraded"));
    };
    let asked = Asked {
        chosen: true,
        admitted: admitted.clone(),
        filters: query.filters,
        since: query.since,
        wait: Duration::ZERO,
        limit: 0,
        line: Line::default(),
    };
    for filter in &asked.filters {
        judge(&api, &admitted, filter, true)?;
    }
    let opened = open(&api, &asked).await?;
    let compression = agreed.deflate.map(|agreement| {
        let bounds = Bounds {
            bytes: api.options.max_body_bytes,
            expansion: options.max_expansion,
        };
        Compression {
            agreement,
            from_bytes: options.compress_from_bytes,
            before: bounds,
            after: bounds,
        }
    });
    let peer = parts.extensions.remove::<Peer>();
    tokio::spawn(async move {
        let upgraded = timeout(UPGRADE, upgrade).await;
        drop(place);
        let limit = api.options.max_body_bytes;
        let texts = match upgraded {
            Ok(Ok(upgraded)) => into_texts(upgraded, compression, limit),
            Ok(Err(_)) | Err(_) => None,
        };
        match texts {
            Some(texts) => {
                let talk = Talk::new(api, texts, opened.reader, &asked);
                tokio::select! {
                    () = talk.run(opened.first) => {}
                    () = revoked(peer.as_ref()) => {}
                }
            }
            None => {
                debug!(
                    peer = peer.map(tracing::field::display),
                    "lost in its upgrade"
                );
                opened.reader.close().await;
            }
        }
    });
    Ok(agreed.into_response())
}

/// Waits until a certificate that was shown does not count any more.
async fn revoked(peer: Option<&Peer>) {
    match peer {
        Some(peer) => peer.revoked().await,
        None => pending().await,
    }
}

fn into_texts(upgraded: Upgraded, compression: Option<Compression>, limit: usize) -> Option<Texts> {
    let parts = upgraded.downcast::<TokioIo<Wire>>().ok()?;
    let wire = parts.io.into_inner();
    Some(Texts::new(wire, &parts.read_buf, compression, limit))
}

/// A reader, and what is said of where it begins.
struct Begun {
    reader: Reader,
    first: Vec<String>,
}

async fn open(api: &Api, asked: &Asked) -> Result<Begun, Problem> {
    // Who begins gets the state as well; who comes back has it.
    let Opened { reader, reset, gap } =
        Reader::open(api, asked, RetainHandling::SendAtSubscribe, Via::Chat).await?;
    let cursor = reader.cursor().to_string();
    let mut first = Vec::new();
    if reset || asked.since == Since::Unknown {
        first.push(json!({ "reset": { "cursor": cursor } }).to_string());
    }
    if let Some(gap) = gap {
        first.push(format!("{{\"gap\":{gap}}}"));
    }
    Ok(Begun { reader, first })
}

/// A publish that is under way, and what its answer refers to.
type Publishing = Pin<Box<dyn Future<Output = (Value, Result<Receipt, Problem>)> + Send>>;

/// One connection.
struct Talk {
    api: Api,
    caller: Caller,
    texts: Texts,
    reader: Reader,
    publishing: Option<Publishing>,
    heartbeat: Duration,
    /// Heartbeats in a row in which nothing came.
    unheard: u32,
}

/// How a connection ends.
enum End {
    /// With a goodbye.
    Close(CloseCode),
    /// Without: the peer does not read, or may not see what waits for it.
    Cut,
}

impl Talk {
    fn new(api: Api, texts: Texts, reader: Reader, asked: &Asked) -> Self {
        Self {
            heartbeat: Duration::from_secs(u64::from(api.options.heartbeat_s.max(1))),
            caller: Caller::of((*asked.admitted).clone()),
            api,
            texts,
            reader,
            publishing: None,
            unheard: 0,
        }
    }

    async fn run(mut self, first: Vec<String>) {
        for text in first {
            self.texts.say(&text);
        }
        match self.serve().await {
            End::Close(code) => self.texts.close(code).await,
            End::Cut => drop(self.texts),
        }
        self.reader.close().await;
    }

    async fn serve(&mut self) -> End {
        let mut heartbeat = interval_at(Instant::now() + self.heartbeat, self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_written = self.texts.is_written();
            let is_busy = self.publishing.is_some();
            let end = tokio::select! {
                happened = self.texts.next(!is_busy) => self.happened(happened).await,
                (of, done) = wait(&mut self.publishing), if is_busy => {
                    self.publishing = None;
                    self.answer(&of, done);
                    None
                }
                news = self.reader.next(), if is_written => match news {
                    Ok(news) => self.tell(&news).await,
                    Err(error) => Some(self.over(&error)),
                },
                _ = heartbeat.tick() => self.beat().await,
                () = sleep(WELCOME), if !is_written => {
                    let patience = self.heartbeat * STALLED;
                    let is_stalled = |since: Instant| since.elapsed() > patience;
                    let is_cut = !self.reader.is_welcome()
                        || self.texts.stalled_since().is_some_and(is_stalled);
                    is_cut.then_some(End::Cut)
                }
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    async fn happened(&mut self, happened: Happened) -> Option<End> {
        match happened {
            Happened::Text(text) => {
                self.take(&text).await;
                None
            }
            Happened::Written => None,
            Happened::Over => Some(End::Close(CloseCode::Normal)),
            Happened::Broken(violation) => {
                debug!(user = self.caller.user(), %violation, "not what was agreed on");
                Some(End::Close(violation.close_code()))
            }
        }
    }

    /// A sign of life, and how far the reader has come.
    async fn beat(&mut self) -> Option<End> {
        if !self.texts.is_written() {
            return None;
        }
        self.unheard = if self.texts.ping() {
            0
        } else {
            self.unheard + 1
        };
        if self.unheard > STALLED {
            return Some(End::Cut);
        }
        self.reader.move_on().await;
        let cursor = self.reader.cursor().to_string();
        self.texts.say(&json!({ "cursor": cursor }).to_string());
        None
    }

    /// News, and what is there already.
    async fn tell(&mut self, news: &News) -> Option<End> {
        self.say_news(news);
        while self.texts.waiting() < CHUNK {
            match self.reader.try_next().await {
                Ok(Some(news)) => self.say_news(&news),
                Ok(None) => break,
                Err(error) => return Some(self.over(&error)),
            }
        }
        None
    }

    fn say_news(&mut self, news: &News) {
        let text = match news {
            News::Message { json, .. } => format!("{{\"message\":{json}}}"),
            News::Gap(json) => format!("{{\"gap\":{json}}}"),
        };
        self.texts.say(&text);
    }

    /// The session is over.
    fn over(&mut self, error: &SessionError) -> End {
        self.texts.say(&format!("{{\"end\":{}}}", end_json(error)));
        End::Close(match error {
            SessionError::Ended { reason, .. } => (*reason).into(),
            SessionError::Closed => CloseCode::GoingAway,
            SessionError::Protocol(_) => CloseCode::InternalError,
        })
    }

    /// Something that the client said.
    async fn take(&mut self, text: &str) {
        let Said { of, want } = match said::read(text) {
            Ok(said) => said,
            Err(problem) => return self.refuse(&Value::Null, &problem),
        };
        let done = match want {
            Want::Nothing => Ok(()),
            Want::Pong => {
                self.texts.say("pong");
                Ok(())
            }
            Want::Publish(publish) => self.begin(&of, *publish),
            Want::Subscribe { filters, since } => self.subscribe(&of, filters, since).await,
        };
        if let Err(problem) = done {
            self.refuse(&of, &problem);
        }
    }

    fn begin(&mut self, of: &Value, publish: said::Publish) -> Result<(), Problem> {
        let outgoing = publish.into_outgoing(self.caller.user())?;
        take_turn(&self.api, self.caller.user())?;
        let (api, caller, of) = (self.api.clone(), self.caller.clone(), of.clone());
        self.publishing = Some(Box::pin(async move {
            (of, api.publish(&caller, outgoing).await)
        }));
        Ok(())
    }

    async fn subscribe(
        &mut self,
        of: &Value,
        filters: Vec<Arc<str>>,
        since: Since,
    ) -> Result<(), Problem> {
        take_turn(&self.api, self.caller.user())?;
        let admitted = Arc::new(self.caller.admitted.clone());
        let asked = Asked::of_filters(&self.api, admitted, filters, since)?;
        let Begun { reader, first } = open(&self.api, &asked).await?;
        let filters: Vec<&str> = asked.filters.iter().map(|filter| &**filter).collect();
        let cursor = reader.cursor().to_string();
        let granted = json!({ "subscribed": filters, "cursor": cursor });
        self.say_of(granted, of);
        for text in first {
            self.texts.say(&text);
        }
        std::mem::replace(&mut self.reader, reader).close().await;
        Ok(())
    }

    fn answer(&mut self, of: &Value, done: Result<Receipt, Problem>) {
        match done {
            Ok(receipt) => {
                let told = json!({ "seq": receipt.seq, "id": receipt.id, "ts": receipt.ts });
                self.say_of(json!({ "published": told }), of);
            }
            Err(problem) => self.refuse(of, &problem),
        }
    }

    fn refuse(&mut self, of: &Value, problem: &Problem) {
        self.say_of(json!({ "error": problem.to_json() }), of);
    }

    /// Says something that refers to what was asked.
    fn say_of(&mut self, mut answer: Value, of: &Value) {
        if let (Some(answer), false) = (answer.as_object_mut(), of.is_null()) {
            answer.insert("ref".to_owned(), of.clone());
        }
        self.texts.say(&answer.to_string());
    }
}

async fn wait(publishing: &mut Option<Publishing>) -> (Value, Result<Receipt, Problem>) {
    match publishing {
        Some(publishing) => publishing.await,
        None => std::future::pending().await,
    }
}
