//! `retpath import` of a saved stream.

use std::fs;
use std::path::Path;

use crate::LIMIT;
use crate::image::{assert_whole, is_there, out, precopy};
use crate::source::recorded_postcopy;
use crate::strace::{self, Injection};
use crate::{Ended, Scenario, message};
use retpath_support::program::Program;

struct Import {
    name: &'static str,
    stream: fn() -> Vec<u8>,
}

pub(crate) fn scenarios() -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(Import {
            name: "import precopy",
            stream: || precopy(false),
        }),
        Box::new(Import {
            name: "import postcopy",
            stream: recorded_postcopy,
        }),
    ]
}

impl Scenario for Import {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, room: &Path, fault: Option<&Injection>) {
        let (file, out) = (room.join("saved"), out(room));
        fs::write(&file, (self.stream)()).expect("room");
        let import = |fault| {
            let mut command = match fault {
                Some(fault) => strace::retpath(room, fault),
                None => std::process::Command::new(env!("CARGO_BIN_EXE_retpath")),
            };
            command.arg("import").arg(&file).arg("--out").arg(&out);
            Ended::wait(Program::spawn(command), LIMIT)
        };
        let ended = import(Some(fault));
        message::check(room, "import", fault, &ended);
        let there = is_there(&out);
        if ended.status.success() {
            assert_whole(&out);
        } else {
            assert!(
                !there || !ended.errors.contains("no image was made"),
                "{}",
                ended.errors
            );
        }
        if !there {
            let again = import(None);
            assert!(again.status.success(), "once more: {}", again.errors);
            assert_whole(&out);
        }
    }
}
