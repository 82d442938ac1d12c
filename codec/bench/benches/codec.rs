//! `cargo bench -p retpath-codec-bench`: the codec in this workspace's profile.

use std::process::ExitCode;

use retpath_codec_bench::{Goals, run};

fn main() -> ExitCode {
    run(&Goals {
        profile: "one optimised unit (fat LTO, one codegen unit)",
        parse: 1.05,
        write: 1.10,
    })
}
