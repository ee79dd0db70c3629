//! Passwords that a person types, or that another program gives on standard input. Never an argument:
//! those are seen by everyone on the machine, and remembered by the shell.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::bail;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// A new password: typed twice on a terminal, else the first line of standard input.
///
/// # Errors
/// If there is none, or it was not typed the same twice.
pub(super) fn new_password(user: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return read_line();
    }
    let password = prompt(&format!("Password for {user}: "))?;
    if prompt("Again: ")? != password {
        bail!("that was not the same");
    }
    Ok(password)
}

fn prompt(question: &str) -> anyhow::Result<String> {
    let mut terminal = io::stderr();
    let line = {
        // First, so that whoever answers fast is neither seen nor cut off.
        let _quiet = NoEcho::begin()?;
        write!(terminal, "{question}")?;
        terminal.flush()?;
        read_line()
    };
    writeln!(terminal)?;
    line
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        bail!("no password on standard input");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal does not show what is typed while this lives.
struct NoEcho(rustix::termios::Termios);

impl NoEcho {
    fn begin() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
