//! HTTP on the WebSocket port: the upgrade to MQTT, the API, the web chat, and whether the broker is well.
//!
//! A connection that does not become a WebSocket is short: it ends after [`CONNECTION`], so that a
//! peer that reads slowly does not hold its place; a stream of somebody who is known may go on. This module does not know packets.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::any;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::deflate::Bounds;
use super::origins::Page;
use super::unread::Unread;
use super::upgrade::Terms;
use super::websocket::{Compression, FrameState, WebSocket};
use super::{Peer, bearer, page};
use crate::admission::Place;
use crate::handshake::{Origin, Reception};
use crate::http::{self, Api, Line};
use crate::transport::{Transport, Wire};

/// How long a connection may serve pages: some reloads of the chat, then the browser comes anew.
const CONNECTION: Duration = Duration::from_secs(30);

/// Bytes of a request's header; cookies of other programs on the same host come along.
const MAX_HEADER: usize = 32 * 1024;

/// What is served on one listener.
#[derive(Clone)]
pub(super) struct Pages {
    router: Router,
}

#[derive(Clone)]
struct Served {
    reception: Arc<Reception>,
}

/// How long an answer that took its time may take to be read, once it was given.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// What a request needs to become a client, beside the connection's place.
#[derive(Clone)]
struct Seat(Peer, Instant);

impl Pages {
    pub fn new(websocket_path: &str, reception: Arc<Reception>, api: Api) -> Self {
        let served = Served { reception };
        let mut router = Router::new();
        // The router panics on a path that is there twice, or has characters of its own.
        let is_plain = !websocket_path.contains(['{', '}', '*', ':']);
        if is_plain && !http::has(websocket_path) {
            router = router.route(websocket_path, any(upgrade));
        }
        Self {
            router: router
                .with_state(served)
                .merge(http::router(api))
                .fallback(file),
        }
    }
}

/// Serves one connection, until it ends or becomes a client.
pub(super) async fn serve(wire: Wire, peer: Peer, deadline: Instant, place: Place, pages: Pages) {
    let line = Line::new(place);
    let to_cut = line.clone();
    let seen = peer.clone();
    let router = TowerToHyperService::new(pages.router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let peer = seen.of_request(request.headers());
        request
            .extensions_mut()
            .insert(Seat(peer.clone(), deadline));
        request.extensions_mut().insert(line.clone());
        request.extensions_mut().insert(peer);
        let is_awaited = request.headers().contains_key(header::EXPECT);
        let (parts, body) = request.into_parts();
        let (body, unread) = Unread::of(body);
        let answer = router.call(hyper::Request::from_parts(parts, body));
        async move {
            let mut answer = answer.await?;
            // Who waits to be asked for the body is not asked any more.
            if unread.is_left() && (is_awaited || !unread.drain().await) {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(deadline.saturating_duration_since(Instant::now()))
            .max_buf_size(MAX_HEADER)
            .serve_connection(TokioIo::new(wire), service)
            .with_upgrades()
    );
    let line = to_cut;
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = line.is_cut() => return,
        () = peer.revoked() => return,
        () = sleep(CONNECTION) => {
            // An answer that takes its time is the last one.
            let was_idle = line.has_no_stream();
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = line.is_cut() => return,
                () = peer.revoked() => return,
                () = async {
                    line.is_idle().await;
                    if !was_idle {
                        sleep(LAST_ANSWER).await;
                    }
                } => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "HTTP connection");
    }
}

async fn file(method: Method, uri: Uri) -> Response<Body> {
    if method == Method::GET || method == Method::HEAD {
        page::serve(uri.path())
    } else {
        page::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n")
    }
}

/// Subprotocols that are spoken; the second is what MQTT 3.1 clients offer [MQTT-6.0.0-3].
const SUBPROTOCOLS: &[&str] = &["mqtt", "mqttv3.1"];

async fn upgrade(
    State(served): State<Served>,
    mut request: Request,
) -> Result<Response<Body>, Infallible> {
    let options = &served.reception.websocket;
    let seen = request.extensions().get::<Seat>();
    let door = seen.map(|Seat(peer, _)| peer.door.clone());
    let terms = Terms {
        subprotocols: SUBPROTOCOLS,
        needs_subprotocol: true,
        origins: &options.origins,
        door_origins: door.as_ref().map(|door| &door.origins),
        compression: options.compression,
    };
    let agreed = match terms.agree(request.method(), request.headers()) {
        Ok(agreed) => agreed,
        Err(refused) => return Ok(refused.into_response()),
    };
    let seat = request.extensions_mut().remove::<Seat>();
    // Only the first upgrade of a connection finds its place.
    let place = request.extensions_mut().remove::<Line>();
    let place = place.and_then(|line| line.take_place());
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let cookie_counts = agreed.page == Page::Known || request.headers().contains_key(http::MARK);
    let bearer = bearer::of(request.headers(), request.uri(), cookie_counts);
    let (Some(Seat(peer, deadline)), Some(place), Some(upgrade)) = (seat, place, upgrade) else {
        return Ok(page::text(
            StatusCode::BAD_REQUEST,
            "this connection cannot be upgraded\n",
        ));
    };
    let compression = agreed.deflate.map(|agreement| {
        let bounds = |bytes| Bounds {
            bytes,
            expansion: options.max_expansion,
        };
        Compression {
            agreement,
            from_bytes: options.compress_from_bytes,
            before: bounds(served.reception.options.max_connect_bytes),
            after: bounds(served.reception.max_packet_bytes),
        }
    });
    tokio::spawn(async move {
        match upgrade
            .await
            .map(|upgraded| into_transport(upgraded, compression))
        {
            Ok(Some(transport)) => {
                let origin = Origin::Network { peer };
                served
                    .reception
                    .receive_with(transport, origin, deadline, Some(place), bearer)
                    .await;
            }
            Ok(None) => debug!(%peer, "upgraded into something else"),
            Err(error) => debug!(%peer, %error, "lost in its upgrade"),
        }
    });
    Ok(agreed.into_response())
}

/// The wire below HTTP, and what was read of the frames already.
fn into_transport(upgraded: Upgraded, compression: Option<Compression>) -> Option<Transport> {
    let parts = upgraded.downcast::<TokioIo<Wire>>().ok()?;
    let frames = FrameState::new(&parts.read_buf, compression);
    Some(Transport::WebSocket(Box::new(WebSocket::new(
        parts.io.into_inner(),
        frames,
    ))))
}
