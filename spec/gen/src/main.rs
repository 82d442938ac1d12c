//! `cargo rp-gen`: generates the committed outputs from the tables, or checks
//! that they are up to date.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use retpath_gen::tree::{self, Finding, State};
use retpath_gen::{Output, outputs};

const HELP: &str = "\
Generates files from the tables in spec/src/table: the codec's generated part,
the protocol reference, the Wireshark dissector, the fuzzing dictionaries and
the seed corpus.

Usage: cargo rp-gen [--check] [TOP]

  TOP       root of the working copy; default: the one this command was built in
  --check   write nothing; print each stale, missing or surplus file and exit 1
            if there is one
  --help    print this help

Other files in codec/src/generated and corpus/seed, and other fuzz/*.dict, are
surplus: they are removed, or printed with --check.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (check_only, rest) = match &args[..] {
        ["--check", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let top = match rest {
        [] => root(),
        [top] if !top.starts_with('-') => Path::new(top),
        ["--help" | "-h"] => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        _ => {
            let args = args.join(" ");
            eprintln!("rp-gen: unknown arguments `{args}`; try --help");
            return ExitCode::from(2);
        }
    };
    let done = match check_only {
        true => check(top, &outputs()),
        false => write(top, &outputs()),
    };
    done.unwrap_or_else(|e| {
        eprintln!("rp-gen: {e}");
        ExitCode::FAILURE
    })
}

/// The root of the repository that this command was built in.
fn root() -> &'static Path {
    let crate_ = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_.ancestors().nth(2).unwrap_or(crate_)
}

fn write(top: &Path, outputs: &[Output]) -> std::io::Result<ExitCode> {
    let done = tree::write(top, outputs)?;
    let removed = count(&done, State::Surplus);
    let written = done.len() - removed;
    let mut text = list(&done, |state| match state {
        State::Surplus => "removed",
        State::Stale | State::Missing => "wrote",
    });
    text += &match removed {
        0 => format!("wrote {}", files(written)),
        _ => format!("wrote {}, removed {}", files(written), files(removed)),
    };
    say(&format!(
        "{text}; {} fresh before\n",
        files_were(outputs.len() - written)
    ));
    Ok(ExitCode::SUCCESS)
}

fn check(top: &Path, outputs: &[Output]) -> std::io::Result<ExitCode> {
    let findings = tree::check(top, outputs)?;
    if findings.is_empty() {
        say(&format!("{} are fresh\n", files(outputs.len())));
        return Ok(ExitCode::SUCCESS);
    }
    say(&list(&findings, State::word));
    eprintln!(
        "rp-gen: {} differ from the tables; run `cargo rp-gen` and commit the result",
        files(findings.len())
    );
    Ok(ExitCode::FAILURE)
}

fn list(findings: &[Finding], word: impl Fn(State) -> &'static str) -> String {
    findings
        .iter()
        .map(|finding| format!("{:8} {}\n", word(finding.state), finding.path))
        .collect()
}

fn count(findings: &[Finding], state: State) -> usize {
    findings.iter().filter(|f| f.state == state).count()
}

fn files(n: usize) -> String {
    format!("{n} file{}", if n == 1 { "" } else { "s" })
}

fn files_were(n: usize) -> String {
    format!("{} {}", files(n), if n == 1 { "was" } else { "were" })
}

/// Prints. A closed standard output is not an error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
