//! Why a request over HTTP is not carried out: `{"error":{"code","status","text"}}`. What a service
//! refuses has its code and status from the service's own table; what only HTTP knows is here.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidings_core::codec::ReasonCode;
use tidings_core::rooms::RoomError;

use super::reply;
use crate::auth::Denied;

/// Seconds after which it makes sense to try again, where nothing better is known.
const RETRY_S: u32 = 60;

/// What is answered instead of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub status: StatusCode,
    /// The word that programs look at.
    pub code: Cow<'static, str>,
    /// What people read.
    pub text: Cow<'static, str>,
    /// Seconds to wait.
    pub retry_after_s: Option<u32>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        let again = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        Self {
            status,
            code: code.into(),
            text: text.into(),
            retry_after_s: again.then_some(RETRY_S),
        }
    }

    /// Code, status and text.
    pub fn to_json(&self) -> Value {
        let Self { code, text, .. } = self;
        json!({ "code": code, "status": self.status.as_u16(), "text": text })
    }

    /// The request cannot be understood.
    pub fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", text)
    }

    /// Nobody, or not who they say they are.
    pub fn unauthorized(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
    }

    /// Known, and may not.
    pub fn forbidden(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_allowed", text)
    }

    /// There is no such thing, or whoever asks may not know that there is.
    pub fn not_found(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", text)
    }

    /// The path is there, for other methods.
    pub fn method_not_allowed() -> Self {
        let text = "this path does not take this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
    }

    /// The broker cannot do it now.
    pub fn unavailable(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
    }

    /// A publish that was refused over MQTT.
    pub fn of_reason(reason: ReasonCode, text: Option<String>) -> Self {
        let (status, code, default) = match reason {
            ReasonCode::NotAuthorized => (
                StatusCode::FORBIDDEN,
                "not_allowed",
                "you may not publish there",
            ),
            ReasonCode::QuotaExceeded => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "too much at once, try again later",
            ),
            // Names were looked at before: it is about a message that is not there.
            ReasonCode::TopicNameInvalid => {
                (StatusCode::NOT_FOUND, "not_found", "there is no such thing")
            }
            ReasonCode::PayloadFormatInvalid => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "the payload is not what belongs there",
            ),
            ReasonCode::PacketIdentifierInUse => {
                (StatusCode::CONFLICT, "conflict", "it is on its way already")
            }
            ReasonCode::PacketTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "it is too large",
            ),
            // It is not what was there before: a cid with other content, a message that was recalled.
            ReasonCode::ImplementationSpecificError => {
                (StatusCode::CONFLICT, "conflict", "it was refused")
            }
            _ => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "it could not be stored",
            ),
        };
        let text = text.map_or(Cow::Borrowed(default), Cow::Owned);
        Self::new(status, code, text)
    }

    /// The error of a service's answer: `{"ok":false,"error":{"code","status","reason","text"}}`.
    pub fn of_answer(answer: &Value) -> Self {
        let error = &answer["error"];
        let status = error["status"].as_u64().and_then(|status| {
            let status = u16::try_from(status).ok()?;
            StatusCode::from_u16(status).ok()
        });
        let (Some(status), Some(code), Some(text)) =
            (status, error["code"].as_str(), error["text"].as_str())
        else {
            return Self::unavailable("the answer could not be read");
        };
        Self {
            code: code.to_owned().into(),
            ..Self::new(status, "", text.to_owned())
        }
    }
}

impl From<RoomError> for Problem {
    fn from(error: RoomError) -> Self {
        let status = StatusCode::from_u16(error.http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let text = denied.to_string();
        match denied {
            Denied::UserName(_) => Self::new(StatusCode::BAD_REQUEST, "bad_user", text),
            Denied::Credentials => Self::unauthorized(text),
            Denied::Outdated => Self::new(StatusCode::UNAUTHORIZED, "token_over", text),
            Denied::NotAuthorized | Denied::Certificate(_) => {
                Self::new(StatusCode::FORBIDDEN, "not_authorized", text)
            }
            Denied::TooManyAttempts => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", text)
            }
            Denied::Unavailable => Self::unavailable(text),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = reply::json(self.status, &json!({ "error": self.to_json() }));
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            // Not Basic: browsers would ask for a password of their own accord, and keep it.
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"tidings\""),
            );
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
