//! Somebody on another address who connects and says what is no MQTT, or nothing at all.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::crash::board::{Board, Life, Stage};
use crate::seeded::Seeded;

/// Where they come from.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Connections that are held open, saying nothing more.
const HELD: usize = 100;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(50);
/// Nobody waits longer for a broker that does not take them.
const PATIENCE: Duration = Duration::from_secs(5);

/// What they say.
const SAYINGS: &[&[u8]] = &[
    b"",
    b"\x10",
    // A CONNECT that announces 256 MiB.
    b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x05",
    // One whose name is longer than the packet.
    b"\x10\x10\x00\xffMQTT\x04\x02\x00\x00",
    // A PUBLISH before any CONNECT, and a packet that only servers send.
    b"\x30\x05\x00\x01aXY",
    b"\x20\x02\x00\x00",
    b"\xff\xff\xff\xff\xff\xff",
    // TLS, begun.
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n{",
    b"GET / HTTP/1.1\r\nA: ",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
];

/// See the module.
pub struct Strangers {
    random: Seeded,
    held: VecDeque<Socket>,
    tries: u64,
}

impl Strangers {
    pub fn new(random: Seeded) -> Self {
        Self {
            random,
            held: VecDeque::new(),
            tries: 0,
        }
    }

    /// Connections that were tried.
    pub fn tries(&self) -> u64 {
        self.tries
    }

    pub fn run(&mut self, board: &Board) {
        let mut life = None;
        while let Some(next) = board.wait_for_broker(life) {
            life = Some(next);
            while board.stage() == Stage::Work {
                // A broker that is down or has banned them refuses, or ends the connection early.
                if self.try_one(next).is_err() && board.is_down() {
                    break;
                }
                board.stay_away(PAUSE);
            }
            if board.stage() != Stage::Work {
                break;
            }
        }
        self.held.clear();
    }

    fn try_one(&mut self, life: Life) -> std::io::Result<()> {
        self.tries += 1;
        let tls = life.tls();
        let over_websocket = self.random.chance(50);
        let to = tls
            .filter(|_| self.random.chance(30))
            .unwrap_or_else(|| life.endpoint(over_websocket).address());
        let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((FROM, 0)).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let saying = self.random.pick(SAYINGS);
        socket.write_all(saying)?;
        if self.random.chance(50) {
            self.held.push_back(socket);
            if self.held.len() > HELD {
                self.held.pop_front();
            }
        }
        Ok(())
    }
}
