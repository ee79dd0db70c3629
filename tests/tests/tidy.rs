//! Holds the architecture by reading the sources: who may depend on whom, what the core must not
//! touch, and how a file begins. It knows paths and words, not Rust.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .into()
}

/// Every Rust source of the workspace, relative to its root.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["broker", "bridge", "config", "devices", "tests"]
        .iter()
        .map(|f| root().join(f))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder of the workspace") {
            let path = entry.expect("entry of a folder").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | "node_modules" | "dist" | "corpus") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(
        found.len() > 50,
        "only {} sources found: is this the workspace?",
        found.len()
    );
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names of the direct dependencies of a package, without those for tests.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = read(&root().join(manifest));
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]"
                || (line.starts_with("[target.") && line.ends_with(".dependencies]"));
        } else if inside
            && let Some(name) = line.split(['.', '=', ' ']).next()
            && !name.is_empty()
            && !name.starts_with('#')
        {
            found.insert(name.to_owned());
        }
    }
    found
}

fn ours(manifest: &str) -> BTreeSet<String> {
    dependencies(manifest)
        .into_iter()
        .filter(|d| d.starts_with("tidings"))
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn packages_depend_on_each_other_only_as_the_design_says() {
    assert_eq!(ours("broker/core/Cargo.toml"), set(&[]));
    assert_eq!(ours("config/Cargo.toml"), set(&[]));
    assert_eq!(ours("devices/Cargo.toml"), set(&[]));
    assert_eq!(ours("bridge/Cargo.toml"), set(&["tidings-core"]));
    assert_eq!(
        ours("broker/Cargo.toml"),
        set(&["tidings-bridge", "tidings-config", "tidings-core"])
    );
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    assert_eq!(
        dependencies("broker/core/Cargo.toml"),
        set(&["bytes", "thiserror", "tracing"])
    );
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-p",
            "tidings-core",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let allowed = set(&[
        "tidings-core",
        "bytes",
        "thiserror",
        "thiserror-impl",
        "tracing",
        "tracing-attributes",
        "tracing-core",
        "once_cell",
        "pin-project-lite",
        "proc-macro2",
        "quote",
        "syn",
        "unicode-ident",
    ]);
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: BTreeSet<String> = listed
        .lines()
        .filter_map(|l| l.split(' ').next())
        .map(str::to_owned)
        .collect();
    let foreign: Vec<_> = names
        .difference(&allowed)
        .filter(|n| !n.is_empty())
        .collect();
    assert!(foreign.is_empty(), "the core pulls in {foreign:?}");
}

#[test]
fn the_core_has_no_sockets_files_threads_clocks_or_locks() {
    let forbidden = [
        "std::net",
        "std::fs",
        "std::thread",
        "std::process",
        "std::env",
        "Instant::now",
        "SystemTime",
        "Mutex",
        "RwLock",
        "Condvar",
        "println!",
        "async fn",
        ".await",
        "tokio",
    ];
    for path in sources()
        .into_iter()
        .filter(|p| p.starts_with(root().join("broker/core/src")))
    {
        for (number, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in forbidden {
                assert!(
                    !code.contains(word),
                    "{}:{}: the core must not use {word}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn the_core_builds_for_a_target_without_an_operating_system_where_that_is_installed() {
    let installed = Command::new("rustc")
        .args([
            "--print",
            "target-libdir",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .output()
        .is_ok_and(|o| {
            Path::new(String::from_utf8_lossy(&o.stdout).trim()).is_dir() && o.status.success()
        });
    if !installed {
        // The two tests above say the same of sources and dependencies.
        return;
    }
    let status = Command::new(env!("CARGO"))
        .args([
            "check",
            "--offline",
            "-p",
            "tidings-core",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .args(["--target-dir", "target/wasm"])
        .current_dir(root())
        .status()
        .expect("cargo check runs");
    assert!(
        status.success(),
        "the core does not build for wasm32-unknown-unknown"
    );
}

#[test]
fn every_source_says_first_what_it_owns() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|path| !read(path).starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no //! on the first line: {silent:?}");
}

#[test]
fn no_file_is_named_after_nothing() {
    let vague = [
        "util", "utils", "common", "helpers", "helper", "manager", "types", "misc",
    ];
    for path in sources() {
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        assert!(
            !vague.contains(&stem.as_str()),
            "{}: what does it own?",
            path.display()
        );
    }
}

#[test]
fn no_test_is_switched_off() {
    let attribute = ["#[", "ignore"].concat();
    for path in sources() {
        assert!(
            !read(&path).contains(&attribute),
            "{} switches a test off",
            path.display()
        );
    }
}

#[test]
fn the_top_level_has_the_folders_of_the_design_and_no_others() {
    let allowed = set(&[
        ".ci", ".git", "bridge", "broker", "config", "data", "devices", "target", "tests",
    ]);
    for entry in fs::read_dir(root()).expect("the workspace") {
        let entry = entry.expect("entry of the workspace");
        if entry.path().is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(
                allowed.contains(&name),
                "{name}/ is no folder of the design"
            );
        }
    }
}
