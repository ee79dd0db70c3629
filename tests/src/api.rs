//! A caller of the HTTP API: JSON in and out, with a token once signed in.

use std::time::Instant;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request, header};

use crate::{DEADLINE, TidingsProcess};

/// Someone who asks the API of one broker.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    agent: Agent,
    token: Option<String>,
}

impl Api {
    /// Nobody, so far.
    pub fn new(broker: &TidingsProcess) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(DEADLINE));
        Self {
            base: format!("http://{}", broker.ws().address()),
            agent: config.build().into(),
            token: None,
        }
    }

    /// Signed in.
    ///
    /// # Panics
    /// If the broker does not let them in.
    #[track_caller]
    pub fn sign_in(&self, user: &str, password: &str) -> Self {
        let body = serde_json::json!({ "user": user, "password": password });
        let (status, answer) = self.call("POST", "/v1/login", Some(&body));
        assert_eq!(status, 200, "{answer}");
        let token = answer["token"].as_str().expect("a token").to_owned();
        Self {
            token: Some(token),
            ..self.clone()
        }
    }

    /// The token that it shows.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// Status and text of an answer.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = match body {
            None => self.agent.run(request.body(()).expect("a request")),
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.agent
                    .run(request.body(body.to_string()).expect("a request"))
            }
        };
        let mut answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = answer.body_mut().read_to_string();
        (answer.status().as_u16(), text.expect("text"))
    }

    /// Status of an answer, and its JSON; `Null` if it has none.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (status, text) = self.ask(method, path, body);
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The JSON of a GET that is answered with 200.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call("GET", path, None);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Asks again until an answer to a GET fits, for what the broker tells a moment later than it happens.
    ///
    /// # Panics
    /// If none does in time.
    #[track_caller]
    pub fn get_until(&self, path: &str, fits: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let (_, text) = self.ask("GET", path, None);
            if fits(&text) {
                return text;
            }
            assert!(Instant::now() < until, "{path} still says\n{text}");
        }
    }
}
