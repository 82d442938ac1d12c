//! strace: recording the system calls of a run, and injecting one fault into another.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

/// A fault at one occurrence of a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Injection {
    pub(crate) call: String,
    /// Counted from 1, from the start of each thread.
    pub(crate) nth: usize,
    pub(crate) fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails with this error, and does nothing.
    Error(String),
    /// The process is killed as it enters the call.
    Kill,
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match &self.fault {
            Fault::Error(name) => name,
            Fault::Kill => "KILL",
        };
        write!(f, "{} {} {fault}", self.call, self.nth)
    }
}

impl FromStr for Injection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not CALL NUMBER ERROR, as in `fsync 3 EIO`");
        let words: Vec<_> = text.split_whitespace().collect();
        let [call, nth, fault] = words[..] else {
            return Err(wrong());
        };
        Ok(Self {
            call: call.into(),
            nth: nth.parse().map_err(|_| wrong())?,
            fault: match fault {
                "KILL" => Fault::Kill,
                error => Fault::Error(error.into()),
            },
        })
    }
}

/// The file in a room that strace writes to.
pub(crate) fn log(room: &Path) -> PathBuf {
    room.join("strace.log")
}

/// `retpath` under strace, ready for its arguments.
pub(crate) fn retpath(room: &Path, injection: Option<&Injection>) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-q", "-y", "-s", "64", "-o"])
        .arg(log(room));
    if let Some(Injection { call, nth, fault }) = injection {
        let what = match fault {
            Fault::Error(name) => format!("error={name}"),
            Fault::Kill => "signal=KILL".to_owned(),
        };
        let inject = format!("inject={call}:{what}:when={nth}");
        let trace = format!("trace={call}");
        command.args(["-e", &trace, "-e", &inject]);
        if *fault != Fault::Kill {
            // Stops only at the calls traced, which is faster; but then no signal is sent.
            command.arg("--seccomp-bpf");
        }
    }
    command
        .arg(env!("CARGO_BIN_EXE_retpath"))
        .env("RUST_BACKTRACE", "0")
        .env("TMPDIR", room);
    command
}

/// One system call of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// As strace shows it: name, arguments, result.
    pub(crate) text: String,
}

/// The calls of each thread, in order.
fn threads(log: &str) -> Vec<Vec<Call>> {
    let mut order = Vec::new();
    let mut threads: HashMap<&str, Vec<Call>> = HashMap::new();
    for line in log.lines() {
        let Some((thread, text)) = line.split_once(' ') else {
            continue;
        };
        let text = text.trim_start();
        let calls = threads.entry(thread).or_insert_with(|| {
            order.push(thread);
            Vec::new()
        });
        // `<... read resumed>`: the second half of a call that another thread interrupted.
        if let Some(rest) = text.strip_prefix("<... ") {
            if let Some(call) = calls.last_mut() {
                call.text.push_str(rest);
            }
            continue;
        }
        let Some((name, _)) = text.split_once('(') else {
            continue;
        };
        if name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            calls.push(Call {
                name: name.into(),
                text: text.into(),
            });
        }
    }
    order
        .iter()
        .filter_map(|thread| threads.remove(thread))
        .collect()
}

/// The calls into which a fault was injected.
pub(crate) fn injected(room: &Path) -> Vec<Call> {
    let log = fs::read(log(room)).unwrap_or_default();
    let calls = threads(&String::from_utf8_lossy(&log));
    let calls = calls.into_iter().flatten();
    calls
        .filter(|call| call.text.contains("(INJECTED)"))
        .collect()
}

/// Whether a process was killed.
pub(crate) fn was_killed(room: &Path) -> bool {
    let log = fs::read(log(room)).unwrap_or_default();
    String::from_utf8_lossy(&log).contains("+++ killed by SIGKILL +++")
}

/// Which calls a run made once it had reached main, how often, and an example of each occurrence.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// In alphabetical order; numbered from 1 in each thread.
    pub(crate) calls: Vec<(String, usize, Vec<Call>)>,
}

/// The last call that Rust's runtime makes before main: it handles SIGBUS, to report stack
/// overflows.
fn is_last_before_main(call: &Call) -> bool {
    call.name == "rt_sigaction" && call.text.starts_with("rt_sigaction(SIGBUS, {")
}

impl Record {
    /// Reads what strace wrote of a whole run.
    pub(crate) fn read(room: &Path) -> Self {
        let path = log(room);
        let log = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::of(&String::from_utf8_lossy(&log))
    }

    fn of(log: &str) -> Self {
        let threads = threads(log);
        // Calls of process start-up, which are not the program's: at most so many of each name.
        let mut before: HashMap<&str, usize> = HashMap::new();
        let mut reached = false;
        for calls in &threads {
            let Some(last) = calls.iter().position(is_last_before_main) else {
                continue;
            };
            reached = true;
            let mut here: HashMap<&str, usize> = HashMap::new();
            for call in &calls[..=last] {
                *here.entry(&call.name).or_default() += 1;
            }
            for (name, count) in here {
                let most = before.entry(name).or_default();
                *most = count.max(*most);
            }
        }
        assert!(reached, "no process has reached main:\n{log}");
        let mut calls: HashMap<(&str, usize), Vec<Call>> = HashMap::new();
        for thread in &threads {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            for call in thread {
                let nth = counts.entry(&call.name).or_default();
                *nth += 1;
                if *nth > before.get(&*call.name).copied().unwrap_or(0) {
                    calls
                        .entry((&call.name, *nth))
                        .or_default()
                        .push(call.clone());
                }
            }
        }
        let mut calls: Vec<_> = calls
            .into_iter()
            .map(|((name, nth), examples)| (name.to_owned(), nth, examples))
            .collect();
        calls.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        Self { calls }
    }
}

#[test]
fn ignores_calls_before_main() {
    let record = Record::of(
        "7 execve(\"retpath\") = 0\n7 read(3) = 1\n7 rt_sigaction(SIGBUS, NULL) = 0\n\
         7 rt_sigaction(SIGBUS, {x}, NULL) = 0\n7 read(3</a>, <unfinished ...>\n8 read(4) = 2\n\
         7 <... read resumed>) = 5\n8 read(5) = 3\n8 +++ exited with 0 +++\n",
    );
    let texts = |examples: &[Call]| -> Vec<_> { examples.iter().map(|c| c.text.clone()).collect() };
    let calls: Vec<_> = record
        .calls
        .iter()
        .map(|(n, at, e)| (&**n, *at, texts(e)))
        .collect();
    let second = vec![
        "read(3</a>, <unfinished ...>read resumed>) = 5".to_owned(),
        "read(5) = 3".into(),
    ];
    assert_eq!(calls, [("read", 2, second)]);
}
