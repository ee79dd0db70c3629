//! Who has more to be done than one turn takes (see [`Received::more`]), or has more to get than is written
//! in one, waits in line for the next one: the runtime looks at all sockets before each, and one connection
//! after the other has its turn. So how long a connection keeps others waiting does not grow with how much
//! it sends, nor with how much it has missed.
//!
//! Who asks for little does not wait here.
//!
//! [`Received::more`]: tidings_core::shard::Received::more

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidings_core::shard::ConnId;
use tokio::task::yield_now;

use super::flush::Local;

/// What one turn is, in packets: tens of microseconds, or some hundred if they are kept; and 16 KiB of small
/// messages, which is enough to write much at once.
pub(crate) const TURN: u64 = 256;

/// Between two looks at the sockets there are as many turns as fit into this, at least one.
const TOGETHER: Duration = Duration::from_micros(50);

/// What a turn is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// To handle what was read from the connection.
    Read,
    /// To write to it.
    Write,
}

/// Who stands in line.
type Who = (ConnId, Side);

/// The line of a thread.
#[derive(Default)]
pub(super) struct Turns {
    line: RefCell<VecDeque<(Who, Waker)>>,
    /// Whose turn it is.
    now: Cell<Option<Who>>,
    /// When the sockets were looked at last, while somebody leads.
    looked: Cell<Option<Instant>>,
}

impl Turns {
    /// Ready when it is somebody's turn.
    pub fn poll(&self, local: &Rc<Local>, who: Who, cx: &Context<'_>) -> Poll<()> {
        if self.now.get() == Some(who) {
            self.now.set(None);
            return Poll::Ready(());
        }
        let mut line = self.line.borrow_mut();
        match line.iter_mut().find(|(waiting, _)| *waiting == who) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => line.push_back((who, cx.waker().clone())),
        }
        if self.looked.get().is_none() {
            self.looked.set(Some(Instant::now()));
            local.spawn(lead(local.clone()));
        }
        Poll::Pending
    }

    /// A turn is over: the next one is at once if there is time.
    pub fn over(&self) {
        if self.looked.get().is_some_and(|at| at.elapsed() < TOGETHER) {
            self.next();
        }
    }

    fn next(&self) {
        // Who is gone does not come, and the one behind it waits for the next look.
        if let Some((who, waker)) = self.line.borrow_mut().pop_front() {
            self.now.set(Some(who));
            waker.wake();
        }
    }
}

/// Begins with the turns after each look at the sockets, until nobody is in line.
async fn lead(local: Rc<Local>) {
    loop {
        yield_now().await;
        let turns = &local.turns;
        if turns.line.borrow().is_empty() {
            turns.looked.set(None);
            return;
        }
        turns.looked.set(Some(Instant::now()));
        turns.next();
    }
}
