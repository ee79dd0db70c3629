//! WebSockets of others: of Chromium, without a library on the page, and of the package `ws`, with every
//! offer of compression that it can make. What happens is in the scripts of `tests/node`; here is what must
//! have happened.

use std::process::Command;

use tidings_tests::program::{artifact, find, node};
use tidings_tests::{Program, TidingsOptions, TidingsProcess, binary};

#[test]
fn a_page_speaks_json_and_mqtt_through_the_websocket_of_its_browser() {
    let mut broker = TidingsOptions::new()
        .set("auth.mode", "\"accounts\"")
        .set("auth.password_memory_kib", 1024)
        .set("auth.password_passes", 1)
        .set("rooms.mode", "\"managed\"")
        .set("rooms.requests_per_minute", 600)
        .set("http.heartbeat_s", 1)
        .start();
    for user in ["alice", "bob"] {
        let mut command = Command::new(binary::tidings());
        command.args(["user", "add", user, "--data-dir"]);
        command.arg(broker.data_dir());
        command.args(["--set", "auth.password_memory_kib=1024"]);
        let mut add = Program::start(command);
        add.say("correct horse");
        add.finish();
    }
    let mut command = node("web_sockets.mjs");
    command
        .arg(format!("http://{}/", broker.ws().address()))
        .arg(broker.tcp().address().port().to_string())
        .env("CHROMIUM", find("chromium"))
        .env("FAILED", artifact("failed-sockets"));
    let mut page = Program::start(command);
    for step in [
        "a page without a login is not let in",
        "what a page says and what an MQTT client says meet",
        "signs of life are passed over, and given",
        "what is long is short on the wire",
        "a page whose network was lost comes back",
        "who is removed from a room sees nothing more",
        "a page of another host is refused",
        "MQTT in the frames of a browser",
        "how it ended is said by a close code",
        "a login that is taken back ends what it opened",
        "the end may come",
    ] {
        page.expect_line(step, |line| line.starts_with(step));
    }
    assert!(broker.terminate().success());
    let step = "a broker that stops says so";
    page.expect_line(step, |line| line.starts_with(step));
    page.finish();
}

#[test]
fn whatever_is_offered_about_compression_every_message_comes_back() {
    let broker = TidingsProcess::start();
    let mut command = node("ws_deflate.mjs");
    command.arg(format!("ws://{}/", broker.ws().address()));
    let mut program = Program::start(command);
    for offer in [
        "nothing",
        "what browsers say",
        "no context takeover",
        "context takeover of the broker, if it likes",
        "a small window of its own",
        "a window of 2^8 for the broker",
        "a window of 2^9 for the broker",
        "a window of 2^10 for the broker",
        "a window of 2^12 for the broker",
        "a window of 2^14 for the broker",
        "the largest window",
        "the strongest compression",
    ] {
        let line = format!("who offers {offer} gets every message");
        program.expect_line(&line, |said| said.starts_with(&line));
    }
    program.expect_line("texts", |line| line.starts_with("texts are put together"));
    program.finish();
}
