//! How clients come in, as figures tell them apart: the label `door`.

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Tcp,
    Tls,
    Unix,
    WebSocket,
    SecureWebSocket,
    /// Server-Sent Events.
    Events,
    Poll,
    /// Single requests over HTTP, and what the API does for its caller.
    Http,
    /// JSON over WebSocket.
    Chat,
    /// Parts of the broker, and links to other brokers.
    Broker,
    /// A gateway of the program that the broker is part of.
    Gateway,
}

impl Via {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Tcp,
        Self::Tls,
        Self::Unix,
        Self::WebSocket,
        Self::SecureWebSocket,
        Self::Events,
        Self::Poll,
        Self::Http,
        Self::Chat,
        Self::Broker,
        Self::Gateway,
    ];

    /// Word for figures and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Unix => "unix",
            Self::WebSocket => "ws",
            Self::SecureWebSocket => "wss",
            Self::Events => "sse",
            Self::Poll => "poll",
            Self::Http => "http",
            Self::Chat => "chat",
            Self::Broker => "broker",
            Self::Gateway => "gateway",
        }
    }

    /// The door of a word of [`Transport::kind`](crate::transport::Transport::kind).
    pub fn of_transport(kind: &str) -> Self {
        let known = Self::ALL.into_iter().find(|via| via.name() == kind);
        known.unwrap_or(Self::Tcp)
    }
}
