//! Keeps `tests/CONFORMANCE.md` true: every statement is there once, every test it names exists,
//! and every test that is named by a statement is in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Statements in appendix B of MQTT 5.0 and of 3.1.1.
const STATEMENTS: [(&str, usize); 2] = [
    ("## MQTT 5.0", STATEMENTS_5),
    ("## MQTT 3.1.1", STATEMENTS_311),
];
const STATEMENTS_5: usize = 251;
const STATEMENTS_311: usize = 141;

/// A row: number of the statement, what it says, what holds it.
struct Row<'a> {
    number: Vec<u32>,
    line: &'a str,
    held_by: &'a str,
}

fn table() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CONFORMANCE.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rows(section: &str) -> Vec<Row<'_>> {
    let row = |line: &'_ str| -> Option<(Vec<u32>, usize)> {
        let first = line.strip_prefix("| ")?.split(" | ").next()?;
        let number = first.split(['.', '-']).map(|part| part.parse().ok());
        Some((number.collect::<Option<_>>()?, line.rfind(" | ")?))
    };
    section
        .lines()
        .filter_map(|line| {
            let (number, last) = row(line)?;
            let held_by = line[last..].trim_matches(['|', ' ']);
            Some(Row {
                number,
                line,
                held_by,
            })
        })
        .collect()
}

fn sections(table: &str) -> impl Iterator<Item = (&'static str, usize, &str)> {
    STATEMENTS.into_iter().map(move |(heading, count)| {
        let (_, section) = table
            .split_once(heading)
            .unwrap_or_else(|| panic!("no section {heading:?}"));
        let end = section.find("\n## ").unwrap_or(section.len());
        (heading, count, &section[..end])
    })
}

/// Names of tests in a cell: what stands in backticks and looks like one.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    let is_name = |text: &&str| {
        text.contains('_')
            && !text.ends_with('_')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    cell.split('`').skip(1).step_by(2).filter(is_name)
}

/// Names of all test functions below a directory.
fn tests_below(directory: &Path, found: &mut BTreeSet<String>) {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut lines = source.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if !line.starts_with("#[test]") && !line.starts_with("#[tokio::test") {
                    continue;
                }
                let declaration = lines.by_ref().find_map(|line| line.split("fn ").nth(1));
                let name = declaration.and_then(|rest| rest.split('(').next());
                found.extend(name.map(str::to_owned));
            }
        }
    }
}

fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeSet::new();
    for directory in [
        "broker/core/src",
        "broker/src",
        "broker/tests",
        "bridge/src",
        "tests/tests",
    ] {
        tests_below(&root.join(directory), &mut found);
    }
    assert!(found.len() > 200, "the sources were not found");
    found
}

#[test]
fn the_table_has_every_statement_once_and_in_order() {
    let table = table();
    for (heading, count, section) in sections(&table) {
        let rows = rows(section);
        for pair in rows.windows(2) {
            assert!(
                pair[0].number < pair[1].number,
                "out of order:\n{}",
                pair[1].line
            );
        }
        assert_eq!(rows.len(), count, "statements of {heading}");
    }
}

#[test]
fn the_table_says_of_every_statement_what_holds_it_or_why_nothing_does() {
    let table = table();
    for (_, _, section) in sections(&table) {
        for row in rows(section) {
            let says_something = names(row.held_by).next().is_some()
                || row.held_by == "client only"
                || row.held_by.starts_with("not tested: ")
                || row.held_by.starts_with("does not apply: ");
            assert!(says_something, "nothing holds:\n{}", row.line);
        }
    }
}

#[test]
fn the_table_names_only_tests_that_exist() {
    let (table, tests) = (table(), tests());
    let missing: Vec<&str> = names(&table)
        .filter(|name| !tests.contains(*name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

/// `mqtt_`, and a number.
fn is_named_by_a_statement(name: &str) -> bool {
    name.strip_prefix("mqtt_")
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[test]
fn every_test_that_is_named_by_a_statement_is_in_the_table() {
    let table = table();
    let listed: BTreeSet<&str> = names(&table).collect();
    let tests = tests();
    let missing: Vec<&String> = tests
        .iter()
        .filter(|name| is_named_by_a_statement(name) && !listed.contains(name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "not in tests/CONFORMANCE.md: {missing:#?}"
    );
}
