//! Instructions per operation, counted by callgrind: a number that a busy machine does not change.
//!
//! Each case runs in a process of its own under valgrind, so that none depends on what ran before.
//! What is counted lies between the gates in `case`. The table that the counts are held against is
//! committed beside this folder; it says what the numbers depend on.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context, ensure};
use clap::Parser;

use crate::case::{Case, Meter};

/// Rounds before counting: buffers, memos and hash tables have their size then.
const WARM_UP_ROUNDS: u32 = 3;
/// Rounds that count: what happens every few rounds only is spread.
const ROUNDS: u32 = 4;
/// Percent by which a count may differ before it is said to have moved. Hash tables have random
/// seeds, which moves some cases by 1 to 2 %.
const TOLERANCE_PERCENT: f64 = 5.0;

/// The first argument that means that this module is asked, and not the clock.
const COUNT: &str = "--instructions";
/// The first argument of the process under valgrind.
const RUN: &str = "--run-one-case";

/// Counts instructions per operation of the micro-benches, and compares them with the table.
#[derive(Parser)]
#[command(name = "tests/instruction-counts")]
struct Arguments {
    /// Only cases whose name contains one of these.
    names: Vec<String>,
    /// Exit with status 1 if a case takes over 5 % more than the table says.
    #[arg(long)]
    check: bool,
    /// Put the counts into the table.
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Say also which functions the instructions are spent in, so many of them.
    #[arg(long, default_value_t = 0, value_name = "FUNCTIONS")]
    top: usize,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Instructions per operation, by case.
type Table = BTreeMap<String, f64>;

/// Does what is asked if it is about instructions.
pub fn main(cases: &[Case]) -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let first = arguments.next()?;
    if first == RUN {
        let wanted = arguments.next().unwrap_or_default();
        let case = cases.iter().find(|case| wanted == *case.id())?;
        run(case);
        return Some(ExitCode::SUCCESS);
    }
    if first != COUNT {
        return None;
    }
    let arguments = Arguments::parse_from([first].into_iter().chain(arguments));
    Some(count(cases, &arguments).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    }))
}

fn run(case: &Case) {
    let mut round = (case.prepare)();
    (0..WARM_UP_ROUNDS).for_each(|_| round(&mut Meter::resting()));
    (0..ROUNDS).for_each(|_| round(&mut Meter::counting()));
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn count(cases: &[Case], arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let path = table_path();
    let mut table = read_table(&path)?;
    let profiles = tempfile::tempdir()?;
    let mut more = 0;
    println!("{:>12} {:>12}          case", "table", "now");
    for case in cases.iter().filter(|case| arguments.wants(case)) {
        let id = case.id();
        let profile = profiles.path().join("callgrind.out");
        let counted = count_one(case, &profile)?;
        let before = table.insert(id.clone(), counted);
        let percent = before.map(|before| (counted / before - 1.0) * 100.0);
        let moved = match percent {
            Some(percent) if percent.abs() <= TOLERANCE_PERCENT => String::new(),
            Some(percent) => format!("{percent:+.1} %"),
            None => "new".to_owned(),
        };
        more += usize::from(percent.is_some_and(|percent| percent > TOLERANCE_PERCENT));
        let before = before.map(|before| format!("{before:.1}"));
        println!(
            "{:>12} {counted:>12.1} {moved:>8} {id}",
            before.unwrap_or_default()
        );
        if arguments.top > 0 {
            let operations = case.operations * u64::from(ROUNDS);
            print!("{}", hottest(&profile, operations, arguments.top)?);
        }
    }
    if arguments.write {
        table.retain(|id, _| cases.iter().any(|case| case.id() == *id));
        write_table(&path, &table)?;
        println!("written to {}", path.display());
    } else if more > 0 {
        println!(
            "{more} of them take over {TOLERANCE_PERCENT} % more instructions than the table says"
        );
    }
    Ok(ExitCode::from(u8::from(arguments.check && more > 0)))
}

impl Arguments {
    fn wants(&self, case: &Case) -> bool {
        let id = case.id();
        self.names.is_empty() || self.names.iter().any(|name| id.contains(name))
    }
}

/// Runs a case under valgrind; instructions per operation.
fn count_one(case: &Case, profile: &Path) -> anyhow::Result<f64> {
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=*collect_instructions*",
        ])
        .arg("--toggle-collect=*leave_instructions_out*")
        .arg(joined("--callgrind-out-file=", profile))
        .arg(env::current_exe()?)
        .args([RUN, &case.id()])
        .output()
        .context("valgrind does not start; `tests/install-tools valgrind` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", case.id());
    let text = fs::read_to_string(profile)?;
    let total = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("summary: ")
                .or(line.strip_prefix("totals: "))
        })
        .and_then(|total| total.trim().parse::<f64>().ok())
        .with_context(|| format!("callgrind counted nothing: {said}"))?;
    ensure!(total > 0.0, "the gates around what counts were not found");
    Ok(total / (case.operations * u64::from(ROUNDS)) as f64)
}

/// The functions with most instructions, each with what it calls and by itself, per operation.
fn hottest(profile: &Path, operations: u64, limit: usize) -> anyhow::Result<String> {
    let mut text = String::new();
    for (title, inclusive) in [("with callees", true), ("alone", false)] {
        let output = Command::new("callgrind_annotate")
            .arg(format!(
                "--inclusive={}",
                if inclusive { "yes" } else { "no" }
            ))
            .args(["--auto=no", "--threshold=99.9"])
            .arg(profile)
            .output()
            .context("callgrind_annotate does not start; it comes with valgrind")?;
        // A function stands there once for each file that code was inlined from.
        let mut functions = BTreeMap::<String, u64>::new();
        for (instructions, function) in String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(annotated)
            .filter(|(_, function)| !is_around(function))
        {
            let all = functions.entry(function).or_default();
            *all = if inclusive {
                instructions.max(*all)
            } else {
                instructions + *all
            };
        }
        let mut functions: Vec<_> = functions.into_iter().collect();
        functions.sort_by_key(|(_, instructions)| Reverse(*instructions));
        writeln!(text, "{:>25} {title}", "")?;
        for (function, instructions) in functions.into_iter().take(limit) {
            let each = instructions as f64 / operations as f64;
            writeln!(text, "{each:>25.1}   {function}")?;
        }
    }
    Ok(text)
}

/// The bench itself and what starts it.
fn is_around(function: &str) -> bool {
    [
        "micro::",
        "std::rt::",
        "std::sys::backtrace",
        "main",
        "(below main)",
        "__libc_start",
        "0x",
    ]
    .iter()
    .any(|start| function.starts_with(start))
}

/// `1,234 (5.6%)  file:function [object]` as a count and a name.
fn annotated(line: &str) -> Option<(u64, String)> {
    let (count, rest) = line.trim_start().split_once(' ')?;
    let count = count.replace(',', "").parse().ok()?;
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('(') {
        Some(percent) => percent.split_once(')')?.1,
        None => rest,
    };
    let (_, function) = rest.trim_start().split_once(':')?;
    let function = function.split(" [").next().unwrap_or(function);
    Some((count, function.to_owned()))
}

fn joined(flag: &str, path: &Path) -> std::ffi::OsString {
    [OsStr::new(flag), path.as_os_str()].into_iter().collect()
}

fn table_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml")
}

fn read_table(path: &Path) -> anyhow::Result<Table> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn write_table(path: &Path, table: &Table) -> anyhow::Result<()> {
    let mut text = String::from(
        "# Instructions per operation of each micro-bench; `tests/instruction-counts --write` writes it.\n\
         # They depend on the compiler, on the C library and a little on the processor, whose kind decides\n\
         # how memory is copied: compare with a table written on the same machine where a few percent count.\n",
    );
    let mut group = "";
    for (id, count) in table {
        let its_group = id.split('/').next().unwrap_or_default();
        if its_group != group {
            group = its_group;
            text.push('\n');
        }
        writeln!(text, "{id:?} = {count:.1}")?;
    }
    Ok(fs::write(path, text)?)
}
