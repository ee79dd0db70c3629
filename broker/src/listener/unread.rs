//! Bodies of requests that were answered before they were read: a refused caller, an unknown path.
//!
//! What is left of a body stands before the next request of the connection. It is read and thrown away;
//! where it is long or slow the connection ends, and the answer says so: a client that kept it for its
//! next request would lose that one.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// Bytes that are thrown away: more than honest requests have.
const MAX_BYTES: usize = 64 * 1024;

/// How long the answer waits for them.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that its reader may leave.
pub(super) struct Unread<B = Incoming>(Arc<Mutex<B>>);

impl<B: Body<Data = Bytes> + Unpin> Unread<B>
where
    B::Error: Into<axum::BoxError>,
{
    /// For who answers, and for who looks what was left.
    pub fn of(body: B) -> (Self, Self) {
        let body = Arc::new(Mutex::new(body));
        (Self(body.clone()), Self(body))
    }

    pub fn is_left(&self) -> bool {
        !self.is_end_stream()
    }

    /// Whether the body came to its end, and can be forgotten.
    pub async fn drain(self) -> bool {
        if self.size_hint().lower() > MAX_BYTES as u64 {
            return false;
        }
        let mut rest = Limited::new(self, MAX_BYTES);
        let end = async {
            loop {
                match rest.frame().await {
                    None => return true,
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return false,
                }
            }
        };
        timeout(PATIENCE, end).await.unwrap_or(false)
    }

    fn with<R>(&self, look: impl FnOnce(&mut B) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Unread<B>
where
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.with(|body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn what_was_left_is_read_to_its_end() {
        let (answers, left) = Unread::of(Full::new(Bytes::from_static(b"{}")));
        drop(answers);
        assert!(left.is_left() && left.drain().await);
        let (answers, left) = Unread::of(Full::new(Bytes::from_static(b"{}")));
        assert_eq!(answers.collect().await.unwrap().to_bytes(), "{}");
        assert!(!left.is_left());
    }

    #[tokio::test]
    async fn who_sends_too_much_is_not_read() {
        let (_, left) = Unread::of(Full::new(Bytes::from(vec![0; MAX_BYTES + 1])));
        assert!(!left.drain().await);
    }
}
