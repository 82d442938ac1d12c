//! `retpath demo`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::LIMIT;
use crate::strace::{self, Injection};
use crate::{Ended, Scenario, message};
use retpath_support::program::Program;

struct Demo {
    name: &'static str,
    options: &'static [&'static str],
}

pub(crate) fn scenarios() -> Vec<Box<dyn Scenario>> {
    let demo = |name, options| -> Box<dyn Scenario> { Box::new(Demo { name, options }) };
    vec![
        demo("demo", &["--size", "1M", "--blocks", "2", "--threads", "2"]),
        demo(
            "demo preempt",
            &[
                "--size",
                "512K",
                "--threads",
                "1",
                "--preempt",
                "--channel",
                "tcp",
            ],
        ),
    ]
}

impl Scenario for Demo {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, room: &Path, fault: Option<&Injection>) {
        let run = |mut command: Command| {
            command.arg("demo").args(self.options);
            Ended::wait(Program::spawn(command), LIMIT)
        };
        let ended = run(strace::retpath(room, fault));
        message::check(room, "demo", fault, &ended);
        let entries = fs::read_dir(room)
            .expect("ours")
            .map(|entry| entry.expect("ours").path());
        let left: Vec<_> = entries.filter(|path| *path != strace::log(room)).collect();
        assert!(left.is_empty(), "{left:?} is left: {}", ended.errors);
        if !ended.status.success() && fault.is_some_and(|fault| fault.nth.is_multiple_of(8)) {
            let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
            command.env("TMPDIR", room);
            let again = run(command);
            assert!(again.status.success(), "once more: {}", again.errors);
        }
    }
}
