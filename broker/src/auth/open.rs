//! Open mode: everyone is who they say they are. For one machine, and for trying things out.

use std::future::ready;

use tidings_core::rules::Identity;

use super::{Admitted, Answer, Authenticate, Credentials, check_user_name};

/// Any user name, with any password or none; without a user name a client is anonymous. Only the name in
/// a certificate is not open to choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenMode;

impl Authenticate for OpenMode {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a> {
        let said = credentials.username;
        let answer = match (credentials.certificate, said) {
            (Some(certified), said) => certified.user(said).map(|name| Admitted {
                valid_until: Some(certified.ends),
                thumbprint: Some(certified.thumbprint.clone()),
                ..Admitted::as_one(Identity::user(name))
            }),
            (None, None) => Ok(believed(Identity::anonymous())),
            (None, Some(name)) => check_user_name(name).map(|()| believed(Identity::user(name))),
        };
        Box::pin(ready(answer))
    }

    /// Whoever wanted another's session would say that they are the other.
    fn tells_apart(&self) -> bool {
        false
    }
}

fn believed(identity: Identity) -> Admitted {
    Admitted {
        unproved: true,
        ..Admitted::as_one(identity)
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::codec::ReasonCode;
    use tidings_core::rules::IdentityKind;

    use super::*;
    use crate::auth::DoorMode;

    async fn identity(username: Option<&str>) -> Result<Identity, crate::auth::Denied> {
        OpenMode
            .authenticate(Credentials {
                username,
                password: None,
                client_id: "c",
                address: None,
                bearer: None,
                certificate: None,
                door: DoorMode::Inherit,
            })
            .await
            .map(|admitted| admitted.identity)
    }

    #[tokio::test]
    async fn any_user_name_is_believed_and_none_is_anonymous() {
        assert_eq!(identity(Some("alice")).await, Ok(Identity::user("alice")));
        assert_eq!(identity(Some("Åsa 7")).await, Ok(Identity::user("Åsa 7")));
        assert_eq!(identity(None).await.unwrap().kind, IdentityKind::Anonymous);
    }

    #[tokio::test]
    async fn a_user_name_that_cannot_be_a_topic_level_is_refused() {
        let long = "x".repeat(257);
        for name in [
            "",
            "a/b",
            "+",
            "a#",
            "a\0b",
            "a\nb",
            "\u{1b}[2J",
            "$SYS",
            &long,
        ] {
            let denied = identity(Some(name)).await.unwrap_err();
            assert_eq!(denied.reason(), ReasonCode::BadUserNameOrPassword, "{name}");
        }
    }
}
