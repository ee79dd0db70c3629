//! Who calls the HTTP API, and the brokers that are called.

use serde_json::{Value, json};
use tidings_tests::{TidingsOptions, TidingsProcess};
use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, Body};

/// What was answered.
pub struct Answer {
    pub status: u16,
    pub headers: Response<()>,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        let value = serde_json::from_str(&self.text);
        value.unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap_or_default())
    }

    /// The word of a refusal; its status stands in it too.
    #[track_caller]
    pub fn code(&self) -> String {
        let json = self.json();
        assert_eq!(json["error"]["status"], self.status, "{json}");
        assert!(
            json["error"]["text"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        json["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// How a request says who it is from.
#[derive(Clone)]
pub enum As {
    Nobody,
    Bearer(String),
    Cookie(String),
    Basic(String, String),
}

/// A browser or script.
#[derive(Clone)]
pub struct Http {
    pub base: String,
    pub agent: Agent,
    pub who: As,
}

impl Http {
    pub fn new(broker: &TidingsProcess) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(tidings_tests::DEADLINE));
        Self {
            base: format!("http://{}", broker.ws().address()),
            agent: config.build().into(),
            who: As::Nobody,
        }
    }

    pub fn as_(&self, who: As) -> Self {
        Self {
            who,
            ..self.clone()
        }
    }

    /// Signed in by name and secret.
    #[track_caller]
    pub fn sign_in(&self, user: &str, password: &str) -> Self {
        let answer = self.post("/v1/login", json!({ "user": user, "password": password }));
        assert_eq!(answer.status, 200, "{}", answer.text);
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        self.as_(As::Bearer(token))
    }

    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        request = match &self.who {
            As::Nobody => request,
            As::Bearer(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            As::Cookie(token) => request.header(header::COOKIE, format!("x=1; token={token}")),
            As::Basic(user, secret) => {
                let pair = base64(format!("{user}:{secret}").as_bytes());
                request.header(header::AUTHORIZATION, format!("Basic {pair}"))
            }
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = if body.is_empty() && headers.is_empty() {
            self.agent.run(request.body(()).unwrap())
        } else {
            self.agent.run(request.body(body).unwrap())
        };
        let response: Response<Body> = response.unwrap_or_else(|error| panic!("{path}: {error}"));
        let (parts, mut body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            text: body.read_to_string().unwrap(),
            headers: Response::from_parts(parts, ()),
        }
    }

    #[track_caller]
    pub fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, body.to_string().as_bytes())
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.json("POST", path, body)
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> Answer {
        self.json("PUT", path, body)
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"")
    }
}

pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().chain([&0; 2]).take(3);
        let number = all.fold(0, |number, byte| number << 8 | usize::from(*byte));
        for place in 0..4 {
            let is_there = place <= chunk.len();
            let letter = LETTERS[number >> (18 - 6 * place) & 63];
            text.push(if is_there { char::from(letter) } else { '=' });
        }
    }
    text
}

pub fn managed() -> TidingsOptions {
    TidingsOptions::new()
        .set("rooms.mode", "\"managed\"")
        .set("rooms.requests_per_minute", 60_000)
}

/// A broker where people have passwords; hashing one costs little.
pub fn with_accounts(users: &[(&str, &[&str])]) -> TidingsProcess {
    let options = managed()
        .set("auth.mode", "\"accounts\"")
        .set("auth.password_memory_kib", 1024)
        .set("auth.password_passes", 1)
        .set("auth.failures_per_address_per_minute", 0)
        .set("auth.failures_per_user", 3)
        .set("auth.failures_per_user_per_minute", 1);
    let broker = options.start();
    for (user, roles) in users {
        tidings_user(&broker, &["add", user], roles, Some("correct horse"));
    }
    broker
}

/// `tidings user ...` on the data directory of a broker that runs.
#[track_caller]
pub fn tidings_user(broker: &TidingsProcess, words: &[&str], roles: &[&str], input: Option<&str>) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut command = Command::new(tidings_tests::binary::tidings());
    command.arg("user").args(words);
    for role in roles {
        command.args(["--role", role]);
    }
    command
        .args(["--data-dir".as_ref(), broker.data_dir().as_os_str()])
        .args(["--set", "auth.password_memory_kib=1024"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", input.unwrap_or_default()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
