//! The hands of users: a session in memory for each user who does something over HTTP, with that user's
//! identity, shared by their requests. What it publishes meets the same topic rules, limits, slow mode
//! and journal as what comes over a socket; what it asks of a service, the service answers as to any
//! client of MQTT 5.
//!
//! Invariants: a hand is open only while somebody of that name, with those roles and that login, was let in
//! a short time ago; it takes a place among the connections; it ends as other sessions of the user do, and
//! whoever waits on it hears why. It is let go after [`IDLE`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::Value;
use tidings_bridge::gateway::{Event, Message, Options, Outgoing, Receipt, Session, SessionError};
use tidings_core::codec::{ReasonCode, RetainHandling};
use tidings_core::limits::Room;
use tidings_core::message::{MessageProperties, QoS};
use tidings_core::rules::Identity;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Api, Caller, Problem};
use crate::handshake::{HTTP_PREFIX, Origin};
use crate::metrics::Via;

/// How long a hand stays open for the next request.
const IDLE: Duration = Duration::from_secs(15);

/// How long a publish or a request may take; a group commit of a very slow disk takes a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// What waits for its turn on one hand; further requests wait in their callers.
const QUEUE: usize = 64;

/// Answers of services that the broker hands over at once.
const RECEIVE_MAXIMUM: u16 = 64;

/// Bytes of a packet beside topic and payload that are always enough: names, a cid, mentions.
const OVERHEAD: usize = 4096;

/// Something to be done by a hand.
enum Task {
    Publish(Outgoing, oneshot::Sender<Result<Receipt, SessionError>>),
    Ask(String, Bytes, oneshot::Sender<Result<Value, Problem>>),
}

/// Who one is, as far as a session depends on it, and the login that it ends with.
type Key = (Identity, Option<Arc<str>>);

/// The hands that are open.
#[derive(Default)]
pub(crate) struct Hands {
    open: Mutex<HashMap<Key, mpsc::Sender<Task>>>,
    opened: AtomicU64,
}

impl Api {
    /// Publishes as the caller, and waits until it is stored.
    ///
    /// # Errors
    /// As the broker refuses it.
    pub async fn publish(&self, caller: &Caller, message: Outgoing) -> Result<Receipt, Problem> {
        if message.payload.len() + message.topic.len() + OVERHEAD > self.max_packet_bytes {
            let text = "the message is larger than the server takes";
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                text,
            ));
        }
        let (answer, answered) = oneshot::channel();
        let receipt = self.wait(caller, Task::Publish(message, answer), answered);
        let receipt = receipt.await?.map_err(ended)?;
        match receipt.reason.is_failure() {
            true if receipt.reason == ReasonCode::QuotaExceeded
                && self.reception.limits.pressure.room() != Room::Enough =>
            {
                let text = "the disk is full: nothing more is kept for now";
                Err(Problem::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "disk_full",
                    text,
                ))
            }
            true => Err(Problem::of_reason(receipt.reason, receipt.reason_string)),
            false => Ok(receipt),
        }
    }

    /// Asks a service as the caller: the answer to `user/{user}/request/{method}`, if it is not a refusal.
    ///
    /// # Errors
    /// As the service refuses it, or if nobody answers.
    pub async fn ask(
        &self,
        caller: &Caller,
        method: &str,
        fields: &Value,
    ) -> Result<Value, Problem> {
        let (answer, answered) = oneshot::channel();
        let task = Task::Ask(method.to_owned(), fields.to_string().into(), answer);
        let answer = self.wait(caller, task, answered).await??;
        match answer["ok"].as_bool() {
            Some(true) => Ok(answer),
            _ => Err(Problem::of_answer(&answer)),
        }
    }

    async fn wait<T>(
        &self,
        caller: &Caller,
        task: Task,
        answered: oneshot::Receiver<T>,
    ) -> Result<T, Problem> {
        let done = async {
            self.hand_over(caller, task).await?;
            // The hand answers everyone who waits before it ends.
            answered.await.map_err(|_| not_known())
        };
        timeout(PATIENCE, done)
            .await
            .unwrap_or_else(|_| Err(not_known()))
    }

    /// Gives a task to the caller's hand; to a new one if there is none, or it is just ending.
    async fn hand_over(&self, caller: &Caller, mut task: Task) -> Result<(), Problem> {
        let identity = caller.identity();
        let login = caller.admitted.login.clone();
        let key = (identity.clone(), login);
        for _ in 0..2 {
            let hand = {
                let mut open = self
                    .hands
                    .open
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let there = open.get(&key).filter(|hand| !hand.is_closed()).cloned();
                there.unwrap_or_else(|| {
                    let (hand, to_do) = mpsc::channel(QUEUE);
                    open.insert(key.clone(), hand.clone());
                    let api = self.clone();
                    tokio::spawn(api.serve(caller.clone(), key.clone(), to_do));
                    hand
                })
            };
            match hand.send(task).await {
                Ok(()) => return Ok(()),
                Err(back) => task = back.0,
            }
        }
        Err(Problem::unavailable("the session ended"))
    }

    async fn serve(self, caller: Caller, key: Key, mut to_do: mpsc::Receiver<Task>) {
        let result = self.open_hand(caller, &key).await;
        let error = match result {
            Ok(mut hand) => {
                let ended = hand.run(&mut to_do).await;
                for (_, answer) in hand.publishing.drain() {
                    let _ = answer.send(Err(ended.clone()));
                }
                for (_, answer) in hand.asking.drain() {
                    let _ = answer.send(Err(self::ended(ended.clone())));
                }
                ended
            }
            Err(error) => error,
        };
        to_do.close();
        {
            let mut open = self
                .hands
                .open
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // Another may be there by now.
            if open.get(&key).is_some_and(mpsc::Sender::is_closed) {
                open.remove(&key);
            }
        }
        while let Some(task) = to_do.recv().await {
            match task {
                Task::Publish(_, answer) => {
                    let _ = answer.send(Err(error.clone()));
                }
                Task::Ask(_, _, answer) => {
                    let _ = answer.send(Err(ended(error.clone())));
                }
            }
        }
    }

    async fn open_hand(&self, caller: Caller, key: &Key) -> Result<Hand, SessionError> {
        let number = self.hands.opened.fetch_add(1, Relaxed);
        let admitted = Arc::new(caller.admitted);
        let stream = self.reception.connect_in_memory(Origin::Gateway {
            admitted,
            via: Via::Http,
        });
        let options = Options {
            client_id: format!("{HTTP_PREFIX}{}/{number}", key.0.user),
            receive_maximum: RECEIVE_MAXIMUM,
        };
        Ok(Hand {
            session: Session::open(stream, &options).await?,
            user: key.0.user.clone(),
            reply: format!("user/{}/reply/http-{number}", key.0.user),
            is_subscribed: false,
            asked: 0,
            publishing: HashMap::new(),
            asking: HashMap::new(),
            unanswered: HashMap::new(),
        })
    }
}

/// One open session.
struct Hand {
    session: Session,
    user: Arc<str>,
    /// Where services answer.
    reply: String,
    is_subscribed: bool,
    asked: u64,
    publishing: HashMap<u16, oneshot::Sender<Result<Receipt, SessionError>>>,
    /// By number.
    asking: HashMap<u64, oneshot::Sender<Result<Value, Problem>>>,
    /// Requests that are not acknowledged: number by Packet Identifier.
    unanswered: HashMap<u16, u64>,
}

impl Hand {
    async fn run(&mut self, to_do: &mut mpsc::Receiver<Task>) -> SessionError {
        let maximum = usize::from(self.session.send_maximum()).max(1);
        // Nothing more is taken; what was taken is finished.
        let mut closing = false;
        loop {
            let under_way = self.publishing.len() + self.unanswered.len();
            let is_busy = under_way + self.asking.len() > 0;
            if closing && !is_busy {
                return SessionError::Closed;
            }
            tokio::select! {
                event = self.session.next() => match event {
                    Ok(event) => self.take(event),
                    Err(error) => return error,
                },
                task = to_do.recv(), if !closing && under_way < maximum => match task {
                    Some(task) => self.begin(task),
                    None => closing = true,
                },
                // Who comes from now on opens another; `recv` gives what came before.
                () = tokio::time::sleep(IDLE), if !is_busy && !closing => to_do.close(),
            }
            // Those who gave up are not waited for.
            self.asking.retain(|_, answer| !answer.is_closed());
        }
    }

    fn begin(&mut self, task: Task) {
        match task {
            Task::Publish(message, answer) => {
                let packet_id = self.session.publish(&message);
                self.publishing.insert(packet_id, answer);
            }
            Task::Ask(method, payload, answer) => {
                if !std::mem::replace(&mut self.is_subscribed, true) {
                    let filters = [self.reply.clone()];
                    let retained = RetainHandling::DoNotSend;
                    self.session.subscribe(&filters, QoS::AtLeastOnce, retained);
                }
                self.asked += 1;
                let properties = MessageProperties {
                    payload_is_utf8: Some(true),
                    response_topic: Some(self.reply.as_str().into()),
                    correlation_data: Some(Bytes::copy_from_slice(&self.asked.to_be_bytes())),
                    ..MessageProperties::default()
                };
                let packet_id = self.session.publish(&Outgoing {
                    topic: format!("user/{}/request/{method}", self.user),
                    payload,
                    retain: false,
                    properties,
                });
                self.unanswered.insert(packet_id, self.asked);
                self.asking.insert(self.asked, answer);
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Acked(acked) => {
                if let Some(answer) = self.publishing.remove(&acked.packet_id) {
                    // Who asked may have given up.
                    let _ = answer.send(Ok(acked.into()));
                } else if let Some(number) = self.unanswered.remove(&acked.packet_id) {
                    let nobody = acked.reason == ReasonCode::NoMatchingSubscribers;
                    if (nobody || acked.reason.is_failure())
                        && let Some(answer) = self.asking.remove(&number)
                    {
                        let _ = answer.send(Err(match nobody {
                            true => Problem::unavailable("the service of this is not there"),
                            false => Problem::of_reason(acked.reason, acked.reason_string),
                        }));
                    }
                }
            }
            Event::Message(message) => {
                if let Some(packet_id) = message.packet_id {
                    self.session.acknowledge(packet_id);
                }
                if let Some(number) = number_of(&message)
                    && let Some(answer) = self.asking.remove(&number)
                {
                    let value = serde_json::from_slice(&message.payload);
                    let unreadable = |_| Problem::unavailable("the answer could not be read");
                    let _ = answer.send(value.map_err(unreadable));
                }
            }
            Event::Granted(granted) => {
                if granted.reasons.iter().any(|reason| reason.is_failure()) {
                    self.is_subscribed = false;
                    for (_, answer) in self.asking.drain() {
                        let text = "the topic rules do not let you read answers of services";
                        let _ = answer.send(Err(Problem::forbidden(text)));
                    }
                }
            }
            Event::Unsubscribed { .. } => {}
        }
    }
}

fn number_of(message: &Message) -> Option<u64> {
    let data = message.properties.as_ref()?.correlation_data.as_ref()?;
    Some(u64::from_be_bytes(<[u8; 8]>::try_from(&**data).ok()?))
}

fn not_known() -> Problem {
    Problem::unavailable("there was no answer in time; whether it was done is not known")
}

/// What a session's end means to who waited on it.
fn ended(error: SessionError) -> Problem {
    let SessionError::Ended { reason, text } = error else {
        return not_known();
    };
    let text = text.unwrap_or_else(|| "the session ended".to_owned());
    match reason {
        ReasonCode::NotAuthorized | ReasonCode::AdministrativeAction => {
            Problem::new(StatusCode::FORBIDDEN, "not_authorized", text)
        }
        ReasonCode::PacketTooLarge => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
        }
        // Another request's token came to its end, for one: this one's may go on.
        _ => Problem::unavailable(text),
    }
}
