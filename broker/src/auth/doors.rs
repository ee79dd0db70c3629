//! Listeners that differ in how their clients prove who they are: each client is judged as its listener
//! says, and by that alone.

use std::future::ready;
use std::sync::Arc;

use super::{Admitted, Answer, Authenticate, Credentials, Denied, DoorMode};

/// See the module.
pub(crate) struct ByDoor {
    /// What the broker wants of those whose listener says nothing else.
    pub default: Arc<dyn Authenticate>,
    /// For listeners where everyone is believed.
    pub open: Arc<dyn Authenticate>,
    /// For listeners that want accounts; `None`: there are none.
    pub accounts: Option<Arc<dyn Authenticate>>,
}

impl Authenticate for ByDoor {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a> {
        let judge = match credentials.door {
            DoorMode::Inherit => Some(&self.default),
            DoorMode::Open => Some(&self.open),
            DoorMode::Accounts => self.accounts.as_ref(),
        };
        match judge {
            Some(judge) => judge.authenticate(credentials),
            None => Box::pin(ready(Err(Denied::Unavailable))),
        }
    }

    fn is_welcome(&self, admitted: &Admitted) -> bool {
        // Whoever proved nothing has nothing to lose.
        if admitted.unproved {
            return self.open.is_welcome(admitted);
        }
        let by_accounts = self.accounts.as_ref();
        self.default.is_welcome(admitted)
            && by_accounts.is_none_or(|accounts| accounts.is_welcome(admitted))
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::rules::Identity;

    use super::*;
    use crate::auth::OpenMode;

    /// Lets in one name, with one password.
    struct Only(&'static str);

    impl Authenticate for Only {
        fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a> {
            let fits = credentials.password == Some(self.0.as_bytes());
            let user = credentials.username.unwrap_or_default();
            let judged = fits.then(|| Admitted::as_one(Identity::user(user)));
            Box::pin(ready(judged.ok_or(Denied::Credentials)))
        }

        fn is_welcome(&self, admitted: &Admitted) -> bool {
            &*admitted.identity.user != self.0
        }
    }

    async fn judged(doors: &ByDoor, door: DoorMode, password: &str) -> Result<bool, Denied> {
        let credentials = Credentials {
            username: Some("alice"),
            password: Some(password.as_bytes()),
            client_id: "",
            address: None,
            bearer: None,
            certificate: None,
            door,
        };
        let admitted = doors.authenticate(credentials).await?;
        Ok(admitted.unproved)
    }

    #[tokio::test]
    async fn each_client_is_judged_as_its_listener_says_and_by_nobody_else() {
        use DoorMode::{Accounts, Inherit, Open};
        let doors = |accounts: Option<Arc<dyn Authenticate>>| ByDoor {
            default: Arc::new(Only("default")),
            open: Arc::new(OpenMode),
            accounts,
        };
        let all = doors(Some(Arc::new(Only("account"))));
        for (door, password, expected) in [
            (Inherit, "default", Ok(false)),
            (Inherit, "account", Err(Denied::Credentials)),
            (Inherit, "", Err(Denied::Credentials)),
            (Accounts, "account", Ok(false)),
            (Accounts, "default", Err(Denied::Credentials)),
            (Accounts, "", Err(Denied::Credentials)),
            (Open, "", Ok(true)),
            (Open, "account", Ok(true)),
        ] {
            assert_eq!(judged(&all, door, password).await, expected, "{door:?}");
        }
        let none = doors(None);
        let denied = judged(&none, Accounts, "account").await;
        assert_eq!(denied, Err(Denied::Unavailable), "nobody is let in instead");
    }

    #[test]
    fn who_proved_something_has_to_be_welcome_to_all_who_could_have_judged_it() {
        let doors = ByDoor {
            default: Arc::new(Only("bob")),
            open: Arc::new(OpenMode),
            accounts: Some(Arc::new(Only("carol"))),
        };
        for (user, unproved, is_welcome) in [
            ("alice", false, true),
            ("bob", false, false),
            ("carol", false, false),
            ("carol", true, true),
        ] {
            let admitted = Admitted {
                unproved,
                ..Admitted::as_one(Identity::user(user))
            };
            assert_eq!(doors.is_welcome(&admitted), is_welcome, "{user}");
        }
    }
}
