//! A page to try the API: `/v1/docs`, made by its script from the OpenAPI document. All of it is here;
//! nothing is loaded from elsewhere.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::{Endpoint, get, reply};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

pub(super) fn endpoints() -> Vec<Endpoint> {
    let page = |endpoint: Endpoint, content_type| {
        endpoint
            .open()
            .answers_with(200, "Part of the page", "Any", content_type)
    };
    vec![
        page(get("/v1/docs", html, "A page to try all this"), HTML),
        page(
            get("/v1/docs/page.js", script, "The script of that page"),
            SCRIPT,
        ),
        page(
            get("/v1/docs/page.css", style, "The style of that page"),
            STYLE,
        ),
    ]
}

async fn html() -> Response {
    part(HTML, include_str!("docs/page.html"))
}

async fn script() -> Response {
    part(SCRIPT, include_str!("docs/page.js"))
}

async fn style() -> Response {
    part(STYLE, include_str!("docs/page.css"))
}

fn part(content_type: &'static str, text: &'static str) -> Response {
    let mut response = reply::with(StatusCode::OK, content_type, text);
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let policy = HeaderValue::from_static(policy);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
