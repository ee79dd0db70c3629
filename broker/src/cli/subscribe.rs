//! `tidings sub`: subscribes, and prints messages as they come. A message is acknowledged when it
//! was printed; a lost connection is made again.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish, SubscribeReasonCode};
use rumqttc::v5::{ConnectionError, Event};

use super::mqtt_client::{Client, qos, runtime};

/// Before a lost connection is made again.
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Subscribe {
    #[command(flatten)]
    client: Client,
    /// Topic filter; may be given again. $replay/last/50/FILTER gives the last 50 messages first,
    /// and $replay/seq/N/FILTER and $replay/ts/MS/FILTER those from a number or a time on
    #[arg(short, long, required = true)]
    topic: Vec<String>,
    /// Highest quality of service of what comes
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Print the topic before each message
    #[arg(short, long)]
    verbose: bool,
    /// End after so many messages
    #[arg(short = 'C', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Have the broker keep the session, and what comes meanwhile, until the next time; needs --id
    #[arg(short = 'c', long)]
    keep_session: bool,
}

pub(super) fn run(args: &Subscribe) -> anyhow::Result<ExitCode> {
    if args.keep_session && !args.client.has_id() {
        bail!("--keep-session needs --id, so that the session can be found again");
    }
    match runtime()?.block_on(subscribe(args)) {
        // Whoever read what is printed has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        result => result,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref()
        .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn subscribe(args: &Subscribe) -> anyhow::Result<ExitCode> {
    let (client, mut events) = args.client.connect(args.keep_session.then_some(u32::MAX))?;
    let mut was_connected = false;
    let mut left = args.count;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                was_connected = true;
                let filters = args
                    .topic
                    .iter()
                    .map(|topic| Filter::new(topic.clone(), args.qos));
                client.try_subscribe_many(filters)?;
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                for (topic, code) in args.topic.iter().zip(&suback.return_codes) {
                    if !matches!(code, SubscribeReasonCode::Success(_)) {
                        return Err(anyhow!("{topic} was refused: {code:?}"));
                    }
                }
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                print(args, &message)?;
                client.try_ack(&message)?;
                left = left.map(|left| left - 1);
                if left == Some(0) {
                    client.try_disconnect()?;
                    // What is queued, acknowledgements first, leaves before the end.
                    while events.poll().await.is_ok() {}
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Ok(_) => {}
            Err(error @ ConnectionError::ConnectionRefused(_)) => {
                return Err(args.client.explain(&error));
            }
            Err(error) if !was_connected => return Err(args.client.explain(&error)),
            Err(error) => {
                eprintln!("tidings: {:#}; trying again", args.client.explain(&error));
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }
}

fn print(args: &Subscribe, message: &Publish) -> io::Result<()> {
    let mut line = Vec::with_capacity(message.topic.len() + message.payload.len() + 2);
    if args.verbose {
        line.extend_from_slice(&message.topic);
        line.push(b' ');
    }
    line.extend_from_slice(&message.payload);
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
