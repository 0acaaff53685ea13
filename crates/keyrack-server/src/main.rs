//! Arguments, a command, an exit code; nothing else.

use std::alloc::System;
use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;
use keyrack_server::cli::{self, Cli, Exit};
use keyrack_server::process;
use zeroizing_alloc::ZeroAlloc;

/// Memory is wiped when it is freed: a key passes through buffers that are not ours to wipe.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

#[tokio::main]
async fn main() -> ExitCode {
    process::harden();
    // clap repeats what it does not understand, so this comes before it.
    let ended = match cli::refuse_keys(std::env::args_os()) {
        Ok(()) => cli::run(Cli::parse()).await,
        refused => refused,
    };
    ended.map_or_else(|error| failed(error.as_ref()), |()| ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "the one place where a failed command says why")]
fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    eprintln!("keyrack: {}", with_causes(error));
    ExitCode::from(Exit::of(error) as u8)
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some libraries repeat their cause in their own message.
        let cause_text = error.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        cause = error.source();
    }
    text
}
