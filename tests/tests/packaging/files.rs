//! Files of packages: they are there, say what the program understands, and fit to each other.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tidings_tests::tidings_process::tidings;

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the workspace").to_owned()
}

fn read(name: &str) -> String {
    let path = root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn printed(arguments: &[&str]) -> String {
    let output = tidings(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn shipped_settings_are_in_order() {
    for name in [
        "tidings.toml",
        "container/tidings.toml",
        "haproxy/tidings.toml",
        "nginx/tidings.toml",
    ] {
        let file = root().join("config/packaging").join(name);
        let file = file.to_str().expect("a path in UTF-8");
        printed(&["check-config", "--config", file]);
    }
}

#[test]
fn the_package_has_what_its_unit_starts_and_every_file_is_there() {
    let manifest: toml::Table = toml::from_str(&read("broker/Cargo.toml")).expect("TOML");
    let deb = &manifest["package"]["metadata"]["deb"];
    let mut installed = BTreeSet::new();
    for asset in deb["assets"].as_array().expect("a list") {
        let [from, to, _] = asset.as_array().expect("a list").as_slice() else {
            panic!("{asset}");
        };
        let (from, to) = (from.as_str().expect("text"), to.as_str().expect("text"));
        installed.insert(format!("/{to}"));
        // What is built is not in the sources.
        if let Some(source) = from.strip_prefix("../config/") {
            let source = source.trim_end_matches('*');
            assert!(root().join("config").join(source).exists(), "{from}");
        }
    }
    let unit = read("config/packaging/systemd/tidings.service");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<_> = start.expect("ExecStart=").split(' ').collect();
    let [program, "serve", "--config", settings] = words.as_slice() else {
        panic!("{words:?}");
    };
    assert!(installed.contains(*program), "{program}");
    assert!(installed.contains(*settings), "{settings}");
    let kept = deb["conf-files"].as_array().expect("a list");
    assert!(kept.iter().any(|file| file.as_str() == Some(*settings)));
    // What lies beside the manifest, and is not an asset.
    for key in ["license-file", "changelog"] {
        let named = match &deb[key] {
            toml::Value::Array(words) => &words[0],
            word => word,
        };
        let name = named.as_str().and_then(|name| name.strip_prefix("../"));
        let text = read(name.expect("a path beside the manifest"));
        let version = env!("CARGO_PKG_VERSION");
        assert!(key != "changelog" || text.starts_with(&format!("tidings ({version}-")));
    }
    for script in ["postinst", "postrm"] {
        let script = root().join("config/packaging/debian").join(script);
        let status = Command::new("sh").arg("-n").arg(&script).status();
        assert!(status.expect("sh").success(), "{}", script.display());
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let mut bash = Command::new("bash")
        .args(["-c", "source /dev/stdin && complete -p tidings"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash");
    let script = printed(&["completions", "bash"]);
    let mut input = bash.stdin.take().expect("a pipe");
    input.write_all(script.as_bytes()).expect("it reads");
    drop(input);
    let output = bash.wait_with_output().expect("its end");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("_tidings"));

    let zsh = printed(&["completions", "zsh"]);
    assert!(zsh.starts_with("#compdef tidings"), "{zsh}");
    let fish = printed(&["completions", "fish"]);
    let folder = TempDir::new().expect("a directory");
    let into = folder.path().to_str().expect("a path in UTF-8");
    printed(&["man", "--dir", into]);
    let page = printed(&["man"]);
    assert_eq!(read_page(folder.path(), "tidings"), page);
    for command in ["serve", "check-config", "completions", "user-add"] {
        let name = format!("tidings-{command}");
        let page = read_page(folder.path(), &name);
        assert!(page.contains(".TH tidings"), "{page}");
        let word = command
            .split_once('-')
            .map_or(command, |(first, rest)| match first {
                "user" => rest,
                _ => command,
            });
        for script in [&script, &zsh, &fish] {
            assert!(script.contains(word), "{word}");
        }
    }
}

fn read_page(folder: &Path, name: &str) -> String {
    let path = folder.join(format!("{name}.1"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_broker_is_embedded_with_thirty_lines() {
    let lines = read("broker/examples/embed.rs").lines().count();
    assert!(lines <= 30, "{lines}");
}
