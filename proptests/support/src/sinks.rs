//! Outputs that cannot be written.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::program::Program;

/// What an output leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A file that takes everything.
    Null,
    /// A disk that is full.
    Full,
    /// A pipe whose reader has gone.
    NoReader,
    /// A terminal that has been closed.
    NoTerminal,
    /// Nothing: the descriptor is closed.
    Closed,
}

impl Sink {
    /// Those that cannot be written.
    pub const BROKEN: [Sink; 4] = [Sink::Full, Sink::NoReader, Sink::NoTerminal, Sink::Closed];

    /// The descriptor; one that is closed later is the null device until then.
    pub fn stdio(self) -> Stdio {
        match self {
            Sink::Null | Sink::Closed => Stdio::null(),
            Sink::Full => {
                let full = OpenOptions::new().write(true).open("/dev/full");
                full.expect("Linux has it").into()
            }
            Sink::NoReader => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                drop(reader);
                writer.into()
            }
            Sink::NoTerminal => closed_terminal().into(),
        }
    }
}

/// A terminal that nobody holds the other end of.
fn closed_terminal() -> OwnedFd {
    let (_, terminal) = terminal();
    terminal
}

/// The end that shows what is written to a terminal, and the end that programs have.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("ours");
    unlockpt(&master).expect("ours");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name.as_c_str(), flags, Mode::empty());
    (master, terminal.expect("the other end"))
}

/// `retpath` with these outputs.
pub fn retpath(args: &[&str], out: Sink, err: Sink) -> Program {
    let mut script = "exec \"$0\" \"$@\"".to_owned();
    for (sink, closing) in [(out, " >&-"), (err, " 2>&-")] {
        if sink == Sink::Closed {
            script += closing;
        }
    }
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(crate::retpath());
    command.args(args).stdout(out.stdio()).stderr(err.stdio());
    // A terminal of our own is no business of the program's.
    command.process_group(0);
    Program::spawn_as_it_is(command)
}
