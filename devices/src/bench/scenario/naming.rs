//! How scenarios and shapes are written as names and read back.

use std::fmt;

use anyhow::{Context, bail};

use super::{LARGEST_WINDOW, SMALLEST_PAYLOAD, Scenario, Shape, Subscriber};
use crate::bench::target::Carrier;

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FanIn { publishers } => write!(f, "fan-in{}", Unless(publishers, 50)),
            Self::FanOut { subscribers } => write!(f, "fan-out-{subscribers}"),
            Self::Pairs { pairs } => write!(f, "pairs{}", Unless(pairs, 100)),
            Self::Rooms {
                rooms: 100,
                members: 20,
            } => write!(f, "rooms"),
            Self::Rooms { rooms, members } => write!(f, "rooms-{rooms}x{members}"),
            Self::Shared {
                publishers: 50,
                members: 10,
            } => write!(f, "shared"),
            Self::Shared {
                publishers,
                members,
            } => write!(f, "shared-{publishers}x{members}"),
            Self::Paced { per_second } => write!(f, "paced-{per_second}"),
            Self::Idle { connections } => write!(f, "idle-{connections}"),
            Self::Filters { filters } => write!(f, "filters-{filters}"),
            Self::OfflineBurst { sessions, messages } => {
                write!(f, "offline-burst-{sessions}x{messages}")
            }
            Self::SlowSubscriber { messages } => write!(f, "slow-subscriber-{messages}"),
            Self::Restart { sessions, messages } => write!(f, "restart-{sessions}x{messages}"),
            Self::Durable {
                publishers,
                subscriber,
            } => {
                let place = match subscriber {
                    Subscriber::Online => "online",
                    Subscriber::Offline => "offline",
                };
                write!(f, "durable-{place}{}", Unless(publishers, 50))
            }
        }
    }
}

/// `-n`, or nothing where `n` is the usual number.
struct Unless(u32, u32);

impl fmt::Display for Unless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            Ok(())
        } else {
            write!(f, "-{}", self.0)
        }
    }
}

impl Shape {
    /// The shape of this name with its numbers (`pairs`, `pairs-7`, `rooms-100x20`).
    ///
    /// # Errors
    /// If there is no such shape, or its numbers are missing or zero.
    pub fn by_name(name: &str) -> anyhow::Result<Self> {
        let (word, numbers) = match name.rsplit_once('-') {
            Some((word, numbers)) if numbers.starts_with(|c: char| c.is_ascii_digit()) => {
                (word, Some(numbers))
            }
            _ => (name, None),
        };
        let one = |usual: Option<u32>| -> anyhow::Result<u32> {
            match numbers {
                None => usual.with_context(|| format!("{word} wants a number")),
                Some(n) => positive(n),
            }
        };
        let two = |usual: Option<(u32, u32)>| -> anyhow::Result<(u32, u32)> {
            match numbers {
                None => {
                    usual.with_context(|| format!("{word} wants two numbers, as in {word}-3x5"))
                }
                Some(n) => {
                    let (a, b) = n
                        .split_once('x')
                        .with_context(|| format!("{n:?} is not two numbers"))?;
                    Ok((positive(a)?, positive(b)?))
                }
            }
        };
        Ok(match word {
            "fan-in" => Self::FanIn {
                publishers: one(Some(50))?,
            },
            "fan-out" => Self::FanOut {
                subscribers: one(None)?,
            },
            "pairs" => Self::Pairs {
                pairs: one(Some(100))?,
            },
            "rooms" => {
                let (rooms, members) = two(Some((100, 20)))?;
                Self::Rooms { rooms, members }
            }
            "shared" => {
                let (publishers, members) = two(Some((50, 10)))?;
                Self::Shared {
                    publishers,
                    members,
                }
            }
            "paced" => Self::Paced {
                per_second: one(None)?,
            },
            "idle" => Self::Idle {
                connections: one(None)?,
            },
            "filters" => Self::Filters {
                filters: one(None)?,
            },
            "offline-burst" => {
                let (sessions, messages) = two(None)?;
                Self::OfflineBurst { sessions, messages }
            }
            "slow-subscriber" => Self::SlowSubscriber {
                messages: one(None)?,
            },
            "restart" => {
                let (sessions, messages) = two(None)?;
                Self::Restart { sessions, messages }
            }
            "durable-online" | "durable-offline" => Self::Durable {
                publishers: one(Some(50))?,
                subscriber: if word == "durable-online" {
                    Subscriber::Online
                } else {
                    Subscriber::Offline
                },
            },
            _ => bail!("no shape {word:?}"),
        })
    }
}

fn positive(text: &str) -> anyhow::Result<u32> {
    match text.parse() {
        Ok(0) => bail!("0 of something is nothing to measure"),
        Ok(number) => Ok(number),
        Err(_) => bail!("{text:?} is not a number"),
    }
}

pub(super) fn parse(name: &str) -> anyhow::Result<Scenario> {
    let (rest, carrier) = name.rsplit_once('-').context("no carrier")?;
    let carrier = match carrier {
        "tcp" => Carrier::Tcp,
        "ws" => Carrier::WebSocket,
        other => bail!("carrier {other:?} is neither tcp nor ws"),
    };
    if rest.starts_with("idle-") {
        return Ok(Scenario::new(
            Shape::by_name(rest)?,
            0,
            SMALLEST_PAYLOAD,
            1,
            carrier,
        ));
    }
    let (rest, window) = rest.rsplit_once("-w").context("no window")?;
    let (rest, bytes) = rest.rsplit_once('-').context("no payload size")?;
    let (shape, qos) = rest.rsplit_once("-qos").context("no QoS")?;
    let payload_bytes: usize = bytes
        .strip_suffix('B')
        .context("no payload size")?
        .parse()?;
    let qos: u8 = qos.parse()?;
    if qos > 2 {
        bail!("QoS {qos} does not exist");
    }
    if payload_bytes < SMALLEST_PAYLOAD {
        bail!(
            "a payload carries publisher, sequence number and time: at least {SMALLEST_PAYLOAD} bytes"
        );
    }
    let window = positive(window)?;
    if window > LARGEST_WINDOW {
        bail!("a window of {window} leaves no free packet identifiers; at most {LARGEST_WINDOW}");
    }
    Ok(Scenario::new(
        Shape::by_name(shape)?,
        qos,
        payload_bytes,
        window,
        carrier,
    ))
}
