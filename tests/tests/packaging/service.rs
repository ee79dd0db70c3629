//! A service of its own user, under a service manager: whose its files are, and what its journal hears.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tidings_tests::binary;
use tidings_tests::tidings_process::tidings;

/// Of nobody, whom every machine has.
const OTHER: u32 = 65_534;

#[test]
fn an_account_that_root_adds_while_the_service_is_stopped_is_in_files_of_the_service() {
    let data = TempDir::new().expect("a directory");
    let own = fs::metadata(data.path()).expect("it is there").uid();
    // Only root can give a directory away; without that nothing but the command is tried.
    let owner = match chown(data.path(), Some(OTHER), Some(OTHER)) {
        Ok(()) => OTHER,
        Err(_) => own,
    };
    let place = data.path().to_str().expect("a path in UTF-8");
    let add = ["user", "add", "ann", "--no-password", "--data-dir", place];
    let output = tidings(add);
    assert!(output.status.success(), "{output:?}");
    let mut seen = 0;
    each_file(data.path(), &mut |file, of| {
        assert_eq!(of, owner, "{}", file.display());
        seen += 1;
    });
    assert!(seen > 5, "{seen} files");
    let audit = fs::read_to_string(data.path().join("audit/audit.jsonl")).expect("it is there");
    assert!(audit.contains(&format!("\"uid:{own}\"")), "{audit}");
}

fn each_file(folder: &Path, see: &mut impl FnMut(&Path, u32)) {
    for entry in fs::read_dir(folder).expect("a directory") {
        let entry = entry.expect("an entry");
        let metadata = entry.metadata().expect("it is there");
        see(&entry.path(), metadata.uid());
        if metadata.is_dir() {
            each_file(&entry.path(), see);
        }
    }
}

#[test]
fn the_journal_hears_that_it_is_an_error_and_no_other_file_does() {
    let folder = TempDir::new().expect("a directory");
    let said = |journal: &dyn Fn(&File) -> String| {
        let path = folder.path().join("said");
        let file = File::create(&path).expect("a file");
        let status = Command::new(binary::tidings())
            .args(["serve", "--config", "/nowhere.toml"])
            .env("JOURNAL_STREAM", journal(&file))
            .stderr(file)
            .status();
        assert!(!status.expect("the program").success());
        fs::read_to_string(path).expect("it is there")
    };
    let itself = said(&|file| {
        let is = file.metadata().expect("it is open");
        format!("{}:{}", is.dev(), is.ino())
    });
    assert!(itself.starts_with("<3>tidings: "), "{itself}");
    let another = said(&|_| "1:1".to_owned());
    assert!(another.starts_with("tidings: "), "{another}");
}
