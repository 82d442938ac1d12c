//! `retpath decode` as a user meets it: the built binary, its output byte for byte, its exit codes.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

mod bad_input;
mod files;
mod forward;
mod malformed;
mod pipes;
mod return_path;
mod schema;
mod stream;
mod variants;

/// `retpath decode`, ready for arguments.
fn retpath() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
    command.arg("decode").env_remove("NO_COLOR");
    command
}

/// Decodes bytes from standard input.
fn decode(args: &[&str], input: &[u8]) -> Ran {
    let mut child = retpath()
        .args(args)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary has been built");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::thread::scope(|scope| {
        // A command that fails early closes the pipe.
        scope.spawn(move || stdin.write_all(input).ok());
        Ran::from(child.wait_with_output().expect("the command ends"))
    })
}

/// Decodes a file.
fn decode_file(args: &[&str], path: impl AsRef<OsStr>) -> Ran {
    let output = retpath()
        .args(args)
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .expect("the binary has been built");
    Ran::from(output)
}

/// A file of the corpus.
fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../corpus")
        .join(name)
}

/// A recording of a real migration. Large forward streams are compressed: see [`capture_bytes`].
fn capture(name: &str) -> PathBuf {
    corpus("capture").join(name)
}

/// The bytes of a recording of a real migration.
fn capture_bytes(name: &str) -> Vec<u8> {
    let path = capture(name);
    let Ok(packed) = std::fs::read(capture(&format!("{name}.gz"))) else {
        return std::fs::read(path).expect("the corpus has it");
    };
    let mut bytes = Vec::new();
    let mut unpacked = flate2::read::GzDecoder::new(&packed[..]);
    unpacked
        .read_to_end(&mut bytes)
        .expect("the corpus is sound");
    bytes
}

/// The result of a run.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("all output is UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ran {
    /// Asserts that everything was decoded; returns the report.
    #[track_caller]
    fn decoded(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// Asserts that the command failed with one line after this report; returns the line without its
    /// line break.
    #[track_caller]
    fn refused(self, code: i32, report: &str) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.stdout, report);
        let line = self
            .stderr
            .strip_suffix('\n')
            .expect("a line on standard error");
        assert!(!line.contains('\n'), "more than one line: {line}");
        line.to_owned()
    }
}
