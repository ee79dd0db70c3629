//! What the path and the query of a request say.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tidings_core::rooms::{RoomError, check_room_name};

use super::{Api, Problem};
use crate::auth::check_user_name;

/// The names in a path.
pub(crate) struct At<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Path(names) = Path::<T>::from_request_parts(parts, api)
            .await
            .map_err(|_| Problem::bad_request("a name in the path cannot be read"))?;
        Ok(Self(names))
    }
}

/// The parameters of a query.
pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|error| Problem::bad_request(format!("the query: {}", error.body_text())))
    }
}

/// A room's name, which becomes a level of topics.
///
/// # Errors
/// If it cannot be one.
pub(crate) fn room(name: &str) -> Result<&str, Problem> {
    check_room_name(name).map_err(|_| RoomError::BadName)?;
    Ok(name)
}

/// A user's name, which becomes a level of topics.
///
/// # Errors
/// If it cannot be one.
pub(crate) fn user(name: &str) -> Result<&str, Problem> {
    check_user_name(name).map_err(|_| RoomError::BadUser)?;
    Ok(name)
}

/// A number in a path.
///
/// # Errors
/// If it is none, or 0.
pub(crate) fn seq(text: &str) -> Result<u64, Problem> {
    let is_plain = !text.starts_with('+');
    let number = text.parse().ok().filter(|seq| *seq > 0 && is_plain);
    number.ok_or_else(|| Problem::bad_request("the number of a message is 1 or more"))
}

/// What a text can be, room, user or number: for [`crate::fuzzing`].
pub(crate) fn judge(text: &str) -> (bool, bool, bool) {
    (room(text).is_ok(), user(text).is_ok(), seq(text).is_ok())
}
