//! `LISTEN_FDS`: sockets that the service manager has bound, and hands over to the listener of that name or
//! address.
//!
//! Invariants: a socket that belongs to no listener is an error, because whoever connected there would wait
//! for ever; where a socket is really bound is what the settings are judged by.

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use socket2::SockRef;
use tidings_config::{ListenAddress, Listener};

/// Sockets that were handed over, in their order.
#[derive(Debug, Default)]
pub(crate) struct HandedOver(Vec<One>);

#[derive(Debug)]
struct One {
    /// `FileDescriptorName=`; without it the name of the unit.
    name: String,
    address: ListenAddress,
    socket: Arc<OwnedFd>,
}

/// Sockets by the place of their listener.
pub(crate) type Places = Vec<Option<Arc<OwnedFd>>>;

impl HandedOver {
    /// Takes what the environment announces to this process.
    ///
    /// # Errors
    /// If something else than listening sockets was handed over.
    pub fn take() -> anyhow::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = ListenFd::from_env();
        let mut taken = Vec::new();
        for index in 0..given.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let socket = take(&mut given, index)
                .with_context(|| format!("socket {index} of LISTEN_FDS (\"{name}\")"))?;
            let address = bound_to(&socket)
                .with_context(|| format!("socket {index} of LISTEN_FDS (\"{name}\")"))?;
            taken.push(One {
                name,
                address,
                socket: Arc::new(socket),
            });
        }
        Ok(Self(taken))
    }

    /// Gives each socket to the listener of its address, or else of its name; more sockets of one name
    /// make more listeners of that kind. Listeners then have the addresses of their sockets.
    ///
    /// # Errors
    /// If a socket belongs to none.
    pub fn place(&self, listeners: &mut Vec<Listener>) -> anyhow::Result<Places> {
        let mut places: Places = vec![None; listeners.len()];
        for one in &self.0 {
            let is_free = |index: usize| places.get(index).is_some_and(Option::is_none);
            let free = || {
                listeners
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| is_free(*index))
            };
            let by_address = free().find(|(_, listener)| listener.address == one.address);
            let found =
                by_address.or_else(|| free().find(|(_, listener)| listener.name == one.name));
            let index = match found.map(|(index, _)| index) {
                Some(index) => index,
                None => {
                    let more = listeners.iter().find(|listener| listener.name == one.name);
                    let Some(more) = more.cloned() else {
                        let known: Vec<_> = listeners.iter().map(|l| &*l.name).collect();
                        bail!(
                            "the socket \"{}\" at {} was handed over, and no listener has that name or \
                             address; there are {}",
                            one.name,
                            one.address,
                            known.join(", ")
                        );
                    };
                    listeners.push(more);
                    places.push(None);
                    listeners.len() - 1
                }
            };
            if let (Some(listener), Some(place)) = (listeners.get_mut(index), places.get_mut(index))
            {
                listener.address = one.address.clone();
                *place = Some(one.socket.clone());
            }
        }
        Ok(places)
    }
}

fn take(given: &mut ListenFd, index: usize) -> io::Result<OwnedFd> {
    let is_taken = || io::Error::other("it was taken already");
    match given.take_tcp_listener(index) {
        Ok(socket) => socket.map(OwnedFd::from).ok_or_else(is_taken),
        Err(_) => {
            let socket = given.take_unix_listener(index)?;
            socket.map(OwnedFd::from).ok_or_else(is_taken)
        }
    }
}

fn bound_to(socket: &OwnedFd) -> io::Result<ListenAddress> {
    let address = SockRef::from(socket).local_addr()?;
    let network = address.as_socket().map(ListenAddress::Network);
    let path = || Some(ListenAddress::Unix(address.as_pathname()?.to_owned()));
    network
        .or_else(path)
        .ok_or_else(|| io::Error::other("it is bound neither to a port nor to a path"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn one(name: &str) -> One {
        let socket = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        One {
            name: name.to_owned(),
            address: bound_to(&socket).unwrap(),
            socket: Arc::new(socket),
        }
    }

    fn listener(name: &str, address: &str) -> Listener {
        Listener {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            ..Listener::default()
        }
    }

    #[test]
    fn a_socket_goes_to_its_address_or_its_name_and_more_of_a_name_are_more_listeners() {
        let by_address = one("tidings.socket");
        let mut listeners = vec![
            listener("mqtt", "127.0.0.1:1"),
            listener("other", "127.0.0.1:2"),
            listener("third", &by_address.address.to_string()),
        ];
        let sockets = [by_address, one("mqtt"), one("mqtt")];
        let addresses: Vec<_> = sockets.iter().map(|one| one.address.clone()).collect();
        let handed = HandedOver(sockets.into());
        let places = handed.place(&mut listeners).unwrap();
        let has: Vec<_> = places.iter().map(Option::is_some).collect();
        assert_eq!(has, [true, false, true, true]);
        let names: Vec<_> = listeners.iter().map(|l| &*l.name).collect();
        assert_eq!(names, ["mqtt", "other", "third", "mqtt"]);
        assert_eq!(listeners[0].address, addresses[1]);
        assert_eq!(listeners[1].address.to_string(), "127.0.0.1:2");
        assert_eq!(listeners[2].address, addresses[0]);
        assert_eq!(listeners[3].address, addresses[2]);
    }

    #[test]
    fn a_socket_that_belongs_to_no_listener_is_an_error() {
        let mut listeners = vec![listener("mqtt", "127.0.0.1:1")];
        let error = HandedOver(vec![one("web")])
            .place(&mut listeners)
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("\"web\"") && text.contains("there are mqtt"),
            "{text}"
        );
    }
}
