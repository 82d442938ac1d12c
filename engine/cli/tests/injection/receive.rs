//! `retpath receive` from our own sources.

use std::path::Path;
use std::process::Command;

use crate::image::{assert_whole, is_there, out, unfinished};
use crate::source::{Peer, Told, Way};
use crate::strace::{self, Injection};
use crate::{Ended, LIMIT, Scenario, message};
use retpath_support::program::Program;

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

/// `retpath` without a fault.
fn plain() -> Command {
    Command::new(env!("CARGO_BIN_EXE_retpath"))
}

impl Receive {
    fn start(&self, room: &Path, mut command: Command) -> Program {
        command
            .args(["receive", "--recover-timeout", "5", "--listen"])
            .arg(format!("unix:{}", room.join("socket").display()))
            .arg("--out")
            .arg(out(room))
            .args(self.options);
        Program::spawn(command)
    }

    /// Goes on with what the first process has left, whose source still waits.
    fn go_on(&self, room: &Path, folder: &Path) -> Ended {
        let mut command = plain();
        command
            .args(["receive", "--recover-timeout", "5", "--listen"])
            .arg(format!("unix:{}", room.join("socket").display()))
            .arg("--continue")
            .arg(folder);
        Ended::wait(Program::spawn(command), LIMIT)
    }

    /// The same command line again, and a source that begins anew.
    fn again(&self, room: &Path) {
        let program = self.start(room, plain());
        let source = Peer::start(&room.join("socket"), self.way);
        let ended = Ended::wait(program, LIMIT);
        assert!(ended.status.success(), "once more: {}", ended.errors);
        assert_eq!(source.end(), Told::Done, "once more");
        assert_whole(&out(room));
    }
}

impl Scenario for Receive {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, room: &Path, fault: Option<&Injection>) {
        let program = self.start(room, strace::retpath(room, fault));
        let source = Peer::start(&room.join("socket"), self.way);
        let ended = Ended::wait(program, LIMIT);
        message::check(room, "receive", fault, &ended);

        let errors = &ended.errors;
        let out = out(room);
        let there = is_there(&out);
        assert!(
            !there || !errors.contains("no image was made"),
            "the image is there: {errors}"
        );
        if ended.status.success() {
            assert_whole(&out);
        }
        let kept = unfinished(room);
        let is_said = |path: &Path| errors.contains(&path.display().to_string());
        let killed = ended.status.code().is_none();
        let kept: Vec<_> = kept.iter().filter(|path| killed || is_said(path)).collect();

        // A source that waits for recovery sends the rest to a `receive --continue`.
        let takes_over = source.is_paused() && !there && !kept.is_empty();
        let second = takes_over.then(|| self.go_on(room, kept[0]));
        let went_on = second.as_ref().is_some_and(|ended| ended.status.success());
        if went_on {
            assert!(
                is_there(&out),
                "--continue: exit code 0, and no image: {errors}"
            );
            assert_whole(&out);
        }
        let told = source.end();
        match told {
            // Without the source, if no page was missing.
            Told::Done | Told::Paused { loaded: true } if went_on => {}
            Told::Done => assert!(
                there || kept.iter().any(|path| is_there(path)),
                "SHUT(0), and there is no whole image: {errors}"
            ),
            Told::MayRun => assert!(!there, "SHUT(1), and there is an image: {errors}"),
            Told::Paused { loaded: true } => assert!(
                there,
                "the guest is nowhere else, and what was received is lost: {errors}; --continue: {}",
                second.map_or("impossible".into(), |ended| ended.errors)
            ),
            Told::Kept | Told::Paused { loaded: false } => {}
        }
        let warned = errors.contains("the source may not know");
        assert!(
            !ended.status.success() || told == Told::Done || warned,
            "exit code 0, and the source: {told:?}: {errors}"
        );
        if !there && !went_on {
            self.again(room);
        }
    }
}
