//! Nanoseconds per message for the codec and for others that follow the same
//! rules, as a Markdown table.
//!
//! * `cargo bench -p retpath-codec-bench` measures in this workspace's profile.
//! * `cargo run --release --manifest-path codec/bench/plain/Cargo.toml` measures
//!   in a plain release build, as a program that depends on the codec gets it.
//!
//! One process, one thread, held on one CPU. With `-- --gate` both exit 1 when
//! the codec misses a goal. They panic if a contender reads, refuses or writes
//! anything else than the others do, or if the codec allocates.

mod check;
mod contender;
mod hand;
mod lanes;
mod many_blocks;
mod measure;
mod mix;
mod ours;
mod pages;
mod report;
#[cfg(feature = "rivals")]
mod rivals;

use std::process::ExitCode;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use contender::Parse;
use lanes::races;
use measure::race;
use mix::{MESSAGES, Mix, mixes};
use ours::Ours;
use report::Column;

/// Maximum times of the codec relative to hand-written code.
pub struct Goals {
    /// How the code is compiled.
    pub profile: &'static str,
    /// Maximum time of parsing, as a multiple of hand-written code.
    pub parse: f64,
    /// Maximum time of writing, as a multiple of hand-written code.
    pub write: f64,
}

/// Checks and measures all contenders, prints a table and whether the goals are met.
///
/// # Panics
///
/// If the contenders disagree, or if the codec allocates.
pub fn run(goals: &Goals) -> ExitCode {
    let gate = std::env::args().any(|argument| argument == "--gate");
    println!("Compiled as {}.", goals.profile);
    hold_cpu();
    let mixes = mixes();
    check::all(&mixes);
    count_allocations(&mixes);
    let columns = measure(&mixes);
    report::table(&columns);
    let hold = report::judge(&columns, goals) & many_blocks::run() & pages::run();
    if gate && !hold {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Pins the process to its current CPU.
fn hold_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu());
    match sched_setaffinity(None, &cpus) {
        Ok(()) => println!("Held on CPU {}.", sched_getcpu()),
        Err(error) => println!("Not held on one CPU ({error}): expect noise."),
    }
}

/// Asserts that the codec allocates for no message, and prints which contenders do.
fn count_allocations(mixes: &[Mix]) {
    let mut others = Vec::new();
    for race in mixes.iter().flat_map(races) {
        for mut lane in race.lanes {
            let count = allocation_counter::measure(|| (lane.run)()).count_total;
            if lane.name == Ours::NAME {
                assert_eq!(count, 0, "{:?} of {} allocates", race.what, race.mix);
            }
            if count > 0 && !others.contains(&lane.name) {
                others.push(lane.name);
            }
        }
    }
    println!("The codec allocates for no message.");
    if !others.is_empty() {
        println!("Allocating for each block name: {}.", others.join(", "));
    }
}

fn measure(mixes: &[Mix]) -> Vec<Column> {
    let mut columns: Vec<Column> = mixes
        .iter()
        .flat_map(races)
        .map(|entry| Column {
            what: entry.what,
            mix: entry.mix,
            paces: race(entry.lanes, MESSAGES),
        })
        .collect();
    columns.sort_by_key(|column| column.what);
    columns
}
