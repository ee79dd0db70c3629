//! The fuzz targets without a fuzzer, in every run of the tests: what was found so far, the same with
//! some bytes changed, and bytes from a seed. `make fuzz` looks for more.

use std::fs;
use std::path::{Path, PathBuf};

use tidings_tests::fuzzing::{CountingHeap, TARGETS, Target, peak_of};
use tidings_tests::seeded::Seeded;

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

/// What is in git for all targets together, bytes.
const CORPORA_BYTES: u64 = 300 * 1024;

/// Inputs of each target that are made of others, and that are made of nothing.
const CHANGED: usize = 150;
const RANDOM: usize = 50;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort_unstable();
    files
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).expect("a file of the corpus");
            (path, bytes)
        })
        .collect()
}

/// Runs one input; a failure says which, as bytes that can be put into a file.
fn run(target: Target, name: &str, bytes: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target(bytes));
    if let Err(panic) = outcome {
        eprintln!("{name}, {} bytes: {bytes:02x?}", bytes.len());
        std::panic::resume_unwind(panic);
    }
}

fn check(name: &str) {
    let (_, target) = TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target");
    let files = corpus(name);
    assert!(!files.is_empty(), "{name} has no corpus");
    for (path, bytes) in &files {
        run(*target, &path.display().to_string(), bytes);
    }
    let mut luck = Seeded::new(1);
    for number in 0..CHANGED {
        let mut bytes = luck.pick(&files).1.clone();
        for _ in 0..=luck.within(0..4) {
            if bytes.is_empty() {
                break;
            }
            let at = luck.within(0..bytes.len() as u64) as usize;
            match luck.within(0..4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, luck.next() as u8),
                _ => bytes[at] = luck.next() as u8,
            }
        }
        run(*target, &format!("{name}, changed {number}"), &bytes);
    }
    for number in 0..RANDOM {
        let len = luck.magnitude(1..600);
        let bytes: Vec<u8> = (0..len).map(|_| luck.next() as u8).collect();
        run(*target, &format!("{name}, random {number}"), &bytes);
    }
}

#[test]
fn no_text_breaks_a_promise_of_chat() {
    check("chat");
}

#[test]
fn no_proof_breaks_a_promise_about_who_somebody_is() {
    check("credentials");
}

#[test]
fn no_packet_breaks_a_promise_of_the_codec() {
    check("decode");
}

#[test]
fn no_topic_filter_breaks_a_promise_of_the_tree() {
    check("filters");
}

#[test]
fn no_header_breaks_a_promise_of_the_front_door() {
    check("front");
}

#[test]
fn no_request_breaks_a_promise_of_http() {
    check("http");
}

#[test]
fn no_schedule_breaks_a_promise_of_the_hub() {
    check("hub");
}

#[test]
fn no_damage_breaks_a_promise_of_the_journal() {
    check("journal");
}

#[test]
fn no_message_breaks_a_promise_of_websocket() {
    check("messages");
}

#[test]
fn no_rule_breaks_a_promise_of_the_rules() {
    check("rules");
}

#[test]
fn no_client_breaks_a_promise_of_the_session() {
    check("session");
}

#[test]
fn no_text_breaks_a_promise_of_the_settings() {
    check("settings");
}

#[test]
fn no_record_breaks_a_promise_of_the_snapshot() {
    check("snapshot");
}

#[test]
fn no_frame_breaks_a_promise_of_websocket() {
    check("websocket");
}

#[test]
fn each_target_has_a_program_a_corpus_and_a_test_and_the_corpora_are_small() {
    let here =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz_corpora.rs"));
    let here = here.expect("this file");
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest");
    let mut bytes = 0;
    for (name, _) in TARGETS {
        let program = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs")));
        let program = program.expect("a target is a program");
        assert!(
            program.contains(&format!("|data: &[u8]| {name}(data)")),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(
            here.contains(&format!("check(\"{name}\")")),
            "{name} is not replayed"
        );
        bytes += corpus(name)
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum::<u64>();
    }
    let programs = fs::read_dir(fuzz().join("fuzz_targets")).expect("the programs");
    assert_eq!(programs.count(), TARGETS.len());
    assert!(bytes <= CORPORA_BYTES, "the corpora have {bytes} bytes");
}

#[test]
fn memory_is_counted_here() {
    let (taken, peak) = peak_of(|| vec![0_u8; 10_000].len());
    assert!(
        taken == 10_000 && (10_000..20_000).contains(&peak),
        "{peak}"
    );
}
