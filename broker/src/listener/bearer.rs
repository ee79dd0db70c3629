//! A token that a browser shows when it asks for a WebSocket, since its script cannot set a password
//! before: in the header `Authorization` where it can, in the cookie `token`, or in the query.
//!
//! A browser sends the cookie whichever page asks: so it counts only if that page is known to be one of
//! ours, or if a header says that no page asks.
//! It does not know whether a token counts, and logs none.

use axum::http::{HeaderMap, Uri, header};

/// The token of a request, the first of these that is there.
pub(crate) fn of(headers: &HeaderMap, uri: &Uri, cookie_counts: bool) -> Option<String> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let cookie = || {
        cookies
            .filter(|_| cookie_counts)
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .find_map(|pair| pair.trim().strip_prefix("token="))
    };
    // A token has no character that would be escaped.
    let query = || {
        let pairs = uri.query()?.split('&');
        pairs
            .into_iter()
            .find_map(|pair| pair.strip_prefix("token="))
    };
    let token = authorization.or_else(cookie).or_else(query)?;
    (!token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn found(headers: &[(header::HeaderName, &'static str)], uri: &'static str) -> Option<String> {
        let pairs = headers.iter().cloned();
        let headers = pairs.map(|(name, value)| (name, HeaderValue::from_static(value)));
        of(&headers.collect(), &Uri::from_static(uri), true)
    }

    #[test]
    fn a_token_is_found_in_header_cookie_and_query_in_this_order() {
        let bearer = (header::AUTHORIZATION, "Bearer a.b.c");
        let cookie = (header::COOKIE, "x=1; token=d.e.f");
        let uri = "/mqtt?x=y&token=g.h.i";
        let expect = |token: &str| Some(token.to_owned());
        assert_eq!(
            found(&[bearer.clone(), cookie.clone()], uri),
            expect("a.b.c")
        );
        assert_eq!(found(std::slice::from_ref(&cookie), uri), expect("d.e.f"));
        let cookie = [cookie].map(|(name, value)| (name, HeaderValue::from_static(value)));
        let ignored = of(&cookie.into_iter().collect(), &Uri::from_static(uri), false);
        assert_eq!(ignored, expect("g.h.i"));
        assert_eq!(found(&[], uri), expect("g.h.i"));
        for headers in [
            &[(header::AUTHORIZATION, "Basic YTpi")][..],
            &[(header::AUTHORIZATION, "Bearer ")],
            &[(header::COOKIE, "nottoken=1")],
        ] {
            assert_eq!(found(headers, "/mqtt?tokens=1"), None);
        }
    }
}
