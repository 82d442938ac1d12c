//! `corpus/seed/…`: small valid inputs for fuzzing and tests.
//!
//! The oracle writes them from the tables, so they do not share the codec's
//! errors. `corpus/README.md` explains their names.

use super::{Output, session};
use retpath_spec::sample::samples;
use retpath_spec::table::command::COMMAND;
use retpath_spec::table::return_path::{QEMU, V7};

/// The seed corpus.
pub fn outputs() -> Vec<Output> {
    let mut seeds = Vec::new();
    let mut add = |folder: &str, name: &str, ending: &str, bytes| {
        seeds.push(Output {
            path: format!("corpus/seed/{folder}/{name}.{ending}"),
            bytes,
        });
    };
    for (dialect, ending) in [(&QEMU, "rp"), (&V7, "rp"), (&COMMAND, "cmd")] {
        for message in dialect.messages {
            let label = message.label.to_lowercase();
            for sample in samples(message) {
                let name = format!("{label}-{}", sample.size.name());
                add(dialect.name, &name, ending, sample.bytes(dialect, message));
            }
        }
    }
    for (dialect, name, stream) in session::return_paths() {
        add(
            dialect.name,
            &format!("session-{name}"),
            "rp",
            stream.bytes(),
        );
    }
    for (name, stream) in session::records() {
        add("ram", name, "ram", stream.bytes());
    }
    for (name, stream) in session::forward() {
        add("forward", name, "fwd", stream.bytes());
    }
    seeds
}
