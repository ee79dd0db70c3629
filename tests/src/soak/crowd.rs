//! Many connections that come, subscribe, publish, read or do not read, and go in every way. They
//! check nothing but that the broker takes them.

use std::time::{Duration, Instant};

use tidings_core::codec::{
    Ack, Connect, Disconnect, Packet, Publish, PublishProperties, ReasonCode, RetainHandling,
    Subscribe, SubscribeFilter, Version, Will,
};
use tidings_core::message::QoS;

use crate::crash::board::{Board, Life, Stage};
use crate::seeded::Seeded;
use crate::{ClientError, Delivery, RawClient, clean};

/// Connections at once.
const PLACES: usize = 150;
/// Client identifiers that are chosen from: fewer than the choices made, so that some take over.
const NAMES: u64 = 400;
/// Topics that hold a retained message or not.
const STATES: u64 = 300;
/// Between two acts.
const PAUSE: Duration = Duration::from_millis(10);
/// Nothing takes longer on a broker that lives.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a session stays behind, seconds.
const EXPIRY_S: u32 = 30;

/// One of the crowd.
struct Person {
    client: RawClient,
    /// Takes nothing from its socket.
    is_stubborn: bool,
}

/// See the module.
pub struct Crowd {
    number: u64,
    random: Seeded,
    places: Vec<Option<Person>>,
    visits: u64,
}

impl Crowd {
    pub fn new(number: u64, random: Seeded) -> Self {
        Self {
            number,
            random,
            places: (0..PLACES).map(|_| None).collect(),
            visits: 0,
        }
    }

    /// Connections that were made.
    pub fn visits(&self) -> u64 {
        self.visits
    }

    pub fn run(&mut self, board: &Board) {
        let mut life = None;
        while let Some(next) = board.wait_for_broker(life) {
            life = Some(next);
            match self.mingle(next, board) {
                Ok(()) => break,
                Err(ClientError::Closed) => {}
                Err(error) => {
                    board.violation(format!("crowd {}: {error}", self.number));
                    break;
                }
            }
        }
        self.places.clear();
    }

    fn mingle(&mut self, life: Life, board: &Board) -> Result<(), ClientError> {
        while board.stage() == Stage::Work {
            let at = self.random.within(0..PLACES as u64) as usize;
            match self.places[at].take() {
                None => self.places[at] = Some(self.come(life)?),
                // Taken over, or a life ago: the next one who comes here will see.
                Some(mut person) => {
                    if self.act(&mut person).unwrap_or(false) {
                        self.places[at] = Some(person);
                    }
                }
            }
            board.stay_away(PAUSE);
        }
        Ok(())
    }

    fn come(&mut self, life: Life) -> Result<Person, ClientError> {
        let id = format!("crowd-{}-{}", self.number, self.random.within(0..NAMES));
        let version = *self.random.pick(&[Version::V311, Version::V5]);
        let mut connect: Connect<'_> = clean(version, &id);
        if version == Version::V5 && self.random.chance(30) {
            connect.clean_start = false;
            connect.properties.session_expiry_s = Some(EXPIRY_S);
        }
        let topic = self.state();
        if self.random.chance(20) {
            connect.will = Some(Will {
                qos: QoS::AtLeastOnce,
                retain: self.random.chance(50),
                topic: &topic,
                payload: b"gone",
                delay_s: 0,
                properties: Default::default(),
            });
        }
        let endpoint = life.endpoint(self.random.chance(50));
        let (mut client, connack) = RawClient::try_connect(endpoint, &connect, PATIENCE)?;
        if connack.reason != ReasonCode::Success {
            return Err(ClientError::Transport(format!("{id}: {connack:?}")));
        }
        self.visits += 1;
        let packet_id = client.new_packet_id();
        let filters = (0..self.random.within(1..4)).map(|_| self.filter());
        client.try_send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            user: Vec::new(),
            filters: filters.collect(),
        }))?;
        Ok(Person {
            client,
            is_stubborn: self.random.chance(5),
        })
    }

    fn state(&mut self) -> String {
        format!(
            "crowd/{}/state/{}",
            self.number,
            self.random.within(0..STATES)
        )
    }

    fn filter(&mut self) -> SubscribeFilter {
        let filter = match self.random.within(0..4) {
            0 => self.state(),
            1 => format!("crowd/{}/news/+", self.number),
            2 => format!("crowd/+/state/{}0/#", self.random.within(0..STATES / 10)),
            _ => format!("$share/{}/crowd/+/news/#", self.random.within(0..5)),
        };
        SubscribeFilter {
            filter,
            qos: *self.random.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce]),
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }
    }

    /// Something; false if it leaves.
    fn act(&mut self, person: &mut Person) -> Result<bool, ClientError> {
        if !person.is_stubborn {
            take(&mut person.client)?;
        }
        match self.random.within(0..100) {
            0..60 if !person.is_stubborn => {
                let is_state = self.random.chance(50);
                let topic = if is_state {
                    self.state()
                } else {
                    format!("crowd/{}/news/{}", self.number, self.random.within(0..10))
                };
                let len = self.random.magnitude(1..2000) as usize;
                // Without a payload it clears what is retained.
                let payload = vec![b'x'; if self.random.chance(20) { 0 } else { len }];
                let qos = *self.random.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce]);
                let packet_id = (qos == QoS::AtLeastOnce).then(|| person.client.new_packet_id());
                person.client.try_send(&Packet::Publish(Publish {
                    dup: false,
                    qos,
                    retain: is_state,
                    topic: &topic,
                    packet_id,
                    properties: PublishProperties::default(),
                    payload: &payload,
                }))?;
            }
            60..80 => person.client.try_send(&Packet::PingReq)?,
            80..85 => {
                let end = Disconnect::new(ReasonCode::Success);
                person.client.try_send(&Packet::Disconnect(end))?;
                return Ok(false);
            }
            85..90 => return Ok(false),
            _ => {}
        }
        Ok(true)
    }
}

/// Takes and acknowledges what is there.
fn take(client: &mut RawClient) -> Result<(), ClientError> {
    loop {
        // What came is there at once; nothing is waited for.
        let frame = match client.try_next_until(Instant::now() + Duration::from_millis(1)) {
            Ok(frame) => frame,
            Err(ClientError::Deadline(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Packet::Publish(publish) = frame.packet()
            && let Some(packet_id) = Delivery::new(&publish).packet_id
        {
            let ack = Ack::new(packet_id, ReasonCode::Success);
            client.try_send(&Packet::PubAck(ack))?;
        }
    }
}
