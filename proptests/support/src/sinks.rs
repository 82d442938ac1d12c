//! Standard outputs that fail on write.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::program::Program;

/// The target of a standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The null device, which accepts all data.
    Null,
    /// A full disk.
    Full,
    /// A pipe whose reader is closed.
    NoReader,
    /// A terminal that was closed.
    NoTerminal,
    /// A closed descriptor.
    Closed,
}

impl Sink {
    /// Sinks that fail on write.
    pub const BROKEN: [Sink; 4] = [Sink::Full, Sink::NoReader, Sink::NoTerminal, Sink::Closed];

    /// Returns the descriptor; a closed one is the null device until the program starts.
    pub fn stdio(self) -> Stdio {
        match self {
            Sink::Null | Sink::Closed => Stdio::null(),
            Sink::Full => {
                let full = OpenOptions::new().write(true).open("/dev/full");
                full.expect("Linux provides /dev/full").into()
            }
            Sink::NoReader => {
                let (reader, writer) = std::io::pipe().expect("pipe can be created");
                drop(reader);
                writer.into()
            }
            Sink::NoTerminal => closed_terminal().into(),
        }
    }
}

/// Opens a terminal whose controlling end is closed.
fn closed_terminal() -> OwnedFd {
    let (_, terminal) = terminal();
    terminal
}

/// Opens a pseudoterminal and returns its controlling end and its program end.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("openpt succeeds");
    grantpt(&master).expect("grantpt succeeds");
    unlockpt(&master).expect("unlockpt succeeds");
    let name = ptsname(&master, Vec::new()).expect("ptsname succeeds");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name.as_c_str(), flags, Mode::empty());
    (master, terminal.expect("terminal opens"))
}

/// Starts `retpath` with these outputs.
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
    // Detach the program from the test's terminal.
    command.process_group(0);
    Program::spawn_as_it_is(command)
}
