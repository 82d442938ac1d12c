//! `cargo bench -p retpath-codec-bench`: a table, and with `-- --gate` a verdict.

use std::process::ExitCode;

fn main() -> ExitCode {
    retpath_codec_bench::main()
}
