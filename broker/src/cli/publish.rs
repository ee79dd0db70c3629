//! `tidings pub`: publishes messages, and ends when the broker has them.

use std::io::{BufRead as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PubRecReason};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use tokio::sync::mpsc;

use super::FOUND_PROBLEMS;
use super::mqtt_client::{Client, qos, runtime};

/// Lines of standard input that were read and not sent.
const LINES: usize = 1024;

#[derive(Clone, Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Publish {
    #[command(flatten)]
    client: Client,
    /// Topic
    #[arg(short, long)]
    topic: String,
    #[command(flatten)]
    payload: Payload,
    /// Quality of service: 0 at most once, 1 at least once, 2 exactly once
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Have the message retained for those who subscribe later
    #[arg(short, long)]
    retain: bool,
}

#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct Payload {
    /// The message
    #[arg(short, long)]
    message: Option<String>,
    /// Publish each line of standard input as a message
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// Publish the content of a file; - is standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Publish an empty message, which with --retain removes the retained one
    #[arg(short, long)]
    null: bool,
}

pub(super) fn run(args: &Publish) -> anyhow::Result<ExitCode> {
    let messages = args.payload.open()?;
    runtime()?.block_on(publish(args, messages))
}

impl Payload {
    /// The messages, as they become known. Standard input is read by a thread of its own.
    fn open(&self) -> anyhow::Result<mpsc::Receiver<Vec<u8>>> {
        let (sender, messages) = mpsc::channel(LINES);
        if self.stdin_line {
            std::thread::spawn(move || {
                for line in std::io::stdin().lock().split(b'\n') {
                    let Ok(line) = line else { break };
                    if sender.blocking_send(line).is_err() {
                        break;
                    }
                }
            });
            return Ok(messages);
        }
        let message = match (&self.message, &self.file) {
            (Some(message), _) => message.clone().into_bytes(),
            (None, Some(file)) if file.as_os_str() == "-" => {
                let mut content = Vec::new();
                std::io::stdin().read_to_end(&mut content)?;
                content
            }
            (None, Some(file)) => {
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
            }
            (None, None) => Vec::new(),
        };
        sender.try_send(message)?;
        Ok(messages)
    }
}

/// How far the publishing has come.
#[derive(Debug, Default)]
struct Progress {
    /// Handed to the event loop; known when there will be no more.
    total: Option<u64>,
    answered: u64,
    refused: u64,
}

async fn publish(args: &Publish, messages: mpsc::Receiver<Vec<u8>>) -> anyhow::Result<ExitCode> {
    let (client, mut events) = args.client.connect(None)?;
    // Until the broker has accepted the connection, nothing is taken from standard input.
    while !matches!(
        poll(args, &mut events).await?,
        Event::Incoming(Packet::ConnAck(_))
    ) {}

    let mut feeding = tokio::spawn(feed(args.clone(), client.clone(), messages));
    let mut progress = Progress::default();
    let mut leaving = false;
    loop {
        tokio::select! {
            fed = &mut feeding, if progress.total.is_none() => progress.total = Some(fed??),
            event = poll(args, &mut events) => match event? {
                Event::Outgoing(Outgoing::Disconnect) => break,
                event => progress.note(&event),
            }
        }
        let is_answered = args.qos == QoS::AtMostOnce || progress.total == Some(progress.answered);
        if progress.total.is_some() && is_answered && !leaving {
            leaving = true;
            client.disconnect().await?;
        }
    }
    Ok(if progress.refused == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FOUND_PROBLEMS)
    })
}

async fn poll(args: &Publish, events: &mut EventLoop) -> anyhow::Result<Event> {
    events
        .poll()
        .await
        .map_err(|error| args.client.explain(&error))
}

async fn feed(
    args: Publish,
    client: AsyncClient,
    mut messages: mpsc::Receiver<Vec<u8>>,
) -> anyhow::Result<u64> {
    let mut total = 0;
    while let Some(message) = messages.recv().await {
        client
            .publish(args.topic.clone(), args.qos, args.retain, message)
            .await?;
        total += 1;
    }
    Ok(total)
}

impl Progress {
    fn note(&mut self, event: &Event) {
        let refused = match event {
            Event::Incoming(Packet::PubAck(ack)) => match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
                reason => Some(format!("{reason:?}")),
            },
            Event::Incoming(Packet::PubRec(ack)) => match ack.reason {
                PubRecReason::Success | PubRecReason::NoMatchingSubscribers => return,
                reason => Some(format!("{reason:?}")),
            },
            Event::Incoming(Packet::PubComp(_)) => None,
            _ => return,
        };
        self.answered += 1;
        if let Some(reason) = refused {
            self.refused += 1;
            eprintln!("tidings: message {} was refused: {reason}", self.answered);
        }
    }
}
