//! The web chat in Chromium: two people through all that it does, where paths are blocked, in a room of ten
//! thousand messages, and with passwords. What happens is in the scripts of `tests/node`; here is what must
//! have happened.

use std::process::Command;

use tidings_tests::program::{artifact, find, node, run};
use tidings_tests::{Program, TidingsOptions, TidingsProcess, binary};

/// A script, started for a broker.
#[track_caller]
fn start(script: &str, broker: &TidingsProcess) -> Program {
    assert!(
        broker.get("/").contains("<script"),
        "the web chat is not in the program; `make web` builds it, and then the program is to be built again"
    );
    let folder = artifact(".");
    let mut command = node(script);
    command
        .arg(format!("http://{}/", broker.ws().address()))
        .arg(&folder)
        .arg(broker.tcp().address().port().to_string())
        .env("CHROMIUM", find("chromium"))
        .env("FAILED", folder.join("failed"));
    Program::start(command)
}

/// Sees that each of its steps is done, in order.
#[track_caller]
fn see(program: &mut Program, steps: &[&str]) {
    for step in steps {
        program.expect_line(step, |line| line.starts_with(step));
    }
}

#[track_caller]
fn scenario(script: &str, broker: &TidingsProcess, steps: &[&str]) {
    let mut program = start(script, broker);
    see(&mut program, steps);
    program.finish();
}

fn managed() -> TidingsOptions {
    TidingsOptions::new()
        .set("rooms.mode", "\"managed\"")
        // A person who does in a minute what others do in a week.
        .set("rooms.requests_per_minute", 600)
}

#[test]
fn two_people_do_everything_that_the_page_offers() {
    scenario(
        "web_chat.mjs",
        &managed().start(),
        &[
            "a private room is made, and its guest invited",
            "messages come across",
            "who types is seen",
            "a reply quotes, an edit is marked, a reaction counts",
            "a message is withdrawn for everyone",
            "what was read is told, what was not is counted",
            "two people talk directly",
            "who comes back finds the line before what is new",
            "people are seen as they are there",
            "the page pleases at both sizes",
            "keys alone are enough",
            "a moderator mutes, lets speak again, makes a moderator, and removes",
            "an open room is found and joined, renamed, and left",
            "who signs out is out",
        ],
    );
}

#[test]
fn the_page_falls_back_where_paths_are_blocked_and_loses_nothing() {
    scenario(
        "web_paths.mjs",
        &TidingsProcess::start(),
        &[
            "WebSocket is the first choice",
            "without it, events come as a stream",
            "without that, the page asks again and again",
            "without anything, what is written waits",
            "what opens again is used again, the better first",
            "nothing is missing, and nothing is there twice",
        ],
    );
}

#[test]
fn what_mosquitto_pub_says_an_event_source_reads_with_the_same_number_and_bytes() {
    scenario(
        "web_events.mjs",
        &TidingsProcess::start(),
        &[
            "the shell speaks, an EventSource reads",
            "what the page posts is heard in the shell",
            "an EventSource that comes back goes on where it was",
        ],
    );
}

#[test]
fn a_room_of_ten_thousand_messages_is_as_light_as_any() {
    scenario(
        "web_many.mjs",
        &TidingsProcess::start(),
        &[
            "its end is there at once",
            "back at 7500",
            "back at 5000",
            "back at 2500",
            "scrolling back comes to its beginning",
            "and a jump leads back to the end",
            "a flood is shown to its last message",
        ],
    );
}

#[test]
fn the_door_asks_for_a_password_and_who_is_locked_out_is_out_at_once() {
    let broker = TidingsOptions::new()
        .set("auth.mode", "\"accounts\"")
        .set("auth.password_memory_kib", 1024)
        .set("auth.password_passes", 1)
        .start();
    let user = |word: &str| {
        let mut command = Command::new(binary::tidings());
        command.args(["user", word, "alice", "--data-dir"]);
        command.arg(broker.data_dir());
        command.args(["--set", "auth.password_memory_kib=1024"]);
        command
    };
    let mut add = Program::start(user("add"));
    add.say("correct horse");
    add.finish();

    let mut page = start("web_accounts.mjs", &broker);
    see(
        &mut page,
        &[
            "who knows the password is in",
            "who does not is told so, and stays out",
            "alice is in",
        ],
    );
    run(user("disable"));
    see(&mut page, &["who is locked out is out at once"]);
    page.finish();
}
