//! Decodes ten gibibytes through a pipe: the rate, and the peak memory of the command.
//!
//! ```text
//! cargo bench -p retpath --bench decode
//! ```

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/decode_cli/stream.rs"]
mod stream;

use std::process::Command;
use std::time::Instant;

fn main() {
    let mut decode = Command::new(env!("CARGO_BIN_EXE_retpath"));
    decode.arg("decode");
    let start = Instant::now();
    let used = stream::memory_after(decode, &[10 << 10]);
    let rate = 10.0 / start.elapsed().as_secs_f64();
    println!(
        "10 GiB through a pipe: {rate:.2} GiB/s, {} KiB at most",
        used[0]
    );
}
