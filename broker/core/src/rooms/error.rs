//! Why a command about rooms is refused: one table of code, HTTP status, MQTT Reason Code and text,
//! the same over every door.

use crate::codec::ReasonCode;

macro_rules! room_errors {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $status:literal, $reason:ident, $text:literal;)*) => {
        /// Why a command about rooms is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum RoomError {
            $($(#[$doc])* #[error($text)] $name,)*
        }

        impl RoomError {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word that programs look at.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status over HTTP.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The Reason Code over MQTT.
            pub const fn reason(self) -> ReasonCode {
                match self { $(Self::$name => ReasonCode::$reason,)* }
            }
        }
    };
}

room_errors! {
    /// The request cannot be read.
    BadRequest, "bad_request", 400, PayloadFormatInvalid,
        "the request is not a JSON object with the fields of this method";
    /// The name cannot be a room's.
    BadName, "bad_name", 400, TopicNameInvalid,
        "a room name has 1 to 128 bytes, none of / + # & and control characters, and begins with \
         none of $ and .";
    /// The name cannot be a user's.
    BadUser, "bad_user", 400, TopicNameInvalid, "that cannot be a user name";
    /// There is no such method.
    UnknownMethod, "unknown_method", 404, TopicNameInvalid, "there is no such method";
    /// The room does not exist, or the actor may not know that it does.
    NoSuchRoom, "no_such_room", 404, TopicNameInvalid, "there is no such room";
    /// The user is not in the room.
    NotThere, "not_there", 404, ImplementationSpecificError, "that user is not in the room";
    /// There is no such ban, mute or invitation.
    NoSuchMark, "no_such_mark", 404, ImplementationSpecificError,
        "there is no such ban, mute or invitation";
    /// The user has no device of that name connected.
    NoSuchDevice, "no_such_device", 404, ImplementationSpecificError,
        "you have no such device connected";
    /// The actor is not in the room.
    NotMember, "not_member", 403, NotAuthorized, "you are not in the room";
    /// The actor's role does not allow it.
    NotAllowed, "not_allowed", 403, NotAuthorized, "your role in the room does not allow this";
    /// The actor, or the user that is meant, is banned.
    Banned, "banned", 403, NotAuthorized, "banned from the room";
    /// The name is taken, or was.
    Exists, "exists", 409, ImplementationSpecificError, "the name is taken";
    /// The user is in the room already.
    AlreadyMember, "already_member", 409, ImplementationSpecificError,
        "that user is in the room already";
    /// The room is archived.
    Archived, "archived", 409, ImplementationSpecificError, "the room is archived";
    /// An owner has to hand the room over first.
    OwnerStays, "owner_stays", 409, ImplementationSpecificError,
        "the owner transfers or deletes the room before leaving";
    /// Rooms of this kind have no such thing.
    NotForKind, "not_for_kind", 409, ImplementationSpecificError,
        "rooms of this kind do not have this";
    /// A limit of the settings is reached.
    LimitReached, "limit_reached", 409, QuotaExceeded, "a limit of the server is reached";
    /// The user asks too often.
    TooManyRequests, "too_many_requests", 429, QuotaExceeded,
        "too many requests, try again in a minute";
    /// Nothing can be stored now.
    Unavailable, "unavailable", 503, ImplementationSpecificError,
        "nothing can be changed for the moment; whether this was carried out is not known";
}
