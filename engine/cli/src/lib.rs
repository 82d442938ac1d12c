//! The `retpath` command: one module per subcommand.
//!
//! A subcommand has an `Args` struct for clap and a function `run` that gives the exit code: 0 for
//! success, 1 for a failure that was explained on standard error, 2 for wrong usage. It prints
//! through `output`, which never panics: an exit code tells what happened to the guest, whatever
//! becomes of the output.

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

pub mod decode;
pub mod demo;
pub mod doctor;
pub mod import;
mod latency;
mod machine;
mod output;
pub mod receive;
pub mod serve;
mod signals;
pub mod size;
pub mod verify;

/// QEMU postcopy page service.
#[derive(Debug, Parser)]
#[command(name = "retpath", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What `retpath` can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what a recorded migration channel says.
    ///
    /// PATH holds the bytes of one connection in one direction, as a proxy between two QEMUs records
    /// them. From a pipe, each line appears as soon as its message has arrived.
    Decode(decode::Args),
    /// Migrate memory over a socket by postcopy, compare every page, and print fault latencies.
    Demo(demo::Args),
    /// Say what userfaultfd can do for this user on this machine, and how to lift its limits.
    Doctor(doctor::Args),
    /// Make an image of a migration stream that was saved to a file.
    Import(import::Args),
    /// Receive a live migration into an image.
    Receive(receive::Args),
    /// Boot QEMUs from an image: each runs at once, and gets its memory as it touches it.
    Serve(serve::Args),
    /// Check that an image is, byte for byte, the one that was made.
    Verify(verify::Args),
}

/// What output is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// People.
    #[default]
    Text,
    /// Programs.
    Json,
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return explain(&error),
    };
    match command {
        Command::Decode(args) => decode::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Doctor(args) => doctor::run(args),
        Command::Import(args) => import::run(&args),
        Command::Receive(args) => receive::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

/// Prints what clap has to say: help or the version on standard output, or what is wrong with the
/// command line on standard error.
fn explain(error: &clap::Error) -> ExitCode {
    match error.print() {
        _ if error.use_stderr() => ExitCode::from(2),
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            output::note(format_args!(
                "retpath: cannot write to standard output: {error}"
            ));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
