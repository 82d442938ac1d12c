//! `cargo run --release --manifest-path codec/bench/plain/Cargo.toml`: the codec
//! in a program whose release profile sets nothing.

use std::process::ExitCode;

use retpath_codec_bench::{Goals, run};

fn main() -> ExitCode {
    run(&Goals {
        profile: "a plain release build (no fat LTO, 16 codegen units)",
        parse: 1.25,
        write: 1.25,
    })
}
