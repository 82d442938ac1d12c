//! `retpath serve` to our own destination.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LIMIT;
use crate::image::{id, make};
use crate::strace::{self, Injection};
use crate::{Ended, Scenario, message};
use retpath_support::loops::{LONG, Net, listen};
use retpath_support::program::Program;
use retpath_support::receiver::{Receiver, Settled};

struct Serve {
    name: &'static str,
    preempt: bool,
}

pub(crate) fn scenarios() -> Vec<Box<dyn Scenario>> {
    let serve = |name, preempt| -> Box<dyn Scenario> { Box::new(Serve { name, preempt }) };
    vec![serve("serve", false), serve("serve preempt", true)]
}

impl Serve {
    fn once(
        &self,
        room: &Path,
        to: &Receiver,
        mut command: Command,
        resume: Option<&str>,
    ) -> Ended {
        command
            .args(["serve", "--retry", "5", "--image"])
            .arg(room.join("image"))
            .arg("--connect")
            .arg(to.address().to_string())
            .args(self.preempt.then_some("--preempt"))
            .args(resume.iter().flat_map(|id| ["--resume", id]));
        Ended::wait(Program::spawn(command), LIMIT)
    }
}

impl Scenario for Serve {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, room: &Path, fault: Option<&Injection>) {
        let image = room.join("image");
        make(&image);
        let before = files(&image);
        let (_folder, listener) = listen(Net::Unix);
        let receiver = Receiver::start(listener, self.preempt, LONG);
        let ended = self.once(room, &receiver, strace::retpath(room, fault), None);
        message::check(room, "serve", fault, &ended);
        assert!(files(&image) == before, "the image has changed");
        let errors = &ended.errors;
        if ended.status.success() {
            receiver.complete();
            return;
        }
        let again = |receiver: &Receiver, resume| {
            let again = self.once(
                room,
                receiver,
                Command::new(env!("CARGO_BIN_EXE_retpath")),
                resume,
            );
            assert!(again.status.success(), "once more: {}", again.errors);
        };
        let home = errors.contains("never left the image");
        match receiver.settled() {
            Settled::Waiting => {
                again(&receiver, None);
                receiver.complete();
            }
            Settled::Paused => {
                assert!(!home, "the guest runs at the destination: {errors}");
                again(&receiver, Some(&id(&image)));
                receiver.complete();
            }
            Settled::Over => match receiver.end() {
                (_, Ok(_)) => assert!(!home, "the guest runs at the destination: {errors}"),
                (listener, Err(_)) => {
                    let receiver = Receiver::start(listener, self.preempt, LONG);
                    again(&receiver, None);
                    receiver.complete();
                }
            },
        }
    }
}

/// All files of a folder.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder)
        .expect("an image")
        .map(|entry| entry.expect("ours").path());
    let mut files: Vec<_> = entries
        .map(|path| (path.clone(), fs::read(path).expect("a file")))
        .collect();
    files.sort();
    files
}
