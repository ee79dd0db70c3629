//! Bodies of requests: bounded, of the type that was said, and JSON that has what it should and nothing
//! else; what is wrong is said with its place.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::{Api, Problem};

/// A body in JSON. An empty one is that of a request without fields.
pub(crate) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let declared = content_type(&parts.headers);
        let bytes = read(&parts.headers, body, api.options.max_body_bytes).await?;
        if bytes.is_empty() && declared.is_none() {
            return parse(b"{}").map(Self);
        }
        // Pages of other hosts can send forms and text without asking, but no JSON.
        if !declared.is_some_and(|declared| is_json(&declared)) {
            let text = "send JSON, with Content-Type: application/json";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "unsupported_media_type", text));
        }
        parse(&bytes).map(Self)
    }
}

/// What the header says, without parameters.
pub(super) fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.trim().to_owned())
}

pub(super) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // The text of serde has names of fields, line and column, and no contents but unknown words.
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_json", error.to_string()))
}

/// The whole body, if it is not too large.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
) -> Result<Bytes, Problem> {
    let too_large = || {
        let text = format!("the body has more than {max_bytes} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
    };
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > max_bytes as u64) {
        return Err(too_large());
    }
    match Limited::new(body, max_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::bad_request("the body broke off")),
    }
}
