//! The read loop of a connection: everything that is available goes into a buffer that the whole
//! thread shares, and from there into the shard.
//!
//! A read that does not fill the buffer has drained the socket, and it is not asked again; a full
//! one gives others a turn first, also those whose sockets the runtime has yet to look at; and who has
//! more to be done than others wait for stands in line for it (see [`turns`](super::turns)). A
//! connection that waits for its peer holds no buffer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tracing::debug;

use super::connection::Connection;
use super::flush::Local;
use super::turns::Side;

/// Bytes of the read buffer of a thread: deep batches of small packets, and what a connection that
/// is paused may leave behind.
pub(super) const READ_BUFFER: usize = 64 * 1024;

/// How often readers look whether crowded mailboxes have emptied: some batches of a busy shard.
const CROWDED_RETRY: Duration = Duration::from_millis(1);

/// Readers that wait because some shard is behind.
#[derive(Default)]
pub(super) struct Gate {
    waiting: RefCell<Vec<Waker>>,
    is_watched: Cell<bool>,
}

/// Reads until the connection ends.
pub(super) async fn read_loop(local: Rc<Local>, connection: Rc<Connection>) {
    match poll_fn(|cx| poll_reading(&local, &connection, cx)).await {
        // The peer broke a rule below MQTT, and was told.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            debug!(peer = %connection.origin, %error, "not what was agreed on");
            local.part(&connection);
        }
        Ok(()) | Err(_) => local.end(&connection),
    }
}

fn poll_reading(
    local: &Rc<Local>,
    connection: &Connection,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        if connection.paused.get() {
            connection.pause_reader(cx);
            return Poll::Pending;
        }
        if connection.offer_rest.get() {
            let is_turn = connection.more.get();
            if is_turn {
                ready!(poll_gate(local, cx));
                ready!(local.turns.poll(local, (connection.id, Side::Read), cx));
            }
            connection.offer_rest.set(false);
            local.receive(connection, &[]);
            if is_turn {
                local.turns.over();
            }
            continue;
        }
        ready!(poll_gate(local, cx));
        let mut buffer = local.read_buffer.borrow_mut();
        let most = connection.appetite().min(buffer.len());
        let mut read = ReadBuf::new(buffer.get_mut(..most).unwrap_or_default());
        match ready!(connection.poll_read(cx, &mut read)) {
            Ok(()) if !read.filled().is_empty() => {}
            end => return Poll::Ready(end),
        }
        let is_full = read.remaining() == 0;
        local.receive(connection, read.filled());
        if is_full && !connection.more.get() {
            connection.is_hungry();
            return after_others(cx);
        }
    }
}

/// Goes on after everybody else had a turn. A task that only wakes itself would have dozens of turns before
/// the runtime looks which sockets have become ready: this one waits for that.
fn after_others<T>(cx: &mut Context<'_>) -> Poll<T> {
    // The first poll leaves our waker with the runtime, which wakes it when it has looked.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
    Poll::Pending
}

/// Upstream waits: while a mailbox is crowded nothing more is read.
fn poll_gate(local: &Rc<Local>, cx: &Context<'_>) -> Poll<()> {
    if !local.is_crowded() {
        return Poll::Ready(());
    }
    local.gate.waiting.borrow_mut().push(cx.waker().clone());
    if !local.gate.is_watched.replace(true) {
        local.spawn(watch_gate(local.clone()));
    }
    Poll::Pending
}

async fn watch_gate(local: Rc<Local>) {
    while local.is_crowded() {
        tokio::time::sleep(CROWDED_RETRY).await;
    }
    local.gate.is_watched.set(false);
    for reader in local.gate.waiting.take() {
        reader.wake();
    }
}
