//! A caller over HTTP: requests with a token, and streams of events. It knows nothing of cells.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{Method, Request, header};
use ureq::{Agent, Body, BodyReader};

/// Long enough for a stream that is open while other cells are tried.
const PATIENCE: Duration = Duration::from_secs(120);

/// Somebody, or nobody yet.
#[derive(Clone)]
pub struct Caller {
    base: String,
    agent: Agent,
    pub token: String,
}

/// A status, and JSON if there was any.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub json: Value,
}

impl Answer {
    /// The word of a refusal.
    pub fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or_default()
    }
}

impl Caller {
    pub fn nobody(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE));
        Self {
            base: format!("http://{address}"),
            agent: config.build().into(),
            token: String::new(),
        }
    }

    #[track_caller]
    pub fn sign_in(&self, user: &str, password: &str) -> Self {
        let login = json!({ "user": user, "password": password });
        let answer = self.send("POST", "/v1/login", Some(login));
        assert_eq!(answer.status, 200, "{user}: {answer:?}");
        let token = answer.json["token"].as_str().expect("a token");
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    #[track_caller]
    pub fn send(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let (status, mut body) = self.begin(method, path, body);
        let text = body.read_to_string().expect("a body of text");
        let json = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).expect("JSON"),
        };
        Answer { status, json }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    /// A request that must be carried out.
    #[track_caller]
    pub fn does(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.send(method, path, Some(body));
        let ok = matches!(answer.status, 200 | 201 | 204);
        assert!(ok, "{method} {path}: {answer:?}");
        answer.json
    }

    #[track_caller]
    fn begin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Body) {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(format!("{}{path}", self.base));
        if !self.token.is_empty() {
            let bearer = format!("Bearer {}", self.token);
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let response = match body {
            Some(json) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                let request = request.body(json.to_string()).expect("a request");
                self.agent.run(request)
            }
            None => self.agent.run(request.body(()).expect("a request")),
        };
        let response = response.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let (parts, body) = response.into_parts();
        (parts.status.as_u16(), body)
    }

    /// A stream of events.
    ///
    /// # Errors
    /// The answer, if it is none.
    #[track_caller]
    pub fn stream(&self, path: &str) -> Result<Events, Answer> {
        let (status, mut body) = self.begin("GET", path, None);
        if status != 200 {
            let text = body.read_to_string().expect("a body of text");
            let json = serde_json::from_str(&text).expect("JSON");
            return Err(Answer { status, json });
        }
        Ok(Events(BufReader::new(
            body.into_with_config().limit(u64::MAX).reader(),
        )))
    }
}

/// What comes over a stream.
pub struct Events(BufReader<BodyReader<'static>>);

impl Events {
    /// The next message; `None` when the stream has ended.
    pub fn next(&mut self) -> Option<Value> {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            // A stream that is cut off has ended as well.
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ")
                && name == "message"
            {
                return Some(serde_json::from_str(data).expect("messages are JSON"));
            }
        }
    }
}
