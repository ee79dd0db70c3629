//! The web chat, and the page for administrators, embedded when the broker was built.
//!
//! Files below `assets/` have a hash of their content in their name and are cached for ever; the
//! rest is asked for anew. It does not know HTTP connections, nor what the page does.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};

/// Paths and contents of the page's files, without a leading slash; empty if it was not built.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/web_page.rs"));

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Tidings</title>\
<h1>The web chat was not built</h1>\
<p>The broker runs, and MQTT clients can connect. To have the page here, run <code>make web</code> \
and build the broker again; <code>make run</code> does both.</p></html>\n";

/// On everything that is served: scripts and styles only from here, no framing, no guessing.
static SECURITY: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; connect-src 'self' ws: wss:; worker-src 'self' blob:; img-src 'self' data:; \
             style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
];

/// Whether the web chat was built before the broker was, and so is served.
pub fn is_built() -> bool {
    !FILES.is_empty()
}

/// The answer to a GET of `path`, which begins with a slash.
pub(crate) fn serve(path: &str) -> Response<Body> {
    serve_from(FILES, path)
}

fn serve_from(files: &'static [(&str, &[u8])], path: &str) -> Response<Body> {
    let name = match path.trim_start_matches('/') {
        "" => "index.html",
        "admin" => "admin.html",
        name => name,
    };
    let found = files.iter().find(|(known, _)| *known == name);
    match found {
        Some(&(name, content)) => {
            let cache = if name.starts_with("assets/") {
                "public, max-age=31536000, immutable"
            } else {
                "no-cache"
            };
            answer(
                StatusCode::OK,
                content_type(name),
                cache,
                Body::from(content),
            )
        }
        None if matches!(name, "index.html" | "admin.html") => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            HTML,
            "no-store",
            Body::from(NOT_BUILT),
        ),
        None => answer(
            StatusCode::NOT_FOUND,
            TEXT,
            "no-store",
            Body::from("not found\n"),
        ),
    }
}

/// A plain text answer with the headers that all answers have.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    answer(status, TEXT, "no-store", Body::from(text.into()))
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    cache: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    for (name, value) in &SECURITY {
        headers.insert(name.clone(), value.clone());
    }
    response
}

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => HTML,
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" => TEXT,
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BUILT: &[(&str, &[u8])] = &[
        ("assets/index-4f2a.js", b"1"),
        ("index.html", b"<p>"),
        ("icon.svg", b"<svg>"),
    ];

    fn header_of(response: &Response<Body>, name: HeaderName) -> &str {
        response.headers().get(name).unwrap().to_str().unwrap()
    }

    #[test]
    fn a_page_that_was_not_built_says_how_to_build_it() {
        let response = serve_from(&[], "/");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(header_of(&response, header::CONTENT_TYPE), HTML);
        assert!(NOT_BUILT.contains("make web"));
    }

    #[test]
    fn hashed_files_are_cached_for_ever_and_the_page_itself_is_not() {
        let script = serve_from(BUILT, "/assets/index-4f2a.js");
        assert_eq!(script.status(), StatusCode::OK);
        assert_eq!(
            header_of(&script, header::CONTENT_TYPE),
            "text/javascript; charset=utf-8"
        );
        assert!(header_of(&script, header::CACHE_CONTROL).contains("immutable"));
        let page = serve_from(BUILT, "/");
        assert_eq!(header_of(&page, header::CACHE_CONTROL), "no-cache");
        assert_eq!(header_of(&page, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    }

    #[test]
    fn a_path_that_is_no_file_is_not_found() {
        for path in ["/nothing", "/../Cargo.toml", "/assets/", "//index.htm"] {
            assert_eq!(
                serve_from(BUILT, path).status(),
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
    }
}
