//! The web chat in Chromium: two people through all that it does, where paths are blocked, and in a room of
//! ten thousand messages. What happens is in the scripts of `tests/node`; here is what must have happened.

use tidings_tests::program::{artifact, find, node};
use tidings_tests::{Program, TidingsOptions, TidingsProcess};

/// Runs a script to its end, and sees that each of its steps was done, in order.
#[track_caller]
fn scenario(script: &str, broker: &TidingsProcess, steps: &[&str]) {
    assert!(
        broker.get("/").contains("<script"),
        "the web chat is not in the program; `make web` builds it, and then the program is to be built again"
    );
    let folder = artifact(".");
    let mut command = node(script);
    command
        .arg(format!("http://{}/", broker.ws().address()))
        .arg(&folder)
        .env("CHROMIUM", find("chromium"))
        .env("FAILED", folder.join("failed"));
    let mut program = Program::start(command);
    for step in steps {
        program.expect_line(step, |line| line.starts_with(step));
    }
    program.finish();
}

fn managed() -> TidingsProcess {
    TidingsOptions::new()
        .set("rooms.mode", "managed")
        // A person who does in a minute what others do in a week.
        .set("rooms.requests_per_minute", 600)
        .start()
}

#[test]
fn two_people_do_everything_that_the_page_offers() {
    scenario(
        "web_chat.mjs",
        &managed(),
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
