//! `retpath receive` from our own sources.

use std::path::Path;
use std::process::Command;

use crate::LIMIT;
use crate::image::{assert_whole, is_there, out, unfinished};
use crate::source::{Peer, Told, Way};
use crate::strace::{self, Fault, Injection};
use crate::support::program::Program;
use crate::{Ended, Scenario, message};

struct Receive {
    name: &'static str,
    way: Way,
    options: &'static [&'static str],
}

pub(crate) fn scenarios() -> Vec<Box<dyn Scenario>> {
    let all = [
        ("receive precopy", Way::Precopy, &[][..]),
        ("receive postcopy", Way::Postcopy, &[]),
        (
            "receive postcopy, touched",
            Way::Postcopy,
            &["--touch", "9"],
        ),
        (
            "receive postcopy, preempt",
            Way::Preempt,
            &["--preempt", "--touch", "3"],
        ),
        ("receive postcopy, recovered", Way::Broken, &[]),
    ];
    let boxed =
        |(name, way, options)| -> Box<dyn Scenario> { Box::new(Receive { name, way, options }) };
    all.into_iter().map(boxed).collect()
}

impl Receive {
    /// Receives once; gives what both sides know.
    fn once(&self, room: &Path, mut command: Command) -> (Ended, Told) {
        let socket = room.join("socket");
        command
            .args(["receive", "--recover-timeout", "5", "--listen"])
            .arg(format!("unix:{}", socket.display()))
            .arg("--out")
            .arg(out(room))
            .args(self.options);
        let program = Program::spawn(command);
        let source = Peer::start(&socket, self.way);
        let ended = Ended::wait(program, LIMIT);
        (ended, source.end())
    }
}

impl Scenario for Receive {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, room: &Path, fault: Option<&Injection>) {
        let (ended, told) = self.once(room, strace::retpath(room, fault));
        message::check(room, "receive", fault, &ended);
        let there = is_there(&out(room));
        let errors = &ended.errors;
        let killed =
            fault.is_some_and(|fault| fault.fault == Fault::Kill && strace::was_killed(room));
        if ended.status.success() {
            assert_whole(&out(room));
            let warned = errors.contains("the source may not know");
            assert!(
                told == Told::Done || warned,
                "exit code 0, and the source: {told:?}: {errors}"
            );
        }
        match told {
            Told::Done => assert!(
                there || is_kept(room, errors, killed),
                "SHUT(0), and no image: {errors}"
            ),
            Told::MayRun => assert!(!there, "SHUT(1), and there is an image: {errors}"),
            Told::Paused { loaded: true } => {
                assert!(
                    there || is_kept(room, errors, killed),
                    "the guest is nowhere else, and what was received is not on disk: {errors}"
                );
            }
            Told::Kept | Told::Paused { loaded: false } => {}
        }
        assert!(!there || !errors.contains("no image was made"), "{errors}");
        if !there {
            let (again, told) = self.once(room, Command::new(env!("CARGO_BIN_EXE_retpath")));
            assert!(again.status.success(), "once more: {}", again.errors);
            assert_eq!(told, Told::Done, "once more");
            assert_whole(&out(room));
        }
    }
}

/// Whether what was received is on disk, and its name was said.
fn is_kept(room: &Path, errors: &str, killed: bool) -> bool {
    let is_said = |path: &Path| killed || errors.contains(&path.display().to_string());
    unfinished(room).iter().any(|path| is_said(path))
}
