//! Where the program `tidings` is, built from the sources as they are now.
//!
//! Cargo builds the programs of a package only for that package's own integration tests, so
//! `cargo test -p tidings-tests` alone would test an old program, or none. So this looks at the list
//! of sources that cargo leaves beside the program, and builds it if one is newer. `make test` and
//! CI build all programs first; there it only looks.
//! The environment variable `TIDINGS_BIN` names another program to test instead.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

/// The path of the program; built at most once in a process, by whoever comes first.
///
/// # Panics
/// If it cannot be built.
pub fn tidings() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os("TIDINGS_BIN") {
        Some(path) => PathBuf::from(path),
        None => built(),
    })
}

fn built() -> PathBuf {
    let directory = profile_directory();
    let program = directory.join("tidings");
    if !is_newer_than_its_sources(&program) {
        // Cargo locks the target directory, so several test processes build one after another.
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args([
                "build",
                "--quiet",
                "-p",
                "tidings-broker",
                "--bin",
                "tidings",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if let Some(target) = directory.parent() {
            cargo.arg("--target-dir").arg(target);
        }
        if directory.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.status().expect("cargo can be started");
        assert!(
            status.success(),
            "the program tidings does not build: {cargo:?}"
        );
    }
    program
}

/// `target/debug`, or wherever this test was built.
fn profile_directory() -> PathBuf {
    let this = env::current_exe().expect("a process knows its program");
    let mut directory = this.parent().expect("a program is in a directory");
    if directory.ends_with("deps") {
        directory = directory.parent().expect("deps is in a directory");
    }
    directory.to_owned()
}

/// Reads `tidings.d`: "program: source source ...", spaces in names escaped with a backslash.
fn is_newer_than_its_sources(program: &Path) -> bool {
    let (Ok(data), Ok(list)) = (
        fs::metadata(program),
        fs::read_to_string(program.with_extension("d")),
    ) else {
        return false;
    };
    let Ok(built) = data.modified() else {
        return false;
    };
    let Some((_, sources)) = list.split_once(": ") else {
        return false;
    };
    sources
        .replace("\\ ", "\0")
        .split_whitespace()
        .all(|source| {
            let modified = fs::metadata(source.replace('\0', " ")).and_then(|data| data.modified());
            modified.is_ok_and(|modified| modified <= built)
        })
}
