//! Two who count: one with mosquitto's clients through TLS, in a new process for each message, and one
//! who sends over HTTP and reads events. Both get every number once it was acknowledged, over all
//! lives of the broker.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::StatusCode;

use crate::crash::board::{Board, Life, Stage};
use crate::program::mosquitto;

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two tries when the broker is down.
const AGAIN: Duration = Duration::from_millis(200);
/// So often something is tried on a broker that lives.
const TRIES: u32 = 30;
const TOPIC: &str = "soak/by-tls";

/// Publishes with one process, and takes the message with another, which has a session.
pub struct TlsVisitor {
    ca: PathBuf,
    last: u64,
    has_session: bool,
}

impl TlsVisitor {
    pub fn new(ca: PathBuf) -> Self {
        Self {
            ca,
            last: 0,
            has_session: false,
        }
    }

    /// Messages that went all the way.
    pub fn visits(&self) -> u64 {
        self.last
    }

    pub fn run(&mut self, board: &Board) {
        let mut tries = 0;
        while board.stage() == Stage::Work {
            let Some(tls) = board.wait_for_broker(None).and_then(Life::tls) else {
                return;
            };
            match self.visit(tls) {
                Ok(()) => {
                    tries = 0;
                    board.stay_away(PAUSE);
                }
                Err(why) => {
                    tries += 1;
                    if tries == TRIES {
                        board.violation(format!("by TLS, after number {}: {why}", self.last));
                        return;
                    }
                    board.stay_away(AGAIN);
                }
            }
        }
    }

    fn visit(&mut self, address: SocketAddr) -> Result<(), String> {
        let session = ["-V", "5", "-q", "1", "-i", "soak-by-tls", "-c"];
        let session = [&session[..], &["-x", "4294967295"]].concat();
        if !self.has_session {
            let mut command = self.command("mosquitto_sub", address);
            command.args(&session).args(["-E"]);
            finish(command)?;
            self.has_session = true;
        }
        let number = self.last + 1;
        let mut command = self.command("mosquitto_pub", address);
        command.args(["-V", "5", "-q", "1", "-m", &number.to_string()]);
        finish(command)?;
        loop {
            let mut command = self.command("mosquitto_sub", address);
            command.args(&session).args(["-C", "1", "-W", "10"]);
            let text = finish(command)?;
            match text.trim().parse::<u64>() {
                Ok(got) if got == number => break,
                // The acknowledgement of one of these was lost with the broker.
                Ok(got) if got < number => {}
                _ => return Err(format!("instead of {number} came {text:?}")),
            }
        }
        self.last = number;
        Ok(())
    }

    fn command(&self, program: &str, address: SocketAddr) -> Command {
        let mut command = mosquitto(program, address);
        command.args(["-t", TOPIC, "--cafile"]).arg(&self.ca);
        command
    }
}

fn finish(mut command: Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {output:?}"))
    }
}

/// Sends with `PUT`, which may be asked again, and reads events, going on after the last identifier:
/// every number comes exactly once.
pub struct EventReader {
    last: u64,
    last_event: String,
}

impl EventReader {
    pub fn new() -> Self {
        Self {
            last: 0,
            last_event: String::new(),
        }
    }

    /// Events that came.
    pub fn events(&self) -> u64 {
        self.last
    }

    pub fn run(&mut self, board: &Board) {
        let mut tries = 0;
        while board.stage() == Stage::Work {
            let Some(life) = board.wait_for_broker(None) else {
                return;
            };
            let before = self.last;
            if let Err(why) = self.read_while(life, board) {
                tries = if self.last == before { tries + 1 } else { 0 };
                if tries == TRIES || matches!(why, Fault::Wrong(_)) {
                    board.violation(format!("by HTTP, after number {}: {why:?}", self.last));
                    return;
                }
                board.stay_away(AGAIN);
            }
        }
    }

    fn read_while(&mut self, life: Life, board: &Board) -> Result<(), Fault> {
        let base = format!("http://{}", life.endpoint(true).address());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_recv_body(Some(Duration::from_secs(24 * 60 * 60)));
        let agent: Agent = config.build().into();
        let dan = sign_in(&agent, &base, "dan")?;
        let eve = sign_in(&agent, &base, "eve")?;
        let mut request = agent
            .get(format!("{base}/v1/events?filter=dm/dan/%23"))
            .header("Authorization", &dan);
        if !self.last_event.is_empty() {
            request = request.header("Last-Event-ID", &self.last_event);
        }
        let answer = request.call()?;
        if answer.status() != StatusCode::OK {
            return Err(Fault::Broken(format!("events: {}", answer.status())));
        }
        let mut events = BufReader::new(answer.into_body().into_reader());
        // What comes first says where it begins; only then something is sent.
        self.block(&mut events)?;
        while board.stage() == Stage::Work {
            let number = self.last + 1;
            let answer = agent
                .put(format!("{base}/v1/dm/dan/messages/by-cid/{number}"))
                .header("Authorization", &eve)
                .header("Content-Type", "application/json")
                .send(json!({ "text": number.to_string() }).to_string())?;
            if answer.status() != StatusCode::OK {
                return Err(Fault::Broken(format!("message: {}", answer.status())));
            }
            while self.last < number {
                if let Some(message) = self.block(&mut events)? {
                    let wanted = (self.last + 1).to_string();
                    if message["payload"] != *wanted {
                        return Err(Fault::Wrong(format!("instead of {wanted}: {message}")));
                    }
                    self.last += 1;
                }
            }
            board.stay_away(PAUSE);
        }
        Ok(())
    }

    /// Up to the next empty line; the message in it, if it is one.
    fn block(&mut self, events: &mut BufReader<impl Read>) -> Result<Option<Value>, Fault> {
        let mut is_message = false;
        let mut message = None;
        loop {
            let mut line = String::new();
            let len = events.read_line(&mut line);
            if len.map_err(|error| Fault::Broken(error.to_string()))? == 0 {
                return Err(Fault::Broken("the events ended".into()));
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut self.last_event),
                Some(("event", "message")) => is_message = true,
                Some(("event", name @ ("gap" | "reset"))) => {
                    return Err(Fault::Wrong(format!("event {name}")));
                }
                Some(("data", data)) if is_message => {
                    let parsed = serde_json::from_str(data);
                    message = Some(parsed.map_err(|error| Fault::Wrong(error.to_string()))?);
                }
                None if line.trim().is_empty() => return Ok(message),
                _ => {}
            }
        }
    }
}

/// Why a reader of events does not go on.
#[derive(Debug)]
enum Fault {
    /// The connection: it tries again.
    Broken(#[expect(dead_code, reason = "shown as a violation")] String),
    /// What must not be.
    Wrong(#[expect(dead_code, reason = "shown as a violation")] String),
}

impl From<ureq::Error> for Fault {
    fn from(error: ureq::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

fn sign_in(agent: &Agent, base: &str, user: &str) -> Result<String, Fault> {
    let mut answer = agent
        .post(format!("{base}/v1/login"))
        .header("Content-Type", "application/json")
        .send(json!({ "user": user, "password": "" }).to_string())?;
    let text = answer.body_mut().read_to_string()?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    match answer["token"].as_str() {
        Some(token) => Ok(format!("Bearer {token}")),
        None => Err(Fault::Broken(format!("login: {answer}"))),
    }
}
