//! What cannot be understood, what is asked too often, and what the document says of what can be asked.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::caller::{Http, managed};

#[test]
fn bad_requests_are_told_what_is_wrong_and_where() {
    let broker = managed().set("http.max_body_bytes", 2048).start();
    let alice = Http::new(&broker).sign_in("alice", "");
    let raw = |content_type: &str, body: &str| {
        alice.send(
            "POST",
            "/v1/rooms",
            &[("content-type", content_type)],
            body.as_bytes(),
        )
    };
    let bad = raw("application/json", "{\"room\":\n  oops}");
    assert_eq!((bad.status, bad.code()), (400, "bad_json".to_owned()));
    assert!(bad.text.contains("line 2 column"), "{}", bad.text);
    let unknown = raw("application/json; charset=utf-8", r#"{"rom":"cellar"}"#);
    assert_eq!(unknown.code(), "bad_json");
    assert!(
        unknown.text.contains("unknown field `rom`"),
        "{}",
        unknown.text
    );
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
    ] {
        let wrong = raw(content_type, "{}");
        assert_eq!(
            (wrong.status, wrong.code()),
            (415, "unsupported_media_type".to_owned())
        );
    }
    let long = format!(r#"{{"room":"cellar","title":"{}"}}"#, "x".repeat(4096));
    let large = raw("application/json", &long);
    assert_eq!((large.status, large.code()), (413, "too_large".to_owned()));
    assert_eq!(alice.get("/v1/rooms?limt=3").code(), "bad_request");
    assert_eq!(alice.get("/v1/rooms?limit=many").code(), "bad_request");
    for path in [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/rooms/a/b/c",
        "/v1/../v1/nothing",
    ] {
        let nothing = alice.get(path);
        assert_eq!(
            (nothing.status, nothing.code()),
            (404, "not_found".to_owned()),
            "{path}"
        );
    }
    let wrong = alice.send("DELETE", "/v1/rooms", &[], b"");
    assert_eq!(
        (wrong.status, wrong.code()),
        (405, "method_not_allowed".to_owned())
    );
    assert!(
        wrong.header("allow").contains("POST"),
        "{}",
        wrong.header("allow")
    );
    // Names are levels of topics: none reaches another level.
    for name in [
        "..%2F..%2Fetc",
        "a%2Fmember%2Fbob",
        "%23",
        "%2B",
        "$SYS",
        "a%00b",
    ] {
        for path in ["", "/members", "/messages"] {
            let method = if path == "/messages" { "POST" } else { "GET" };
            let answer = alice.json(
                method,
                &format!("/v1/rooms/{name}{path}"),
                json!({ "text": "x" }),
            );
            assert_eq!(answer.code(), "bad_name", "{name}{path}");
        }
        let presence = alice.get(&format!("/v1/users/{name}/presence"));
        assert_eq!(presence.code(), "bad_user", "{name}");
    }
    assert_eq!(alice.get("/v1/rooms/%FF%FE").code(), "bad_request");
    for seq in ["0", "-1", "+1", "x", "18446744073709551616"] {
        let answer = alice.delete(&format!("/v1/rooms/a/messages/{seq}"));
        assert_eq!(answer.code(), "bad_request", "{seq}");
    }
}

/// Status and header of the next answer; its body is read, too.
fn next_answer(from: &mut impl BufRead) -> (String, String) {
    let mut lines = String::new();
    while !lines.ends_with("\r\n\r\n") {
        assert_ne!(from.read_line(&mut lines).unwrap(), 0, "{lines}");
    }
    let lines = lines.to_ascii_lowercase();
    let bytes = lines.split_once("content-length: ").unwrap().1;
    let bytes: usize = bytes.split("\r\n").next().unwrap().parse().unwrap();
    from.read_exact(&mut vec![0; bytes]).unwrap();
    let (status, header) = lines.split_once("\r\n").unwrap();
    (status.to_owned(), header.to_owned())
}

#[test]
fn who_is_refused_before_the_body_came_may_go_on_or_is_told_that_it_ends() {
    let broker = managed().start();
    let address = broker.ws().address();
    let ask = |more: &str| format!("POST /v1/rooms HTTP/1.1\r\nHost: {address}\r\n{more}\r\n");
    let mut stream = TcpStream::connect(address).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..3 {
        write!(stream, "{}", ask("Content-Length: 4\r\n")).unwrap();
        // The answer is known before this comes; it is part of this request, not of the next one.
        sleep(Duration::from_millis(50));
        stream.write_all(b"{  }").unwrap();
        let (status, header) = next_answer(&mut answers);
        assert_eq!(status, "http/1.1 401 unauthorized");
        assert!(!header.contains("connection: close"), "{header}");
    }
    for more in [
        "Content-Length: 4\r\n",
        "Content-Length: 99999999\r\n",
        "Content-Length: 4\r\nExpect: 100-continue\r\n",
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        write!(stream, "{}", ask(more)).unwrap();
        let (status, header) = next_answer(&mut answers);
        assert_eq!(status, "http/1.1 401 unauthorized", "{more}");
        assert!(header.contains("connection: close"), "{more}: {header}");
        assert_eq!(answers.read(&mut [0]).unwrap(), 0, "{more}");
    }
}

#[test]
fn who_asks_too_often_is_told_each_time() {
    let broker = managed().set("rooms.requests_per_minute", 2).start();
    let alice = Http::new(&broker).sign_in("alice", "");
    let codes: Vec<String> = (0..5)
        .map(|_| alice.post("/v1/rooms/nowhere/join", json!({})).code())
        .collect();
    assert_eq!(codes[..2], ["no_such_room", "no_such_room"]);
    assert_eq!(codes[2..], ["too_many_requests"; 3]);
}

#[test]
fn requests_of_one_user_are_limited_and_those_of_others_go_on() {
    let broker = managed().set("http.requests_per_minute", 3).start();
    let http = Http::new(&broker);
    let (alice, bob) = (http.sign_in("alice", ""), http.sign_in("bob", ""));
    for _ in 0..3 {
        assert_eq!(alice.get("/v1/me").status, 200);
    }
    let refused = alice.get("/v1/me");
    assert_eq!(
        (refused.status, refused.code()),
        (429, "too_many_requests".to_owned())
    );
    assert_eq!(bob.get("/v1/me").status, 200);
}

/// Every path of the document is served, and nothing that is served is left out of it: the router and the
/// document are made of one table; here from outside.
#[test]
fn the_document_tells_what_is_served() {
    let broker = managed().start();
    let http = Http::new(&broker);
    let alice = http.sign_in("alice", "");
    let document = http.get("/v1/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 15);
    for (path, methods) in paths {
        let real = path
            .replace("{room}", "nowhere")
            .replace("{user}", "nobody")
            .replace("{seq}", "1")
            .replace("{emoji}", "x")
            .replace("{cid}", "c")
            .replace("{device}", "none")
            .replace("{client_id}", "none");
        assert!(!real.contains('{'), "{real}");
        let methods = methods.as_object().unwrap();
        for (method, operation) in methods {
            let method = method.to_uppercase();
            let is_open = operation["security"] == json!([]);
            let anonymous = http.json(&method, &real, json!({}));
            // Not of a page: whoever asks for it is told so first.
            let is_for_others = is_open || path == "/metrics" || path == "/chat";
            assert_eq!(
                anonymous.status == 401,
                !is_for_others,
                "{method} {path}: {}",
                anonymous.text
            );
            if path == "/v1/logout"
                || path.starts_with("/v1/events")
                || path.starts_with("/v1/poll")
            {
                continue;
            }
            let answer = alice.json(&method, &real, json!({}));
            let is_nothing = answer.status == 404 && answer.text.contains("nothing at this path");
            assert!(
                !is_nothing && answer.status != 405 && answer.status < 500,
                "{method} {path}: {} {}",
                answer.status,
                answer.text
            );
        }
        if !methods.contains_key("patch") {
            assert_eq!(alice.json("PATCH", &real, json!({})).status, 405, "{path}");
        }
    }
    let page = http.get("/v1/docs");
    assert_eq!(page.status, 200);
    assert!(
        !page.text.contains("http://") && !page.text.contains("https://"),
        "it loads from elsewhere"
    );
    for part in ["/v1/docs/page.js", "/v1/docs/page.css"] {
        assert!(page.text.contains(part));
        assert_eq!(http.get(part).status, 200);
    }
}
