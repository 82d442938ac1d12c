//! The `retpath` command: one module per subcommand.
//!
//! A subcommand has an `Args` struct for clap and a function `run`, which returns how it ended; the
//! exit codes are in `exit`. Only `output` writes to standard output and standard error, and it
//! never panics: an exit code tells what happened to the guest, even if no output can be written.
//!
//! [`decode`] is public for the property tests and fuzz targets.

#![forbid(unsafe_code)]
// They panic where an output is closed or full: see `output`.
#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)
)]

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgAction, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use retpath_codec::escape::Escaped;
use retpath_engine::uffd::OpenError;
use rustix::process::{Resource, getrlimit, setrlimit};

pub mod decode;
mod demo;
mod doctor;
mod exit;
mod image;
mod import;
mod latency;
mod log;
mod output;
mod progress;
mod receive;
mod report;
mod sandbox;
mod serve;
mod shell;
mod signals;
mod size;
mod verify;

use exit::{Error, Exit};
use log::LogLevel;
pub use report::Format;

const EXAMPLES: &str = "  \
  retpath demo                                     see a migration, and what a fault costs
  retpath doctor                                   check what userfaultfd can do here
  retpath receive --listen unix:/tmp/in --out vm   save a running virtual machine as an image
  retpath serve --image vm --connect unix:/tmp/q1  boot a QEMU from the image at once";

fn after_help() -> String {
    exit::help(
        EXAMPLES,
        "success",
        "failure; standard error says what failed and what to do",
    )
}

/// See, receive and serve QEMU postcopy migrations.
#[derive(Debug, Parser)]
#[command(name = "retpath", version, max_term_width = 100, after_help = after_help())]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Log to standard error: -v phases and connections, -vv commands, -vvv everything but pages
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 100)]
    verbose: u8,
    /// Log at this level, instead of -v
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        value_enum,
        hide_possible_values = true,
        display_order = 101,
        long_help = "Log at this level, instead of -v: off, error, warn, info, debug or trace"
    )]
    log: Option<LogLevel>,
    /// Color help, errors and the text of `decode`: auto, always or never
    ///
    /// With auto, only terminals get colors, and none if the environment variable NO_COLOR is set.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t = ColorChoice::Auto,
        hide_default_value = true,
        hide_possible_values = true,
        display_order = 102
    )]
    color: ColorChoice,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
enum Command {
    /// Print the messages of a recorded migration channel
    ///
    /// PATH holds the bytes of one connection in one direction, as a proxy between two QEMUs records
    /// them. From a pipe, each line appears as soon as its message has arrived.
    Decode(decode::Args),
    /// Migrate memory over a socket by postcopy, compare every page, and print fault latencies
    Demo(demo::Args),
    /// Print what userfaultfd can do for this user on this machine, and how to lift its limits
    Doctor(doctor::Args),
    /// Make an image from a migration stream that was saved to a file
    Import(import::Args),
    /// Receive a live migration into an image
    Receive(receive::Args),
    /// Boot QEMUs from an image: each runs at once, and gets its memory as it touches it
    Serve(serve::Args),
    /// Compare an image with the digests that were made with it
    ///
    /// Every byte is read. The image is not changed, and may be served at the same time.
    Verify(verify::Args),
    /// Print the completions of a shell
    Completions(shell::CompletionsArgs),
    /// Write the manual pages to a folder
    Man(shell::ManArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    raise_descriptor_limit();
    let args: Vec<OsString> = std::env::args_os().collect();
    run(&args).into()
}

/// Raises the soft limit of open files to the hard one: a stream chooses the number of RAM blocks,
/// and each has a file. Best effort; without it, larger machines end in an error.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

fn run(args: &[OsString]) -> Exit {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // An error repeats arguments, which may contain anything.
            let escape = |arg: &OsString| Escaped::new(arg.as_encoded_bytes()).to_string().into();
            let escaped: Vec<OsString> = args.iter().map(escape).collect();
            let error = parse(&escaped).err().unwrap_or(error);
            return explain(&error, color_choice(args));
        }
    };
    let Global {
        verbose,
        log,
        color,
    } = cli.global;
    log::start(log, verbose);
    let (name, done) = match cli.command {
        Command::Decode(args) => ("decode", decode::run(&args, color)),
        Command::Demo(args) => ("demo", demo::run(&args)),
        Command::Doctor(args) => ("doctor", doctor::run(&args)),
        Command::Import(args) => ("import", import::run(&args)),
        Command::Receive(args) => ("receive", receive::run(&args)),
        Command::Serve(args) => ("serve", serve::run(&args)),
        Command::Verify(args) => ("verify", verify::run(&args)),
        Command::Completions(args) => ("completions", shell::completions(&args, Cli::command())),
        Command::Man(args) => ("man", shell::man(&args, Cli::command())),
    };
    match done {
        Ok(exit) => exit,
        Err(Error::Failed(why)) => {
            output::note(format_args!("retpath {name}: {why}"));
            Exit::Failure
        }
        Err(Error::Usage(why)) => {
            let mut command = Cli::command().color(color);
            explain(&command.error(ErrorKind::ArgumentConflict, why), color)
        }
    }
}

fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let command = Cli::command().color(color_choice(args));
    Cli::from_arg_matches(&command.try_get_matches_from(args)?)
}

/// The value of `--color`, which help and errors need before the command line is parsed.
fn color_choice(args: &[OsString]) -> ColorChoice {
    let value = args.iter().enumerate().find_map(|(at, arg)| {
        let arg = arg.to_str()?;
        match arg.strip_prefix("--color") {
            Some("") => args.get(at + 1)?.to_str(),
            Some(value) => value.strip_prefix('='),
            None => None,
        }
    });
    value
        .and_then(|value| ColorChoice::from_str(value, true).ok())
        .unwrap_or_default()
}

/// Prints clap's help or version to standard output, or its error to standard error.
fn explain(error: &clap::Error, color: ColorChoice) -> Exit {
    let render = |has_color| match has_color {
        true => error.render().ansi().to_string(),
        false => error.render().to_string(),
    };
    if error.use_stderr() {
        let has_color = output::wants_color(color, &io::stderr());
        let text = render(has_color);
        match has_color {
            true => output::note_styled(text.trim_end()),
            false => output::note(text.trim_end()),
        }
        return Exit::Usage;
    }
    match output::print(&render(output::wants_color(color, &io::stdout()))) {
        Ok(()) => Exit::Success,
        Err(error) => {
            output::note(format_args!("retpath: {}", lost_report(&error)));
            Exit::Failure
        }
    }
}

/// The message about a report that is the only result of a command and cannot be written.
fn lost_report(error: &io::Error) -> String {
    format!("cannot write to standard output: {error}")
}

/// The message about a userfaultfd that cannot be opened.
fn uffd_error(error: OpenError) -> String {
    format!("{error}; `retpath doctor` prints the commands that fix this")
}

/// Whether a path stands for standard input.
fn is_stdin(path: &OsStr) -> bool {
    path == "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defines_a_consistent_command_line() {
        Cli::command().debug_assert();
    }

    /// Every example in a help is a command line that parses.
    #[test]
    fn accepts_every_example() {
        let mut command = Cli::command();
        command.build();
        let subcommands: Vec<_> = command.get_subcommands().cloned().collect();
        let mut examples = 0;
        for mut command in std::iter::once(command).chain(subcommands) {
            let help = command.render_long_help().to_string();
            let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
            for line in lines.take_while(|line| !line.is_empty()) {
                let Some(at) = line.find("retpath ") else {
                    continue;
                };
                // Without a comment or a redirection.
                let line = line[at..].split("  ").next().unwrap_or_default();
                let line = line.split(" >").next().unwrap_or_default();
                let parsed = Cli::try_parse_from(line.split_whitespace());
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                examples += 1;
            }
        }
        assert!(examples > 15, "{examples}");
    }
}
