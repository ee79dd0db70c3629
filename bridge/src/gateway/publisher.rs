//! A session for publishing that many tasks share: a handle that is cheap to clone, and one task
//! that owns the session.
//!
//! Invariants: no more publishes are under way than the broker takes; who waits longer than that
//! stands in a queue of [`QUEUE`]. The task ends with the session, or when the last handle is gone;
//! then everyone who waits hears why.

use std::collections::HashMap;

use tidings_core::codec::ReasonCode;
use tokio::sync::{mpsc, oneshot, watch};

use super::session::{Acked, Event, Outgoing, Session, SessionError};

/// Publishes that wait for their turn; further ones wait in their callers.
const QUEUE: usize = 64;

/// What the broker says to a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Success (perhaps: nobody listens), or why it was refused.
    pub reason: ReasonCode,
    /// The same in words.
    pub reason_string: Option<String>,
    /// Number in its stream, of a message with history.
    pub seq: Option<u64>,
    /// Identity, of a message with history: stream and number.
    pub id: Option<String>,
    /// When the broker read it, milliseconds since the Unix epoch, of a message with history.
    pub ts: Option<u64>,
}

impl From<Acked> for Receipt {
    fn from(acked: Acked) -> Self {
        let user = acked.user;
        let find = |name: &str| {
            let found = user.iter().find(|(found, _)| found == name);
            found.map(|(_, value)| value.clone())
        };
        let number = |name| find(name).and_then(|value| value.parse().ok());
        Self {
            seq: number("seq"),
            ts: number("ts"),
            id: find("id"),
            reason: acked.reason,
            reason_string: acked.reason_string,
        }
    }
}

type Answer = oneshot::Sender<Result<Receipt, SessionError>>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Publisher {
    requests: mpsc::Sender<(Outgoing, Answer)>,
    ended: watch::Receiver<Option<SessionError>>,
}

impl Publisher {
    /// Takes the session over, in a task of the current runtime.
    pub fn spawn(session: Session) -> Self {
        let (requests, to_do) = mpsc::channel(QUEUE);
        let (ended, has_ended) = watch::channel(None);
        tokio::spawn(run(session, to_do, ended));
        Self {
            requests,
            ended: has_ended,
        }
    }

    /// Publishes at QoS 1, and waits for what the broker says.
    ///
    /// # Errors
    /// If the session ended before it was said: the message may have been stored.
    pub async fn publish(&self, message: Outgoing) -> Result<Receipt, SessionError> {
        let (answer, answered) = oneshot::channel();
        if self.requests.send((message, answer)).await.is_err() {
            return Err(self.why_ended());
        }
        answered.await.unwrap_or_else(|_| Err(self.why_ended()))
    }

    /// True if the session is over: publishing needs another one.
    pub fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    fn why_ended(&self) -> SessionError {
        self.ended.borrow().clone().unwrap_or(SessionError::Closed)
    }
}

async fn run(
    mut session: Session,
    mut to_do: mpsc::Receiver<(Outgoing, Answer)>,
    ended: watch::Sender<Option<SessionError>>,
) {
    let mut open: HashMap<u16, Answer> = HashMap::new();
    let maximum = usize::from(session.send_maximum());
    let error = loop {
        let takes_more = open.len() < maximum;
        let event = tokio::select! {
            event = session.next() => event,
            request = to_do.recv(), if takes_more => match request {
                Some((message, answer)) => {
                    open.insert(session.publish(&message), answer);
                    continue;
                }
                None if open.is_empty() => {
                    // Whether the broker still hears it does not matter.
                    let _ = session.disconnect().await;
                    return;
                }
                // Nobody has a handle, and nobody waits: what was sent is sent.
                None => return,
            },
        };
        match event {
            Ok(Event::Acked(acked)) => {
                if let Some(answer) = open.remove(&acked.packet_id) {
                    // Who asked may have given up.
                    let _ = answer.send(Ok(acked.into()));
                }
            }
            Ok(Event::Message(message)) => {
                if let Some(packet_id) = message.packet_id {
                    session.acknowledge(packet_id);
                }
            }
            Ok(Event::Granted(_) | Event::Unsubscribed { .. }) => {}
            Err(error) => break error,
        }
    };
    ended.send_replace(Some(error.clone()));
    to_do.close();
    for answer in open.into_values() {
        let _ = answer.send(Err(error.clone()));
    }
    while let Some((_, answer)) = to_do.recv().await {
        let _ = answer.send(Err(error.clone()));
    }
}
