//! Which pages may open a WebSocket: browsers say in `Origin` which page asks, and let every page ask
//! any address, loopback included.
//!
//! Rule: a page of the host that is asked may, whatever its port (as in development, and because
//! cookies know no ports either); so may pages that are listed; whoever says no `Origin` is no browser.
//! It does not know who a user is.

use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderMap, header};

/// Pages of other hosts that may open a WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<Origin>);

/// One entry: `https://chat.example.org`, `https://*.example.org`, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Any,
    Exact(String),
    /// Hosts that have something before the dot of `suffix`, which has the port too.
    Below {
        scheme: String,
        suffix: String,
    },
}

/// Text that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no origin, such as https://chat.example.org, https://*.example.org:8443 or * for all"
)]
pub struct NoOrigin(String);

/// What is known of the page that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// There is none: it is no browser.
    None,
    /// It is of this host, or listed by name.
    Known,
    /// All pages may ask.
    Any,
}

impl Origins {
    /// Reads entries.
    ///
    /// # Errors
    /// The first that is none.
    pub fn parse(texts: &[String]) -> Result<Self, NoOrigin> {
        texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Judges the page that asks by these and those of a listener; `None`: it may not.
    pub(crate) fn judge(&self, headers: &HeaderMap, others: Option<&Self>) -> Option<Page> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return Some(Page::None);
        };
        let origin = origin.to_str().ok()?.to_ascii_lowercase();
        // A browser says one.
        if origins.next().is_some() {
            return None;
        }
        let all = || {
            self.0
                .iter()
                .chain(others.into_iter().flat_map(|other| &other.0))
        };
        let is_listed = || all().any(|one| one.is_named(&origin));
        if is_same_host(headers) || is_listed() {
            return Some(Page::Known);
        }
        let is_any = all().any(|one| *one == Origin::Any);
        is_any.then_some(Page::Any)
    }
}

impl Origin {
    fn is_named(&self, origin: &str) -> bool {
        match self {
            Self::Any => false,
            Self::Exact(exact) => exact == origin,
            Self::Below { scheme, suffix } => origin
                .strip_prefix(scheme.as_str())
                .and_then(|rest| rest.strip_suffix(suffix.as_str()))
                .is_some_and(is_host),
        }
    }
}

impl FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        let none = || NoOrigin(text.to_owned());
        if text == "*" {
            return Ok(Self::Any);
        }
        let lower = text.to_ascii_lowercase();
        let (scheme, authority) = lower.split_once("://").ok_or_else(none)?;
        let host = authority.strip_prefix("*.").unwrap_or(authority);
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (host, None),
        };
        let is_name = is_host(name) || (name.starts_with('[') && name.ends_with(']'));
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
        let is_scheme = !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_name || !is_port || !is_scheme {
            return Err(none());
        }
        Ok(match authority.strip_prefix('*') {
            Some(suffix) => Self::Below {
                scheme: format!("{scheme}://"),
                suffix: suffix.to_owned(),
            },
            None => Self::Exact(lower),
        })
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no page",
            Self::Known => "a known page",
            Self::Any => "any page",
        })
    }
}

/// Labels with dots between them.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(is_plain)
    };
    text.split('.').all(is_label)
}

/// Whether the page that asks, if one does, is of the host that is asked.
pub(crate) fn is_same_host(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let (Ok(origin), Some(Ok(host))) = (
        origin.to_str(),
        headers.get(header::HOST).map(|host| host.to_str()),
    ) else {
        return false;
    };
    let origin = origin.split_once("://").map(|(_, authority)| authority);
    origin.is_some_and(|origin| without_port(origin).eq_ignore_ascii_case(without_port(host)))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn judge(list: &[&str], host: &'static str, origin: Option<&'static str>) -> Option<Page> {
        let texts: Vec<String> = list.iter().map(|text| (*text).to_owned()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        let judged = Origins::parse(&texts).unwrap().judge(&headers, None);
        let (none, some) = (Origins::default(), Origins::parse(&texts).unwrap());
        // It does not matter which of them says so.
        assert_eq!(none.judge(&headers, Some(&some)), judged);
        judged
    }

    #[test]
    fn pages_of_the_same_host_and_programs_may() {
        let host = "chat.example.org:8083";
        assert_eq!(judge(&[], host, None), Some(Page::None));
        for origin in [
            "http://chat.example.org:8083",
            "https://chat.example.org",
            "http://CHAT.example.org:5173",
        ] {
            assert_eq!(
                judge(&[], host, Some(origin)),
                Some(Page::Known),
                "{origin}"
            );
        }
        assert_eq!(
            judge(&[], "[::1]:8083", Some("http://[::1]:1")),
            Some(Page::Known)
        );
        for origin in [
            "https://example.org",
            "https://evil.chat.example.org",
            "https://chat.example.org.evil.org",
            "null",
            "",
            "chat.example.org",
        ] {
            assert_eq!(judge(&[], host, Some(origin)), None, "{origin}");
        }
    }

    #[test]
    fn listed_pages_may_and_what_only_looks_like_them_may_not() {
        let list = [
            "https://app.example.org",
            "https://*.example.net:8443",
            "capacitor://localhost",
        ];
        let judged = |origin| judge(&list, "broker", Some(origin));
        for origin in [
            "https://app.example.org",
            "https://App.Example.org",
            "https://a.example.net:8443",
            "https://a.b.example.net:8443",
            "capacitor://localhost",
        ] {
            assert_eq!(judged(origin), Some(Page::Known), "{origin}");
        }
        for origin in [
            "http://app.example.org",
            "https://app.example.org:444",
            "https://app.example.org.evil.org",
            "https://evil-app.example.org",
            "https://example.net:8443",
            "https://.example.net:8443",
            "https://evilexample.net:8443",
            "https://a.example.net",
            "https://evil.org/.example.net:8443",
            "https://evil.org#.example.net:8443",
            "https://user@evil.org:1/.example.net:8443",
        ] {
            assert_eq!(judged(origin), None, "{origin}");
        }
    }

    #[test]
    fn all_pages_may_if_that_is_said_and_are_not_known_for_it() {
        assert_eq!(
            judge(&["*"], "broker", Some("https://x.org")),
            Some(Page::Any)
        );
        assert_eq!(
            judge(&["*"], "broker", Some("https://broker")),
            Some(Page::Known)
        );
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "example.org",
            "https://",
            "https://example.org/",
            "https://example.org/path",
            "https://*",
            "https://*.",
            "https://a.*.org",
            "*.example.org",
            "https://example.org:port",
            "null",
        ] {
            assert!(Origins::parse(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
