//! What is asked of whoever sits at the terminal: a key, a line, a yes.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _, stdin};
use std::os::fd::AsFd as _;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::exit::{Exit, Failure};

/// Longest line that is read; more is no key, no URL and no yes.
const LONGEST_LINE: usize = 4096;
const CONTROL_C: u8 = 3;
const CONTROL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CONTROL_U: u8 = 21;
const DELETE: u8 = 127;

/// Whether a change that kills keys has been agreed to on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct Consent {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Consent {
    /// Whether nobody needs to be asked any more.
    pub(super) const fn is_given(self) -> bool {
        self.yes
    }

    /// Refuses, before anything is done, if consent was not given and there is nobody to ask.
    pub(super) fn can_be_had(self) -> Result<(), Failure> {
        if self.yes || stdin().is_terminal() {
            return Ok(());
        }
        let what =
            "this kills keys, and there is no terminal to ask at; nothing was done. To do it all the same: --yes";
        Err(Failure::new(Exit::Usage, what))
    }

    /// Asks, unless consent was given.
    pub(super) fn ask(self, question: &str) -> Result<(), Failure> {
        self.can_be_had()?;
        if self.yes {
            return Ok(());
        }
        let answer = line(&format!("{question} [y/N] "))?.to_ascii_lowercase();
        if matches!(answer.trim(), "y" | "yes") {
            return Ok(());
        }
        Err(Failure::new(Exit::Declined, "nothing was done"))
    }
}

/// Whether somebody sits there.
pub(super) fn is_terminal() -> bool {
    stdin().is_terminal()
}

/// A line, echoed.
pub(super) fn line(prompt: &str) -> Result<String, Failure> {
    write!(io::stderr(), "{prompt}").ok();
    let line = input().and_then(|mut input| cooked_line(&mut input)).map_err(|error| unreadable(&error))?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A secret: from a terminal without echo, else the first line of the standard input. Without its line ending.
pub(super) fn secret(prompt: &str) -> Result<Vec<u8>, Failure> {
    let mut input = input().map_err(|error| unreadable(&error))?;
    if !stdin().is_terminal() {
        return cooked_line(&mut input).map_err(|error| unreadable(&error));
    }
    write!(io::stderr(), "{prompt}").ok();
    let read = unechoed_line(&mut input);
    writeln!(io::stderr()).ok();
    read.map_err(|error| unreadable(&error))
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(Exit::Local, format!("cannot read the standard input: {error}"))
}

/// The standard input without the library's buffer, which would keep a secret for as long as the process lives.
fn input() -> io::Result<File> {
    Ok(File::from(stdin().as_fd().try_clone_to_owned()?))
}

fn cooked_line(input: &mut File) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(LONGEST_LINE);
    while let Some(byte) = next(input)? {
        match byte {
            b'\n' => break,
            _ if line.len() == LONGEST_LINE => return Err(too_long()),
            _ => line.push(byte),
        }
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    Ok(line)
}

/// Reads with echo, line editing and signals off: the terminal is put back even if the answer is Control-C.
fn unechoed_line(input: &mut File) -> io::Result<Vec<u8>> {
    let before = tcgetattr(&*input)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(&*input, OptionalActions::Now, &silent)?;
    let line = edited_line(input);
    tcsetattr(&*input, OptionalActions::Now, &before)?;
    line
}

fn edited_line(input: &mut File) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(LONGEST_LINE);
    while let Some(byte) = next(input)? {
        match byte {
            b'\r' | b'\n' | CONTROL_D => break,
            CONTROL_C => return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
            BACKSPACE | DELETE => drop(line.pop()),
            CONTROL_U => line.clear(),
            _ if line.len() == LONGEST_LINE => return Err(too_long()),
            _ => line.push(byte),
        }
    }
    Ok(line)
}

fn next(input: &mut File) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the line is longer than {LONGEST_LINE} bytes"))
}
