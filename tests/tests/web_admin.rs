//! The page for administrators in Chromium. What happens is in `tests/node/web_admin.mjs`; here is what must
//! have happened.

use std::process::Command;

use tidings_tests::program::{artifact, find, node};
use tidings_tests::{Program, TidingsOptions, binary};

#[test]
fn an_administrator_sees_how_the_broker_does_and_acts() {
    let broker = TidingsOptions::new()
        .set("auth.mode", "\"accounts\"")
        .set("auth.password_memory_kib", 1024)
        .set("auth.password_passes", 1)
        .set("limits.slow_after_s", 1)
        .start();
    assert!(
        broker.get("/admin").contains("<script"),
        "the page is not in the program; `make web` builds it, and then the program is to be built again"
    );
    for arguments in [&["add", "ann", "--role", "admin"][..], &["add", "ben"]] {
        let mut command = Command::new(binary::tidings());
        command.arg("user").args(arguments).arg("--data-dir");
        command.arg(broker.data_dir());
        command.args(["--set", "auth.password_memory_kib=1024"]);
        let mut add = Program::start(command);
        add.say("correct horse");
        add.finish();
    }
    let folder = artifact(".");
    let mut command = node("web_admin.mjs");
    command
        .arg(format!("http://{}/", broker.ws().address()))
        .arg(&folder)
        .arg(broker.tcp().address().port().to_string())
        .env("CHROMIUM", find("chromium"))
        .env("FAILED", folder.join("failed"));
    let mut program = Program::start(command);
    for step in [
        "who has not the role is told so",
        "figures and plots are drawn",
        "a trace shows what a client does, and the rule that refuses",
        "sessions are found, and one is disconnected",
        "who reads slowly is seen from the first page on",
        "a broker that does not answer is not called well",
        "rooms, storage, log and audit are told",
        "a ban keeps out, and is lifted",
        "it pleases in Chinese, in the dark, and on a phone",
        "who signs out is out",
    ] {
        program.expect_line(step, |line| line.starts_with(step));
    }
    program.finish();
}
