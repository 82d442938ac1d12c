//! `retpath demo` as a user meets it: the built binary, real faults, every option, and its end.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{io::Read, thread};

use serde_json::Value;

mod ends;
mod options;
mod users;

const PROGRAM: &str = env!("CARGO_BIN_EXE_retpath");

/// Time after which a run counts as hanging.
const PATIENCE: Duration = Duration::from_secs(180);

/// `retpath demo` with arguments.
fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("demo").args(args).stdin(Stdio::null());
    command
}

/// The result of a run.
#[derive(Debug)]
struct Ran {
    status: ExitStatus,
    out: String,
    err: String,
}

/// Starts a command with both outputs in pipes.
fn start(command: &mut Command) -> Child {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    piped.spawn().expect("the binary has been built")
}

/// Waits for the end of the process and of both pipes.
fn finish(mut child: Child) -> Ran {
    fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
        let mut pipe = pipe.expect("it is piped");
        thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).expect("text");
            text
        })
    }
    let readers = [reader(child.stderr.take()), reader(child.stdout.take())];
    let deadline = Instant::now() + PATIENCE;
    while readers.iter().any(|reader| !reader.is_finished()) {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("the demonstration hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let [err, out] = readers.map(|reader| reader.join().expect("no panic"));
    let status = child.wait().expect("it was started here");
    Ran { status, out, err }
}

fn run(args: &[&str]) -> Ran {
    finish(start(&mut demo(args)))
}

/// Runs it successfully; returns its JSON.
fn good(args: &[&str]) -> Value {
    let args = [args, &["--format", "json"]].concat();
    read_good(&args, &run(&args))
}

fn read_good(args: &[&str], ran: &Ran) -> Value {
    assert_eq!(ran.status.code(), Some(0), "{args:?}: {}", ran.err);
    assert_eq!(ran.err, "", "{args:?}");
    assert_eq!(ran.out.lines().count(), 1, "one line");
    let value: Value = serde_json::from_str(&ran.out).expect("JSON");
    let pages = &value["pages"];
    for zero in ["wrong", "missing", "twice", "touched_wrong"] {
        assert_eq!(pages[zero], 0, "{zero}: {args:?}: {value}");
    }
    assert_eq!(value["ok"], true);
    assert_eq!(value["complaints"], serde_json::json!([]));
    value
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}
